//! Everything known about one measures partition, and what one record does to it: itself, then the
//! event time, then rules, then timers. A pure function of the records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::WatchConfig;
use super::gauges::Gauges;
use super::state::{Position, StateKey};
use crate::pipeline::alert::{
    AlertTable, Condition, Emission, Group, InstanceKey, Moment, Reading, Rule,
};
use crate::pipeline::limits::{EVENT_TIME_AHEAD_MS_MAX, LATE_AFTER_MS};
use crate::pipeline::measure::{
    Bucket, Clock, ClockChange, Counts, Delta, EventTime, MeasureRecord, Scope, Series,
    SeriesTable, SessionFact, SessionSet, SessionTag, Signal,
};
use crate::pipeline::metric::{Metric, MetricUpdate};
use crate::pipeline::record::{SourceRecord, Timestamp, TopicPartition};

/// The state of one measures partition.
pub(super) struct Board {
    config: Arc<WatchConfig>,
    topic_partition: TopicPartition,
    /// Offset of the next measure record.
    pub(super) position: i64,
    clock: Clock,
    pub(super) event_time: EventTime,
    pub(super) table: SeriesTable,
    pub(super) sessions: SessionSet,
    pub(super) alerts: AlertTable,
    swept: Option<(Bucket, Option<Bucket>)>,
    changed: Changed,
    counters: BTreeMap<(Metric, Vec<Arc<str>>), f64>,
    pub(super) gauges: Gauges,
}

/// What has to be stored anew.
#[derive(Default)]
struct Changed {
    /// In any order, repeated where several records changed one.
    buckets: Vec<(Series, Bucket)>,
    sessions: BTreeSet<(Scope, SessionTag)>,
    sources: BTreeSet<TopicPartition>,
}

impl Board {
    pub(super) fn new(config: Arc<WatchConfig>, topic_partition: TopicPartition) -> Self {
        Self {
            config,
            topic_partition,
            position: 0,
            clock: Clock::default(),
            event_time: EventTime::default(),
            table: SeriesTable::default(),
            sessions: SessionSet::default(),
            alerts: AlertTable::default(),
            swept: None,
            changed: Changed::default(),
            counters: BTreeMap::new(),
            gauges: Gauges::default(),
        }
    }

    /// Applies one record; what it emits is added to `out`. A record behind the position has been
    /// applied before.
    pub(super) fn apply(&mut self, record: &SourceRecord<'_>, out: &mut Vec<Emission>) {
        if record.offset < self.position {
            return;
        }
        let measure = match MeasureRecord::decode(record.value.unwrap_or_default()) {
            Ok(measure) => Some(measure),
            Err(error) => {
                self.count(Metric::MeasuresRejected, &[error.reason()], 1.0);
                None
            }
        };
        self.position = record.offset.saturating_add(1);
        let now = self.advance_clock(record.timestamp, measure.as_ref());
        let mut touched = Vec::new();
        let is_tick = matches!(measure, Some(MeasureRecord::Tick { .. }));
        match measure {
            Some(MeasureRecord::Deltas { deltas, sessions }) => {
                let ahead = now.max(record.timestamp);
                deltas.iter().for_each(|delta| self.add(delta, now, ahead, &mut touched));
                sessions.iter().for_each(|fact| self.add_session(fact, now, ahead, &mut touched));
            }
            Some(MeasureRecord::Marks(marks)) => {
                for mark in &marks {
                    self.event_time.report(mark, now);
                    self.changed.sources.insert(mark.source.clone());
                }
            }
            Some(MeasureRecord::Tick { .. }) | None => {}
        }
        // Deltas come in order, so that this is one pass.
        touched.sort();
        touched.dedup();
        self.event_time.advance(now);
        self.evaluate(now, record.offset, &touched, out);
        if is_tick {
            self.alerts.tick_seen();
        }
    }

    /// Passes over a record that can't be applied.
    pub(super) fn skip(&mut self, offset: i64, reason: &'static str) {
        self.position = self.position.max(offset.saturating_add(1));
        self.count(Metric::MeasuresRejected, &[reason], 1.0);
    }

    /// Measures from `position` up to `low` were deleted before they were read.
    pub(super) fn lost_until(&mut self, low: i64) {
        let lost = u32::try_from(low.saturating_sub(self.position)).unwrap_or(u32::MAX);
        self.position = low;
        let partition = self.topic_partition.partition.to_string();
        self.count(Metric::MeasuresLost, &[&partition], f64::from(lost));
        self.alerts.measures_lost();
    }

    /// What there is only one of, for storing it.
    pub(super) fn position_record(&self) -> Position {
        Position {
            position: self.position,
            clock: self.clock,
            watermark_ms: self.event_time.watermark().map(Timestamp::millis),
            held: self.event_time.held(),
            swept: self.swept.map(|(now, watermark)| (now.0, watermark.map(|w| w.0))),
            storm: self.alerts.storm(),
            reset: false,
        }
    }

    /// Puts back what [`Board::position_record`] gave.
    pub(super) fn restore_position(&mut self, stored: &Position) {
        self.position = stored.position;
        self.clock = stored.clock;
        let watermark = stored.watermark_ms.map(Timestamp::from_millis);
        self.event_time.restore_watermark(watermark, stored.held);
        self.swept = stored.swept.map(|(now, watermark)| (Bucket(now), watermark.map(Bucket)));
        self.alerts.restore_storm(stored.storm);
        self.gauges.touch_all(self.table.series());
    }

    /// The keys of everything changed since last asked, the position last.
    pub(super) fn take_changed(&mut self) -> Vec<StateKey> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.buckets.sort();
        changed.buckets.dedup();
        let buckets = changed.buckets.into_iter().map(|(series, b)| StateKey::Bucket(series, b));
        let sessions = changed.sessions.into_iter().map(|(s, tag)| StateKey::Session(s, tag));
        let sources = changed.sources.into_iter().map(StateKey::Source);
        let alerts = self.alerts.take_touched();
        self.gauges.alerts_changed |= !alerts.is_empty();
        let alerts = alerts.into_iter().map(StateKey::Alert);
        let keys = buckets.chain(sessions).chain(sources).chain(alerts);
        keys.chain([StateKey::Position]).collect()
    }

    /// The counters since last asked, and the gauges that are due.
    pub(super) fn take_updates(&mut self) -> Vec<MetricUpdate> {
        let refused = self.alerts.take_refused();
        if refused > 0 {
            let refused = u32::try_from(refused).unwrap_or(u32::MAX);
            self.count(Metric::LabelOverflow, &["alert"], f64::from(refused));
        }
        let counters = std::mem::take(&mut self.counters);
        let mut updates: Vec<_> = counters
            .into_iter()
            .map(|((metric, labels), value)| MetricUpdate { metric, labels, value })
            .collect();
        if let Some(now) = self.clock.now() {
            let partition = self.topic_partition.partition;
            self.gauges.alerts(partition, &self.alerts, &self.event_time, &mut updates);
            self.gauges.ratios(now, &self.config, &self.table, &mut updates);
        }
        updates
    }

    /// Adds to a counter, to be published when the transaction stands.
    pub(super) fn count(&mut self, metric: Metric, labels: &[&str], value: f64) {
        let labels = labels.iter().map(|&label| Arc::from(label)).collect();
        *self.counters.entry((metric, labels)).or_default() += value;
    }

    fn advance_clock(&mut self, appended: Timestamp, measure: Option<&MeasureRecord>) -> Timestamp {
        let tick = match measure {
            Some(MeasureRecord::Tick { clock }) => Some(*clock),
            _ => None,
        };
        let change = self.clock.observe(appended, tick);
        let now = self.clock.now().expect("a clock that has observed a record has a time");
        if let ClockChange::SetBack { by_ms } = change {
            self.event_time.set_back(now, by_ms);
            self.changed.sources.extend(self.event_time.sources().cloned());
            self.alerts.set_back(by_ms);
            let partition = self.topic_partition.partition.to_string();
            self.count(Metric::ClockSetBack, &[&partition], 1.0);
        }
        now
    }

    fn add(&mut self, delta: &Delta, now: Timestamp, ahead: Timestamp, touched: &mut Vec<Series>) {
        let bucket = delta.bucket.filter(|&bucket| self.in_time(bucket, now, ahead));
        let Some(bucket) = bucket else {
            if delta.series.scope != Scope::All {
                let records = f64::from(delta.counts.of(Signal::Records));
                self.count(Metric::LateRecords, &[&delta.series.scope.label()], records);
            }
            return;
        };
        self.place(&delta.series, bucket, &delta.counts, touched);
    }

    fn add_session(
        &mut self,
        fact: &SessionFact,
        now: Timestamp,
        ahead: Timestamp,
        touched: &mut Vec<Series>,
    ) {
        let change = self.sessions.apply(fact, now);
        self.changed.sessions.extend(change.touched);
        if change.overflowed {
            self.count(Metric::LabelOverflow, &["session"], 1.0);
        }
        let series = Series::new(fact.scope.clone(), "");
        for (time, signal, metric) in [
            (change.started, Signal::Sessions, Metric::BotSessions),
            (change.handed_over, Signal::SessionsHandedOver, Metric::BotSessionsHandedOver),
        ] {
            let Some(time) = time else { continue };
            self.count(metric, &[&fact.scope.label()], 1.0);
            let bucket = Bucket::of(time);
            if self.in_time(bucket, now, ahead) {
                let mut counts = Counts::default();
                counts.add(signal, 1);
                self.place(&series, bucket, &counts, touched);
            }
        }
    }

    fn place(
        &mut self,
        series: &Series,
        bucket: Bucket,
        counts: &Counts,
        touched: &mut Vec<Series>,
    ) {
        let placed = self.table.add(series, bucket, counts);
        if placed.overflowed {
            self.count(Metric::LabelOverflow, &["series"], 1.0);
        }
        self.changed.buckets.push((placed.series.clone(), bucket));
        touched.push(placed.series);
    }

    /// Neither late nor further ahead than SCRUB lets event times be.
    fn in_time(&self, bucket: Bucket, now: Timestamp, ahead: Timestamp) -> bool {
        let latest = ahead.plus_millis(EVENT_TIME_AHEAD_MS_MAX + LATE_AFTER_MS);
        bucket >= Bucket::of(self.event_time.late_before(now)) && bucket <= Bucket::of(latest)
    }

    /// Rules and timers. Every series is looked at when `now` or W enters another bucket, for
    /// windows move though nothing is added; between that, only what the record touched and what
    /// time moves.
    fn evaluate(
        &mut self,
        now: Timestamp,
        offset: i64,
        touched: &[Series],
        out: &mut Vec<Emission>,
    ) {
        let moment = Moment {
            now,
            watermark: self.event_time.watermark(),
            topic: Arc::clone(&self.topic_partition.topic),
            partition: self.topic_partition.partition,
            offset,
            held: self.event_time.held(),
        };
        let config = Arc::clone(&self.config);
        let swept = self.sweep(now);
        self.gauges.touch(touched);
        if config.alerts_topic.is_none() {
            return;
        }
        let mut keys = self.alerts.due(now);
        if swept {
            keys.extend(self.alerts.keys().cloned());
            let series: Vec<_> = self.table.series().collect();
            add_groups(&config, &series, &mut keys);
        } else {
            add_groups(&config, touched, &mut keys);
        }
        keys.sort();
        keys.dedup();
        let emitted_before = out.len();
        for key in &keys {
            let rule = config.rules.by_name(&key.rule);
            let condition = self.condition(rule, &key.group, now);
            self.alerts.step(key, rule, condition, &moment, out);
        }
        let table = &self.table;
        let read = |rule: &Rule, group: &Group| rule.read(table, group, Bucket::of(now));
        self.alerts.finish(&moment, &config.rules, read, out);
        for emission in &out[emitted_before..] {
            let labels = vec![Arc::from(emission.kind.name())];
            *self.counters.entry((Metric::AlertsEmitted, labels)).or_default() += 1.0;
        }
    }

    /// When `now` or W has entered another bucket: drops what no window needs any more.
    fn sweep(&mut self, now: Timestamp) -> bool {
        let watermark = self.event_time.watermark();
        let buckets = (Bucket::of(now), watermark.map(Bucket::of));
        if self.swept == Some(buckets) {
            return false;
        }
        self.swept = Some(buckets);
        self.gauges.touch_all(self.table.series());
        let end = Bucket::of(watermark.unwrap_or_else(|| self.event_time.late_before(now)));
        let dropped = self.table.prune(end, &self.config.retention());
        self.changed.buckets.extend(dropped);
        self.changed.sessions.extend(self.sessions.expire(now));
        self.changed.sources.extend(self.event_time.forget_silent(now));
        true
    }

    /// Breached on what has been counted so far, up to `now`, or on what is final, up to W; clear
    /// only when both say so.
    fn condition(&self, rule: Option<&Rule>, group: &Group, now: Timestamp) -> Condition {
        let Some(rule) = rule else {
            let reading = Reading::default();
            return Condition { breached: false, cleared: true, reading };
        };
        let read = |end: Bucket| rule.read(&self.table, group, end);
        let head = read(Bucket::of(now));
        let end = Bucket::of(self.event_time.watermark().unwrap_or(now));
        let settled = if end == Bucket::of(now) { head } else { read(end) };
        let (first, second) = (rule.is_breached(&head), rule.is_breached(&settled));
        Condition {
            breached: first || second,
            cleared: rule.is_clear(&head) && rule.is_clear(&settled),
            reading: if second && !first { settled } else { head },
        }
    }
}

fn add_groups(config: &WatchConfig, series: &[Series], keys: &mut Vec<InstanceKey>) {
    for rule in config.rules.iter() {
        let groups = series.iter().filter_map(|series| rule.group_of(series));
        keys.extend(groups.map(|group| InstanceKey { rule: Arc::clone(&rule.name), group }));
    }
}

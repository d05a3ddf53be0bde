//! SCRUB's side: what a transaction counted, per series and bucket, and how far its source
//! partitions have been read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::place::{Place, Places};
use super::series::{OVERFLOW, Scope, Series};
use super::signal::{Bucket, Counts, Fact, SessionTag, Signal};
use super::wire::{Delta, Mark, MeasureRecord, SessionFact};
use crate::pipeline::limits::{
    BUCKETS_PER_SERIES_PER_TRANSACTION_MAX, CAUGHT_UP_HOLD_MS, EVENT_TIME_AHEAD_MS_MAX,
    MARK_INTERVAL_MS, MEASURE_ENTRIES_PER_RECORD_MAX, SERIES_PER_TRANSACTION_MAX,
    SERVICES_PER_TENANT_MAX, SESSIONS_PER_TRANSACTION_MAX,
};
use crate::pipeline::record::{Timestamp, TopicPartition};

/// One record for the measures topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasureOutput {
    /// Measures partition.
    pub partition: i32,
    /// Value.
    pub value: Vec<u8>,
}

/// What the caps of one transaction pushed aside; each is a count of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BookOverflow {
    /// Records counted under the tenant `_other`.
    pub tenant: u64,
    /// Records counted under the service `_other`.
    pub service: u64,
    /// Records counted without their time.
    pub bucket: u64,
    /// Bot records whose session was not passed on.
    pub session: u64,
}

/// What has been counted since the last drain, and the marks of the source partitions.
#[derive(Debug)]
pub struct DeltaBook {
    partitions: i32,
    series: Vec<SeriesCounts>,
    scopes: HashMap<Scope, ScopeState>,
    /// By place: where its records count in this transaction.
    cells: Vec<Option<Cell>>,
    sessions: HashMap<(Scope, SessionTag), Seen>,
    overflow: BookOverflow,
    marks: Marks,
    marks_committed: Marks,
}

/// What one series has counted.
#[derive(Debug)]
struct SeriesCounts {
    series: Series,
    buckets: Vec<(Option<Bucket>, Counts)>,
}

/// A scope's series in this transaction.
#[derive(Clone, Copy, Debug, Default)]
struct ScopeState {
    services: usize,
    /// The number of its overflow series, if there is one.
    overflow: Option<u32>,
}

/// The series of a place, what the caps pushed aside of it, and what was counted under its newest
/// bucket since that became the newest: most records of a place fall into one bucket, and touch
/// nothing but this.
#[derive(Clone, Copy, Debug)]
struct Cell {
    series: u32,
    is_other_tenant: bool,
    is_other_service: bool,
    bucket: Bucket,
    counts: Counts,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    seen: Timestamp,
    handed_over: Option<Timestamp>,
}

#[derive(Clone, Debug, Default)]
struct Marks {
    sources: BTreeMap<TopicPartition, SourceState>,
    sent_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, Default)]
struct SourceState {
    watermark: Option<Timestamp>,
    caught_up_at: Option<Timestamp>,
    read_at: Option<Timestamp>,
    /// What the last mark said, if one was sent.
    said_caught_up: Option<bool>,
}

impl SourceState {
    /// Read to its end, with nothing read since, or only just: a partition that is read to its
    /// end again and again between records doesn't flicker.
    fn caught_up(&self, now: Timestamp) -> bool {
        self.caught_up_at.is_some_and(|at| {
            self.read_at.is_none_or(|read| read <= at) || now.millis_since(at) <= CAUGHT_UP_HOLD_MS
        })
    }
}

impl DeltaBook {
    /// An empty book for a measures topic of `partitions` partitions.
    ///
    /// # Panics
    /// When `partitions` is not positive.
    #[must_use]
    pub fn new(partitions: i32) -> Self {
        assert!(partitions > 0, "a topic has at least one partition");
        Self {
            partitions,
            series: Vec::new(),
            scopes: HashMap::new(),
            cells: Vec::new(),
            sessions: HashMap::new(),
            overflow: BookOverflow::default(),
            marks: Marks::default(),
            marks_committed: Marks::default(),
        }
    }

    /// A source partition is read from now on: its marks are due.
    pub fn assign(&mut self, source: &TopicPartition) {
        for marks in [&mut self.marks, &mut self.marks_committed] {
            marks.sources.insert(source.clone(), SourceState::default());
        }
    }

    /// A source partition went away, or is not read for now: it holds no event time back.
    pub fn revoke(&mut self, source: &TopicPartition) {
        for marks in [&mut self.marks, &mut self.marks_committed] {
            marks.sources.remove(source);
        }
    }

    /// Counts one record of `source`, whose place is one of `places`.
    pub fn record(
        &mut self,
        source: &TopicPartition,
        places: &Places,
        fact: &Fact,
        now: Timestamp,
    ) {
        let ahead = fact.event_time.millis_since(now) > EVENT_TIME_AHEAD_MS_MAX;
        let time = if ahead { now } else { fact.event_time };
        if let Some(state) = self.marks.sources.get_mut(source) {
            state.read_at = Some(now);
            if !ahead {
                state.watermark = state.watermark.max(Some(time));
            }
        }
        let series = self.count(places, fact.place, Bucket::of(time), &fact.counts());
        if let Some(tag) = fact.session.filter(|_| fact.bot.any()) {
            let scope = self.series[series].series.scope.clone();
            self.session(scope, tag, time, fact.bot.handover);
        }
    }

    /// Counts something that was noticed `now`, whatever the time of the record it was noticed in.
    pub fn notice(
        &mut self,
        places: &Places,
        place: Place,
        signal: Signal,
        count: u32,
        now: Timestamp,
    ) {
        if count > 0 {
            let mut counts = Counts::default();
            counts.add(signal, count);
            self.count(places, place, Bucket::of(now), &counts);
        }
    }

    /// The source has been read to its end as of `now`.
    pub fn caught_up(&mut self, source: &TopicPartition, now: Timestamp) {
        if let Some(state) = self.marks.sources.get_mut(source) {
            state.caught_up_at = Some(now);
        }
    }

    /// When marks are next owed, whatever is read; without a source partition what was noticed is due
    /// at once, since nothing else would take it along.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> Option<Timestamp> {
        if self.marks.sources.is_empty() {
            return (!self.is_empty()).then_some(now);
        }
        let next = match self.marks.sent_at {
            Some(sent) if !self.marks.changed(now) => sent.plus_millis(MARK_INTERVAL_MS),
            _ => now,
        };
        Some(next)
    }

    /// Whether anything has been counted since the last drain.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series.is_empty() && self.sessions.is_empty()
    }

    /// Takes out what the transaction has to send: per measures partition the deltas, and after
    /// them, when they are owed, the marks.
    pub fn drain(&mut self, now: Timestamp) -> (Vec<MeasureOutput>, BookOverflow) {
        let mut outputs = Vec::new();
        for (partition, (deltas, sessions)) in self.take_entries() {
            push_chunks(&mut outputs, partition, &deltas, |chunk| MeasureRecord::Deltas {
                deltas: chunk.to_vec(),
                sessions: Vec::new(),
            });
            push_chunks(&mut outputs, partition, &sessions, |chunk| MeasureRecord::Deltas {
                deltas: Vec::new(),
                sessions: chunk.to_vec(),
            });
        }
        if self.due(now).is_some_and(|due| due <= now) {
            let marks = self.marks.take(now);
            for partition in 0..self.partitions {
                let make = |chunk: &[Mark]| MeasureRecord::Marks(chunk.to_vec());
                push_chunks(&mut outputs, partition, &marks, make);
            }
        }
        (outputs, std::mem::take(&mut self.overflow))
    }

    /// The transaction that sent what was drained stands.
    pub fn committed(&mut self) {
        self.marks_committed = self.marks.clone();
    }

    /// The transaction is lost: nothing was counted, no mark was sent. Its records come again.
    pub fn discard(&mut self) {
        self.clear_entries();
        self.overflow = BookOverflow::default();
        self.marks = self.marks_committed.clone();
    }

    /// Adds to a place under `bucket`; returns the number of its series.
    fn count(&mut self, places: &Places, place: Place, bucket: Bucket, counts: &Counts) -> usize {
        let index = place.index();
        if self.cells.len() <= index {
            self.cells.resize(index + 1, None);
        }
        if self.cells[index].is_none() {
            self.cells[index] = Some(self.open(places, place, bucket));
        }
        let cell = self.cells[index].as_mut().expect("it was just made");
        if cell.bucket != bucket {
            self.overflow.bucket += cell.flush(&mut self.series);
            cell.bucket = bucket;
        }
        cell.counts.add_all(counts);
        self.overflow.tenant += u64::from(cell.is_other_tenant);
        self.overflow.service += u64::from(cell.is_other_service);
        cell.series()
    }

    fn open(&mut self, places: &Places, place: Place, bucket: Bucket) -> Cell {
        let mut scope = Scope::of(places.tenant(place));
        let full = self.series.len() >= SERIES_PER_TRANSACTION_MAX;
        let is_other_tenant = full && !self.scopes.contains_key(&scope);
        if is_other_tenant {
            scope = Scope::Other;
        }
        let state = self.scopes.entry(scope.clone()).or_default();
        let own = places.service(place);
        let is_other_service =
            **own == *OVERFLOW || full || state.services >= SERVICES_PER_TENANT_MAX;
        let known = state.overflow.filter(|_| is_other_service);
        let series = known.unwrap_or_else(|| {
            let series = u32::try_from(self.series.len()).expect("each takes a record's bytes");
            state.services += 1;
            let service = if is_other_service {
                state.overflow = Some(series);
                Arc::from(OVERFLOW)
            } else {
                Arc::clone(own)
            };
            let series_counts =
                SeriesCounts { series: Series { scope, service }, buckets: Vec::new() };
            self.series.push(series_counts);
            series
        });
        Cell { series, is_other_tenant, is_other_service, bucket, counts: Counts::default() }
    }

    fn session(&mut self, scope: Scope, tag: SessionTag, time: Timestamp, handover: bool) {
        let full = self.sessions.len() >= SESSIONS_PER_TRANSACTION_MAX;
        let key = (scope, tag);
        if full && !self.sessions.contains_key(&key) {
            self.overflow.session += 1;
            return;
        }
        let session = self.sessions.entry(key).or_insert(Seen { seen: time, handed_over: None });
        session.seen = session.seen.min(time);
        if handover {
            let earliest = session.handed_over.map_or(time, |at| at.min(time));
            session.handed_over = Some(earliest);
        }
    }

    fn flush_cells(&mut self) {
        for cell in self.cells.iter_mut().flatten() {
            self.overflow.bucket += cell.flush(&mut self.series);
        }
    }

    fn take_entries(&mut self) -> BTreeMap<i32, (Vec<Delta>, Vec<SessionFact>)> {
        self.flush_cells();
        let mut all = BTreeMap::<(Arc<str>, Option<Bucket>), Counts>::new();
        let mut by_partition = BTreeMap::<i32, (Vec<Delta>, Vec<SessionFact>)>::new();
        for SeriesCounts { series, buckets } in std::mem::take(&mut self.series) {
            let partition = series.scope.partition(self.partitions);
            let deltas = &mut by_partition.entry(partition).or_default().0;
            for (bucket, counts) in buckets {
                let service = Arc::clone(&series.service);
                all.entry((service, bucket)).or_default().add_all(&counts);
                deltas.push(Delta { series: series.clone(), bucket, counts });
            }
        }
        if !all.is_empty() {
            let partition = Scope::All.partition(self.partitions);
            let deltas = all_deltas(all);
            by_partition.entry(partition).or_default().0.extend(deltas);
        }
        for ((scope, tag), seen) in &self.sessions {
            let partition = scope.partition(self.partitions);
            by_partition.entry(partition).or_default().1.push(SessionFact {
                scope: scope.clone(),
                tag: *tag,
                seen: seen.seen,
                handed_over: seen.handed_over,
            });
        }
        for (deltas, sessions) in by_partition.values_mut() {
            deltas.sort_unstable_by(|a, b| (&a.series, a.bucket).cmp(&(&b.series, b.bucket)));
            sessions.sort_unstable_by(|a, b| (&a.scope, a.tag).cmp(&(&b.scope, b.tag)));
        }
        self.clear_entries();
        by_partition
    }

    fn clear_entries(&mut self) {
        self.series.clear();
        self.scopes.clear();
        self.cells.fill(None);
        self.sessions.clear();
    }
}

impl Cell {
    fn series(&self) -> usize {
        usize::try_from(self.series).expect("32 bits fit")
    }

    /// Hands over what was counted; returns the records that count without their time.
    fn flush(&mut self, series: &mut [SeriesCounts]) -> u64 {
        let counts = std::mem::take(&mut self.counts);
        if counts.is_zero() {
            return 0;
        }
        let has_time = add_to_bucket(&mut series[self.series()].buckets, self.bucket, &counts);
        if has_time { 0 } else { u64::from(counts.of(Signal::Records)) }
    }
}

/// Adds to `bucket`, or, when the series has too many, to the one without a time; says which.
fn add_to_bucket(
    buckets: &mut Vec<(Option<Bucket>, Counts)>,
    bucket: Bucket,
    counts: &Counts,
) -> bool {
    let found = buckets.iter_mut().rev().find(|(at, _)| *at == Some(bucket));
    if let Some((_, sum)) = found {
        sum.add_all(counts);
        return true;
    }
    if buckets.len() < BUCKETS_PER_SERIES_PER_TRANSACTION_MAX {
        buckets.push((Some(bucket), *counts));
        return true;
    }
    match buckets.iter_mut().find(|(at, _)| at.is_none()) {
        Some((_, sum)) => sum.add_all(counts),
        None => buckets.push((None, *counts)),
    }
    false
}

/// The numbers of everybody, with the services beyond the cap in one.
fn all_deltas(all: BTreeMap<(Arc<str>, Option<Bucket>), Counts>) -> Vec<Delta> {
    let mut services = HashSet::<Arc<str>>::new();
    let mut sums = BTreeMap::<(Arc<str>, Option<Bucket>), Counts>::new();
    for ((service, bucket), counts) in all {
        let kept = services.contains(&service) || services.len() < SERVICES_PER_TENANT_MAX;
        let name = if kept { service } else { Arc::from(OVERFLOW) };
        services.insert(Arc::clone(&name));
        sums.entry((name, bucket)).or_default().add_all(&counts);
    }
    sums.into_iter()
        .map(|((service, bucket), counts)| Delta {
            series: Series::new(Scope::All, service),
            bucket,
            counts,
        })
        .collect()
}

impl Marks {
    fn changed(&self, now: Timestamp) -> bool {
        self.sources.values().any(|state| state.said_caught_up != Some(state.caught_up(now)))
    }

    fn take(&mut self, now: Timestamp) -> Vec<Mark> {
        self.sent_at = Some(now);
        self.sources
            .iter_mut()
            .map(|(source, state)| {
                let caught_up = state.caught_up(now);
                state.said_caught_up = Some(caught_up);
                Mark { source: source.clone(), watermark: state.watermark, caught_up }
            })
            .collect()
    }
}

fn push_chunks<T>(
    outputs: &mut Vec<MeasureOutput>,
    partition: i32,
    entries: &[T],
    make: impl Fn(&[T]) -> MeasureRecord,
) {
    for chunk in entries.chunks(MEASURE_ENTRIES_PER_RECORD_MAX) {
        outputs.push(MeasureOutput { partition, value: make(chunk).encode() });
    }
}

#[cfg(test)]
mod tests;

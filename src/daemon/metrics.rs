//! The metrics registry: a value made from the table in [`crate::pipeline::metric`], fed after
//! commits, read by `/metrics`. Series are capped and expire, so hostile label values can't grow it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::TextEncoder;
use prometheus::proto;

use crate::pipeline::limits::{
    METRIC_SERIES_IDLE_MS_MAX, METRIC_SERIES_PER_FAMILY_MAX, METRIC_SERIES_TOTAL_MAX,
};
use crate::pipeline::metric::{METRICS, Metric, MetricKind, MetricRow, MetricSeries, MetricUpdate};
use crate::pipeline::record::Timestamp;

/// Label value of everything past a cap.
pub const OVERFLOW: &str = "_other";

/// All series of the process.
pub struct Metrics {
    series: Mutex<Series>,
}

/// The series that exist, by the number of their family.
struct Series {
    families: Vec<Family>,
    total: usize,
}

/// The series of one metric by their label values, found without a copy of them and compared
/// whole: the vectors of `prometheus` take two series for one when their hashes agree, and theirs
/// is over the values without a mark between them.
type Family = HashMap<Labels, Cell>;

type Labels = Arc<[Arc<str>]>;

struct Cell {
    last_used: Timestamp,
    value: f64,
}

/// The two text formats Prometheus asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// `text/plain; version=0.0.4`
    Text,
    /// `application/openmetrics-text; version=1.0.0`
    OpenMetrics,
}

impl Exposition {
    /// The format that answers an `Accept` header: OpenMetrics 1.0 when it is asked for.
    #[must_use]
    pub fn negotiate(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Text }
    }

    /// The `Content-Type` of the answer.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A registry with every family of the table and no series but the counters without labels.
    #[must_use]
    pub fn new() -> Self {
        let families = METRICS.iter().map(|_| Family::new()).collect();
        let metrics = Self { series: Mutex::new(Series { families, total: 0 }) };
        let is_single = |row: &&MetricRow| row.kind == MetricKind::Counter && row.labels.is_empty();
        let zeros = METRICS.iter().filter(is_single).map(|row| row.metric.update(&[], 0.0));
        metrics.apply(&zeros.collect::<Vec<_>>(), Timestamp::EPOCH);
        metrics
    }

    /// Publishes updates of a committed transaction (or of the process itself).
    pub fn apply(&self, updates: &[MetricUpdate], now: Timestamp) {
        let mut series = self.lock();
        for update in updates {
            if let Some(label) = series.write(update, now) {
                series.write(&Metric::LabelOverflow.update(&[label], 1.0), now);
            }
        }
    }

    /// Drops series that were not used for [`METRIC_SERIES_IDLE_MS_MAX`].
    pub fn expire(&self, now: Timestamp) {
        let mut series = self.lock();
        let Series { families, total } = &mut *series;
        for family in families {
            let before = family.len();
            family.retain(|_, cell| now.millis_since(cell.last_used) <= METRIC_SERIES_IDLE_MS_MAX);
            *total -= before - family.len();
        }
    }

    /// Takes series off at once: whoever showed them shows them no longer.
    pub fn withdraw(&self, withdrawn: &[MetricSeries]) {
        let mut series = self.lock();
        for (metric, labels) in withdrawn {
            if series.families[*metric as usize].remove(&**labels).is_some() {
                series.total -= 1;
            }
        }
    }

    /// Everything, in one of the two text formats.
    #[must_use]
    pub fn render(&self, exposition: Exposition) -> String {
        let families = self.gather();
        match exposition {
            Exposition::Text => TextEncoder::new()
                .encode_to_string(&families)
                .expect("families with a name and a series can be encoded"),
            Exposition::OpenMetrics => super::openmetrics::encode(&families),
        }
    }

    /// The families that have series, by name.
    fn gather(&self) -> Vec<proto::MetricFamily> {
        // The shards wait for the lock: under it there is no more than this copy.
        let copy = |family: &Family| -> Vec<(Labels, f64)> {
            family.iter().map(|(labels, cell)| (Arc::clone(labels), cell.value)).collect()
        };
        let copies: Vec<_> = self.lock().families.iter().map(copy).collect();
        let mut families: Vec<_> = METRICS
            .iter()
            .zip(copies)
            .filter(|(_, series)| !series.is_empty())
            .map(|(row, series)| exposed(row, series))
            .collect();
        families.sort_by(|a, b| a.name().cmp(b.name()));
        families
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Series> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Series {
    /// Writes to the update's series or, past a cap, to the one that stands for what overflows,
    /// and names the label that was replaced then. An update to NaN removes nothing: gauges of
    /// empty windows are set so by their owner.
    fn write(&mut self, update: &MetricUpdate, now: Timestamp) -> Option<&'static str> {
        let Self { families, total } = self;
        let family = &mut families[update.metric as usize];
        let row = update.metric.row();
        debug_assert_eq!(update.labels.len(), row.labels.len(), "{update:?}");
        if let Some(cell) = family.get_mut(&*update.labels) {
            cell.write(row.kind, update.value, now);
            return None;
        }
        let full =
            family.len() >= METRIC_SERIES_PER_FAMILY_MAX || *total >= METRIC_SERIES_TOTAL_MAX;
        let is_free = |label: &&str| matches!(*label, "tenant" | "service");
        let free = row.labels.iter().copied().find(is_free).filter(|_| full);
        let mut labels = update.labels.clone();
        if free.is_some() {
            let replaced = row.labels.iter().zip(&mut labels).filter(|(label, _)| is_free(label));
            replaced.for_each(|(_, value)| *value = Arc::from(OVERFLOW));
        }
        let cell = family.entry(Labels::from(labels)).or_insert_with(|| {
            *total += 1;
            Cell { last_used: now, value: 0.0 }
        });
        cell.write(row.kind, update.value, now);
        free
    }
}

impl Cell {
    fn write(&mut self, kind: MetricKind, value: f64, now: Timestamp) {
        self.last_used = now;
        match kind {
            MetricKind::Counter => self.value += value.max(0.0),
            MetricKind::Gauge => self.value = value,
        }
    }
}

/// A family with its series and, in each, its labels in order.
fn exposed(row: &MetricRow, mut series: Vec<(Labels, f64)>) -> proto::MetricFamily {
    series.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let mut order: Vec<_> = row.labels.iter().enumerate().collect();
    order.sort_unstable_by_key(|(_, name)| **name);
    let metrics = series.iter().map(|(values, value)| {
        let pairs = order.iter().map(|&(index, name)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(values[index].to_string());
            pair
        });
        let mut metric = proto::Metric::from_label(pairs.collect());
        match row.kind {
            MetricKind::Counter => {
                let mut counter = proto::Counter::default();
                counter.set_value(*value);
                metric.set_counter(counter);
            }
            MetricKind::Gauge => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(*value);
                metric.set_gauge(gauge);
            }
        }
        metric
    });
    let mut family = proto::MetricFamily::default();
    family.set_name(row.name.to_owned());
    family.set_help(row.help.to_owned());
    family.set_field_type(match row.kind {
        MetricKind::Counter => proto::MetricType::COUNTER,
        MetricKind::Gauge => proto::MetricType::GAUGE,
    });
    family.set_metric(metrics.collect());
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_show_what_was_published() {
        let metrics = Metrics::new();
        let update = Metric::LogRecords.update(&["salon \"a\"\n\\", "api", "error"], 2.0);
        metrics.apply(&[update.clone(), update], Timestamp::EPOCH);
        let text = metrics.render(Exposition::Text);
        let sample = r#"blotter_log_records_total{service="api",severity="error",tenant="salon \"a\"\n\\"} 4"#;
        assert!(text.contains(sample), "{text}");
        let open = metrics.render(Exposition::OpenMetrics);
        assert!(open.contains("# TYPE blotter_log_records counter\n"), "{open}");
        assert!(open.contains(sample), "{open}");
        assert!(open.ends_with("# EOF\n"));
    }

    #[test]
    fn label_values_that_run_together_alike_are_two_series() {
        let metrics = Metrics::new();
        let [first, second] = [["a", "bc", "error"], ["ab", "c", "error"]];
        let update = |labels: &[&str], count| Metric::LogRecords.update(labels, count);
        metrics.apply(&[update(&first, 1.0), update(&second, 3.0)], Timestamp::EPOCH);
        let samples = || -> Vec<String> {
            let text = metrics.render(Exposition::Text);
            let samples = text.lines().filter(|line| line.starts_with("blotter_log_records"));
            samples.map(str::to_owned).collect()
        };
        let sample = |service, tenant, count| {
            let labels = format!("service=\"{service}\",severity=\"error\",tenant=\"{tenant}\"");
            format!("blotter_log_records_total{{{labels}}} {count}")
        };
        assert_eq!(samples(), [sample("bc", "a", 1), sample("c", "ab", 3)]);
        metrics.withdraw(&[Metric::LogRecords.series(&second)]);
        metrics.apply(&[update(&first, 1.0)], Timestamp::EPOCH);
        assert_eq!(samples(), [sample("bc", "a", 2)]);
        metrics.apply(&[update(&second, 1.0)], Timestamp::EPOCH);
        assert_eq!(samples(), [sample("bc", "a", 2), sample("c", "ab", 1)]);
    }

    #[test]
    fn past_the_cap_new_tenants_share_one_series() {
        let metrics = Metrics::new();
        let extra = 5;
        for tenant in 0..METRIC_SERIES_PER_FAMILY_MAX + extra {
            let update = Metric::BotTurns.update(&[&tenant.to_string()], 1.0);
            metrics.apply(&[update], Timestamp::EPOCH);
        }
        let text = metrics.render(Exposition::Text);
        assert!(text.contains(&format!("blotter_bot_turns_total{{tenant=\"_other\"}} {extra}")));
        assert!(text.contains("blotter_label_overflow_total{label=\"tenant\"} 5"));
    }

    #[test]
    fn what_is_withdrawn_is_gone_and_can_come_back() {
        let metrics = Metrics::new();
        let update = Metric::EventTime.update(&["3"], 1.0);
        for _ in 0..2 {
            metrics.apply(std::slice::from_ref(&update), Timestamp::EPOCH);
            assert!(metrics.render(Exposition::Text).contains("partition=\"3\""));
            metrics.withdraw(&[Metric::EventTime.series(&["3"]), Metric::EventTime.series(&["4"])]);
            assert!(!metrics.render(Exposition::Text).contains("partition=\"3\""));
        }
    }

    #[test]
    fn idle_series_expire() {
        let metrics = Metrics::new();
        metrics.apply(&[Metric::BotTurns.update(&["old"], 1.0)], Timestamp::EPOCH);
        let later = Timestamp::from_millis(METRIC_SERIES_IDLE_MS_MAX + 1);
        metrics.apply(&[Metric::BotTurns.update(&["new"], 1.0)], later);
        metrics.expire(later);
        let text = metrics.render(Exposition::Text);
        assert!(text.contains("tenant=\"new\"") && !text.contains("tenant=\"old\""));
    }
}

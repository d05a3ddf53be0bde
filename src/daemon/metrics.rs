//! The metrics registry: a value made from the table in [`crate::pipeline::metric`], fed after
//! commits, read by `/metrics`. Series are capped and expire, so hostile label values can't grow it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, Opts, TextEncoder,
};

use crate::pipeline::limits::{
    METRIC_SERIES_IDLE_MS_MAX, METRIC_SERIES_PER_FAMILY_MAX, METRIC_SERIES_TOTAL_MAX,
};
use crate::pipeline::metric::{METRICS, Metric, MetricKind, MetricRow, MetricSeries, MetricUpdate};
use crate::pipeline::record::Timestamp;

/// Label value of everything past a cap.
pub const OVERFLOW: &str = "_other";

/// All series of the process.
pub struct Metrics {
    registry: prometheus::Registry,
    families: Vec<Family>,
    series: Mutex<Series>,
}

enum Family {
    Counter(CounterVec),
    Gauge(GaugeVec),
    Histogram(HistogramVec),
}

/// The series that exist, by family; found by their label values without a copy of them.
struct Series {
    families: Vec<HashMap<Vec<Arc<str>>, Known>>,
    total: usize,
}

struct Known {
    last_used: Timestamp,
    cell: Cell,
}

/// One series in the registry.
enum Cell {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
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
    /// A registry with every family of the table and no series.
    #[must_use]
    pub fn new() -> Self {
        let registry = prometheus::Registry::new();
        let families: Vec<_> = METRICS.iter().map(|row| family(&registry, row)).collect();
        let known = families.iter().map(|_| HashMap::new()).collect();
        Self { registry, families, series: Mutex::new(Series { families: known, total: 0 }) }
    }

    /// Publishes updates of a committed transaction (or of the process itself).
    pub fn apply(&self, updates: &[MetricUpdate], now: Timestamp) {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        for update in updates {
            if let Some(label) = self.write(&mut series, update, now) {
                let overflow = Metric::LabelOverflow.update(&[label], 1.0);
                self.write(&mut series, &overflow, now);
            }
        }
    }

    /// Drops series that were not used for [`METRIC_SERIES_IDLE_MS_MAX`].
    pub fn expire(&self, now: Timestamp) {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let Series { families, total } = &mut *series;
        for (known, family) in families.iter_mut().zip(&self.families) {
            known.retain(|labels, known| {
                let used = now.millis_since(known.last_used) <= METRIC_SERIES_IDLE_MS_MAX;
                if !used {
                    family.remove(labels);
                    *total -= 1;
                }
                used
            });
        }
    }

    /// Takes series off at once: whoever showed them shows them no longer.
    pub fn withdraw(&self, withdrawn: &[MetricSeries]) {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        for (metric, labels) in withdrawn {
            if series.families[*metric as usize].remove(labels).is_some() {
                self.families[*metric as usize].remove(labels);
                series.total -= 1;
            }
        }
    }

    /// Everything, in one of the two text formats.
    #[must_use]
    pub fn render(&self, exposition: Exposition) -> String {
        let families = self.registry.gather();
        match exposition {
            Exposition::Text => TextEncoder::new()
                .encode_to_string(&families)
                .expect("a registry's own families can be encoded"),
            Exposition::OpenMetrics => super::openmetrics::encode(&families),
        }
    }

    /// Writes to the update's series or, past a cap, to the one that stands for what overflows,
    /// and names the label that was replaced then. An update to NaN removes nothing: gauges of
    /// empty windows are set so by their owner.
    fn write(
        &self,
        series: &mut Series,
        update: &MetricUpdate,
        now: Timestamp,
    ) -> Option<&'static str> {
        let Series { families, total } = series;
        let known = &mut families[update.metric as usize];
        if let Some(known) = known.get_mut(&*update.labels) {
            known.last_used = now;
            known.cell.write(update.value);
            return None;
        }
        let full = known.len() >= METRIC_SERIES_PER_FAMILY_MAX || *total >= METRIC_SERIES_TOTAL_MAX;
        let row = update.metric.row();
        let is_free = |label: &&str| matches!(*label, "tenant" | "service");
        let free = row.labels.iter().copied().find(is_free).filter(|_| full);
        let mut labels = update.labels.clone();
        if free.is_some() {
            let replaced = row.labels.iter().zip(&mut labels).filter(|(label, _)| is_free(label));
            replaced.for_each(|(_, value)| *value = Arc::from(OVERFLOW));
        }
        if let Some(cell) = self.families[update.metric as usize].cell(&labels) {
            cell.write(update.value);
            if free.is_none() {
                *total += 1;
                known.insert(labels, Known { last_used: now, cell });
            }
        }
        free
    }
}

impl Family {
    /// The series of these label values, made when there is none; none when there are too many or
    /// too few of them.
    fn cell(&self, labels: &[Arc<str>]) -> Option<Cell> {
        match self {
            Self::Counter(all) => all.get_metric_with_label_values(labels).ok().map(Cell::Counter),
            Self::Gauge(all) => all.get_metric_with_label_values(labels).ok().map(Cell::Gauge),
            Self::Histogram(all) => {
                all.get_metric_with_label_values(labels).ok().map(Cell::Histogram)
            }
        }
    }

    fn remove(&self, labels: &[Arc<str>]) {
        // A series that is already gone is what was wanted.
        let _gone = match self {
            Self::Counter(all) => all.remove_label_values(labels),
            Self::Gauge(all) => all.remove_label_values(labels),
            Self::Histogram(all) => all.remove_label_values(labels),
        };
    }
}

impl Cell {
    fn write(&self, value: f64) {
        match self {
            Self::Counter(counter) => counter.inc_by(value.max(0.0)),
            Self::Gauge(gauge) => gauge.set(value),
            Self::Histogram(histogram) => histogram.observe(value),
        }
    }
}

fn family(registry: &prometheus::Registry, row: &MetricRow) -> Family {
    const VALID: &str = "names and labels of the table are valid and unique";
    let opts = Opts::new(row.name, row.help);
    match row.kind {
        MetricKind::Counter => {
            let counters = CounterVec::new(opts, row.labels).expect(VALID);
            register(registry, &counters);
            if row.labels.is_empty() {
                counters.with_label_values::<&str>(&[]);
            }
            Family::Counter(counters)
        }
        MetricKind::Gauge => {
            let gauges = GaugeVec::new(opts, row.labels).expect(VALID);
            register(registry, &gauges);
            Family::Gauge(gauges)
        }
        MetricKind::Histogram(bounds) => {
            let opts = HistogramOpts::from(opts).buckets(bounds.to_vec());
            let histograms = HistogramVec::new(opts, row.labels).expect(VALID);
            register(registry, &histograms);
            Family::Histogram(histograms)
        }
    }
}

fn register(registry: &prometheus::Registry, collector: &(impl Collector + Clone + 'static)) {
    registry.register(Box::new(collector.clone())).expect("names of the table are unique");
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

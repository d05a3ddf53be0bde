//! The metrics registry: a value made from the table in [`crate::pipeline::metric`], fed after
//! commits, read by `/metrics`. Series are capped and expire, so hostile label values can't grow it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::{CounterVec, GaugeVec, HistogramOpts, HistogramVec, Opts, TextEncoder};

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

#[derive(Default)]
struct Series {
    last_used: HashMap<MetricSeries, Timestamp>,
    per_family: HashMap<Metric, usize>,
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
        let families = METRICS.iter().map(|row| family(&registry, row)).collect();
        Self { registry, families, series: Mutex::default() }
    }

    /// Publishes updates of a committed transaction (or of the process itself).
    pub fn apply(&self, updates: &[MetricUpdate], now: Timestamp) {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        for update in updates {
            let admitted = series.admit(update, now);
            if let Some(label) = admitted.overflowed {
                self.write(&Metric::LabelOverflow.update(&[label], 1.0));
            }
            self.write(&admitted.update);
        }
    }

    /// Drops series that were not used for [`METRIC_SERIES_IDLE_MS_MAX`].
    pub fn expire(&self, now: Timestamp) {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let idle: Vec<_> = series
            .last_used
            .iter()
            .filter(|(_, used)| now.millis_since(**used) > METRIC_SERIES_IDLE_MS_MAX)
            .map(|(key, _)| key.clone())
            .collect();
        idle.iter().for_each(|key| self.drop_series(&mut series, key));
    }

    /// Takes series off at once: whoever showed them shows them no longer.
    pub fn withdraw(&self, withdrawn: &[MetricSeries]) {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        withdrawn.iter().for_each(|key| self.drop_series(&mut series, key));
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

    fn write(&self, update: &MetricUpdate) {
        let labels: Vec<&str> = update.labels.iter().map(|label| &**label).collect();
        match &self.families[update.metric as usize] {
            Family::Counter(counters) => {
                if let Ok(counter) = counters.get_metric_with_label_values(&labels) {
                    counter.inc_by(update.value.max(0.0));
                }
            }
            Family::Gauge(gauges) => {
                if let Ok(gauge) = gauges.get_metric_with_label_values(&labels) {
                    gauge.set(update.value);
                }
            }
            Family::Histogram(histograms) => {
                if let Ok(histogram) = histograms.get_metric_with_label_values(&labels) {
                    histogram.observe(update.value);
                }
            }
        }
    }

    fn drop_series(&self, series: &mut Series, key: &MetricSeries) {
        if series.last_used.remove(key).is_some() {
            self.remove(key.0, &key.1);
            *series.per_family.entry(key.0).or_default() -= 1;
        }
    }

    fn remove(&self, metric: Metric, labels: &[Arc<str>]) {
        let labels: Vec<&str> = labels.iter().map(|label| &**label).collect();
        // A series that is already gone is what was wanted.
        let _gone = match &self.families[metric as usize] {
            Family::Counter(counters) => counters.remove_label_values(&labels),
            Family::Gauge(gauges) => gauges.remove_label_values(&labels),
            Family::Histogram(histograms) => histograms.remove_label_values(&labels),
        };
    }
}

struct Admitted {
    update: MetricUpdate,
    overflowed: Option<&'static str>,
}

impl Series {
    /// The update itself, or the same with its first free label replaced past a cap. An update to
    /// NaN removes nothing: gauges of empty windows are set so by their owner.
    fn admit(&mut self, update: &MetricUpdate, now: Timestamp) -> Admitted {
        let key = (update.metric, update.labels.clone());
        if let Some(used) = self.last_used.get_mut(&key) {
            *used = now;
            return Admitted { update: update.clone(), overflowed: None };
        }
        let count = self.per_family.entry(update.metric).or_default();
        let full = *count >= METRIC_SERIES_PER_FAMILY_MAX
            || self.last_used.len() >= METRIC_SERIES_TOTAL_MAX;
        let row = update.metric.row();
        let free = row.labels.iter().position(|label| matches!(*label, "tenant" | "service"));
        let Some(free) = free.filter(|_| full) else {
            *count += 1;
            self.last_used.insert(key, now);
            return Admitted { update: update.clone(), overflowed: None };
        };
        let mut update = update.clone();
        for (label, value) in row.labels.iter().zip(&mut update.labels) {
            if matches!(*label, "tenant" | "service") {
                *value = Arc::from(OVERFLOW);
            }
        }
        Admitted { update, overflowed: Some(row.labels[free]) }
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

//! The metrics registry: a value made from the table in [`crate::pipeline::metric`], fed after
//! commits, read by `/metrics`. Series of tenants are capped and expire, so that hostile label
//! values can't grow it, and one tenant's can't take the room of the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::TextEncoder;
use prometheus::proto;

use crate::pipeline::limits::{
    METRIC_SERIES_IDLE_MS_MAX, METRIC_SERIES_PER_FAMILY_MAX, METRIC_SERIES_PER_TENANT_MAX,
    METRIC_SERIES_TOTAL_MAX, METRIC_SERIES_WIDE_FAMILY_MAX,
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

/// The series of one metric.
struct Family {
    row: &'static MetricRow,
    /// By all label values, which are compared: the vectors of `prometheus` take two series for
    /// one when their hashes agree, and theirs is over the values without a mark between them.
    cells: HashMap<Labels, Cell>,
    /// How many each tenant has, where it may have one per service.
    by_tenant: HashMap<Arc<str>, usize>,
}

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
    /// The format that answers an `Accept` header (RFC 9110, 12.5.1): OpenMetrics 1.0 when it is
    /// asked for by name and not liked less than plain text.
    #[must_use]
    pub fn negotiate(accept: &str) -> Self {
        let quality = |of: fn(&str, Option<&str>) -> bool| {
            let ranges = accept.split(',').map(media_range);
            let ranges = ranges.filter(|(name, version, _)| of(name, *version));
            ranges.map(|(.., quality)| quality).fold(0.0, f32::max)
        };
        let open = quality(|name, version| {
            name.eq_ignore_ascii_case("application/openmetrics-text")
                && version.is_none_or(|version| version == "1.0.0")
        });
        let text = quality(|name, _| name.eq_ignore_ascii_case("text/plain"));
        if open > 0.0 && open >= text { Self::OpenMetrics } else { Self::Text }
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

/// The name, version and quality of one media range; a quality that is no number is none.
fn media_range(range: &str) -> (&str, Option<&str>, f32) {
    let mut parts = range.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let (mut version, mut quality) = (None, 1.0);
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        match key {
            "version" => version = Some(value.trim_matches('"')),
            "q" => quality = value.parse().unwrap_or(0.0),
            _ => {}
        }
    }
    (name, version, quality)
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
        let families = METRICS.iter().map(Family::new).collect();
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

    /// Drops tenants' series that were not used for [`METRIC_SERIES_IDLE_MS_MAX`]. The others are
    /// few, and their silence says nothing: a gauge may stand for days.
    pub fn expire(&self, now: Timestamp) {
        let mut series = self.lock();
        let Series { families, total } = &mut *series;
        let of_tenants = families.iter_mut().filter(|family| family.row.label("tenant").is_some());
        *total -= of_tenants.map(|family| family.expire(now)).sum::<usize>();
    }

    /// Takes series off at once: whoever showed them shows them no longer.
    pub fn withdraw(&self, withdrawn: &[MetricSeries]) {
        let mut series = self.lock();
        for (metric, labels) in withdrawn {
            let removed = series.families[*metric as usize].remove(labels);
            series.total -= usize::from(removed);
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
            let cells = family.cells.iter();
            cells.map(|(labels, cell)| (Arc::clone(labels), cell.value)).collect()
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
    /// Writes to the update's series. Past a cap a counter goes to the series that stands for what
    /// overflows, and a gauge nowhere, for there it would pass for everybody's; the label in which
    /// they overflow is returned.
    fn write(&mut self, update: &MetricUpdate, now: Timestamp) -> Option<&'static str> {
        let family = &mut self.families[update.metric as usize];
        if update.value.is_nan() {
            self.total -= usize::from(family.remove(&update.labels));
            return None;
        }
        if family.write(&update.labels, update.value, now) {
            return None;
        }
        let mut labels = update.labels.clone();
        for &label in family.capped(&labels, self.total >= METRIC_SERIES_TOTAL_MAX) {
            if let Some(index) = family.row.label(label) {
                labels[index] = Arc::from(OVERFLOW);
            }
        }
        let moved = labels.iter().zip(&update.labels).position(|(new, old)| new != old);
        let left_out = moved.is_some() && family.row.kind == MetricKind::Gauge;
        if !left_out && !family.write(&labels, update.value, now) {
            family.insert(labels.into(), update.value, now);
            self.total += 1;
        }
        moved.map(|index| family.row.labels[index])
    }
}

impl Family {
    fn new(row: &'static MetricRow) -> Self {
        Self { row, cells: HashMap::new(), by_tenant: HashMap::new() }
    }

    /// Writes to a series that exists; says whether it does.
    fn write(&mut self, labels: &[Arc<str>], value: f64, now: Timestamp) -> bool {
        let Some(cell) = self.cells.get_mut(labels) else { return false };
        cell.last_used = now;
        match self.row.kind {
            MetricKind::Counter => cell.value += value.max(0.0),
            MetricKind::Gauge => cell.value = value,
        }
        true
    }

    /// The labels that a cap keeps from having one more value.
    fn capped(&self, labels: &[Arc<str>], all_full: bool) -> &'static [&'static str] {
        // More than a tenant and a window.
        let is_wide = self.row.labels.len() > 2;
        let max =
            if is_wide { METRIC_SERIES_WIDE_FAMILY_MAX } else { METRIC_SERIES_PER_FAMILY_MAX };
        let own = self.crowd(labels).and_then(|tenant| self.by_tenant.get(tenant));
        match own {
            _ if all_full || self.cells.len() >= max => &["tenant", "service"],
            Some(&own) if own >= METRIC_SERIES_PER_TENANT_MAX => &["service"],
            _ => &[],
        }
    }

    fn insert(&mut self, labels: Labels, value: f64, now: Timestamp) {
        debug_assert_eq!(labels.len(), self.row.labels.len(), "{}", self.row.name);
        if let Some(tenant) = self.crowd(&labels) {
            *self.by_tenant.entry(Arc::clone(tenant)).or_default() += 1;
        }
        self.cells.insert(labels, Cell { last_used: now, value });
    }

    fn remove(&mut self, labels: &[Arc<str>]) -> bool {
        let removed = self.cells.remove(labels).is_some();
        if let Some(tenant) = self.crowd(labels).filter(|_| removed)
            && let Some(own) = self.by_tenant.get_mut(tenant)
        {
            *own -= 1;
            if *own == 0 {
                self.by_tenant.remove(tenant);
            }
        }
        removed
    }

    fn expire(&mut self, now: Timestamp) -> usize {
        let is_idle = |cell: &Cell| now.millis_since(cell.last_used) > METRIC_SERIES_IDLE_MS_MAX;
        let idle = self.cells.iter().filter(|(_, cell)| is_idle(cell));
        let idle: Vec<_> = idle.map(|(labels, _)| Arc::clone(labels)).collect();
        idle.iter().filter(|labels| self.remove(labels)).count()
    }

    /// The tenant, in a family where it may have one series per service.
    fn crowd<'a>(&self, labels: &'a [Arc<str>]) -> Option<&'a Arc<str>> {
        self.row.label("service")?;
        self.row.label("tenant").map(|index| &labels[index])
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
    fn openmetrics_is_for_those_who_prefer_the_version_that_is_spoken() {
        let open = "application/openmetrics-text";
        for (accept, expected) in [
            (String::new(), Exposition::Text),
            ("*/*".to_owned(), Exposition::Text),
            (open.to_owned(), Exposition::OpenMetrics),
            (format!("{open};q=0"), Exposition::Text),
            (format!("{open}; version=0.0.1"), Exposition::Text),
            (format!("{open};q=0.3,text/plain;version=0.0.4;q=0.5"), Exposition::Text),
            // Prometheus 3.
            (
                format!(
                    "{open};version=1.0.0;escaping=allow-utf-8;q=0.6,{open};version=0.0.1;q=0.5,\
                     text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                     text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
                ),
                Exposition::OpenMetrics,
            ),
        ] {
            assert_eq!(Exposition::negotiate(&accept), expected, "{accept}");
        }
    }

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
    fn a_tenant_that_invents_services_leaves_the_others_their_room() {
        let metrics = Metrics::new();
        let extra = 5;
        for service in 0..METRIC_SERIES_PER_TENANT_MAX + extra {
            let service = service.to_string();
            let updates = [
                Metric::LogRecords.update(&["bad", &service, "info"], 1.0),
                Metric::ErrorRatio.update(&["bad", &service, "5m"], 0.0),
            ];
            metrics.apply(&updates, Timestamp::EPOCH);
        }
        metrics.apply(&[Metric::LogRecords.update(&["good", "1", "info"], 1.0)], Timestamp::EPOCH);
        let text = metrics.render(Exposition::Text);
        let overflow = format!("service=\"_other\",severity=\"info\",tenant=\"bad\"}} {extra}");
        let ratios = text.lines().filter(|line| line.starts_with("blotter_error_ratio{"));
        assert!(text.contains(&overflow));
        assert!(text.contains("service=\"1\",severity=\"info\",tenant=\"good\"} 1"));
        assert_eq!(ratios.count(), METRIC_SERIES_PER_TENANT_MAX);
        assert!(text.contains("blotter_label_overflow_total{label=\"service\"} 10"));
    }

    #[test]
    fn past_the_cap_no_tenants_gauge_passes_for_that_of_the_others() {
        let metrics = Metrics::new();
        for tenant in 0..=METRIC_SERIES_PER_FAMILY_MAX {
            let update = Metric::HandoverRatio.update(&[&tenant.to_string(), "30m"], 1.0);
            metrics.apply(&[update], Timestamp::EPOCH);
        }
        assert!(!metrics.render(Exposition::Text).contains("tenant=\"_other\""));
        let others = Metric::HandoverRatio.update(&["_other", "30m"], 0.25);
        metrics.apply(&[others], Timestamp::EPOCH);
        let text = metrics.render(Exposition::Text);
        assert!(text.contains("blotter_handover_ratio{tenant=\"_other\",window=\"30m\"} 0.25"));
        assert!(text.contains("blotter_label_overflow_total{label=\"tenant\"} 1"));
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
        metrics
            .apply(&[update.clone(), Metric::EventTime.update(&["3"], f64::NAN)], Timestamp::EPOCH);
        assert!(!metrics.render(Exposition::Text).contains("partition=\"3\""));
    }

    #[test]
    fn idle_tenants_expire_and_what_no_tenant_named_stays() {
        let metrics = Metrics::new();
        let stopped = Metric::PartitionStopped.update(&["logs", "3", "not_text"], 1.0);
        metrics.apply(&[stopped, Metric::BotTurns.update(&["old"], 1.0)], Timestamp::EPOCH);
        let later = Timestamp::from_millis(METRIC_SERIES_IDLE_MS_MAX + 1);
        metrics.apply(&[Metric::BotTurns.update(&["new"], 1.0)], later);
        metrics.expire(later);
        let text = metrics.render(Exposition::Text);
        assert!(text.contains("tenant=\"new\"") && !text.contains("tenant=\"old\""));
        assert!(text.contains("blotter_partition_stopped{"), "{text}");
    }
}

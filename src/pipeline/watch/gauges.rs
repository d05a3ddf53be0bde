//! The gauges of one measures partition: ratios with numerator and denominator, alerts by state.
//! Published at most once a second of `now`, and only for what moved.

use std::collections::BTreeSet;

use super::WatchConfig;
use crate::pipeline::alert::{AlertSeverity, AlertTable, format_duration};
use crate::pipeline::limits::{BUCKET_MS, GAUGES_PUBLISHED_EVERY_MS};
use crate::pipeline::measure::{Bucket, Counts, EventTime, Scope, Series, SeriesTable, Signal};
use crate::pipeline::metric::{Metric, MetricSeries, MetricUpdate};
use crate::pipeline::record::Timestamp;

/// The service label of a total over all services.
const TOTAL: &str = "_all";

#[derive(Default)]
pub(super) struct Gauges {
    touched: Touched,
    shown: Shown,
    published_at: Option<Timestamp>,
    /// Alerts changed since last published.
    pub(super) alerts_changed: bool,
}

/// Series with new numbers.
#[derive(Default)]
struct Touched {
    /// The first of them in order and each once, then as they came.
    series: Vec<Series>,
    ordered: usize,
}

impl Touched {
    fn extend(&mut self, series: impl Iterator<Item = Series>) {
        const UNORDERED_MAX: usize = 4_096;
        self.series.extend(series);
        if self.series.len() > 2 * self.ordered + UNORDERED_MAX {
            self.order();
        }
    }

    fn order(&mut self) {
        self.series.sort();
        self.series.dedup();
        self.ordered = self.series.len();
    }

    /// All of them in order.
    fn take(&mut self) -> Vec<Series> {
        self.order();
        std::mem::take(self).series
    }
}

/// The ratios on show.
#[derive(Default)]
pub(super) struct Shown {
    error_ratios: BTreeSet<Series>,
    handover_ratios: BTreeSet<Scope>,
}

impl Shown {
    /// All series that a measures partition shows: these ratios and what it always shows.
    pub(super) fn series(&self, partition: i32, config: &WatchConfig) -> Vec<MetricSeries> {
        let partition = partition.to_string();
        let mut series =
            vec![Metric::AlertsHeld.series(&[&partition]), Metric::EventTime.series(&[&partition])];
        for (state, severity) in alert_labels() {
            series.push(Metric::Alerts.series(&[state, severity, &partition]));
        }
        let window = format_duration(config.error_window_ms);
        for of in &self.error_ratios {
            let labels = [&*of.scope.label(), &*of.service, &window];
            series.extend(ERROR_RATIO.map(|metric| metric.series(&labels)));
        }
        let window = format_duration(config.handover_window_ms);
        for of in &self.handover_ratios {
            let labels = [&*of.label(), &window];
            series.extend(HANDOVER_RATIO.map(|metric| metric.series(&labels)));
        }
        series
    }
}

fn alert_labels() -> impl Iterator<Item = (&'static str, &'static str)> {
    let severities = |state| AlertSeverity::ALL.map(|severity| (state, severity.name()));
    ["pending", "firing"].into_iter().flat_map(severities)
}

/// Ratio, numerator, denominator.
const ERROR_RATIO: [Metric; 3] =
    [Metric::ErrorRatio, Metric::ErrorRatioErrors, Metric::ErrorRatioRecords];
const HANDOVER_RATIO: [Metric; 3] =
    [Metric::HandoverRatio, Metric::HandoverRatioSessionsHandedOver, Metric::HandoverRatioSessions];

impl Gauges {
    /// Goes on with what an earlier state of the partition has on show.
    pub(super) fn inherit(&mut self, shown: Shown) {
        self.shown = shown;
        self.alerts_changed = true;
        self.touch_all(std::iter::empty());
    }

    /// What is on show, for the state that comes next.
    pub(super) fn take_shown(&mut self) -> Shown {
        std::mem::take(&mut self.shown)
    }

    /// These series have new numbers.
    pub(super) fn touch(&mut self, series: &[Series]) {
        self.touched.extend(series.iter().cloned());
    }

    /// Every window has moved.
    pub(super) fn touch_all(&mut self, series: impl Iterator<Item = Series>) {
        self.touched.extend(series);
        self.touched.extend(self.shown.error_ratios.iter().cloned());
        let scopes = self.shown.handover_ratios.iter();
        self.touched.extend(scopes.map(|scope| Series::new(scope.clone(), "")));
    }

    /// Alerts by state and severity, when any changed.
    pub(super) fn alerts(
        &mut self,
        partition: i32,
        alerts: &AlertTable,
        event_time: &EventTime,
        updates: &mut Vec<MetricUpdate>,
    ) {
        let partition = partition.to_string();
        let held = if event_time.held() { 1.0 } else { 0.0 };
        updates.push(Metric::AlertsHeld.update(&[&partition], held));
        if let Some(watermark) = event_time.watermark() {
            let seconds = seconds(watermark);
            updates.push(Metric::EventTime.update(&[&partition], seconds));
        }
        if !std::mem::take(&mut self.alerts_changed) {
            return;
        }
        let counts = alerts.counts();
        for (state, severity) in alert_labels() {
            let count = counts.get(&(state, severity)).copied().unwrap_or(0);
            let labels = [state, severity, &partition];
            updates.push(Metric::Alerts.update(&labels, f64::from(count)));
        }
    }

    /// The ratios of what moved, if a second has passed.
    pub(super) fn ratios(
        &mut self,
        now: Timestamp,
        config: &WatchConfig,
        table: &SeriesTable,
        updates: &mut Vec<MetricUpdate>,
    ) {
        let waits = self
            .published_at
            .is_some_and(|at| (0..GAUGES_PUBLISHED_EVERY_MS).contains(&now.millis_since(at)));
        if waits || self.touched.series.is_empty() {
            return;
        }
        self.published_at = Some(now);
        if self.touched.series.iter().any(|series| series.scope == Scope::All) {
            self.touched.extend(std::iter::once(Series::new(Scope::All, TOTAL)));
        }
        let touched = self.touched.take();
        let end = Bucket::of(now);
        let window = format_duration(config.error_window_ms);
        for series in &touched {
            self.error_ratio(series, end, (config.error_window_ms, &window), table, updates);
        }
        let mut scopes: Vec<_> = touched.into_iter().map(|series| series.scope).collect();
        scopes.dedup();
        let window = format_duration(config.handover_window_ms);
        for scope in &scopes {
            self.handover_ratio(scope, end, (config.handover_window_ms, &window), table, updates);
        }
    }

    fn error_ratio(
        &mut self,
        series: &Series,
        end: Bucket,
        (window_ms, window): (i64, &str),
        table: &SeriesTable,
        updates: &mut Vec<MetricUpdate>,
    ) {
        let total = series.scope == Scope::All && &*series.service == TOTAL;
        let service = (!total).then_some(&*series.service);
        let sum = table.sum(&series.scope, service, end, window_ms / BUCKET_MS);
        let empty = sum.of(Signal::Records) == 0;
        let known = self.shown.error_ratios.contains(series);
        if empty && !known {
            return;
        }
        let labels = [&*series.scope.label(), &*series.service, window];
        push_ratio(ERROR_RATIO, &labels, &sum, [Signal::Errors, Signal::Records], updates);
        if empty {
            self.shown.error_ratios.remove(series);
        } else if !known {
            self.shown.error_ratios.insert(series.clone());
        }
    }

    fn handover_ratio(
        &mut self,
        scope: &Scope,
        end: Bucket,
        (window_ms, window): (i64, &str),
        table: &SeriesTable,
        updates: &mut Vec<MetricUpdate>,
    ) {
        let sum = table.sum(scope, None, end, window_ms / BUCKET_MS);
        let signals = [Signal::SessionsHandedOver, Signal::Sessions];
        let empty = signals.iter().all(|&signal| sum.of(signal) == 0);
        let known = self.shown.handover_ratios.contains(scope);
        if empty && !known {
            return;
        }
        let labels = [&*scope.label(), window];
        push_ratio(HANDOVER_RATIO, &labels, &sum, signals, updates);
        if empty {
            self.shown.handover_ratios.remove(scope);
        } else if !known {
            self.shown.handover_ratios.insert(scope.clone());
        }
    }
}

/// The ratio, its numerator and its denominator. Of an empty window all three are no number, and so
/// is a ratio to nothing: that withdraws them.
fn push_ratio(
    [ratio, numerator, denominator]: [Metric; 3],
    labels: &[&str],
    sum: &Counts,
    [of, per]: [Signal; 2],
    updates: &mut Vec<MetricUpdate>,
) {
    let (of, per) = (f64::from(sum.of(of)), f64::from(sum.of(per)));
    let unless = |none: bool, value: f64| if none { f64::NAN } else { value };
    let empty = of + per == 0.0;
    updates.push(ratio.update(labels, unless(per == 0.0, of / per)));
    updates.push(numerator.update(labels, unless(empty, of)));
    updates.push(denominator.update(labels, unless(empty, per)));
}

/// Unix seconds, as Prometheus wants times.
fn seconds(time: Timestamp) -> f64 {
    std::time::Duration::from_millis(u64::try_from(time.millis()).unwrap_or(0)).as_secs_f64()
}

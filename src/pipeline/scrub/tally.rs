//! What the open transaction has counted, published when it stands.

use std::collections::HashMap;
use std::sync::Arc;

use crate::pipeline::ingest::SeverityCounts;
use crate::pipeline::limits::SERIES_PER_TRANSACTION_MAX;
use crate::pipeline::measure::{Place, Places};
use crate::pipeline::metric::{Metric, MetricSeries, MetricUpdate};
use crate::pipeline::record::Severity;
use crate::pipeline::redact::rule_names;

/// Counts of one transaction.
#[derive(Default)]
pub(super) struct Tally {
    /// Log records by the number of their place.
    records: Vec<Severities>,
    counts: Counters,
    /// By the bit of a rule.
    rules: HashMap<u32, u64>,
    bytes_in: u64,
    bytes_out: u64,
}

impl Tally {
    /// Log records of a place by severity.
    pub(super) fn records(&mut self, place: Place, severities: &SeverityCounts) {
        if self.records.len() <= place.index() {
            self.records.resize(place.index() + 1, Severities::default());
        }
        for (total, &count) in self.records[place.index()].0.iter_mut().zip(severities) {
            *total = total.saturating_add(count);
        }
    }

    /// Bytes read and written.
    pub(super) fn bytes(&mut self, read: usize, written: usize) {
        self.bytes_in += read as u64;
        self.bytes_out += written as u64;
    }

    /// The rules that spoke in a part of a record, as a bit set.
    pub(super) fn rules(&mut self, mut bits: u64) {
        while bits != 0 {
            *self.rules.entry(bits.trailing_zeros()).or_default() += 1;
            bits &= bits - 1;
        }
    }

    /// Adds to any other counter.
    pub(super) fn add(&mut self, metric: Metric, labels: &[&str], count: u64) {
        if count > 0 {
            self.counts.add(metric, labels, count);
        }
    }

    /// Everything counted, and an empty tally; `places` are those of the records.
    pub(super) fn take(&mut self, places: &Places) -> Vec<MetricUpdate> {
        let mut updates = Vec::new();
        self.take_records(places, &mut updates);
        self.counts.take(&mut updates);
        for (bit, count) in std::mem::take(&mut self.rules) {
            let updates_of = |rule| Metric::RedactionRules.update(&[rule], as_value(count));
            updates.extend(rule_names(1 << bit).map(updates_of));
        }
        for (direction, bytes) in [("in", &mut self.bytes_in), ("out", &mut self.bytes_out)] {
            if *bytes > 0 {
                updates.push(Metric::LogBytes.update(&[direction], as_value(*bytes)));
                *bytes = 0;
            }
        }
        updates
    }

    fn take_records(&mut self, places: &Places, updates: &mut Vec<MetricUpdate>) {
        let severities = Severity::ALL.map(|severity| Arc::<str>::from(severity.name()));
        for (place, counts) in places.iter().zip(&mut self.records) {
            for (count, severity) in counts.0.iter_mut().zip(&severities) {
                let count = u64::from(std::mem::take(count));
                if count > 0 {
                    let labels = [places.label(place), places.service(place), severity];
                    let labels = labels.map(Arc::clone).to_vec();
                    let value = as_value(count);
                    updates.push(MetricUpdate { metric: Metric::LogRecords, labels, value });
                }
            }
        }
    }
}

/// Log records of one place by severity, within one line of the processor's cache.
#[derive(Clone, Copy, Default)]
#[repr(align(32))]
struct Severities(SeverityCounts);

/// Counters by metric and labels. The series are kept when their counts are taken: the same ones
/// come again.
#[derive(Default)]
struct Counters {
    by_key: HashMap<Box<[u8]>, (MetricSeries, u64)>,
    key: Vec<u8>,
}

impl Counters {
    fn add(&mut self, metric: Metric, labels: &[&str], count: u64) {
        self.key.clear();
        self.key.push(metric as u8);
        for label in labels {
            self.key.extend_from_slice(&label.len().to_le_bytes());
            self.key.extend_from_slice(label.as_bytes());
        }
        if let Some((_, sum)) = self.by_key.get_mut(&*self.key) {
            *sum += count;
        } else {
            let labels = labels.iter().map(|&label| Arc::from(label)).collect();
            self.by_key.insert(Box::from(&*self.key), ((metric, labels), count));
        }
    }

    fn take(&mut self, updates: &mut Vec<MetricUpdate>) {
        for ((metric, labels), count) in self.by_key.values_mut() {
            let count = std::mem::take(count);
            if count > 0 {
                let (metric, labels, value) = (*metric, labels.clone(), as_value(count));
                updates.push(MetricUpdate { metric, labels, value });
            }
        }
        if self.by_key.len() > SERIES_PER_TRANSACTION_MAX {
            self.by_key.clear();
        }
    }
}

/// Counts within one transaction stay far below 2^53.
fn as_value(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::record::TenantId;

    #[test]
    fn what_is_taken_is_gone() {
        let (mut tally, mut places) = (Tally::default(), Places::default());
        let tenant = TenantId::new("t");
        let place = places.of(tenant.as_ref(), Some("s"));
        tally.records(place, &[0, 0, 0, 0, 0, 2, 0]);
        let reserved = places.of(TenantId::new("_other").as_ref(), Some("_other"));
        tally.records(reserved, &[0, 0, 0, 0, 0, 1, 0]);
        tally.add(Metric::Redactions, &["email", "value", "a"], 1);
        tally.add(Metric::Redactions, &["email", "value", "a"], 2);
        tally.add(Metric::Redactions, &["email", "valu", "ea"], 1);
        tally.add(Metric::RecordsMasked, &["too_long"], 1);
        tally.bytes(10, 8);
        tally.rules(0b101);
        tally.rules(0b1);
        let updates = tally.take(&places);
        assert!(updates.contains(&Metric::LogRecords.update(&["t", "s", "error"], 2.0)));
        let escaped = ["__other", "__other", "error"];
        assert!(updates.contains(&Metric::LogRecords.update(&escaped, 1.0)));
        assert!(updates.contains(&Metric::LogBytes.update(&["out"], 8.0)));
        assert!(updates.contains(&Metric::RedactionRules.update(&["plus_valid"], 2.0)));
        assert!(updates.contains(&Metric::Redactions.update(&["email", "value", "a"], 3.0)));
        assert_eq!(updates.len(), 9);
        assert!(tally.take(&places).is_empty());
    }
}

//! What the open transaction has counted, published when it stands.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::pipeline::ingest::SeverityCounts;
use crate::pipeline::limits::SERIES_PER_TRANSACTION_MAX;
use crate::pipeline::metric::{Metric, MetricUpdate};
use crate::pipeline::record::Severity;
use crate::pipeline::redact::rule_names;

/// Counts of one transaction. Keys are few: tenants and services seen within 100 ms.
#[derive(Default)]
pub(super) struct Tally {
    /// By tenant, then by service, of which a tenant has few. Names are kept from one transaction
    /// to the next: the same ones come again.
    records: HashMap<Arc<str>, Vec<Service>>,
    services: usize,
    counts: BTreeMap<(Metric, Vec<Arc<str>>), u64>,
    /// By the bit of a rule.
    rules: BTreeMap<u32, u64>,
    bytes_in: u64,
    bytes_out: u64,
}

impl Tally {
    /// Log records of a tenant and service (empty when unknown) by severity.
    pub(super) fn records(&mut self, tenant: &str, service: &str, severities: &SeverityCounts) {
        let known = match self.records.get_mut(tenant) {
            Some(known) => known,
            None => self.records.entry(Arc::from(tenant)).or_default(),
        };
        let at = known.iter().position(|own| &*own.name == service).unwrap_or_else(|| {
            self.services += 1;
            known.push(Service { name: Arc::from(service), counts: [0; Severity::ALL.len()] });
            known.len() - 1
        });
        for (total, &count) in known[at].counts.iter_mut().zip(severities) {
            *total += u64::from(count);
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
            let labels = labels.iter().map(|&label| Arc::from(label)).collect();
            *self.counts.entry((metric, labels)).or_default() += count;
        }
    }

    /// Everything counted, and an empty tally.
    pub(super) fn take(&mut self) -> Vec<MetricUpdate> {
        let mut updates = Vec::new();
        self.take_records(&mut updates);
        for ((metric, labels), count) in std::mem::take(&mut self.counts) {
            updates.push(MetricUpdate { metric, labels, value: as_value(count) });
        }
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

    fn take_records(&mut self, updates: &mut Vec<MetricUpdate>) {
        let severities = Severity::ALL.map(|severity| Arc::<str>::from(severity.name()));
        for (tenant, services) in &mut self.records {
            for service in services {
                for (count, severity) in service.counts.iter_mut().zip(&severities) {
                    let count = std::mem::take(count);
                    if count > 0 {
                        let labels = [tenant, &service.name, severity].map(Arc::clone).to_vec();
                        let value = as_value(count);
                        updates.push(MetricUpdate { metric: Metric::LogRecords, labels, value });
                    }
                }
            }
        }
        if self.services > SERIES_PER_TRANSACTION_MAX {
            self.records.clear();
            self.services = 0;
        }
    }
}

struct Service {
    name: Arc<str>,
    counts: [u64; Severity::ALL.len()],
}

/// Counts within one transaction stay far below 2^53.
fn as_value(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_gone() {
        let mut tally = Tally::default();
        tally.records("t", "s", &[0, 0, 0, 0, 0, 2, 0]);
        tally.add(Metric::RecordsMasked, &["too_long"], 1);
        tally.bytes(10, 8);
        tally.rules(0b101);
        tally.rules(0b1);
        let updates = tally.take();
        assert!(updates.contains(&Metric::LogRecords.update(&["t", "s", "error"], 2.0)));
        assert!(updates.contains(&Metric::LogBytes.update(&["out"], 8.0)));
        assert!(updates.contains(&Metric::RedactionRules.update(&["plus_valid"], 2.0)));
        assert_eq!(updates.len(), 6);
        assert!(tally.take().is_empty());
    }
}

//! What a shard under test has around it: a clock and counters.

use std::sync::Mutex;

use super::*;
use crate::pipeline::record::Timestamp;

impl Clock for Script {
    fn now(&self) -> Timestamp {
        let millis = i64::try_from(self.0.borrow().elapsed.as_millis()).expect("tests are short");
        Timestamp::from_millis(1_000_000 + millis)
    }

    fn monotonic(&self) -> Duration {
        self.0.borrow().elapsed
    }
}

/// Adds up what is published.
#[derive(Default)]
pub(super) struct Counters(pub(super) Mutex<Vec<MetricUpdate>>);

impl MetricSink for Counters {
    fn publish(&self, updates: Vec<MetricUpdate>) {
        self.0.lock().expect("no test panics with it").extend(updates);
    }
}

impl Counters {
    pub(super) fn sum(&self, metric: Metric) -> f64 {
        let updates = self.0.lock().expect("no test panics with it");
        updates.iter().filter(|update| update.metric == metric).map(|update| update.value).sum()
    }
}

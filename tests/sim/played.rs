//! What happened in the runs: a simulation that disturbs nothing proves nothing.

use std::collections::BTreeMap;

/// What must have happened in at least one of a hundred runs.
const EXPECTED: [&str; 14] = [
    "crash",
    "stall",
    "lost request",
    "lost answer",
    "refusal",
    "late commit",
    "late commit refused",
    "fence",
    "rebalance",
    "stop",
    "second process",
    "growth",
    "mistake",
    "alert fired",
];

/// How often each thing happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Played(BTreeMap<&'static str, u64>);

impl Played {
    /// One more.
    pub(crate) fn count(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    /// So many more.
    pub(crate) fn add(&mut self, what: &'static str, count: u64) {
        *self.0.entry(what).or_default() += count;
    }

    /// Adds up two runs.
    pub(crate) fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(what, count)| self.add(what, *count));
    }

    /// What happened too seldom in `runs` runs to show anything.
    pub(crate) fn missing(&self, runs: u64) -> Vec<&'static str> {
        let count = |what: &&str| self.0.get(what).copied().unwrap_or(0);
        EXPECTED.into_iter().filter(|what| count(what) * 100 < runs).collect()
    }
}

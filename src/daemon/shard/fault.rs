//! A test aid: named points at which a process can be made to say "I am here" and to wait, so that
//! a test kills or stops it exactly there. Inactive unless the settings name a point.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// A point in the life of a transaction or a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultPoint {
    /// Every output of the transaction is in the producer's queue.
    AfterSend,
    /// The offsets are in the transaction, the commit has not been asked for.
    AfterSendOffsets,
    /// The commit has succeeded, the state has not advanced.
    AfterEndTransaction,
    /// The state has advanced, the counters are not published.
    BeforeCounters,
    /// A partition's restore got its first answer.
    DuringRestore,
    /// Partitions were revoked and committed, and are not yet given back.
    DuringRebalance,
}

impl FaultPoint {
    /// Every point.
    pub const ALL: [Self; 6] = [
        Self::AfterSend,
        Self::AfterSendOffsets,
        Self::AfterEndTransaction,
        Self::BeforeCounters,
        Self::DuringRestore,
        Self::DuringRebalance,
    ];

    /// The name used in settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AfterSend => "after_send",
            Self::AfterSendOffsets => "after_send_offsets",
            Self::AfterEndTransaction => "after_end_txn",
            Self::BeforeCounters => "before_counters",
            Self::DuringRestore => "during_restore",
            Self::DuringRebalance => "during_rebalance",
        }
    }

    /// The point of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|point| point.name() == name)
    }
}

/// Told whenever a shard passes a point.
pub trait FaultHook: Send + Sync {
    /// The shard is at `point`; it goes on when this returns.
    fn reached(&self, point: FaultPoint);
}

/// What production uses: nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFaults;

impl FaultHook for NoFaults {
    fn reached(&self, _point: FaultPoint) {}
}

/// Writes a file when a point is reached for the first time, and waits until somebody removes it.
#[derive(Debug)]
pub struct MarkerFile {
    point: FaultPoint,
    marker: PathBuf,
    reached: AtomicBool,
}

impl MarkerFile {
    /// Waits at `point` as long as the file `marker`, which it writes, exists.
    #[must_use]
    pub fn new(point: FaultPoint, marker: PathBuf) -> Self {
        Self { point, marker, reached: AtomicBool::new(false) }
    }
}

impl FaultHook for MarkerFile {
    fn reached(&self, point: FaultPoint) {
        if point != self.point || self.reached.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::warn!(point = point.name(), "debug.fault_point reached: waiting");
        if fs::write(&self.marker, point.name()).is_err() {
            return;
        }
        while self.marker.exists() {
            thread::park_timeout(Duration::from_millis(20));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_written_once_and_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let marker = folder.path().join("here");
        let hook = std::sync::Arc::new(MarkerFile::new(FaultPoint::AfterSend, marker.clone()));
        hook.reached(FaultPoint::DuringRestore);
        assert!(!marker.exists());
        let waiting = {
            let hook = std::sync::Arc::clone(&hook);
            thread::spawn(move || hook.reached(FaultPoint::AfterSend))
        };
        while !marker.exists() {
            thread::yield_now();
        }
        assert!(!waiting.is_finished());
        fs::remove_file(&marker).unwrap();
        waiting.join().unwrap();
        hook.reached(FaultPoint::AfterSend);
        assert!(!marker.exists());
    }

    #[test]
    fn names_lead_back_to_their_points() {
        for point in FaultPoint::ALL {
            assert_eq!(FaultPoint::from_name(point.name()), Some(point));
        }
        assert_eq!(FaultPoint::from_name("nowhere"), None);
    }
}

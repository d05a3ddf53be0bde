//! A clock that stands still until it is moved.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::daemon::clock::Clock;
use crate::pipeline::record::Timestamp;

/// Virtual time, shared by everything that lives by it. It starts at a fixed day and runs forward
/// only when told to.
#[derive(Debug, Default)]
pub struct VirtualClock {
    elapsed_ms: AtomicI64,
}

/// 2026-01-01T00:00:00Z.
const START: Timestamp = Timestamp::from_millis(1_767_225_600_000);

impl VirtualClock {
    /// A clock at its first moment.
    #[must_use]
    pub const fn new() -> Self {
        Self { elapsed_ms: AtomicI64::new(0) }
    }

    /// Moves on by `millis`.
    pub fn advance(&self, millis: i64) {
        self.elapsed_ms.fetch_add(millis.max(0), Ordering::Relaxed);
    }

    /// Moves on to `time`; no effect when that has passed.
    pub fn advance_to(&self, time: Timestamp) {
        self.elapsed_ms.fetch_max(time.millis_since(START), Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        START.plus_millis(self.elapsed_ms.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        let millis = self.elapsed_ms.load(Ordering::Relaxed);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }
}

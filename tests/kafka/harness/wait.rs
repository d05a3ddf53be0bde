//! Waiting for conditions, never for time to pass.

use std::time::{Duration, Instant, SystemTime};

/// A point in time after which a wait has failed.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// `seconds` from now.
    pub(crate) fn after_seconds(seconds: u64) -> Self {
        Self(now() + Duration::from_secs(seconds))
    }

    /// Whether it has passed.
    pub(crate) fn is_over(self) -> bool {
        now() >= self.0
    }
}

/// Asks `condition` every few milliseconds until it holds.
///
/// # Panics
/// Names `what` when it does not hold within `seconds`.
pub(crate) fn wait_until(what: &str, seconds: u64, mut condition: impl FnMut() -> bool) {
    let deadline = Deadline::after_seconds(seconds);
    while !condition() {
        assert!(!deadline.is_over(), "not within {seconds} s: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// The current instant, for measuring.
#[expect(clippy::disallowed_methods, reason = "tests measure and wait in real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Seconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "makes names unique over runs on one cluster")]
pub(crate) fn seconds_since_epoch() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |age| age.as_secs())
}

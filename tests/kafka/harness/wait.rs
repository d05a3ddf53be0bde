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

/// Milliseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "names and time stamps of records are of now")]
pub(crate) fn millis_since_epoch() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).expect("it is not that late")
}

//! How a shard is told to end.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How far a shard is to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopLevel {
    /// Go on.
    #[default]
    Run,
    /// Commit what is open, leave the group, end (first signal).
    Drain,
    /// End at once; what is open is aborted by the next owner (second signal).
    Now,
}

/// A shared handle that only rises: run, drain, now.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<(Mutex<StopLevel>, Condvar)>);

impl Stop {
    /// The level asked for.
    #[must_use]
    pub fn level(&self) -> StopLevel {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for `level`, unless more was asked for already.
    pub fn request(&self, level: StopLevel) {
        let mut current = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        *current = (*current).max(level);
        self.0.1.notify_all();
    }

    /// Waits until anything but `Run` is asked for, at most `timeout`; returns the level.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> StopLevel {
        let current = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (current, _) = self
            .0
            .1
            .wait_timeout_while(current, timeout, |level| *level == StopLevel::Run)
            .unwrap_or_else(PoisonError::into_inner);
        *current
    }
}

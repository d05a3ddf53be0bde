//! What a shard tells the outside about itself.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::pipeline::record::TopicPartition;
use crate::pipeline::step::PartitionStop;

/// A shard's state as of its last tick.
#[derive(Clone, Debug, Default)]
pub struct ShardHealth {
    /// Monotonic time of the last turn of the loop (of the shard's clock).
    pub last_tick: Duration,
    /// Whether the group has given an assignment (which may be empty) to this member.
    pub joined: bool,
    /// Partitions assigned.
    pub assigned: usize,
    /// Partitions assigned and not yet reading, stopped ones left out.
    pub restoring: usize,
    /// Partitions stopped or paused, with the reason.
    pub stopped: Vec<(TopicPartition, PartitionStop)>,
    /// Partitions that gave nothing in spite of lag when the shard was last built anew for that, and
    /// have not moved since.
    pub stalled: BTreeSet<TopicPartition>,
    /// Age of the open transaction.
    pub transaction_age: Option<Duration>,
    /// Failures since the last committed transaction.
    pub failures: u32,
    /// The last failure in words; holds no record content.
    pub last_failure: Option<String>,
}

/// Where a shard puts its health and others read it.
#[derive(Clone, Debug, Default)]
pub struct HealthCell(Arc<Mutex<ShardHealth>>);

impl HealthCell {
    /// A copy of the newest state.
    #[must_use]
    pub fn read(&self) -> ShardHealth {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the state.
    pub fn update(&self, change: impl FnOnce(&mut ShardHealth)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

//! What a shard remembers of a partition.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::daemon::broker::Ticket;
use crate::daemon::restore::Restore;
use crate::pipeline::record::TopicPartition;
use crate::pipeline::step::PartitionStop;

/// One assigned partition.
pub(super) struct Partition {
    pub(super) phase: Phase,
    /// Offset of the next record to take.
    pub(super) position: i64,
    /// What the last committed transaction of this assignment said.
    pub(super) memory: Option<Memory>,
    /// The writers that have been fenced for it in this assignment.
    pub(super) fenced: BTreeSet<String>,
    /// Restored, and no transaction has carried its offsets yet.
    pub(super) fresh: bool,
    /// When it last moved or was seen at its end.
    pub(super) progress_at: Duration,
    /// Records to its end, by the client's statistics.
    pub(super) lag: u64,
    /// How often it was stopped or paused since it last moved.
    pub(super) holds: u32,
    /// The reason of the alarm that is on.
    pub(super) alarm: Option<&'static str>,
}

/// Where a partition stands.
pub(super) enum Phase {
    /// Being restored; the stage may write nothing for it.
    Restoring(Box<Restore>),
    /// Restored while the shard is on its way back: read from here once it is there.
    Restored { position: i64 },
    /// After a failure: does the committed offset equal the memory?
    Checking(Check),
    /// Read.
    Running,
    /// Not read until `retry_at`.
    Held(Hold),
}

/// A look at the committed offset after a failure.
pub(super) enum Check {
    /// Waits for the new producer.
    Unasked,
    /// Asked, not answered.
    Asked(Ticket),
    /// The committed offset found, if any.
    Answered(Option<Memory>),
}

/// A partition that is stopped or paused.
pub(super) struct Hold {
    pub(super) stop: PartitionStop,
    /// [`Duration::MAX`] when it is not tried again.
    pub(super) retry_at: Duration,
    /// Whether the stage still holds its state, so that it may write for it.
    pub(super) state_kept: bool,
    /// An output that must be there before it is tried again.
    pub(super) awaits: Option<TopicPartition>,
}

/// How long a partition is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// It is tried again after a while.
    Retry,
    /// It is tried again once this output is there.
    Writable(TopicPartition),
    /// The stage asked for it: until an operator has acted and the shard is built anew.
    Rebuilt,
}

/// A committed offset with its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) offset: i64,
    pub(super) metadata: String,
}

impl Partition {
    /// Just assigned.
    pub(super) fn assigned() -> Self {
        Self {
            phase: Phase::Restoring(Box::new(Restore::queued())),
            position: 0,
            memory: None,
            fenced: BTreeSet::new(),
            fresh: false,
            progress_at: Duration::ZERO,
            lag: 0,
            holds: 0,
            alarm: None,
        }
    }

    /// Its state is lost: it starts from its first question.
    pub(super) fn restart(&mut self, at: Option<Duration>) {
        let restore = at.map_or_else(Restore::queued, Restore::queued_until);
        self.phase = Phase::Restoring(Box::new(restore));
        self.memory = None;
        self.fresh = false;
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// Whether a transaction may carry its offset.
    pub(super) fn is_writable(&self) -> bool {
        match &self.phase {
            Phase::Running => true,
            Phase::Held(hold) => hold.state_kept,
            Phase::Restoring(_) | Phase::Restored { .. } | Phase::Checking(_) => false,
        }
    }
}

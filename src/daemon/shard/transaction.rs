//! One transaction: outputs, drain, offsets, commit, and only then the state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::recovery::{Failure, Mode};
use super::{FaultPoint, Shard, ShardConfig, Stop, StopLevel};
use crate::daemon::broker::{Broker, BrokerError, BrokerErrorKind, SendError};
use crate::daemon::clock::Clock;
use crate::daemon::restore::guarded;
use crate::daemon::shard::partition::Memory;
use crate::pipeline::limits;
use crate::pipeline::metric::Metric;
use crate::pipeline::record::TopicPartition;
use crate::pipeline::step::{Delivery, OffsetCommit, Stage};

/// Wait for room in the producer's queue, and before a retriable call is repeated.
const ROOM_WAIT: Duration = Duration::from_millis(10);

/// What the transaction being filled holds so far.
#[derive(Default)]
pub(super) struct Transaction {
    since: Option<Duration>,
    begun: bool,
    bytes: usize,
    pub(super) records: usize,
    /// First and last offset taken, by partition.
    pub(super) taken: BTreeMap<TopicPartition, (i64, i64)>,
    /// Topics written to, and for which source partition; none when for all of them.
    pub(super) written: BTreeSet<(Arc<str>, Option<TopicPartition>)>,
    /// When the last one was committed.
    committed_at: Duration,
    /// Whether committing the last one took less than an interval.
    is_prompt: bool,
    /// Whether a poll came back with room left since the last one: nothing waits to be read.
    ran_dry: bool,
}

impl Transaction {
    /// When its first content came.
    pub(super) fn since(&self) -> Option<Duration> {
        self.since
    }

    /// Counts one record taken.
    pub(super) fn count(&mut self, bytes: usize) {
        self.records += 1;
        self.bytes += bytes;
    }

    /// Notes that records `first..=last` of a partition were taken.
    pub(super) fn took(
        &mut self,
        topic_partition: &TopicPartition,
        first: i64,
        last: i64,
        monotonic: Duration,
    ) {
        self.touch(monotonic);
        match self.taken.get_mut(topic_partition) {
            Some(range) => range.1 = last,
            None => {
                self.taken.insert(topic_partition.clone(), (first, last));
            }
        }
    }

    /// Notes whether a poll was full.
    pub(super) fn polled(&mut self, is_full: bool) {
        self.ran_dry |= !is_full;
    }

    pub(super) fn touch(&mut self, monotonic: Duration) {
        self.since.get_or_insert(monotonic);
    }

    pub(super) fn reset(&mut self) {
        *self = Self { committed_at: self.committed_at, ..Self::default() };
    }
}

impl<B: Broker, S: Stage, C: Clock> Shard<B, S, C> {
    /// When the stage's timer asks for a transaction, in monotonic time, which is `monotonic` now;
    /// never sooner than one interval after the last one.
    pub(super) fn timer(&self, monotonic: Duration) -> Option<Duration> {
        let now = self.clock.now();
        let due = self.has_writable().then(|| self.stage.due(now)).flatten()?;
        let millis = u64::try_from(due.millis_since(now)).unwrap_or(0);
        let at = monotonic.saturating_add(Duration::from_millis(millis));
        Some(at.max(self.transaction.committed_at + self.config.commit_interval))
    }

    /// Commits when the interval, the size, the stage's timer or a fresh restore asks for it.
    pub(super) fn commit_when_due(&mut self, stop: &Stop) -> Result<(), Failure> {
        if !matches!(self.mode, Mode::Running) || !self.has_writable() {
            return Ok(());
        }
        let monotonic = self.clock.monotonic();
        if self.stage.is_dirty() {
            self.transaction.touch(monotonic);
        }
        let interval = self.config.commit_interval * self.growth();
        let aged =
            self.transaction.since.is_some_and(|since| monotonic.saturating_sub(since) >= interval);
        let fresh =
            self.partitions.values().any(|partition| partition.fresh && partition.is_running());
        if aged
            || fresh
            || self.is_full()
            || self.timer(monotonic).is_some_and(|at| at <= monotonic)
        {
            return self.commit_now(stop);
        }
        Ok(())
    }

    /// Commits what there is, if anything (before partitions go, and at the end).
    pub(super) fn commit(&mut self, stop: &Stop) -> Result<(), Failure> {
        let content = self.transaction.since.is_some() || self.stage.is_dirty();
        if content && matches!(self.mode, Mode::Running) && self.has_writable() {
            return self.commit_now(stop);
        }
        Ok(())
    }

    pub(super) fn is_full(&self) -> bool {
        let times = self.transaction.bytes / self.config.commit_bytes_max.max(1);
        times > 0 && times >= usize::try_from(self.growth()).unwrap_or(usize::MAX)
            || self.isolation.limit().is_some_and(|limit| self.transaction.records >= limit)
    }

    /// How much further than usual the open transaction may go on. Each one costs the same for what
    /// it holds once (seals, counts of a series, the commit itself), so that fewer are cheaper; who
    /// is behind anyway is served sooner by that, as long as it is not the brokers that are slow.
    fn growth(&self) -> u32 {
        if !self.transaction.is_prompt || self.transaction.ran_dry {
            return 1;
        }
        let ShardConfig { commit_interval, commit_growth_max, transaction_step_timeout, .. } =
            &self.config;
        // However long the backlog, it ends well before its time-out.
        let fits = |growth: &u32| *commit_interval * *growth <= *transaction_step_timeout;
        (1..=*commit_growth_max).rev().find(fits).unwrap_or(1)
    }

    pub(super) fn commit_now(&mut self, stop: &Stop) -> Result<(), Failure> {
        let monotonic = self.clock.monotonic();
        self.transaction.touch(monotonic);
        let now = self.clock.now();
        guarded(|| self.stage.close(now, &mut self.outputs))
            .ok_or_else(|| Failure::in_record("panic", "closing the transaction panicked"))?;
        self.send_outputs(None, stop)?;
        self.pass(FaultPoint::AfterSend, self.transaction.records);
        let timeout = self.config.transaction_step_timeout;
        let deliveries =
            if self.transaction.begun { self.broker.drain(timeout)? } else { Vec::new() };
        unless_told(stop)?;
        let offsets = self.offsets(&deliveries)?;
        if offsets.is_empty() {
            self.stands(offsets);
            return Ok(());
        }
        if !self.transaction.begun {
            self.begin()?;
        }
        self.send_offsets(&offsets)?;
        self.pass(FaultPoint::AfterSendOffsets, self.transaction.records);
        unless_told(stop)?;
        if let Err(error) = self.broker.commit(timeout) {
            return Err(Failure::unknown(error, offsets));
        }
        self.pass(FaultPoint::AfterEndTransaction, self.transaction.records);
        self.stands(offsets);
        let took = self.clock.monotonic().saturating_sub(monotonic);
        self.transaction.is_prompt = took < self.config.commit_interval;
        self.publish(Metric::Transactions, &[self.config.stage, "committed"], 1.0);
        Ok(())
    }

    /// The transaction stands: now, and only now, the state advances and counters are published.
    pub(super) fn stands(&mut self, offsets: Vec<OffsetCommit>) {
        let updates = self.stage.committed();
        for commit in offsets {
            if let Some(partition) = self.partitions.get_mut(&commit.topic_partition) {
                if partition.memory.as_ref().is_some_and(|memory| memory.offset < commit.offset) {
                    partition.holds = 0;
                }
                partition.memory =
                    Some(Memory { offset: commit.offset, metadata: commit.metadata });
            }
        }
        for partition in self.partitions.values_mut() {
            partition.fresh = false;
        }
        self.isolation.committed(&self.transaction.taken);
        self.unwritable.committed();
        let records = self.transaction.records;
        self.transaction.reset();
        self.transaction.committed_at = self.clock.monotonic();
        self.failures = 0;
        self.last_failure = None;
        self.pass(FaultPoint::BeforeCounters, records);
        if !updates.is_empty() {
            self.metrics.publish(updates);
        }
    }

    /// Sends everything in the arena, which was written for `source` or, without one, for all; a full
    /// queue is back-pressure, never growth.
    pub(super) fn send_outputs(
        &mut self,
        source: Option<&TopicPartition>,
        stop: &Stop,
    ) -> Result<(), Failure> {
        if self.outputs.is_empty() {
            return Ok(());
        }
        if !self.transaction.begun {
            self.begin()?;
        }
        let deadline = self.clock.monotonic() + self.config.transaction_step_timeout;
        let mut next = 0;
        let mut topics: Vec<Arc<str>> = Vec::new();
        loop {
            let mut refused = None;
            let (broker, written) = (&mut self.broker, &mut self.transaction.written);
            next = self.outputs.for_each_from(next, |record| {
                if !topics.contains(record.topic) {
                    topics.push(Arc::clone(record.topic));
                    written.insert((Arc::clone(record.topic), source.cloned()));
                }
                refused = broker.send(&record).err();
                refused.is_none()
            });
            match refused {
                None => break,
                Some(SendError::Broker(error)) => return Err(error.into()),
                Some(SendError::QueueFull) => {}
            }
            if self.clock.monotonic() >= deadline {
                return Err(Failure::too_slow("queue_full", "the producer's queue stayed full"));
            }
            unless_told(stop)?;
            self.broker.await_room(ROOM_WAIT)?;
        }
        self.outputs.clear();
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Failure> {
        self.broker.begin()?;
        self.transaction.begun = true;
        self.transaction.touch(self.clock.monotonic());
        Ok(())
    }

    /// The offsets of this transaction, checked: every partition is ours, whatever was read is
    /// covered, and nothing is written without any. The broker checks none of this.
    fn offsets(&mut self, deliveries: &[Delivery]) -> Result<Vec<OffsetCommit>, Failure> {
        let offsets = guarded(|| self.stage.offsets(deliveries))
            .ok_or_else(|| Failure::in_record("panic", "making the offsets panicked"))?;
        if offsets.is_empty() && self.transaction.begun {
            return Err(Failure::new("no_offsets", "a transaction without offsets"));
        }
        let foreign = offsets.iter().find(|commit| {
            !self.partitions.get(&commit.topic_partition).is_some_and(|p| p.is_writable())
        });
        if let Some(commit) = foreign {
            let detail = format!("{} is not ours to commit", commit.topic_partition);
            return Err(Failure::new("not_owned", detail));
        }
        let long = offsets.iter().find(|c| c.metadata.len() > limits::OFFSET_METADATA_BYTES_MAX);
        if let Some(commit) = long {
            let detail = format!("{} bytes for {}", commit.metadata.len(), commit.topic_partition);
            return Err(Failure::new("metadata_too_long", detail));
        }
        for (topic_partition, (_, last)) in &self.transaction.taken {
            let covered = offsets.iter().any(|commit| {
                commit.topic_partition == *topic_partition && commit.offset == last + 1
            });
            if !covered {
                let detail = format!("{topic_partition} was read to {last} and is not covered");
                return Err(Failure::new("not_covered", detail));
            }
        }
        Ok(offsets)
    }

    fn send_offsets(&mut self, offsets: &[OffsetCommit]) -> Result<(), BrokerError> {
        let timeout = self.config.transaction_step_timeout;
        let deadline = self.clock.monotonic() + timeout;
        loop {
            let left = deadline.saturating_sub(self.clock.monotonic());
            match self.broker.send_offsets(offsets, left) {
                Err(error) if error.kind == BrokerErrorKind::Retriable && !left.is_zero() => {
                    self.broker.await_room(ROOM_WAIT)?;
                }
                result => return result,
            }
        }
    }
}

/// Between two calls that may take long.
fn unless_told(stop: &Stop) -> Result<(), Failure> {
    match stop.level() {
        StopLevel::Now => Err(Failure::new("stopped", "told to end at once")),
        StopLevel::Run | StopLevel::Drain => Ok(()),
    }
}

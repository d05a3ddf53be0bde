//! The one way back from every failed transaction: drop the producer, build a new one (which ends
//! what was open), ask for the committed offsets, go on from there. A partition whose committed
//! offset and metadata equal the memory keeps its state; the others are restored.

use std::time::Duration;

use super::Shard;
use super::partition::{Check, Memory, Partition, Phase, Until};
use crate::daemon::broker::{Broker, BrokerError, BrokerErrorKind, LookupFailure, Ticket};
use crate::daemon::clock::Clock;
use crate::pipeline::metric::Metric;
use crate::pipeline::record::TopicPartition;
use crate::pipeline::step::{Lookup, LookupAnswer, OffsetCommit, PartitionStop, Stage};

/// Transactions in a row that took too long, after which the next ones are smaller.
const TIME_OUTS_BEFORE_HALVING: u32 = 2;

/// Whether the shard may write.
pub(super) enum Mode {
    /// Yes.
    Running,
    /// The producer is to be built anew at `at`.
    Recovering {
        at: Duration,
        attempts: u32,
        /// The offsets of a transaction whose outcome is unknown.
        unknown: Option<Vec<OffsetCommit>>,
    },
    /// The committed offsets have been asked for.
    Checking { until: Duration, unknown: Option<Vec<OffsetCommit>> },
}

/// A failed transaction.
#[derive(Debug)]
pub(super) struct Failure {
    /// A bounded word for labels.
    pub(super) cause: &'static str,
    pub(super) detail: String,
    /// Set when the commit was asked for: whether it stands is unknown.
    unknown: Option<Vec<OffsetCommit>>,
    /// Whether the cause lies in one of the records.
    in_record: bool,
    /// Whether it took too long.
    timed_out: bool,
    /// Whether the same records may be tried again at once.
    immediate: bool,
    /// The output that could not be written, when the client names it.
    pub(super) output: Option<TopicPartition>,
    /// Whether an output that is missing or forbidden would explain it.
    in_output: bool,
    /// Set when the broker can't be used any more.
    end: Option<Box<BrokerError>>,
}

impl Failure {
    pub(super) fn new(cause: &'static str, detail: impl Into<String>) -> Self {
        Self {
            cause,
            detail: detail.into(),
            unknown: None,
            in_record: false,
            timed_out: false,
            immediate: false,
            output: None,
            in_output: false,
            end: None,
        }
    }

    /// A failure whose cause lies in one of the transaction's records, not known in which.
    pub(super) fn in_record(cause: &'static str, detail: impl Into<String>) -> Self {
        Self { in_record: true, ..Self::new(cause, detail) }
    }

    /// A failure of a transaction that took too long.
    pub(super) fn too_slow(cause: &'static str, detail: impl Into<String>) -> Self {
        Self { timed_out: true, ..Self::new(cause, detail) }
    }

    /// A failure of a record that is known, so that the next attempt goes another way.
    pub(super) fn isolated(cause: &'static str, detail: impl Into<String>) -> Self {
        Self { immediate: true, ..Self::new(cause, detail) }
    }

    /// A failed commit of `offsets`.
    pub(super) fn unknown(error: BrokerError, offsets: Vec<OffsetCommit>) -> Self {
        Self { unknown: Some(offsets), in_record: false, ..Self::from(error) }
    }
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        let in_record = error.kind == BrokerErrorKind::RecordRefused;
        let timed_out = error.kind == BrokerErrorKind::TimedOut;
        let in_output = matches!(
            error.kind,
            BrokerErrorKind::UnknownPartition | BrokerErrorKind::NotAuthorized
        );
        let end = (error.kind == BrokerErrorKind::InstanceFenced).then(|| Box::new(error.clone()));
        let own = Self::new(error.kind.name(), error.to_string());
        Self { in_record, timed_out, in_output, end, output: error.output, ..own }
    }
}

impl<B: Broker, S: Stage, C: Clock> Shard<B, S, C> {
    /// Takes the way back. Nothing of the failed transaction counts; every partition that was read
    /// is paused until its committed offset is known.
    pub(super) fn fall_back(&mut self, failure: Failure) -> Result<(), BrokerError> {
        self.failures = self.failures.saturating_add(1);
        tracing::warn!(
            shard = self.config.shard,
            cause = failure.cause,
            detail = failure.detail,
            failures = self.failures,
            "transaction failed; going back to the committed offsets"
        );
        self.last_failure = Some(failure.detail.clone());
        let outcome = if failure.unknown.is_some() { "unknown" } else { "failed" };
        self.publish(Metric::Transactions, &[self.config.stage, outcome], 1.0);
        self.publish(Metric::ShardRebuilds, &[self.config.stage, failure.cause], 1.0);
        if let Some(error) = failure.end {
            return Err(*error);
        }
        let isolating = failure.in_record
            && self.isolation.failed(
                &self.transaction.taken,
                self.transaction.records,
                failure.cause,
            );
        let slow = failure.timed_out && self.failures >= TIME_OUTS_BEFORE_HALVING;
        if failure.timed_out || failure.in_output {
            // A client waits for a topic that went away rather than say so. Asked at once: a
            // transaction that needs it not may stand before the next one fails again.
            self.suspect_outputs(&failure);
        }
        if slow {
            self.isolation.too_slow(&self.transaction.taken, self.transaction.records);
        }
        self.outputs.clear();
        self.transaction.reset();
        if failure.unknown.is_none() {
            let lost = self.stage.discard();
            self.forget(&lost);
        }
        for (topic_partition, partition) in &mut self.partitions {
            if !partition.is_running() {
                continue;
            }
            partition.phase = Phase::Checking(Check::Unasked);
            match self.broker.pause(topic_partition) {
                Err(error) if error.kind.ends_consumer() => return Err(error),
                _ => {}
            }
        }
        let pause = if isolating || failure.immediate { Duration::ZERO } else { self.back_off() };
        let at = self.clock.monotonic() + pause;
        self.mode = Mode::Recovering { at, attempts: 0, unknown: failure.unknown };
        Ok(())
    }

    /// The first failure is repaired at once, further ones wait longer and longer.
    fn back_off(&self) -> Duration {
        match self.failures {
            0 | 1 => Duration::ZERO,
            more => {
                let factor = 1_u32 << (more - 2).min(16);
                self.config.back_off_min.saturating_mul(factor).min(self.config.back_off_max)
            }
        }
    }

    /// The next step of the way back, if it is time.
    pub(super) fn recover_when_due(&mut self) -> Result<(), BrokerError> {
        let monotonic = self.clock.monotonic();
        match &mut self.mode {
            Mode::Recovering { at, attempts, unknown } if *at <= monotonic => {
                let (attempts, unknown) = (*attempts + 1, unknown.take());
                match self.broker.reset_producer(self.config.reset_timeout) {
                    Ok(()) => self.check(unknown),
                    Err(error) => return self.reset_failed(error, attempts, unknown),
                }
            }
            Mode::Running | Mode::Recovering { .. } | Mode::Checking { .. } => {}
        }
        if let Mode::Checking { until, .. } = &self.mode {
            let open = |p: &Partition| matches!(p.phase, Phase::Checking(Check::Asked(_)));
            let waits = self.partitions.values().any(open) || self.unwritable.is_asking();
            if *until <= monotonic || !waits {
                return self.resolve();
            }
        }
        Ok(())
    }

    fn reset_failed(
        &mut self,
        error: BrokerError,
        attempts: u32,
        unknown: Option<Vec<OffsetCommit>>,
    ) -> Result<(), BrokerError> {
        if error.kind.ends_consumer() || attempts >= self.config.reset_attempts_max {
            return Err(error);
        }
        tracing::warn!(shard = self.config.shard, %error, attempts, "no new producer yet");
        self.failures = self.failures.saturating_add(1);
        self.last_failure = Some(error.to_string());
        let at = self.clock.monotonic() + self.back_off();
        self.mode = Mode::Recovering { at, attempts, unknown };
        Ok(())
    }

    /// Asks for the committed offset of every partition whose state may be kept.
    fn check(&mut self, unknown: Option<Vec<OffsetCommit>>) {
        for (topic_partition, partition) in &mut self.partitions {
            if matches!(partition.phase, Phase::Checking(_)) {
                self.next_ticket += 1;
                let ticket = Ticket(self.next_ticket);
                partition.phase = Phase::Checking(Check::Asked(ticket));
                self.broker.lookup(ticket, topic_partition, Lookup::Committed);
            }
        }
        let until = self.clock.monotonic() + self.config.check_timeout;
        self.mode = Mode::Checking { until, unknown };
    }

    /// Takes the answer to a check; `false` when `ticket` belongs to something else.
    pub(super) fn check_answered(
        &mut self,
        ticket: Ticket,
        topic_partition: &TopicPartition,
        result: &Result<LookupAnswer, LookupFailure>,
    ) -> bool {
        let Some(partition) = self.partitions.get_mut(topic_partition) else { return false };
        match &partition.phase {
            Phase::Checking(Check::Asked(asked)) if *asked == ticket => {
                let found = match result {
                    Ok(LookupAnswer::Committed { offset: Some(offset), metadata }) => {
                        Some(Memory { offset: *offset, metadata: metadata.clone() })
                    }
                    _ => None,
                };
                partition.phase = Phase::Checking(Check::Answered(found));
                true
            }
            _ => false,
        }
    }

    /// Everything that can be known is known: decides an unknown outcome, starts the partitions
    /// whose memory holds and has the others restored.
    fn resolve(&mut self) -> Result<(), BrokerError> {
        let unknown = match std::mem::replace(&mut self.mode, Mode::Running) {
            Mode::Checking { unknown, .. } => unknown,
            Mode::Running | Mode::Recovering { .. } => None,
        };
        if let Some(offsets) = unknown {
            match self.outcome(&offsets) {
                Some(true) => self.stands(offsets),
                Some(false) => {
                    let lost = self.stage.discard();
                    self.forget(&lost);
                }
                None => self.suspend(),
            }
        }
        let topic_partitions: Vec<TopicPartition> = self.partitions.keys().cloned().collect();
        for topic_partition in topic_partitions {
            let Some(partition) = self.partitions.get_mut(&topic_partition) else { continue };
            if matches!(partition.phase, Phase::Checking(_))
                && let Some((output, stop)) = self.unwritable.take(&topic_partition)
            {
                self.stage.revoke(&topic_partition);
                self.hold(&topic_partition, stop, false, Until::Writable(output));
                continue;
            }
            match &mut partition.phase {
                Phase::Checking(_) if self.isolation.take_stuck(&topic_partition) => {
                    self.stage.revoke(&topic_partition);
                    self.hold(&topic_partition, poisoned(&topic_partition), false, Until::Retry);
                }
                Phase::Checking(Check::Answered(Some(found)))
                    if partition.memory.as_ref() == Some(&*found) =>
                {
                    let offset = found.offset;
                    self.start(&topic_partition, offset)?;
                }
                Phase::Checking(_) => {
                    self.stage.revoke(&topic_partition);
                    partition.restart(None);
                }
                Phase::Held(hold) if hold.state_kept => {
                    self.stage.revoke(&topic_partition);
                    hold.state_kept = false;
                }
                Phase::Restored { position } => {
                    let position = *position;
                    self.start(&topic_partition, position)?;
                }
                Phase::Restoring(_) | Phase::Running | Phase::Held(_) => {}
            }
        }
        Ok(())
    }

    /// Whether a transaction of unknown outcome stands, by the committed offset of any of its
    /// partitions: all of them moved, or none.
    fn outcome(&self, offsets: &[OffsetCommit]) -> Option<bool> {
        let mut outcome = None;
        for commit in offsets {
            let Some(partition) = self.partitions.get(&commit.topic_partition) else { continue };
            let Phase::Checking(Check::Answered(Some(found))) = &partition.phase else { continue };
            if partition.memory.as_ref() == Some(found) {
                // Also where nothing moved: then it makes no difference to the state.
                outcome = Some(false);
            } else if found.offset == commit.offset && found.metadata == commit.metadata {
                return Some(true);
            }
        }
        outcome
    }

    /// The outcome stays unknown: the stage keeps it apart until the restore tells.
    fn suspend(&mut self) {
        let lost = self.stage.suspend();
        self.forget(&lost);
    }

    /// A partition goes while an outcome is unknown: it can't be asked for any more.
    pub(super) fn suspend_unknown(&mut self) {
        let unknown = match &mut self.mode {
            Mode::Recovering { unknown, .. } | Mode::Checking { unknown, .. } => unknown.take(),
            Mode::Running => None,
        };
        if unknown.is_some() {
            self.suspend();
        }
    }

    /// The stage can't wind these back: those that were read lose their memory and so will be
    /// restored; those in the middle of a restore begin it again.
    fn forget(&mut self, topic_partitions: &[TopicPartition]) {
        for topic_partition in topic_partitions {
            let Some(partition) = self.partitions.get_mut(topic_partition) else { continue };
            partition.memory = None;
            if matches!(partition.phase, Phase::Restoring(_) | Phase::Restored { .. }) {
                self.stage.revoke(topic_partition);
                partition.restart(None);
            }
        }
    }
}

fn poisoned(topic_partition: &TopicPartition) -> PartitionStop {
    PartitionStop {
        reason: "poison",
        detail: format!("a record of {topic_partition} fails even as a dead letter"),
        command: "none: a bug, please report it; to skip the record stop every instance, set the \
                  group's offset behind it with kafka-consumer-groups.sh, and set audit.adopt"
            .to_owned(),
    }
}

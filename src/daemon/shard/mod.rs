//! A shard: one thread, one group member, one transactional producer, and the state of its
//! partitions. The loop is written once and drives both stages: poll a batch, let the stage take
//! it, send what comes out; every 100 ms (or N bytes) drain, send the offsets of every partition
//! written for, commit, and only then let the state advance and publish counters.
//!
//! It starts no thread, takes time from its [`Clock`] only and waits in broker calls only, so that
//! a simulation can put anything between any two of them.

mod config;
mod fault;
mod guards;
mod health;
mod hold;
mod outputs;
mod partition;
mod poison;
mod rebalance;
mod recovery;
mod restores;
mod stop;
mod transaction;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub use config::{RestoreConfig, ShardConfig};
pub use fault::{FaultHook, FaultPlace, FaultPoint, MarkerFile, NoFaults, Passage};
pub(super) use guards::STALL_WATCHDOG;
pub use health::{HealthCell, ShardHealth};
pub use stop::{Stop, StopLevel};

use self::outputs::Unwritable;
use self::partition::{Partition, Phase};
use self::poison::Isolation;
use self::recovery::{Failure, Mode};
use self::transaction::Transaction;
use super::broker::{Broker, BrokerError, Event, Ticket};
use super::clock::Clock;
use super::restore::Answer;
use crate::pipeline::metric::{Metric, MetricSeries, MetricUpdate};
use crate::pipeline::record::{RecordBatch, TopicPartition};
use crate::pipeline::step::{Outputs, PartitionStop, PauseRequest, Stage};

/// Where counters go once a transaction stands.
pub trait MetricSink: Send + Sync {
    /// Applies the updates.
    fn publish(&self, updates: Vec<MetricUpdate>);

    /// Takes series off: they say nothing any more.
    fn withdraw(&self, _series: &[MetricSeries]) {}
}

/// Changes a stage between two transactions, when something outside has changed (a reload).
pub trait Refresh<S>: Send {
    /// Whether there is something to change.
    fn is_due(&self) -> bool;

    /// Changes the stage. No transaction is open.
    fn apply(&mut self, stage: &mut S);
}

/// Nothing outside ever changes.
pub struct NoRefresh;

impl<S> Refresh<S> for NoRefresh {
    fn is_due(&self) -> bool {
        false
    }

    fn apply(&mut self, _stage: &mut S) {}
}

/// Why a shard ended though nobody told it to.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ShardError {
    /// The broker can't be used any more: the caller drops everything and connects anew, or ends
    /// when the slot's instance id belongs to a newer process.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The process is not made to serve what its group reads: it ends.
    #[error("{topic_partition}: {}; {}", stop.detail, stop.command)]
    Refused {
        /// The first partition found so.
        topic_partition: TopicPartition,
        /// Why, and what to do.
        stop: PartitionStop,
    },
}

/// What a shard is made of.
pub struct ShardParts<B, S, C> {
    /// The connected slot.
    pub broker: B,
    /// The stage it drives.
    pub stage: S,
    /// Its clock.
    pub clock: C,
    /// Its bounds.
    pub config: ShardConfig,
    /// Where counters go.
    pub metrics: Arc<dyn MetricSink>,
    /// Where its health goes.
    pub health: HealthCell,
    /// The test aid; [`NoFaults`] otherwise.
    pub faults: Arc<dyn FaultHook>,
}

/// One shard; see the module.
pub struct Shard<B, S, C> {
    broker: B,
    stage: S,
    clock: C,
    config: ShardConfig,
    metrics: Arc<dyn MetricSink>,
    health: HealthCell,
    faults: Arc<dyn FaultHook>,
    refresh: Box<dyn Refresh<S>>,
    mode: Mode,
    partitions: BTreeMap<TopicPartition, Partition>,
    transaction: Transaction,
    /// Of the last poll, to be filled again.
    batches: Vec<RecordBatch>,
    outputs: Outputs,
    isolation: Isolation,
    pause_requests: Vec<(TopicPartition, PauseRequest)>,
    probes: BTreeMap<Ticket, TopicPartition>,
    unwritable: Unwritable,
    next_ticket: u64,
    failures: u32,
    last_failure: Option<String>,
    /// Partitions for which the shard was built anew, until they move.
    stalled: BTreeSet<TopicPartition>,
    refusal: Option<ShardError>,
    /// Since when the group has had no place for this member; none while it has.
    outside_since: Option<Duration>,
    gauges_at: Duration,
    remind_at: Duration,
}

impl<B: Broker, S: Stage, C: Clock> Shard<B, S, C> {
    /// A shard whose broker has just been connected.
    #[must_use]
    pub fn new(parts: ShardParts<B, S, C>) -> Self {
        let outside_since = Some(parts.clock.monotonic());
        Self {
            broker: parts.broker,
            stage: parts.stage,
            clock: parts.clock,
            config: parts.config,
            metrics: parts.metrics,
            stalled: parts.health.read().stalled,
            health: parts.health,
            faults: parts.faults,
            refresh: Box::new(NoRefresh),
            mode: Mode::Running,
            partitions: BTreeMap::new(),
            transaction: Transaction::default(),
            batches: Vec::new(),
            outputs: Outputs::default(),
            isolation: Isolation::default(),
            pause_requests: Vec::new(),
            probes: BTreeMap::new(),
            unwritable: Unwritable::default(),
            next_ticket: 0,
            failures: 0,
            last_failure: None,
            refusal: None,
            outside_since,
            gauges_at: Duration::ZERO,
            remind_at: Duration::ZERO,
        }
    }

    /// Has `refresh` change the stage between transactions.
    #[must_use]
    pub fn refreshed_by(mut self, refresh: Box<dyn Refresh<S>>) -> Self {
        self.refresh = refresh;
        self
    }

    /// Runs until `stop` is raised.
    ///
    /// # Errors
    /// See [`ShardError`].
    pub fn run(mut self, stop: &Stop) -> Result<(), ShardError> {
        loop {
            if let Some(refusal) = self.refusal.take() {
                self.finish(stop);
                return Err(refusal);
            }
            match stop.level() {
                StopLevel::Run => {
                    if let Err(error) = self.turn(stop) {
                        self.drop_partitions();
                        return Err(error.into());
                    }
                }
                StopLevel::Drain => {
                    self.finish(stop);
                    return Ok(());
                }
                StopLevel::Now => return Ok(()),
            }
        }
    }

    /// One turn of the loop.
    fn turn(&mut self, stop: &Stop) -> Result<(), BrokerError> {
        self.recover_when_due()?;
        self.advance_restores()?;
        self.retry_held()?;
        let mut batches = std::mem::take(&mut self.batches);
        let mut events = Vec::new();
        let wait = self.wait();
        self.broker.poll(wait, &mut batches, &mut events)?;
        let polled: usize = batches.iter().map(RecordBatch::len).sum();
        self.transaction.polled(polled >= self.config.poll_records_max);
        if events.iter().any(|event| matches!(event, Event::Revoked { lost: true, .. })) {
            batches.clear();
        }
        let taken = self.take_batches(&batches, stop);
        self.batches = batches;
        self.settle(taken)?;
        for event in events {
            self.handle(event, stop)?;
        }
        let committed = self.commit_when_due(stop);
        self.settle(committed)?;
        self.refresh(stop)?;
        self.apply_pauses()?;
        self.remind();
        self.report();
        self.watch_membership()?;
        self.watch_stalls()
    }

    /// Lets the stage change, at the boundary of a transaction: what is open is committed first.
    fn refresh(&mut self, stop: &Stop) -> Result<(), BrokerError> {
        if !self.refresh.is_due() {
            return Ok(());
        }
        let committed = self.commit(stop);
        self.settle(committed)?;
        if self.transaction.since().is_none() && !self.stage.is_dirty() {
            self.refresh.apply(&mut self.stage);
        }
        Ok(())
    }

    /// The end after the first signal: what is open is committed, nothing further is read. The
    /// second one leaves it open, and the group to notice.
    fn finish(mut self, stop: &Stop) {
        if let Err(failure) = self.commit(stop) {
            tracing::warn!(
                shard = self.config.shard,
                cause = failure.cause,
                detail = failure.detail,
                "the last transaction was not committed; the next owner repeats it"
            );
        }
        if stop.level() != StopLevel::Now {
            self.broker.close(self.config.close_timeout);
        }
    }

    fn handle(&mut self, event: Event, stop: &Stop) -> Result<(), BrokerError> {
        match event {
            Event::Assigned(partitions) => self.assigned(&partitions),
            Event::Revoked { partitions, lost } => self.revoked(&partitions, lost, stop),
            Event::Lookup { ticket, topic_partition, result } => {
                if let Some(probed) = self.probes.remove(&ticket) {
                    return self.probed(&probed, result.err());
                }
                if self.output_probed(ticket, &result) {
                    return Ok(());
                }
                if self.check_answered(ticket, &topic_partition, &result) {
                    return Ok(());
                }
                self.answered(ticket, Answer::Lookup(result))
            }
            Event::Writer { ticket, result, .. } => self.answered(ticket, Answer::Writer(result)),
            Event::Fenced { ticket, result } => self.answered(ticket, Answer::Fenced(result)),
            Event::CaughtUp { topic_partition, .. } => {
                self.caught_up(&topic_partition);
                Ok(())
            }
            Event::Lag { topic_partition, records } => {
                self.lag(&topic_partition, records);
                Ok(())
            }
            Event::PartitionFailed { topic_partition, failure } => {
                self.partition_failed(topic_partition, &failure, stop)
            }
        }
    }

    /// How long the next poll may wait.
    fn wait(&self) -> Duration {
        let monotonic = self.clock.monotonic();
        let mut wait = self.config.poll_wait_max;
        let mut at_latest = |at: Duration| wait = wait.min(at.saturating_sub(monotonic));
        match &self.mode {
            Mode::Recovering { at, .. } => at_latest(*at),
            Mode::Checking { until, .. } => at_latest(*until),
            Mode::Running => {
                if let Some(since) = self.transaction.since() {
                    at_latest(since + self.config.commit_interval);
                }
                for partition in self.partitions.values() {
                    match &partition.phase {
                        Phase::Restoring(restore) => {
                            let waits_for_room =
                                |at: &Duration| restore.is_queued() && *at <= monotonic;
                            if let Some(at) = restore.wake_at().filter(|at| !waits_for_room(at)) {
                                at_latest(at);
                            }
                        }
                        Phase::Held(hold) => at_latest(hold.retry_at),
                        Phase::Running | Phase::Restored { .. } | Phase::Checking(_) => {}
                    }
                }
                if let Some(at) = self.timer(monotonic) {
                    at_latest(at);
                }
            }
        }
        wait
    }

    fn has_writable(&self) -> bool {
        self.partitions.values().any(Partition::is_writable)
    }

    /// Takes every record of a poll into the open transaction, committing as it fills.
    fn take_batches(&mut self, batches: &[RecordBatch], stop: &Stop) -> Result<(), Failure> {
        for batch in batches {
            self.take_batch(batch, stop)?;
        }
        Ok(())
    }

    /// A failed transaction leads to the one way back; so does nothing else.
    fn settle(&mut self, result: Result<(), Failure>) -> Result<(), BrokerError> {
        match result {
            Ok(()) => Ok(()),
            Err(failure) => self.fall_back(failure),
        }
    }

    /// Tells the test aid where the shard is.
    fn pass(&self, point: FaultPoint, records: usize) {
        self.faults.reached(Passage { point, stage: self.config.stage, records });
    }

    fn publish(&self, metric: Metric, labels: &[&str], value: f64) {
        self.metrics.publish(vec![metric.update(labels, value)]);
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }
}

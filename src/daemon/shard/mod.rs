//! A shard: one thread, one group member, one transactional producer, and the state of its
//! partitions. The loop is written once and drives both stages: poll a batch, let the stage take
//! it, send what comes out; every 100 ms (or N bytes) drain, send the offsets of every partition
//! written for, commit, and only then let the state advance and publish counters.
//!
//! It starts no thread, takes time from its [`Clock`] only and waits in broker calls only, so that
//! a simulation can put anything between any two of them.

mod fault;
mod guards;
mod health;
mod hold;
mod outputs;
mod partition;
mod poison;
mod rebalance;
mod recovery;
mod stop;
mod transaction;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub use fault::{FaultHook, FaultPlace, FaultPoint, MarkerFile, NoFaults, Passage};
pub(super) use guards::STALL_WATCHDOG;
pub use health::{HealthCell, ShardHealth};
pub use stop::{Stop, StopLevel};

use self::guards::STALLED;
use self::outputs::Unwritable;
use self::partition::{Hold, Partition, Phase, Until};
use self::poison::Isolation;
use self::recovery::{Failure, Mode};
use self::transaction::Transaction;
use super::broker::{Broker, BrokerError, Event, Ticket};
use super::clock::Clock;
use super::restore::{Answer, Context, Progress};
use crate::pipeline::audit::RestoreAlert;
use crate::pipeline::limits;
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

/// The bounds of one shard.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Label of the stage in metrics: `scrub` or `watch`.
    pub stage: &'static str,
    /// Label of the shard in metrics and logs.
    pub shard: String,
    /// The slot's own transactional id.
    pub transactional_id: String,
    /// A transaction is committed when it is this old.
    pub commit_interval: Duration,
    /// A transaction is committed when it has taken this many bytes of input.
    pub commit_bytes_max: usize,
    /// How many times as old and as large it may become while more waits to be read than is taken
    /// and the brokers commit promptly.
    pub commit_growth_max: u32,
    /// Records of a full poll: fewer mean that none was left waiting.
    pub poll_records_max: usize,
    /// Longest wait in one poll; bounds how fast a stop is noticed.
    pub poll_wait_max: Duration,
    /// Time-out of draining, of sending offsets and of committing, each; three of them together
    /// must be below the transaction time-out of the slot.
    pub transaction_step_timeout: Duration,
    /// Time-out of building a new producer.
    pub reset_timeout: Duration,
    /// First pause after a failure that repeats; doubles.
    pub back_off_min: Duration,
    /// Longest pause after a failure.
    pub back_off_max: Duration,
    /// Failed attempts at a new producer after which the shard is built anew.
    pub reset_attempts_max: u32,
    /// How long the check of committed offsets after a failure may hold up the shard.
    pub check_timeout: Duration,
    /// A partition with lag that gives nothing for this long has the shard built anew.
    pub stall_timeout: Duration,
    /// How long a stopped or paused partition waits before it is tried again; doubles.
    pub hold_retry: Duration,
    /// Longest such wait: a partition that was repaired goes on by itself.
    pub hold_retry_max: Duration,
    /// Time for leaving politely.
    pub close_timeout: Duration,
    /// Bounds of restores.
    pub restore: RestoreConfig,
}

/// The bounds of restores.
#[derive(Clone, Debug)]
pub struct RestoreConfig {
    /// Partitions restored at once; the others wait their turn.
    pub concurrent_max: usize,
    /// A transaction pending for longer has its writer fenced.
    pub pending_after: Duration,
    /// First pause before a question is asked again; doubles on failures.
    pub retry_min: Duration,
    /// Longest pause.
    pub retry_max: Duration,
    /// A restore that gets no further for so long stops the partition (which is tried again later).
    pub budget: Duration,
}

impl ShardConfig {
    /// The defaults for the shard `shard` of `stage`.
    #[must_use]
    pub fn new(stage: &'static str, shard: String, transactional_id: String) -> Self {
        Self {
            stage,
            shard,
            transactional_id,
            commit_interval: Duration::from_millis(100),
            commit_bytes_max: limits::TRANSACTION_INPUT_BYTES_MAX,
            commit_growth_max: limits::TRANSACTION_GROWTH_MAX,
            poll_records_max: limits::POLL_RECORDS_MAX,
            poll_wait_max: Duration::from_millis(100),
            transaction_step_timeout: Duration::from_secs(3),
            reset_timeout: Duration::from_secs(10),
            back_off_min: Duration::from_millis(100),
            back_off_max: Duration::from_secs(10),
            reset_attempts_max: 6,
            check_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(60),
            hold_retry: Duration::from_secs(10),
            hold_retry_max: Duration::from_secs(300),
            close_timeout: Duration::from_secs(5),
            restore: RestoreConfig {
                concurrent_max: limits::RESTORES_CONCURRENT_MAX,
                pending_after: Duration::from_secs(1),
                retry_min: Duration::from_millis(100),
                retry_max: Duration::from_secs(5),
                budget: Duration::from_secs(300),
            },
        }
    }
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
    joined: bool,
    gauges_at: Duration,
    remind_at: Duration,
}

impl<B: Broker, S: Stage, C: Clock> Shard<B, S, C> {
    /// A shard whose broker has just been connected.
    #[must_use]
    pub fn new(parts: ShardParts<B, S, C>) -> Self {
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
            joined: false,
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

    /// Lets restores begin, ask again and give up.
    fn advance_restores(&mut self) -> Result<(), BrokerError> {
        if !matches!(self.mode, Mode::Running) {
            return Ok(());
        }
        let active = |partition: &&Partition| match &partition.phase {
            Phase::Restoring(restore) => !restore.is_queued(),
            _ => false,
        };
        let mut room = self
            .config
            .restore
            .concurrent_max
            .saturating_sub(self.partitions.values().filter(active).count());
        let restoring: Vec<TopicPartition> = self
            .partitions
            .iter()
            .filter(|(_, partition)| matches!(partition.phase, Phase::Restoring(_)))
            .map(|(topic_partition, _)| topic_partition.clone())
            .collect();
        for topic_partition in restoring {
            let queued = match self.partitions.get(&topic_partition).map(|p| &p.phase) {
                Some(Phase::Restoring(restore)) => restore.is_queued(),
                _ => continue,
            };
            if queued && room == 0 {
                continue;
            }
            let progress = self.restore(&topic_partition, None);
            if queued && self.partitions.get(&topic_partition).is_some_and(|p| active(&p)) {
                room -= 1;
            }
            self.restored(&topic_partition, progress)?;
        }
        Ok(())
    }

    /// Hands an answer to the restore that waits for it; a stale one falls on the floor.
    fn answered(&mut self, ticket: Ticket, answer: Answer) -> Result<(), BrokerError> {
        let awaiting = self.partitions.iter().find(|(_, partition)| match &partition.phase {
            Phase::Restoring(restore) => restore.awaits(ticket),
            _ => false,
        });
        let Some(topic_partition) = awaiting.map(|(topic_partition, _)| topic_partition.clone())
        else {
            return Ok(());
        };
        self.pass(FaultPoint::DuringRestore, 0);
        let progress = self.restore(&topic_partition, Some(answer));
        self.restored(&topic_partition, progress)
    }

    fn restore(&mut self, topic_partition: &TopicPartition, answer: Option<Answer>) -> Progress {
        let Some(partition) = self.partitions.get_mut(topic_partition) else {
            return Progress::Waiting;
        };
        let Phase::Restoring(restore) = &mut partition.phase else { return Progress::Waiting };
        let mut context = Context {
            broker: &mut self.broker,
            stage: &mut self.stage,
            topic_partition,
            config: &self.config.restore,
            own_transactional_id: &self.config.transactional_id,
            next_ticket: &mut self.next_ticket,
            fenced: &mut partition.fenced,
            now: self.clock.now(),
            monotonic: self.clock.monotonic(),
        };
        match answer {
            Some(answer) => restore.answer(answer, &mut context),
            None => restore.advance(&mut context),
        }
    }

    fn restored(
        &mut self,
        topic_partition: &TopicPartition,
        progress: Progress,
    ) -> Result<(), BrokerError> {
        match progress {
            Progress::Waiting => Ok(()),
            Progress::Ready { position } => {
                tracing::info!(partition = %topic_partition, position, "restored");
                for finding in self.stage.findings() {
                    log_finding(topic_partition, &finding);
                }
                let running = matches!(self.mode, Mode::Running);
                if let Some(partition) = self.partitions.get_mut(topic_partition) {
                    partition.fresh = true;
                    partition.phase = Phase::Restored { position };
                }
                if running { self.start(topic_partition, position) } else { Ok(()) }
            }
            Progress::Stop(stop) => {
                self.stage.revoke(topic_partition);
                self.metrics.withdraw(&self.stage.withdraw(topic_partition));
                self.hold(topic_partition, stop, false, Until::Retry);
                Ok(())
            }
            Progress::Refuse(stop) => {
                let topic_partition = topic_partition.clone();
                self.refusal.get_or_insert(ShardError::Refused { topic_partition, stop });
                Ok(())
            }
        }
    }

    /// Reads a partition whose state is whole from `position` on.
    fn start(
        &mut self,
        topic_partition: &TopicPartition,
        position: i64,
    ) -> Result<(), BrokerError> {
        let monotonic = self.clock.monotonic();
        let started = self.broker.start(topic_partition, position);
        let Some(partition) = self.partitions.get_mut(topic_partition) else { return Ok(()) };
        partition.position = position;
        partition.progress_at = monotonic;
        partition.lag = 0;
        match started {
            Ok(()) => {
                partition.phase = Phase::Running;
                let alarm = partition.alarm.take_if(|alarm| *alarm != STALLED);
                self.alarm(topic_partition, alarm, false);
                Ok(())
            }
            Err(error) if error.kind.ends_consumer() => Err(error),
            Err(error) => {
                let stop = PartitionStop {
                    reason: "start_failed",
                    detail: error.to_string(),
                    command: "blotter topics check".to_owned(),
                };
                let factor = 1_u32 << partition.holds.min(16);
                partition.holds = partition.holds.saturating_add(1);
                let pause = self.config.back_off_min.saturating_mul(factor);
                let retry_at = monotonic + pause.min(self.config.hold_retry_max);
                let state_kept = true;
                partition.phase =
                    Phase::Held(Hold { stop: stop.clone(), retry_at, state_kept, awaits: None });
                tracing::warn!(partition = %topic_partition, %error, "not started; tried again");
                // The first ones pass by themselves, as after a rebalance.
                if pause >= self.config.hold_retry {
                    self.sound(topic_partition, &stop);
                }
                Ok(())
            }
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

/// The worst are errors: records may be lost to the audit, or a chain was begun anew.
fn log_finding(topic_partition: &TopicPartition, finding: &RestoreAlert) {
    let RestoreAlert { severity, name, detail } = finding;
    if *severity == 1 {
        tracing::error!(partition = %topic_partition, severity, finding = name, detail,
            "found by the restore; the partition goes on");
    } else {
        tracing::warn!(partition = %topic_partition, severity, finding = name, detail,
            "found by the restore; the partition goes on");
    }
}

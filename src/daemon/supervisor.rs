//! Starts one thread per shard and builds a shard anew, with back-off, whenever it can't go on.

use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use super::broker::{BrokerError, BrokerErrorKind, Connector, SlotConfig};
use super::clock::Clock;
use super::shard::{
    FaultHook, HealthCell, MetricSink, Refresh, STALL_WATCHDOG, Shard, ShardConfig, ShardError,
    ShardParts, Stop, StopLevel,
};
use crate::pipeline::limits::SHARD_TICK_AGE_MS_MAX;
use crate::pipeline::metric::Metric;
use crate::pipeline::step::Stage;

/// First pause before a shard is built anew; doubles.
const BACK_OFF_MIN: Duration = Duration::from_millis(200);

/// Longest pause before a shard is built anew.
const BACK_OFF_MAX: Duration = Duration::from_secs(30);

const _: () = assert!(BACK_OFF_MAX.as_millis() * 2 <= SHARD_TICK_AGE_MS_MAX as u128);

/// A shard that ran for this long was well: the next pause is the first again.
const WELL_AFTER: Duration = Duration::from_secs(60);

/// How often the supervisor looks whether it is told to stop.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long a shard that is told to end at once may take: it can't be called back from a broker.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Sessions after which the holder of an instance id is taken to live: what a lost join left behind
/// is gone after one.
const HOLDER_SESSIONS: u32 = 2;

/// One shard to run.
#[derive(Clone, Debug)]
pub struct ShardPlan {
    /// Its place in the group.
    pub slot: SlotConfig,
    /// Its bounds.
    pub config: ShardConfig,
    /// Where its health is read.
    pub health: HealthCell,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// As told; everything open was committed or will be repeated by the next owner.
    Stopped,
    /// A shard did not end within the grace it was given.
    Stuck,
    /// A newer process holds a slot: the process exits with 78 and names the id.
    InstanceFenced {
        /// The `group.instance.id`.
        instance_id: String,
    },
    /// The keyring is not the one that a partition was begun with: the process exits with 78.
    Refused {
        /// The partition, what was found there, and what to do.
        detail: String,
    },
}

/// What all shards of a process share.
pub struct Supervisor<K, C> {
    connector: Arc<K>,
    clock: C,
    metrics: Arc<dyn MetricSink>,
    faults: Arc<dyn FaultHook>,
    stop: Stop,
    running: usize,
    ended: (Sender<Option<End>>, Receiver<Option<End>>),
}

impl<K, C> Supervisor<K, C>
where
    K: Connector + 'static,
    C: Clock + Clone + Send + 'static,
{
    /// A supervisor without shards.
    #[must_use]
    pub fn new(
        connector: Arc<K>,
        clock: C,
        metrics: Arc<dyn MetricSink>,
        faults: Arc<dyn FaultHook>,
        stop: Stop,
    ) -> Self {
        Self { connector, clock, metrics, faults, stop, running: 0, ended: mpsc::channel() }
    }

    /// Starts the thread of one shard. `make_stage` is called for every build of it, and makes what
    /// changes the stage while it runs too.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn spawn<S: Stage + 'static>(
        &mut self,
        plan: ShardPlan,
        make_stage: impl Fn(&ShardPlan) -> (S, Box<dyn Refresh<S>>) + Send + 'static,
    ) -> std::io::Result<()> {
        let worker = Worker {
            connector: Arc::clone(&self.connector),
            clock: self.clock.clone(),
            metrics: Arc::clone(&self.metrics),
            faults: Arc::clone(&self.faults),
            stop: self.stop.clone(),
            plan,
        };
        let ended = self.ended.0.clone();
        thread::Builder::new().name(worker.plan.config.shard.clone()).spawn(move || {
            let end = worker.run(make_stage);
            drop(ended.send(end));
        })?;
        self.running += 1;
        Ok(())
    }

    /// Waits until every shard has ended. Once a stop is asked for all is over within `grace`: shards
    /// that drain for too long are told to end at once, and whoever does not is left behind.
    #[must_use]
    pub fn wait(mut self, grace: Duration) -> End {
        let drain = grace.saturating_sub((AT_ONCE * 2).min(grace / 2));
        let (mut drains_until, mut ends_until) = (None, None);
        let mut end = End::Stopped;
        while self.running > 0 {
            match self.ended.1.recv_timeout(LOOK_EVERY) {
                Ok(own) => {
                    self.running -= 1;
                    end = own.unwrap_or(end);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = self.clock.monotonic();
            match self.stop.level() {
                StopLevel::Run => {}
                StopLevel::Drain => {
                    if now >= *drains_until.get_or_insert(now + drain) {
                        self.stop.request(StopLevel::Now);
                    }
                }
                StopLevel::Now => {
                    if now >= *ends_until.get_or_insert(now + AT_ONCE) && self.running > 0 {
                        return if end == End::Stopped { End::Stuck } else { end };
                    }
                }
            }
        }
        end
    }
}

struct Worker<K, C> {
    connector: Arc<K>,
    clock: C,
    metrics: Arc<dyn MetricSink>,
    faults: Arc<dyn FaultHook>,
    stop: Stop,
    plan: ShardPlan,
}

impl<K: Connector, C: Clock + Clone> Worker<K, C> {
    /// Runs the shard, however often it must be built, until told to stop.
    fn run<S: Stage>(
        self,
        make_stage: impl Fn(&ShardPlan) -> (S, Box<dyn Refresh<S>>),
    ) -> Option<End> {
        let mut back_off = BACK_OFF_MIN;
        while self.stop.level() == StopLevel::Run {
            let began = self.tick();
            let result = catch_unwind(AssertUnwindSafe(|| {
                let broker = self.connector.connect(&self.plan.slot)?;
                self.tick();
                let (stage, refresh) = make_stage(&self.plan);
                let parts = ShardParts {
                    broker,
                    stage,
                    clock: self.clock.clone(),
                    config: self.plan.config.clone(),
                    metrics: Arc::clone(&self.metrics),
                    health: self.plan.health.clone(),
                    faults: Arc::clone(&self.faults),
                };
                Shard::new(parts).refreshed_by(refresh).run(&self.stop)
            }));
            let stalled = matches!(&result, Ok(Err(ShardError::Broker(error))) if error.operation == STALL_WATCHDOG);
            let (cause, detail) = match result {
                Ok(Ok(())) => return None,
                Ok(Err(error @ ShardError::Refused { .. })) => return Some(self.refused(&error)),
                Ok(Err(ShardError::Broker(error))) => {
                    let fenced = error.kind == BrokerErrorKind::InstanceFenced;
                    if fenced && self.is_replaced(&error) {
                        return Some(self.fenced(&error.to_string()));
                    }
                    (error.kind.name(), error.to_string())
                }
                Err(_) => ("panic", "the shard panicked".to_owned()),
            };
            if self.tick().saturating_sub(began) > self.well_after(stalled) {
                back_off = BACK_OFF_MIN;
            }
            self.failed(cause, &detail, back_off);
            if self.stop.wait(back_off) != StopLevel::Run {
                return None;
            }
            back_off = back_off.saturating_mul(2).min(BACK_OFF_MAX);
        }
        None
    }

    /// A run that stalled had stood still for the watchdog's time before it ended.
    fn well_after(&self, stalled: bool) -> Duration {
        if stalled { WELL_AFTER + self.plan.config.stall_timeout } else { WELL_AFTER }
    }

    /// Whether a newer process holds the slot. A join whose answer was lost fences its own client
    /// when it is repeated; what it left in the group ends with its session.
    fn is_replaced(&self, error: &BrokerError) -> bool {
        let instance_id = self.plan.slot.instance_id.as_deref().unwrap_or_default();
        let patience = self.plan.slot.session_timeout * HOLDER_SESSIONS;
        tracing::warn!(instance_id, %error, ?patience, "fenced; looking who holds the instance id");
        let mut held_since = None;
        loop {
            let now = self.tick();
            match self.connector.knows_instance(&self.plan.slot) {
                Ok(false) => return false,
                Ok(true) if now >= *held_since.get_or_insert(now) + patience => return true,
                Ok(true) => {}
                Err(_) => held_since = None,
            }
            if self.stop.wait(LOOK_EVERY) != StopLevel::Run {
                return false;
            }
        }
    }

    /// Without a shard this thread is the loop that turns: brokers that are away are no reason to
    /// have the process killed.
    fn tick(&self) -> Duration {
        let now = self.clock.monotonic();
        self.plan.health.update(|health| health.last_tick = now);
        now
    }

    fn failed(&self, cause: &'static str, detail: &str, back_off: Duration) {
        let config = &self.plan.config;
        tracing::error!(shard = config.shard, cause, detail, ?back_off, "shard is built anew");
        self.metrics.publish(vec![Metric::ShardRebuilds.update(&[config.stage, cause], 1.0)]);
        self.plan.health.update(|health| {
            health.joined = false;
            health.assigned = 0;
            health.restoring = 0;
            health.stopped.clear();
            health.transaction_age = None;
            health.failures = health.failures.saturating_add(1);
            health.last_failure = Some(detail.to_owned());
        });
    }

    fn fenced(&self, detail: &str) -> End {
        let instance_id = self.plan.slot.instance_id.clone().unwrap_or_default();
        tracing::error!(
            instance_id,
            detail,
            "a newer process holds this instance id; this one ends"
        );
        self.stop.request(StopLevel::Drain);
        End::InstanceFenced { instance_id }
    }

    fn refused(&self, error: &ShardError) -> End {
        tracing::error!(shard = self.plan.config.shard, %error, "this process ends");
        self.stop.request(StopLevel::Drain);
        End::Refused { detail: error.to_string() }
    }
}

/// Has panics logged by their place alone: a panic's message may hold record content.
pub fn log_panics_without_content() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panic");
    }));
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::broker::Subscription;
    use super::super::broker::embedded::{EmbeddedBroker, VirtualClock};
    use super::super::clock::SystemClock;
    use super::super::shard::{NoFaults, NoRefresh};
    use super::*;
    use crate::pipeline::metric::MetricUpdate;
    use crate::pipeline::record::{RecordBatch, Timestamp, TopicPartition};
    use crate::pipeline::step::{
        Delivery, LookupAnswer, OffsetCommit, Outputs, PauseRequest, RecordFailure, RestoreStep,
    };

    /// Fails with each of its errors in turn, then says that it was asked once too often.
    struct Failing {
        errors: Mutex<VecDeque<BrokerErrorKind>>,
        /// How often the slot's instance id is held by nobody before somebody holds it.
        free: Mutex<usize>,
    }

    impl Connector for Failing {
        type Broker = EmbeddedBroker;

        fn connect(&self, _slot: &SlotConfig) -> Result<EmbeddedBroker, BrokerError> {
            let kind = self.errors.lock().unwrap().pop_front().expect("asked once too often");
            Err(BrokerError::new(kind, "connect", "scripted"))
        }

        fn knows_instance(&self, _slot: &SlotConfig) -> Result<bool, BrokerError> {
            let mut free = self.free.lock().unwrap();
            let held = *free == 0;
            *free = free.saturating_sub(1);
            Ok(held)
        }
    }

    struct Nowhere;

    impl MetricSink for Nowhere {
        fn publish(&self, _updates: Vec<MetricUpdate>) {}
    }

    struct Idle;

    impl Stage for Idle {
        fn assign(&mut self, _: &TopicPartition, _: Timestamp) -> RestoreStep {
            RestoreStep::Ready { position: 0 }
        }
        fn restore(&mut self, _: &TopicPartition, _: LookupAnswer, _: Timestamp) -> RestoreStep {
            RestoreStep::Ready { position: 0 }
        }
        fn revoke(&mut self, _: &TopicPartition) {}
        fn output_partitions(&self, _: &TopicPartition) -> Vec<TopicPartition> {
            Vec::new()
        }
        fn process(
            &mut self,
            _: &RecordBatch,
            _: std::ops::Range<usize>,
            _: Timestamp,
            _: &mut Outputs,
        ) -> Result<(), RecordFailure> {
            Ok(())
        }
        fn reject(
            &mut self,
            _: &RecordBatch,
            _: usize,
            _: &'static str,
            _: Timestamp,
            _: &mut Outputs,
        ) {
        }
        fn caught_up(&mut self, _: &TopicPartition, _: Timestamp) {}
        fn due(&self, _: Timestamp) -> Option<Timestamp> {
            None
        }
        fn is_dirty(&self) -> bool {
            false
        }
        fn close(&mut self, _: Timestamp, _: &mut Outputs) {}
        fn offsets(&mut self, _: &[Delivery]) -> Vec<OffsetCommit> {
            Vec::new()
        }
        fn committed(&mut self) -> Vec<MetricUpdate> {
            Vec::new()
        }
        fn discard(&mut self) -> Vec<TopicPartition> {
            Vec::new()
        }
        fn suspend(&mut self) -> Vec<TopicPartition> {
            Vec::new()
        }
        fn pauses(&mut self) -> Vec<(TopicPartition, PauseRequest)> {
            Vec::new()
        }
    }

    fn plan() -> ShardPlan {
        ShardPlan {
            slot: SlotConfig {
                group: "g".to_owned(),
                instance_id: Some("slot-3".to_owned()),
                transactional_id: "t".to_owned(),
                subscription: Subscription {
                    topics: Vec::new(),
                    patterns: Vec::new(),
                    excluded: Vec::new(),
                },
                poll_records_max: 1,
                poll_bytes_max: 1,
                transaction_timeout: Duration::from_secs(10),
                session_timeout: Duration::from_millis(100),
                operation_timeout: Duration::from_secs(1),
                lookup_timeout: Duration::from_secs(1),
                written: Vec::new(),
                lookup_bytes_max: 1,
            },
            config: ShardConfig::new("scrub", "scrub-0".to_owned(), "t".to_owned()),
            health: HealthCell::default(),
        }
    }

    /// Brokers that are away: every call takes nearly as long as a turn may.
    struct Away {
        clock: Arc<VirtualClock>,
        health: HealthCell,
        /// Age of the last turn at the end of each call.
        ages: Mutex<Vec<Duration>>,
        stop: Stop,
    }

    impl Connector for Away {
        type Broker = EmbeddedBroker;

        fn connect(&self, _slot: &SlotConfig) -> Result<EmbeddedBroker, BrokerError> {
            self.clock.advance(50_000);
            let mut ages = self.ages.lock().unwrap();
            ages.push(self.clock.monotonic().saturating_sub(self.health.read().last_tick));
            let kind = if ages.len() < 3 {
                BrokerErrorKind::TimedOut
            } else {
                BrokerErrorKind::InstanceFenced
            };
            Err(BrokerError::new(kind, "connect", "scripted"))
        }

        fn knows_instance(&self, slot: &SlotConfig) -> Result<bool, BrokerError> {
            drop(self.connect(slot));
            if self.ages.lock().unwrap().len() == 6 {
                self.stop.request(StopLevel::Drain);
            }
            Err(BrokerError::new(BrokerErrorKind::TimedOut, "describe group", "scripted"))
        }
    }

    fn supervise(errors: &[BrokerErrorKind]) -> (Supervisor<Failing, SystemClock>, Stop) {
        let stop = Stop::default();
        let errors = Mutex::new(errors.iter().copied().collect());
        let connector = Arc::new(Failing { errors, free: Mutex::new(1) });
        let supervisor = Supervisor::new(
            connector,
            SystemClock::new(),
            Arc::new(Nowhere),
            Arc::new(NoFaults),
            stop.clone(),
        );
        (supervisor, stop)
    }

    #[test]
    fn a_shard_is_built_anew_until_a_newer_process_holds_its_id() {
        let (mut supervisor, stop) = supervise(&[
            BrokerErrorKind::Fatal,
            // By a join of its own: nobody holds the id afterwards.
            BrokerErrorKind::InstanceFenced,
            BrokerErrorKind::InstanceFenced,
        ]);
        let plan = plan();
        let health = plan.health.clone();
        supervisor.spawn(plan, |_| (Idle, Box::new(NoRefresh))).unwrap();
        let end = supervisor.wait(Duration::from_secs(5));
        assert_eq!(end, End::InstanceFenced { instance_id: "slot-3".to_owned() });
        assert_eq!(health.read().failures, 2);
        assert_eq!(stop.level(), StopLevel::Drain, "the other shards drain");
    }

    #[test]
    fn an_outage_of_the_brokers_is_no_hang() {
        let (clock, stop, plan) = (Arc::new(VirtualClock::new()), Stop::default(), plan());
        let connector = Arc::new(Away {
            clock: Arc::clone(&clock),
            health: plan.health.clone(),
            ages: Mutex::default(),
            stop: stop.clone(),
        });
        let (metrics, faults) = (Arc::new(Nowhere), Arc::new(NoFaults));
        let mut supervisor = Supervisor::new(Arc::clone(&connector), clock, metrics, faults, stop);
        supervisor.spawn(plan, |_| (Idle, Box::new(NoRefresh))).unwrap();
        assert_eq!(supervisor.wait(Duration::from_secs(3_600)), End::Stopped);
        assert_eq!(*connector.ages.lock().unwrap(), [Duration::from_secs(50); 6]);
    }

    /// A clock that goes on by a second whenever it is read.
    #[derive(Clone, Default)]
    struct Ticking(Arc<AtomicU64>);

    impl Clock for Ticking {
        fn now(&self) -> Timestamp {
            Timestamp::EPOCH
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.fetch_add(1, Ordering::Relaxed))
        }
    }

    /// A call that does not come back before its gate is gone.
    struct Blocked {
        entered: Sender<()>,
        gate: Mutex<Receiver<()>>,
    }

    impl Connector for Blocked {
        type Broker = EmbeddedBroker;

        fn connect(&self, _slot: &SlotConfig) -> Result<EmbeddedBroker, BrokerError> {
            self.entered.send(()).unwrap();
            let _ = self.gate.lock().unwrap().recv();
            Err(BrokerError::new(BrokerErrorKind::TimedOut, "connect", "scripted"))
        }

        fn knows_instance(&self, _slot: &SlotConfig) -> Result<bool, BrokerError> {
            Ok(false)
        }
    }

    /// Seconds until a supervisor with a blocked shard gives up.
    fn stuck_for(level: StopLevel, grace: Duration) -> u64 {
        let (clock, stop) = (Ticking::default(), Stop::default());
        let (entered, is_entered) = mpsc::channel();
        let (open, gate) = mpsc::channel();
        let gate = Mutex::new(gate);
        let (connector, faults) = (Arc::new(Blocked { entered, gate }), Arc::new(NoFaults));
        let seconds = Arc::clone(&clock.0);
        let mut supervisor =
            Supervisor::new(connector, clock, Arc::new(Nowhere), faults, stop.clone());
        supervisor.spawn(plan(), |_| (Idle, Box::new(NoRefresh))).unwrap();
        is_entered.recv().unwrap();
        stop.request(level);
        assert_eq!(supervisor.wait(grace), End::Stuck);
        // Read while the worker still is blocked: it looked at the clock once, before its call.
        let seconds = seconds.load(Ordering::Relaxed);
        drop(open);
        seconds
    }

    #[test]
    fn a_blocked_shard_is_left_behind_within_the_grace() {
        let grace = Duration::from_secs(12);
        // Each reading of the clock is a second; the first is the worker's, the second begins the
        // grace.
        assert_eq!(stuck_for(StopLevel::Drain, grace), grace.as_secs() + 2);
        assert_eq!(stuck_for(StopLevel::Now, grace), 3, "the second signal does not wait");
    }

    #[test]
    fn a_stop_ends_the_wait_for_the_next_build() {
        let (mut supervisor, stop) = supervise(&[BrokerErrorKind::NotAuthorized; 8]);
        supervisor.spawn(plan(), |_| (Idle, Box::new(NoRefresh))).unwrap();
        stop.request(StopLevel::Drain);
        assert_eq!(supervisor.wait(Duration::from_secs(5)), End::Stopped);
    }

    #[test]
    fn a_run_that_stalled_was_not_well() {
        let (supervisor, stop) = supervise(&[]);
        let plan = plan();
        let stall = plan.config.stall_timeout;
        let worker = Worker {
            connector: Arc::clone(&supervisor.connector),
            clock: supervisor.clock,
            metrics: Arc::clone(&supervisor.metrics),
            faults: Arc::clone(&supervisor.faults),
            stop,
            plan,
        };
        assert!(worker.well_after(true) > stall, "else the pause never grows");
        assert_eq!(worker.well_after(false), WELL_AFTER);
    }
}

//! The scheduler: every actor has its own thread, but only the one with the baton runs. Every
//! broker call may hand the baton on; who gets it, how much time passes and what goes wrong is
//! chosen by the seed alone.

use std::any::Any;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use blotter::daemon::broker::embedded::{Cluster, ClusterConfig, VirtualClock};
use blotter::pipeline::record::Timestamp;

use crate::rng::Rng;

/// An actor; 0 is the driver, the test's own thread.
pub(crate) type ActorId = usize;

/// The driver.
pub(crate) const DRIVER: ActorId = 0;

/// Hand-overs after which a run counts as stuck.
const STEPS_MAX: u64 = 400_000;

/// How an actor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself.
    Returned,
    /// Killed by the scheduler.
    Killed,
    /// By a panic of its own.
    Panicked(String),
}

#[derive(Clone, Debug)]
enum State {
    Ready,
    /// Until a time, or until the cluster is no longer at a version.
    Waiting {
        seen: Option<u64>,
        until: Timestamp,
    },
    Ended(End),
}

struct Actor {
    state: State,
    wake: Arc<Condvar>,
}

struct Inner {
    rng: Rng,
    actors: Vec<Actor>,
    turn: ActorId,
    steps: u64,
    over: bool,
    log_hash: u64,
    log: Option<String>,
}

/// Unwinds an actor that is dead.
struct Killed;

/// The world of one run.
pub(crate) struct World {
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) cluster: Cluster,
    inner: Mutex<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl World {
    /// A world whose driver is the calling thread.
    pub(crate) fn new(seed: u64, keep_log: bool, config: ClusterConfig) -> Arc<Self> {
        let clock = Arc::new(VirtualClock::new());
        let cluster = Cluster::new(Arc::<VirtualClock>::clone(&clock), config);
        let driver = Actor { state: State::Ready, wake: Arc::new(Condvar::new()) };
        let inner = Inner {
            rng: Rng::new(seed),
            actors: vec![driver],
            turn: DRIVER,
            steps: 0,
            over: false,
            log_hash: 0xcbf2_9ce4_8422_2325,
            log: keep_log.then(String::new),
        };
        Arc::new(Self { clock, cluster, inner: Mutex::new(inner), threads: Mutex::default() })
    }

    /// Starts an actor, which runs when it is given the baton.
    pub(crate) fn spawn(self: &Arc<Self>, body: impl FnOnce(ActorId) + Send + 'static) -> ActorId {
        let mut inner = self.lock();
        let me = inner.actors.len();
        inner.actors.push(Actor { state: State::Ready, wake: Arc::new(Condvar::new()) });
        drop(inner);
        let world = Arc::clone(self);
        let run = move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                world.await_turn(world.lock(), me);
                body(me);
            }));
            world.end(me, outcome);
        };
        let thread = Builder::new().name(format!("sim-{me}")).stack_size(1 << 20).spawn(run);
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.push(thread.expect("the machine has threads"));
        me
    }

    /// Uses the seed's randomness. Only the actor with the baton asks.
    pub(crate) fn random<T>(&self, choose: impl FnOnce(&mut Rng) -> T) -> T {
        choose(&mut self.lock().rng)
    }

    /// Writes a line into the event log.
    pub(crate) fn note(&self, line: std::fmt::Arguments<'_>) {
        let mut inner = self.lock();
        let at = self.cluster.now().millis();
        let mut text = String::new();
        writeln!(text, "{at} {line}").expect("strings take everything");
        for byte in text.bytes() {
            inner.log_hash = (inner.log_hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if let Some(log) = &mut inner.log {
            log.push_str(&text);
        }
    }

    /// The event log's hash, and the log if it was kept.
    pub(crate) fn log(&self) -> (u64, Option<String>) {
        let inner = self.lock();
        (inner.log_hash, inner.log.clone())
    }

    /// A point at which somebody else may go on.
    pub(crate) fn pass(&self, me: ActorId) {
        let mut inner = self.lock();
        let (time, stays) = (inner.rng.below(3), inner.rng.below(4) > 0);
        self.clock.advance(i64::try_from(time).expect("small"));
        if stays && !inner.over {
            inner.steps += 1;
            return self.check_steps(inner, me);
        }
        self.hand_over(inner, me, State::Ready);
    }

    /// Waits until `until`, or until the cluster is no longer at version `seen`.
    pub(crate) fn wait(&self, me: ActorId, seen: Option<u64>, until: Timestamp) {
        self.hand_over(self.lock(), me, State::Waiting { seen, until });
    }

    /// Waits for `millis`.
    pub(crate) fn sleep(&self, me: ActorId, millis: i64) {
        let until = self.cluster.now().plus_millis(millis);
        while self.cluster.now() < until && !self.is_over() {
            self.wait(me, None, until);
        }
    }

    /// Ends the calling actor as `kill -9` does.
    pub(crate) fn die(&self) -> ! {
        resume_unwind(Box::new(Killed));
    }

    /// How an actor ended, if it has.
    pub(crate) fn ended(&self, actor: ActorId) -> Option<End> {
        match &self.lock().actors[actor].state {
            State::Ended(end) => Some(end.clone()),
            State::Ready | State::Waiting { .. } => None,
        }
    }

    /// Whether the run was given up.
    pub(crate) fn is_over(&self) -> bool {
        self.lock().over
    }

    /// Kills every actor and waits for their threads.
    pub(crate) fn finish(&self) {
        let mut inner = self.lock();
        inner.over = true;
        let ended = |actor: &Actor| matches!(actor.state, State::Ended(_));
        while !inner.actors.iter().skip(1).all(ended) {
            self.hand_over(inner, DRIVER, State::Ready);
            inner = self.lock();
        }
        drop(inner);
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            thread.join().expect("actors catch their panics");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, me: ActorId, outcome: Result<(), Box<dyn Any + Send>>) {
        let end = match outcome {
            Ok(()) => End::Returned,
            Err(payload) if payload.is::<Killed>() => End::Killed,
            Err(payload) => End::Panicked(said(&*payload)),
        };
        let mut inner = self.lock();
        inner.actors[me].state = State::Ended(end);
        self.choose(&mut inner);
    }

    fn hand_over(&self, mut inner: MutexGuard<'_, Inner>, me: ActorId, state: State) {
        inner.actors[me].state = state;
        inner.steps += 1;
        self.choose(&mut inner);
        if inner.turn == me {
            inner.actors[me].state = State::Ready;
            return self.check_steps(inner, me);
        }
        self.await_turn(inner, me);
    }

    fn await_turn(&self, mut inner: MutexGuard<'_, Inner>, me: ActorId) {
        let wake = Arc::clone(&inner.actors[me].wake);
        while inner.turn != me {
            inner = wake.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner.actors[me].state = State::Ready;
        self.check_steps(inner, me);
    }

    fn check_steps(&self, mut inner: MutexGuard<'_, Inner>, me: ActorId) {
        inner.over |= inner.steps > STEPS_MAX;
        if inner.over && me != DRIVER {
            drop(inner);
            self.die();
        }
    }

    /// Gives the baton to one that can go on; time moves when nobody can.
    fn choose(&self, inner: &mut Inner) {
        loop {
            let (now, version) = (self.cluster.now(), self.cluster.version());
            let over = inner.over;
            let ready = |actor: &Actor| match &actor.state {
                State::Ready => true,
                State::Waiting { seen, until } => {
                    over || *until <= now || seen.is_some_and(|seen| seen != version)
                }
                State::Ended(_) => false,
            };
            let able = inner.actors.iter().enumerate().filter(|(_, actor)| ready(actor));
            let able: Vec<ActorId> = able.map(|(id, _)| id).collect();
            // Once the run is over the others are let go one by one; the driver comes last.
            let next = match able.as_slice() {
                [] => None,
                [.., last] if over => Some(*last),
                able => Some(*inner.rng.pick(able)),
            };
            if let Some(next) = next {
                inner.turn = next;
                inner.actors[next].wake.notify_one();
                return;
            }
            let waits = inner.actors.iter().filter_map(|actor| match &actor.state {
                State::Waiting { until, .. } => Some(*until),
                State::Ready | State::Ended(_) => None,
            });
            let until = waits.min().expect("the driver never ends");
            self.clock.advance_to(until.min(self.cluster.next_due()).max(now.plus_millis(1)));
        }
    }
}

fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
}

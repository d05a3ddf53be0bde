//! What goes wrong at the calls of one daemon, by the seed of its world.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use blotter::daemon::broker::LookupFailure;
use blotter::daemon::broker::embedded::{Call, Cluster, Conductor, LookupFate, Verdict};
use blotter::daemon::shard::{FaultHook, Passage};
use blotter::pipeline::record::{Timestamp, TopicPartition};

use crate::rng::Rng;
use crate::world::{ActorId, World};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Crash,
    Stall {
        millis: i64,
        frozen: bool,
    },
    LoseRequest,
    LoseAnswer,
    Refuse,
    /// The request of a commit arrives late.
    Keep,
}

impl Fault {
    /// Its place among the shares of the weather.
    const fn kind(self) -> usize {
        match self {
            Self::Crash => 0,
            Self::Stall { .. } => 1,
            Self::LoseRequest => 2,
            Self::LoseAnswer => 3,
            Self::Refuse => 4,
            Self::Keep => 5,
        }
    }
}

/// How often what goes wrong, and what did.
#[derive(Debug, Default)]
pub(crate) struct Weather {
    /// Whether anything may go wrong now.
    pub(crate) storm: AtomicBool,
    /// One call in so many is disturbed.
    every: u64,
    /// Shares of the kinds of faults: crash, stall, lost request, lost answer, refusal.
    shares: [u64; 5],
    /// How often each kind of fault happened, as in `shares`; late commits come last.
    happened: [AtomicU64; 6],
    /// Transactions whose counters may be lost: crashes, and commits whose answer got lost.
    pub(crate) counters_lost_max: AtomicU64,
}

impl Weather {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let every = *rng.pick(&[40, 80, 160, 320, 1000]);
        let shares = [0; 5].map(|_: u64| rng.below(4));
        Self { storm: AtomicBool::new(true), every, shares, ..Self::default() }
    }

    fn choose(&self, rng: &mut Rng, what: &str) -> Option<Fault> {
        // Between the first output and the end of a transaction more is at stake than elsewhere.
        let dense = ["begin", "produce", "after_send", "send_offsets", "commit"].contains(&what);
        let every = if dense { self.every / 4 } else { self.every };
        if !self.storm.load(Ordering::Relaxed) || !rng.one_in(every) {
            return None;
        }
        let mut left = rng.below(self.shares.iter().sum());
        let kind = self.shares.iter().position(|share| {
            let hit = left < *share;
            left = left.saturating_sub(*share);
            hit
        });
        // Longer than a session and shorter than a transaction may be: a member that slept.
        let sleeps = dense && rng.one_in(2);
        Some(match kind? {
            0 => Fault::Crash,
            1 if sleeps => Fault::Stall { millis: rng.between(16_000, 40_000), frozen: true },
            1 => Fault::Stall {
                millis: *rng.pick(&[50, 400, 3_000, 12_000, 20_000, 35_000, 70_000]),
                frozen: rng.below(4) > 0,
            },
            2 if what == "commit" && !rng.one_in(4) => Fault::Keep,
            2 => Fault::LoseRequest,
            3 => Fault::LoseAnswer,
            _ => Fault::Refuse,
        })
    }

    /// How often each kind of fault happened.
    pub(crate) fn happened(&self) -> [(&'static str, u64); 6] {
        let names = ["crash", "stall", "lost request", "lost answer", "refusal", "kept commit"];
        let mut counts = self.happened.iter().map(|count| count.load(Ordering::Relaxed));
        names.map(|name| (name, counts.next().unwrap_or(0)))
    }

    fn counters_may_be_lost(&self) {
        self.counters_lost_max.fetch_add(1, Ordering::Relaxed);
    }
}

/// Conducts one daemon.
pub(crate) struct DaemonConductor {
    pub(crate) world: Arc<World>,
    pub(crate) weather: Arc<Weather>,
    pub(crate) me: ActorId,
    /// The member, for faults at points where no broker call is under way.
    pub(crate) member: AtomicU64,
}

impl DaemonConductor {
    fn disturb(&self, what: &str, member: Option<u64>) -> Option<Fault> {
        self.world.pass(self.me);
        let fault = self.world.random(|rng| self.weather.choose(rng, what))?;
        self.world.note(format_args!("{} {what}: {fault:?}", self.me));
        self.weather.happened[fault.kind()].fetch_add(1, Ordering::Relaxed);
        match fault {
            Fault::Crash => {
                self.weather.counters_may_be_lost();
                self.world.die();
            }
            Fault::Stall { millis, frozen } => {
                let frozen = member.filter(|_| frozen);
                if let Some(member) = frozen {
                    self.world.cluster.freeze_member(member, true);
                }
                self.world.sleep(self.me, millis);
                if let Some(member) = frozen {
                    self.world.cluster.freeze_member(member, false);
                }
                None
            }
            Fault::LoseRequest | Fault::LoseAnswer | Fault::Refuse | Fault::Keep => Some(fault),
        }
    }
}

impl Conductor for DaemonConductor {
    fn before(&self, call: &Call<'_>) -> Verdict {
        if call.operation == "send" {
            return Verdict::Proceed;
        }
        if let Some(member) = call.member {
            self.member.store(member, Ordering::Relaxed);
        }
        let fault = self.disturb(call.operation, call.member);
        if call.operation != "poll" {
            self.world.note(format_args!("{} {}", self.me, call.operation));
        }
        match fault {
            Some(Fault::LoseRequest) => Verdict::LoseRequest,
            Some(Fault::LoseAnswer) => {
                if call.operation == "commit" {
                    self.weather.counters_may_be_lost();
                }
                Verdict::LoseAnswer
            }
            Some(Fault::Refuse) => Verdict::Refuse,
            Some(Fault::Keep) => {
                self.weather.counters_may_be_lost();
                Verdict::Keep
            }
            _ => Verdict::Proceed,
        }
    }

    fn after(&self, call: &Call<'_>) {
        self.disturb(call.operation, call.member);
    }

    fn lookup(&self, call: &Call<'_>, asked: &TopicPartition) -> LookupFate {
        let storm = self.weather.storm.load(Ordering::Relaxed);
        let fate = self.world.random(|rng| {
            let slow = storm && rng.one_in(8);
            let failure = (storm && rng.one_in(40)).then(|| match rng.below(2) {
                0 => LookupFailure::TimedOut,
                _ => LookupFailure::Other("injected".to_owned()),
            });
            let delay = rng.below(if slow { 4_000 } else { 20 });
            LookupFate { delay: Duration::from_millis(delay), stale: rng.one_in(2), failure }
        });
        self.world.note(format_args!("{} {} {asked} {fate:?}", self.me, call.operation));
        fate
    }

    fn batch(&self, _call: &Call<'_>, queued: usize) -> usize {
        self.world.random(|rng| {
            let all = u64::try_from(queued).expect("small");
            let some = if rng.one_in(3) { 1 + rng.below(all) } else { all };
            usize::try_from(some).expect("small")
        })
    }

    fn wait(&self, _call: &Call<'_>, _cluster: &Cluster, seen: u64, until: Timestamp) {
        self.world.wait(self.me, Some(seen), until);
    }

    fn sleep(&self, _call: &Call<'_>, cluster: &Cluster, until: Timestamp) {
        self.world.sleep(self.me, until.millis_since(cluster.now()));
    }
}

impl FaultHook for DaemonConductor {
    fn reached(&self, passage: Passage) {
        let member = self.member.load(Ordering::Relaxed);
        self.disturb(passage.point.name(), Some(member));
    }
}

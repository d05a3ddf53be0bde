//! The tests over seeds.

use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::plan::Cast;
use crate::played::Played;
use crate::run::{Outcome, run};
use crate::sabotage::Sabotage;

/// Seeds played when `SIM_RUNS` does not say otherwise.
const RUNS: u64 = 2_000;

/// Seeds within which a break must be caught.
const RUNS_PER_BREAK: u64 = 500;

#[test]
fn the_promises_hold() {
    let runs = setting("SIM_RUNS").unwrap_or(RUNS);
    let (broken, played) = first_broken(runs, None, None);
    if let Some((seed, broken)) = broken {
        panic!("{broken}\nreplay: SIM_SEED={seed} cargo test --test sim replay -- --nocapture");
    }
    println!("{runs} runs: {played:?}");
    assert_eq!(played.missing(runs), Vec::<&str>::new(), "{played:?}");
}

#[test]
fn every_deliberate_break_is_caught() {
    for sabotage in Sabotage::ALL {
        // By the real SCRUB too, whose restore is the one that counts.
        for cast in [None, Some(Cast::Scrub)] {
            let (caught, _) = first_broken(RUNS_PER_BREAK, Some(sabotage), cast);
            let (seed, broken) =
                caught.unwrap_or_else(|| panic!("{sabotage:?} was not caught ({cast:?})"));
            println!("{sabotage:?} ({cast:?}): seed {seed}: {broken}");
        }
    }
}

#[test]
fn a_seed_gives_the_same_events_each_time() {
    for seed in 1..20 {
        let (one, two) = (play(seed, None, None, true), play(seed, None, None, true));
        assert_eq!(one.log, two.log, "seed {seed}");
        assert_eq!(one.log_hash, two.log_hash, "seed {seed}");
    }
}

#[test]
fn replay() {
    let Some(seed) = setting("SIM_SEED") else { return };
    let sabotage = setting("SIM_BREAK")
        .and_then(|index| Sabotage::ALL.get(usize::try_from(index).expect("an index")).copied());
    let cast = setting("SIM_CAST")
        .and_then(|index| Cast::ALL.get(usize::try_from(index).expect("an index")).copied());
    let outcome = play(seed, sabotage, cast, true);
    println!("{}", outcome.log.unwrap_or_default());
    println!("seed {seed}, {sabotage:?}: {:?}", outcome.broken);
    assert_eq!(outcome.broken, None);
}

/// Plays seeds on all cores; the smallest that breaks a promise, and what happened in all of them.
fn first_broken(
    runs: u64,
    sabotage: Option<Sabotage>,
    cast: Option<Cast>,
) -> (Option<(u64, String)>, Played) {
    let next = AtomicU64::new(1);
    let smallest = AtomicU64::new(u64::MAX);
    let work = || {
        let (mut found, mut played) = (None, Played::default());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > runs || seed > smallest.load(Ordering::Relaxed) {
                return (found, played);
            }
            let outcome = play(seed, sabotage, cast, false);
            played.merge(&outcome.played);
            if let Some(broken) = outcome.broken {
                smallest.fetch_min(seed, Ordering::Relaxed);
                found = Some((seed, broken));
            }
        }
    };
    let cores = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let ended = workers.into_iter().map(|worker| worker.join().expect("workers end"));
        ended.fold((None, Played::default()), |(smallest, mut all), (found, played)| {
            all.merge(&played);
            (smallest.into_iter().chain(found).min(), all)
        })
    })
}

fn play(seed: u64, sabotage: Option<Sabotage>, cast: Option<Cast>, keep_log: bool) -> Outcome {
    keep_actors_quiet();
    run(seed, sabotage, cast, keep_log)
}

/// An actor's panic is part of the play: the driver reports it.
fn keep_actors_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let actor = thread::current().name().is_some_and(|name| name.starts_with("sim-"));
            if !actor {
                report(info);
            }
        }));
    });
}

#[expect(clippy::disallowed_methods, reason = "how often to play is asked for by the caller")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

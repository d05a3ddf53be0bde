//! The tests over seeds.

use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::run::{Outcome, run};
use crate::sabotage::Sabotage;

/// Seeds played when `SIM_RUNS` does not say otherwise.
const RUNS: u64 = 2_000;

/// Seeds within which a break must be caught.
const RUNS_PER_BREAK: u64 = 500;

#[test]
fn the_promises_hold() {
    let runs = setting("SIM_RUNS").unwrap_or(RUNS);
    if let Some((seed, broken)) = first_broken(runs, None) {
        panic!("{broken}\nreplay: SIM_SEED={seed} cargo test --test sim replay -- --nocapture");
    }
}

#[test]
fn every_deliberate_break_is_caught() {
    for sabotage in Sabotage::ALL {
        let caught = first_broken(RUNS_PER_BREAK, Some(sabotage));
        let (seed, broken) = caught.unwrap_or_else(|| panic!("{sabotage:?} was not caught"));
        println!("{sabotage:?}: seed {seed}: {broken}");
    }
}

#[test]
fn a_seed_gives_the_same_events_each_time() {
    for seed in 1..20 {
        let (one, two) = (play(seed, None, true), play(seed, None, true));
        assert_eq!(one.log, two.log, "seed {seed}");
        assert_eq!(one.log_hash, two.log_hash, "seed {seed}");
    }
}

#[test]
fn replay() {
    let Some(seed) = setting("SIM_SEED") else { return };
    let sabotage = setting("SIM_BREAK")
        .and_then(|index| Sabotage::ALL.get(usize::try_from(index).expect("an index")).copied());
    let outcome = play(seed, sabotage, true);
    println!("{}", outcome.log.unwrap_or_default());
    println!("seed {seed}, {sabotage:?}: {:?}", outcome.broken);
    assert_eq!(outcome.broken, None);
}

/// Plays seeds on all cores; the smallest that breaks a promise.
fn first_broken(runs: u64, sabotage: Option<Sabotage>) -> Option<(u64, String)> {
    let next = AtomicU64::new(1);
    let smallest = AtomicU64::new(u64::MAX);
    let work = || {
        let mut found = None;
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > runs || seed > smallest.load(Ordering::Relaxed) {
                return found;
            }
            if let Some(broken) = play(seed, sabotage, false).broken {
                smallest.fetch_min(seed, Ordering::Relaxed);
                found = Some((seed, broken));
            }
        }
    };
    let cores = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().filter_map(|worker| worker.join().expect("workers end")).min()
    })
}

fn play(seed: u64, sabotage: Option<Sabotage>, keep_log: bool) -> Outcome {
    keep_actors_quiet();
    run(seed, sabotage, keep_log)
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

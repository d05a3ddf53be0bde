//! How a shard ends: by a signal, by a second one, by a partition that is not for this process.

use super::*;

#[test]
fn a_refused_process_leaves_and_says_why() {
    let mut bench = Bench::with(2, 10, |stage| stage.refuses = true);
    let ended = bench.shard.take().unwrap().run(&Stop::default());
    let Err(ShardError::Refused { topic_partition, stop }) = ended else { panic!("{ended:?}") };
    assert_eq!((topic_partition, stop.reason), (source(0), "other_keyring"));
    assert_eq!(bench.world().count("committed in/0"), 2, "it was confirmed");
    assert_eq!(bench.world().log.last().unwrap(), "close");
}

#[test]
fn the_first_signal_commits_and_leaves() {
    let mut bench = Bench::new(1, 10);
    bench.turns(20).unwrap();
    bench.world().ends.insert(source(0), 20);
    bench.turns(1).unwrap();
    let stop = Stop::default();
    stop.request(StopLevel::Drain);
    bench.shard.take().unwrap().run(&stop).unwrap();
    bench.assert_exactly_once(20);
    assert_eq!(bench.world().log.last().unwrap(), "close");
}

#[test]
fn the_second_signal_ends_at_once() {
    for during in ["drain", "send_offsets", "commit"] {
        let mut bench = Bench::new(1, 10);
        bench.turns(20).unwrap();
        bench.world().ends.insert(source(0), 20);
        bench.turns(1).unwrap();
        let stop = Stop::default();
        stop.request(StopLevel::Drain);
        bench.world().second_signal = Some((during, stop.clone()));
        bench.shard.take().unwrap().run(&stop).unwrap();
        let log = bench.world().log.split_off(0);
        let told = log.iter().rposition(|call| call == during).unwrap();
        let further = ["send_offsets", "commit", "close"];
        assert!(!log[told + 1..].iter().any(|call| further.contains(&&**call)), "{log:?}");
    }
}

#[test]
fn a_member_that_never_comes_back_is_built_anew() {
    let mut bench = Bench::new(1, 10);
    bench.turns(20).unwrap();
    assert!(bench.health.read().joined);
    bench.world().events.push_back(Event::Revoked { partitions: vec![source(0)], lost: true });
    bench.turns(20).unwrap();
    assert!(!bench.health.read().joined, "it serves nothing");
    let error = bench.turns(2_000).unwrap_err();
    assert_eq!(error.operation, "membership_watchdog");
}

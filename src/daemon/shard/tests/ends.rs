//! How a shard ends: by a signal, and by a second one.

use super::*;

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

//! What stops one partition, and what sets it going again.

use super::*;

fn alarm(bench: &Bench, partition: i32) -> Option<&'static str> {
    let stopped = bench.health.read().stopped;
    let own = stopped.iter().find(|(stopped, _)| *stopped == source(partition));
    own.map(|(_, stop)| stop.reason)
}

fn detail(bench: &Bench) -> String {
    bench.health.read().stopped[0].1.detail.clone()
}

#[test]
fn an_output_that_goes_away_stops_those_that_write_to_it_until_it_is_back() {
    for is_silent in [false, true] {
        let mut bench = Bench::new(2, 10);
        bench.turns(20).unwrap();
        bench.world().is_silent = is_silent;
        let gone = TopicPartition::new("out", 0);
        bench.world().missing.insert(gone.clone());
        bench.world().ends.extend([(source(0), 20), (source(1), 20)]);
        bench.turns(200).unwrap();
        assert_eq!(alarm(&bench, 0), Some("output_partition_missing"));
        assert!(detail(&bench).contains("out/0"), "{}", detail(&bench));
        assert_eq!(bench.world().committed[&source(1)].0, 20, "the neighbour goes on");
        let resets = bench.world().count("reset");
        bench.turns(2_000).unwrap();
        assert_eq!(bench.world().count("reset"), resets, "nothing is sent in vain");
        bench.world().missing.clear();
        bench.turns(4_000).unwrap();
        assert_eq!(alarm(&bench, 0), None);
        assert_eq!(bench.world().committed[&source(0)].0, 20);
        let own = |value: &&String| value.starts_with("0:");
        assert_eq!(bench.world().visible.iter().filter(own).count(), 20, "once each");
    }
}

#[test]
fn a_topic_of_all_that_goes_away_stops_those_alone_that_need_it_now() {
    let mut bench = Bench::with(2, 3, |stage| {
        stage.failures.insert(5);
    });
    bench.turns(20).unwrap();
    let gone = TopicPartition::new("letters", 0);
    bench.world().missing.insert(gone);
    bench.world().ends.extend([(source(0), 9), (source(1), 4)]);
    bench.turns(200).unwrap();
    assert_eq!(alarm(&bench, 0), Some("output_partition_missing"));
    assert!(detail(&bench).contains("letters"), "{}", detail(&bench));
    assert_eq!(bench.world().committed[&source(1)].0, 4, "it has no dead letter");
    assert_eq!(alarm(&bench, 1), None);
    bench.world().missing.clear();
    bench.turns(4_000).unwrap();
    assert_eq!(bench.world().committed[&source(0)].0, 9);
    assert!(bench.world().visible.contains(&"0:5bad".to_owned()));
}

#[test]
fn a_topic_that_every_transaction_needs_stops_all_and_is_named() {
    let mut bench = Bench::with(2, 3, |stage| stage.measures = true);
    bench.turns(20).unwrap();
    bench.world().missing.insert(TopicPartition::new("measures", 0));
    bench.world().ends.extend([(source(0), 9), (source(1), 9)]);
    bench.turns(200).unwrap();
    for partition in [0, 1] {
        assert_eq!(alarm(&bench, partition), Some("output_partition_missing"));
    }
    assert!(detail(&bench).contains("measures"), "{}", detail(&bench));
    bench.world().missing.clear();
    bench.turns(4_000).unwrap();
    assert!(bench.health.read().stopped.is_empty());
    assert_eq!(bench.world().committed[&source(1)].0, 9);
}

#[test]
fn a_refusal_stops_for_the_topic_it_names_or_at_length_for_all() {
    let mut bench = Bench::new(2, 10);
    bench.turns(20).unwrap();
    for _ in 0..3 {
        bench.fail("drain", BrokerErrorKind::NotAuthorized);
    }
    bench.world().ends.extend([(source(0), 20), (source(1), 20)]);
    bench.turns(60).unwrap();
    assert_eq!(alarm(&bench, 0), Some("output_not_authorized"));
    assert_eq!(alarm(&bench, 1), Some("output_not_authorized"));
    bench.turns(1_000).unwrap();
    assert!(bench.health.read().stopped.is_empty(), "tried again by itself");
    assert_eq!(bench.world().committed[&source(1)].0, 20);
}

#[test]
fn a_damaged_batch_stops_its_partition_alone_until_it_can_be_read() {
    let mut bench = Bench::new(2, 10);
    bench.turns(20).unwrap();
    bench.world().events.push_back(Event::PartitionFailed {
        topic_partition: Some(source(0)),
        failure: PartitionFailure::Corrupt,
    });
    bench.turns(1).unwrap();
    bench.world().ends.extend([(source(0), 20), (source(1), 20)]);
    bench.turns(20).unwrap();
    assert_eq!(alarm(&bench, 0), Some("batch_corrupt"));
    assert_eq!(bench.world().committed[&source(0)].0, 10);
    assert_eq!(bench.world().committed[&source(1)].0, 20);
    bench.turns(200).unwrap();
    assert_eq!(bench.world().committed[&source(0)].0, 20, "tried again after a while");
}

/// When the stage was told that partition 0 is not read, in seconds, and that it never waited long.
fn told_each_minute(bench: &Bench) -> usize {
    let world = bench.world();
    let own = world.held.iter().filter(|(held, _)| *held == source(0));
    let times: Vec<i64> = own.map(|(_, at)| at.millis() / 1_000).collect();
    assert!(times.windows(2).all(|two| two[1] - two[0] <= 62), "{times:?}");
    times.len()
}

#[test]
fn the_stage_is_told_of_a_stop_for_as_long_as_it_lasts() {
    let stop = PartitionStop { reason: "not_text", detail: String::new(), command: String::new() };
    let mut bench = Bench::new(2, 10);
    bench.turns(20).unwrap();
    bench.shard.as_mut().unwrap().stage.pauses = vec![(source(0), stop)];
    bench.turns(8_000).unwrap();
    assert!(told_each_minute(&bench) >= 11, "the stage asked for it");

    let mut bench = Bench::new(2, 10);
    bench.world().missing.insert(TopicPartition::new("out", 0));
    bench.turns(8_000).unwrap();
    assert!(told_each_minute(&bench) >= 11, "the shard found it");
    bench.world().missing.clear();
    bench.turns(4_000).unwrap();
    let told = told_each_minute(&bench);
    bench.turns(4_000).unwrap();
    assert_eq!(told_each_minute(&bench), told, "it is over");
}

#[test]
fn a_partition_that_can_not_be_started_shows_and_is_read_again() {
    let mut bench = Bench::new(1, 10);
    for _ in 0..9 {
        bench.fail("start", BrokerErrorKind::Retriable);
    }
    bench.turns(20).unwrap();
    assert_eq!(alarm(&bench, 0), Some("start_failed"));
    assert!(bench.counters.sum(Metric::PartitionStopped).abs() < 0.1, "it may pass");
    bench.turns(250).unwrap();
    assert!((bench.counters.sum(Metric::PartitionStopped) - 1.0).abs() < 0.1, "it did not");
    bench.turns(600).unwrap();
    assert!(bench.health.read().stopped.is_empty());
    bench.assert_exactly_once(10);
}

fn stalls(bench: &Bench, records: u64) {
    bench.world().events.push_back(Event::Lag { topic_partition: source(0), records });
}

/// Lets a minute and more pass with partition 1 at its end.
fn wait_beside_a_neighbour(bench: &mut Bench) -> Result<(), BrokerError> {
    for _ in 0..70 {
        let event = Event::CaughtUp { topic_partition: source(1), end_offset: 10 };
        bench.world().events.push_back(event);
        bench.turns(12)?;
    }
    Ok(())
}

#[test]
fn a_partition_that_stalls_again_is_stopped_alone_until_it_moves() {
    let mut bench = Bench::new(2, 10);
    bench.turns(20).unwrap();
    stalls(&bench, 5);
    let error = wait_beside_a_neighbour(&mut bench).unwrap_err();
    assert_eq!(error.operation, "stall_watchdog");

    let health = bench.health.clone();
    let mut bench = Bench::new(2, 10);
    let shard = bench.shard.as_mut().unwrap();
    shard.health = health.clone();
    shard.stalled = health.read().stalled;
    bench.world().committed.extend([0, 1].map(|n| (source(n), (10, "1".to_owned()))));
    bench.turns(20).unwrap();
    stalls(&bench, 5);
    for _ in 0..3 {
        wait_beside_a_neighbour(&mut bench).unwrap();
        stalls(&bench, 5);
    }
    let sum = bench.counters.sum(Metric::PartitionStopped);
    assert!((sum - 1.0).abs() < 0.1, "the alarm stays on while it is tried: {sum}");
    bench.world().ends.insert(source(0), 15);
    bench.turns(3_000).unwrap();
    assert_eq!(bench.world().committed[&source(0)].0, 15);
    assert!(health.read().stalled.is_empty());
}

#[test]
fn a_client_that_gives_nothing_at_all_is_built_anew_each_time() {
    let health = HealthCell::default();
    health.update(|health| health.stalled = [source(0)].into());
    let mut bench = Bench::new(1, 10);
    bench.turns(20).unwrap();
    bench.shard.as_mut().unwrap().stalled = health.read().stalled;
    stalls(&bench, 5);
    assert_eq!(bench.turns(1_000).unwrap_err().operation, "stall_watchdog");
}

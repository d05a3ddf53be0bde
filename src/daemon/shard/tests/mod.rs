//! Every path of the shard with a broker that fails on demand.

mod around;
mod echo;
mod ends;
mod findings;
mod pending;
mod script;
mod stops;

use std::collections::VecDeque;

use self::around::Counters;
use self::echo::Echo;
use self::script::{Script, World, source};
use super::*;
use crate::daemon::broker::{BrokerErrorKind, LookupFailure, PartitionFailure};
use crate::pipeline::step::LookupAnswer;

/// A shard under test with everything around it.
struct Bench {
    script: Script,
    shard: Option<Shard<Script, Echo, Script>>,
    counters: Arc<Counters>,
    health: HealthCell,
}

impl Bench {
    /// A member with partitions `0..partitions`, each with `records` records.
    fn new(partitions: i32, records: i64) -> Self {
        Self::with(partitions, records, |_| {})
    }

    fn with(partitions: i32, records: i64, prepare: impl FnOnce(&mut Echo)) -> Self {
        let script = Script::default();
        let assigned: Vec<TopicPartition> = (0..partitions).map(source).collect();
        for topic_partition in &assigned {
            script.0.borrow_mut().ends.insert(topic_partition.clone(), records);
        }
        script.0.borrow_mut().events.push_back(Event::Assigned(assigned));
        let mut stage = Echo::default();
        stage.world = script.clone();
        prepare(&mut stage);
        let counters = Arc::new(Counters::default());
        let health = HealthCell::default();
        let shard = Shard::new(ShardParts {
            broker: script.clone(),
            stage,
            clock: script.clone(),
            config: ShardConfig::new("scrub", "0".to_owned(), "own".to_owned()),
            metrics: Arc::clone(&counters) as Arc<dyn MetricSink>,
            health: health.clone(),
            faults: Arc::new(NoFaults),
        });
        Self { script, shard: Some(shard), counters, health }
    }

    fn turns(&mut self, turns: usize) -> Result<(), BrokerError> {
        let stop = Stop::default();
        let shard = self.shard.as_mut().expect("not ended");
        (0..turns).try_for_each(|_| shard.turn(&stop))
    }

    fn world(&self) -> std::cell::RefMut<'_, World> {
        self.script.0.borrow_mut()
    }

    fn fail(&self, operation: &'static str, kind: BrokerErrorKind) {
        self.world().errors.entry(operation).or_default().push_back(kind);
    }

    /// Each record of partition 0 is visible once, in order.
    fn assert_exactly_once(&self, records: i64) {
        let expected: Vec<String> = (0..records).map(|offset| format!("0:{offset}")).collect();
        assert_eq!(self.world().visible, expected);
        assert_eq!(self.world().committed[&source(0)].0, records);
        let counted = self.counters.sum(Metric::LogBytes);
        assert!((counted - f64::from(u32::try_from(records).unwrap())).abs() < 0.5, "{counted}");
    }
}

fn stopped(reason: &str, health: &HealthCell) -> bool {
    health.read().stopped.iter().any(|(_, stop)| stop.reason == reason)
}

#[test]
fn records_are_read_written_and_committed_after_a_heartbeat() {
    let mut bench = Bench::new(1, 250);
    bench.turns(30).unwrap();
    bench.assert_exactly_once(250);
    let heartbeat = bench.world().place("send_offsets");
    assert!(heartbeat < bench.world().place("send"), "the first transaction is a heartbeat");
    let transactions: u64 = bench.world().committed[&source(0)].1.parse().unwrap();
    assert_eq!(transactions, u64::try_from(bench.world().count("commit")).unwrap());
}

/// Commits while 100 records of each partition come every millisecond, for a second and a half.
fn commits_under_a_backlog(partitions: i32, commit_time: Duration, timeout_ms: u64) -> usize {
    let mut bench = Bench::new(partitions, 1_000_000);
    bench.world().commit_time = commit_time;
    let config = &mut bench.shard.as_mut().expect("not ended").config;
    config.transaction_step_timeout = Duration::from_millis(timeout_ms);
    bench.turns(100).unwrap();
    let before = bench.world().count("commit");
    bench.turns(1_500).unwrap();
    bench.world().count("commit") - before
}

#[test]
fn a_backlog_is_read_in_longer_transactions_while_the_brokers_are_prompt() {
    let full_polls = commits_under_a_backlog(2, Duration::ZERO, 3_000);
    assert!((3..=4).contains(&full_polls), "{full_polls} commits");
    let polls_with_room = commits_under_a_backlog(1, Duration::ZERO, 3_000);
    assert!((14..=16).contains(&polls_with_room), "{polls_with_room} commits");
    let slow_brokers = commits_under_a_backlog(2, Duration::from_millis(100), 3_000);
    assert!((14..=16).contains(&slow_brokers), "{slow_brokers} commits");
    let short_time_out = commits_under_a_backlog(2, Duration::ZERO, 250);
    assert!((7..=8).contains(&short_time_out), "{short_time_out} commits");
}

#[test]
fn every_error_of_every_step_leads_back_and_nothing_is_lost_or_doubled() {
    use BrokerErrorKind::{
        Abortable, Fatal, NotAuthorized, ProducerFenced, RecordRefused, Retriable, StaleMember,
        TimedOut, UnknownPartition,
    };
    for operation in ["begin", "send", "drain", "send_offsets", "commit"] {
        for kind in [
            Retriable,
            TimedOut,
            Abortable,
            StaleMember,
            ProducerFenced,
            RecordRefused,
            UnknownPartition,
            NotAuthorized,
            Fatal,
        ] {
            for answers_lost in [0, 1] {
                let mut bench = Bench::new(1, 150);
                bench.turns(8).unwrap();
                bench.fail(operation, kind);
                bench.world().answers_lost = if operation == "commit" { answers_lost } else { 0 };
                bench.world().ends.insert(source(0), 300);
                bench.turns(80).unwrap();
                bench.assert_exactly_once(300);
                let repeated = operation == "send_offsets" && kind == Retriable;
                assert_eq!(bench.world().count("reset"), usize::from(!repeated));
                assert_eq!(bench.world().count("assign in/0"), 1, "the state was kept");
            }
        }
    }
}

#[test]
fn a_newer_process_with_our_instance_id_ends_the_shard() {
    for operation in ["poll", "send_offsets", "commit", "reset"] {
        let mut bench = Bench::new(1, 10);
        bench.fail(operation, BrokerErrorKind::InstanceFenced);
        bench.fail("drain", BrokerErrorKind::Abortable);
        let error = bench.turns(50).unwrap_err();
        assert_eq!(error.kind, BrokerErrorKind::InstanceFenced, "{operation}");
    }
}

#[test]
fn a_producer_that_can_not_be_built_ends_in_a_new_connection() {
    let mut bench = Bench::new(1, 10);
    bench.fail("drain", BrokerErrorKind::Abortable);
    for _ in 0..6 {
        bench.fail("reset", BrokerErrorKind::TimedOut);
    }
    assert_eq!(bench.turns(500).unwrap_err().kind, BrokerErrorKind::TimedOut);
    assert_eq!(bench.world().count("reset"), 6);
}

#[test]
fn back_off_grows_while_nothing_commits() {
    let mut bench = Bench::new(1, 10);
    for _ in 0..6 {
        bench.fail("commit", BrokerErrorKind::Abortable);
    }
    bench.turns(300).unwrap();
    bench.assert_exactly_once(10);
    assert!(bench.world().elapsed > Duration::from_millis(100 + 200 + 400 + 800 + 1600));
}

#[test]
fn an_unknown_outcome_that_stays_unknown_is_suspended() {
    let mut bench = Bench::new(1, 10);
    bench.turns(4).unwrap();
    bench.fail("commit", BrokerErrorKind::TimedOut);
    let timed_out = VecDeque::from([Err(LookupFailure::TimedOut)]);
    bench.world().lookups.insert("committed in/0".to_owned(), timed_out);
    bench.turns(60).unwrap();
    assert_eq!(bench.world().count("suspend"), 1);
    bench.assert_exactly_once(10);
    assert_eq!(bench.world().count("assign in/0"), 2);
}

#[test]
fn a_partition_whose_committed_offset_moved_is_restored() {
    let mut bench = Bench::new(1, 10);
    bench.turns(20).unwrap();
    bench.fail("drain", BrokerErrorKind::Abortable);
    bench.world().committed.insert(source(0), (4, "99".to_owned()));
    bench.world().ends.insert(source(0), 12);
    bench.turns(40).unwrap();
    assert_eq!(bench.world().count("assign in/0"), 2);
    assert_eq!(bench.world().visible[10], "0:4", "it goes on where the committed offset says");
}

#[test]
fn revoked_partitions_are_committed_before_they_are_given_back() {
    let mut bench = Bench::new(2, 10);
    bench.turns(11).unwrap();
    let before = bench.world().count("commit");
    bench.world().ends.insert(source(0), 20);
    let event = Event::Revoked { partitions: vec![source(0)], lost: false };
    bench.world().events.push_back(event);
    bench.turns(1).unwrap();
    assert_eq!(bench.world().count("commit"), before + 1);
    assert_eq!(bench.world().log.last().unwrap(), "release 1");
    assert_eq!(bench.world().committed[&source(0)].0, 20);
    bench.world().ends.insert(source(1), 20);
    bench.turns(10).unwrap();
    assert_eq!(bench.world().committed[&source(1)].0, 20, "the other one goes on");
}

#[test]
fn a_lost_assignment_commits_nothing() {
    let mut bench = Bench::new(1, 10);
    bench.turns(20).unwrap();
    let before = bench.world().count("send_offsets");
    bench.world().ends.insert(source(0), 20);
    bench.world().events.push_back(Event::Revoked { partitions: vec![source(0)], lost: true });
    bench.turns(10).unwrap();
    assert_eq!(bench.world().count("send_offsets"), before);
    assert_eq!(bench.world().count("release 1"), 1);
    bench.world().events.push_back(Event::Assigned(vec![source(0)]));
    bench.turns(20).unwrap();
    bench.assert_exactly_once(20);
}

#[test]
fn a_panic_rejects_its_record_alone() {
    let mut bench = Bench::with(1, 120, |stage| {
        stage.panics.insert(37);
    });
    bench.turns(60).unwrap();
    let visible = bench.world().visible.clone();
    assert_eq!(visible.len(), 120);
    assert_eq!(visible[37], "0:37panic");
    assert_eq!(visible[38], "0:38");
    assert_eq!(bench.world().count("reset"), 1);
}

#[test]
fn a_record_that_the_stage_can_not_take_costs_no_rebuild() {
    let mut bench = Bench::with(1, 50, |stage| {
        stage.failures.insert(7);
    });
    bench.turns(30).unwrap();
    let visible = bench.world().visible.clone();
    assert_eq!((visible.len(), visible[7].as_str()), (50, "0:7bad"));
    assert_eq!(bench.world().count("reset"), 0);
}

#[test]
fn a_refused_output_is_hunted_down_by_halving() {
    let mut bench = Bench::new(1, 100);
    bench.world().poison_outputs.insert("0:61".to_owned());
    bench.turns(300).unwrap();
    let visible = bench.world().visible.clone();
    assert_eq!(visible.len(), 100);
    assert_eq!(visible[61], "0:61record_refused");
    assert!(visible.iter().enumerate().all(|(n, v)| n == 61 || *v == format!("0:{n}")));
    assert!(bench.world().count("reset") <= 12, "{}", bench.world().count("reset"));
}

#[test]
fn a_record_that_can_not_even_be_rejected_stops_its_partition_alone() {
    let mut bench = Bench::new(2, 20);
    bench.world().poison_outputs.extend(["0:5".to_owned(), "0:5record_refused".to_owned()]);
    bench.turns(300).unwrap();
    assert!(stopped("poison", &bench.health));
    assert_eq!(bench.world().committed[&source(1)].0, 20, "the neighbour goes on");
    assert!(bench.world().committed[&source(0)].0 <= 5);
}

#[test]
fn a_full_queue_is_waited_out() {
    let mut bench = Bench::new(1, 10);
    bench.world().queue_full = 5;
    bench.turns(30).unwrap();
    bench.assert_exactly_once(10);
    assert_eq!(bench.world().count("await_room"), 5);
    assert_eq!(bench.world().count("reset"), 0);
}

#[test]
fn a_foreign_offset_is_never_committed() {
    let mut bench = Bench::with(1, 10, |stage| stage.foreign = true);
    bench.turns(50).unwrap();
    assert_eq!(bench.world().count("send_offsets"), 0);
    assert!(bench.world().visible.is_empty());
}

#[test]
fn records_below_the_position_are_dropped_and_counted() {
    let mut bench = Bench::new(1, 10);
    bench.turns(20).unwrap();
    bench.world().again = vec![(source(0), 9)];
    bench.turns(5).unwrap();
    bench.assert_exactly_once(10);
    assert!((bench.counters.sum(Metric::DuplicatesDropped) - 1.0).abs() < 0.1);
}

#[test]
fn a_partition_that_gives_nothing_in_spite_of_lag_has_the_shard_built_anew() {
    let mut bench = Bench::new(1, 10);
    bench.turns(20).unwrap();
    bench.world().events.push_back(Event::Lag { topic_partition: source(0), records: 5 });
    let error = bench.turns(1_000).unwrap_err();
    assert_eq!((error.kind, error.operation), (BrokerErrorKind::Fatal, "stall_watchdog"));
}

#[test]
fn an_end_that_was_reached_is_no_stall() {
    let mut bench = Bench::new(1, 10);
    bench.turns(20).unwrap();
    for _ in 0..3 {
        bench.world().events.push_back(Event::Lag { topic_partition: source(0), records: 1 });
        bench.turns(400).unwrap();
        let end = Event::CaughtUp { topic_partition: source(0), end_offset: 11 };
        bench.world().events.push_back(end);
        bench.turns(1).unwrap();
    }
    assert_eq!(bench.world().count("caught_up in/0"), 3);
}

#[test]
fn an_offset_out_of_range_is_a_matter_of_the_restore() {
    let mut bench = Bench::new(2, 10);
    bench.turns(20).unwrap();
    bench.world().events.push_back(Event::PartitionFailed {
        topic_partition: Some(source(0)),
        failure: PartitionFailure::OffsetOutOfRange,
    });
    bench.turns(20).unwrap();
    assert_eq!(bench.world().count("assign in/0"), 2);
    assert_eq!(bench.world().count("assign in/1"), 1);
    assert_eq!(bench.world().count("reset"), 0);
}

#[test]
fn a_missing_output_partition_stops_its_source_alone_until_it_is_there() {
    let mut bench = Bench::new(2, 10);
    let missing = VecDeque::from([Err(LookupFailure::UnknownPartition)]);
    bench.world().lookups.insert("range out/0".to_owned(), missing);
    bench.turns(30).unwrap();
    assert!(stopped("output_partition_missing", &bench.health));
    assert_eq!(bench.world().committed[&source(1)].0, 10);
    assert!((bench.counters.sum(Metric::PartitionStopped) - 1.0).abs() < 0.1);
    bench.turns(400).unwrap();
    assert!(bench.health.read().stopped.is_empty());
    assert_eq!(bench.world().committed[&source(0)].0, 10, "tried again after a while");
}

#[test]
fn an_error_without_a_name_pauses_only_the_partition_a_probe_finds() {
    let mut bench = Bench::new(2, 10);
    bench.turns(20).unwrap();
    let failure = VecDeque::from([Err(LookupFailure::NotAuthorized)]);
    bench.world().lookups.insert("range in/1".to_owned(), failure);
    bench.world().events.push_back(Event::PartitionFailed {
        topic_partition: None,
        failure: PartitionFailure::NotAuthorized,
    });
    bench.turns(5).unwrap();
    assert!(stopped("not_authorized", &bench.health));
    assert_eq!(bench.health.read().stopped.len(), 1);
}

#[test]
fn a_partition_the_stage_wants_paused_is_paused_alone() {
    let stop = PartitionStop { reason: "not_text", detail: String::new(), command: String::new() };
    let mut bench = Bench::new(2, 10);
    bench.turns(20).unwrap();
    bench.shard.as_mut().unwrap().stage.pauses = vec![(source(0), stop)];
    bench.turns(2).unwrap();
    assert!(stopped("not_text", &bench.health));
    bench.world().ends.insert(source(0), 15);
    bench.world().ends.insert(source(1), 15);
    bench.turns(1_000).unwrap();
    assert_eq!(bench.world().committed[&source(0)].0, 10, "it waits for an operator");
    assert_eq!(bench.world().committed[&source(1)].0, 15);
}

#[test]
fn a_record_that_must_wait_is_not_rejected() {
    let mut bench = Bench::with(1, 50, |stage| {
        stage.waits.insert(7);
    });
    bench.turns(100).unwrap();
    assert!(stopped("key_missing", &bench.health));
    bench.assert_exactly_once(7);
    assert_eq!(bench.world().count("reset"), 0);
}

#[test]
fn a_stop_is_told_only_while_the_committed_offset_stands() {
    let mut bench = Bench::with(1, 10, |stage| stage.stops = 1);
    let committed =
        |offset| Ok(LookupAnswer::Committed { offset: Some(offset), metadata: "1".to_owned() });
    let answers = VecDeque::from([committed(3), committed(4), committed(0)]);
    bench.world().lookups.insert("committed in/0".to_owned(), answers);
    bench.turns(30).unwrap();
    assert_eq!(bench.world().count("assign in/0"), 2, "another owner was at work");
    bench.assert_exactly_once(10);

    let mut bench = Bench::with(1, 10, |stage| stage.stops = 1);
    bench.turns(30).unwrap();
    assert!(stopped("chain_broken", &bench.health));
    bench.turns(200).unwrap();
    bench.assert_exactly_once(10);
}

#[test]
fn failures_of_a_neighbour_do_not_set_a_restore_back() {
    let mut bench = Bench::new(2, 10);
    let slow = (0..4).map(|_| Err(LookupFailure::Other("slow".to_owned()))).collect();
    bench.world().lookups.insert("committed in/0".to_owned(), slow);
    for _ in 0..3 {
        bench.fail("drain", BrokerErrorKind::UnknownPartition);
    }
    bench.turns(200).unwrap();
    assert_eq!(bench.world().count("assign in/0"), 1);
    assert_eq!(bench.world().committed[&source(0)].0, 10);
    assert_eq!(bench.world().committed[&source(1)].0, 10);
}

#[test]
fn answers_to_an_earlier_assignment_fall_on_the_floor() {
    let mut bench = Bench::new(1, 10);
    bench.turns(1).unwrap();
    // The question of the first assignment is asked in the next turn; its answer comes after the
    // partition went and came back.
    bench.world().events.push_front(Event::Assigned(vec![source(0)]));
    let gone = Event::Revoked { partitions: vec![source(0)], lost: false };
    bench.world().events.push_front(gone);
    bench.turns(40).unwrap();
    bench.assert_exactly_once(10);
    assert_eq!(bench.world().count("assign in/0"), 1);
}

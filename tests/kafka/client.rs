//! The client behind the broker trait alone, on the real broker: what the scenarios of
//! `tests/conformance` do not ask.

use std::time::Duration;

use blotter::daemon::broker::kafka::KafkaConfig;
use blotter::daemon::broker::{
    Broker, BrokerErrorKind, Event, LookupFailure, PartitionFailure, SlotConfig, TopicPattern,
};
use blotter::daemon::topics::{TopicAdmin, TopicDefaults, TopicPlan};
use blotter::pipeline::emit::TopicRole;
use blotter::pipeline::record::{Header, Timestamp, TopicPartition};
use blotter::pipeline::step::{Lookup, LookupAnswer, OutputRecord};

use crate::harness::{Admin, Cluster, Deadline, now, shared_brokers, unique};
use crate::slots::{CALL, Slot, commit_of, connector, slot};

fn topic(word: &str, partitions: i32) -> String {
    let name = unique(word);
    Admin { brokers: shared_brokers().to_owned() }.create_topic(&name, partitions, &[]);
    name
}

/// What the crate's own flush takes at least, whatever there is to wait for: so not even the fastest
/// of many would come below it, and a busy machine does not slow down all of them.
const SLICE: Duration = Duration::from_millis(100);

#[test]
fn a_commit_waits_for_no_slice_of_the_client() {
    let (source, output) = (topic("source", 1), topic("output", 4));
    let connector = connector(shared_brokers(), &[]);
    let mut member = Slot::connect(&connector, &slot(&source, "a", &source)).owning(1);
    let source = TopicPartition::new(source, 0);
    let mut drains = Vec::new();
    let mut commits = Vec::new();
    for transaction in 0..40 {
        // As far apart as a shard's: the markers of the last one are written by then.
        for _ in 0..5 {
            member.poll().expect("the member goes on");
        }
        member.broker.begin().expect("none is open");
        for record in 0..200 {
            let to = TopicPartition::new(output.clone(), record % 4);
            member.send(&to, None, &[b'x'; 300], record % 50 == 0).expect("queued");
        }
        let before = now();
        let tracked = member.broker.drain(CALL).expect("stored");
        drains.push(before.elapsed());
        assert!(tracked.len() == 4 && tracked.iter().all(|stored| stored.offset.is_some()));
        let before = now();
        member.broker.send_offsets(&[commit_of(&source, transaction)], CALL).expect("current");
        member.broker.commit(CALL).expect("it stands");
        commits.push(before.elapsed());
    }
    let [drain, commit] = [drains, commits].map(|all| all.into_iter().min().expect("40 of them"));
    println!("fastest drain of 200 records {drain:?}, fastest send_offsets + commit {commit:?}");
    assert!(drain < SLICE && commit < SLICE, "{drain:?} and {commit:?}");
}

#[test]
fn a_reset_with_a_full_queue_leaves_nothing_behind() {
    let (source, output) = (topic("source", 1), topic("output", 1));
    let connector = connector(shared_brokers(), &[]);
    let mut member = Slot::connect(&connector, &slot(&source, "a", &source)).owning(1);
    let (source, output) = (TopicPartition::new(source, 0), TopicPartition::new(output, 0));
    let mut slowest = Duration::ZERO;
    for _ in 0..3 {
        member.broker.begin().expect("none is open");
        for _ in 0..20_000 {
            member.send(&output, None, &[b'x'; 200], false).expect("queued");
        }
        let before = now();
        member.broker.reset_producer(CALL).expect("a reset leads on");
        slowest = slowest.max(before.elapsed());
    }
    println!("reset with up to 20,000 queued records: {slowest:?} at most");
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    member.transact(&output, "kept", &source, 1).expect("the next one stands");
    let admin = Admin { brokers: shared_brokers().to_owned() };
    let seen = admin.read(&output.topic, 0);
    assert_eq!(seen.iter().map(crate::harness::Seen::text).collect::<Vec<_>>(), ["kept"]);
}

#[test]
fn a_failed_partition_is_named_and_starts_again_beside_its_neighbour() {
    let source = topic("source", 2);
    let admin = Admin { brokers: shared_brokers().to_owned() };
    for partition in [0, 1] {
        admin.produce(&source, partition, "first");
    }
    let connector = connector(shared_brokers(), &[]);
    let mut member = Slot::connect(&connector, &slot(&source, "a", &source)).owning(2);
    let [bad, good] = [0, 1].map(|number| TopicPartition::new(source.clone(), number));
    member.broker.start(&good, 0).expect("assigned");
    member.broker.start(&bad, 77).expect("a seek does not ask");
    member.until("the failure", 20, |member| {
        member.events.iter().any(|event| {
            matches!(event, Event::PartitionFailed { topic_partition: Some(failed), .. } if *failed == bad)
        })
    });
    member.broker.start(&bad, 0).expect("assigned anew");
    member.until("both records", 20, |member| member.values().len() == 2);
    admin.produce(&source, 0, "second");
    admin.produce(&source, 1, "second");
    member.until("the next records", 20, |member| member.values().len() == 4);
    member.transact(&good, "out", &bad, 1).expect("the member is current");
}

#[test]
fn a_damaged_batch_stops_its_partition_before_it_and_no_other() {
    let cluster = Cluster::single();
    let admin = Admin { brokers: cluster.brokers() };
    let source = unique("damaged");
    admin.create_topic(&source, 2, &[]);
    for value in ["first", "second", "third"] {
        // Each is a batch of its own.
        admin.produce(&source, 0, value);
        admin.produce(&source, 1, value);
    }
    let file = cluster.segment(1, &source, 0);
    let whole = std::fs::read(&file).expect("the log is there");
    let at = whole.windows(6).position(|bytes| bytes == b"second").expect("it is not packed");
    let mut damaged = whole.clone();
    damaged[at] ^= 1;
    std::fs::write(&file, &damaged).expect("the log can be written");

    let connector = connector(&cluster.brokers(), &[]);
    let mut member = Slot::connect(&connector, &slot(&source, "a", &source)).owning(2);
    let [bad, good] = [0, 1].map(|number| TopicPartition::new(source.clone(), number));
    member.broker.start(&good, 0).expect("assigned");
    member.broker.start(&bad, 0).expect("assigned");
    let is_failure = |event: &Event| {
        matches!(event, Event::PartitionFailed { topic_partition: Some(failed),
            failure: PartitionFailure::Corrupt } if *failed == bad)
    };
    member.until("the failure", 20, |member| member.events.iter().any(is_failure));
    member.until("the neighbour's records", 20, |member| member.values().len() == 4);
    let read: Vec<_> = member.values().into_iter().filter(|(offset, _)| *offset == 2).collect();
    assert_eq!(read, [(2, "third".to_owned())], "the neighbour's; nothing behind the hole");
    let whole_range = Lookup::Read { topic_partition: bad.clone(), from: 0, to: 3 };
    let failure = member.ask(&bad, whole_range).expect_err("a hole is no answer");
    assert_eq!(failure, LookupFailure::Corrupt);

    std::fs::write(&file, &whole).expect("the log can be written");
    member.broker.start(&bad, 1).expect("assigned");
    member.until("what was damaged", 20, |member| member.values().len() == 6);
}

#[test]
fn records_pass_unchanged() {
    let (source, output) = (topic("source", 1), topic("output", 1));
    let defaults = TopicDefaults::default();
    let plan = TopicPlan::new(TopicRole::Redacted, unique("kept"), 1, defaults, 1 << 20);
    let config = KafkaConfig { brokers: shared_brokers().to_owned(), ..KafkaConfig::default() };
    TopicAdmin::connect(&config, CALL)
        .and_then(|admin| admin.create(std::slice::from_ref(&plan)))
        .expect("the topic is made");
    let kept = TopicPartition::new(plan.name.clone(), 0);
    let connector = connector(shared_brokers(), &[]);
    let mut member = Slot::connect(&connector, &slot(&source, "a", &source)).owning(1);
    member.broker.begin().expect("none is open");
    let year_ahead = 4_102_444_800_000;
    let headers = [
        Header { name: "n", value: None },
        Header { name: "e", value: Some(b"") },
        Header { name: "n", value: Some(&[0xFF, 0]) },
    ];
    for (timestamp, key, value) in [
        (Some(1_700_000_000_123), Some(&b"k"[..]), Some(&b"v"[..])),
        (Some(year_ahead), Some(&b""[..]), Some(&b""[..])),
        (Some(0), None, None),
        (Some(1), None, Some(&[0xC3, 0x28][..])),
    ] {
        let record = OutputRecord {
            topic: &kept.topic,
            partition: Some(0),
            timestamp: timestamp.map(Timestamp::from_millis),
            key,
            value,
            headers: &headers,
            tracked: false,
            forwarded: false,
        };
        member.broker.send(&record).expect("queued");
    }
    member.broker.drain(CALL).expect("stored");
    member.broker.send_offsets(&[commit_of(&TopicPartition::new(source, 0), 1)], CALL).expect("ok");
    member.broker.commit(CALL).expect("it stands");
    drop(output);
    let seen = Admin { brokers: shared_brokers().to_owned() }.read(&kept.topic, 0);
    let times: Vec<_> = seen.iter().map(|record| record.timestamp).collect();
    assert_eq!(times, [1_700_000_000_123, year_ahead, 1, 1], "0 can't be sent and becomes 1");
    let keys: Vec<_> = seen.iter().map(|record| record.key.clone()).collect();
    assert_eq!(keys, [Some(b"k".to_vec()), Some(Vec::new()), None, None]);
    let values: Vec<_> = seen.iter().map(|record| record.value.clone()).collect();
    assert_eq!(values, [Some(b"v".to_vec()), Some(Vec::new()), None, Some(vec![0xC3, 0x28])]);
    for record in &seen {
        assert_eq!(
            record.headers[..3],
            [
                ("n".to_owned(), None),
                ("e".to_owned(), Some(Vec::new())),
                ("n".to_owned(), Some(vec![0xFF, 0])),
            ]
        );
        assert_eq!(record.headers[3].0, "w");
    }
}

#[test]
fn a_pattern_never_takes_what_is_excluded() {
    let prefix = unique("pat");
    let admin = Admin { brokers: shared_brokers().to_owned() };
    for suffix in ["one", "two-2", "one.redacted", "one-audit", "three"] {
        admin.create_topic(&format!("{prefix}.{suffix}"), 1, &[]);
    }
    let mut wanted = slot(&prefix, "a", "unused");
    wanted.subscription.topics.clear();
    let pattern = |text: &str| TopicPattern::new(text).expect("a pattern");
    // What the C library's regular expressions know nothing of.
    let chosen = [r"\.(?i:ONE(?:.redacted)?)", r"\.\w+?-(?:\d|audit)"];
    wanted.subscription.patterns =
        chosen.map(|chosen| pattern(&format!("{prefix}{chosen}"))).to_vec();
    wanted.subscription.excluded = vec![pattern(".+\\.redacted"), pattern(".+\\-audit")];
    let member = Slot::connect(&connector(shared_brokers(), &[]), &wanted).owning(2);
    let mut names: Vec<_> = member.owned.iter().map(|own| own.topic.to_string()).collect();
    names.sort_unstable();
    assert_eq!(names, [format!("{prefix}.one"), format!("{prefix}.two-2")]);
}

#[test]
fn an_eager_group_shares_its_partitions_too() {
    let source = topic("source", 4);
    let connector = connector(shared_brokers(), &[("partition.assignment.strategy", "range")]);
    let mut one = Slot::connect(&connector, &slot(&source, "a", &source)).owning(4);
    let mut two = Slot::connect(&connector, &slot(&source, "b", &source));
    let deadline = Deadline::after_seconds(40);
    while one.owned.len() != 2 || two.owned.len() != 2 {
        assert!(!deadline.is_over(), "{} and {}", one.owned.len(), two.owned.len());
        one.poll().expect("the member goes on");
        two.poll().expect("the member goes on");
    }
    let own = one.owned[0].clone();
    one.broker.start(&own, 0).expect("assigned");
    Admin { brokers: shared_brokers().to_owned() }.produce(&source, own.partition, "x");
    one.until("the record", 20, |one| one.values() == [(0, "x".to_owned())]);
}

#[test]
fn a_look_up_reads_in_pieces_and_finds_times() {
    let source = topic("source", 1);
    let connector = connector(shared_brokers(), &[]);
    let wanted = SlotConfig { lookup_bytes_max: 3_000, ..slot(&source, "a", &source) };
    let mut member = Slot::connect(&connector, &wanted).owning(1);
    let source = TopicPartition::new(source, 0);
    for transaction in 0..10_i64 {
        member.broker.begin().expect("none is open");
        for _ in 0..2 {
            let time = Some(1_700_000_000_000 + transaction * 1_000);
            member.send(&source, time, &[b'x'; 1_000], false).expect("queued");
        }
        member.broker.drain(CALL).expect("stored");
        member.broker.send_offsets(&[commit_of(&source, 0)], CALL).expect("current");
        member.broker.commit(CALL).expect("it stands");
    }
    // Two records and a marker for each transaction.
    let (mut next, mut pieces, mut records) = (0, 0, 0);
    while next < 30 {
        let read = Lookup::Read { topic_partition: source.clone(), from: next, to: 30 };
        match member.ask(&source, read) {
            Ok(LookupAnswer::Records { batch, next: then }) => {
                (next, pieces, records) = (then, pieces + 1, records + batch.len());
            }
            other => panic!("the partition can be read: {other:?}"),
        }
    }
    assert!(records == 20 && pieces >= 7, "{records} records in {pieces} pieces");
    // The first marker carries the time of its commit, later than any of these records.
    for (time, offset) in [(0, 0), (1_700_000_002_500, 2), (1_900_000_000_000, 30)] {
        let time = Timestamp::from_millis(time);
        let asked = Lookup::OffsetAt { topic_partition: source.clone(), time };
        assert!(
            matches!(member.ask(&source, asked), Ok(LookupAnswer::OffsetAt(at)) if at == offset),
            "at {time:?}"
        );
    }
}

#[test]
fn a_member_cut_off_for_longer_than_its_session_may_not_commit() {
    let cluster = Cluster::single();
    let (forwarder, proxied) = cluster.forwarder();
    let admin = Admin { brokers: cluster.brokers() };
    admin.create_topic("source", 1, &[]);
    admin.create_topic("output", 1, &[]);
    let (source, output) = (TopicPartition::new("source", 0), TopicPartition::new("output", 0));
    let wanted = SlotConfig { session_timeout: Duration::from_secs(2), ..slot("g", "a", "source") };
    let mut member = Slot::connect(&connector(&proxied, &[]), &wanted).owning(1);
    let direct = connector(&cluster.brokers(), &[]);
    let mut other =
        Slot::connect(&direct, &SlotConfig { transactional_id: "other".into(), ..wanted.clone() });
    member.begin_with(&output, "zombie").expect("stored");
    forwarder.cut();
    let deadline = Deadline::after_seconds(40);
    while other.owned.is_empty() {
        assert!(!deadline.is_over(), "the partition goes to the other member");
        other.poll().expect("the member goes on");
    }
    forwarder.restore();
    let error = member.broker.send_offsets(&[commit_of(&source, 9)], CALL).expect_err("too late");
    assert_eq!(error.kind, BrokerErrorKind::StaleMember);
    // Nothing was polled meanwhile; the loss is told now, and nothing can be committed after it.
    member.until("the loss", 40, |member| {
        member.events.iter().any(|event| matches!(event, Event::Revoked { lost: true, .. }))
    });
    member.broker.reset_producer(CALL).expect("a reset leads on");
    // The old member joins again, so the owner's generation changes once more.
    let deadline = Deadline::after_seconds(40);
    while let Err(error) = other.transact(&output, "owner", &source, 1) {
        assert!(error.kind == BrokerErrorKind::StaleMember && !deadline.is_over(), "{error}");
        other.broker.reset_producer(CALL).expect("a reset leads on");
        other.poll().expect("the member goes on");
        member.poll().expect("the member goes on");
    }
    assert_eq!(admin.read("output", 0).len(), 1);
}

#[test]
fn topics_are_made_checked_and_grown() {
    let prefix = unique("plan");
    let config = KafkaConfig { brokers: shared_brokers().to_owned(), ..KafkaConfig::default() };
    let admin = TopicAdmin::connect(&config, CALL).expect("plain settings");
    let plans = |partitions| {
        [
            (TopicRole::Redacted, "redacted", partitions),
            (TopicRole::Audit, "audit", partitions),
            (TopicRole::Measures, "measures", 2),
            (TopicRole::DeadLetters, "dead-letters", 1),
            (TopicRole::Alerts, "alerts", 1),
            (TopicRole::WatchState, "state", 2),
        ]
        .map(|(role, word, count)| {
            let defaults = TopicDefaults { replication: Some(1), min_insync_replicas: Some(1) };
            TopicPlan::new(role, format!("{prefix}.{word}"), count, defaults, 1_048_588)
        })
    };
    let missing = admin.check(&plans(3)).expect("the brokers answer");
    assert!(missing.len() == 6 && missing.iter().all(|topic| topic.what == "missing"));
    assert_eq!(admin.create(&plans(3)).expect("they are made").len(), 6);
    assert_eq!(admin.create(&plans(3)).expect("all are there"), Vec::<String>::new());
    assert_eq!(admin.check(&plans(3)).expect("the brokers answer"), []);
    let short = admin.check(&plans(5)).expect("the brokers answer");
    assert_eq!(short.len(), 2);
    assert_eq!(short[0].mend, "blotter topics grow");
    assert_eq!(admin.grow(&plans(5)).expect("they grow").len(), 2);
    assert_eq!(admin.check(&plans(5)).expect("the brokers answer"), []);
    // A topic made by hand has the brokers' defaults.
    let by_hand = topic("by-hand", 5);
    let defaults = TopicDefaults::default();
    let plan = TopicPlan::new(TopicRole::Audit, by_hand, 5, defaults, 1_048_588);
    let found = admin.check(&[plan]).expect("the brokers answer");
    let whats: Vec<_> = found.iter().map(|difference| difference.what.as_str()).collect();
    assert_eq!(whats, ["message.timestamp.after.max.ms"], "{found:?}");
    assert!(admin.list().expect("the brokers answer").contains_key(&format!("{prefix}.audit")));
}

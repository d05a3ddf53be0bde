//! Scenarios of one producer.

use std::sync::Arc;
use std::time::Duration;

use blotter::daemon::broker::embedded::{METADATA_BYTES_MAX, partition_for_key};
use blotter::daemon::broker::{Broker, BrokerErrorKind, LookupFailure, SlotConfig};
use blotter::pipeline::record::TopicPartition;
use blotter::pipeline::step::{Lookup, LookupAnswer};

use super::Bench;
use super::session::{CALL, Session, commit_of, slot, static_slot};

/// A source and an output topic with one partition each.
pub(super) fn topics<B: Bench>(bench: &B, name: &str) -> (TopicPartition, TopicPartition) {
    let (source, output) = (format!("{name}-in"), format!("{name}-out"));
    bench.create_topic(&source, 1);
    bench.create_topic(&output, 1);
    (TopicPartition::new(source, 0), TopicPartition::new(output, 0))
}

pub(super) fn metadata_comes_back<B: Bench>(bench: &B, name: &'static str) {
    let (source, output) = topics(bench, name);
    let mut session = Session::owning(bench, &slot(name, "a", &source.topic), 1);
    assert_eq!(session.committed(&source), (None, String::new()));
    let metadata = "m".repeat(METADATA_BYTES_MAX);
    session.transact(&output, "x", &source, 7, &metadata).expect("the member is current");
    assert_eq!(session.committed(&source), (Some(7), metadata));
}

pub(super) fn metadata_too_large<B: Bench>(bench: &B, name: &'static str) {
    let (source, output) = topics(bench, name);
    let mut session = Session::owning(bench, &slot(name, "a", &source.topic), 1);
    let metadata = "m".repeat(METADATA_BYTES_MAX + 1);
    let error = session.transact(&output, "x", &source, 7, &metadata).expect_err("too large");
    assert_eq!((error.kind, error.operation), (BrokerErrorKind::Abortable, "send_offsets"));
    session.broker.reset_producer(CALL).expect("a reset leads on");
    session.transact(&output, "y", &source, 8, "").expect("the next one stands");
    assert_eq!(session.committed(&source), (Some(8), String::new()));
    assert_eq!(bench.committed_values(&output.topic, 0), ["y"]);
}

pub(super) fn pending_offset_is_not_told<B: Bench>(bench: &B, name: &'static str) {
    let (source, output) = topics(bench, name);
    let mut session = Session::owning(bench, &slot(name, "a", &source.topic), 1);
    session.transact(&output, "x", &source, 1, "one").expect("the member is current");
    session.broker.begin().expect("none is open");
    session.send(&output, "y").expect("delivered");
    session.broker.send_offsets(&[commit_of(&source, 2, "two")], CALL).expect("current");
    let pending = session.ask(&source, Lookup::Committed);
    assert!(matches!(pending, Err(LookupFailure::TimedOut)), "{pending:?}");
    session.broker.commit(CALL).expect("it stands");
    assert_eq!(session.committed(&source), (Some(2), "two".to_owned()));
}

pub(super) fn zombie_producer_is_fenced<B: Bench>(bench: &B, name: &'static str) {
    let (source, output) = topics(bench, name);
    let mut old = Session::owning(bench, &static_slot(name, "a", &source.topic), 1);
    old.broker.begin().expect("none is open");
    old.send(&output, "zombie").expect("delivered");
    old.broker.send_offsets(&[commit_of(&source, 5, "zombie")], CALL).expect("current");
    let transactional_id = format!("{name}-a");
    let other = SlotConfig { transactional_id, ..slot(&format!("{name}-2"), "b", &source.topic) };
    let _new = Session::connect(bench, &other);
    let error = old.broker.commit(CALL).expect_err("fenced");
    assert_eq!(error.kind, BrokerErrorKind::ProducerFenced);
    assert_eq!(old.committed(&source), (None, String::new()));
    assert!(bench.committed_values(&output.topic, 0).is_empty());
    old.broker.reset_producer(CALL).expect("the older may take its id back");
    old.transact(&output, "x", &source, 1, "").expect("it is the newer one now");
    assert_eq!(bench.committed_values(&output.topic, 0), ["x"]);
}

pub(super) fn timed_out_transaction_is_fenced<B: Bench>(bench: &B, name: &'static str) {
    let (source, output) = topics(bench, name);
    let transaction_timeout = Duration::from_secs(3);
    let slot = SlotConfig { transaction_timeout, ..slot(name, "a", &source.topic) };
    let mut session = Session::owning(bench, &slot, 1);
    session.broker.begin().expect("none is open");
    session.send(&output, "late").expect("delivered");
    bench.pass(Duration::from_secs(6));
    let refused = session
        .broker
        .send_offsets(&[commit_of(&source, 1, "")], CALL)
        .and_then(|()| session.broker.commit(CALL));
    let error = refused.expect_err("the transaction was aborted by the coordinator");
    assert_eq!(error.kind, BrokerErrorKind::ProducerFenced);
    session.broker.reset_producer(CALL).expect("a reset leads on");
    session.transact(&output, "x", &source, 1, "").expect("the next one stands");
    assert_eq!(bench.committed_values(&output.topic, 0), ["x"]);
}

pub(super) fn watermarks_of_an_open_transaction<B: Bench>(bench: &B, name: &'static str) {
    let (source, output) = topics(bench, name);
    let mut session = Session::owning(bench, &slot(name, "a", &source.topic), 1);
    session.transact(&output, "x", &source, 1, "").expect("current");
    session.broker.begin().expect("none is open");
    session.send(&output, "y").expect("delivered");
    let range = session.ask(&source, Lookup::Range(output.clone()));
    // The record, its commit marker, and the open record above the stable end.
    assert!(matches!(range, Ok(LookupAnswer::Range { low: 0, high: 3, lso: 2 })), "{range:?}");
    let read = Lookup::Read { topic_partition: output.clone(), from: 0, to: 3 };
    let Ok(LookupAnswer::Records { batch, next }) = session.ask(&source, read.clone()) else {
        panic!("the partition can be read");
    };
    assert_eq!((batch.offsets(), next), (Some((0, 0)), 2));
    session.broker.send_offsets(&[commit_of(&source, 2, "")], CALL).expect("current");
    session.broker.commit(CALL).expect("it stands");
    // The commit's markers are written after its answer: until then a read stops before them.
    let (batch, next) = loop {
        match session.ask(&source, read.clone()) {
            Ok(LookupAnswer::Records { next: 2, .. }) => {}
            Ok(LookupAnswer::Records { batch, next }) => break (batch, next),
            other => panic!("the partition can be read: {other:?}"),
        }
    };
    assert_eq!((batch.offsets(), next), (Some((0, 2)), 3));
}

pub(super) fn reset_aborts_what_was_open<B: Bench>(bench: &B, name: &'static str) {
    let (source, output) = topics(bench, name);
    let mut session = Session::owning(bench, &slot(name, "a", &source.topic), 1);
    session.broker.begin().expect("none is open");
    session.send(&output, "dropped").expect("delivered");
    session.broker.send_offsets(&[commit_of(&source, 9, "")], CALL).expect("current");
    session.broker.reset_producer(CALL).expect("a reset leads on");
    assert_eq!(session.committed(&source), (None, String::new()));
    session.transact(&output, "x", &source, 1, "").expect("the next one stands");
    assert_eq!(session.committed(&source), (Some(1), String::new()));
    assert_eq!(bench.committed_values(&output.topic, 0), ["x"]);
}

pub(super) fn refused_record_spoils_its_transaction<B: Bench>(bench: &B, name: &'static str) {
    let (source, output) = topics(bench, name);
    let mut session = Session::owning(bench, &slot(name, "a", &source.topic), 1);
    session.broker.begin().expect("none is open");
    session.send(&output, "good").expect("delivered");
    let error = session.send(&output, &noise(2 << 20)).expect_err("over max.message.bytes");
    assert_eq!(error.kind, BrokerErrorKind::RecordRefused);
    session.broker.reset_producer(CALL).expect("a reset leads on");
    session.transact(&output, "x", &source, 1, "").expect("the next one stands");
    assert_eq!(bench.committed_values(&output.topic, 0), ["x"]);
}

pub(super) fn unknown_topic_is_named<B: Bench>(bench: &B, name: &'static str) {
    let (source, output) = topics(bench, name);
    let mut session = Session::owning(bench, &slot(name, "a", &source.topic), 1);
    session.broker.begin().expect("none is open");
    let missing = TopicPartition::new(format!("{name}-missing"), 0);
    let error = session.send(&missing, "x").expect_err("there is no such topic");
    assert_eq!(error.kind, BrokerErrorKind::UnknownPartition);
    let range = session.ask(&source, Lookup::Range(missing));
    assert!(matches!(range, Err(LookupFailure::UnknownPartition)), "{range:?}");
    session.broker.reset_producer(CALL).expect("a reset leads on");
    session.transact(&output, "x", &source, 1, "").expect("the next one stands");
}

pub(super) fn keyed_record_goes_where_java_sends_it<B: Bench>(bench: &B, name: &'static str) {
    let (source, _) = topics(bench, name);
    let topic: Arc<str> = Arc::from(format!("{name}-keyed"));
    bench.create_topic(&topic, 12);
    let mut session = Session::owning(bench, &slot(name, "a", &source.topic), 1);
    session.broker.begin().expect("none is open");
    for key in ["21", "foobar", "a-little-bit-long-string", "salon-17", "\u{e9}"] {
        let sent = session.send_keyed(&topic, None, Some(key.as_bytes()), "x").expect("delivered");
        assert_eq!(sent.0, partition_for_key(key.as_bytes(), 12), "{key}");
    }
    session.broker.send_offsets(&[commit_of(&source, 1, "")], CALL).expect("current");
    session.broker.commit(CALL).expect("it stands");
}

/// Text that no codec makes smaller than `max.message.bytes`.
fn noise(bytes: usize) -> String {
    let mut state = 1_u64;
    let letter = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + (state >> 58) as u8)
    };
    (0..bytes).map(letter).collect()
}

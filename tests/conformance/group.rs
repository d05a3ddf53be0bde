//! Scenarios of several members.

use std::time::Duration;

use blotter::daemon::broker::{Broker, BrokerErrorKind, SlotConfig};
use blotter::pipeline::record::TopicPartition;

use super::Bench;
use super::session::{CALL, SESSION, Session, commit_of, slot, static_slot};
use super::transaction::topics;

/// A source with two partitions and an output with one.
fn two_partitions<B: Bench>(bench: &B, name: &str) -> ([TopicPartition; 2], TopicPartition) {
    let (source, output) = (format!("{name}-in"), format!("{name}-out"));
    bench.create_topic(&source, 2);
    bench.create_topic(&output, 1);
    let partitions = [0, 1].map(|partition| TopicPartition::new(source.clone(), partition));
    (partitions, TopicPartition::new(output, 0))
}

pub(super) fn stale_generation_is_refused<B: Bench>(bench: &B, name: &'static str) {
    let (sources, output) = two_partitions(bench, name);
    let mut sleeper = Session::owning(bench, &slot(name, "a", &sources[0].topic), 2);
    sleeper.broker.begin().expect("none is open");
    sleeper.send(&output, "stale").expect("delivered");
    // The group moves on while the first member's loop stands still.
    let mut other = Session::connect(bench, &slot(name, "b", &sources[0].topic));
    other.until("a new generation", |other| other.assigned_events > 0);
    let refused = sleeper.broker.send_offsets(&[commit_of(&sources[0], 5, "")], CALL);
    assert_eq!(refused.expect_err("stale").kind, BrokerErrorKind::StaleMember);
    sleeper.broker.reset_producer(CALL).expect("a reset leads on");
    sleeper.balance(&mut other);
    let own = sleeper.owned.first().expect("one is left").clone();
    sleeper.transact(&output, "x", &own, 1, "").expect("the member has caught up");
    assert_eq!(bench.committed_values(&output.topic, 0), ["x"]);
}

pub(super) fn ownership_is_not_checked<B: Bench>(bench: &B, name: &'static str) {
    let (sources, output) = two_partitions(bench, name);
    let mut one = Session::connect(bench, &slot(name, "a", &sources[0].topic));
    let mut two = Session::connect(bench, &slot(name, "b", &sources[0].topic));
    one.balance(&mut two);
    let not_own = two.owned.first().expect("the other's").clone();
    one.transact(&output, "x", &not_own, 3, "not mine").expect("the generation is all that counts");
    assert_eq!(two.committed(&not_own), (Some(3), "not mine".to_owned()));
}

pub(super) fn same_slot_returns_at_once<B: Bench>(bench: &B, name: &'static str) {
    let (source, output) = topics(bench, name);
    let slot = static_slot(name, "a", &source.topic);
    let mut first = Session::owning(bench, &slot, 1);
    first.transact(&output, "x", &source, 1, "one").expect("current");
    first.broker.begin().expect("none is open");
    first.send(&output, "dropped").expect("delivered");
    first.broker.send_offsets(&[commit_of(&source, 2, "two")], CALL).expect("current");
    drop(first);
    let before = bench.clock().monotonic();
    let mut second = Session::owning(bench, &slot, 1);
    assert_eq!(second.committed(&source), (Some(1), "one".to_owned()));
    let took = bench.clock().monotonic() - before;
    assert!(took < SESSION, "waited {took:?}, as for a stranger");
    second.transact(&output, "y", &source, 2, "").expect("current");
    assert_eq!(bench.committed_values(&output.topic, 0), ["x", "y"]);
}

pub(super) fn other_slot_fences_and_takes_over<B: Bench>(bench: &B, name: &'static str) {
    let (source, output) = topics(bench, name);
    let transaction_timeout = Duration::from_secs(60);
    let slot_of = |own| SlotConfig { transaction_timeout, ..static_slot(name, own, &source.topic) };
    let mut first = Session::owning(bench, &slot_of("a"), 1);
    first.transact(&output, "x", &source, 1, "one").expect("current");
    first.broker.begin().expect("none is open");
    first.send(&output, "dropped").expect("delivered");
    first.broker.send_offsets(&[commit_of(&source, 2, "two")], CALL).expect("current");
    drop(first);
    let mut second = Session::owning(bench, &slot_of("b"), 1);
    let writer = second.writer(&output);
    assert_eq!(writer.as_deref(), Some(format!("{name}-a").as_str()));
    let before = bench.clock().monotonic();
    second.fence(&source, writer.as_deref().expect("checked"));
    assert_eq!(second.committed(&source), (Some(1), "one".to_owned()));
    let took = bench.clock().monotonic() - before;
    assert!(took < Duration::from_secs(20), "waited {took:?}, as for the transaction's time-out");
    assert_eq!(second.writer(&output), None);
    second.transact(&output, "y", &source, 2, "").expect("current");
    assert_eq!(bench.committed_values(&output.topic, 0), ["x", "y"]);
}

pub(super) fn rebalance_waits_for_the_loop<B: Bench>(bench: &B, name: &'static str) {
    let (sources, output) = two_partitions(bench, name);
    let mut one = Session::owning(bench, &slot(name, "a", &sources[0].topic), 2);
    one.holds_revoked = true;
    let mut two = Session::connect(bench, &slot(name, "b", &sources[0].topic));
    one.both_until(&mut two, "the revocation", |one, _| one.revoked.is_some());
    let revoked = one.revoked.clone().expect("just seen");
    assert_eq!(revoked.len(), 1);
    let until = bench.clock().monotonic() + Duration::from_millis(300);
    one.both_until(&mut two, "300 ms", |_, _| bench.clock().monotonic() >= until);
    assert!(two.owned.is_empty(), "the partition is still the first member's");
    one.transact(&output, "x", &revoked[0], 4, "handed over").expect("it is still ours");
    one.holds_revoked = false;
    one.release();
    one.both_until(&mut two, "the hand-over", |_, two| two.owned.contains(&revoked[0]));
    assert_eq!(two.committed(&revoked[0]), (Some(4), "handed over".to_owned()));
}

pub(super) fn newer_instance_fences_the_older<B: Bench>(bench: &B, name: &'static str) {
    let (source, output) = topics(bench, name);
    let slot = static_slot(name, "a", &source.topic);
    let mut old = Session::owning(bench, &slot, 1);
    let transactional_id = format!("{name}-other");
    let mut new = Session::owning(bench, &SlotConfig { transactional_id, ..slot }, 1);
    let refused = old.transact(&output, "zombie", &source, 9, "").expect_err("replaced");
    assert!(
        matches!(refused.kind, BrokerErrorKind::InstanceFenced | BrokerErrorKind::StaleMember),
        "{refused}"
    );
    assert_eq!(old.until_error().kind, BrokerErrorKind::InstanceFenced);
    drop(old);
    new.transact(&output, "x", &source, 1, "").expect("the newer one is the member");
    assert_eq!(new.committed(&source), (Some(1), String::new()));
}

pub(super) fn dynamic_member_leaves_at_once<B: Bench>(bench: &B, name: &'static str) {
    let (sources, _) = two_partitions(bench, name);
    let session_timeout = Duration::from_secs(30);
    let slot_of = |own| SlotConfig { session_timeout, ..slot(name, own, &sources[0].topic) };
    let mut one = Session::connect(bench, &slot_of("a"));
    let mut two = Session::connect(bench, &slot_of("b"));
    one.balance(&mut two);
    let before = bench.clock().monotonic();
    two.broker.close(CALL);
    one.until("all partitions", |one| one.owned.len() == 2);
    let took = bench.clock().monotonic() - before;
    assert!(took < Duration::from_secs(15), "waited {took:?}, as for a session");
}

pub(super) fn positions_are_exact<B: Bench>(bench: &B, name: &'static str) {
    let (source, _) = topics(bench, name);
    for value in ["a", "b", "c"] {
        bench.produce(&source.topic, 0, value);
    }
    let mut session = Session::owning(bench, &slot(name, "a", &source.topic), 1);
    for _ in 0..5 {
        session.poll().expect("current");
    }
    assert!(session.records.is_empty(), "nothing comes before the start");
    session.broker.start(&source, 1).expect("assigned");
    session.until("two records", |session| session.records.len() >= 2);
    session.until("the end", |session| !session.caught_up.is_empty());
    let seen: Vec<_> = session.records.iter().map(|(_, at, value)| (*at, value.as_str())).collect();
    assert_eq!(seen, [(1, "b"), (2, "c")]);
    assert_eq!(session.caught_up[0], (source.clone(), 3));
    session.broker.pause(&source).expect("assigned");
    bench.produce(&source.topic, 0, "d");
    for _ in 0..5 {
        session.poll().expect("current");
    }
    assert_eq!(session.records.len(), 2, "nothing comes while it is paused");
    session.broker.start(&source, 0).expect("assigned");
    session.until("all records", |session| session.records.len() == 6);
    session.broker.start(&source, 99).expect("the seek itself does not ask");
    session.until("a failure", |session| !session.failed.is_empty());
    assert_eq!(session.failed, ["offset out of range"]);
}

/// A static member that dies after it was told to give a partition up, and comes back before the
/// group has noticed, would be handed the assignment of the first round without a rebalance, and
/// the partition would stay nobody's. It must stay out until its old session has ended.
pub(super) fn restart_in_a_hand_over_orphans_nothing<B: Bench>(bench: &B, name: &'static str) {
    let (sources, _) = two_partitions(bench, name);
    let slot_of = |own| static_slot(name, own, &sources[0].topic);
    let mut one = Session::owning(bench, &slot_of("a"), 2);
    one.holds_revoked = true;
    let mut two = Session::connect(bench, &slot_of("b"));
    one.both_until(&mut two, "the revocation", |one, _| one.revoked.is_some());
    drop(one);
    let mut again = Session::connect(bench, &slot_of("a"));
    again.both_until(&mut two, "an owner for each", |one, two| {
        one.owned.len() == 1 && two.owned.len() == 1
    });
}

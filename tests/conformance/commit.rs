//! Scenarios of one commit whose outcome its caller does not hear of.

use std::time::Duration;

use blotter::daemon::broker::{Broker, BrokerErrorKind};
use blotter::pipeline::record::TopicPartition;
use blotter::pipeline::step::{Lookup, LookupAnswer};

use super::session::{CALL, Session, commit_of, slot};
use super::transaction::topics;
use super::{CommitFault, DisturbedBench};

/// How long the caller waits in vain.
const IN_VAIN: Duration = Duration::from_secs(2);

pub(super) fn lost_answer_leaves_the_commit<B: DisturbedBench>(bench: &B, name: &'static str) {
    let (mut session, source, output) = disturbed(bench, name, CommitFault::LoseAnswer);
    bench.mend();
    session.broker.reset_producer(CALL).expect("a reset leads on");
    assert_eq!(session.committed(&source), (Some(2), "two".to_owned()));
    session.transact(&output, "after", &source, 3, "").expect("the next one stands");
    assert_eq!(bench.committed_values(&output.topic, 0), ["before", "disturbed", "after"]);
}

pub(super) fn lost_commit_is_aborted<B: DisturbedBench>(bench: &B, name: &'static str) {
    let (mut session, source, output) = disturbed(bench, name, CommitFault::LoseRequest);
    bench.mend();
    session.broker.reset_producer(CALL).expect("a reset leads on");
    assert_eq!(session.committed(&source), (Some(1), "one".to_owned()));
    session.transact(&output, "after", &source, 2, "").expect("the next one stands");
    assert_eq!(bench.committed_values(&output.topic, 0), ["before", "after"]);
}

/// The commit of a producer that has been initialised anew since: it must end neither its own
/// transaction, which is aborted, nor the newer one, which is open.
pub(super) fn late_commit_ends_no_newer_transaction<B: DisturbedBench>(
    bench: &B,
    name: &'static str,
) {
    let (mut session, source, output) = disturbed(bench, name, CommitFault::Keep);
    session.broker.reset_producer(CALL).expect("a reset leads on");
    assert_eq!(session.committed(&source), (Some(1), "one".to_owned()));
    session.broker.begin().expect("the last one was aborted");
    session.send(&output, "newer").expect("delivered");
    session.broker.send_offsets(&[commit_of(&source, 3, "three")], CALL).expect("current");
    let refused = bench.deliver_kept();
    assert!(refused.is_err(), "a fenced producer's commit is refused");
    assert!(is_open(&mut session, &source, &output), "the newer transaction is as it was");
    session.broker.commit(CALL).expect("it stands");
    assert_eq!(session.committed(&source), (Some(3), "three".to_owned()));
    assert_eq!(bench.committed_values(&output.topic, 0), ["before", "newer"]);
}

/// A member with one transaction that stands, and one whose commit met `fault`.
fn disturbed<'a, B: DisturbedBench>(
    bench: &'a B,
    name: &str,
    fault: CommitFault,
) -> (Session<'a, B>, TopicPartition, TopicPartition) {
    let (source, output) = topics(bench, name);
    let mut session = Session::owning(bench, &slot(name, "a", &source.topic), 1);
    session.transact(&output, "before", &source, 1, "one").expect("nothing disturbs it");
    session.broker.begin().expect("none is open");
    session.send(&output, "disturbed").expect("delivered");
    session.broker.send_offsets(&[commit_of(&source, 2, "two")], CALL).expect("current");
    bench.disturb_commit(fault);
    let error = session.broker.commit(IN_VAIN).expect_err("there is no answer");
    assert_eq!(error.kind, BrokerErrorKind::TimedOut);
    (session, source, output)
}

fn is_open<B: DisturbedBench>(
    session: &mut Session<'_, B>,
    source: &TopicPartition,
    output: &TopicPartition,
) -> bool {
    match session.ask(source, Lookup::Range(output.clone())) {
        Ok(LookupAnswer::Range { high, lso, .. }) => lso < high,
        other => panic!("the partition can be asked: {other:?}"),
    }
}

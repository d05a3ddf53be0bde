//! What the exactly-once loop rests on, as scenarios that run on the model and on a real Kafka.
//! Each asserts one verdict; both brokers must pass the same list.

mod commit;
mod group;
mod session;
mod transaction;

use std::time::Duration;

use blotter::daemon::broker::Connector;
use blotter::daemon::clock::Clock;

/// A cluster under test: what a scenario needs beside the broker trait.
pub(crate) trait Bench {
    /// Connects slots to the cluster.
    type Connector: Connector;

    /// The connector.
    fn connector(&self) -> &Self::Connector;

    /// The clock the cluster lives by.
    fn clock(&self) -> &dyn Clock;

    /// Creates a topic with `partitions` partitions and the brokers' defaults otherwise
    /// (`max.message.bytes` about 1 MiB).
    fn create_topic(&self, topic: &str, partitions: i32);

    /// Appends a record outside any transaction, and waits until it is stored.
    fn produce(&self, topic: &str, partition: i32, value: &str);

    /// Values of all records that a read-committed reader sees in the partition, waiting until the
    /// reader has reached the high watermark of the moment of asking.
    fn committed_values(&self, topic: &str, partition: i32) -> Vec<String>;

    /// Lets time pass while nobody polls.
    fn pass(&self, time: Duration);
}

/// What becomes of the next commit on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommitFault {
    /// It never arrives.
    LoseRequest,
    /// It arrives, and its answer is lost.
    LoseAnswer,
    /// It arrives late.
    Keep,
}

/// A cluster whose commits can be disturbed.
pub(crate) trait DisturbedBench: Bench {
    /// Disturbs the next commit.
    fn disturb_commit(&self, fault: CommitFault);

    /// Lets everything pass again; what is kept stays on its way.
    fn mend(&self);

    /// Lets the kept commit arrive; the error is the brokers' refusal.
    fn deliver_kept(&self) -> Result<(), String>;
}

/// One scenario: its name and what it does. It panics when the broker's verdict is another one.
pub(crate) struct Scenario<B: Bench> {
    /// Also the prefix of its topics and groups.
    pub(crate) name: &'static str,
    /// Runs it.
    pub(crate) run: fn(&B, &'static str),
}

type Entry<B> = (&'static str, fn(&B, &'static str));

/// Every scenario.
pub(crate) fn scenarios<B: Bench>() -> Vec<Scenario<B>> {
    let all: [Entry<B>; 19] = [
        ("metadata-comes-back", transaction::metadata_comes_back),
        ("metadata-too-large", transaction::metadata_too_large),
        ("pending-offset", transaction::pending_offset_is_not_told),
        ("zombie-producer", transaction::zombie_producer_is_fenced),
        ("timed-out-transaction", transaction::timed_out_transaction_is_fenced),
        ("watermarks", transaction::watermarks_of_an_open_transaction),
        ("reset-aborts", transaction::reset_aborts_what_was_open),
        ("refused-record", transaction::refused_record_spoils_its_transaction),
        ("unknown-topic", transaction::unknown_topic_is_named),
        ("keyed-partition", transaction::keyed_record_goes_where_java_sends_it),
        ("stale-generation", group::stale_generation_is_refused),
        ("ownership", group::ownership_is_not_checked),
        ("same-slot-returns", group::same_slot_returns_at_once),
        ("other-slot-takes-over", group::other_slot_fences_and_takes_over),
        ("rebalance-event", group::rebalance_waits_for_the_loop),
        ("restart-in-hand-over", group::restart_in_a_hand_over_orphans_nothing),
        ("newer-instance", group::newer_instance_fences_the_older),
        ("polite-close", group::dynamic_member_leaves_at_once),
        ("positions", group::positions_are_exact),
    ];
    named(all)
}

/// Scenarios that run one after another: each disturbs the whole cluster.
pub(crate) fn disturbed_scenarios<B: DisturbedBench>() -> Vec<Scenario<B>> {
    let all: [Entry<B>; 3] = [
        ("lost-answer", commit::lost_answer_leaves_the_commit),
        ("lost-commit", commit::lost_commit_is_aborted),
        ("late-commit", commit::late_commit_ends_no_newer_transaction),
    ];
    named(all)
}

fn named<B: Bench>(all: impl IntoIterator<Item = Entry<B>>) -> Vec<Scenario<B>> {
    all.into_iter().map(|(name, run)| Scenario { name, run }).collect()
}

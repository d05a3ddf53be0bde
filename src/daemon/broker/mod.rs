//! The narrow door to Kafka: one group member and one transactional producer, used from one
//! thread. Two implementations, `kafka` and `embedded`, must give equal verdicts: whatever is
//! written here binds both, whatever is not written here the shard does not rely on.
//!
//! # Rules for every implementation
//! * Every call returns within the time-out it is given (or [`SlotConfig::operation_timeout`]).
//!   Only [`Broker::poll`], [`Broker::drain`] and [`Broker::await_room`] wait for something that
//!   may never come; they then return at their time-out.
//! * Nothing happens behind the shard's back: a rebalance is an [`Event`], the assignment changes
//!   only in [`Broker::accept`] and [`Broker::release`], a position only in [`Broker::start`].
//! * Blocking look-ups run beside the loop (a helper thread, or at once in the model); each answer
//!   comes as exactly one event with the ticket it was asked with, in any order. Answers to tickets
//!   of a time before a rebalance still come; the shard drops them.
//! * Records are read with `isolation.level=read_committed`, `auto.offset.reset=error`, without
//!   auto-commit, and from the topics of [`SlotConfig::subscription`] only.
//! * Offsets are committed through transactions only. Partitions are assigned cooperatively
//!   (cooperative-sticky); an eager protocol shows as `Revoked` of everything, then `Assigned`.

pub mod embedded;

pub mod kafka;
mod naming;
mod topic_pattern;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use topic_pattern::{TopicPattern, TopicPatternError};

use crate::pipeline::record::{RecordBatch, TopicPartition};
use crate::pipeline::step::{Delivery, Lookup, LookupAnswer, OffsetCommit, OutputRecord};

/// Makes brokers for slots: a supervisor drops everything and connects anew.
pub trait Connector: Send + Sync {
    /// What it makes; lives on the thread that called `connect`.
    type Broker: Broker;

    /// Builds the producer and calls `init_transactions` (which aborts what an earlier owner of the
    /// transactional id left open and fences it), and only then joins the group.
    ///
    /// # Errors
    /// Brokers unreachable within [`SlotConfig::operation_timeout`], settings refused, not
    /// authorized, or the slot's instance id is held by a newer process.
    fn connect(&self, slot: &SlotConfig) -> Result<Self::Broker, BrokerError>;

    /// Whether the group has a member with the slot's instance id now, whoever that is. After a
    /// fencing it tells a newer process, which keeps its session, from a join of this process
    /// whose answer was lost, which does not.
    ///
    /// # Errors
    /// The group's coordinator can't be asked now.
    fn knows_instance(&self, slot: &SlotConfig) -> Result<bool, BrokerError>;
}

/// Everything that names and bounds one slot (one shard of one process).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotConfig {
    /// Consumer group.
    pub group: String,
    /// `group.instance.id`: set for static members (stable slots), which do not leave the group
    /// when they close; `None` for dynamic members, which leave at once.
    pub instance_id: Option<String>,
    /// `transactional.id`, unique to the slot.
    pub transactional_id: String,
    /// Topics to read.
    pub subscription: Subscription,
    /// Patterns of the topics it and its peers write to.
    pub written: Vec<TopicPattern>,
    /// Most records one [`Broker::poll`] returns, over all partitions.
    pub poll_records_max: usize,
    /// Bytes of keys, values and headers after which a poll takes no further record; at least one
    /// record is returned however large it is.
    pub poll_bytes_max: usize,
    /// `transaction.timeout.ms`: the broker aborts a transaction open for longer.
    pub transaction_timeout: Duration,
    /// `session.timeout.ms`: a member silent for longer loses its partitions.
    pub session_timeout: Duration,
    /// Time-out of a single request that names no other (init, begin, start, accept ...).
    pub operation_timeout: Duration,
    /// Time-out of one look-up.
    pub lookup_timeout: Duration,
    /// Bytes after which one [`Lookup::Read`] answers with what it has.
    pub lookup_bytes_max: usize,
}

/// Which topics a slot reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Topics by name.
    pub topics: Vec<Arc<str>>,
    /// Patterns of further topics.
    pub patterns: Vec<TopicPattern>,
    /// Patterns of topics never read though one of `patterns` matches them: our own outputs.
    pub excluded: Vec<TopicPattern>,
}

impl Subscription {
    /// Whether a member with this subscription reads `topic`.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        let any = |patterns: &[TopicPattern]| patterns.iter().any(|own| own.matches(topic));
        self.topics.iter().any(|own| &**own == topic)
            || (any(&self.patterns) && !any(&self.excluded))
    }
}

/// Ties an answer to its question. The shard never uses one twice in the life of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What happened beside the records.
#[derive(Debug)]
pub enum Event {
    /// The group gives these partitions to this member (the list may be empty: a new generation
    /// without change). The shard answers with [`Broker::accept`] of the same list. Until then the
    /// member keeps its place in the group.
    Assigned(Vec<TopicPartition>),
    /// The group takes these partitions away (the list may be empty). From the moment this event
    /// is handed out no record of them comes. The shard commits (unless `lost`) and answers with
    /// [`Broker::release`] of the same list.
    Revoked {
        /// The partitions.
        partitions: Vec<TopicPartition>,
        /// The member was thrown out (session time-out, unknown member): somebody else may own them
        /// already, nothing may be committed.
        lost: bool,
    },
    /// The answer to [`Broker::lookup`].
    Lookup {
        /// The question's ticket.
        ticket: Ticket,
        /// The source partition whose restore asked.
        topic_partition: TopicPartition,
        /// Answer.
        result: Result<LookupAnswer, LookupFailure>,
    },
    /// The answer to [`Broker::read_writer`]: the value of header `w` of the oldest record that is
    /// above the last stable offset; `None` when there is no such record or it has no such header.
    Writer {
        /// The question's ticket.
        ticket: Ticket,
        /// The partition looked into.
        topic_partition: TopicPartition,
        /// The writer's transactional id.
        result: Result<Option<String>, LookupFailure>,
    },
    /// The answer to [`Broker::fence`].
    Fenced {
        /// The question's ticket.
        ticket: Ticket,
        /// Whether `init_transactions` of that id went through.
        result: Result<(), LookupFailure>,
    },
    /// Every record of a running partition that a read-committed reader can see now has been
    /// handed out in this or an earlier poll. Comes at least once a second while true.
    CaughtUp {
        /// The partition.
        topic_partition: TopicPartition,
        /// The end that was reached.
        end_offset: i64,
    },
    /// How far a running partition is behind; at least once every 5 s, from the client's statistics.
    Lag {
        /// The partition.
        topic_partition: TopicPartition,
        /// Last stable offset minus the next offset to hand out, at least 0. Control records count,
        /// so a partition that is caught up may show more than 0.
        records: u64,
    },
    /// Reading failed without harm to the rest: nothing more comes of this partition until it is
    /// started again.
    PartitionFailed {
        /// The partition, when the client names one.
        topic_partition: Option<TopicPartition>,
        /// What failed.
        failure: PartitionFailure,
    },
}

/// Why a look-up gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupFailure {
    /// No answer within [`SlotConfig::lookup_timeout`]. `Committed` times out while a transaction
    /// that holds an offset of the partition is open.
    #[error("timed out")]
    TimedOut,
    /// The topic or partition does not exist.
    #[error("topic or partition does not exist")]
    UnknownPartition,
    /// `Read` from below the low watermark or above the high watermark.
    #[error("offset out of range")]
    OffsetOutOfRange,
    /// Not authorized.
    #[error("not authorized")]
    NotAuthorized,
    /// A stored batch is damaged: its checksum is wrong, or it can't be unpacked.
    #[error("a stored batch is damaged")]
    Corrupt,
    /// Anything else; asking again may help.
    #[error("{0}")]
    Other(String),
}

/// Why a partition can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartitionFailure {
    /// The position lies outside what the log keeps (retention, truncation, re-creation).
    #[error("offset out of range")]
    OffsetOutOfRange,
    /// The topic or partition does not exist (any more).
    #[error("topic or partition does not exist")]
    UnknownPartition,
    /// Not authorized.
    #[error("not authorized")]
    NotAuthorized,
    /// The batch at the position is damaged: its checksum is wrong, or it can't be unpacked. Nothing
    /// behind it has been handed out.
    #[error("a stored batch is damaged")]
    Corrupt,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// What an error means for the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BrokerErrorKind {
    /// Nothing happened; the same call may be made again.
    Retriable,
    /// The time-out passed: whether the call took effect is unknown.
    TimedOut,
    /// The transaction is lost; a new producer may go on.
    Abortable,
    /// The group refused this member's generation: the transaction is lost.
    StaleMember,
    /// The producer was fenced by a newer one of its id, or its transaction was timed out.
    ProducerFenced,
    /// A newer process holds this slot's `group.instance.id`: this one must end.
    InstanceFenced,
    /// A record was refused for a cause that lies in the record: size, timestamp, format.
    RecordRefused,
    /// An output topic or partition does not exist.
    UnknownPartition,
    /// Not authorized, or a time-out or name of the group that the brokers refuse.
    NotAuthorized,
    /// A setting that the client refuses, or one of a topic that the brokers refuse.
    SettingRefused,
    /// The client can't go on: connect anew.
    Fatal,
}

impl BrokerErrorKind {
    /// Whether the member can't go on: everything is dropped and connected anew (or ends).
    #[must_use]
    pub const fn ends_consumer(self) -> bool {
        matches!(self, Self::InstanceFenced | Self::Fatal)
    }

    /// A bounded word for labels and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Retriable => "retriable",
            Self::TimedOut => "timed_out",
            Self::Abortable => "abortable",
            Self::StaleMember => "stale_member",
            Self::ProducerFenced => "producer_fenced",
            Self::InstanceFenced => "instance_fenced",
            Self::RecordRefused => "record_refused",
            Self::UnknownPartition => "unknown_partition",
            Self::NotAuthorized => "not_authorized",
            Self::SettingRefused => "setting_refused",
            Self::Fatal => "fatal",
        }
    }
}

/// A failed call. Holds no record content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct BrokerError {
    /// What it means.
    pub kind: BrokerErrorKind,
    /// The call, such as `commit_transaction`.
    pub operation: &'static str,
    /// The client's own words.
    pub detail: String,
    /// The output it failed for, when the client names one; partition -1 when it has not chosen one.
    pub output: Option<TopicPartition>,
}

impl BrokerError {
    /// An error of `operation`.
    pub fn new(kind: BrokerErrorKind, operation: &'static str, detail: impl Into<String>) -> Self {
        Self { kind, operation, detail: detail.into(), output: None }
    }

    /// The same error, for a record sent to `output`.
    #[must_use]
    pub fn at(self, output: TopicPartition) -> Self {
        Self { output: Some(output), ..self }
    }
}

impl fmt::Display for BrokerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} failed ({}): {}", self.operation, self.kind.name(), self.detail)
    }
}

/// Why a record was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The producer's queue is full: wait with [`Broker::await_room`] and send the same record again.
    #[error("the producer's queue is full")]
    QueueFull,
    /// Anything else.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// One member of a consumer group and one transactional producer.
///
/// # The producer
/// `begin`, any number of `send`, `drain`, `send_offsets`, `commit`; on any error `reset_producer`.
/// There is no abort: a new producer's `init_transactions` aborts what was open.
///
/// # Group metadata
/// The implementation takes the group metadata (member, generation) when `poll` hands out an
/// `Assigned` or a `Revoked` event, and at no other moment; `send_offsets` uses the one taken last.
/// A member that slept past its session therefore presents its old generation and is refused. From
/// the moment a `Revoked` with `lost` is handed out, `send_offsets` fails with `StaleMember` until
/// the next `Assigned` has been handed out (a request without a member would not be fenced).
/// After an `Assigned` or `Revoked` event no further one is handed out until `accept` or `release`
/// has been called for it.
pub trait Broker {
    /// Waits at most `wait` for records or events, and returns as soon as there is at least one,
    /// with whatever else is there already within the bounds of [`SlotConfig`]. Puts into `batches`
    /// what was read (at most one batch per partition, records in offset order, each offset once;
    /// batches that were in it are used again or dropped) and appends to `events` (in the order in which they happened). Records of the same call come before its
    /// events. Only partitions that were started and neither paused nor revoked since give records.
    /// Also serves the producer's delivery reports.
    ///
    /// # Errors
    /// `InstanceFenced`, or `Fatal`: the consumer can't go on. A passing fault (a broker down) is no
    /// error: it shows as silence.
    fn poll(
        &mut self,
        wait: Duration,
        batches: &mut Vec<RecordBatch>,
        events: &mut Vec<Event>,
    ) -> Result<(), BrokerError>;

    /// Takes over partitions of an `Assigned` event, paused (`incremental_assign`). Must be called
    /// for empty lists too: it ends the rebalance.
    ///
    /// # Errors
    /// The client refuses.
    fn accept(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError>;

    /// Gives back partitions of a `Revoked` event (`incremental_unassign`). Must be called for empty
    /// lists too.
    ///
    /// # Errors
    /// The client refuses.
    fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError>;

    /// Reads an accepted partition from `position` on (seek and resume; it may be running, paused or
    /// failed). The next record handed out is the first visible one at or above `position`; nothing
    /// fetched before is handed out.
    ///
    /// # Errors
    /// The partition is not assigned, or the seek failed or timed out; it is paused then.
    fn start(&mut self, topic_partition: &TopicPartition, position: i64)
    -> Result<(), BrokerError>;

    /// Stops reading an accepted partition; what was fetched is dropped. No record of it comes after
    /// this call. No effect on a partition that is paused already.
    ///
    /// # Errors
    /// The client refuses.
    fn pause(&mut self, topic_partition: &TopicPartition) -> Result<(), BrokerError>;

    /// Asks `lookup` for the restore of `topic_partition`; answered by [`Event::Lookup`].
    /// `Committed` is the group's *stable* offset of `topic_partition` (requires stable: it waits
    /// for open transactions that hold one). `Range` has the high watermark as a read-uncommitted
    /// reader sees it. `Read` gives committed records only, waits until `to` or the last stable
    /// offset at the time of asking is reached, and returns at most
    /// [`SlotConfig::lookup_bytes_max`] (at least one record, if there is one).
    fn lookup(&mut self, ticket: Ticket, topic_partition: &TopicPartition, lookup: Lookup);

    /// Asks who began the transaction that holds the last stable offset of `topic_partition`, which is
    /// the first record there that tells, reading uncommitted; answered by [`Event::Writer`].
    fn read_writer(&mut self, ticket: Ticket, topic_partition: &TopicPartition);

    /// Calls `init_transactions` with a slot's transactional id: aborts its open transaction and
    /// fences it, be it another's or this one's own; answered by [`Event::Fenced`]. When the
    /// committed offset of `topic_partition` is pending all the same, and the cluster is one whose
    /// only broker may have lost the end of a transaction, aborts what that id still has open.
    fn fence(&mut self, ticket: Ticket, topic_partition: &TopicPartition, transactional_id: &str);

    /// Drops the producer with everything in its queue and builds a new one with
    /// `init_transactions`: afterwards every earlier transaction of this id is either committed or
    /// aborted, and no transaction is open.
    ///
    /// # Errors
    /// Not done within `timeout` (call again), `NotAuthorized`, or `Fatal`.
    fn reset_producer(&mut self, timeout: Duration) -> Result<(), BrokerError>;

    /// Begins a transaction.
    ///
    /// # Errors
    /// One is open, or the producer is fenced or unusable.
    fn begin(&mut self) -> Result<(), BrokerError>;

    /// Queues one record into the open transaction, with the header
    /// [`WRITER_HEADER`](crate::pipeline::step::WRITER_HEADER) = own transactional id behind the
    /// record's own, where it has to name its writer. Its outcome shows in [`Broker::drain`]. With `partition: None` the partition is
    /// murmur2 of the key modulo the partition count, as in the Java client.
    ///
    /// # Errors
    /// The queue is full, or the record or the producer is refused at once.
    fn send(&mut self, record: &OutputRecord<'_>) -> Result<(), SendError>;

    /// Waits at most `wait` for room in the producer's queue; serves delivery reports.
    ///
    /// # Errors
    /// The producer is unusable. Failed deliveries show in [`Broker::drain`].
    fn await_room(&mut self, wait: Duration) -> Result<(), BrokerError>;

    /// Waits until nothing is in flight and every record sent since `begin` has been acknowledged;
    /// returns where the tracked ones were stored, in the order in which they were sent.
    ///
    /// # Errors
    /// The first failed delivery (`RecordRefused` when the cause lies in the record), or `TimedOut`
    /// with records in flight. The transaction must not be committed then.
    fn drain(&mut self, timeout: Duration) -> Result<Vec<Delivery>, BrokerError>;

    /// Adds offsets with metadata to the open transaction, under the group metadata taken at the
    /// last rebalance event. The broker checks the generation, not the ownership.
    ///
    /// # Errors
    /// `StaleMember` when the generation is not the current one; metadata over 4,096 bytes is
    /// `Abortable`.
    fn send_offsets(
        &mut self,
        offsets: &[OffsetCommit],
        timeout: Duration,
    ) -> Result<(), BrokerError>;

    /// Commits the open transaction. After `Ok` it stands.
    ///
    /// # Errors
    /// After **any** error the outcome is unknown to the shard (an answer may be lost, and what was
    /// answered on a retry may follow a commit that stands): it resets the producer and asks for the
    /// committed offsets. What the client calls retriable is repeated inside, within `timeout`.
    fn commit(&mut self, timeout: Duration) -> Result<(), BrokerError>;

    /// Ends politely within `timeout`: a dynamic member leaves the group, a static one does not.
    /// Nothing is committed. Merely dropping a broker is an unclean death: peers wait for the
    /// session time-out.
    fn close(self, timeout: Duration);
}

//! Real Kafka behind [`Broker`], through librdkafka, used synchronously from the shard's thread.
//!
//! Traps of the client that shape this code (each measured or read in its source):
//! * `flush` waits in slices of 100 ms: [`Broker::drain`] polls for 1 ms at a time instead.
//! * `abort_transaction` fails with messages queued: there is no abort, a new producer's
//!   `init_transactions` does it.
//! * The default rebalance callback unassigns at once: ours only queues an event.
//! * The broker checks the generation of a commit, not the ownership of its partitions: the group
//!   metadata is taken when a rebalance event is handed out and at no other moment.
//! * Errors of a partition carry no topic: a probe of the watermarks finds the partition.
//! * A batch with a wrong checksum is skipped, with an error that names no partition: no partition is
//!   read over a hole until a look into each has found the damaged one.
//! * A seek that overtakes the answer to a query for a logical offset is undone by it in silence:
//!   partitions are assigned at absolute offsets only.
//! * A partition whose offset was out of range can't be sought, only assigned anew.
//! * A static member that comes back is given its old assignment without a rebalance, even in the
//!   middle of a hand-over: it stays out until that orphans nothing.
//! * A client may block while it is destroyed: that happens on a thread of its own.

mod asking;
mod config;
mod context;
mod doubt;
mod errors;
mod hand_over;
mod hanging;
mod lookups;
mod member;
mod partitions;
mod producer;

use std::time::Duration;

use rdkafka::consumer::BaseConsumer;

pub(crate) use asking::Asker;
pub(crate) use context::PlainContext;
pub(crate) use errors::classify;

pub use config::{ConfigRefused, KafkaConfig, Sasl, Security, Tls, TokenSource};

use self::lookups::{Helper, Task};
use self::member::Member;
use self::producer::Transactions;
use super::{
    Broker, BrokerError, BrokerErrorKind, Connector, Delivery, Event, Lookup, OffsetCommit,
    OutputRecord, RecordBatch, SendError, SlotConfig, Ticket, TopicPartition,
};

/// Connects slots to one Kafka cluster.
#[derive(Clone, Debug)]
pub struct KafkaConnector {
    config: KafkaConfig,
}

impl KafkaConnector {
    /// A connector for the cluster of `config`.
    ///
    /// # Errors
    /// A property that would break a guarantee, or that librdkafka does not know.
    pub fn new(config: KafkaConfig) -> Result<Self, ConfigRefused> {
        config.check()?;
        Ok(Self { config })
    }

    /// What it connects with.
    #[must_use]
    pub fn config(&self) -> &KafkaConfig {
        &self.config
    }
}

impl Connector for KafkaConnector {
    type Broker = KafkaBroker;

    fn connect(&self, slot: &SlotConfig) -> Result<KafkaBroker, BrokerError> {
        let mut transactions = Transactions::new(self.config.producer(slot), slot);
        transactions.reset(slot.operation_timeout)?;
        let helper = Helper::start(&self.config, slot)?;
        let member = Member::join(&self.config, slot)?;
        Ok(KafkaBroker { member, transactions, helper })
    }

    fn knows_instance(&self, slot: &SlotConfig) -> Result<bool, BrokerError> {
        const OPERATION: &str = "describe group";
        let config = self.config.reader(slot, "read_committed");
        let reader: BaseConsumer<PlainContext> = config
            .create_with_context(PlainContext)
            .map_err(|error| classify(OPERATION, &error))?;
        hand_over::knows_instance(&reader, slot, slot.lookup_timeout)
            .map_err(|error| classify(OPERATION, &error))
    }
}

/// One group member and one transactional producer on a real cluster.
pub struct KafkaBroker {
    member: Member,
    transactions: Transactions,
    helper: Helper,
}

impl Broker for KafkaBroker {
    fn poll(
        &mut self,
        wait: Duration,
        batches: &mut Vec<RecordBatch>,
        events: &mut Vec<Event>,
    ) -> Result<(), BrokerError> {
        self.transactions.serve();
        let outcome = self.member.poll(wait, &mut self.helper, batches, events);
        self.transactions.serve();
        outcome
    }

    fn accept(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        self.member.accept(partitions)
    }

    fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        self.member.release(partitions)
    }

    fn start(
        &mut self,
        topic_partition: &TopicPartition,
        position: i64,
    ) -> Result<(), BrokerError> {
        self.member.start(topic_partition, position)
    }

    fn pause(&mut self, topic_partition: &TopicPartition) -> Result<(), BrokerError> {
        self.member.pause(topic_partition)
    }

    fn lookup(&mut self, ticket: Ticket, topic_partition: &TopicPartition, lookup: Lookup) {
        let topic_partition = topic_partition.clone();
        self.helper.ask(Task::Lookup { ticket, topic_partition, lookup });
    }

    fn read_writer(&mut self, ticket: Ticket, topic_partition: &TopicPartition) {
        self.helper.ask(Task::Writer { ticket, topic_partition: topic_partition.clone() });
    }

    fn fence(&mut self, ticket: Ticket, topic_partition: &TopicPartition, transactional_id: &str) {
        let (topic_partition, transactional_id) =
            (topic_partition.clone(), transactional_id.to_owned());
        self.helper.ask(Task::Fence { ticket, topic_partition, transactional_id });
    }

    fn reset_producer(&mut self, timeout: Duration) -> Result<(), BrokerError> {
        self.transactions.reset(timeout)
    }

    fn begin(&mut self) -> Result<(), BrokerError> {
        self.transactions.begin()
    }

    fn send(&mut self, record: &OutputRecord<'_>) -> Result<(), SendError> {
        self.transactions.send(record)
    }

    fn await_room(&mut self, wait: Duration) -> Result<(), BrokerError> {
        self.transactions.await_room(wait)
    }

    fn drain(&mut self, timeout: Duration) -> Result<Vec<Delivery>, BrokerError> {
        self.transactions.drain(timeout)
    }

    fn send_offsets(
        &mut self,
        offsets: &[OffsetCommit],
        timeout: Duration,
    ) -> Result<(), BrokerError> {
        let Some(metadata) = self.member.group_metadata() else {
            let detail = "not a member of the group now";
            return Err(BrokerError::new(BrokerErrorKind::StaleMember, "send_offsets", detail));
        };
        self.transactions.send_offsets(offsets, metadata, timeout)
    }

    fn commit(&mut self, timeout: Duration) -> Result<(), BrokerError> {
        self.transactions.commit(timeout)
    }

    fn close(self, timeout: Duration) {
        let Self { member, transactions, helper } = self;
        drop(helper);
        drop(transactions);
        member.close(timeout);
    }
}

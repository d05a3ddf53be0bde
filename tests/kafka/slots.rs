//! One slot of the real client with the answers a shard would give, for tests of the client alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use blotter::daemon::broker::kafka::{KafkaBroker, KafkaConfig, KafkaConnector};
use blotter::daemon::broker::{
    Broker, BrokerError, Connector, Event, LookupFailure, SendError, SlotConfig, Subscription,
    Ticket,
};
use blotter::pipeline::record::{RecordBatch, Timestamp, TopicPartition};
use blotter::pipeline::step::{Delivery, Lookup, LookupAnswer, OffsetCommit, OutputRecord};

use crate::harness::Deadline;

/// Time-out of a call that must succeed.
pub(crate) const CALL: Duration = Duration::from_secs(10);

/// A dynamic slot of `group` that reads `topic`.
pub(crate) fn slot(group: &str, name: &str, topic: &str) -> SlotConfig {
    SlotConfig {
        group: group.to_owned(),
        instance_id: None,
        transactional_id: format!("{group}-{name}"),
        subscription: Subscription {
            topics: vec![Arc::from(topic)],
            patterns: Vec::new(),
            excluded: Vec::new(),
        },
        poll_records_max: 1000,
        poll_bytes_max: 1 << 20,
        transaction_timeout: Duration::from_secs(10),
        session_timeout: Duration::from_secs(6),
        operation_timeout: CALL,
        lookup_timeout: Duration::from_secs(2),
        written: Vec::new(),
        lookup_bytes_max: 1 << 20,
    }
}

/// A connector with plain settings and these properties.
pub(crate) fn connector(brokers: &str, properties: &[(&str, &str)]) -> KafkaConnector {
    let properties: BTreeMap<String, String> =
        properties.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let config = KafkaConfig { brokers: brokers.to_owned(), properties, ..KafkaConfig::default() };
    KafkaConnector::new(config).expect("harmless properties")
}

/// A member and what it has seen.
pub(crate) struct Slot {
    pub(crate) broker: KafkaBroker,
    pub(crate) owned: Vec<TopicPartition>,
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) events: Vec<Event>,
    tickets: u64,
}

impl Slot {
    pub(crate) fn connect(connector: &KafkaConnector, slot: &SlotConfig) -> Self {
        let broker = connector.connect(slot).expect("the brokers are there");
        Self { broker, owned: Vec::new(), batches: Vec::new(), events: Vec::new(), tickets: 0 }
    }

    /// Polls once and answers rebalances; everything else is kept.
    pub(crate) fn poll(&mut self) -> Result<(), BrokerError> {
        let (mut batches, mut events) = (Vec::new(), Vec::new());
        self.broker.poll(Duration::from_millis(20), &mut batches, &mut events)?;
        self.batches.append(&mut batches);
        for event in events {
            match &event {
                Event::Assigned(partitions) => {
                    self.broker.accept(partitions)?;
                    self.owned.extend(partitions.iter().cloned());
                }
                Event::Revoked { partitions, .. } => {
                    self.owned.retain(|own| !partitions.contains(own));
                    self.broker.release(partitions)?;
                }
                _ => {}
            }
            self.events.push(event);
        }
        Ok(())
    }

    /// Polls until `done`.
    pub(crate) fn until(&mut self, what: &str, seconds: u64, done: impl Fn(&Self) -> bool) {
        let deadline = Deadline::after_seconds(seconds);
        while !done(self) {
            assert!(!deadline.is_over(), "not within {seconds} s: {what}; {:?}", self.events);
            self.poll().expect("the member goes on");
        }
    }

    /// Polls until it owns `count` partitions.
    pub(crate) fn owning(mut self, count: usize) -> Self {
        self.until("the assignment", 40, |slot| slot.owned.len() == count);
        self
    }

    /// Offset and value of every record read so far.
    pub(crate) fn values(&self) -> Vec<(i64, String)> {
        let mut values = Vec::new();
        for batch in &self.batches {
            batch.for_each(0..batch.len(), |record| {
                let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
                values.push((record.offset, value));
            });
        }
        values
    }

    /// Queues one record, waiting for room.
    pub(crate) fn send(
        &mut self,
        to: &TopicPartition,
        timestamp: Option<i64>,
        value: &[u8],
        tracked: bool,
    ) -> Result<(), BrokerError> {
        let record = OutputRecord {
            topic: &to.topic,
            partition: Some(to.partition),
            timestamp: timestamp.map(Timestamp::from_millis),
            key: None,
            value: Some(value),
            headers: &[],
            tracked,
            forwarded: false,
        };
        loop {
            match self.broker.send(&record) {
                Ok(()) => return Ok(()),
                Err(SendError::QueueFull) => self.broker.await_room(CALL)?,
                Err(SendError::Broker(error)) => return Err(error),
            }
        }
    }

    /// Begins a transaction with one tracked record to `to` and waits until it is stored.
    pub(crate) fn begin_with(
        &mut self,
        to: &TopicPartition,
        value: &str,
    ) -> Result<Vec<Delivery>, BrokerError> {
        self.broker.begin()?;
        self.send(to, None, value.as_bytes(), true)?;
        self.broker.drain(CALL)
    }

    /// A whole transaction: one record, one offset.
    pub(crate) fn transact(
        &mut self,
        to: &TopicPartition,
        value: &str,
        source: &TopicPartition,
        offset: i64,
    ) -> Result<(), BrokerError> {
        self.begin_with(to, value)?;
        self.broker.send_offsets(&[commit_of(source, offset)], CALL)?;
        self.broker.commit(CALL)
    }

    /// Fences the writer of what holds `source`.
    pub(crate) fn fence(&mut self, source: &TopicPartition, transactional_id: &str) {
        self.tickets += 1;
        let asked = Ticket(self.tickets);
        self.broker.fence(asked, source, transactional_id);
        let is_answer = |event: &Event| matches!(event, Event::Fenced { ticket, result: Ok(()) } if *ticket == asked);
        self.until("the fence", 40, |slot| slot.events.iter().any(is_answer));
    }

    /// Asks a look-up and polls until its answer comes.
    pub(crate) fn ask(
        &mut self,
        source: &TopicPartition,
        lookup: Lookup,
    ) -> Result<LookupAnswer, LookupFailure> {
        self.tickets += 1;
        let asked = Ticket(self.tickets);
        self.broker.lookup(asked, source, lookup);
        let is_answer =
            |event: &Event| matches!(event, Event::Lookup { ticket, .. } if *ticket == asked);
        self.until("an answer", 20, |slot| slot.events.iter().any(is_answer));
        let index = self.events.iter().position(is_answer).expect("it has come");
        match self.events.swap_remove(index) {
            Event::Lookup { result, .. } => result,
            other => panic!("not an answer: {other:?}"),
        }
    }
}

/// The offset to commit for `source`.
pub(crate) fn commit_of(source: &TopicPartition, offset: i64) -> OffsetCommit {
    OffsetCommit { topic_partition: source.clone(), offset, metadata: String::new() }
}

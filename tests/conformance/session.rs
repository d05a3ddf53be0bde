//! One member that answers its rebalances, and waiting for what it should see.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use blotter::daemon::broker::{
    Broker, BrokerError, Connector, Event, LookupFailure, SlotConfig, Subscription, Ticket,
};
use blotter::pipeline::record::TopicPartition;
use blotter::pipeline::step::{Lookup, LookupAnswer, OffsetCommit, OutputRecord};

use super::Bench;

/// How long a scenario waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(40);
/// Time-out of a call in a scenario.
pub(super) const CALL: Duration = Duration::from_secs(10);
/// `session.timeout.ms`: the smallest that Apache Kafka takes by default.
pub(super) const SESSION: Duration = Duration::from_secs(6);

pub(super) type BrokerOf<B> = <<B as Bench>::Connector as Connector>::Broker;

/// A slot of `group`, dynamic, reading `topic`.
pub(super) fn slot(group: &str, name: &str, topic: &str) -> SlotConfig {
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
        transaction_timeout: Duration::from_secs(30),
        session_timeout: SESSION,
        operation_timeout: CALL,
        lookup_timeout: Duration::from_millis(1500),
        written: Vec::new(),
        lookup_bytes_max: 1 << 20,
    }
}

/// A static slot.
pub(super) fn static_slot(group: &str, name: &str, topic: &str) -> SlotConfig {
    let instance_id = Some(format!("{group}-{name}"));
    SlotConfig { instance_id, ..slot(group, name, topic) }
}

/// A member and what it has seen.
pub(super) struct Session<'a, B: Bench> {
    bench: &'a B,
    pub(super) broker: BrokerOf<B>,
    pub(super) owned: BTreeSet<TopicPartition>,
    /// Revoked partitions not given back yet, when `holds_revoked` is set.
    pub(super) revoked: Option<Vec<TopicPartition>>,
    pub(super) holds_revoked: bool,
    pub(super) assigned_events: usize,
    pub(super) records: Vec<(TopicPartition, i64, String)>,
    pub(super) caught_up: Vec<(TopicPartition, i64)>,
    pub(super) failed: Vec<String>,
    answers: Vec<Event>,
    next_ticket: u64,
}

impl<'a, B: Bench> Session<'a, B> {
    pub(super) fn connect(bench: &'a B, slot: &SlotConfig) -> Self {
        let broker = bench.connector().connect(slot).expect("the cluster is there");
        Self {
            bench,
            broker,
            owned: BTreeSet::new(),
            revoked: None,
            holds_revoked: false,
            assigned_events: 0,
            records: Vec::new(),
            caught_up: Vec::new(),
            failed: Vec::new(),
            answers: Vec::new(),
            next_ticket: 0,
        }
    }

    /// Connects and waits until the member owns `count` partitions.
    pub(super) fn owning(bench: &'a B, slot: &SlotConfig, count: usize) -> Self {
        let mut session = Self::connect(bench, slot);
        session.until("the assignment", |session| session.owned.len() == count);
        session
    }

    /// Polls once and answers what comes.
    pub(super) fn poll(&mut self) -> Result<(), BrokerError> {
        let (mut batches, mut events) = (Vec::new(), Vec::new());
        self.broker.poll(Duration::from_millis(20), &mut batches, &mut events)?;
        for batch in batches {
            batch.for_each(0..batch.len(), |record| {
                let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
                self.records.push((record.topic_partition.clone(), record.offset, value));
            });
        }
        for event in events {
            self.take(event)?;
        }
        Ok(())
    }

    /// Gives back what was revoked.
    pub(super) fn release(&mut self) {
        if let Some(partitions) = self.revoked.take() {
            self.owned.retain(|partition| !partitions.contains(partition));
            self.broker.release(&partitions).expect("the revocation is open");
        }
    }

    /// Polls until `done`.
    pub(super) fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = self.bench.clock().monotonic() + PATIENCE;
        while !done(self) {
            assert!(self.bench.clock().monotonic() < deadline, "waited in vain for {what}");
            self.poll().expect("a member that polls stays");
        }
    }

    /// Polls both until `done`.
    pub(super) fn both_until(
        &mut self,
        other: &mut Self,
        what: &str,
        done: impl Fn(&Self, &Self) -> bool,
    ) {
        let deadline = self.bench.clock().monotonic() + PATIENCE;
        while !done(self, other) {
            assert!(self.bench.clock().monotonic() < deadline, "waited in vain for {what}");
            self.poll().expect("a member that polls stays");
            other.poll().expect("a member that polls stays");
        }
    }

    /// Polls both until each owns one partition and the group has come to rest.
    pub(super) fn balance(&mut self, other: &mut Self) {
        self.both_until(other, "the balance", |one, two| {
            one.owned.len() == 1 && two.owned.len() == 1
        });
        let rest = self.bench.clock().monotonic() + Duration::from_millis(2500);
        self.both_until(other, "rest", |one, _| one.bench.clock().monotonic() >= rest);
    }

    /// Polls until an error ends the member.
    pub(super) fn until_error(&mut self) -> BrokerError {
        let deadline = self.bench.clock().monotonic() + PATIENCE;
        loop {
            assert!(self.bench.clock().monotonic() < deadline, "waited in vain for an error");
            if let Err(error) = self.poll() {
                return error;
            }
        }
    }

    /// Asks a look-up and polls until its answer has come.
    pub(super) fn ask(
        &mut self,
        source: &TopicPartition,
        lookup: Lookup,
    ) -> Result<LookupAnswer, LookupFailure> {
        let ticket = self.ticket();
        self.broker.lookup(ticket, source, lookup);
        match self.answer(ticket) {
            Event::Lookup { result, .. } => result,
            other => panic!("not an answer to a look-up: {other:?}"),
        }
    }

    /// The committed offset and metadata, asked again while a transaction holds it.
    pub(super) fn committed(&mut self, source: &TopicPartition) -> (Option<i64>, String) {
        let deadline = self.bench.clock().monotonic() + PATIENCE;
        loop {
            match self.ask(source, Lookup::Committed) {
                Ok(LookupAnswer::Committed { offset, metadata }) => return (offset, metadata),
                other => assert!(
                    self.bench.clock().monotonic() < deadline,
                    "the committed offset stays pending: {other:?}"
                ),
            }
        }
    }

    pub(super) fn writer(&mut self, partition: &TopicPartition) -> Option<String> {
        let ticket = self.ticket();
        self.broker.read_writer(ticket, partition);
        match self.answer(ticket) {
            Event::Writer { result, .. } => result.expect("the partition is there"),
            other => panic!("not a writer: {other:?}"),
        }
    }

    pub(super) fn fence(&mut self, source: &TopicPartition, transactional_id: &str) {
        let ticket = self.ticket();
        self.broker.fence(ticket, source, transactional_id);
        match self.answer(ticket) {
            Event::Fenced { result, .. } => result.expect("init of another id goes through"),
            other => panic!("not a fence: {other:?}"),
        }
    }

    /// Sends one record into the open transaction and waits until it is stored.
    pub(super) fn send(
        &mut self,
        to: &TopicPartition,
        value: &str,
    ) -> Result<Option<i64>, BrokerError> {
        self.send_keyed(&to.topic, Some(to.partition), None, value).map(|(_, offset)| offset)
    }

    pub(super) fn send_keyed(
        &mut self,
        topic: &Arc<str>,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: &str,
    ) -> Result<(i32, Option<i64>), BrokerError> {
        let record = OutputRecord {
            topic,
            partition,
            timestamp: None,
            key,
            value: Some(value.as_bytes()),
            headers: &[],
            tracked: true,
            forwarded: false,
        };
        match self.broker.send(&record) {
            Ok(()) => {}
            Err(blotter::daemon::broker::SendError::Broker(error)) => return Err(error),
            Err(full) => panic!("{full}"),
        }
        let deliveries = self.broker.drain(CALL)?;
        let delivery = deliveries.last().expect("the record was tracked");
        Ok((delivery.topic_partition.partition, delivery.offset))
    }

    /// One whole transaction: a record to `to`, the offset of `source`.
    pub(super) fn transact(
        &mut self,
        to: &TopicPartition,
        value: &str,
        source: &TopicPartition,
        offset: i64,
        metadata: &str,
    ) -> Result<(), BrokerError> {
        self.broker.begin()?;
        self.send(to, value)?;
        self.broker.send_offsets(&[commit_of(source, offset, metadata)], CALL)?;
        self.broker.commit(CALL)
    }

    fn take(&mut self, event: Event) -> Result<(), BrokerError> {
        match event {
            Event::Assigned(partitions) => {
                self.broker.accept(&partitions)?;
                self.owned.extend(partitions);
                self.assigned_events += 1;
            }
            Event::Revoked { partitions, .. } => {
                self.revoked = Some(partitions);
                if !self.holds_revoked {
                    self.release();
                }
            }
            Event::CaughtUp { topic_partition, end_offset } => {
                self.caught_up.push((topic_partition, end_offset));
            }
            Event::PartitionFailed { failure, .. } => self.failed.push(failure.to_string()),
            Event::Lag { .. } => {}
            answer => self.answers.push(answer),
        }
        Ok(())
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    fn answer(&mut self, asked: Ticket) -> Event {
        let of = |event: &Event| match event {
            Event::Lookup { ticket, .. }
            | Event::Writer { ticket, .. }
            | Event::Fenced { ticket, .. } => *ticket == asked,
            _ => false,
        };
        self.until("an answer", |session| session.answers.iter().any(of));
        let index = self.answers.iter().position(of).expect("it has come");
        self.answers.swap_remove(index)
    }
}

/// The offset to commit for `source`.
pub(super) fn commit_of(source: &TopicPartition, offset: i64, metadata: &str) -> OffsetCommit {
    OffsetCommit { topic_partition: source.clone(), offset, metadata: metadata.to_owned() }
}

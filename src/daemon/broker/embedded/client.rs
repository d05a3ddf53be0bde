//! The broker trait on the model: connecting, polling, assignments. Producing is in `producer`,
//! restoring in `lookups`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::ModelError;
use super::cluster::{Cluster, State, millis};
use super::conductor::{Call, Conductor, Undisturbed, Verdict};
use super::group::GroupMetadata;
use super::log::Isolation;
use super::lookups::Lookups;
use super::member::{Membership, Rebalance};
use super::producer::ProducerClient;
use crate::daemon::broker::{
    Broker, BrokerError, BrokerErrorKind, Connector, Event, PartitionFailure, SendError,
    SlotConfig, Ticket,
};
use crate::pipeline::limits::{EMBEDDED_CAUGHT_UP_MS, EMBEDDED_LAG_MS};
use crate::pipeline::record::{Header, RecordBatch, Timestamp, TopicPartition};
use crate::pipeline::step::{Delivery, Lookup, OffsetCommit, OutputRecord};

/// Connects slots to a cluster in memory.
#[derive(Clone)]
pub struct EmbeddedConnector {
    cluster: Cluster,
    conductor: Arc<dyn Conductor>,
}

impl EmbeddedConnector {
    /// For a cluster that nobody disturbs.
    #[must_use]
    pub fn new(cluster: Cluster) -> Self {
        Self::conducted(cluster, Arc::new(Undisturbed))
    }

    /// For a cluster where `conductor` decides what goes wrong.
    #[must_use]
    pub fn conducted(cluster: Cluster, conductor: Arc<dyn Conductor>) -> Self {
        Self { cluster, conductor }
    }
}

impl fmt::Debug for EmbeddedConnector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EmbeddedConnector")
    }
}

impl Connector for EmbeddedConnector {
    type Broker = EmbeddedBroker;

    fn connect(&self, slot: &SlotConfig) -> Result<EmbeddedBroker, BrokerError> {
        let mut line = Line {
            cluster: self.cluster.clone(),
            conductor: Arc::clone(&self.conductor),
            slot: slot.transactional_id.clone(),
            member: None,
        };
        let mut producer = ProducerClient::new(slot);
        producer.reset(&line, "connect", slot.operation_timeout)?;
        let membership = Membership {
            group: Arc::from(slot.group.as_str()),
            instance_id: slot.instance_id.clone(),
            session_timeout_ms: millis(slot.session_timeout),
            subscription: slot.subscription.clone(),
        };
        let mut state = self.cluster.lock();
        let member = state.add_client(membership);
        self.cluster.changed(state);
        line.member = Some(member);
        let metadata = GroupMetadata {
            member_id: String::new(),
            generation: -1,
            instance_id: slot.instance_id.clone(),
        };
        Ok(EmbeddedBroker {
            line,
            slot: slot.clone(),
            member,
            metadata,
            reading: BTreeMap::new(),
            next_first: 0,
            producer,
            lookups: Lookups::default(),
        })
    }

    fn knows_instance(&self, slot: &SlotConfig) -> Result<bool, BrokerError> {
        let state = self.cluster.lock();
        let group = state.groups.get(slot.group.as_str());
        Ok(group.is_some_and(|group| group.knows_instance(slot.instance_id.as_ref())))
    }
}

/// The way from one client to the cluster, past the conductor.
pub(super) struct Line {
    pub(super) cluster: Cluster,
    conductor: Arc<dyn Conductor>,
    slot: String,
    member: Option<u64>,
}

impl Line {
    /// Makes `change` under the cluster's lock, unless the call is disturbed.
    pub(super) fn call<T>(
        &self,
        operation: &'static str,
        timeout: Duration,
        change: impl FnOnce(&mut State) -> Result<T, ModelError>,
    ) -> Result<T, BrokerError> {
        self.call_or_keep(operation, timeout, change, |_| ())
    }

    /// As [`Line::call`], for a request that may arrive late: `keep` puts it on its way.
    pub(super) fn call_or_keep<T>(
        &self,
        operation: &'static str,
        timeout: Duration,
        change: impl FnOnce(&mut State) -> Result<T, ModelError>,
        keep: impl FnOnce(&mut State),
    ) -> Result<T, BrokerError> {
        let verdict = self.conductor.before(&self.named(operation));
        if verdict == Verdict::Refuse {
            let detail = "refused for a passing reason";
            return Err(BrokerError::new(BrokerErrorKind::Abortable, operation, detail));
        }
        if verdict == Verdict::LoseRequest {
            return Err(self.time_out(operation, timeout));
        }
        let mut state = self.cluster.lock();
        if verdict == Verdict::Keep {
            keep(&mut state);
            drop(state);
            return Err(self.time_out(operation, timeout));
        }
        let outcome = change(&mut state);
        self.cluster.changed(state);
        self.conductor.after(&self.named(operation));
        if verdict == Verdict::LoseAnswer {
            return Err(self.time_out(operation, timeout));
        }
        outcome.map_err(|error| BrokerError::new(kind_of(error), operation, error.to_string()))
    }

    /// A call that touches the client only: it may be interrupted, not lost.
    fn local(&self, operation: &'static str, change: impl FnOnce(&mut State)) {
        self.conductor.before(&self.named(operation));
        let mut state = self.cluster.lock();
        change(&mut state);
        self.cluster.changed(state);
        self.conductor.after(&self.named(operation));
    }

    pub(super) fn named(&self, operation: &'static str) -> Call<'_> {
        Call { slot: &self.slot, member: self.member, operation }
    }

    pub(super) fn conductor(&self) -> &dyn Conductor {
        &*self.conductor
    }

    fn wait(&self, operation: &'static str, seen: u64, until: Timestamp) {
        self.conductor.wait(&self.named(operation), &self.cluster, seen, until);
    }

    fn time_out(&self, operation: &'static str, timeout: Duration) -> BrokerError {
        let until = self.cluster.now().plus_millis(millis(timeout));
        self.conductor.sleep(&self.named(operation), &self.cluster, until);
        BrokerError::new(BrokerErrorKind::TimedOut, operation, "no answer within the time-out")
    }
}

fn kind_of(error: ModelError) -> BrokerErrorKind {
    match error {
        ModelError::UnknownTopicOrPartition => BrokerErrorKind::UnknownPartition,
        ModelError::MessageTooLarge | ModelError::InvalidTimestamp | ModelError::InvalidRecord => {
            BrokerErrorKind::RecordRefused
        }
        ModelError::ProducerFenced => BrokerErrorKind::ProducerFenced,
        ModelError::IllegalGeneration | ModelError::UnknownMember => BrokerErrorKind::StaleMember,
        ModelError::FencedInstance => BrokerErrorKind::InstanceFenced,
        ModelError::OffsetMetadataTooLarge => BrokerErrorKind::Abortable,
        ModelError::TopicExists
        | ModelError::InvalidPartitions
        | ModelError::OffsetOutOfRange
        | ModelError::InvalidTransactionState
        | ModelError::NonEmptyGroup
        | ModelError::UnstableOffset => BrokerErrorKind::Fatal,
    }
}

struct Reading {
    position: i64,
    running: bool,
    caught_up_told: Option<Timestamp>,
    lag_told: Timestamp,
}

/// One group member and one transactional producer on a cluster in memory. Dropping it is an
/// unclean death.
pub struct EmbeddedBroker {
    line: Line,
    slot: SlotConfig,
    member: u64,
    metadata: GroupMetadata,
    reading: BTreeMap<TopicPartition, Reading>,
    next_first: usize,
    producer: ProducerClient,
    lookups: Lookups,
}

impl fmt::Debug for EmbeddedBroker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "EmbeddedBroker({})", self.slot.transactional_id)
    }
}

impl EmbeddedBroker {
    /// Takes the group metadata of this moment, which is what a client must *not* do in the middle
    /// of a transaction; the simulation uses it to break the protocol.
    pub fn refresh_group_metadata(&mut self) {
        if let Some(metadata) = self.line.cluster.lock().current_metadata(self.member) {
            self.metadata = metadata;
        }
    }

    fn collect(
        &mut self,
        state: &mut State,
        batches: &mut Vec<RecordBatch>,
        events: &mut Vec<Event>,
    ) -> Result<(), BrokerError> {
        if state.is_fenced(self.member) {
            let detail = "a newer process holds this instance id";
            return Err(BrokerError::new(BrokerErrorKind::InstanceFenced, "poll", detail));
        }
        self.fetch(state, batches, events);
        self.lookups.answer(state, &self.slot, events);
        self.tell_positions(state, events);
        if let Some((event, metadata)) = state.next_rebalance(self.member) {
            self.metadata = metadata;
            events.push(match event {
                Rebalance::Assigned(partitions) => Event::Assigned(partitions),
                Rebalance::Revoked { partitions, lost } => {
                    for partition in &partitions {
                        if let Some(reading) = self.reading.get_mut(partition) {
                            reading.running = false;
                        }
                    }
                    Event::Revoked { partitions, lost }
                }
            });
        }
        Ok(())
    }

    fn fetch(
        &mut self,
        state: &mut State,
        batches: &mut Vec<RecordBatch>,
        events: &mut Vec<Event>,
    ) {
        let mut room =
            Room { records: self.slot.poll_records_max, bytes: self.slot.poll_bytes_max };
        let count = self.reading.len();
        let (head, tail): (Vec<_>, Vec<_>) =
            self.reading.iter_mut().enumerate().partition(|(index, _)| *index < self.next_first);
        for (index, (partition, reading)) in tail.into_iter().chain(head) {
            if !reading.running || room.is_full() {
                continue;
            }
            let mut batch = RecordBatch::new(partition.clone());
            match read_into(state, partition, reading.position, &mut room, &mut batch) {
                Ok(next) => reading.position = next,
                Err(error) => {
                    reading.running = false;
                    let failure = failure_of(error);
                    let topic_partition = Some(partition.clone());
                    events.push(Event::PartitionFailed { topic_partition, failure });
                }
            }
            if !batch.is_empty() {
                batches.push(batch);
                self.next_first = (index + 1) % count;
            }
        }
    }

    fn tell_positions(&mut self, state: &mut State, events: &mut Vec<Event>) {
        let now = state.now;
        for (partition, reading) in self.reading.iter_mut().filter(|(_, own)| own.running) {
            let Ok(end) = stable_end(state, partition) else { continue };
            let told_ms = reading.caught_up_told.map(|told| now.millis_since(told));
            if reading.position >= end && told_ms.is_none_or(|ms| ms >= EMBEDDED_CAUGHT_UP_MS) {
                reading.caught_up_told = Some(now);
                let topic_partition = partition.clone();
                events.push(Event::CaughtUp { topic_partition, end_offset: end });
            }
            if now.millis_since(reading.lag_told) >= EMBEDDED_LAG_MS {
                reading.lag_told = now;
                let records = u64::try_from(end - reading.position).unwrap_or(0);
                events.push(Event::Lag { topic_partition: partition.clone(), records });
            }
        }
    }

    /// When the client itself has something to say though nothing changes at the brokers.
    fn wakes_at(&self) -> Option<Timestamp> {
        let running = self.reading.values().filter(|reading| reading.running);
        let told = running.map(|reading| {
            let caught_up = reading.caught_up_told.unwrap_or(reading.lag_told);
            let lag = reading.lag_told.plus_millis(EMBEDDED_LAG_MS);
            caught_up.plus_millis(EMBEDDED_CAUGHT_UP_MS).min(lag)
        });
        told.chain(self.lookups.wakes_at()).min()
    }
}

impl Broker for EmbeddedBroker {
    fn poll(
        &mut self,
        wait: Duration,
        batches: &mut Vec<RecordBatch>,
        events: &mut Vec<Event>,
    ) -> Result<(), BrokerError> {
        batches.clear();
        self.line.conductor().before(&self.line.named("poll"));
        self.producer.deliver_some(&self.line);
        let cluster = self.line.cluster.clone();
        let until = cluster.now().plus_millis(millis(wait));
        loop {
            let mut state = cluster.lock();
            self.collect(&mut state, batches, events)?;
            let (seen, now) = (state.version, state.now);
            drop(state);
            if !batches.is_empty() || !events.is_empty() || now >= until {
                break;
            }
            let wake = self.wakes_at().filter(|wake| *wake > now);
            self.line.wait("poll", seen, wake.map_or(until, |wake| wake.min(until)));
        }
        self.line.conductor().after(&self.line.named("poll"));
        Ok(())
    }

    fn accept(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        self.line.local("accept", |state| state.accept(self.member, partitions));
        let now = self.line.cluster.now();
        for partition in partitions {
            let reading =
                Reading { position: -1, running: false, caught_up_told: None, lag_told: now };
            self.reading.insert(partition.clone(), reading);
        }
        Ok(())
    }

    fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        self.reading.retain(|partition, _| !partitions.contains(partition));
        self.line.local("release", |state| state.release(self.member, partitions));
        Ok(())
    }

    fn start(
        &mut self,
        topic_partition: &TopicPartition,
        position: i64,
    ) -> Result<(), BrokerError> {
        let Some(reading) = self.reading.get_mut(topic_partition) else {
            let detail = format!("{topic_partition} is not assigned");
            return Err(BrokerError::new(BrokerErrorKind::Retriable, "start", detail));
        };
        reading.running = false;
        self.line.call("start", self.slot.operation_timeout, |_| Ok(()))?;
        reading.position = position;
        reading.running = true;
        reading.caught_up_told = None;
        Ok(())
    }

    fn pause(&mut self, topic_partition: &TopicPartition) -> Result<(), BrokerError> {
        if let Some(reading) = self.reading.get_mut(topic_partition) {
            reading.running = false;
        }
        self.line.local("pause", |_| ());
        Ok(())
    }

    fn lookup(&mut self, ticket: Ticket, topic_partition: &TopicPartition, lookup: Lookup) {
        self.lookups.ask(&self.line, &self.slot, ticket, topic_partition, lookup);
    }

    fn read_writer(&mut self, ticket: Ticket, topic_partition: &TopicPartition) {
        self.lookups.ask_writer(&self.line, &self.slot, ticket, topic_partition);
    }

    fn fence(&mut self, ticket: Ticket, _: &TopicPartition, transactional_id: &str) {
        self.lookups.ask_fence(&self.line, &self.slot, ticket, transactional_id);
    }

    fn reset_producer(&mut self, timeout: Duration) -> Result<(), BrokerError> {
        self.producer.reset(&self.line, "reset_producer", timeout)
    }

    fn begin(&mut self) -> Result<(), BrokerError> {
        self.line.local("begin", |_| ());
        self.producer.begin()
    }

    fn send(&mut self, record: &OutputRecord<'_>) -> Result<(), SendError> {
        self.producer.send(&self.line, record)
    }

    fn await_room(&mut self, _wait: Duration) -> Result<(), BrokerError> {
        self.producer.deliver_some(&self.line);
        Ok(())
    }

    fn drain(&mut self, timeout: Duration) -> Result<Vec<Delivery>, BrokerError> {
        self.producer.drain(&self.line, timeout)
    }

    fn send_offsets(
        &mut self,
        offsets: &[OffsetCommit],
        timeout: Duration,
    ) -> Result<(), BrokerError> {
        self.producer.send_offsets(&self.line, &self.metadata, offsets, timeout)
    }

    fn commit(&mut self, timeout: Duration) -> Result<(), BrokerError> {
        self.producer.commit(&self.line, timeout)
    }

    fn close(self, _timeout: Duration) {
        self.line.local("close", |state| state.close_client(self.member));
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        let mut state = self.line.cluster.lock();
        state.drop_client(self.member);
        self.line.cluster.changed(state);
    }
}

struct Room {
    records: usize,
    bytes: usize,
}

impl Room {
    fn is_full(&self) -> bool {
        self.records == 0 || self.bytes == 0
    }
}

fn read_into(
    state: &mut State,
    partition: &TopicPartition,
    from: i64,
    room: &mut Room,
    batch: &mut RecordBatch,
) -> Result<i64, ModelError> {
    let (topic, index) = state.topic_mut(partition)?;
    let log = topic.partitions.get(index).ok_or(ModelError::UnknownTopicOrPartition)?;
    log.read(Isolation::ReadCommitted, from, i64::MAX, |record| {
        super::lookups::push(batch, record);
        room.records -= 1;
        room.bytes = room.bytes.saturating_sub(record.body.size_bytes());
        !room.is_full()
    })
}

fn stable_end(state: &mut State, partition: &TopicPartition) -> Result<i64, ModelError> {
    let (topic, index) = state.topic_mut(partition)?;
    let log = topic.partitions.get(index).ok_or(ModelError::UnknownTopicOrPartition)?;
    Ok(log.last_stable())
}

fn failure_of(error: ModelError) -> PartitionFailure {
    match error {
        ModelError::OffsetOutOfRange => PartitionFailure::OffsetOutOfRange,
        ModelError::UnknownTopicOrPartition => PartitionFailure::UnknownPartition,
        other => PartitionFailure::Other(other.to_string()),
    }
}

/// The headers of a stored record, borrowed.
pub(super) fn borrowed(body: &super::log::Body) -> impl Iterator<Item = Header<'_>> {
    body.headers.iter().map(|(name, value)| Header { name, value: value.as_deref() })
}

//! The transactional producer of a slot, replaced as a whole after any error.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, PurgeConfig};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::super::naming::Naming;
use super::super::{
    BrokerError, BrokerErrorKind, Delivery, OffsetCommit, OutputRecord, SendError, SlotConfig,
    TopicPartition,
};
use super::context::{Deliveries, DeliveryContext};
use super::errors::{classify, delivery_kind};
use crate::daemon::clock::{Clock, SystemClock};
use crate::pipeline::step::WRITER_HEADER;

/// Longest single wait for delivery reports; the crate's own `flush` waits 100 ms at a time.
const POLL: Duration = Duration::from_millis(1);

pub(super) type SlotProducer = BaseProducer<DeliveryContext>;

pub(super) struct Transactions {
    config: ClientConfig,
    transactional_id: String,
    producer: Option<SlotProducer>,
    /// Whether `init_transactions` of `producer` has succeeded.
    initialized: bool,
    deliveries: Arc<Deliveries>,
    sent: u64,
    /// Topics of the tracked records sent since `begin`.
    tracked: Vec<Arc<str>>,
    naming: Naming,
}

impl Transactions {
    pub(super) fn new(config: ClientConfig, slot: &SlotConfig) -> Self {
        Self {
            config,
            transactional_id: slot.transactional_id.clone(),
            producer: None,
            initialized: false,
            deliveries: Arc::default(),
            sent: 0,
            tracked: Vec::new(),
            naming: Naming::default(),
        }
    }

    /// Serves delivery reports that are there, without waiting.
    pub(super) fn serve(&self) {
        if let Some(producer) = &self.producer {
            producer.poll(Duration::ZERO);
        }
    }

    pub(super) fn reset(&mut self, timeout: Duration) -> Result<(), BrokerError> {
        // A producer whose `init_transactions` only timed out must be asked again, not replaced.
        if self.initialized || self.producer.is_none() {
            self.discard();
            self.deliveries = Arc::default();
            let context = DeliveryContext { deliveries: Arc::clone(&self.deliveries) };
            let producer = self.config.create_with_context(context);
            self.producer = Some(producer.map_err(|error| classify("create producer", &error))?);
        }
        let producer = self.producer.as_ref().expect("made above");
        match producer.init_transactions(timeout) {
            Ok(()) => {
                self.initialized = true;
                Ok(())
            }
            Err(error) => {
                let error = classify("init_transactions", &error);
                let again =
                    matches!(error.kind, BrokerErrorKind::Retriable | BrokerErrorKind::TimedOut);
                if !again {
                    self.discard();
                }
                Err(error)
            }
        }
    }

    pub(super) fn begin(&mut self) -> Result<(), BrokerError> {
        let producer = self.ready("begin")?;
        producer.begin_transaction().map_err(|error| classify("begin", &error))?;
        self.deliveries.clear();
        self.sent = 0;
        self.tracked.clear();
        self.naming.clear();
        Ok(())
    }

    pub(super) fn send(&mut self, record: &OutputRecord<'_>) -> Result<(), SendError> {
        let names_writer = self.naming.names(record);
        let producer = self.ready("send")?;
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len() + 1);
        for header in record.headers {
            headers = headers.insert(Header { key: header.name, value: header.value });
        }
        if names_writer {
            let writer = Some(self.transactional_id.as_str());
            headers = headers.insert(Header { key: WRITER_HEADER, value: writer });
        }
        let opaque = if record.tracked { self.tracked.len() + 1 } else { 0 };
        let mut out = BaseRecord::<[u8], [u8], usize>::with_opaque_to(record.topic, opaque);
        out.headers = Some(headers);
        out.partition = record.partition;
        out.key = record.key;
        out.payload = record.value;
        // librdkafka takes 0 for "now"; a replay must give the same bytes, so the epoch itself
        // becomes its first millisecond.
        out.timestamp =
            record.timestamp.map(|time| if time.millis() == 0 { 1 } else { time.millis() });
        match producer.send(out) {
            Ok(()) => {
                self.sent += 1;
                if record.tracked {
                    self.tracked.push(Arc::clone(record.topic));
                }
                Ok(())
            }
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                self.naming.clear();
                Err(SendError::QueueFull)
            }
            Err((error, _)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                let topic = Arc::clone(record.topic);
                let to = TopicPartition { topic, partition: record.partition.unwrap_or(-1) };
                Err(self.failed_delivery("send", code, to).into())
            }
        }
    }

    pub(super) fn await_room(&mut self, wait: Duration) -> Result<(), BrokerError> {
        let producer = self.ready("await_room")?;
        let clock = SystemClock::new();
        let before = producer.in_flight_count();
        loop {
            pace(producer, POLL.min(wait));
            if let Some((code, detail)) = producer.client().fatal_error() {
                return Err(BrokerError::new(fatal_kind(code), "await_room", detail));
            }
            if producer.in_flight_count() < before || clock.monotonic() >= wait {
                return Ok(());
            }
        }
    }

    pub(super) fn drain(&mut self, timeout: Duration) -> Result<Vec<Delivery>, BrokerError> {
        let producer = self.ready("drain")?;
        let clock = SystemClock::new();
        while !self.deliveries.has_failed() && self.deliveries.delivered() < self.sent {
            if clock.monotonic() >= timeout {
                let missing = self.sent - self.deliveries.delivered();
                let detail = format!("{missing} of {} records not acknowledged", self.sent);
                return Err(BrokerError::new(BrokerErrorKind::TimedOut, "drain", detail));
            }
            pace(producer, POLL);
        }
        if let Some((code, to)) = self.deliveries.failure() {
            return Err(self.failed_delivery("drain", code, to));
        }
        let stored = self.deliveries.take_tracked();
        let tracked = std::mem::take(&mut self.tracked);
        Ok(stored
            .into_iter()
            .filter_map(|stored| {
                let topic = Arc::clone(tracked.get(stored.number)?);
                let topic_partition = TopicPartition { topic, partition: stored.partition };
                Some(Delivery { topic_partition, offset: stored.offset })
            })
            .collect())
    }

    pub(super) fn send_offsets(
        &mut self,
        offsets: &[OffsetCommit],
        group: &ConsumerGroupMetadata,
        timeout: Duration,
    ) -> Result<(), BrokerError> {
        const OPERATION: &str = "send_offsets";
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for offset in offsets {
            let TopicPartition { topic, partition } = &offset.topic_partition;
            let mut element = list.add_partition(topic, *partition);
            element
                .set_offset(Offset::Offset(offset.offset))
                .map_err(|error| classify(OPERATION, &error))?;
            element.set_metadata(&offset.metadata);
        }
        self.repeat(OPERATION, timeout, |producer, left| {
            producer.send_offsets_to_transaction(&list, group, left)
        })
    }

    pub(super) fn commit(&mut self, timeout: Duration) -> Result<(), BrokerError> {
        self.repeat("commit", timeout, |producer, left| producer.commit_transaction(left))
    }

    /// Calls again what the client calls retriable, within `timeout`.
    fn repeat(
        &mut self,
        operation: &'static str,
        timeout: Duration,
        call: impl Fn(&SlotProducer, Duration) -> Result<(), KafkaError>,
    ) -> Result<(), BrokerError> {
        let producer = self.ready(operation)?;
        let clock = SystemClock::new();
        loop {
            let left = timeout.saturating_sub(clock.monotonic());
            let Err(error) = call(producer, left.max(POLL)) else { return Ok(()) };
            let error = classify(operation, &error);
            let again =
                matches!(error.kind, BrokerErrorKind::Retriable | BrokerErrorKind::TimedOut);
            if !again || clock.monotonic() >= timeout {
                return Err(error);
            }
            pace(producer, POLL);
        }
    }

    fn ready(&self, operation: &'static str) -> Result<&SlotProducer, BrokerError> {
        match &self.producer {
            Some(producer) if self.initialized => Ok(producer),
            _ => Err(BrokerError::new(
                BrokerErrorKind::Fatal,
                operation,
                "the producer is not initialized: reset it",
            )),
        }
    }

    fn failed_delivery(
        &self,
        operation: &'static str,
        code: RDKafkaErrorCode,
        to: TopicPartition,
    ) -> BrokerError {
        let own = BrokerError::new(delivery_kind(code), operation, format!("{to}: {code}")).at(to);
        let Some(producer) = &self.producer else { return own };
        if let Some((code, detail)) = producer.client().fatal_error() {
            return BrokerError::new(fatal_kind(code), operation, detail);
        }
        let purged = matches!(code, RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight);
        // The client purges what is queued when the transaction fails; asked to begin another one,
        // which it can't, it tells why.
        if purged && let Err(error) = producer.begin_transaction() {
            return classify(operation, &error);
        }
        own
    }

    /// Drops the producer with what it holds. Destroying a client may wait for a broker, so that
    /// happens on a thread of its own; `init_transactions` of the next one fences this one.
    fn discard(&mut self) {
        self.initialized = false;
        let Some(producer) = self.producer.take() else { return };
        producer.purge(PurgeConfig::default().queue().inflight());
        let dropping = std::thread::Builder::new().name("blotter-drop".into());
        let spawned = dropping.spawn(move || {
            // Purged messages come back as failed deliveries; the crate's Drop waits for them in
            // slices of 100 ms, so they are taken here.
            let clock = SystemClock::new();
            while producer.in_flight_count() > 0 && clock.monotonic() < Duration::from_secs(1) {
                pace(&producer, POLL);
            }
            drop(producer);
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread to drop a producer on");
        }
    }
}

impl Drop for Transactions {
    fn drop(&mut self) {
        self.discard();
    }
}

fn fatal_kind(code: RDKafkaErrorCode) -> BrokerErrorKind {
    match delivery_kind(code) {
        BrokerErrorKind::ProducerFenced => BrokerErrorKind::ProducerFenced,
        BrokerErrorKind::NotAuthorized => BrokerErrorKind::NotAuthorized,
        _ => BrokerErrorKind::Fatal,
    }
}

/// Serves delivery reports and waits a little. `poll` with a time-out under 2 ms would spin: what is
/// left of it rounds to nothing, and the client asks again and again until it is over.
fn pace(producer: &SlotProducer, wait: Duration) {
    let before = producer.in_flight_count();
    producer.poll(Duration::ZERO);
    if producer.in_flight_count() == before {
        std::thread::park_timeout(wait);
    }
}

//! Reading topics from outside a group: for verification, previews and the demo. Committed records
//! only, from an offset to the end as it is now.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use rdkafka::Message;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Headers;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::broker::kafka::{Asker, KafkaConfig, classify};
use super::broker::{BrokerError, BrokerErrorKind, embedded};
use super::clock::{Clock, SystemClock};
use crate::pipeline::record::{Header, SourceRecord, Timestamp, TopicPartition};

/// Pause before a group's coordinator is asked again.
const COORDINATOR_PAUSE: Duration = Duration::from_millis(100);

/// Reads topics.
pub trait TopicReader {
    /// Partition counts of the topics there are.
    ///
    /// # Errors
    /// Brokers unreachable or not authorized.
    fn topics(&mut self) -> Result<BTreeMap<String, i32>, BrokerError>;

    /// First offset kept, and the offset behind the last record a read-committed reader sees.
    ///
    /// # Errors
    /// Unknown partition, brokers unreachable or not authorized.
    fn range(&mut self, topic_partition: &TopicPartition) -> Result<(i64, i64), BrokerError>;

    /// Hands every committed record from `from` up to `to` (exclusive) to `visit`, in order.
    ///
    /// # Errors
    /// Unknown partition, nothing heard for the time-out, or not authorized.
    fn read(
        &mut self,
        topic_partition: &TopicPartition,
        from: i64,
        to: i64,
        visit: &mut dyn FnMut(SourceRecord<'_>),
    ) -> Result<(), BrokerError>;

    /// Everything committed in all partitions of `topic`.
    ///
    /// # Errors
    /// As [`TopicReader::read`].
    fn read_topic(
        &mut self,
        topic: &str,
        visit: &mut dyn FnMut(SourceRecord<'_>),
    ) -> Result<(), BrokerError> {
        let count = self.topics()?.get(topic).copied().ok_or_else(|| unknown(topic))?;
        for partition in 0..count {
            let topic_partition = TopicPartition::new(topic, partition);
            let (low, end) = self.range(&topic_partition)?;
            self.read(&topic_partition, low, end, visit)?;
        }
        Ok(())
    }
}

/// Reads a Kafka cluster.
pub struct KafkaReader {
    asker: Asker,
    timeout: Duration,
    clock: SystemClock,
}

impl KafkaReader {
    /// A reader of the cluster of `config`; `group` is only asked for its committed offsets.
    ///
    /// # Errors
    /// Settings that librdkafka refuses.
    pub fn connect(
        config: &KafkaConfig,
        group: &str,
        timeout: Duration,
    ) -> Result<Self, BrokerError> {
        let mut config = config.client(&[]);
        config
            .set("group.id", group)
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error");
        let asker = Asker::connect(&config).map_err(|error| classify("create reader", &error))?;
        Ok(Self { asker, timeout, clock: SystemClock::new() })
    }

    /// The group's committed offsets with their metadata, by partition, of some `partitions` of `topic`,
    /// whether or not those exist.
    ///
    /// # Errors
    /// Brokers unreachable or not authorized; one partition's error is that of all.
    pub fn committed(
        &self,
        topic: &str,
        partitions: Range<i32>,
    ) -> Result<BTreeMap<i32, (i64, String)>, BrokerError> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(topic, partition);
        }
        let list = self.committed_offsets(&list)?;
        let mut committed = BTreeMap::new();
        for one in list.elements() {
            one.error().map_err(|error| self.asker.explain("committed offsets", &error))?;
            if let Offset::Offset(offset) = one.offset() {
                committed.insert(one.partition(), (offset, one.metadata().to_owned()));
            }
        }
        Ok(committed)
    }

    /// Waits for a coordinator: a group that nobody has asked for yet has none for a moment.
    fn committed_offsets(
        &self,
        list: &TopicPartitionList,
    ) -> Result<TopicPartitionList, BrokerError> {
        let until = self.clock.monotonic() + self.timeout;
        loop {
            match self.asker.consumer().committed_offsets(list.clone(), self.timeout) {
                Err(error) if is_moving(&error) && self.clock.monotonic() < until => {
                    // Nothing is assigned: the poll only serves the client.
                    let _none = self.asker.consumer().poll(COORDINATOR_PAUSE);
                }
                answer => {
                    return answer.map_err(|error| self.asker.explain("committed offsets", &error));
                }
            }
        }
    }
}

impl TopicReader for KafkaReader {
    fn topics(&mut self) -> Result<BTreeMap<String, i32>, BrokerError> {
        let metadata = self
            .asker
            .consumer()
            .fetch_metadata(None, self.timeout)
            .map_err(|error| self.asker.explain("fetch metadata", &error))?;
        let count = |partitions: usize| i32::try_from(partitions).unwrap_or(i32::MAX);
        let topics = metadata.topics().iter();
        Ok(topics.map(|t| (t.name().to_owned(), count(t.partitions().len()))).collect())
    }

    fn range(&mut self, topic_partition: &TopicPartition) -> Result<(i64, i64), BrokerError> {
        self.asker
            .consumer()
            .fetch_watermarks(&topic_partition.topic, topic_partition.partition, self.timeout)
            .map_err(|error| self.asker.explain("fetch watermarks", &error))
    }

    fn read(
        &mut self,
        topic_partition: &TopicPartition,
        from: i64,
        to: i64,
        visit: &mut dyn FnMut(SourceRecord<'_>),
    ) -> Result<(), BrokerError> {
        if from >= to {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(
            &topic_partition.topic,
            topic_partition.partition,
            Offset::Offset(from),
        )
        .map_err(|error| classify("assign", &error))?;
        self.asker.consumer().assign(&list).map_err(|error| classify("assign", &error))?;
        let mut heard = self.clock.monotonic();
        loop {
            match self.asker.consumer().poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    heard = self.clock.monotonic();
                    if message.offset() >= to {
                        break;
                    }
                    visit_message(topic_partition, &message, visit);
                    if message.offset() + 1 >= to {
                        break;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) if is_passing(&error) => {}
                Some(Err(error)) => return Err(classify("read", &error)),
                None if self.clock.monotonic() - heard > self.timeout => {
                    let detail = format!("nothing heard of {topic_partition}");
                    return Err(BrokerError::new(BrokerErrorKind::TimedOut, "read", detail));
                }
                None => {}
            }
        }
        self.asker.consumer().unassign().map_err(|error| classify("unassign", &error))
    }
}

fn visit_message(
    topic_partition: &TopicPartition,
    message: &rdkafka::message::BorrowedMessage<'_>,
    visit: &mut dyn FnMut(SourceRecord<'_>),
) {
    let headers: Vec<Header<'_>> = message
        .headers()
        .map(|headers| headers.iter().map(|h| Header { name: h.key, value: h.value }).collect())
        .unwrap_or_default();
    visit(SourceRecord {
        topic_partition,
        offset: message.offset(),
        timestamp: Timestamp::from_millis(message.timestamp().to_millis().unwrap_or_default()),
        key: message.key(),
        value: message.payload(),
        headers: &headers,
    });
}

/// The group's coordinator is being found, made or moved.
fn is_moving(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
        )
    )
}

/// The client goes on by itself.
fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
        )
    )
}

impl TopicReader for embedded::Cluster {
    fn topics(&mut self) -> Result<BTreeMap<String, i32>, BrokerError> {
        let all = Self::topics(self).into_iter();
        Ok(all.map(|(name, config)| (name.to_string(), config.partitions)).collect())
    }

    fn range(&mut self, topic_partition: &TopicPartition) -> Result<(i64, i64), BrokerError> {
        let (low, _, end) = self.watermarks(topic_partition).map_err(model_error)?;
        Ok((low, end))
    }

    fn read(
        &mut self,
        topic_partition: &TopicPartition,
        from: i64,
        to: i64,
        visit: &mut dyn FnMut(SourceRecord<'_>),
    ) -> Result<(), BrokerError> {
        let isolation = embedded::Isolation::ReadCommitted;
        let (records, _) =
            Self::read(self, topic_partition, isolation, from).map_err(model_error)?;
        for record in records.iter().take_while(|record| record.offset < to) {
            let headers: Vec<Header<'_>> = record
                .body
                .headers
                .iter()
                .map(|(name, value)| Header { name, value: value.as_deref() })
                .collect();
            visit(SourceRecord {
                topic_partition,
                offset: record.offset,
                timestamp: record.timestamp,
                key: record.body.key.as_deref(),
                value: record.body.value.as_deref(),
                headers: &headers,
            });
        }
        Ok(())
    }
}

fn model_error(error: embedded::ModelError) -> BrokerError {
    BrokerError::new(BrokerErrorKind::Fatal, "read", error.to_string())
}

fn unknown(topic: &str) -> BrokerError {
    let detail = format!("topic {topic} does not exist");
    BrokerError::new(BrokerErrorKind::UnknownPartition, "read", detail)
}

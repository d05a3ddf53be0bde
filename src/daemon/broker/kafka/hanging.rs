//! Transactions that hang: ended for their coordinator, open in their partitions.
//!
//! A broker that stops takes the leaders of its partitions away before it stops ending
//! transactions, and Kafka writes no end marker into a partition without a leader (it takes it to
//! be deleted, `TransactionMarkerChannelManager`). With replicas another broker leads by then. The
//! only broker of a cluster comes back with a transaction that is over and yet open in every
//! partition, `__consumer_offsets` among them; nothing that Kafka does by itself ends it.
//!
//! A marker ends whatever its producer id has open in a partition (a later transaction of the id may
//! have ended some of it so, by an abort). So the writer's own `transactional.id` begins another
//! transaction, writes into each of these partitions, and aborts. Nobody has seen what is aborted,
//! and the offsets that went with it are dropped too: it is read again. With more than one broker
//! some partitions may have got their marker, and no end is right for all; then a person decides.

use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::super::{LookupFailure, TopicPartition};
use super::context::DeliveryContext;
use super::lookups::{Clients, committed, failed};
use crate::daemon::clock::{Clock, SystemClock};
use crate::pipeline::step::WRITER_HEADER;

/// Longest single wait for delivery reports.
const POLL: Duration = Duration::from_millis(5);

impl Clients {
    /// Ends what hangs of `transactional_id`, whose producer has just been initialised as `producer`,
    /// if it holds the committed offset of `source`. Where that offset is stable the transaction's
    /// other half may stand, and aborting the rest would lose it.
    pub(super) fn end_hanging(
        &self,
        producer: &BaseProducer<DeliveryContext>,
        source: &TopicPartition,
        transactional_id: &str,
    ) -> Result<(), LookupFailure> {
        let metadata = self.committed.fetch_metadata(None, self.timeout).map_err(failed)?;
        if metadata.brokers().len() != 1 || !self.is_pending(source) {
            return Ok(());
        }
        let hanging = self.hanging(&metadata, transactional_id)?;
        producer.begin_transaction().map_err(failed)?;
        for topic_partition in &hanging {
            write(producer, transactional_id, topic_partition)?;
        }
        self.drain(producer)?;
        self.add_offsets(producer, source)?;
        producer.abort_transaction(self.timeout).map_err(failed)?;
        tracing::warn!(
            transactional_id,
            partitions = hanging.len(),
            "the only broker had lost the end of a transaction; it is aborted and read again"
        );
        Ok(())
    }

    /// Whether an open transaction holds the committed offset of `source`: a stable one is waited for
    /// in vain, while the coordinator tells what there was before at once.
    fn is_pending(&self, source: &TopicPartition) -> bool {
        committed(&self.uncommitted, source, self.timeout).is_ok()
            && matches!(self.committed(source), Err(LookupFailure::TimedOut))
    }

    /// The partitions that `transactional_id` has a transaction open in.
    fn hanging(
        &self,
        metadata: &Metadata,
        transactional_id: &str,
    ) -> Result<Vec<TopicPartition>, LookupFailure> {
        let is_written = |name: &str| self.slot.written.iter().any(|own| own.matches(name));
        let mut hanging = Vec::new();
        for topic in metadata.topics().iter().filter(|topic| is_written(topic.name())) {
            for partition in topic.partitions() {
                let of = TopicPartition::new(topic.name(), partition.id());
                if self.writer(&of, |writer| writer == transactional_id)?.is_some() {
                    hanging.push(of);
                }
            }
        }
        Ok(hanging)
    }

    fn drain(&self, producer: &BaseProducer<DeliveryContext>) -> Result<(), LookupFailure> {
        let clock = SystemClock::new();
        while producer.in_flight_count() > 0 {
            if clock.monotonic() >= self.timeout {
                return Err(LookupFailure::TimedOut);
            }
            producer.poll(POLL);
        }
        match producer.context().deliveries.failure() {
            Some((code, to)) => Err(LookupFailure::Other(format!("{to}: {code}"))),
            None => Ok(()),
        }
    }

    /// Takes the group's offsets into the transaction. Which one does not matter: all that the id has
    /// pending are aborted with it. A group that refuses it is in the transaction all the same.
    fn add_offsets(
        &self,
        producer: &BaseProducer<DeliveryContext>,
        source: &TopicPartition,
    ) -> Result<(), LookupFailure> {
        let group = self.committed.group_metadata().expect("the look-up client has a group");
        let mut list = TopicPartitionList::with_capacity(1);
        let TopicPartition { topic, partition } = source;
        list.add_partition_offset(topic, *partition, Offset::Offset(0)).map_err(failed)?;
        if let Err(error) = producer.send_offsets_to_transaction(&list, &group, self.timeout) {
            tracing::debug!(target: "librdkafka", %error, "offsets of a transaction to be aborted");
        }
        Ok(())
    }
}

/// A record that nobody will see.
fn write(
    producer: &BaseProducer<DeliveryContext>,
    transactional_id: &str,
    to: &TopicPartition,
) -> Result<(), LookupFailure> {
    let writer = Header { key: WRITER_HEADER, value: Some(transactional_id) };
    // A compacted topic takes no record without a key.
    let record = BaseRecord::<str, [u8], usize>::with_opaque_to(&to.topic, 0)
        .partition(to.partition)
        .key(transactional_id)
        .payload(&[])
        .headers(OwnedHeaders::new().insert(writer));
    producer.send(record).map_err(|(error, _): (KafkaError, _)| failed(error))
}

//! Writing records into one partition from outside a shard, in one transaction that fences the
//! partition's last writer: for repairs on an operator's word.

use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::broker::BrokerError;
use super::broker::kafka::{KafkaConfig, PlainContext, classify};
use crate::pipeline::record::TopicPartition;
use crate::pipeline::step::WRITER_HEADER;

/// Longest wait for room in the producer's queue before the next try.
const ROOM_WAIT: Duration = Duration::from_millis(10);

struct Repair;

impl ClientContext for Repair {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        PlainContext.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        PlainContext.error(error, reason);
    }
}

impl ProducerContext for Repair {
    type DeliveryOpaque = ();

    /// A failed delivery fails the commit.
    fn delivery(&self, _result: &DeliveryResult<'_>, (): ()) {}
}

/// Writes `records` (key and value, null removes) to `to` under `transactional_id`, all or none.
/// Whoever writes under that id is fenced and has to begin anew.
///
/// # Errors
/// Brokers unreachable, not authorized, or a record refused: nothing was written.
pub fn write_fencing(
    config: &KafkaConfig,
    transactional_id: &str,
    to: &TopicPartition,
    records: &[(Vec<u8>, Option<Vec<u8>>)],
    timeout: Duration,
) -> Result<(), BrokerError> {
    let producer: BaseProducer<Repair> = config
        .client(&[("enable.idempotence", "true"), ("acks", "all")])
        .set("transactional.id", transactional_id)
        .create_with_context(Repair)
        .map_err(|error| classify("create producer", &error))?;
    producer.init_transactions(timeout).map_err(|error| classify("init_transactions", &error))?;
    producer.begin_transaction().map_err(|error| classify("begin", &error))?;
    for (key, value) in records {
        loop {
            let writer = Header { key: WRITER_HEADER, value: Some(transactional_id) };
            let mut record = BaseRecord::<[u8], [u8]>::to(&to.topic)
                .partition(to.partition)
                .key(key)
                .headers(OwnedHeaders::new_with_capacity(1).insert(writer));
            record.payload = value.as_deref();
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    producer.poll(ROOM_WAIT);
                }
                Err((error, _)) => return Err(classify("send", &error)),
            }
        }
    }
    producer.commit_transaction(timeout).map_err(|error| classify("commit", &error))
}

//! What blotter is measured against: the same threads and clients, records copied as they are with
//! their headers, exactly once, one transaction every 100 ms. Runs as a process of its own until it
//! is killed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use blotter::daemon::clock::{Clock, SystemClock};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const COMMIT_INTERVAL: Duration = Duration::from_millis(100);
const DELIVERY_WAIT: Duration = Duration::from_millis(1);
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Default)]
struct Delivered(Arc<AtomicU64>);

impl rdkafka::ClientContext for Delivered {}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        assert!(result.is_ok(), "a record was not delivered");
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// Copies `input` to `output` as a member of `group`.
pub(crate) fn run(brokers: &str, group: &str, input: &str, output: &str) -> ! {
    let consumer = consumer(brokers, group);
    consumer.subscribe(&[input]).expect("subscribed");
    let delivered = Delivered::default();
    let producer = producer(brokers, group, delivered.clone());
    producer.init_transactions(STEP_TIMEOUT).expect("a transactional producer");
    let clock = SystemClock::new();
    loop {
        let mut positions = BTreeMap::new();
        let (mut sent, mut since) = (0_u64, None);
        delivered.0.store(0, Ordering::Release);
        producer.begin_transaction().expect("begun");
        loop {
            let end = since.map(|since| since + COMMIT_INTERVAL);
            let now = clock.monotonic();
            if end.is_some_and(|end| now >= end) {
                break;
            }
            let wait = end.map_or(COMMIT_INTERVAL, |end| end - now);
            let mut message = consumer.poll(wait);
            for _ in 0..1_000 {
                let Some(record) = message else { break };
                let record = record.expect("a record");
                since.get_or_insert_with(|| clock.monotonic());
                send(&producer, output, &record);
                sent += 1;
                positions.insert(record.partition(), record.offset() + 1);
                message = consumer.poll(Duration::ZERO);
            }
            producer.poll(Duration::ZERO);
        }
        while delivered.0.load(Ordering::Acquire) < sent {
            // Not `poll(1 ms)`: the crate rounds what is left down to 0 ms and spins to the end.
            producer.poll(Duration::ZERO);
            std::thread::park_timeout(DELIVERY_WAIT);
        }
        let mut offsets = TopicPartitionList::new();
        for (&partition, &offset) in &positions {
            let offset = Offset::Offset(offset);
            offsets.add_partition_offset(input, partition, offset).expect("an offset");
        }
        let member = consumer.group_metadata().expect("a member");
        producer.send_offsets_to_transaction(&offsets, &member, STEP_TIMEOUT).expect("sent");
        producer.commit_transaction(STEP_TIMEOUT).expect("committed");
    }
}

fn send(producer: &BaseProducer<Delivered>, output: &str, record: &BorrowedMessage<'_>) {
    let mut out = BaseRecord::<[u8], [u8]>::to(output).partition(record.partition());
    out.key = record.key();
    out.payload = record.payload();
    out.timestamp = record.timestamp().to_millis();
    out.headers = record.headers().map(BorrowedHeaders::detach);
    loop {
        match producer.send(out) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                out = again;
                producer.poll(Duration::ZERO);
                std::thread::park_timeout(DELIVERY_WAIT);
            }
            Err((error, _)) => panic!("not queued: {error}"),
        }
    }
}

/// The properties that blotter's own clients have.
fn consumer(brokers: &str, group: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest")
        .set("check.crcs", "true")
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.wait.max.ms", "50")
        .set("fetch.message.max.bytes", "1048576")
        .set("queued.min.messages", "10000")
        .set("queued.max.messages.kbytes", "16384")
        .set("partition.assignment.strategy", "cooperative-sticky");
    config.create().expect("a consumer")
}

fn producer(brokers: &str, group: &str, delivered: Delivered) -> BaseProducer<Delivered> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("transactional.id", group)
        .set("compression.type", "lz4")
        .set("linger.ms", "20")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.kbytes", "32768");
    config.create_with_context(delivered).expect("a producer")
}

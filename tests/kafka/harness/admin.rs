//! Making topics, feeding them and reading them back, with clients of their own.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::wait::Deadline;

const PATIENCE: Duration = Duration::from_secs(30);

/// How far below the end a tail starts.
const TAIL_OFFSETS: i64 = 2_000;

/// A cluster by its bootstrap servers.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) brokers: String,
}

/// One record as a consumer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Seen {
    /// The value as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }

    fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().into_iter().flat_map(|headers| {
            headers.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec)))
        });
        Self {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis().unwrap_or(-1),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.collect(),
        }
    }
}

/// A reader at the end of a partition.
pub(crate) struct Tail {
    reader: BaseConsumer,
    seen: HashSet<usize>,
}

impl Tail {
    /// Whether a record with this number in its header `number` has come.
    pub(crate) fn saw_number(&mut self, number: usize) -> bool {
        while !self.seen.contains(&number) {
            match self.reader.poll(Duration::from_millis(50)) {
                Some(Ok(message)) => {
                    let headers = Seen::of(&message).headers;
                    let value = headers.into_iter().find(|(name, _)| name == "number");
                    let text = value.and_then(|(_, value)| String::from_utf8(value?).ok());
                    self.seen.extend(text.and_then(|text| text.parse::<usize>().ok()));
                }
                // Brokers come and go in these tests; the caller's deadline decides.
                Some(Err(_)) | None => return false,
            }
        }
        true
    }
}

/// Counts what was not delivered.
#[derive(Clone, Default)]
pub(crate) struct Delivered(Arc<std::sync::Mutex<Option<KafkaError>>>);

impl rdkafka::ClientContext for Delivered {}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            *self.0.lock().expect("no panic under the lock") = Some(error.clone());
        }
    }
}

pub(crate) type Feeder = BaseProducer<Delivered>;

impl Admin {
    /// A client configuration with the bootstrap servers.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("log_level", "2");
        config
    }

    /// Creates a topic with configuration entries and waits until the brokers know it.
    pub(crate) fn create_topic(&self, topic: &str, partitions: i32, config: &[(&str, &str)]) {
        let client: AdminClient<DefaultClientContext> = self.client().create().expect("a client");
        let mut wanted = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
        for (name, value) in config {
            wanted = wanted.set(name, value);
        }
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let made = block_on(client.create_topics(&[wanted], &options)).expect("the request");
        made.into_iter().for_each(|topic| drop(topic.expect("the topic is made")));
        let probe: BaseConsumer = self.client().create().expect("a client");
        super::wait_until("the new topic is known", 30, || {
            let metadata = probe.fetch_metadata(Some(topic), PATIENCE).expect("metadata");
            let known = metadata.topics().first().expect("asked for one").partitions();
            known.len() == usize::try_from(partitions).expect("positive")
                && known.iter().all(|partition| partition.leader() >= 0)
        });
    }

    /// Deletes a topic.
    pub(crate) fn delete_topic(&self, topic: &str) {
        let client: AdminClient<DefaultClientContext> = self.client().create().expect("a client");
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let gone = block_on(client.delete_topics(&[topic], &options)).expect("the request");
        gone.into_iter().for_each(|topic| drop(topic.expect("the topic goes")));
    }

    /// Raises the partition count of a topic.
    pub(crate) fn grow(&self, topic: &str, partitions: usize) {
        let client: AdminClient<DefaultClientContext> = self.client().create().expect("a client");
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let wanted = NewPartitions::new(topic, partitions);
        let grown = block_on(client.create_partitions(&[wanted], &options)).expect("the request");
        grown.into_iter().for_each(|topic| drop(topic.expect("the topic grows")));
        super::wait_until("the new partitions are known", 30, || {
            let metadata = client.inner().fetch_metadata(Some(topic), PATIENCE).expect("metadata");
            let known = metadata.topics().first().expect("asked for one").partitions();
            known.len() == partitions && known.iter().all(|partition| partition.leader() >= 0)
        });
    }

    /// Whether every replica of every partition is in sync.
    pub(crate) fn is_in_sync(&self) -> bool {
        let probe: BaseConsumer = self.client().create().expect("a client");
        probe.fetch_metadata(None, PATIENCE).is_ok_and(|metadata| {
            metadata.topics().iter().flat_map(|topic| topic.partitions()).all(|partition| {
                partition.leader() >= 0 && partition.isr().len() == partition.replicas().len()
            })
        })
    }

    /// Follows the end of a partition as a read-committed reader sees it.
    pub(crate) fn tail(&self, topic: &str, partition: i32) -> Tail {
        let reader = self.reader();
        let (low, high) = self.watermarks(topic, partition);
        let mut list = TopicPartitionList::new();
        let from = Offset::Offset(low.max(high - TAIL_OFFSETS));
        list.add_partition_offset(topic, partition, from).expect("an offset");
        reader.assign(&list).expect("assigned");
        Tail { reader, seen: HashSet::new() }
    }

    fn reader(&self) -> BaseConsumer {
        let mut config = self.client();
        config
            .set("group.id", "reads-without-joining")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "error")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "20");
        config.create().expect("a consumer")
    }

    /// An idempotent producer.
    pub(crate) fn feeder(&self) -> Feeder {
        let mut config = self.client();
        config.set("enable.idempotence", "true").set("linger.ms", "5");
        config.create_with_context(Delivered::default()).expect("a producer")
    }

    /// Appends one record and waits until it is stored.
    pub(crate) fn produce(&self, topic: &str, partition: i32, value: &str) {
        let feeder = self.feeder();
        let record = BaseRecord::<[u8], str>::to(topic).partition(partition).payload(value);
        feeder.send(record).map_err(|(error, _)| error).expect("queued");
        flush(&feeder);
    }

    /// Everything a read-committed reader sees in the partition up to the high watermark of now.
    pub(crate) fn read(&self, topic: &str, partition: i32) -> Vec<Seen> {
        let reader = self.reader();
        let (low, high) = self.watermarks(topic, partition);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(low)).expect("an offset");
        reader.assign(&list).expect("assigned");
        let deadline = Deadline::after_seconds(60);
        let mut seen = Vec::new();
        loop {
            match reader.poll(Duration::from_millis(50)) {
                Some(Ok(message)) if message.offset() >= high => return seen,
                Some(Ok(message)) => seen.push(Seen::of(&message)),
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    // The end of a read-committed reader is the last stable offset.
                    let (_, stable) =
                        reader.fetch_watermarks(topic, partition, PATIENCE).expect("watermarks");
                    if stable >= high {
                        let last = seen.last().map_or(low, |last| last.offset + 1);
                        let rest = self.rest(&reader, topic, partition, last, high);
                        seen.extend(rest);
                        return seen;
                    }
                }
                Some(Err(error)) => panic!("reading {topic}/{partition}: {error}"),
                None => assert!(!deadline.is_over(), "{topic}/{partition} not read in time"),
            }
        }
    }

    /// Reads on from `from` after an end-of-partition that came before the stable end had moved.
    fn rest(
        &self,
        reader: &BaseConsumer,
        topic: &str,
        partition: i32,
        from: i64,
        high: i64,
    ) -> Vec<Seen> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(from)).expect("an offset");
        reader.unassign().expect("unassigned");
        reader.assign(&list).expect("assigned");
        let deadline = Deadline::after_seconds(30);
        let mut seen = Vec::new();
        loop {
            match reader.poll(Duration::from_millis(50)) {
                Some(Ok(message)) if message.offset() >= high => return seen,
                Some(Ok(message)) => seen.push(Seen::of(&message)),
                Some(Err(KafkaError::PartitionEOF(_))) => return seen,
                Some(Err(error)) => panic!("reading {topic}/{partition}: {error}"),
                None => assert!(!deadline.is_over(), "{topic}/{partition} not read in time"),
            }
        }
    }

    /// First and next offset of the partition, open transactions included.
    pub(crate) fn watermarks(&self, topic: &str, partition: i32) -> (i64, i64) {
        let mut config = self.client();
        config.set("isolation.level", "read_uncommitted");
        let reader: BaseConsumer = config.create().expect("a consumer");
        // A busy broker may lead a new partition a little later than it announces it.
        let mut watermarks = None;
        super::wait_until(&format!("watermarks of {topic}/{partition}"), 30, || {
            watermarks = reader.fetch_watermarks(topic, partition, PATIENCE).ok();
            watermarks.is_some()
        });
        watermarks.expect("it was waited for")
    }
}

/// Waits until everything `feeder` was given is stored.
pub(crate) fn flush(feeder: &Feeder) {
    feeder.flush(PATIENCE).expect("all is stored in time");
    let failure = feeder.context_failure();
    assert!(failure.is_none(), "not delivered: {failure:?}");
}

trait Failure {
    fn context_failure(&self) -> Option<KafkaError>;
}

impl Failure for Feeder {
    fn context_failure(&self) -> Option<KafkaError> {
        self.client().context().0.lock().expect("no panic under the lock").clone()
    }
}

/// Runs a future of the admin client, whose own thread wakes it.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

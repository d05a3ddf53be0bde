//! A steady stream: 1,000 records a second over 12 partitions, read back as it comes out.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord};

use blotter::daemon::broker::kafka::KafkaConfig;
use blotter::daemon::clock::{Clock, SystemClock};
use blotter::daemon::reader::{KafkaReader, TopicReader};
use blotter::pipeline::record::Timestamp;

use crate::lines::Lines;
use crate::{Bench, PATIENCE, TENANTS};

const PARTITIONS: i32 = 12;
const RECORDS_PER_SECOND: i64 = 1_000;

/// Time after the first redacted record in which nothing is counted: starting leaves a backlog.
const SETTLING_MS: i64 = 3_000;

/// What every seal begins with.
const SEAL: &[u8] = br#"{"v":1,"k":"sea""#;

/// Streams for `seconds` and returns what was seen as a line to print.
pub(crate) fn run(bench: &Bench, seconds: i64) -> String {
    bench.admin.create_topic("steady.logs", PARTITIONS, &[]);
    let blotter = bench.blotter("steady", "steady.logs");
    let mut stream = Stream::new(bench.producer());
    let redacted = reader(bench);
    let mut latencies = Vec::new();
    let mut counted_from = None;
    loop {
        stream.catch_up();
        if let Some(message) = redacted.poll(Duration::from_millis(1)) {
            let made = message.expect("a record").timestamp().to_millis().expect("its time");
            let now = stream.clock.now().millis();
            let from = *counted_from.get_or_insert(now + SETTLING_MS);
            if made >= from {
                latencies.push(now - made);
            }
        }
        let end = counted_from.map_or(i64::MAX, |from| from + seconds * 1_000);
        if stream.clock.now().millis() >= end {
            break;
        }
        assert!(stream.clock.monotonic() < PATIENCE * 4, "nothing comes out");
    }
    let cpu = blotter.cpu();
    let uptime = stream.clock.monotonic();
    let from = counted_from.expect("something came out");
    let window = from..from + seconds * 1_000;
    let input = stream.bytes_in(&window);
    let written = audit_written(bench, &window);
    latencies.sort_unstable();
    let per_second = written.seals as f64 / (seconds * i64::from(PARTITIONS)) as f64;
    let share = |bytes: u64| bytes as f64 * 100.0 / input as f64;
    format!(
        "steady {RECORDS_PER_SECOND} records/s over {PARTITIONS} partitions for {seconds} s: source to redacted \
         p50 {} ms, p99 {} ms (goal under 500), {} records; seals {:.1} % of the input bytes (at most 15; \
         {:.1} a second and partition, {:.1} % if it were 10), whole audit {:.1} %; {:.1} % of a core",
        percentile(&latencies, 50),
        percentile(&latencies, 99),
        latencies.len(),
        share(written.seal_bytes),
        per_second,
        share(written.seal_bytes) * 10.0 / per_second,
        share(written.bytes),
        cpu.as_secs_f64() * 100.0 / uptime.as_secs_f64(),
    )
}

/// Writes lines at a fixed rate and remembers when and how long they were.
struct Stream {
    producer: BaseProducer,
    clock: SystemClock,
    lines: Lines,
    sent: Vec<(i64, usize)>,
}

impl Stream {
    fn new(producer: BaseProducer) -> Self {
        let (clock, lines) = (SystemClock::new(), Lines::new(7, TENANTS));
        Self { producer, clock, lines, sent: Vec::new() }
    }

    /// Sends what is due by now.
    fn catch_up(&mut self) {
        let millis = i64::try_from(self.clock.monotonic().as_millis()).expect("a short run");
        let due = millis * RECORDS_PER_SECOND / 1_000;
        while i64::try_from(self.sent.len()).expect("a short run") < due {
            let now = self.clock.now();
            let line = self.lines.next(now);
            let partition = i32::try_from(self.sent.len() % 12).expect("below the partitions");
            let record = BaseRecord::<[u8], str>::to("steady.logs")
                .partition(partition)
                .payload(line)
                .timestamp(now.millis());
            self.producer.send(record).map_err(|(error, _)| error).expect("queued");
            self.sent.push((now.millis(), line.len()));
        }
        self.producer.poll(Duration::ZERO);
    }

    fn bytes_in(&self, window: &std::ops::Range<i64>) -> u64 {
        let inside = self.sent.iter().filter(|(at, _)| window.contains(at));
        inside.map(|(_, bytes)| *bytes as u64).sum()
    }
}

/// Reads the redacted topic as it grows, committed records only.
fn reader(bench: &Bench) -> BaseConsumer {
    let consumer: BaseConsumer = bench
        .admin
        .client()
        .set("group.id", "steady-reader")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "20")
        .set("topic.metadata.refresh.interval.ms", "500")
        .set("allow.auto.create.topics", "false")
        .create()
        .expect("a consumer");
    let known = || {
        let metadata = consumer.fetch_metadata(Some("steady.logs.redacted"), PATIENCE);
        metadata.is_ok_and(|metadata| {
            metadata.topics().iter().any(|topic| topic.partitions().len() == 12)
        })
    };
    crate::harness::wait_until("the redacted topic is made", 60, known);
    consumer.subscribe(&["steady.logs.redacted"]).expect("subscribed");
    consumer
}

/// What went into the audit topic.
#[derive(Default)]
struct Written {
    seals: u64,
    seal_bytes: u64,
    bytes: u64,
}

/// What was written in `window`.
fn audit_written(bench: &Bench, window: &std::ops::Range<i64>) -> Written {
    let config = KafkaConfig { brokers: bench.admin.brokers.clone(), ..KafkaConfig::default() };
    let mut reader = KafkaReader::connect(&config, "steady-audit", PATIENCE).expect("a reader");
    let mut written = Written::default();
    let visit = &mut |record: blotter::pipeline::record::SourceRecord<'_>| {
        let Some(value) = record.value.filter(|_| is_in(window, record.timestamp)) else { return };
        written.bytes += value.len() as u64;
        if value.starts_with(SEAL) {
            written.seals += 1;
            written.seal_bytes += value.len() as u64;
        }
    };
    reader.read_topic("steady.logs.audit", visit).expect("the audit topic is read");
    written
}

fn is_in(window: &std::ops::Range<i64>, time: Timestamp) -> bool {
    window.contains(&time.millis())
}

fn percentile(sorted: &[i64], percent: usize) -> i64 {
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or(-1)
}

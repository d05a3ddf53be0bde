//! The whole pipeline on a real Apache Kafka, which it starts itself: what blotter costs with
//! everything on (receipts, commitments, seals, measures, alerts) against copying the same records,
//! how soon a record is in the redacted topic, what seals add, and memory beside a slow broker.
//!
//! Processor time is that of the measured process alone, so the ratio stays comparable on a busy
//! machine; rates and latencies do not. Neighbours swing a single run all the same, the more the
//! shorter it is: both are measured in turn, for seconds, and the median of the rounds counts.
//! `BLOTTER_BENCH_RECORDS` sets how many records are copied in a round (1,000,000 by default),
//! `BLOTTER_BENCH_ROUNDS` how many rounds there are (5), `BLOTTER_BENCH_SECONDS` how long the steady
//! stream lasts (20).

#[expect(dead_code, unused_imports, reason = "the tests use more of it")]
#[path = "../../tests/kafka/harness/mod.rs"]
mod harness;
mod lines;
mod pass_through;
mod process;
mod steady;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use blotter::daemon::clock::{Clock, SystemClock};
use harness::{Admin, Cluster, Deadline};
use lines::Lines;
use process::Process;

/// The allocator of the daemon: what it is measured against has the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTITIONS: i32 = 6;
const TENANTS: usize = 600;
const TENANTS_MANY: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// 64 MiB and 128 MiB for each SCRUB shard, of which there is one.
const RSS_MIB_MAX: u64 = 64 + 128;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, brokers, group, input, output] = &arguments[..]
        && mode == "pass-through"
    {
        pass_through::run(brokers, group, input, output);
    }
    let records = switch("BLOTTER_BENCH_RECORDS", 1_000_000);
    let cluster = Cluster::single();
    let bench = Bench {
        admin: Admin { brokers: cluster.brokers() },
        folder: tempfile::tempdir().expect("a folder for settings and keys"),
    };
    costs(&bench, records, switch("BLOTTER_BENCH_ROUNDS", 5).max(1));
    let steady = steady::run(&bench, switch("BLOTTER_BENCH_SECONDS", 20));
    print(&steady);
    memory(&bench, &cluster, records / 3);
}

/// What every part of the bench needs.
struct Bench {
    admin: Admin,
    folder: tempfile::TempDir,
}

/// What one process used to take records from `from` to `to`.
struct Cost {
    records: i64,
    bytes: f64,
    wall: Duration,
    cpu: Duration,
}

/// Copies the same records with and without blotter, several times.
fn costs(bench: &Bench, records: i64, rounds: i64) {
    let mut ratios = Vec::new();
    let mut peak = 0;
    for round in 0..rounds {
        let (input, copies) = (format!("cost-{round}.logs"), format!("cost-{round}.copied"));
        bench.admin.create_topic(&input, PARTITIONS, &[]);
        bench.admin.create_topic(&copies, PARTITIONS, &[]);
        let bytes = bench.feed(&input, PARTITIONS, TENANTS, records);
        let bytes_per_record = bytes as f64 / records as f64;
        if round == 0 {
            print(&format!(
                "{records} records of {bytes_per_record:.0} bytes, {TENANTS} tenants, {PARTITIONS} \
                 partitions, lz4, transactions of 100 ms ((b) while it is behind: up to 400 ms)\n\
                 {:<34} {:>10} {:>14} {:>12}",
                "", "records/s", "us CPU/record", "MB/CPU-s"
            ));
        }
        let group = format!("pass-through-{round}");
        let copying = Process::pass_through(&bench.admin.brokers, &group, &input, &copies);
        let copied = bench.cost(&copying, &group, &input, records, bytes_per_record);
        drop(copying);
        copied.print("(a) pass-through");
        let name = format!("cost-{round}");
        let blotter = bench.blotter(&name, &input);
        let scrubbed =
            bench.cost(&blotter, &format!("{name}-scrub"), &input, records, bytes_per_record);
        scrubbed.print("(b) blotter, everything on");
        ratios.push(scrubbed.cpu_us() / copied.cpu_us());
        peak = peak.max(blotter.rss_mib_max());
    }
    ratios.sort_unstable_by(f64::total_cmp);
    let (median, least) = (ratios[ratios.len() / 2], ratios[0]);
    let most = ratios[ratios.len() - 1];
    print(&format!(
        "(b) costs {median:.2} times the CPU of (a), median of {rounds} rounds ({least:.2} to {most:.2}): \
         at most 3, goal 2 and 100 MB per CPU second; peak RSS {peak} MiB"
    ));
}

/// Peak memory with many tenants and a broker that stands still most of the time.
fn memory(bench: &Bench, cluster: &Cluster, records: i64) {
    bench.admin.create_topic("many.logs", PARTITIONS, &[]);
    bench.feed("many.logs", PARTITIONS, TENANTS_MANY, records);
    let blotter = bench.blotter("many", "many.logs");
    let group = bench.group("many-scrub");
    let deadline = Deadline::after_seconds(60);
    while bench.committed(&group, "many.logs").unwrap_or(0) < records && !deadline.is_over() {
        cluster.signal(1, Signal::SIGSTOP);
        pause(Duration::from_millis(600));
        cluster.signal(1, Signal::SIGCONT);
        pause(Duration::from_millis(200));
    }
    let done = bench.committed(&group, "many.logs").unwrap_or(0);
    let peak = blotter.rss_mib_max();
    print(&format!(
        "memory: peak RSS {peak} MiB with {TENANTS_MANY} tenants and a broker stopped three quarters \
         of the time ({done} of {records} records); at most {RSS_MIB_MAX}"
    ));
    assert!(peak <= RSS_MIB_MAX, "peak RSS {peak} MiB");
    assert!(done * 10 >= records, "memory of a daemon that was not at work");
}

impl Cost {
    fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.records as f64
    }

    fn print(&self, name: &str) {
        print(&format!(
            "{name:<34} {:>10.0} {:>14.2} {:>12.1}",
            self.records as f64 / self.wall.as_secs_f64(),
            self.cpu_us(),
            self.bytes / 1e6 / self.cpu.as_secs_f64(),
        ));
    }
}

impl Bench {
    /// `blotter run` reading `input` as the groups and topics of `name`.
    fn blotter(&self, name: &str, input: &str) -> Process {
        let settings = self.settings(name, input);
        Process::blotter(&settings)
    }

    fn settings(&self, name: &str, input: &str) -> PathBuf {
        let path = self.folder.path().join(format!("{name}.toml"));
        let text = format!(
            "[kafka]\nbrokers = [\"{}\"]\n[input]\ntopics = [\"{input}\"]\n\
             [output]\nmeasures = \"{name}.measures\"\ndead_letters = \"{name}.dead-letters\"\n\
             alerts = \"{name}.alerts\"\nwatch_state = \"{name}.watch-state\"\n\
             [topics]\ncreate = true\nreplication = 1\nmin_insync_replicas = 1\n\
             [group]\nid = \"{name}\"\n[redact]\nregions = [\"IN\", \"DE\", \"GB\"]\n\
             [keys]\nfolder = \"{}\"\n[http]\nlisten = \"127.0.0.1:0\"\n[log]\nfilter = \"error\"\n",
            self.admin.brokers,
            self.folder.path().join(format!("{name}-keys")).display(),
        );
        std::fs::write(&path, text).expect("the settings can be written");
        path
    }

    /// Writes `records` lines into `topic`; returns their bytes.
    fn feed(&self, topic: &str, partitions: i32, tenants: usize, records: i64) -> u64 {
        let (producer, clock) = (self.producer(), SystemClock::new());
        let mut lines = Lines::new(42, tenants);
        let mut bytes = 0;
        for number in 0..records {
            let line = lines.next(clock.now());
            bytes += line.len() as u64;
            let partition =
                i32::try_from(number % i64::from(partitions)).expect("below the partitions");
            send(&producer, topic, partition, line);
        }
        producer.flush(PATIENCE).expect("all is stored in time");
        bytes
    }

    fn producer(&self) -> BaseProducer {
        let mut config = self.admin.client();
        config
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            .create()
            .expect("a producer")
    }

    /// What `process` costs per record once it runs, and until `group` has committed them all.
    fn cost(
        &self,
        process: &Process,
        group: &str,
        input: &str,
        records: i64,
        bytes_per_record: f64,
    ) -> Cost {
        let (client, clock) = (self.group(group), SystemClock::new());
        let deadline = Deadline::after_seconds(600);
        let mut start = None;
        loop {
            assert!(!deadline.is_over(), "{group} has not read all records in time");
            pause(Duration::from_millis(20));
            let Some(done) = self.committed(&client, input) else { continue };
            let (wall, cpu) = (clock.monotonic(), process.cpu());
            if start.is_none() && done * 20 >= records {
                start = Some((done, wall, cpu));
            }
            if let Some((done, wall_start, cpu_start)) = start.filter(|_| done == records) {
                let records = records - done;
                return Cost {
                    records,
                    bytes: bytes_per_record * records as f64,
                    wall: wall - wall_start,
                    cpu: cpu - cpu_start,
                };
            }
        }
    }

    /// A client that asks for what a group has committed and never joins it.
    fn group(&self, group: &str) -> BaseConsumer {
        self.admin.client().set("group.id", group).create().expect("a consumer")
    }

    /// Source offsets the group has committed, summed up; `None` while a transaction is pending.
    fn committed(&self, group: &BaseConsumer, topic: &str) -> Option<i64> {
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition(topic, partition);
        }
        let committed = group.committed_offsets(list, Duration::from_secs(2)).ok()?;
        let offsets = committed.elements();
        Some(
            offsets
                .iter()
                .map(|one| match one.offset() {
                    Offset::Offset(offset) => offset,
                    _ => 0,
                })
                .sum(),
        )
    }
}

fn send(producer: &BaseProducer, topic: &str, partition: i32, line: &str) {
    let mut record = BaseRecord::<[u8], str>::to(topic).partition(partition).payload(line);
    loop {
        match producer.send(record) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                record = again;
                producer.poll(Duration::from_millis(5));
            }
            Err((error, _)) => panic!("not queued: {error}"),
        }
    }
}

/// Lets time pass: nothing here can be waited for.
fn pause(time: Duration) {
    let clock = SystemClock::new();
    while let Some(left) = time.checked_sub(clock.monotonic()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

fn switch(name: &str, default: i64) -> i64 {
    #[expect(clippy::disallowed_methods, reason = "a benchmark's own switch")]
    let asked = std::env::var(name).ok();
    asked.map_or(default, |text| text.parse().expect("a number"))
}

fn print(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("standard output is open");
}

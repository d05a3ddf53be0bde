//! What one record costs in SCRUB on one core, beside any broker: everything on, and with each room
//! left out, so that the difference is the room's own cost. Times are CPU time of this thread, and
//! SHA-256 over the same bytes in the same run makes them comparable between machines.
//! `BLOTTER_BENCH_RECORDS` sets how many records each line takes (200,000 by default).

#[path = "pipeline/lines.rs"]
mod lines;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use blotter::pipeline::audit::{
    CommitmentKey, Deployment, DeploymentKey, InstanceKey, InstanceName, KeyringId,
};
use blotter::pipeline::ingest::{Ingest, IngestRules};
use blotter::pipeline::record::{RecordBatch, Timestamp, TopicPartition};
use blotter::pipeline::redact::Redactor;
use blotter::pipeline::redact::policy::{Policy, RawPolicy};
use blotter::pipeline::redact::sentinel::Sampling;
use blotter::pipeline::scrub::{
    AuditConfig, AuditPolicy, Canaries, MeasuresTarget, NoRestarts, Scrub, ScrubConfig,
};
use blotter::pipeline::step::{LookupAnswer, Outputs, RestoreStep, Stage};
use lines::Lines;
use nix::time::{ClockId, clock_gettime};
use sha2::{Digest, Sha256};

const TENANTS: usize = 600;
/// Records between two commits.
const TRANSACTION_RECORDS: usize = 5_000;
const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

fn main() {
    #[expect(clippy::disallowed_methods, reason = "a benchmark's own switch")]
    let asked = std::env::var("BLOTTER_BENCH_RECORDS").ok();
    let records: usize =
        asked.map_or(200_000, |text| text.parse().expect("BLOTTER_BENCH_RECORDS is a number"));
    let source = TopicPartition::new("app.logs", 0);
    let batches = batches(&source, records);
    let bytes: usize = batches.iter().map(RecordBatch::size_bytes).sum();
    let hashing = timed(|| {
        for batch in &batches {
            batch.for_each(0..batch.len(), |record| {
                black_box(Sha256::digest(record.value.unwrap_or_default()));
            });
        }
    });
    print("SHA-256 of each value", records, bytes, hashing);
    for (name, audit, measures) in [
        ("redacted alone", false, false),
        ("redacted, sealed", true, false),
        ("redacted, measured", false, true),
        ("everything", true, true),
    ] {
        let mut stage = ready(&source, audit, measures);
        let mut outputs = Outputs::default();
        run(&mut stage, &batches[..1], &mut outputs);
        print(name, records, bytes, timed(|| run(&mut stage, &batches, &mut outputs)));
    }
}

fn batches(source: &TopicPartition, records: usize) -> Vec<RecordBatch> {
    let mut lines = Lines::new(7, TENANTS);
    let starts = (0..records).step_by(TRANSACTION_RECORDS);
    let filled = starts.map(|start| {
        let mut batch = RecordBatch::new(source.clone());
        for offset in start..(start + TRANSACTION_RECORDS).min(records) {
            let offset = i64::try_from(offset).expect("few records");
            let value = lines.next(NOW).as_bytes();
            batch.push(offset, NOW, Some(b"k"), Some(value), std::iter::empty());
        }
        batch
    });
    filled.collect()
}

fn run(stage: &mut Scrub, batches: &[RecordBatch], outputs: &mut Outputs) {
    for batch in batches {
        stage.process(batch, 0..batch.len(), NOW, outputs).expect("every record can be taken");
        stage.close(NOW, outputs);
        black_box(stage.offsets(&[]));
        black_box(stage.committed());
        outputs.clear();
    }
}

/// A stage whose one partition is restored.
fn ready(source: &TopicPartition, audit: bool, measures: bool) -> Scrub {
    let mut stage = stage(audit, measures);
    let mut step = stage.assign(source, NOW);
    loop {
        let answer = match step {
            RestoreStep::Ready { .. } => return stage,
            RestoreStep::Ask(lookup) => answer(&lookup),
            RestoreStep::Stop(stop) | RestoreStep::Refuse(stop) => {
                panic!("stopped: {}", stop.detail)
            }
        };
        step = stage.restore(source, answer, NOW);
    }
}

/// Nothing was ever read or written.
fn answer(lookup: &blotter::pipeline::step::Lookup) -> LookupAnswer {
    use blotter::pipeline::step::Lookup;
    match lookup {
        Lookup::Committed => LookupAnswer::Committed { offset: None, metadata: String::new() },
        Lookup::Range(_) => LookupAnswer::Range { low: 0, high: 0, lso: 0 },
        Lookup::Read { topic_partition, to, .. } => {
            LookupAnswer::Records { batch: RecordBatch::new(topic_partition.clone()), next: *to }
        }
        Lookup::OffsetAt { .. } => LookupAnswer::OffsetAt(0),
    }
}

fn stage(audit: bool, measures: bool) -> Scrub {
    let deployment_key = DeploymentKey::from_seed(&[1; 32]);
    let deployment = Deployment::parse("bench").expect("a good name");
    let seed = [2; 32];
    let certificate =
        deployment_key.certify(deployment.as_str(), InstanceKey::public_of_seed(&seed));
    let instance_key =
        Arc::new(InstanceKey::from_seed(&seed, certificate).expect("it is the key's own"));
    let keyring = KeyringId::from_bytes([7; 8]);
    let raw = RawPolicy {
        regions: Some(vec!["IN".into(), "DE".into(), "GB".into()]),
        ..RawPolicy::default()
    };
    let policy = Arc::new(Policy::new(&raw).expect("a good policy"));
    let audit = audit.then(|| AuditConfig {
        key: Arc::clone(&instance_key),
        instance: InstanceName::new("bench"),
        keyring,
        policy: AuditPolicy::new(&policy).expect("the policy fits an entry"),
        heartbeat_ms: 30_000,
        receipts: true,
    });
    let config = ScrubConfig {
        names: Arc::default(),
        record_bytes_max: 1 << 20,
        sentinel: Sampling::new(10),
        canaries: Canaries::default(),
        deployment,
        deployment_key: deployment_key.public(),
        keyring,
        commitment_keys: CommitmentKey::from_bytes(&[5; 32]).into(),
        instance_key,
        starts: BTreeMap::new(),
        adopt: Vec::new(),
        restart: Arc::new(NoRestarts),
        audit,
        measures: measures
            .then(|| MeasuresTarget { topic: Arc::from("blotter.measures"), partitions: 12 }),
    };
    Scrub::new(config, Ingest::new(IngestRules::default()), Redactor::new(policy))
}

/// CPU time of this thread.
fn timed(work: impl FnOnce()) -> Duration {
    let clock = || {
        let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has this clock");
        Duration::from(time)
    };
    let before = clock();
    work();
    clock() - before
}

fn print(name: &str, records: usize, bytes: usize, time: Duration) {
    let (seconds, records, bytes) = (time.as_secs_f64(), records as f64, bytes as f64);
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{name:<24} {:>8.2} us/record {:>8.0} MB/s",
        seconds * 1e6 / records,
        bytes / seconds / 1e6
    )
    .expect("standard output is open");
}

//! The end of the demo: everything that was written is read back and held against what was
//! produced.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::traffic::Message;
use crate::cli::exit::{Exit, Failure};
use crate::daemon::keys::deployment_public;
use crate::daemon::reader::TopicReader;
use crate::pipeline::audit::{Start, Trust, Verifier};
use crate::pipeline::emit::SOURCE_HEADER;
use crate::pipeline::record::TopicPartition;
use crate::settings::Settings;

/// Every file that the proof writes; `*` stands for what differs from demo to demo.
pub(super) const FILES: [&str; 5] =
    ["input.jsonl", "redacted.jsonl", "demo-*.jsonl", "alerts.jsonl", "metrics.txt"];

/// What held and what did not.
pub(super) struct Proof {
    /// One sentence each, and whether it is true.
    pub(super) checks: Vec<(String, bool)>,
    /// Sessions started and handed over, as /metrics says.
    pub(super) sessions: (u64, u64),
}

/// Reads everything back, writes it to `out` and checks it.
pub(super) fn prove(
    reader: &mut dyn TopicReader,
    settings: &Settings,
    produced: &BTreeMap<i32, Vec<Message>>,
    out: &Path,
    metrics: &str,
) -> Result<Proof, Failure> {
    let source = settings.input.topics[0].to_string();
    let mut checks = Vec::new();
    let redacted = redacted(reader, settings, &source, produced, out)?;
    checks.extend(redacted.checks());
    let (entries, sealed) = audit(reader, settings, &source, out, &mut checks)?;
    checks.push((
        format!("seals cover {sealed} source records, {entries} audit entries"),
        sealed == redacted.produced,
    ));
    let alerts = lines_of(reader, &settings.names.alerts)?;
    write(out, "alerts.jsonl", &alerts)?;
    write(out, "metrics.txt", metrics)?;
    let input: String =
        produced.values().flatten().map(|message| format!("{}\n", message.value)).collect();
    write(out, "input.jsonl", &input)?;
    Ok(Proof { checks, sessions: sessions(metrics) })
}

#[derive(Default)]
struct Redacted {
    produced: u64,
    written: u64,
    in_place: u64,
    leaks: u64,
    changed: u64,
}

impl Redacted {
    fn checks(&self) -> Vec<(String, bool)> {
        vec![
            (
                format!("input count = output count: {} = {}", self.produced, self.written),
                self.produced == self.written,
            ),
            (
                format!("each record once, in its partition, in order: {}", self.in_place),
                self.in_place == self.produced,
            ),
            (
                format!(
                    "planted values left in the output: {} ({} records changed)",
                    self.leaks, self.changed
                ),
                self.leaks == 0,
            ),
        ]
    }
}

fn redacted(
    reader: &mut dyn TopicReader,
    settings: &Settings,
    source: &str,
    produced: &BTreeMap<i32, Vec<Message>>,
    out: &Path,
) -> Result<Redacted, Failure> {
    let count = produced.values().map(|all| all.len() as u64).sum();
    let mut found = Redacted { produced: count, ..Redacted::default() };
    let mut text = String::new();
    let mut next: BTreeMap<i32, usize> = BTreeMap::new();
    reader.read_topic(&settings.names.redacted.topic(source), &mut |record| {
        let partition = record.topic_partition.partition;
        let at = next.entry(partition).or_default();
        let value = String::from_utf8_lossy(record.value.unwrap_or_default());
        let key = String::from_utf8_lossy(record.key.unwrap_or_default());
        found.written += 1;
        let expected = format!("{source}/{partition}/{at}");
        let header = record.headers.iter().find(|header| header.name == SOURCE_HEADER);
        if header.and_then(|header| header.value) == Some(expected.as_bytes()) {
            found.in_place += 1;
        }
        if let Some(message) = produced.get(&partition).and_then(|all| all.get(*at)) {
            let survives = |planted: &super::traffic::Planted| {
                planted.survives_in(&value) || planted.survives_in(&key)
            };
            found.leaks +=
                message.planted.iter().filter(|planted| survives(planted)).count() as u64;
            found.changed += u64::from(message.value != value);
        }
        *at += 1;
        text.push_str(&value);
        text.push('\n');
    })?;
    write(out, "redacted.jsonl", &text)?;
    Ok(found)
}

/// Verifies every partition's chain; gives entries and sealed source records.
fn audit(
    reader: &mut dyn TopicReader,
    settings: &Settings,
    source: &str,
    out: &Path,
    checks: &mut Vec<(String, bool)>,
) -> Result<(u64, u64), Failure> {
    let topic = settings.names.audit.topic(source);
    let count = reader.topics()?.get(&topic).copied().unwrap_or_default();
    let deployment_key = deployment_public(&settings.keys.folder, None)?;
    let (mut entries, mut sealed) = (0, 0);
    for partition in 0..count {
        let trust = Trust {
            deployment: settings.deployment.clone(),
            source: TopicPartition::new(source, partition),
            deployment_key,
        };
        let mut verifier = Verifier::new(trust, Start::Genesis);
        let (mut fault, mut text) = (None, String::new());
        let at = TopicPartition::new(&*topic, partition);
        let (low, end) = reader.range(&at)?;
        reader.read(&at, low, end, &mut |record| {
            let entry = record.value.unwrap_or_default();
            if fault.is_none() {
                fault = verifier.push(record.offset, entry).err();
            }
            writeln!(text, "{}", String::from_utf8_lossy(entry)).expect("memory takes it");
        })?;
        write(out, &format!("{source}-{partition}.jsonl"), &text)?;
        match fault.map_or_else(|| verifier.finish(), Err) {
            Ok(report) => {
                entries += report.entries_total();
                sealed += report.fates.read();
            }
            Err(fault) => checks.push((format!("audit verify {at}: {fault}"), false)),
        }
    }
    checks.push((format!("audit verify: {count} chains unbroken, every seal signed"), entries > 0));
    Ok((entries, sealed))
}

/// Sessions started and handed over in the window, over all tenants: the windows outlive a killed
/// process, its counters begin anew.
pub(super) fn sessions(metrics: &str) -> (u64, u64) {
    let sum = |name: &str| {
        let lines = metrics.lines().filter(|line| line.starts_with(name));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    };
    (sum("blotter_handover_ratio_sessions{"), sum("blotter_handover_ratio_sessions_handed_over{"))
}

fn lines_of(reader: &mut dyn TopicReader, topic: &str) -> Result<String, Failure> {
    let mut text = String::new();
    reader.read_topic(topic, &mut |record| {
        if let Some(value) = record.value {
            text.push_str(&String::from_utf8_lossy(value));
            text.push('\n');
        }
    })?;
    Ok(text)
}

fn write(out: &Path, name: &str, text: &str) -> Result<(), Failure> {
    let path = out.join(name);
    fs::write(&path, text)
        .map_err(|error| Failure::new(Exit::Io, format!("{}: {error}", path.display())))
}

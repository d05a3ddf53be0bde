//! `blotter audit verify`: every chain of a topic, or of exported files, entry by entry, with the
//! exact place of the first fault. Where an operator began a new chain behind one, that goes on being
//! verified.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;

use super::super::exit::{Exit, Failure};
use super::super::preview::{brokers_flag, connect, partitions};
use super::super::records::{read_line, split_end};
use super::super::{Common, print};
use super::policies::Policies;
use crate::daemon::keys::{deployment_public, instance_certificate};
use crate::daemon::reader::{KafkaReader, TopicReader};
use crate::pipeline::audit::{
    AuditState, Certificate, ChainFields, ChainHead, Deployment, Fault, HeadRef, Kind,
    OffsetMetadata, PublicKey, Report, Start, Trust, Verifier,
};
use crate::pipeline::limits::AUDIT_ENTRY_BYTES_MAX;
use crate::pipeline::record::{Timestamp, TopicPartition};
use crate::settings::Settings;

/// Entries looked through for the source of a file that does not begin at a genesis.
const SOURCE_LOOK_ENTRIES: usize = 10_000;

#[derive(Debug, Args)]
pub(super) struct VerifyArguments {
    /// Exported files, each one partition's entries, one per line
    #[arg(value_name = "FILE", required_unless_present = "topic", conflicts_with = "topic")]
    files: Vec<PathBuf>,
    /// Source topic whose audit topic is verified
    #[arg(long)]
    topic: Option<String>,
    /// host:port of the brokers, separated by commas
    #[arg(long, value_name = "LIST", requires = "topic")]
    brokers: Option<String>,
    /// The deployment's public key, or a file that holds it; default: the one in the keys' folder
    #[arg(long, value_name = "KEY_OR_FILE")]
    deployment_key: Option<String>,
    /// Source partition of files that do not begin at a genesis
    #[arg(long, value_name = "TOPIC/PARTITION")]
    source: Option<String>,
    /// Exit 0 although a chain is broken, where an operator began a new one behind the break
    #[arg(long)]
    accept_repaired: bool,
    /// One line of JSON per partition
    #[arg(long)]
    json: bool,
}

pub(super) fn run(common: &Common, arguments: &VerifyArguments) -> Result<Exit, Failure> {
    let settings = Settings::new(&common.load(brokers_flag(arguments.brokers.as_deref()))?)?;
    let deployment_key =
        deployment_public(&settings.keys.folder, arguments.deployment_key.as_deref())?;
    let signers = instance_certificate(&settings.keys.folder, &settings.deployment);
    let scene = Scene { settings, deployment_key, signers: signers.into_iter().collect() };
    let mut all_verified = true;
    let mut tell = |verdict: &Verdict| {
        let accepted = verdict.breaks.is_empty() || arguments.accept_repaired;
        all_verified &= verdict.fault.is_none() && accepted;
        print(&if arguments.json { verdict.to_json() } else { verdict.to_text() })
    };
    match &arguments.topic {
        Some(topic) => verify_topic(&scene, topic, &mut tell)?,
        None => {
            for file in &arguments.files {
                tell(&verify_file(&scene, file, arguments.source.as_deref())?)?;
            }
        }
    }
    Ok(if all_verified { Exit::Success } else { Exit::Data })
}

/// What all chains are verified with.
struct Scene {
    settings: Settings,
    deployment_key: PublicKey,
    /// Certificates for chains whose beginning retention took.
    signers: Vec<Certificate>,
}

/// What came out of one partition.
struct Verdict {
    source: String,
    report: Report,
    head: Option<ChainHead>,
    fault: Option<Problem>,
    /// Faults behind which an operator began a new chain.
    breaks: Vec<Break>,
    notes: Vec<String>,
}

/// A fault, and where the chain that was begun behind it stands.
struct Break {
    fault: Problem,
    repaired: String,
    /// Entries between the two.
    unverified: u64,
}

struct Problem {
    place: String,
    kind: &'static str,
    seq: Option<u64>,
    expected: String,
    found: String,
}

/// Takes entries up to a fault, and on from the chain that an operator began behind it.
#[derive(Default)]
struct Run {
    verifier: Option<Verifier>,
    fault: Option<Fault>,
    /// Earlier faults: each with the place of the next chain and the entries before it.
    breaks: Vec<(Fault, i64, u64)>,
    /// Entries since the fault.
    unverified: u64,
    policies: Policies,
    /// The head that the daemon committed, until it is seen.
    committed: Option<HeadRef>,
}

impl Run {
    fn push(&mut self, scene: &Scene, trust: &Trust, place: i64, entry: &[u8]) {
        if self.fault.is_some() && !self.repair(trust, place, entry) {
            self.unverified += 1;
            return;
        }
        let verifier = self.verifier.get_or_insert_with(|| {
            Verifier::new(trust.clone(), Start::of_first_entry(entry, scene.signers.clone()))
        });
        self.fault = verifier.push(place, entry).err();
        // The beginning of the new chain may be what showed that the old one breaks off.
        if self.fault.is_some() && self.repair(trust, place, entry) {
            self.fault = self.verifier.as_mut().and_then(|new| new.push(place, entry).err());
        }
        let Some(verifier) = &self.verifier else { return };
        if self.fault.is_none() {
            self.policies.push(place, entry);
        }
        if self.committed.is_some_and(|head| Some(head.head) == verifier.head()) {
            self.committed = None;
        }
    }

    /// Whether `entry` begins the chain that follows the broken one: a genesis of a later
    /// incarnation. Whether it is a good one, the verifier tells.
    fn repair(&mut self, trust: &Trust, place: i64, entry: &[u8]) -> bool {
        let broken = self.verifier.as_ref().map_or(0, Verifier::incarnation);
        let is_genesis = ChainFields::read(entry).is_ok_and(|fields| fields.kind == Kind::Genesis);
        let start = Start::of_first_entry(entry, Vec::new());
        let follows = matches!(&start, Start::Suffix { incarnation, .. } if *incarnation > broken);
        if !(is_genesis && follows) {
            return false;
        }
        if let Some(fault) = self.fault.take() {
            self.breaks.push((fault, place, std::mem::take(&mut self.unverified)));
        }
        self.verifier = Some(Verifier::new(trust.clone(), start));
        true
    }

    fn finish(self, trust: &Trust, place: impl Fn(Option<i64>) -> String) -> Verdict {
        let verifier =
            self.verifier.unwrap_or_else(|| Verifier::new(trust.clone(), Start::Genesis));
        let (report, head) = (verifier.report().clone(), verifier.head());
        let fault = self.fault.or_else(|| verifier.finish().err());
        let problem = |fault: Fault| Problem {
            place: place(fault.place),
            kind: fault.kind.name(),
            seq: fault.seq,
            expected: fault.expected,
            found: fault.found,
        };
        let fault = fault.map(problem);
        let breaks = self.breaks.into_iter().map(|(fault, next, unverified)| Break {
            fault: problem(fault),
            repaired: place(Some(next)),
            unverified,
        });
        let remarks = self.policies.remarks().into_iter();
        let remarks = remarks.map(|(at, what)| format!("{what} {}", place(Some(at))));
        let lost = |head: HeadRef| Problem {
            place: place(Some(head.stored.offset())),
            kind: "committed_head_absent",
            seq: Some(head.head.seq),
            expected: format!("the committed head, leaf {}", hex(&head.head.leaf)),
            found: "entries without it: the trail was cut, rolled back or rewritten".to_owned(),
        };
        Verdict {
            source: trust.source.to_string(),
            report,
            head,
            fault: fault.or_else(|| self.committed.map(lost)),
            breaks: breaks.collect(),
            notes: remarks.collect(),
        }
    }
}

fn verify_topic(
    scene: &Scene,
    topic: &str,
    tell: &mut dyn FnMut(&Verdict) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut reader = connect(&scene.settings)?;
    let audit_topic = scene.settings.names.audit.topic(topic);
    for partition in 0..partitions(&mut reader, &audit_topic)? {
        let trust = Trust {
            deployment: scene.settings.deployment.clone(),
            source: TopicPartition::new(topic, partition),
            deployment_key: scene.deployment_key,
        };
        let audit = TopicPartition::new(audit_topic.as_str(), partition);
        // Before the end is fixed: what is committed by now must stand in front of it.
        let (committed, note) = committed_head(&reader, &trust.source);
        let (low, end) = reader.range(&audit)?;
        let mut run = Run { committed, ..Run::default() };
        reader.read(&audit, low, end, &mut |record| {
            run.push(scene, &trust, record.offset, record.value.unwrap_or_default());
        })?;
        let mut verdict = run.finish(&trust, |offset| match offset {
            Some(offset) => format!("{audit}/{offset}"),
            None => audit.to_string(),
        });
        verdict.notes.extend(note);
        if verdict.report.entries_total() == 0
            && end == 0
            && is_untouched(&mut reader, &trust.source)
        {
            verdict.fault = None;
            verdict.notes = vec!["nothing was written to the source partition yet".to_owned()];
        }
        tell(&verdict)?;
    }
    Ok(())
}

/// Whether nothing was ever written to a source partition.
fn is_untouched(reader: &mut KafkaReader, source: &TopicPartition) -> bool {
    reader.range(source).is_ok_and(|(_, end)| end == 0)
}

/// The head of the chain that the daemon committed with its offset, or why there is none.
fn committed_head(
    reader: &KafkaReader,
    source: &TopicPartition,
) -> (Option<HeadRef>, Option<String>) {
    let none = |why: String| (None, Some(format!("not compared with a committed head: {why}")));
    match reader.committed(source) {
        Err(error) => none(error.to_string()),
        Ok(None) => none("the group has committed no offset".to_owned()),
        Ok(Some((_, metadata))) => {
            match OffsetMetadata::parse(&metadata).map(|found| found.audit) {
                Ok(AuditState::On(head) | AuditState::Off(Some(head))) => (Some(head), None),
                Ok(AuditState::Off(None)) => none("the audit was off".to_owned()),
                Err(error) => none(error.to_string()),
            }
        }
    }
}

fn verify_file(scene: &Scene, path: &Path, source: Option<&str>) -> Result<Verdict, Failure> {
    let shown = path.display().to_string();
    let at = |error: std::io::Error| Failure::io(&shown, &error);
    let (deployment, source) = match source {
        Some(text) => (scene.settings.deployment.clone(), parse_source(text)?),
        None => origin_of(scene, path)?,
    };
    let trust = Trust { deployment, source, deployment_key: scene.deployment_key };
    let mut reader = BufReader::new(std::fs::File::open(path).map_err(at)?);
    let mut run = Run::default();
    let (mut line, mut number) = (Vec::new(), 0);
    while read_line(&mut reader, &mut line, AUDIT_ENTRY_BYTES_MAX).map_err(at)? {
        number += 1;
        run.push(scene, &trust, number, split_end(&line).0);
    }
    Ok(run.finish(&trust, |line| match line {
        Some(line) => format!("{shown}:{line}"),
        None => shown.clone(),
    }))
}

/// Deployment and source partition of a file: from its genesis, else from its first entry that
/// names them. What a file that names none holds fails under any source.
fn origin_of(scene: &Scene, path: &Path) -> Result<(Deployment, TopicPartition), Failure> {
    #[derive(Deserialize)]
    struct Entry {
        origin: Option<String>,
        src: Option<Coordinates>,
    }
    #[derive(Deserialize)]
    struct Coordinates {
        topic: String,
        partition: i32,
    }
    let shown = path.display().to_string();
    let at = |error: std::io::Error| Failure::io(&shown, &error);
    let mut reader = BufReader::new(std::fs::File::open(path).map_err(at)?);
    let mut line = Vec::new();
    for _ in 0..SOURCE_LOOK_ENTRIES {
        if !read_line(&mut reader, &mut line, AUDIT_ENTRY_BYTES_MAX).map_err(at)? {
            break;
        }
        let Ok(entry) = serde_json::from_slice::<Entry>(&line) else { continue };
        if let Some(origin) = entry.origin.as_deref().and_then(parse_origin) {
            return Ok(origin);
        }
        if let Some(src) = entry.src {
            let source = TopicPartition::new(src.topic.as_str(), src.partition);
            return Ok((scene.settings.deployment.clone(), source));
        }
    }
    Ok((scene.settings.deployment.clone(), TopicPartition::new("unknown", 0)))
}

/// `<deployment>/audit/<topic>/<partition>/<incarnation>`
fn parse_origin(text: &str) -> Option<(Deployment, TopicPartition)> {
    let mut parts = text.split('/');
    let (deployment, audit) = (parts.next()?, parts.next()?);
    let (topic, partition) = (parts.next()?, parts.next()?);
    let source = TopicPartition::new(topic, partition.parse().ok()?);
    (audit == "audit").then_some((Deployment::parse(deployment)?, source))
}

fn parse_source(text: &str) -> Result<TopicPartition, Failure> {
    let parts =
        text.rsplit_once('/').and_then(|(topic, number)| Some((topic, number.parse().ok()?)));
    let (topic, partition) =
        parts.ok_or_else(|| Failure::new(Exit::Usage, "--source: expected TOPIC/PARTITION"))?;
    Ok(TopicPartition::new(topic, partition))
}

impl Verdict {
    fn name(&self) -> &'static str {
        match &self.fault {
            Some(_) => "fault",
            None if !self.breaks.is_empty() => "repaired",
            None if self.report.entries_total() == 0 => "empty",
            None => "verified",
        }
    }

    fn entries(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = Kind::ALL.iter().map(|kind| (kind.code(), self.report.entries_of(*kind)));
        counts.filter(|(_, count)| *count > 0)
    }

    fn to_text(&self) -> String {
        let report = &self.report;
        let mut text = format!("{}  {}\n", self.source, self.name());
        for one in &self.breaks {
            text.push_str(&one.fault.to_text("break"));
            let (place, between) = (&one.repaired, one.unverified);
            text.push_str(&format!(
                "  repaired by a new chain at {place}; {between} entries in between are not verified\n"
            ));
        }
        if let Some(fault) = &self.fault {
            text.push_str(&fault.to_text("fault"));
        }
        if report.entries_total() > 0 {
            let entries: Vec<String> =
                self.entries().map(|(code, count)| format!("{code} {count}")).collect();
            text.push_str(&format!("  entries  {}\n", entries.join(", ")));
        }
        if let (Some(from), Some(to)) = (report.from, report.to) {
            let (fates, gaps) = (&report.fates, report.gap_offsets);
            text.push_str(&format!(
                "  source   offsets {from}..{to}, {gaps} of them in gaps\n  \
                 records  {} read: {} forwarded, {} dead-lettered, {} commands\n",
                fates.read(),
                fates.forwarded,
                fates.dead_lettered,
                fates.commands
            ));
        }
        if let Some((first, last)) = report.sealed_at {
            let time = |millis| Timestamp::from_millis(millis).to_rfc3339();
            text.push_str(&format!("  sealed   {} to {}\n", time(first), time(last)));
        }
        if let Some(head) = self.head {
            text.push_str(&format!("  head     seq {} leaf {}\n", head.seq, hex(&head.leaf)));
        }
        if report.entries_total() > 0 && !report.from_genesis {
            text.push_str(
                "  note     begins behind the genesis: what came before is not verified\n",
            );
        }
        for note in &self.notes {
            text.push_str(&format!("  note     {note}\n"));
        }
        text
    }

    fn to_json(&self) -> String {
        let report = &self.report;
        let breaks: Vec<serde_json::Value> = self
            .breaks
            .iter()
            .map(|one| {
                serde_json::json!({
                    "fault": one.fault.to_json(),
                    "repaired": one.repaired,
                    "unverified": one.unverified,
                })
            })
            .collect();
        let head =
            self.head.map(|head| serde_json::json!({ "seq": head.seq, "leaf": hex(&head.leaf) }));
        let line = serde_json::json!({
            "source": self.source,
            "verdict": self.name(),
            "breaks": breaks,
            "fault": self.fault.as_ref().map(Problem::to_json),
            "entries": self.entries().collect::<std::collections::BTreeMap<_, _>>(),
            "from": report.from,
            "to": report.to,
            "gap_offsets": report.gap_offsets,
            "records": {
                "read": report.fates.read(),
                "forwarded": report.fates.forwarded,
                "dead_lettered": report.fates.dead_lettered,
                "commands": report.fates.commands,
            },
            "heartbeats": report.heartbeats,
            "clock_steps_back": report.clock_steps_back,
            "from_genesis": report.from_genesis,
            "head": head,
            "notes": self.notes,
        });
        format!("{line}\n")
    }
}

impl Problem {
    fn to_text(&self, word: &str) -> String {
        let seq = self.seq.map(|seq| format!(" (seq {seq})")).unwrap_or_default();
        let Self { place, kind, expected, found, .. } = self;
        format!("  {word:8} {kind} at {place}{seq}\n  expected {expected}\n  found    {found}\n")
    }

    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "kind": self.kind, "place": self.place, "seq": self.seq,
            "expected": self.expected, "found": self.found,
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

//! `blotter redact`: stdin to stdout with the daemon's engine, one line one record; `--diff` tells
//! what another policy would change.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::exit::{Exit, Failure};
use super::records::{Change, Found, Lens, differing, read_line, split_end, tenant_argument};
use super::{Common, print};
use crate::daemon::clock::{Clock, SystemClock};
use crate::pipeline::emit::dead_letter_stub;
use crate::pipeline::limits::RECORD_BYTES_MAX;
use crate::pipeline::record::{SourceRecord, Timestamp, TopicPartition};
use crate::pipeline::redact::{Disposition, Policy, RawPolicy};
use crate::settings::Settings;
use crate::settings::load::Loaded;

const BUFFER_BYTES: usize = 64 << 10;

#[derive(Debug, Args)]
pub(super) struct RedactArguments {
    #[command(flatten)]
    rules: RulesArguments,
    /// Report what would change from one policy to another instead of redacting
    #[arg(long, num_args = 2, value_names = ["POLICY_A", "POLICY_B"])]
    diff: Vec<PathBuf>,
    /// With --diff: show the values too
    #[arg(long, requires = "diff")]
    show_values: bool,
}

/// Which rules apply to records that no broker tells about.
#[derive(Debug, Args)]
pub(super) struct RulesArguments {
    /// Regions whose national phone formats count, such as IN DE
    #[arg(long, value_name = "REGION", num_args = 1.., value_delimiter = ',')]
    region: Vec<String>,
    /// Rather redact too much
    #[arg(long)]
    strict: bool,
    /// Apply the rules for this source topic
    #[arg(long, default_value = "", hide_default_value = true)]
    topic: String,
    /// Apply the rules for this tenant, whatever the records say
    #[arg(long)]
    tenant: Option<String>,
}

impl RulesArguments {
    /// The settings with what these arguments change.
    pub(super) fn settings(&self, mut loaded: Loaded) -> Result<Settings, Failure> {
        if !self.region.is_empty() {
            loaded.raw.redact.regions = Some(self.region.clone());
        }
        if self.strict {
            loaded.raw.redact.strictness = Some("strict".to_owned());
        }
        Ok(Settings::new(&loaded)?)
    }

    pub(super) fn lens(&self, settings: &Settings, policy: Arc<Policy>) -> Result<Lens, Failure> {
        Ok(Lens::new(settings, policy, tenant_argument(self.tenant.as_deref())?))
    }

    pub(super) fn source(&self) -> Source {
        Source {
            topic_partition: TopicPartition::new(self.topic.as_str(), 0),
            now: SystemClock::new().now(),
        }
    }
}

/// Makes records of lines.
pub(super) struct Source {
    topic_partition: TopicPartition,
    now: Timestamp,
}

impl Source {
    pub(super) fn record<'a>(&'a self, line: &'a [u8], number: i64) -> SourceRecord<'a> {
        SourceRecord {
            topic_partition: &self.topic_partition,
            offset: number,
            timestamp: self.now,
            key: None,
            value: Some(line),
            headers: &[],
        }
    }
}

pub(super) fn run(common: &Common, arguments: &RedactArguments) -> Result<Exit, Failure> {
    let settings = arguments.rules.settings(common.load(Vec::new())?)?;
    let stdin = io::stdin();
    let input = BufReader::with_capacity(BUFFER_BYTES, stdin.lock());
    if let [a, b] = arguments.diff.as_slice() {
        return diff(arguments, &settings, input, [a, b]);
    }
    let mut lens = arguments.rules.lens(&settings, Arc::clone(&settings.policy))?;
    let output = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
    let mut counts = Counts::default();
    let end = filter(&mut lens, &arguments.rules.source(), input, output, &mut counts);
    match end {
        Err(Stop::Input(error)) => return Err(Failure::io("stdin", &error)),
        Err(Stop::Output(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(Failure::io("stdout", &error));
        }
        _ => {}
    }
    // Whoever reads the output may have closed this too.
    let _gone = io::stderr().write_all(counts.summary().as_bytes());
    Ok(Exit::Success)
}

/// Lines that were not redacted in the ordinary way, by reason.
#[derive(Default)]
struct Counts {
    not_text: BTreeMap<&'static str, u64>,
    strictly: BTreeMap<&'static str, u64>,
}

impl Counts {
    fn summary(&self) -> String {
        let list = |counts: &BTreeMap<&'static str, u64>| {
            let each: Vec<String> =
                counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
            each.join(", ")
        };
        let mut text = String::new();
        if !self.not_text.is_empty() {
            let list = list(&self.not_text);
            text.push_str(&format!("blotter: lines that are not text, each a stub now: {list}\n"));
        }
        if !self.strictly.is_empty() {
            let list = list(&self.strictly);
            text.push_str(&format!(
                "blotter: lines that could not be scanned whole, masked strictly: {list}\n"
            ));
        }
        text
    }
}

enum Stop {
    Input(io::Error),
    Output(io::Error),
}

fn filter(
    lens: &mut Lens,
    source: &Source,
    mut input: BufReader<impl io::Read>,
    mut output: impl Write,
    counts: &mut Counts,
) -> Result<(), Stop> {
    let (mut line, mut out) = (Vec::new(), Vec::new());
    while read_line(&mut input, &mut line, RECORD_BYTES_MAX).map_err(Stop::Input)? {
        let (body, end) = split_end(&line);
        let record = source.record(body, 0);
        let facts = lens.facts(&record);
        match lens.redact(&record, &facts, &mut out).disposition {
            Disposition::NotText(name) => {
                *counts.not_text.entry(name).or_default() += 1;
                out.clear();
                out.extend_from_slice(dead_letter_stub(name).as_bytes());
            }
            Disposition::StrictMasked(reason) => {
                *counts.strictly.entry(reason.name()).or_default() += 1;
            }
            Disposition::Clean | Disposition::Redacted | Disposition::MissingKeyEpoch => {}
        }
        output.write_all(&out).and_then(|()| output.write_all(end)).map_err(Stop::Output)?;
        // The next line may be long in coming.
        if memchr::memchr(b'\n', input.buffer()).is_none() {
            output.flush().map_err(Stop::Output)?;
        }
    }
    output.flush().map_err(Stop::Output)
}

const fn name_of(change: Change) -> &'static str {
    match change {
        Change::OnlyA => "only in A",
        Change::OnlyB => "only in B",
        Change::Replacement => "replaced otherwise",
    }
}

type Changes = BTreeMap<(Change, String, String), u64>;

fn diff(
    arguments: &RedactArguments,
    settings: &Settings,
    mut input: impl BufRead,
    files: [&Path; 2],
) -> Result<Exit, Failure> {
    let [a, b] = [policy_file(files[0])?, policy_file(files[1])?];
    let mut report = format!("A {}\nB {}\n", a.identity(), b.identity());
    if Policy::is_loosening(&a, &b) {
        report.push_str("B may let something pass that A redacts\n");
    }
    print(&report)?;
    let mut lenses = [
        arguments.rules.lens(settings, Arc::new(a))?,
        arguments.rules.lens(settings, Arc::new(b))?,
    ];
    let source = arguments.rules.source();
    let (mut line, mut outs) = (Vec::new(), [Vec::new(), Vec::new()]);
    let (mut lines, mut changed, mut changes) = (0, 0_u64, Changes::new());
    while read_line(&mut input, &mut line, RECORD_BYTES_MAX)
        .map_err(|error| Failure::io("stdin", &error))?
    {
        lines += 1;
        let (body, _) = split_end(&line);
        let record = source.record(body, lines);
        let found = [0, 1].map(|side| {
            let facts = lenses[side].facts(&record);
            lenses[side].redact(&record, &facts, &mut outs[side]);
            lenses[side].found(body)
        });
        if outs[0] == outs[1] {
            continue;
        }
        changed += 1;
        let details = compare(found, &mut changes);
        if arguments.show_values {
            let details: String =
                details.iter().map(|one| format!("line {lines}: {one}\n")).collect();
            print(&details)?;
        }
    }
    let mut report = format!("{lines} lines, {changed} would change\n");
    for ((change, kind, path), count) in &changes {
        let path = if path.is_empty() { "-" } else { path };
        writeln!(report, "{count:>8}  {:18} {kind:8} {path}", name_of(*change)).expect(IN_MEMORY);
    }
    print(&report)?;
    Ok(Exit::Success)
}

const IN_MEMORY: &str = "writing to a string does not fail";

/// Counts what differs and describes each, values included.
fn compare([a, b]: [Vec<Found>; 2], changes: &mut Changes) -> Vec<String> {
    let mut details = Vec::new();
    for (change, one) in differing(&a, &b) {
        *changes.entry((change, one.kind.clone(), one.path.clone())).or_default() += 1;
        details.push(format!(
            "{}: {} {} {}..{} {:?}",
            name_of(change),
            one.kind,
            one.path,
            one.start,
            one.end,
            one.value.reveal()
        ));
    }
    details
}

/// A policy from a file: its `[redact]` table, or the same keys at top level.
pub(super) fn policy_file(path: &Path) -> Result<Policy, Failure> {
    #[derive(serde::Deserialize)]
    struct File {
        redact: RawPolicy,
    }
    let shown = path.display();
    let text =
        std::fs::read_to_string(path).map_err(|error| Failure::io(&shown.to_string(), &error))?;
    let refuse = |error: toml::de::Error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        Failure::new(Exit::Config, format!("{shown}:{line}: {}", error.message()))
    };
    let table: toml::Table = toml::from_str(&text).map_err(refuse)?;
    let raw = if table.contains_key("redact") {
        toml::from_str::<File>(&text).map(|file| file.redact)
    } else {
        toml::from_str(&text)
    };
    let policy = Policy::new(&raw.map_err(refuse)?);
    policy.map_err(|error| Failure::new(Exit::Config, format!("{shown}: {error}")))
}

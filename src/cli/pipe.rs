//! `blotter pipe`: the whole job on lines, without Kafka. Redacted lines go to stdout in order;
//! with `--out` the audit trail, measures' figures and alerts go to files.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::Common;
use super::embedded::EmbeddedDaemon;
use super::exit::{Exit, Failure};
use crate::daemon::broker::embedded::{Body, Cluster};
use crate::daemon::clock::{Clock, SystemClock};
use crate::daemon::keys::open_or_create;
use crate::daemon::metrics::Exposition;
use crate::daemon::reader::TopicReader;
use crate::daemon::telemetry;
use crate::pipeline::limits::{PIPE_LINE_BYTES_MAX, PIPE_RECORDS_AHEAD_MAX, PIPE_STALL_MS_MAX};
use crate::pipeline::record::TopicPartition;
use crate::settings::Settings;

#[derive(Debug, Args)]
pub(super) struct PipeArguments {
    /// File to read; stdin without it
    file: Option<PathBuf>,
    /// Folder for audit.jsonl, alerts.jsonl, dead-letters.jsonl and metrics.txt
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

const SOURCE: &str = "pipe";

pub(super) fn run(common: &Common, arguments: &PipeArguments) -> Result<Exit, Failure> {
    let settings = Arc::new(Settings::new(&common.load(flags(arguments))?)?);
    telemetry::start(settings.log.format, &settings.log.filter)
        .map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
    let clock = SystemClock::new();
    let kek = settings.keys.encryption_key.as_ref().map(|secret| secret.reveal());
    let keys = open_or_create(&settings.keys.folder, kek, &settings.deployment, clock.now())?;
    let daemon = EmbeddedDaemon::start(Arc::clone(&settings), keys, 1, clock)?;
    let files = match &arguments.out {
        Some(folder) => Some(OutFiles::make(folder)?),
        None => None,
    };
    let mut pump =
        Pump { cluster: daemon.cluster.clone(), settings, files, sent: 0, printed: 0, clock };
    match &arguments.file {
        Some(path) => {
            let file =
                File::open(path).map_err(|e| Failure::io(&path.display().to_string(), &e))?;
            pump.feed(BufReader::new(file))?;
        }
        None => pump.feed(std::io::stdin().lock())?,
    }
    pump.wait_for(pump.sent)?;
    let metrics = Arc::clone(&daemon.metrics);
    daemon.stop()?;
    pump.finish(&metrics.render(Exposition::Text))?;
    Ok(Exit::Success)
}

/// What needs `--out` is off without it.
fn flags(arguments: &PipeArguments) -> Vec<(String, String)> {
    let mut flags = vec![
        ("input.topics".to_owned(), SOURCE.to_owned()),
        ("http.enabled".to_owned(), "false".to_owned()),
        ("run.shards".to_owned(), "1".to_owned()),
        ("topics.measures_partitions".to_owned(), "1".to_owned()),
        ("log.filter".to_owned(), "error".to_owned()),
    ];
    if arguments.out.is_none() {
        let off = ["audit.enabled", "measure.enabled", "alert.enabled"];
        flags.extend(off.map(|key| (key.to_owned(), "false".to_owned())));
    }
    flags
}

struct OutFiles {
    audit: BufWriter<File>,
    alerts: BufWriter<File>,
    dead_letters: BufWriter<File>,
    metrics: PathBuf,
}

impl OutFiles {
    fn make(folder: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder)
            .map_err(|e| Failure::io(&folder.display().to_string(), &e))?;
        let create = |name: &str| {
            let path = folder.join(name);
            let file =
                File::create(&path).map_err(|e| Failure::io(&path.display().to_string(), &e))?;
            Ok::<_, Failure>(BufWriter::new(file))
        };
        Ok(Self {
            audit: create("audit.jsonl")?,
            alerts: create("alerts.jsonl")?,
            dead_letters: create("dead-letters.jsonl")?,
            metrics: folder.join("metrics.txt"),
        })
    }
}

/// Lines in, redacted lines out, never more than a bounded number in between.
struct Pump {
    cluster: Cluster,
    settings: Arc<Settings>,
    files: Option<OutFiles>,
    sent: i64,
    printed: i64,
    clock: SystemClock,
}

impl Pump {
    fn feed(&mut self, mut lines: impl BufRead) -> Result<(), Failure> {
        let source = TopicPartition::new(SOURCE, 0);
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut bounded = std::io::Read::take(&mut lines, PIPE_LINE_BYTES_MAX);
            let read =
                bounded.read_until(b'\n', &mut line).map_err(|e| Failure::io("input", &e))?;
            if read == 0 {
                return Ok(());
            }
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            self.cluster
                .produce(&source, Some(self.clock.now()), Body::new(None, Some(text)))
                .map_err(|error| {
                    Failure::new(Exit::Data, format!("line {}: {error}", self.sent + 1))
                })?;
            self.sent += 1;
            if self.sent - self.printed >= PIPE_RECORDS_AHEAD_MAX {
                self.wait_for(self.sent - PIPE_RECORDS_AHEAD_MAX / 2)?;
            }
        }
    }

    /// Prints redacted lines until `count` of them are out.
    fn wait_for(&mut self, count: i64) -> Result<(), Failure> {
        let redacted = TopicPartition::new(self.settings.names.redacted.topic(SOURCE), 0);
        let mut progressed = self.clock.monotonic();
        while self.printed < count {
            let seen = self.cluster.version();
            let before = self.printed;
            self.print(&redacted)?;
            if self.printed > before {
                progressed = self.clock.monotonic();
            } else if self.clock.monotonic() - progressed > Duration::from_millis(PIPE_STALL_MS_MAX)
            {
                let message = format!(
                    "nothing came out for {PIPE_STALL_MS_MAX} ms behind line {}",
                    self.printed
                );
                return Err(Failure::new(Exit::Software, message));
            } else {
                self.cluster.wait(seen, self.clock.now().plus_millis(50));
            }
        }
        Ok(())
    }

    fn print(&mut self, redacted: &TopicPartition) -> Result<(), Failure> {
        let (from, to) = self.cluster.range(redacted)?;
        let mut lines = Vec::new();
        let mut count = 0;
        TopicReader::read(&mut self.cluster, redacted, from, to, &mut |record| {
            lines.extend_from_slice(record.value.unwrap_or_default());
            lines.push(b'\n');
            count += 1;
        })?;
        if count == 0 {
            return Ok(());
        }
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(&lines).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            other => other.map_err(|error| Failure::io("stdout", &error))?,
        }
        self.printed += count;
        self.forget(redacted, to)
    }

    /// What is out is no longer kept.
    fn forget(&self, redacted: &TopicPartition, to: i64) -> Result<(), Failure> {
        let failed = |error| Failure::new(Exit::Software, format!("embedded broker: {error}"));
        self.cluster.delete_records(redacted, to).map_err(failed)?;
        let source = TopicPartition::new(SOURCE, 0);
        // One record stays: a restore compares the last sealed one with its commitment.
        let before = self.printed.saturating_sub(1);
        self.cluster.delete_records(&source, before).map_err(failed)
    }

    fn finish(mut self, metrics: &str) -> Result<(), Failure> {
        let Some(files) = &mut self.files else { return Ok(()) };
        let names = &self.settings.names;
        for (topic, file) in [
            (names.audit.topic(SOURCE), &mut files.audit),
            (names.alerts.to_string(), &mut files.alerts),
            (names.dead_letters.to_string(), &mut files.dead_letters),
        ] {
            let mut written = Ok(());
            self.cluster.read_topic(&topic, &mut |record| {
                if let (Some(value), true) = (record.value, written.is_ok()) {
                    written = file.write_all(value).and_then(|()| file.write_all(b"\n"));
                }
            })?;
            written.and_then(|()| file.flush()).map_err(|error| Failure::io(&topic, &error))?;
        }
        std::fs::write(&files.metrics, metrics)
            .map_err(|error| Failure::io(&files.metrics.display().to_string(), &error))
    }
}

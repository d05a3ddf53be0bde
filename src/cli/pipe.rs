//! `blotter pipe`: the whole job on lines, without Kafka. Redacted lines go to stdout in order;
//! with `--out` the audit trail, measures' figures and alerts go to files.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Args;

use super::Common;
use super::embedded::EmbeddedDaemon;
use super::exit::{Exit, Failure};
use super::reload::{HangUps, Reload};
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
    let loaded = common.load(flags(arguments))?;
    let settings = Arc::new(Settings::new(&loaded)?);
    telemetry::start(settings.log.format, &settings.log.filter)
        .map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
    let clock = SystemClock::new();
    let kek = settings.keys.encryption_key.as_ref().map(|secret| secret.reveal());
    let keys = open_or_create(&settings.keys.folder, kek, &settings.deployment)?;
    let daemon = EmbeddedDaemon::start(Arc::clone(&settings), keys, 1, clock)?;
    let hang_ups = HangUps::listen(&daemon.runtime)?;
    Reload::new(common.clone(), flags(arguments), loaded, daemon.policy.clone()).on_hang_up(
        hang_ups,
        &daemon.runtime,
        Arc::clone(&daemon.metrics),
        clock,
    );
    let files = match &arguments.out {
        Some(folder) => Some(OutFiles::make(folder)?),
        None => None,
    };
    let progress = Arc::new(Progress::default());
    let feeder = Feeder { cluster: daemon.cluster.clone(), progress: Arc::clone(&progress), clock };
    let file = match &arguments.file {
        Some(path) => {
            Some(File::open(path).map_err(|e| Failure::io(&path.display().to_string(), &e))?)
        }
        None => None,
    };
    let fed = std::thread::spawn(move || match file {
        Some(file) => feeder.feed(BufReader::new(file)),
        None => feeder.feed(std::io::stdin().lock()),
    });
    let mut pump = Pump { cluster: daemon.cluster.clone(), settings, files, progress, clock };
    pump.print_all(&fed)?;
    fed.join().map_err(|_panic| Failure::new(Exit::Software, "reading the input failed"))??;
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

/// How far both ends are.
#[derive(Default)]
struct Progress {
    sent: AtomicI64,
    printed: AtomicI64,
}

/// Lines in, never more than a bounded number ahead of what is out.
struct Feeder {
    cluster: Cluster,
    progress: Arc<Progress>,
    clock: SystemClock,
}

impl Feeder {
    fn feed(&self, mut lines: impl BufRead) -> Result<(), Failure> {
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
            let body = Body::new(None, Some(text));
            let sent = self.progress.sent.load(Ordering::Acquire) + 1;
            self.cluster
                .produce(&source, Some(self.clock.now()), body)
                .map_err(|error| Failure::new(Exit::Data, format!("line {sent}: {error}")))?;
            self.progress.sent.store(sent, Ordering::Release);
            while sent - self.progress.printed.load(Ordering::Acquire) >= PIPE_RECORDS_AHEAD_MAX {
                self.cluster.wait(self.cluster.version(), self.clock.now().plus_millis(50));
            }
        }
    }
}

/// Redacted lines out, as they come.
struct Pump {
    cluster: Cluster,
    settings: Arc<Settings>,
    files: Option<OutFiles>,
    progress: Arc<Progress>,
    clock: SystemClock,
}

impl Pump {
    /// Prints redacted lines until everything that was fed is out.
    fn print_all<T>(&mut self, feeder: &JoinHandle<T>) -> Result<(), Failure> {
        let redacted = TopicPartition::new(self.settings.names.redacted.topic(SOURCE), 0);
        let mut progressed = self.clock.monotonic();
        loop {
            let (seen, ended) = (self.cluster.version(), feeder.is_finished());
            let sent = self.progress.sent.load(Ordering::Acquire);
            let before = self.progress.printed.load(Ordering::Acquire);
            if before == sent && ended {
                return Ok(());
            }
            self.print(&redacted)?;
            let now = self.clock.monotonic();
            if before == sent || self.progress.printed.load(Ordering::Acquire) > before {
                progressed = now;
            } else if now - progressed > Duration::from_millis(PIPE_STALL_MS_MAX) {
                let message =
                    format!("nothing came out for {PIPE_STALL_MS_MAX} ms behind line {before}");
                return Err(Failure::new(Exit::Software, message));
            }
            self.cluster.wait(seen, self.clock.now().plus_millis(50));
        }
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
        let printed = self.progress.printed.fetch_add(count, Ordering::AcqRel) + count;
        self.forget(redacted, to, printed)
    }

    /// What is out is no longer kept.
    fn forget(&self, redacted: &TopicPartition, to: i64, printed: i64) -> Result<(), Failure> {
        let failed = |error| Failure::new(Exit::Software, format!("embedded broker: {error}"));
        self.cluster.delete_records(redacted, to).map_err(failed)?;
        let source = TopicPartition::new(SOURCE, 0);
        // One record stays: a restore compares the last sealed one with its commitment.
        self.cluster.delete_records(&source, printed.saturating_sub(1)).map_err(failed)
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

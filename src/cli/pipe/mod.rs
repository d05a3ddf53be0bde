//! `blotter pipe`: the whole job on lines, without Kafka. Redacted lines go to stdout in order;
//! with `--out` the audit trail, measures' figures and alerts go to files.

mod files;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Args;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::Common;
use super::embedded::EmbeddedDaemon;
use super::exit::{Exit, Failure};
use super::records::{read_line, split_end};
use super::reload::{HangUps, Reload};
use crate::daemon::broker::embedded::{Body, Cluster};
use crate::daemon::clock::{Clock, SystemClock};
use crate::daemon::keys::open_or_create;
use crate::daemon::metrics::Exposition;
use crate::daemon::reader::TopicReader;
use crate::daemon::telemetry;
use crate::pipeline::limits::{
    PIPE_BYTES_AHEAD_MAX, PIPE_RECORDS_AHEAD_MAX, PIPE_STALL_MS_MAX, RECORD_BYTES_MAX,
};
use crate::pipeline::record::TopicPartition;
use crate::settings::Settings;
use files::OutFiles;

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
    let input: Box<dyn BufRead + Send> = match &arguments.file {
        None => Box::new(BufReader::new(std::io::stdin())),
        Some(path) => {
            let file = File::open(path);
            let file = file.map_err(|error| Failure::io(&path.display().to_string(), &error))?;
            Box::new(BufReader::new(file))
        }
    };
    let files = arguments.out.as_ref().map(|folder| OutFiles::make(folder, &settings, SOURCE));
    let files = files.transpose()?;
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
    let progress = Arc::new(Progress::default());
    end_by_signal(&daemon.runtime, &progress)?;
    let feeder = Feeder { cluster: daemon.cluster.clone(), progress: Arc::clone(&progress), clock };
    let fed = std::thread::spawn(move || feeder.feed(input));
    let mut pump = Pump { cluster: daemon.cluster.clone(), settings, files, progress, clock };
    pump.print_all(&fed)?;
    // Told to end, the feeder may wait for a line that never comes.
    if fed.is_finished() {
        fed.join().map_err(|_panic| Failure::new(Exit::Software, "reading the input failed"))??;
    }
    let metrics = Arc::clone(&daemon.metrics);
    daemon.stop()?;
    pump.finish(&metrics.render(Exposition::Text))?;
    Ok(Exit::Success)
}

/// SIGTERM and SIGINT end the input: what was taken of it is finished.
fn end_by_signal(runtime: &Runtime, progress: &Arc<Progress>) -> Result<(), Failure> {
    let _context = runtime.enter();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind).map_err(|error| Failure::io("signals", &error))?;
        let progress = Arc::clone(progress);
        runtime.spawn(async move {
            signals.recv().await;
            progress.end();
        });
    }
    Ok(())
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

/// How far both ends are.
#[derive(Default)]
struct Progress {
    sent: AtomicI64,
    printed: AtomicI64,
    ended: AtomicBool,
    /// Held while a line is sent, so that none is once the end was said.
    sending: Mutex<()>,
}

impl Progress {
    /// No further line is taken.
    fn end(&self) {
        let _none = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        self.ended.store(true, Ordering::Release);
    }

    fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    fn ahead(&self) -> i64 {
        self.sent.load(Ordering::Acquire) - self.printed.load(Ordering::Acquire)
    }
}

/// Lines in, never more than a bounded number ahead of what is out.
struct Feeder {
    cluster: Cluster,
    progress: Arc<Progress>,
    clock: SystemClock,
}

impl Feeder {
    fn feed(&self, mut lines: impl BufRead) -> Result<(), Failure> {
        let (mut line, mut bytes) = (Vec::new(), 0);
        while read_line(&mut lines, &mut line, RECORD_BYTES_MAX)
            .map_err(|error| Failure::io("input", &error))?
        {
            let (text, _) = split_end(&line);
            if !self.send(text)? {
                return Ok(());
            }
            bytes += text.len();
            if bytes >= PIPE_BYTES_AHEAD_MAX {
                self.wait_until_ahead_by(0);
                bytes = 0;
            }
            self.wait_until_ahead_by(PIPE_RECORDS_AHEAD_MAX - 1);
        }
        Ok(())
    }

    /// Sends one line; `false` once the end was said.
    fn send(&self, text: &[u8]) -> Result<bool, Failure> {
        let _sending = self.progress.sending.lock().unwrap_or_else(PoisonError::into_inner);
        if self.progress.is_ended() {
            return Ok(false);
        }
        let source = TopicPartition::new(SOURCE, 0);
        let number = self.progress.sent.load(Ordering::Acquire) + 1;
        self.cluster
            .produce(&source, Some(self.clock.now()), Body::new(None, Some(text)))
            .map_err(|error| Failure::new(Exit::Data, format!("line {number}: {error}")))?;
        self.progress.sent.store(number, Ordering::Release);
        Ok(true)
    }

    fn wait_until_ahead_by(&self, lines: i64) {
        while self.progress.ahead() > lines && !self.progress.is_ended() {
            self.cluster.wait(self.cluster.version(), self.clock.now().plus_millis(50));
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
            let seen = self.cluster.version();
            let ended = feeder.is_finished() || self.progress.is_ended();
            let sent = self.progress.sent.load(Ordering::Acquire);
            let before = self.progress.printed.load(Ordering::Acquire);
            if before == sent && ended {
                return Ok(());
            }
            self.print(&redacted)?;
            if let Some(files) = &mut self.files {
                files.append(&mut self.cluster)?;
            }
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
            // The trail is wanted all the same.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                if self.files.is_none() {
                    self.progress.end();
                }
            }
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
        let Some(files) = self.files.take() else { return Ok(()) };
        files.finish(&mut self.cluster, metrics)
    }
}

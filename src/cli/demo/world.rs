//! Where the demo takes place: everything in this process, or a real cluster with the daemon as a
//! process of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use super::is_inherited;
use crate::cli::embedded::EmbeddedDaemon;
use crate::cli::exit::{Exit, Failure};
use crate::cli::topics::ADMIN_TIMEOUT;
use crate::daemon::broker::embedded::{Body, Cluster};
use crate::daemon::clock::{Clock, SystemClock};
use crate::daemon::keys::open_or_create;
use crate::daemon::metrics::Exposition;
use crate::daemon::reader::{KafkaReader, TopicReader};
use crate::daemon::topics::{TopicAdmin, TopicDefaults, TopicPlan};
use crate::pipeline::emit::TopicRole;
use crate::pipeline::limits::SOURCE_RECORD_BYTES_DEFAULT;
use crate::pipeline::record::TopicPartition;
use crate::settings::Settings;

/// What the demo's daemon logs, in the demo's folder.
pub(super) const LOG_FILE: &str = "daemon.log";

/// Brokers and a daemon at work on them.
pub(super) trait World {
    /// In words.
    fn describe(&self) -> String;
    /// Produces one record to the source topic.
    fn produce(&mut self, partition: i32, key: Option<&str>, value: &str) -> Result<(), Failure>;
    /// Kills (a shard of) the daemon without warning; it comes back by itself or is restarted.
    fn kill(&mut self) -> Result<&'static str, Failure>;
    /// Reads topics.
    fn reader(&mut self) -> &mut dyn TopicReader;
    /// What /metrics says.
    fn metrics(&mut self) -> Result<String, Failure>;
    /// Where /metrics is.
    fn metrics_url(&self) -> String;
    /// Stops the daemon cleanly.
    fn stop(&mut self) -> Result<(), Failure>;
}

/// Everything in this process.
pub(super) struct EmbeddedWorld {
    daemon: Option<EmbeddedDaemon>,
    cluster: Cluster,
    source: Arc<str>,
    clock: SystemClock,
    metrics_url: String,
}

impl EmbeddedWorld {
    pub(super) fn start(settings: Settings, partitions: i32) -> Result<Self, Failure> {
        let clock = SystemClock::new();
        let keys = open_or_create(&settings.keys.folder, None, &settings.deployment)?;
        let source = source_of(&settings);
        let daemon = EmbeddedDaemon::start(Arc::new(settings), keys, partitions, clock)?;
        let metrics_url = daemon.address.map_or(String::new(), |at| format!("http://{at}/metrics"));
        let cluster = daemon.cluster.clone();
        Ok(Self { daemon: Some(daemon), cluster, source, clock, metrics_url })
    }
}

impl World for EmbeddedWorld {
    fn describe(&self) -> String {
        "the embedded broker, two SCRUB shards and one WATCH shard in this process".to_owned()
    }

    fn produce(&mut self, partition: i32, key: Option<&str>, value: &str) -> Result<(), Failure> {
        let body = Body::new(key.map(str::as_bytes), Some(value.as_bytes()));
        let to = TopicPartition::new(Arc::clone(&self.source), partition);
        let produced = self.cluster.produce(&to, Some(self.clock.now()), body);
        produced.map(drop).map_err(|error| Failure::new(Exit::Software, error.to_string()))
    }

    fn kill(&mut self) -> Result<&'static str, Failure> {
        let daemon = self.daemon.as_ref().expect("the daemon runs until stop");
        daemon.kill_a_shard();
        let deadline = self.clock.monotonic() + Duration::from_secs(10);
        while !daemon.is_killed() {
            if self.clock.monotonic() > deadline {
                return Err(Failure::new(
                    Exit::Software,
                    "no shard came to a commit to be killed at",
                ));
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        Ok("a SCRUB shard died in the middle of a commit; its supervisor builds it anew")
    }

    fn reader(&mut self) -> &mut dyn TopicReader {
        &mut self.cluster
    }

    fn metrics(&mut self) -> Result<String, Failure> {
        let daemon = self.daemon.as_ref().expect("the daemon runs until stop");
        Ok(daemon.metrics.render(Exposition::Text))
    }

    fn metrics_url(&self) -> String {
        self.metrics_url.clone()
    }

    fn stop(&mut self) -> Result<(), Failure> {
        self.daemon.take().map_or(Ok(()), |daemon| daemon.stop().map(drop))
    }
}

/// A real cluster, and `blotter run` beside us.
pub(super) struct KafkaWorld {
    settings: Settings,
    command: DaemonCommand,
    source: Arc<str>,
    producer: ThreadedProducer<DefaultProducerContext>,
    reader: KafkaReader,
    daemon: Daemon,
}

/// How the demo's daemon is started: with the settings of the demo, and with nothing else that the
/// environment says.
pub(super) struct DaemonCommand {
    /// Settings files, the demo's last.
    pub(super) files: Vec<PathBuf>,
    /// `--set` of the command line.
    pub(super) overrides: Vec<String>,
    /// Folder for its log.
    pub(super) out: PathBuf,
}

/// The child process; killed when it is dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl KafkaWorld {
    pub(super) fn start(
        settings: Settings,
        command: DaemonCommand,
        partitions: i32,
    ) -> Result<Self, Failure> {
        let source = source_of(&settings);
        let admin = TopicAdmin::connect(&settings.kafka, ADMIN_TIMEOUT)?;
        let bytes = SOURCE_RECORD_BYTES_DEFAULT as u64;
        let defaults = TopicDefaults::default();
        admin.create(&[TopicPlan::new(
            TopicRole::Redacted,
            &*source,
            partitions,
            defaults,
            bytes,
        )])?;
        let producer = settings
            .kafka
            .client(&[("enable.idempotence", "true"), ("acks", "all"), ("linger.ms", "5")])
            .create()
            .map_err(|error| Failure::new(Exit::Unavailable, error.to_string()))?;
        let reader = KafkaReader::connect(&settings.kafka, "blotter-demo-reader", ADMIN_TIMEOUT)?;
        let daemon = command.spawn()?;
        Ok(Self { settings, command, source, producer, reader, daemon })
    }
}

impl World for KafkaWorld {
    fn describe(&self) -> String {
        format!(
            "Kafka at {} and `blotter run` as process {}",
            self.settings.kafka.brokers,
            self.daemon.0.id()
        )
    }

    fn produce(&mut self, partition: i32, key: Option<&str>, value: &str) -> Result<(), Failure> {
        let mut record: BaseRecord<'_, str, str> =
            BaseRecord::to(&self.source).partition(partition).payload(value);
        if let Some(key) = key {
            record = record.key(key);
        }
        self.producer
            .send(record)
            .map_err(|(error, _)| Failure::new(Exit::Unavailable, error.to_string()))
    }

    fn kill(&mut self) -> Result<&'static str, Failure> {
        self.daemon = {
            self.daemon.0.kill().map_err(|error| Failure::io("kill -9", &error))?;
            self.daemon.0.wait().map_err(|error| Failure::io("wait", &error))?;
            self.command.spawn()?
        };
        Ok("the daemon was killed with -9 and started again")
    }

    fn reader(&mut self) -> &mut dyn TopicReader {
        // What was produced counts as there once the brokers have it.
        let _late = self.producer.flush(Duration::from_secs(10));
        &mut self.reader
    }

    fn metrics(&mut self) -> Result<String, Failure> {
        let Some(address) = self.settings.http else { return Ok(String::new()) };
        let ask = || {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
            stream.write_all(
                b"GET /metrics HTTP/1.1\r\nHost: blotter\r\nConnection: close\r\n\r\n",
            )?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        };
        // A daemon that is just starting has nothing to say yet.
        Ok(ask().unwrap_or_default())
    }

    fn metrics_url(&self) -> String {
        self.settings.http.map_or(String::new(), |at| format!("http://{at}/metrics"))
    }

    fn stop(&mut self) -> Result<(), Failure> {
        let id = self.daemon.0.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status();
        asked.map_err(|error| Failure::io("kill", &error))?;
        let status = self.daemon.0.wait().map_err(|error| Failure::io("wait", &error))?;
        if status.success() {
            Ok(())
        } else {
            Err(Failure::new(
                Exit::Software,
                format!("the daemon ended with {status}; see {LOG_FILE}"),
            ))
        }
    }
}

impl DaemonCommand {
    fn spawn(&self) -> Result<Daemon, Failure> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: std::io::Error| Failure::io(&what, &error)
        };
        let path = self.out.join(LOG_FILE);
        let log = File::options().create(true).append(true).open(&path);
        let log = log.map_err(failed(&path.display().to_string()))?;
        let mut command = self.command().map_err(failed("own program"))?;
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(Daemon(command.spawn().map_err(failed("blotter run"))?))
    }

    fn command(&self) -> std::io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("run");
        for file in &self.files {
            command.arg("--config").arg(file);
        }
        for one in &self.overrides {
            command.arg("--set").arg(one);
        }
        for (name, _) in crate::settings::environment() {
            if name.starts_with("BLOTTER__") && !is_inherited(&name) {
                command.env_remove(name);
            }
        }
        Ok(command)
    }
}

fn source_of(settings: &Settings) -> Arc<str> {
    Arc::clone(settings.input.topics.first().expect("the demo's settings name one topic"))
}

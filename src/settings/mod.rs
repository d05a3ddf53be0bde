//! From what was written to what runs: [`raw`] mirrors the files, [`load`] merges the layers and
//! keeps each value's place, [`Settings`] is checked and ready.

mod check;
pub mod load;
pub mod raw;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::daemon::broker::TopicPattern;
use crate::daemon::broker::kafka::KafkaConfig;
use crate::daemon::shard::FaultPlace;
use crate::daemon::telemetry::LogFormat;
use crate::pipeline::alert::Rules;
use crate::pipeline::audit::{Deployment, RestartFrom};
use crate::pipeline::emit::TopicNames;
use crate::pipeline::ingest::IngestRules;
use crate::pipeline::record::{TenantId, Timestamp, TopicPartition};
use crate::pipeline::redact::Policy;

use load::{Loaded, SettingsError};

/// Settings that have passed every check that needs no broker.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How to reach Kafka.
    pub kafka: KafkaConfig,
    /// What to read.
    pub input: Input,
    /// Where everything goes.
    pub names: Arc<TopicNames>,
    /// How topics are made.
    pub topics: Topics,
    /// Groups and ids.
    pub group: Group,
    /// Shards, transactions, memory.
    pub run: Run,
    /// How fields are found.
    pub ingest: IngestRules,
    /// What is redacted.
    pub policy: Arc<Policy>,
    /// Share of output records that the leak sentinel looks at, in thousandths.
    pub sentinel_per_mille: u16,
    /// Tenants with planted values.
    pub canaries: Vec<TenantId>,
    /// Name of the deployment.
    pub deployment: Deployment,
    /// The audit trail, when it is on.
    pub audit: Option<Audit>,
    /// What stopped partitions may do.
    pub repairs: Repairs,
    /// Measures, when they are on.
    pub measure: Option<Measure>,
    /// The rules, when alerts are on.
    pub alert: Option<Rules>,
    /// Keys and certificates.
    pub keys: Keys,
    /// Address of the HTTP endpoint, when it is on.
    pub http: Option<SocketAddr>,
    /// The own log.
    pub log: Log,
    /// A named point at which the loop waits for ever: tests kill the process there.
    pub fault: Option<Fault>,
}

/// What to read.
#[derive(Clone, Debug)]
pub struct Input {
    /// Topics by name.
    pub topics: Vec<Arc<str>>,
    /// Topics by pattern.
    pub patterns: Vec<TopicPattern>,
    /// Where a partition without a committed offset starts.
    pub start: StartPosition,
}

/// Where a partition without a committed offset starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartPosition {
    /// At the oldest record kept.
    Earliest,
    /// At the end.
    Latest,
    /// At the first record at or after a time.
    Time(Timestamp),
}

/// How topics are made.
#[derive(Clone, Copy, Debug)]
pub struct Topics {
    /// Missing topics are made at start.
    pub create: bool,
    /// Replicas; `None` is the brokers' default.
    pub replication: Option<u16>,
    /// `min.insync.replicas`; `None` is the brokers' default.
    pub min_insync_replicas: Option<u16>,
    /// Partitions of measures and state.
    pub measures_partitions: u16,
    /// Partitions of alerts and dead letters.
    pub alerts_partitions: u16,
}

/// Groups and ids.
#[derive(Clone, Debug)]
pub struct Group {
    /// Prefix of groups and transactional ids.
    pub id: String,
    /// Stable name of this instance.
    pub instance: Option<String>,
    /// Session time-out.
    pub session_timeout: Duration,
}

/// Shards, transactions, memory.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// SCRUB shards.
    pub shards: u16,
    /// WATCH shards.
    pub watch_shards: u16,
    /// A transaction ends after this time at the latest.
    pub commit_interval: Duration,
    /// A transaction ends after this many bytes of outputs at the latest.
    pub commit_bytes: usize,
    /// Bytes prefetched per shard.
    pub prefetch_bytes: usize,
    /// Bytes queued for sending per shard.
    pub send_queue_bytes: usize,
    /// Life time of a transaction at the broker.
    pub transaction_timeout: Duration,
    /// Time for a clean stop.
    pub shutdown_timeout: Duration,
}

/// The audit trail.
#[derive(Clone, Debug)]
pub struct Audit {
    /// A seal is written after this time though nothing was read.
    pub heartbeat: Duration,
    /// An entry for every record something was redacted in.
    pub receipts: bool,
}

/// What an operator lets stopped partitions do, with or without an audit trail.
#[derive(Clone, Debug)]
pub struct Repairs {
    /// Partitions whose committed offset a tool has set and an operator takes over.
    pub adopt: Vec<TopicPartition>,
    /// Partitions that go on with a new chain where they would stop, and from where.
    pub restart: BTreeMap<TopicPartition, RestartFrom>,
}

/// Measures.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// Window of the error ratio, a multiple of 10 s.
    pub error_window_ms: i64,
    /// Window of the handover ratio, a multiple of 10 s.
    pub handover_window_ms: i64,
}

/// Keys and certificates.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Folder of keyring, instance key and certificates.
    pub folder: PathBuf,
    /// The key-encryption key; `None` is a file in the folder.
    pub encryption_key: Option<raw::Secret>,
}

/// The own log.
#[derive(Clone, Debug)]
pub struct Log {
    /// JSON or pretty.
    pub format: LogFormat,
    /// Filter.
    pub filter: String,
}

/// See `[debug]` in `config/default.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The place.
    pub place: FaultPlace,
    /// File made when it is reached; the loop goes on when it is removed.
    pub marker: PathBuf,
}

impl Settings {
    /// Checks merged settings.
    ///
    /// # Errors
    /// The first value that can't run, with its place and what would be right.
    pub fn new(loaded: &Loaded) -> Result<Self, SettingsError> {
        check::settings(loaded)
    }
}

/// The process's environment, for [`load::Sources`]; names and values that are not UTF-8 can't be
/// settings and are left out.
#[must_use]
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

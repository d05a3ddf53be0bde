//! Settings as they are written: a mirror of the file, nothing computed. Unknown keys are refused.
//! The complete, commented set with every default is `config/default.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::pipeline::alert::RawRule;
use crate::pipeline::ingest::RawIngestRules;
use crate::pipeline::redact::RawPolicy;

/// Everything a settings file may hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawSettings {
    /// How to reach Kafka.
    pub kafka: RawKafka,
    /// What to read.
    pub input: RawInput,
    /// What to write, and where.
    pub output: RawOutput,
    /// How topics are made.
    pub topics: RawTopics,
    /// The consumer groups.
    pub group: RawGroup,
    /// Shards, transactions and memory.
    pub run: RawRun,
    /// How fields are found in records.
    pub ingest: RawIngestRules,
    /// What is redacted, and how.
    pub redact: RawPolicy,
    /// The second look at what leaves.
    pub sentinel: RawSentinel,
    /// The audit trail.
    pub audit: RawAudit,
    /// Measures.
    pub measure: RawMeasure,
    /// Alerts.
    pub alert: RawAlert,
    /// Keys and certificates.
    pub keys: RawKeys,
    /// The HTTP endpoint.
    pub http: RawHttp,
    /// The daemon's own log.
    pub log: RawLog,
    /// Aids for tests of the product itself.
    pub debug: RawDebug,
}

/// `[kafka]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawKafka {
    /// `host:port` of one or more brokers.
    pub brokers: Vec<String>,
    /// `plaintext`, `tls`, `sasl_plaintext` or `sasl_tls`.
    pub security: String,
    /// Allows passwords over an unencrypted connection.
    pub allow_plaintext_password: bool,
    /// Name shown in the brokers' logs.
    pub client_id: String,
    /// TLS.
    pub tls: RawTls,
    /// SASL.
    pub sasl: RawSasl,
    /// Any further librdkafka property.
    pub properties: BTreeMap<String, String>,
}

/// `[kafka.tls]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTls {
    /// Certificate authorities (PEM).
    pub ca_file: String,
    /// Client certificate (PEM).
    pub certificate_file: String,
    /// Client key (PEM).
    pub key_file: String,
    /// Password of the client key.
    pub key_password: Secret,
    /// File that holds the password of the client key.
    pub key_password_file: String,
}

/// `[kafka.sasl]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawSasl {
    /// `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`.
    pub mechanism: String,
    /// User name.
    pub username: String,
    /// Password.
    pub password: Secret,
    /// File that holds the password.
    pub password_file: String,
    /// URL that gives out tokens (`OAUTHBEARER`).
    pub token_endpoint: String,
    /// Client id for the token endpoint.
    pub client_id: String,
    /// Client secret for the token endpoint.
    pub client_secret: Secret,
    /// File that holds the client secret.
    pub client_secret_file: String,
    /// Scope to ask for.
    pub scope: String,
}

/// `[input]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawInput {
    /// Topics by name.
    pub topics: Vec<String>,
    /// Topics by regular expression, matched against the whole name.
    pub patterns: Vec<String>,
    /// Where a partition without a committed offset starts: `earliest`, `latest` or RFC 3339.
    pub start: String,
}

/// `[output]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawOutput {
    /// Template of the redacted topic; `{topic}` is the source topic.
    pub redacted: String,
    /// Template of the audit topic.
    pub audit: String,
    /// Topic of measures.
    pub measures: String,
    /// Topic of dead letters.
    pub dead_letters: String,
    /// Topic of alerts.
    pub alerts: String,
    /// Topic of WATCH's state.
    pub watch_state: String,
}

/// `[topics]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTopics {
    /// Makes missing topics at start.
    pub create: bool,
    /// Replicas of each partition; 0 is the brokers' default.
    pub replication: u16,
    /// `min.insync.replicas` of every topic; 0 is the brokers' default.
    pub min_insync_replicas: u16,
    /// Partitions of the measures and state topics; frozen when they are made.
    pub measures_partitions: u16,
    /// Partitions of the alerts and dead-letter topics.
    pub alerts_partitions: u16,
}

/// `[group]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawGroup {
    /// Prefix of the consumer groups and transactional ids.
    pub id: String,
    /// Stable name of this instance (`group.instance.id`); empty where instances come and go.
    pub instance: String,
    /// Session time-out.
    pub session_timeout_ms: u32,
}

/// `[run]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawRun {
    /// SCRUB shards (threads); 0 is one per core.
    pub shards: u16,
    /// WATCH shards.
    pub watch_shards: u16,
    /// A transaction is committed after this time at the latest.
    pub commit_interval_ms: u32,
    /// A transaction is committed after this many bytes of outputs at the latest.
    pub commit_bytes: u64,
    /// Bytes prefetched per shard.
    pub prefetch_bytes: u64,
    /// Bytes queued for sending per shard.
    pub send_queue_bytes: u64,
    /// Life time of a transaction at the broker.
    pub transaction_timeout_ms: u32,
    /// Time for a clean stop.
    pub shutdown_timeout_ms: u32,
    /// Compression of everything written: `none`, `lz4`, `zstd`, `snappy` or `gzip`.
    pub compression: String,
}

/// `[sentinel]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawSentinel {
    /// Share of output records that an independent detector looks at, in thousandths.
    pub per_mille: u16,
    /// Tenants with a canary: planted values whose survival is a leak.
    pub canaries: Vec<String>,
}

/// `[audit]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawAudit {
    /// Writes the audit trail.
    pub enabled: bool,
    /// Name of the deployment, part of every chain's origin.
    pub deployment: String,
    /// A seal is written after this time though nothing was read.
    pub heartbeat_ms: u32,
    /// Seals at most this often while records flow; the transaction before it carries its own.
    pub receipts: bool,
    /// Topics whose partition state is taken over though the committed offset has no metadata.
    pub adopt: Vec<String>,
    /// Partitions that stopped and go on with a new chain, each with the source offset to read from
    /// (`:again` behind it: also below the end of what is redacted).
    pub restart: Vec<String>,
}

/// `[measure]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawMeasure {
    /// Sends measures.
    pub enabled: bool,
    /// Window of the error ratio on /metrics.
    pub error_window_ms: u32,
    /// Window of the handover ratio on /metrics.
    pub handover_window_ms: u32,
}

/// `[alert]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawAlert {
    /// Evaluates rules and writes alerts.
    pub enabled: bool,
    /// Uses the built-in rules beside the written ones.
    pub default_rules: bool,
    /// Rules.
    pub rules: Vec<RawRule>,
}

/// `[keys]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawKeys {
    /// Folder of keyring, instance key and certificates; made (0700) when missing.
    pub folder: String,
    /// Key-encryption key as 64 hex digits.
    pub encryption_key: Secret,
    /// File that holds the key-encryption key.
    pub encryption_key_file: String,
}

/// `[http]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawHttp {
    /// Answers /metrics, /livez, /readyz.
    pub enabled: bool,
    /// Address and port.
    pub listen: String,
}

/// `[log]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLog {
    /// `auto` (pretty on a terminal), `json` or `pretty`.
    pub format: String,
    /// Filter such as `info` or `blotter=debug,rdkafka=warn`.
    pub filter: String,
}

/// `[debug]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawDebug {
    /// `stage:point` or `stage:point:nth`: the passage at which the shard waits (tests kill the
    /// process there).
    pub fault_point: String,
    /// File made when the point is reached.
    pub fault_marker: String,
}

/// A secret as written: prints as `***`.
#[derive(Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(if self.0.is_empty() { "\"\"" } else { "\"***\"" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::load::DEFAULTS;

    /// The defaults with every line that is commented out in force.
    fn written_out() -> String {
        let in_force = |line: &str| {
            let setting = line.strip_prefix("# ").filter(|rest| {
                let key = rest.split_once(" = ").map_or("", |(key, _)| key);
                let bare = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
                rest.starts_with('[')
                    || (!key.is_empty() && key.trim_matches('"').bytes().all(bare))
            });
            setting.unwrap_or(line).to_owned() + "\n"
        };
        DEFAULTS.lines().map(in_force).collect()
    }

    /// The keys that a table may hold, as serde names them when it refuses another.
    fn known_keys(header: &str) -> Vec<String> {
        let error = toml::from_str::<RawSettings>(&format!("{header}\nno_such_key = 1\n"));
        let error = error.unwrap_err();
        let list = error.message().split_once("expected ").expect("the error lists the keys").1;
        list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    /// What stands at `path` (the first entry, where it is a list).
    fn at<'t>(table: &'t toml::Table, path: &str) -> &'t toml::Table {
        path.split('.').filter(|key| !key.is_empty()).fold(table, |table, key| {
            let value = table.get(key).unwrap_or_else(|| panic!("no [{path}]"));
            let one = value.as_array().map_or(value, |entries| &entries[0]);
            one.as_table().unwrap_or_else(|| panic!("{path} is no table"))
        })
    }

    #[test]
    fn the_defaults_name_every_key() {
        let text = written_out();
        toml::from_str::<RawSettings>(&text).unwrap();
        let table: toml::Table = toml::from_str(&text).unwrap();
        let top = known_keys("");
        let inner = [
            "kafka.tls",
            "kafka.sasl",
            "ingest.fields",
            "ingest.tenant",
            "redact.fields",
            "redact.allow",
            "redact.actions",
            "redact.caps",
            "alert.rules",
            "redact.patterns",
            "alert.rules.ratio",
        ];
        let tables = top.iter().map(String::as_str).chain(inner).chain([""]);
        for path in tables {
            let header = match path {
                "" => String::new(),
                "alert.rules" | "redact.patterns" => format!("[[{path}]]"),
                "alert.rules.ratio" => "[[alert.rules]]\n[alert.rules.ratio]".to_owned(),
                _ => format!("[{path}]"),
            };
            for key in known_keys(&header) {
                let named = at(&table, path).contains_key(&key);
                assert!(named, "config/default.toml does not name {path}.{key}");
            }
        }
    }

    #[test]
    fn a_secret_never_prints() {
        let secret = Secret::from("hunter2".to_owned());
        assert_eq!(format!("{secret:?}"), "\"***\"");
    }
}

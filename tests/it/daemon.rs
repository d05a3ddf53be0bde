//! A whole daemon on the embedded broker, in the test's process: what a pipe can't show (null keys and
//! values, headers, record timestamps, several partitions).

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use blotter::daemon::broker::embedded::{
    Body, Cluster, ClusterConfig, EmbeddedConnector, Isolation, StoredRecord, TopicConfig,
    Undisturbed,
};
use blotter::daemon::clock::{Clock, SystemClock};
use blotter::daemon::keys::open_or_create;
use blotter::daemon::metrics::{Exposition, Metrics};
use blotter::daemon::policy::PolicyCell;
use blotter::daemon::service::{RegistrySink, Service, StartFacts};
use blotter::daemon::shard::{NoFaults, Stop, StopLevel};
use blotter::daemon::supervisor::{End, Supervisor};
use blotter::pipeline::audit::{PublicKey, Report, Start, Trust, Verifier};
use blotter::pipeline::limits::PRODUCED_RECORD_BYTES_MAX;
use blotter::pipeline::record::{Timestamp, TopicPartition};
use blotter::settings::Settings;
use blotter::settings::load::{Sources, load};

/// Name of the source topic.
pub(crate) const SOURCE: &str = "app.logs";

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Daemon {
    pub(crate) cluster: Cluster,
    pub(crate) policy: PolicyCell,
    metrics: Arc<Metrics>,
    settings: Arc<Settings>,
    deployment_key: PublicKey,
    stop: Stop,
    supervisor: JoinHandle<End>,
    clock: SystemClock,
}

/// What outlives a daemon: brokers and keys.
pub(crate) struct Site {
    pub(crate) cluster: Cluster,
    folder: tempfile::TempDir,
    partitions: i32,
}

impl Site {
    /// Empty topics, `partitions` of the source.
    pub(crate) fn new(partitions: i32) -> Self {
        let cluster = Cluster::new(Arc::new(SystemClock::new()), ClusterConfig::default());
        let site = Self { cluster, folder: tempfile::tempdir().unwrap(), partitions };
        make_topics(&site.cluster, &site.settings(&[]), partitions);
        site
    }

    /// Every key is gone; the next start makes others.
    pub(crate) fn lose_keys(&self) {
        std::fs::remove_dir_all(self.keys_folder()).unwrap();
    }

    pub(crate) fn keys_folder(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    fn settings(&self, changes: &[&str]) -> Settings {
        let mut overrides: Vec<String> = changes.iter().map(|&one| one.to_owned()).collect();
        overrides.extend([
            format!("input.topics={SOURCE}"),
            format!("keys.folder={}", self.keys_folder().display()),
            "topics.measures_partitions=2".to_owned(),
        ]);
        let loaded = load(&Sources { overrides, ..Sources::default() }).unwrap();
        Settings::new(&loaded).unwrap()
    }
}

impl Daemon {
    /// Starts one on `site` with these settings over the defaults.
    pub(crate) fn start(site: &Site, changes: &[&str]) -> Self {
        let (clock, cluster) = (SystemClock::new(), site.cluster.clone());
        let settings = Arc::new(site.settings(changes));
        let keys = open_or_create(&settings.keys.folder, None, &settings.deployment).unwrap();
        let deployment_key = keys.deployment_key;
        let facts = StartFacts {
            first_read: [(Arc::from(SOURCE), site.partitions)].into(),
            measures_partitions: 2,
            record_bytes_max: PRODUCED_RECORD_BYTES_MAX,
        };
        let instance = "it".to_owned();
        let service = Service::new(Arc::clone(&settings), Arc::new(keys), facts, instance).unwrap();
        let (metrics, stop) = (Arc::new(Metrics::new()), Stop::default());
        let connector = EmbeddedConnector::conducted(cluster.clone(), Arc::new(Undisturbed));
        let sink = RegistrySink { metrics: Arc::clone(&metrics), clock };
        let mut supervisor = Supervisor::new(
            Arc::new(connector),
            clock,
            Arc::new(sink),
            Arc::new(NoFaults),
            stop.clone(),
        );
        drop(service.spawn(&mut supervisor, clock, stop.clone()).unwrap());
        let supervisor = thread::spawn(move || supervisor.wait(Duration::from_secs(10)));
        let policy = service.policy().clone();
        Self { cluster, policy, metrics, settings, deployment_key, stop, supervisor, clock }
    }

    /// Writes a source record as of now.
    pub(crate) fn feed(&self, partition: i32, value: &[u8]) {
        self.produce(partition, self.clock.now(), Body::new(None, Some(value)));
    }

    pub(crate) fn produce(&self, partition: i32, timestamp: Timestamp, body: Body) {
        let source = TopicPartition::new(SOURCE, partition);
        self.cluster.produce(&source, Some(timestamp), body).unwrap();
    }

    /// The first `count` redacted records of a partition, once they are there.
    pub(crate) fn redacted(&self, partition: i32, count: usize) -> Vec<StoredRecord> {
        self.await_records(&self.settings.names.redacted.topic(SOURCE), partition, count)
    }

    /// Everything committed in a partition of one of the daemon's topics, `count` records at least.
    pub(crate) fn await_records(
        &self,
        topic: &str,
        partition: i32,
        count: usize,
    ) -> Vec<StoredRecord> {
        let of = TopicPartition::new(topic, partition);
        let deadline = self.clock.monotonic() + PATIENCE;
        loop {
            let seen = self.cluster.version();
            let (records, _) = self.cluster.read(&of, Isolation::ReadCommitted, 0).unwrap();
            if records.len() >= count {
                return records;
            }
            assert!(self.clock.monotonic() < deadline, "{of}: {} of {count}", records.len());
            self.cluster.wait(seen, self.clock.now().plus_millis(50));
        }
    }

    /// The text of /metrics, once `is_there` likes it.
    pub(crate) fn metrics(&self, is_there: impl Fn(&str) -> bool) -> String {
        let deadline = self.clock.monotonic() + PATIENCE;
        loop {
            let text = self.metrics.render(Exposition::Text);
            if is_there(&text) {
                return text;
            }
            assert!(self.clock.monotonic() < deadline, "{text}");
            let seen = self.cluster.version();
            self.cluster.wait(seen, self.clock.now().plus_millis(50));
        }
    }

    /// The key that certifies the writers of audit entries.
    pub(crate) fn deployment_key(&self) -> String {
        self.deployment_key.to_string()
    }

    /// The entries of a partition's chain as they are stored.
    pub(crate) fn stored_audit(&self, partition: i32) -> Vec<StoredRecord> {
        let topic = self.settings.names.audit.topic(SOURCE);
        let of = TopicPartition::new(topic.as_str(), partition);
        self.cluster.read(&of, Isolation::ReadCommitted, 0).unwrap().0
    }

    /// The entries of a partition's chain, verified.
    pub(crate) fn audit(&self, partition: i32) -> (Vec<serde_json::Value>, Report) {
        let trust = Trust {
            deployment: self.settings.deployment.clone(),
            source: TopicPartition::new(SOURCE, partition),
            deployment_key: self.deployment_key,
        };
        let mut verifier = Verifier::new(trust, Start::Genesis);
        let mut entries = Vec::new();
        for record in self.stored_audit(partition) {
            let value = record.body.value.unwrap();
            verifier.push(record.offset, &value).unwrap();
            entries.push(serde_json::from_slice(&value).unwrap());
        }
        (entries, verifier.finish().unwrap())
    }

    /// Everything the daemon has written so far, every topic and /metrics.
    pub(crate) fn everything(&self) -> String {
        let mut all = self.metrics.render(Exposition::Text);
        for (topic, config) in self.cluster.topics() {
            if &*topic == SOURCE {
                continue;
            }
            for partition in 0..config.partitions {
                let of = TopicPartition::new(Arc::clone(&topic), partition);
                let (records, _) = self.cluster.read(&of, Isolation::ReadUncommitted, 0).unwrap();
                for StoredRecord { body, .. } in records {
                    let headers = body
                        .headers
                        .iter()
                        .flat_map(|(name, value)| [Some(name.as_bytes()), value.as_deref()]);
                    let parts = [body.key.as_deref(), body.value.as_deref()];
                    for part in parts.into_iter().chain(headers).flatten() {
                        all.push_str(&String::from_utf8_lossy(part));
                        all.push('\n');
                    }
                }
            }
        }
        all
    }

    /// Commits what is open and ends.
    pub(crate) fn stop(&self) {
        self.stop.request(StopLevel::Drain);
    }

    /// How it ends by itself.
    pub(crate) fn ended(self) -> End {
        self.supervisor.join().unwrap()
    }

    /// Stops and waits for the end.
    pub(crate) fn end(self) {
        self.stop();
        assert_eq!(self.supervisor.join().unwrap(), End::Stopped);
    }
}

fn make_topics(cluster: &Cluster, settings: &Settings, partitions: i32) {
    let large = |partitions| TopicConfig {
        message_bytes_max: PRODUCED_RECORD_BYTES_MAX,
        timestamp_after_ms_max: i64::MAX,
        ..TopicConfig::new(partitions)
    };
    let names = &settings.names;
    let like_source = [SOURCE.to_owned(), names.redacted.topic(SOURCE), names.audit.topic(SOURCE)];
    for topic in &like_source {
        cluster.create_topic(topic, large(partitions)).unwrap();
    }
    cluster.create_topic(&names.measures, large(2).log_append_time()).unwrap();
    cluster.create_topic(&names.watch_state, large(2).compacted()).unwrap();
    cluster.create_topic(&names.alerts, large(1).compacted()).unwrap();
    cluster.create_topic(&names.dead_letters, large(1)).unwrap();
}

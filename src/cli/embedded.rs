//! The whole daemon on the embedded broker, in this process: for `pipe` and `demo`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::exit::{Exit, Failure};
use crate::daemon::broker::embedded::{
    Call, Cluster, ClusterConfig, Conductor, EmbeddedConnector, ModelError, TopicConfig, Verdict,
};
use crate::daemon::clock::SystemClock;
use crate::daemon::http;
use crate::daemon::keys::KeyMaterial;
use crate::daemon::metrics::Metrics;
use crate::daemon::policy::PolicyCell;
use crate::daemon::service::{RegistrySink, Service, StartFacts};
use crate::daemon::shard::{NoFaults, Stop, StopLevel};
use crate::daemon::supervisor::{End, Supervisor};
use crate::pipeline::limits::{PRODUCED_RECORD_BYTES_MAX, RECORD_BYTES_MAX};
use crate::settings::Settings;

/// A daemon that runs in this process.
pub(super) struct EmbeddedDaemon {
    /// The brokers in memory.
    pub(super) cluster: Cluster,
    /// What it measures.
    pub(super) metrics: Arc<Metrics>,
    /// Where /metrics answers, when it does.
    pub(super) address: Option<SocketAddr>,
    /// The redaction rules in force.
    pub(super) policy: PolicyCell,
    /// What signals are handled on.
    pub(super) runtime: tokio::runtime::Runtime,
    kill: Arc<KillSwitch>,
    stop: Stop,
    supervisor: JoinHandle<End>,
}

/// Ends the first SCRUB shard as abruptly as `kill -9` ends a process, when told to.
#[derive(Default)]
struct KillSwitch {
    armed: AtomicBool,
}

impl Conductor for KillSwitch {
    fn before(&self, call: &Call<'_>) -> Verdict {
        let in_transaction = call.operation == "commit" && call.slot.contains("-scrub-");
        if in_transaction && self.armed.swap(false, Ordering::AcqRel) {
            // Unwinding without the panic hook: this death is wanted.
            std::panic::resume_unwind(Box::new("killed by the demo"));
        }
        Verdict::Proceed
    }
}

impl EmbeddedDaemon {
    /// Makes the topics and starts every shard. `source_partitions` is the size of each source.
    pub(super) fn start(
        settings: Arc<Settings>,
        keys: KeyMaterial,
        source_partitions: i32,
        clock: SystemClock,
    ) -> Result<Self, Failure> {
        let cluster = Cluster::new(Arc::new(clock), ClusterConfig::default());
        make_topics(&cluster, &settings, source_partitions)
            .map_err(|error| Failure::new(Exit::Software, format!("embedded broker: {error}")))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| Failure::io("runtime", &error))?;
        let metrics = Arc::new(Metrics::new());
        let kill = Arc::new(KillSwitch::default());
        let stop = Stop::default();
        let facts = StartFacts {
            first_read: settings
                .input
                .topics
                .iter()
                .map(|t| (Arc::clone(t), source_partitions))
                .collect(),
            measures_partitions: settings.topics.measures_partitions.into(),
            record_bytes_max: PRODUCED_RECORD_BYTES_MAX,
        };
        let instance = settings.group.instance.clone().unwrap_or_else(|| "local".to_owned());
        let service = Service::new(Arc::clone(&settings), Arc::new(keys), facts, instance)
            .map_err(|error| Failure::new(Exit::Config, format!("redact: {error}")))?;
        let conductor: Arc<dyn Conductor> = Arc::<KillSwitch>::clone(&kill);
        let connector = EmbeddedConnector::conducted(cluster.clone(), conductor);
        let sink = Arc::new(RegistrySink { metrics: Arc::clone(&metrics), clock });
        let mut supervisor =
            Supervisor::new(Arc::new(connector), clock, sink, Arc::new(NoFaults), stop.clone());
        let probes = service
            .spawn(&mut supervisor, clock, stop.clone())
            .map_err(|error| Failure::io("shard thread", &error))?;
        let address = match settings.http {
            None => None,
            Some(address) => {
                let listener = runtime
                    .block_on(http::bind(address))
                    .map_err(|error| Failure::io(&format!("http.listen {address}"), &error))?;
                let bound = listener.local_addr().map_err(|error| Failure::io("http", &error))?;
                let served = Arc::clone(&metrics);
                runtime.spawn(http::serve(
                    listener,
                    served,
                    Arc::new(probes),
                    std::future::pending(),
                ));
                Some(bound)
            }
        };
        let grace = settings.run.shutdown_timeout;
        let supervisor = std::thread::spawn(move || supervisor.wait(grace));
        let policy = service.policy().clone();
        Ok(Self { cluster, metrics, address, policy, runtime, kill, stop, supervisor })
    }

    /// Kills a SCRUB shard at its next commit; its supervisor builds it anew.
    pub(super) fn kill_a_shard(&self) {
        self.kill.armed.store(true, Ordering::Release);
    }

    /// Whether the kill that was asked for has happened.
    pub(super) fn is_killed(&self) -> bool {
        !self.kill.armed.load(Ordering::Acquire)
    }

    /// Commits what is open and ends every shard.
    pub(super) fn stop(self) -> Result<Cluster, Failure> {
        self.stop.request(StopLevel::Drain);
        let end = self.supervisor.join();
        self.runtime.shutdown_timeout(Duration::from_millis(200));
        match end {
            Ok(End::Stopped) => Ok(self.cluster),
            other => {
                Err(Failure::new(Exit::Software, format!("the shards ended badly: {other:?}")))
            }
        }
    }
}

fn make_topics(
    cluster: &Cluster,
    settings: &Settings,
    source_partitions: i32,
) -> Result<(), ModelError> {
    let large = |partitions| TopicConfig {
        message_bytes_max: PRODUCED_RECORD_BYTES_MAX,
        timestamp_after_ms_max: i64::MAX,
        ..TopicConfig::new(partitions)
    };
    // A line over the limit of a record is seen whole by the redactor, which masks it.
    let sources =
        TopicConfig { message_bytes_max: 2 * RECORD_BYTES_MAX, ..large(source_partitions) };
    let names = &settings.names;
    for source in &settings.input.topics {
        cluster.create_topic(source, sources.clone())?;
        cluster.create_topic(&names.redacted.topic(source), large(source_partitions))?;
        cluster.create_topic(&names.audit.topic(source), large(source_partitions))?;
    }
    let measures = i32::from(settings.topics.measures_partitions);
    cluster.create_topic(&names.measures, large(measures).log_append_time())?;
    cluster.create_topic(&names.watch_state, large(measures).compacted())?;
    cluster.create_topic(&names.alerts, large(1).compacted())?;
    cluster.create_topic(&names.dead_letters, large(1))
}

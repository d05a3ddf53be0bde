//! `blotter run`: the daemon.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::runtime::Runtime;
use tokio::time::MissedTickBehavior;

use super::Common;
use super::exit::{Exit, Failure};
use super::reload::{HangUps, Reload};
use super::topics::{ADMIN_TIMEOUT, discover, rehearse, require_brokers};
use crate::daemon::broker::BrokerError;
use crate::daemon::broker::kafka::KafkaConnector;
use crate::daemon::clock::{Clock, SystemClock};
use crate::daemon::http;
use crate::daemon::keys::open_or_create;
use crate::daemon::metrics::Metrics;
use crate::daemon::reader::KafkaReader;
use crate::daemon::service::{RegistrySink, Service, StartFacts};
use crate::daemon::shard::{FaultHook, MarkerFile, NoFaults, Stop, StopLevel};
use crate::daemon::supervisor::{End, Supervisor, log_panics_without_content};
use crate::daemon::telemetry;
use crate::daemon::topics::{TopicAdmin, TopicPlan};
use crate::daemon::topology::Topology;
use crate::pipeline::emit::TopicRole;
use crate::pipeline::limits::{METRIC_EXPIRY_LOOK_MS, TOPICS_LOOK_MS};
use crate::pipeline::metric::Metric;
use crate::settings::{Fault, Settings};

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// host:port of the brokers, separated by commas
    #[arg(long, value_name = "LIST")]
    brokers: Option<String>,
    /// Topics to read, separated by commas
    #[arg(long, value_name = "LIST")]
    input: Option<String>,
    /// Make missing topics first
    #[arg(long)]
    create_topics: bool,
}

pub(super) fn run(common: &Common, arguments: RunArguments) -> Result<Exit, Failure> {
    let flags = arguments.flags();
    let loaded = common.load(flags.clone())?;
    let settings = Arc::new(Settings::new(&loaded)?);
    require(&settings)?;
    telemetry::start(settings.log.format, &settings.log.filter)
        .map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
    log_panics_without_content();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("blotter-http")
        .enable_all()
        .build()
        .map_err(|error| Failure::io("runtime", &error))?;
    let hang_ups = HangUps::listen(&runtime)?;
    let clock = SystemClock::new();
    let kek = settings.keys.encryption_key.as_ref().map(|secret| secret.reveal());
    let keys = open_or_create(&settings.keys.folder, kek, &settings.deployment)?;
    for path in &keys.created {
        tracing::info!(path = %path.display(), "made a key file");
    }
    if !settings.repairs.restart.is_empty() {
        tracing::warn!("audit.restart is set: remove it once the partitions named there go on");
    }
    let (facts, admin) = prepare_topics(&settings)?;
    if settings.topics.create {
        runtime.spawn(keep_topics(Arc::new(admin), Arc::clone(&settings)));
    }
    let instance = settings.group.instance.clone().unwrap_or_else(unique_instance);
    let service = Service::new(Arc::clone(&settings), Arc::new(keys), facts, instance)
        .map_err(|error| Failure::new(Exit::Config, format!("redact: {error}")))?;
    let reload = Reload::new(common.clone(), flags, loaded, service.policy().clone());
    let end = serve(&settings, &service, reload, (runtime, hang_ups), clock)?;
    Ok(match end {
        End::Stopped => Exit::Success,
        End::Stuck => {
            return Err(Failure::new(
                Exit::Software,
                "a shard did not stop in time; what was open is aborted by its next owner",
            ));
        }
        End::InstanceFenced { instance_id } => {
            let message =
                format!("a newer process holds the instance id `{instance_id}`: this one ends");
            return Err(Failure::new(Exit::Config, message));
        }
        End::Refused { detail } => return Err(Failure::new(Exit::Config, detail)),
    })
}

impl RunArguments {
    fn flags(self) -> Vec<(String, String)> {
        let mut flags = Vec::new();
        flags.extend(self.brokers.map(|brokers| ("kafka.brokers".to_owned(), brokers)));
        flags.extend(self.input.map(|topics| ("input.topics".to_owned(), topics)));
        if self.create_topics {
            flags.push(("topics.create".to_owned(), "true".to_owned()));
        }
        flags
    }
}

/// What `run` needs beyond valid settings.
fn require(settings: &Settings) -> Result<(), Failure> {
    require_brokers(settings)?;
    if settings.input.topics.is_empty() && settings.input.patterns.is_empty() {
        let message = "input.topics: is empty; name one in a file, or say --input TOPIC";
        return Err(Failure::new(Exit::Config, message));
    }
    rehearse(settings)
}

/// Makes missing topics when asked to, refuses to start without them, and looks what is there.
fn prepare_topics(settings: &Settings) -> Result<(StartFacts, TopicAdmin), Failure> {
    let (admin, topology) = discover(settings)?;
    if let Some(missing) = topology.missing_sources.first() {
        let message =
            format!("input.topics: `{missing}` does not exist at {}", settings.kafka.brokers);
        return Err(Failure::new(Exit::Config, message));
    }
    if settings.topics.create {
        provide(&admin, &topology.plans)?;
    }
    let differences = admin.check(&topology.plans)?;
    for difference in &differences {
        tracing::warn!(%difference, "topic differs from what is needed");
    }
    if let Some(difference) = differences.iter().find(|difference| difference.prevents_start) {
        let hint = if settings.topics.create { "" } else { " (or run with --create-topics)" };
        return Err(Failure::new(Exit::Config, format!("{difference}{hint}")));
    }
    let group = format!("{}-scrub", settings.group.id);
    let reader = KafkaReader::connect(&settings.kafka, &group, ADMIN_TIMEOUT)?;
    let facts = topology.start_facts(&admin, &reader, settings)?;
    Ok((facts, admin))
}

/// Makes the topics that are missing and the partitions that some have too few.
fn provide(admin: &TopicAdmin, plans: &[TopicPlan]) -> Result<(), BrokerError> {
    for topic in admin.create(plans)? {
        tracing::info!(topic, "made a topic");
    }
    for (topic, partitions) in admin.grow(plans)? {
        tracing::info!(topic, partitions, "gave a topic more partitions");
    }
    Ok(())
}

/// Gives sources that appear or grow while the daemon runs the topics that follow them. The others
/// are made at the start alone: the number of measures partitions is what the shards were told.
async fn keep_topics(admin: Arc<TopicAdmin>, settings: Arc<Settings>) {
    let mut looks = tokio::time::interval(Duration::from_millis(TOPICS_LOOK_MS));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = None;
    loop {
        looks.tick().await;
        let (admin, settings, before) = (Arc::clone(&admin), Arc::clone(&settings), seen.take());
        let look = move || -> Result<BTreeMap<String, i32>, BrokerError> {
            let listed = admin.list()?;
            if before.as_ref() != Some(&listed) {
                let mut plans = Topology::discover(&admin, &settings)?.plans;
                plans.retain(|p| matches!(p.role, TopicRole::Redacted | TopicRole::Audit));
                provide(&admin, &plans)?;
            }
            Ok(listed)
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok(listed)) => seen = Some(listed),
            Ok(Err(error)) => tracing::warn!(%error, "output topics can't be looked after now"),
            Err(error) => tracing::error!(%error, "looking after the output topics failed"),
        }
    }
}

fn serve(
    settings: &Settings,
    service: &Service,
    reload: Reload,
    (runtime, hang_ups): (Runtime, HangUps),
    clock: SystemClock,
) -> Result<End, Failure> {
    let metrics = Arc::new(Metrics::new());
    metrics.apply(
        &[Metric::BuildInfo.update(&[env!("CARGO_PKG_VERSION"), revision()], 1.0)],
        clock.now(),
    );
    let listener = match settings.http {
        Some(address) => {
            let bound = runtime.block_on(http::bind(address));
            Some(bound.map_err(|error| Failure::io(&format!("http.listen {address}"), &error))?)
        }
        None => None,
    };
    let stop = Stop::default();
    runtime.spawn(signals(stop.clone()));
    reload.on_hang_up(hang_ups, &runtime, Arc::clone(&metrics), clock);
    let sink = RegistrySink { metrics: Arc::clone(&metrics), clock };
    let connector = KafkaConnector::new(settings.kafka.clone())
        .map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
    let mut supervisor =
        Supervisor::new(Arc::new(connector), clock, Arc::new(sink), faults(settings), stop.clone());
    let probes = service
        .spawn(&mut supervisor, clock, stop)
        .map_err(|error| Failure::io("shard thread", &error))?;
    runtime.spawn(expire(Arc::clone(&metrics), clock));
    if let Some(listener) = listener {
        runtime.spawn(http::serve(listener, metrics, Arc::new(probes), std::future::pending()));
    }
    let end = supervisor.wait(settings.run.shutdown_timeout);
    runtime.shutdown_timeout(Duration::from_millis(200));
    Ok(end)
}

/// SIGTERM or SIGINT drains; the second one ends at once.
async fn signals(stop: Stop) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals can't be handled: only SIGKILL ends this process");
        return;
    };
    for level in [StopLevel::Drain, StopLevel::Now] {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!(?level, "asked to stop");
        stop.request(level);
    }
}

async fn expire(metrics: Arc<Metrics>, clock: SystemClock) {
    let mut ticks = tokio::time::interval(Duration::from_millis(METRIC_EXPIRY_LOOK_MS));
    loop {
        ticks.tick().await;
        metrics.expire(clock.now());
    }
}

fn faults(settings: &Settings) -> Arc<dyn FaultHook> {
    match &settings.fault {
        Some(Fault { place, marker }) => Arc::new(MarkerFile::new(place.clone(), marker.clone())),
        None => Arc::new(NoFaults),
    }
}

/// A name no other process has: the host may run many, so random bytes do it.
fn unique_instance() -> String {
    let mut bytes = [0; 6];
    crate::daemon::keys::random(&mut bytes);
    data_encoding::HEXLOWER.encode(&bytes)
}

fn revision() -> &'static str {
    option_env!("BLOTTER_REVISION").unwrap_or("unknown")
}

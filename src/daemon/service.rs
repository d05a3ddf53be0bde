//! From settings to running shards: the stages with everything they need, one slot per shard, and
//! what the probes see of them. Knows no client: it runs on any [`Connector`].

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::broker::{Connector, SlotConfig, Subscription, TopicPattern};
use super::clock::Clock;
use super::http::{Check, Probes};
use super::keys::KeyMaterial;
use super::metrics::Metrics;
use super::policy::{PolicyCell, PolicyInForce, PolicyRefresh};
use super::shard::{HealthCell, MetricSink, NoRefresh, ShardConfig, Stop, StopLevel};
use super::supervisor::{ShardPlan, Supervisor};
use crate::pipeline::audit::{
    InstanceName, PolicyTextError, RestartFrom, StartPosition as AuditStart,
};
use crate::pipeline::ingest::Ingest;
use crate::pipeline::limits::{
    LOOKUP_BYTES_MAX, POLL_BYTES_MAX, POLL_RECORDS_MAX, SHARD_TICK_AGE_MS_MAX,
    WATCH_COMMIT_INTERVAL_MS_MIN,
};
use crate::pipeline::metric::{Metric, MetricSeries, MetricUpdate};
use crate::pipeline::record::TopicPartition;
use crate::pipeline::redact::Redactor;
use crate::pipeline::redact::sentinel::Sampling;
use crate::pipeline::scrub::{
    AuditConfig, Canaries, MeasuresTarget, Restarts, Scrub, ScrubConfig, TopicStart,
};
use crate::pipeline::watch::{Watch, WatchConfig};
use crate::settings::{Measure, Settings, StartPosition};

/// A member that may join does within this: a rebalance waits for members that poll all the time.
const REJOIN_MAX: Duration = Duration::from_secs(60);

/// Kafka's coordinators end what is open for longer than `transaction_timeout`, looking every 10 s;
/// what is open for so much longer has been forgotten.
const HANGING_SLACK: Duration = Duration::from_secs(12);

/// What is known of the topics when the process starts.
#[derive(Clone, Debug, Default)]
pub struct StartFacts {
    /// Source topics with their partitions when the group first read them: those partitions start
    /// where the settings say, all others at earliest.
    pub first_read: BTreeMap<Arc<str>, i32>,
    /// Partitions of the measures topic, when measures are on.
    pub measures_partitions: i32,
    /// Largest record the redacted topics take.
    pub record_bytes_max: usize,
}

/// The shards of one process.
pub struct Service {
    settings: Arc<Settings>,
    keys: Arc<KeyMaterial>,
    facts: Arc<StartFacts>,
    instance: String,
    policy: PolicyCell,
    restarts: Arc<RestartsOnce>,
}

/// What the settings allow once for the whole process.
#[derive(Default)]
struct RestartsOnce(Mutex<BTreeMap<TopicPartition, RestartFrom>>);

impl Restarts for RestartsOnce {
    fn from(&self, source: &TopicPartition) -> Option<RestartFrom> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(source).copied()
    }

    fn committed(&self, source: &TopicPartition) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(source);
    }
}

/// The health of every shard, for the probes.
pub struct ShardProbes<C> {
    shards: Vec<(String, HealthCell)>,
    clock: C,
    stop: Stop,
}

impl Service {
    /// A service of `settings`. `instance` names this process in seals and ids: the stable name
    /// from the settings, else something unique.
    ///
    /// # Errors
    /// The policy is too long for an audit entry.
    pub fn new(
        settings: Arc<Settings>,
        keys: Arc<KeyMaterial>,
        facts: StartFacts,
        instance: String,
    ) -> Result<Self, PolicyTextError> {
        let policy = PolicyCell::new(Arc::clone(&settings.policy))?;
        let restarts = Arc::new(RestartsOnce(Mutex::new(settings.repairs.restart.clone())));
        Ok(Self { settings, keys, facts: Arc::new(facts), instance, policy, restarts })
    }

    /// The policy in force, for whoever reloads it.
    #[must_use]
    pub fn policy(&self) -> &PolicyCell {
        &self.policy
    }

    /// Starts every shard.
    ///
    /// # Errors
    /// A thread can't be started.
    pub fn spawn<K, C>(
        &self,
        supervisor: &mut Supervisor<K, C>,
        clock: C,
        stop: Stop,
    ) -> io::Result<ShardProbes<C>>
    where
        K: Connector + 'static,
        C: Clock + Clone + Send + 'static,
    {
        let mut shards = Vec::new();
        for index in 0..self.settings.run.shards {
            let plan = self.plan("scrub", index, scrub_subscription(&self.settings));
            shards.push((plan.config.shard.clone(), plan.health.clone()));
            let (settings, keys) = (Arc::clone(&self.settings), Arc::clone(&self.keys));
            let (facts, instance) =
                (Arc::clone(&self.facts), InstanceName::new(&plan.config.shard));
            let (cell, restarts) = (self.policy.clone(), Arc::clone(&self.restarts));
            supervisor.spawn(plan, move |_| {
                let refresh = PolicyRefresh::new(cell.clone(), Arc::clone(&keys.keyring));
                let restarts: Arc<dyn Restarts> = Arc::<RestartsOnce>::clone(&restarts);
                let stage = scrub(&settings, &keys, &facts, &instance, refresh.seen(), restarts);
                (stage, Box::new(refresh))
            })?;
        }
        if let Some(measure) = self.settings.measure {
            for index in 0..self.settings.run.watch_shards {
                let mut plan = self.plan("watch", index, self.watch_subscription());
                let interval = &mut plan.config.commit_interval;
                *interval = (*interval).max(Duration::from_millis(WATCH_COMMIT_INTERVAL_MS_MIN));
                // An alert waits for its transaction.
                plan.config.commit_growth_max = 1;
                shards.push((plan.config.shard.clone(), plan.health.clone()));
                let config = watch_config(&self.settings, measure);
                supervisor
                    .spawn(plan, move |_| (Watch::new(config.clone()), Box::new(NoRefresh)))?;
            }
        }
        Ok(ShardProbes { shards, clock, stop })
    }

    fn plan(&self, stage: &'static str, index: u16, subscription: Subscription) -> ShardPlan {
        let run = &self.settings.run;
        let shard = format!("{stage}-{}-{index}", self.instance);
        let slot = slot(&self.settings, stage, &shard, subscription);
        let mut config = ShardConfig::new(stage, shard, slot.transactional_id.clone());
        config.commit_interval = run.commit_interval;
        config.commit_bytes_max = run.commit_bytes;
        config.transaction_step_timeout = run.transaction_timeout.mul_f64(0.3);
        config.close_timeout = run.shutdown_timeout.mul_f64(0.5);
        config.outside_timeout = self.settings.group.session_timeout + REJOIN_MAX;
        config.restore.hanging_after = run.transaction_timeout + HANGING_SLACK;
        ShardPlan { slot, config, health: HealthCell::default() }
    }

    fn watch_subscription(&self) -> Subscription {
        Subscription {
            topics: vec![Arc::clone(&self.settings.names.measures)],
            patterns: Vec::new(),
            excluded: Vec::new(),
        }
    }
}

/// A slot like those of the redacting stage, for a rehearsal of its clients.
#[must_use]
pub fn sample_slot(settings: &Settings) -> SlotConfig {
    slot(settings, "scrub", "scrub-check", scrub_subscription(settings))
}

fn slot(settings: &Settings, stage: &str, shard: &str, subscription: Subscription) -> SlotConfig {
    let (run, group) = (&settings.run, &settings.group);
    let id = format!("{}-{shard}", group.id);
    SlotConfig {
        group: format!("{}-{stage}", group.id),
        instance_id: group.instance.as_ref().map(|_| id.clone()),
        transactional_id: id,
        subscription,
        written: written_topics(settings),
        poll_records_max: POLL_RECORDS_MAX,
        poll_bytes_max: POLL_BYTES_MAX,
        transaction_timeout: run.transaction_timeout,
        session_timeout: group.session_timeout,
        operation_timeout: Duration::from_secs(10),
        lookup_timeout: Duration::from_secs(5),
        lookup_bytes_max: LOOKUP_BYTES_MAX,
    }
}

/// Which topics the redacting stage reads.
#[must_use]
pub fn scrub_subscription(settings: &Settings) -> Subscription {
    Subscription {
        topics: settings.input.topics.clone(),
        patterns: settings.input.patterns.clone(),
        excluded: written_topics(settings),
    }
}

fn written_topics(settings: &Settings) -> Vec<TopicPattern> {
    let own = settings.names.own_patterns();
    let pattern = |own: &String| {
        TopicPattern::new(own).expect("own names and templates are made of topic characters")
    };
    own.iter().map(pattern).collect()
}

/// What WATCH is told under these settings.
#[must_use]
pub fn watch_config(settings: &Settings, measure: Measure) -> WatchConfig {
    let names = &settings.names;
    WatchConfig {
        measures_topic: Arc::clone(&names.measures),
        state_topic: Arc::clone(&names.watch_state),
        alerts_topic: settings.alert.as_ref().map(|_| Arc::clone(&names.alerts)),
        rules: settings.alert.clone().unwrap_or_default(),
        error_window_ms: measure.error_window_ms,
        handover_window_ms: measure.handover_window_ms,
    }
}

fn scrub(
    settings: &Settings,
    keys: &KeyMaterial,
    facts: &StartFacts,
    instance: &InstanceName,
    policy: &PolicyInForce,
    restart: Arc<dyn Restarts>,
) -> Scrub {
    let start = match settings.input.start {
        StartPosition::Earliest => AuditStart::Earliest,
        StartPosition::Latest => AuditStart::Latest,
        StartPosition::Time(time) => AuditStart::Time(time),
    };
    let starts = facts
        .first_read
        .iter()
        .map(|(topic, &partitions)| (Arc::clone(topic), TopicStart { start, partitions }))
        .collect();
    let audit = settings.audit.as_ref().map(|audit| AuditConfig {
        key: Arc::clone(&keys.instance_key),
        instance: instance.clone(),
        keyring: keys.keyring_id,
        policy: policy.audit.clone(),
        heartbeat_ms: i64::try_from(audit.heartbeat.as_millis()).unwrap_or(i64::MAX),
        receipts: audit.receipts,
    });
    let config = ScrubConfig {
        names: Arc::clone(&settings.names),
        record_bytes_max: facts.record_bytes_max,
        sentinel: Sampling::new(settings.sentinel_per_mille),
        canaries: Canaries::new(&keys.canary_seed(), &settings.canaries),
        deployment: settings.deployment.clone(),
        deployment_key: keys.deployment_key,
        keyring: keys.keyring_id,
        commitment_keys: keys.commitment_keys.clone(),
        instance_key: Arc::clone(&keys.instance_key),
        starts,
        adopt: settings.repairs.adopt.clone(),
        restart,
        audit,
        measures: settings.measure.map(|_| MeasuresTarget {
            topic: Arc::clone(&settings.names.measures),
            partitions: facts.measures_partitions,
        }),
    };
    let redactor =
        Redactor::new(Arc::clone(&policy.policy)).with_keyring(Arc::clone(&keys.keyring));
    Scrub::new(config, Ingest::new(settings.ingest.clone()), redactor)
}

impl<C: Clock + Send + Sync + 'static> Probes for ShardProbes<C> {
    fn live(&self) -> Vec<Check> {
        let now = self.clock.monotonic();
        let oldest = Duration::from_millis(SHARD_TICK_AGE_MS_MAX);
        let check = |(name, health): &(String, HealthCell)| {
            let age = now.saturating_sub(health.read().last_tick);
            Check {
                name: format!("shard {name}"),
                ok: age <= oldest,
                detail: format!("last turn {} ms ago", age.as_millis()),
            }
        };
        self.shards.iter().map(check).collect()
    }

    fn ready(&self) -> Vec<Check> {
        let draining = self.stop.level() != StopLevel::Run;
        let mut checks = vec![Check {
            name: "running".to_owned(),
            ok: !draining,
            detail: if draining { "stopping".to_owned() } else { "not stopping".to_owned() },
        }];
        for (name, health) in &self.shards {
            let health = health.read();
            let mut detail = format!(
                "{} partitions, {} restoring, {} stopped",
                health.assigned,
                health.restoring,
                health.stopped.len()
            );
            if let Some(failure) = health.last_failure.filter(|_| health.failures > 0) {
                detail.push_str(&format!("; {failure}"));
            }
            for (partition, stop) in &health.stopped {
                detail.push_str(&format!("; {partition}: {} ({})", stop.reason, stop.command));
            }
            let serves = health.assigned == 0 || health.stopped.len() < health.assigned;
            let ok = health.joined && health.restoring == 0 && health.failures == 0 && serves;
            checks.push(Check { name: format!("shard {name}"), ok, detail });
        }
        checks
    }
}

/// Publishes to the registry with the time of a clock.
pub struct RegistrySink<C> {
    /// The registry.
    pub metrics: Arc<Metrics>,
    /// The clock that dates the series.
    pub clock: C,
}

impl<C: Clock + Send + Sync> MetricSink for RegistrySink<C> {
    fn publish(&self, updates: Vec<MetricUpdate>) {
        let leaks = updates.iter().filter(|update| update.metric == Metric::LeaksFound);
        for leak in leaks {
            let kind = leak.labels.first().map_or("", |kind| &**kind);
            tracing::error!(kind, count = leak.value, "what must not leave has left");
        }
        self.metrics.apply(&updates, self.clock.now());
    }

    fn withdraw(&self, series: &[MetricSeries]) {
        self.metrics.withdraw(series);
    }
}

#[cfg(test)]
mod tests {
    use super::super::broker::embedded::VirtualClock;
    use super::super::shard::ShardHealth;
    use super::*;
    use crate::pipeline::step::PartitionStop;

    fn probes(health: ShardHealth) -> (ShardProbes<Arc<VirtualClock>>, HealthCell) {
        let cell = HealthCell::default();
        cell.update(|own| *own = health);
        let (clock, stop) = (Arc::new(VirtualClock::new()), Stop::default());
        (ShardProbes { shards: vec![("scrub-0".to_owned(), cell.clone())], clock, stop }, cell)
    }

    fn is_ok(checks: &[Check]) -> bool {
        checks.iter().all(|check| check.ok)
    }

    fn stopped(partition: i32) -> (TopicPartition, PartitionStop) {
        let stop = PartitionStop {
            reason: "head_absent",
            detail: "the head is gone".to_owned(),
            command: "blotter run --set audit.restart=logs/0@OFFSET".to_owned(),
        };
        (TopicPartition::new("logs", partition), stop)
    }

    #[test]
    fn a_restart_is_allowed_once_by_whichever_stage_used_it() {
        let (first, other) = (TopicPartition::new("logs", 0), TopicPartition::new("logs", 1));
        let from = |offset| RestartFrom { offset, again: false };
        let allowed = [(first.clone(), from(17)), (other.clone(), from(4))].into();
        let shared: Arc<dyn Restarts> = Arc::new(RestartsOnce(Mutex::new(allowed)));
        let rebuilt = Arc::clone(&shared);
        assert_eq!(shared.from(&first), Some(from(17)));
        shared.committed(&first);
        assert_eq!(rebuilt.from(&first), None);
        assert_eq!(rebuilt.from(&other), Some(from(4)));
    }

    #[test]
    fn a_process_lives_while_its_loops_turn() {
        let (probes, cell) = probes(ShardHealth::default());
        let limit = i64::try_from(SHARD_TICK_AGE_MS_MAX).unwrap();
        probes.clock.advance(limit);
        assert!(is_ok(&probes.live()));
        probes.clock.advance(1);
        assert_eq!(probes.live()[0].detail, "last turn 60001 ms ago");
        assert!(!is_ok(&probes.live()));
        let failing =
            ShardHealth { last_tick: probes.clock.monotonic(), failures: 9, ..cell.read() };
        cell.update(|own| *own = failing);
        assert!(is_ok(&probes.live()), "failures are no hang");
    }

    #[test]
    fn a_process_is_ready_while_it_serves_or_stands_by() {
        let ready = |health: ShardHealth| is_ok(&probes(health).0.ready());
        let well = ShardHealth { joined: true, assigned: 2, ..ShardHealth::default() };
        assert!(ready(well.clone()));
        assert!(ready(ShardHealth { assigned: 0, ..well.clone() }), "it stands by");
        assert!(ready(ShardHealth { stopped: vec![stopped(0)], ..well.clone() }), "it serves one");
        assert!(!ready(ShardHealth { stopped: vec![stopped(0), stopped(1)], ..well.clone() }));
        assert!(!ready(ShardHealth { joined: false, ..well.clone() }));
        assert!(!ready(ShardHealth { restoring: 1, ..well.clone() }));
        assert!(!ready(ShardHealth { failures: 1, ..well }));
    }

    #[test]
    fn not_ready_says_why_and_what_to_do() {
        let health = ShardHealth {
            joined: true,
            assigned: 1,
            stopped: vec![stopped(0)],
            ..ShardHealth::default()
        };
        let (probes, _) = probes(health);
        let detail = &probes.ready()[1].detail;
        assert!(
            detail.contains("logs/0: head_absent (blotter run --set audit.restart="),
            "{detail}"
        );
        probes.stop.request(StopLevel::Drain);
        assert_eq!(probes.ready()[0].detail, "stopping");
        assert!(!is_ok(&probes.ready()[..1]));
    }
}

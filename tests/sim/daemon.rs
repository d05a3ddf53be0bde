//! One simulated process: it connects, runs the real shard, and connects anew when that fails.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use blotter::daemon::broker::embedded::EmbeddedConnector;
use blotter::daemon::broker::{BrokerErrorKind, Connector, SlotConfig};
use blotter::daemon::shard::{
    HealthCell, MetricSink, Shard, ShardConfig, ShardError, ShardParts, Stop, StopLevel,
};
use blotter::pipeline::metric::{Metric, MetricUpdate};

use crate::faults::{DaemonConductor, Weather};
use crate::reloading::Simulated;
use crate::sabotage::{BreakState, Ends, Sabotage, SabotagedBroker, SabotagedStage};
use crate::world::{ActorId, World};

/// Pause before a failed shard is built anew.
const REBUILD_AFTER_MS: i64 = 200;

/// What all processes have published, as a metrics store that outlives them has it.
#[derive(Debug, Default)]
pub(crate) struct Published {
    records: AtomicI64,
    stopped: Mutex<BTreeSet<(String, String)>>,
}

impl Published {
    /// Sum of the records counted.
    pub(crate) fn records(&self) -> i64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Partitions that were ever reported as stopped, with the reason.
    pub(crate) fn stopped(&self) -> BTreeSet<(String, String)> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl MetricSink for Published {
    fn publish(&self, updates: Vec<MetricUpdate>) {
        for update in updates {
            match update.metric {
                Metric::LogRecords | Metric::RecordsRejected => {
                    let records = format!("{:.0}", update.value).parse().expect("whole numbers");
                    self.records.fetch_add(records, Ordering::Relaxed);
                }
                Metric::PartitionStopped if update.value > 0.0 => {
                    let partition = format!("{}/{}", update.labels[0], update.labels[1]);
                    let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
                    stopped.insert((partition, update.labels[2].to_string()));
                }
                _ => {}
            }
        }
    }
}

/// Makes a stage for a process.
pub(crate) type MakeStage = Arc<dyn Fn(&SlotConfig) -> Box<dyn Simulated> + Send + Sync>;

/// What a process is started with.
#[derive(Clone)]
pub(crate) struct Daemon {
    pub(crate) world: Arc<World>,
    pub(crate) weather: Arc<Weather>,
    pub(crate) stage: &'static str,
    pub(crate) slot: SlotConfig,
    pub(crate) make_stage: MakeStage,
    pub(crate) sink: Arc<Published>,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) audit: Arc<str>,
    pub(crate) ends: Ends,
    pub(crate) stop: Stop,
}

impl Daemon {
    /// Starts it as an actor.
    pub(crate) fn spawn(self) -> ActorId {
        let world = Arc::clone(&self.world);
        world.spawn(move |me| self.run(me))
    }

    fn run(&self, me: ActorId) {
        let conductor = Arc::new(DaemonConductor {
            world: Arc::clone(&self.world),
            weather: Arc::clone(&self.weather),
            me,
            member: AtomicU64::new(0),
        });
        let cluster = self.world.cluster.clone();
        let connector =
            EmbeddedConnector::conducted(cluster, Arc::<DaemonConductor>::clone(&conductor));
        while self.stop.level() == StopLevel::Run {
            let connected = connector.connect(&self.slot).map_err(ShardError::Broker);
            let ended = connected.and_then(|inner| {
                let parts = ShardParts {
                    broker: SabotagedBroker {
                        inner,
                        sabotage: self.sabotage,
                        cluster: self.world.cluster.clone(),
                        audit: Arc::clone(&self.audit),
                        ends: Arc::clone(&self.ends),
                        state: BreakState::default(),
                    },
                    stage: SabotagedStage {
                        inner: (self.make_stage)(&self.slot),
                        sabotage: self.sabotage,
                        sink: Arc::<Published>::clone(&self.sink),
                        taken: 0,
                        commits: 0,
                    },
                    clock: Arc::clone(&self.world.clock),
                    config: ShardConfig {
                        poll_records_max: self.slot.poll_records_max,
                        ..ShardConfig::new(
                            self.stage,
                            format!("{me}"),
                            self.slot.transactional_id.clone(),
                        )
                    },
                    metrics: Arc::<Published>::clone(&self.sink),
                    health: HealthCell::default(),
                    faults: Arc::<DaemonConductor>::clone(&conductor),
                };
                Shard::new(parts).run(&self.stop)
            });
            match ended {
                Ok(()) => return,
                Err(error) => {
                    self.world.note(format_args!("{me} ended: {error}"));
                    match error {
                        ShardError::Broker(error)
                            if error.kind != BrokerErrorKind::InstanceFenced => {}
                        ShardError::Broker(_) | ShardError::Refused { .. } => return,
                    }
                    self.world.sleep(me, REBUILD_AFTER_MS);
                }
            }
        }
    }
}

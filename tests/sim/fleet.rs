//! The processes of a run: started, stopped, doubled, and started again when they have died.

use std::sync::Arc;

use blotter::daemon::broker::SlotConfig;
use blotter::daemon::shard::{Stop, StopLevel};
use blotter::pipeline::record::Timestamp;

use crate::daemon::{Daemon, MakeStage, Published};
use crate::faults::Weather;
use crate::oracle::Broken;
use crate::plan::{Cast, Plan};
use crate::sabotage::{Ends, Sabotage};
use crate::stages::{self, AUDIT};
use crate::world::{ActorId, DRIVER, End, World};

/// Virtual time within which a process that is told to stop does so.
const STOP_MS_MAX: i64 = 300_000;

struct Slot {
    stage: &'static str,
    name: String,
    config: SlotConfig,
    make_stage: MakeStage,
    sabotage: Option<Sabotage>,
    incarnations: u32,
    stop: Stop,
    actor: Option<ActorId>,
    /// When a stopped or dead process comes back.
    back_at: Timestamp,
}

/// The processes of a run.
pub(crate) struct Fleet {
    world: Arc<World>,
    weather: Arc<Weather>,
    sink: Arc<Published>,
    ends: Ends,
    is_static: bool,
    slots: Vec<Slot>,
    /// Processes whose slot has a newer one, which may have died before it fenced them.
    doubled: Vec<(ActorId, Stop)>,
}

impl Fleet {
    pub(crate) fn new(
        world: &Arc<World>,
        weather: &Arc<Weather>,
        sink: &Arc<Published>,
        plan: &Plan,
        sabotage: Option<Sabotage>,
    ) -> Self {
        let measures = (plan.cast == Cast::Whole).then_some(plan.measures_partitions);
        let cast = plan.cast;
        let scrub: MakeStage = Arc::new(move |slot| match cast {
            Cast::Copier => stages::copier(),
            Cast::Scrub | Cast::Whole => stages::scrub(slot, measures),
        });
        let watch: MakeStage = Arc::new(|_| stages::watch());
        let slot = |stage, config: &SlotConfig, make_stage: &MakeStage, sabotage| Slot {
            stage,
            name: config.transactional_id.clone(),
            config: config.clone(),
            make_stage: Arc::clone(make_stage),
            sabotage,
            incarnations: 0,
            stop: Stop::default(),
            actor: None,
            back_at: Timestamp::EPOCH,
        };
        let scrubs = plan.scrub_slots.iter().map(|config| slot("scrub", config, &scrub, sabotage));
        let watches = plan.watch_slots.iter().map(|config| slot("watch", config, &watch, None));
        Self {
            world: Arc::clone(world),
            weather: Arc::clone(weather),
            sink: Arc::clone(sink),
            ends: Ends::default(),
            is_static: plan.is_static,
            slots: scrubs.chain(watches).collect(),
            doubled: Vec::new(),
        }
    }

    /// Starts what is to run and is not.
    pub(crate) fn tend(&mut self) -> Result<(), Broken> {
        let now = self.world.cluster.now();
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(index) else { continue };
            let ended = slot.actor.and_then(|actor| self.world.ended(actor));
            if let Some(End::Panicked(said)) = ended {
                return Err(format!("a shard died of a panic: {said}"));
            }
            if ended.is_some() {
                slot.actor = None;
                let away = self.world.random(|rng| *rng.pick(&[0, 100, 2_000, 20_000]));
                slot.back_at = now.plus_millis(away);
            }
            if slot.actor.is_none() && slot.back_at <= now {
                self.start(index);
            }
        }
        Ok(())
    }

    /// Tells one to stop politely; it comes back later.
    pub(crate) fn stop_one(&mut self) {
        let slot = self.any();
        let slot = &self.slots[slot];
        self.world.note(format_args!("stop {}", slot.config.transactional_id));
        slot.stop.request(StopLevel::Drain);
    }

    /// A second process with the same slot, while the first one may still run.
    /// Whether there is one: only where slots are stable.
    pub(crate) fn double_one(&mut self) -> bool {
        let index = self.any();
        if self.is_static {
            self.start(index);
        }
        self.is_static
    }

    /// The transactional id of one of them.
    pub(crate) fn any_id(&self) -> String {
        self.slots[self.any()].config.transactional_id.clone()
    }

    /// Stops all and waits until they have ended.
    pub(crate) fn stop_all(&mut self) -> Result<(), Broken> {
        let mut running = std::mem::take(&mut self.doubled);
        for slot in &mut self.slots {
            running.extend(slot.actor.take().map(|actor| (actor, slot.stop.clone())));
            slot.back_at = Timestamp::EPOCH;
        }
        for (_, stop) in &running {
            stop.request(StopLevel::Drain);
        }
        let until = self.world.cluster.now().plus_millis(STOP_MS_MAX);
        while running.iter().any(|(actor, _)| self.world.ended(*actor).is_none()) {
            if self.world.is_over() || self.world.cluster.now() >= until {
                return Err("a shard does not stop".to_owned());
            }
            self.world.sleep(DRIVER, 200);
        }
        Ok(())
    }

    fn start(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.incarnations += 1;
        let stop = std::mem::take(&mut slot.stop);
        self.doubled.extend(slot.actor.take().map(|actor| (actor, stop)));
        if !self.is_static {
            slot.config.transactional_id = format!("{}-{}", slot.name, slot.incarnations);
        }
        let daemon = Daemon {
            world: Arc::clone(&self.world),
            weather: Arc::clone(&self.weather),
            stage: slot.stage,
            slot: slot.config.clone(),
            make_stage: Arc::clone(&slot.make_stage),
            sink: Arc::clone(&self.sink),
            sabotage: slot.sabotage,
            audit: Arc::from(AUDIT),
            ends: Arc::clone(&self.ends),
            stop: slot.stop.clone(),
        };
        slot.actor = Some(daemon.spawn());
        self.world.note(format_args!("start {}: {:?}", slot.config.transactional_id, slot.actor));
    }

    fn any(&self) -> usize {
        let count = u64::try_from(self.slots.len()).expect("few");
        usize::try_from(self.world.random(|rng| rng.below(count))).expect("few")
    }
}

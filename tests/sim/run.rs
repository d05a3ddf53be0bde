//! One run: a deployment, a storm, a calm, perhaps an operator's mistake, and the verdict.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use blotter::daemon::broker::embedded::{Body, ClusterConfig, CommittedOffset, TopicConfig};
use blotter::daemon::broker::{SlotConfig, Subscription};
use blotter::daemon::shard::{Stop, StopLevel};
use blotter::pipeline::record::{Timestamp, TopicPartition};

use crate::copier::Copier;
use crate::daemon::{Daemon, MakeStage, Published};
use crate::faults::Weather;
use crate::input::{self, Input};
use crate::oracle::{self, Broken};
use crate::rng::Rng;
use crate::sabotage::{Ends, Sabotage};
use crate::world::{ActorId, DRIVER, End, World};

const SOURCE: &str = "app.logs";
const REDACTED: &str = "app.logs.redacted";
const AUDIT: &str = "app.logs.audit";
const GROUP: &str = "blotter-scrub";

/// Virtual time within which a calm deployment has read everything.
const CALM_MS_MAX: i64 = 300_000;

/// What an operator does while no daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    /// Sets an offset back with a tool, which leaves no metadata.
    RollBack,
    /// Puts an old offset back together with its metadata.
    RollBackWithMetadata,
    /// Lets the offset expire.
    Expire,
    /// Loses the end of the source partition.
    Truncate,
    /// Deletes the source and creates it anew.
    Recreate,
}

/// How one run went.
pub(crate) struct Outcome {
    pub(crate) broken: Option<Broken>,
    pub(crate) log_hash: u64,
    pub(crate) log: Option<String>,
}

/// Runs one seed.
pub(crate) fn run(seed: u64, sabotage: Option<Sabotage>, keep_log: bool) -> Outcome {
    let config = ClusterConfig { rebalance_timeout_ms: 45_000, ..ClusterConfig::default() };
    let world = World::new(seed, keep_log, config);
    let mut scene = Scene::new(&world, sabotage);
    let broken = scene.play().err();
    world.finish();
    let (log_hash, log) = world.log();
    Outcome { broken, log_hash, log }
}

struct Slot {
    config: SlotConfig,
    incarnations: u32,
    stop: Stop,
    actor: Option<ActorId>,
    /// When a stopped or dead process comes back.
    back_at: Timestamp,
}

struct Scene {
    world: Arc<World>,
    weather: Arc<Weather>,
    sink: Arc<Published>,
    make_stage: MakeStage,
    sabotage: Option<Sabotage>,
    ends: Ends,
    partitions: i32,
    is_static: bool,
    slots: Vec<Slot>,
    inputs: Vec<Vec<Input>>,
    /// Processes whose slot has a newer one, which may have died before it fenced them.
    doubled: Vec<(ActorId, Stop)>,
    storm_ms: i64,
    mistake: Option<Mistake>,
    /// An offset committed early in the run, with its metadata.
    early: Option<CommittedOffset>,
}

impl Scene {
    fn new(world: &Arc<World>, sabotage: Option<Sabotage>) -> Self {
        let mut rng = Rng::new(world.random(Rng::next));
        let partitions = i32::try_from(rng.between(1, 4)).expect("small");
        let is_static = rng.one_in(2);
        let template = template(&mut rng);
        let slots = (0..rng.between(1, 3)).map(|index| Slot {
            config: SlotConfig {
                instance_id: is_static.then(|| format!("blotter-{index}")),
                transactional_id: format!("blotter-{index}"),
                ..template.clone()
            },
            incarnations: 0,
            stop: Stop::default(),
            actor: None,
            back_at: Timestamp::EPOCH,
        });
        let mistakes = [
            Mistake::RollBack,
            Mistake::RollBackWithMetadata,
            Mistake::Expire,
            Mistake::Truncate,
            Mistake::Recreate,
        ];
        let slots = slots.collect();
        Self {
            world: Arc::clone(world),
            weather: Arc::new(Weather::new(&mut rng)),
            sink: Arc::default(),
            make_stage: Arc::new(|_| Box::new(Copier::new(REDACTED, AUDIT))),
            sabotage,
            ends: Ends::default(),
            partitions,
            is_static,
            slots,
            inputs: (0..partitions).map(|_| Vec::new()).collect(),
            doubled: Vec::new(),
            storm_ms: rng.between(5_000, 60_000),
            mistake: rng.one_in(3).then(|| *rng.pick(&mistakes)),
            early: None,
        }
    }

    fn play(&mut self) -> Result<(), Broken> {
        for topic in [SOURCE, REDACTED, AUDIT] {
            let config = TopicConfig::new(self.partitions);
            self.world.cluster.create_topic(topic, config).expect("the cluster is empty");
        }
        self.storm()?;
        self.calm(&[])?;
        if !self.sink.stopped().is_empty() {
            return Err(format!("stopped without cause: {:?}", self.sink.stopped()));
        }
        let held = match self.mistake {
            Some(mistake) => self.err(mistake)?,
            None => Vec::new(),
        };
        self.stop_all()?;
        // Time for the coordinator to abort what a stopped process has left open.
        self.world.sleep(DRIVER, 70_000);
        self.judge(&held)
    }

    /// Input, faults, members that come and go.
    fn storm(&mut self) -> Result<(), Broken> {
        let until = self.world.cluster.now().plus_millis(self.storm_ms);
        while self.world.cluster.now() < until {
            self.tend()?;
            let (pause, action) = self.world.random(|rng| (rng.between(10, 800), rng.below(16)));
            match action {
                0..=9 => self.produce(&[]),
                10 => self.fence_one(),
                11 => {
                    self.world.note(format_args!("rebalance"));
                    self.world.cluster.rebalance(GROUP);
                }
                12 => self.stop_one(),
                13 => self.double_one(),
                _ => {}
            }
            self.remember();
            self.world.sleep(DRIVER, pause);
            self.check_over()?;
        }
        self.weather.storm.store(false, Ordering::Relaxed);
        self.world.note(format_args!("calm"));
        Ok(())
    }

    /// Everything is well again: whatever is not held must be read to its end.
    fn calm(&mut self, held: &[i32]) -> Result<(), Broken> {
        self.produce(held);
        let until = self.world.cluster.now().plus_millis(CALM_MS_MAX);
        while !self.all_read(held) {
            if self.world.cluster.now() >= until {
                return Err(self.describe_stuck());
            }
            self.tend()?;
            self.world.sleep(DRIVER, 500);
            self.check_over()?;
        }
        Ok(())
    }

    /// An operator's mistake, and what the daemons make of it. Gives the partitions that must have
    /// been stopped.
    fn err(&mut self, mistake: Mistake) -> Result<Vec<i32>, Broken> {
        self.stop_all()?;
        while self.world.cluster.group(GROUP).1 {
            self.world.sleep(DRIVER, 1_000);
            self.check_over()?;
        }
        let source = self.source(0);
        let committed = self.world.cluster.committed(GROUP, &source);
        let committed = committed.map_err(|error| format!("{source} stays pending: {error}"))?;
        let offset = committed.as_ref().map_or(0, |committed| committed.offset);
        let early = self.early.clone().filter(|early| early.offset < offset);
        self.world.note(format_args!("{mistake:?}"));
        let held = match (mistake, early) {
            (Mistake::RollBack, _) if offset > 0 => {
                let offset = self.world.random(|rng| rng.between(0, offset - 1));
                self.set_offset(Some(CommittedOffset { offset, metadata: String::new() }));
                vec![0]
            }
            (Mistake::RollBackWithMetadata, Some(early)) => {
                self.set_offset(Some(early));
                vec![0]
            }
            (Mistake::Expire, _) => {
                self.set_offset(None);
                Vec::new()
            }
            (Mistake::Truncate, _) if offset > 0 => {
                let end = self.world.random(|rng| rng.between(0, offset - 1));
                self.world.cluster.truncate(&source, end).expect("the source is there");
                vec![0]
            }
            (Mistake::Recreate, _) => {
                self.world.cluster.delete_topic(SOURCE).expect("the source is there");
                let config = TopicConfig::new(self.partitions);
                self.world.cluster.create_topic(SOURCE, config).expect("it was deleted");
                let read = |partition: &i32| !self.input(*partition).is_empty();
                (0..self.partitions).filter(read).collect()
            }
            _ => Vec::new(),
        };
        self.aftermath(&held)?;
        Ok(held)
    }

    fn aftermath(&mut self, held: &[i32]) -> Result<(), Broken> {
        // Time for a held partition to be tried again.
        let until = self.world.cluster.now().plus_millis(100_000);
        while self.world.cluster.now() < until {
            self.tend()?;
            self.world.sleep(DRIVER, 500);
            self.check_over()?;
        }
        self.calm(held)?;
        for partition in held {
            if !self.sink.stopped().iter().any(|(stopped, _)| stopped == partition) {
                return Err(format!("{} was not stopped", self.source(*partition)));
            }
        }
        let others = self.sink.stopped();
        match others.iter().find(|(partition, _)| !held.contains(partition)) {
            Some(other) => Err(format!("stopped without cause: {other:?}")),
            None => Ok(()),
        }
    }

    fn judge(&self, held: &[i32]) -> Result<(), Broken> {
        let mut largest = 0;
        for partition in 0..self.partitions {
            let input = self.input(partition);
            let checked = oracle::Partition {
                source: self.source(partition),
                redacted: TopicPartition::new(REDACTED, partition),
                audit: TopicPartition::new(AUDIT, partition),
                input,
                processed: input.len(),
                gaps: Vec::new(),
            };
            largest += oracle::check(&self.world.cluster, &checked)?;
            let committed = self.world.cluster.committed(GROUP, &checked.source);
            let offset = committed.ok().flatten().map(|committed| committed.offset);
            let end = i64::try_from(input.len()).expect("few");
            if !held.contains(&partition) && end > 0 && offset != Some(end) {
                return Err(format!("{}: committed {offset:?} of {end}", checked.source));
            }
        }
        let written = u64::try_from(self.inputs.iter().map(Vec::len).sum::<usize>());
        let (written, published) = (written.expect("few"), self.sink.records());
        let lost = self.weather.counters_lost_max.load(Ordering::Relaxed);
        let lost_max = lost * u64::try_from(largest).expect("positive");
        if published > written || published + lost_max < written {
            return Err(format!(
                "counted {published} records of {written}, {lost} transactions may be lost"
            ));
        }
        Ok(())
    }

    fn produce(&mut self, held: &[i32]) {
        for partition in (0..self.partitions).filter(|partition| !held.contains(partition)) {
            let burst = self.world.random(|rng| if rng.one_in(2) { rng.below(12) } else { 0 });
            for _ in 0..burst {
                self.produce_one(partition);
            }
        }
    }

    fn produce_one(&mut self, partition: i32) {
        let now = self.world.cluster.now();
        let index = usize::try_from(partition).expect("from 0");
        let number = self.inputs[index].len();
        let record = self.world.random(|rng| {
            let timestamp = now.plus_millis(-rng.between(0, 5_000));
            input::line(rng, number, timestamp.millis())
        });
        let timestamp = Some(Timestamp::from_millis(record.timestamp_ms));
        let body = Body::new(None, Some(record.value.as_bytes()));
        self.world.cluster.produce(&self.source(partition), timestamp, body).expect("it is there");
        self.inputs[index].push(record);
    }

    /// Starts what is to run and is not.
    fn tend(&mut self) -> Result<(), Broken> {
        let now = self.world.cluster.now();
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(index) else { continue };
            if let Some(End::Panicked(said)) = slot.actor.and_then(|actor| self.world.ended(actor))
            {
                return Err(format!("a shard died of a panic: {said}"));
            }
            if slot.actor.is_some_and(|actor| self.world.ended(actor).is_some()) {
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

    fn start(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.incarnations += 1;
        let stop = std::mem::take(&mut slot.stop);
        self.doubled.extend(slot.actor.take().map(|actor| (actor, stop)));
        if !self.is_static {
            slot.config.transactional_id = format!("blotter-{index}-{}", slot.incarnations);
        }
        let daemon = Daemon {
            world: Arc::clone(&self.world),
            weather: Arc::clone(&self.weather),
            slot: slot.config.clone(),
            make_stage: Arc::clone(&self.make_stage),
            sink: Arc::clone(&self.sink),
            sabotage: self.sabotage,
            audit: Arc::from(AUDIT),
            ends: Arc::clone(&self.ends),
            stop: slot.stop.clone(),
        };
        slot.actor = Some(daemon.spawn());
        self.world.note(format_args!("start {}: {:?}", slot.config.transactional_id, slot.actor));
    }

    fn stop_one(&mut self) {
        let index = self.any_slot();
        self.world.note(format_args!("stop {}", self.slots[index].config.transactional_id));
        self.slots[index].stop.request(StopLevel::Drain);
    }

    /// A second process with the same slot, while the first one may still run.
    fn double_one(&mut self) {
        let index = self.any_slot();
        if self.is_static {
            self.start(index);
        }
    }

    fn fence_one(&mut self) {
        let index = self.any_slot();
        let id = self.slots[index].config.transactional_id.clone();
        self.world.note(format_args!("fence {id}"));
        drop(self.world.cluster.init_producer(&id, Duration::from_secs(30)));
    }

    fn any_slot(&self) -> usize {
        let count = u64::try_from(self.slots.len()).expect("few");
        usize::try_from(self.world.random(|rng| rng.below(count))).expect("few")
    }

    fn stop_all(&mut self) -> Result<(), Broken> {
        let mut running = std::mem::take(&mut self.doubled);
        for slot in &mut self.slots {
            running.extend(slot.actor.take().map(|actor| (actor, slot.stop.clone())));
            slot.back_at = Timestamp::EPOCH;
        }
        for (_, stop) in &running {
            stop.request(StopLevel::Drain);
        }
        let until = self.world.cluster.now().plus_millis(CALM_MS_MAX);
        while running.iter().any(|(actor, _)| self.world.ended(*actor).is_none()) {
            if self.world.cluster.now() >= until {
                return Err("a shard does not stop".to_owned());
            }
            self.world.sleep(DRIVER, 200);
            self.check_over()?;
        }
        Ok(())
    }

    fn remember(&mut self) {
        let committed = self.world.cluster.committed(GROUP, &self.source(0)).ok().flatten();
        if self.early.is_none() {
            self.early = committed.filter(|committed| committed.offset > 0);
        }
    }

    fn set_offset(&self, offset: Option<CommittedOffset>) {
        let altered = self.world.cluster.alter_offset(GROUP, &self.source(0), offset);
        altered.expect("the group is empty");
    }

    fn all_read(&self, held: &[i32]) -> bool {
        (0..self.partitions).filter(|partition| !held.contains(partition)).all(|partition| {
            let end = i64::try_from(self.input(partition).len()).expect("few");
            let committed = self.world.cluster.committed(GROUP, &self.source(partition));
            committed.ok().flatten().is_some_and(|committed| committed.offset == end)
        })
    }

    fn describe_stuck(&self) -> Broken {
        let mut text = String::from("stuck:");
        for partition in 0..self.partitions {
            let committed = self.world.cluster.committed(GROUP, &self.source(partition));
            let end = self.input(partition).len();
            write!(text, " {partition}: {committed:?} of {end};").expect("strings take all");
        }
        write!(text, " stopped: {:?}", self.sink.stopped()).expect("strings take all");
        self.world.note(format_args!("{}", self.world.cluster.describe_groups()));
        text
    }

    fn check_over(&self) -> Result<(), Broken> {
        if self.world.is_over() { Err("too many steps: a livelock".to_owned()) } else { Ok(()) }
    }

    fn source(&self, partition: i32) -> TopicPartition {
        TopicPartition::new(SOURCE, partition)
    }

    fn input(&self, partition: i32) -> &[Input] {
        usize::try_from(partition).ok().and_then(|index| self.inputs.get(index)).expect("it exists")
    }
}

fn template(rng: &mut Rng) -> SlotConfig {
    SlotConfig {
        group: GROUP.to_owned(),
        instance_id: None,
        transactional_id: String::new(),
        subscription: Subscription {
            topics: vec![Arc::from(SOURCE)],
            patterns: Vec::new(),
            excluded: Vec::new(),
        },
        poll_records_max: *rng.pick(&[3, 20, 500]),
        poll_bytes_max: 1 << 20,
        transaction_timeout: Duration::from_secs(*rng.pick(&[10, 60])),
        session_timeout: Duration::from_secs(15),
        operation_timeout: Duration::from_secs(10),
        lookup_timeout: Duration::from_secs(2),
        lookup_bytes_max: *rng.pick(&[600, 1 << 20]),
    }
}

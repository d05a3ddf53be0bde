//! One run: a deployment, a storm, a calm, perhaps an operator's mistake, and the verdict.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use blotter::daemon::broker::embedded::{Body, ClusterConfig, CommittedOffset, TopicConfig};
use blotter::pipeline::record::{Timestamp, TopicPartition};

use crate::daemon::Published;
use crate::faults::Weather;
use crate::fleet::Fleet;
use crate::input::{self, Input};
use crate::oracle::{self, Alarm, Broken};
use crate::plan::{Cast, Mistake, Plan};
use crate::played::Played;
use crate::rng::Rng;
use crate::sabotage::Sabotage;
use crate::stages::{ALERTS, AUDIT, DEAD_LETTERS, MEASURES, REDACTED, SOURCE, WATCH_STATE};
use crate::world::{DRIVER, World};

/// The group whose offsets say what has been read.
const GROUP: &str = "blotter-scrub";
const WATCH_GROUP: &str = "blotter-watch";

/// A source that has grown this far grows no further.
const PARTITIONS_MAX: i32 = 6;

/// Virtual time within which a calm deployment has read everything.
const CALM_MS_MAX: i64 = 300_000;

/// Virtual time for what a process does by timers: retries of held partitions, alerts resolving.
const AFTERMATH_MS: i64 = 100_000;

/// How one run went.
pub(crate) struct Outcome {
    pub(crate) broken: Option<Broken>,
    pub(crate) log_hash: u64,
    pub(crate) log: Option<String>,
    pub(crate) played: Played,
}

/// Runs one seed, with a cast of its own or the one given.
pub(crate) fn run(
    seed: u64,
    sabotage: Option<Sabotage>,
    cast: Option<Cast>,
    keep_log: bool,
) -> Outcome {
    let config = ClusterConfig { rebalance_timeout_ms: 45_000, ..ClusterConfig::default() };
    let world = World::new(seed, keep_log, config);
    let mut scene = Scene::new(&world, sabotage, cast);
    let broken = scene.play().err();
    world.finish();
    let (log_hash, log) = world.log();
    let mut played = scene.played;
    scene.weather.happened().into_iter().for_each(|(what, count)| played.add(what, count));
    Outcome { broken, log_hash, log, played }
}

struct Scene {
    world: Arc<World>,
    weather: Arc<Weather>,
    sink: Arc<Published>,
    plan: Plan,
    fleet: Fleet,
    inputs: Vec<Vec<Input>>,
    /// Whether the services fail just now.
    incident: bool,
    /// An offset committed early in the run, with its metadata.
    early: Option<CommittedOffset>,
    /// Ranges of partition 0 that retention took unread.
    gaps: Vec<(i64, i64)>,
    /// What must have raised an alert.
    alarms: Vec<Alarm>,
    played: Played,
}

impl Scene {
    fn new(world: &Arc<World>, sabotage: Option<Sabotage>, cast: Option<Cast>) -> Self {
        let mut rng = Rng::new(world.random(Rng::next));
        let plan = Plan::new(&mut rng, cast);
        world.note(format_args!("{plan:?}"));
        let weather = Arc::new(Weather::new(&mut rng));
        let sink = Arc::default();
        let fleet = Fleet::new(world, &weather, &sink, &plan, sabotage);
        let inputs = (0..plan.partitions).map(|_| Vec::new()).collect();
        let world = Arc::clone(world);
        let (incident, early, gaps, alarms) = (false, None, Vec::new(), Vec::new());
        let played = Played::default();
        Self { world, weather, sink, plan, fleet, inputs, incident, early, gaps, alarms, played }
    }

    fn play(&mut self) -> Result<(), Broken> {
        self.create_topics();
        self.storm()?;
        self.calm(&[])?;
        self.no_stops(&[])?;
        let held = match self.plan.mistake {
            Some(mistake) => self.err(mistake)?,
            None => Vec::new(),
        };
        if self.plan.cast == Cast::Whole {
            self.pass(AFTERMATH_MS)?;
            self.break_down()?;
            self.pass(AFTERMATH_MS)?;
            self.calm(&[])?;
        }
        self.fleet.stop_all()?;
        // Time for the coordinator to abort what a stopped process has left open.
        self.world.sleep(DRIVER, 70_000);
        self.judge(&held)
    }

    fn create_topics(&self) {
        let plan = &self.plan;
        let plain = TopicConfig::new(plan.partitions);
        let measures = TopicConfig::new(plan.measures_partitions);
        let topics = [
            (SOURCE, plain.clone()),
            (REDACTED, plain.clone()),
            (AUDIT, plain),
            (DEAD_LETTERS, TopicConfig::new(2)),
            (MEASURES, measures.clone().log_append_time()),
            (WATCH_STATE, measures.compacted()),
            (ALERTS, TopicConfig::new(1).compacted()),
        ];
        for (topic, config) in topics {
            self.world.cluster.create_topic(topic, config).expect("the cluster is empty");
        }
    }

    /// Input, faults, members that come and go.
    fn storm(&mut self) -> Result<(), Broken> {
        let until = self.world.cluster.now().plus_millis(self.plan.storm_ms);
        while self.world.cluster.now() < until {
            self.fleet.tend()?;
            let (pause, action) = self.world.random(|rng| (rng.between(10, 800), rng.below(20)));
            match action {
                0..=9 => self.produce(&[]),
                10 => self.fence_one(),
                11 => self.rebalance(GROUP),
                16 => self.rebalance(WATCH_GROUP),
                17 => self.grow(),
                12 => {
                    self.fleet.stop_one();
                    self.played.count("stop");
                }
                13 if self.fleet.double_one() => self.played.count("second process"),
                14 => self.incident = !self.incident,
                15 => self.compact(),
                18 | 19 => self.deliver_kept(),
                _ => {}
            }
            self.remember();
            self.world.sleep(DRIVER, pause);
            self.check_over()?;
        }
        self.incident = false;
        self.deliver_kept();
        self.weather.storm.store(false, Ordering::Relaxed);
        self.world.note(format_args!("calm"));
        Ok(())
    }

    /// An incident that nobody can overlook: the windows before it are empty, and nothing disturbs
    /// the processes.
    fn break_down(&mut self) -> Result<(), Broken> {
        let before: Vec<usize> = self.inputs.iter().map(Vec::len).collect();
        let alerts = TopicPartition::new(ALERTS, 0);
        let (_, end, _) = self.world.cluster.watermarks(&alerts).expect("the topic is there");
        self.incident = true;
        for _ in 0..20 {
            self.produce(&[]);
            self.pass(500)?;
        }
        self.incident = false;
        let mut counts: BTreeMap<String, (u32, u32)> = BTreeMap::new();
        for (inputs, before) in self.inputs.iter().zip(before) {
            for input in inputs[before..].iter().filter(|input| input.redacted.is_some()) {
                let (records, errors) = counts.entry(input.tenant.clone()).or_default();
                *records += 1;
                *errors += u32::from(input.is_error);
            }
        }
        // Far above the rule's 4 samples and half of them errors.
        counts.retain(|_, (records, errors)| *records >= 10 && *errors * 4 >= *records * 3);
        let alarm = |tenant| Alarm { tenant, from_offset: end };
        self.alarms.extend(counts.into_keys().map(alarm));
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
            self.pass(500)?;
        }
        Ok(())
    }

    /// Lets `millis` pass while the processes run.
    fn pass(&mut self, millis: i64) -> Result<(), Broken> {
        let until = self.world.cluster.now().plus_millis(millis);
        while self.world.cluster.now() < until {
            self.fleet.tend()?;
            self.world.sleep(DRIVER, 500);
            self.check_over()?;
        }
        Ok(())
    }

    /// An operator's mistake, and what the processes make of it. Gives the partitions that must
    /// have been stopped.
    fn err(&mut self, mistake: Mistake) -> Result<Vec<i32>, Broken> {
        self.fleet.stop_all()?;
        while self.world.cluster.group(GROUP).1 {
            self.world.sleep(DRIVER, 1_000);
            self.check_over()?;
        }
        let committed = self.world.cluster.committed(GROUP, &source(0));
        let committed = committed.map_err(|error| format!("an offset stays pending: {error}"))?;
        let offset = committed.map_or(0, |committed| committed.offset);
        self.world.note(format_args!("{mistake:?}"));
        self.played.count("mistake");
        let held = self.make(mistake, offset);
        self.pass(AFTERMATH_MS)?;
        self.calm(&held)?;
        for partition in &held {
            let name = source(*partition).to_string();
            if !self.sink.stopped().iter().any(|(stopped, _)| *stopped == name) {
                return Err(format!("{name} was not stopped"));
            }
        }
        self.no_stops(&held)?;
        Ok(held)
    }

    /// Makes the mistake in partition 0, which was read to `offset`.
    fn make(&mut self, mistake: Mistake, offset: i64) -> Vec<i32> {
        let cluster = self.world.cluster.clone();
        let early = self.early.clone().filter(|early| early.offset < offset);
        let earlier = |scene: &Self| scene.world.random(|rng| rng.between(0, offset - 1));
        match (mistake, early) {
            (Mistake::RollBack, _) if offset > 0 => {
                let offset = earlier(self);
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
                cluster.truncate(&source(0), earlier(self)).expect("the source is there");
                vec![0]
            }
            (Mistake::Recreate | Mistake::RecreateAndRefill, _) => {
                self.recreate(mistake == Mistake::RecreateAndRefill)
            }
            (Mistake::Overrun, _) => {
                for _ in 0..5 {
                    self.produce_one(0);
                }
                let low = offset + self.world.random(|rng| rng.between(1, 4));
                cluster.delete_records(&source(0), low).expect("the source is there");
                self.gaps.push((offset, low));
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn recreate(&self, refill: bool) -> Vec<i32> {
        let cluster = &self.world.cluster;
        cluster.delete_topic(SOURCE).expect("the source is there");
        let config = TopicConfig::new(self.plan.partitions);
        cluster.create_topic(SOURCE, config).expect("it was deleted");
        let read: Vec<i32> =
            (0..self.plan.partitions).filter(|own| !self.input(*own).is_empty()).collect();
        for partition in read.iter().filter(|_| refill) {
            for number in 0..self.input(*partition).len() + 3 {
                let body = Body::new(None, Some(format!("another {number}").as_bytes()));
                cluster.produce(&source(*partition), None, body).expect("it is there");
            }
        }
        read
    }

    fn judge(&mut self, held: &[i32]) -> Result<(), Broken> {
        let cluster = &self.world.cluster;
        let (mut largest, mut skipped) = (0, 0);
        for partition in 0..self.plan.partitions {
            let input = self.input(partition);
            let checked = oracle::Partition {
                source: source(partition),
                redacted: TopicPartition::new(REDACTED, partition),
                audit: TopicPartition::new(AUDIT, partition),
                input,
                copied: self.plan.cast == Cast::Copier,
                gaps: if partition == 0 { self.gaps.clone() } else { Vec::new() },
            };
            largest += oracle::check(cluster, &checked)?;
            skipped += checked.gaps.iter().map(|(from, to)| to - from).sum::<i64>();
            let committed = cluster.committed(GROUP, &checked.source).ok().flatten();
            let (offset, end) = (committed.map_or(0, |own| own.offset), count(input));
            if !held.contains(&partition) && offset != end {
                return Err(format!("{}: committed {offset} of {end}", checked.source));
            }
        }
        if self.plan.cast == Cast::Whole {
            let inputs: Vec<&[Input]> = self.inputs.iter().map(Vec::as_slice).collect();
            oracle::check_measures(cluster, self.plan.measures_partitions, &inputs)?;
            let transitions = oracle::check_alerts(cluster, &self.alarms)?;
            self.world.note(format_args!("{transitions} transitions of alerts"));
            self.played.add("alert fired", u64::try_from(self.alarms.len()).expect("few"));
        }
        let read = self.inputs.iter().map(|input| count(input)).sum::<i64>() - skipped;
        let lost = i64::try_from(self.weather.counters_lost_max.load(Ordering::Relaxed));
        let (lost, published) = (lost.expect("few"), self.sink.records());
        if published > read || published + lost * largest < read {
            return Err(format!("counted {published} of {read}, {lost} transactions may be lost"));
        }
        Ok(())
    }

    fn produce(&mut self, held: &[i32]) {
        for partition in (0..self.plan.partitions).filter(|partition| !held.contains(partition)) {
            let burst = self.world.random(|rng| if rng.one_in(2) { rng.below(12) } else { 0 });
            for _ in 0..burst {
                self.produce_one(partition);
            }
        }
    }

    fn produce_one(&mut self, partition: i32) {
        let now = self.world.cluster.now();
        let index = usize::try_from(partition).expect("from 0");
        let (number, incident) = (self.inputs[index].len(), self.incident);
        let record = self.world.random(|rng| {
            let timestamp = now.plus_millis(-rng.between(0, 5_000));
            input::line(rng, number, timestamp.millis(), incident)
        });
        let timestamp = Some(Timestamp::from_millis(record.timestamp_ms));
        let body = Body::new(None, Some(record.value.as_bytes()));
        self.world.cluster.produce(&source(partition), timestamp, body).expect("it is there");
        self.inputs[index].push(record);
    }

    fn rebalance(&mut self, group: &str) {
        self.world.cluster.rebalance(group);
        self.played.count("rebalance");
    }

    fn fence_one(&mut self) {
        self.played.count("fence");
        let id = self.fleet.any_id();
        self.world.note(format_args!("fence {id}"));
        drop(self.world.cluster.init_producer(&id, Duration::from_secs(30)));
    }

    /// Commits arrive late, in the middle of whatever their producers' successors do.
    fn deliver_kept(&mut self) {
        while let Some(answer) = self.world.cluster.deliver_kept() {
            self.world.note(format_args!("late commit: {answer:?}"));
            self.played.count(if answer.is_ok() { "late commit" } else { "late commit refused" });
        }
    }

    /// The source gets one more partition, after its counterparts.
    fn grow(&mut self) {
        if self.plan.partitions < PARTITIONS_MAX {
            self.played.count("growth");
            self.plan.partitions += 1;
            self.inputs.push(Vec::new());
            for topic in [REDACTED, AUDIT, SOURCE] {
                let grown = self.world.cluster.grow_topic(topic, self.plan.partitions);
                grown.expect("one more is allowed");
            }
        }
    }

    /// The state is compacted in the middle of everything; the alerts are not, or their history
    /// could not be judged.
    fn compact(&self) {
        for partition in 0..self.plan.measures_partitions {
            let partition = TopicPartition::new(WATCH_STATE, partition);
            self.world.cluster.compact(&partition).expect("it is there");
        }
    }

    fn remember(&mut self) {
        if self.early.is_none() {
            let committed = self.world.cluster.committed(GROUP, &source(0)).ok().flatten();
            self.early = committed.filter(|committed| committed.offset > 0);
        }
    }

    fn set_offset(&self, offset: Option<CommittedOffset>) {
        let altered = self.world.cluster.alter_offset(GROUP, &source(0), offset);
        altered.expect("the group is empty");
    }

    fn all_read(&self, held: &[i32]) -> bool {
        (0..self.plan.partitions).filter(|partition| !held.contains(partition)).all(|partition| {
            let committed = self.world.cluster.committed(GROUP, &source(partition));
            let end = count(self.input(partition));
            committed.ok().flatten().is_some_and(|committed| committed.offset == end)
        })
    }

    fn no_stops(&self, held: &[i32]) -> Result<(), Broken> {
        let held: Vec<String> = held.iter().map(|own| source(*own).to_string()).collect();
        match self.sink.stopped().iter().find(|(stopped, _)| !held.contains(stopped)) {
            Some(other) => Err(format!("stopped without cause: {other:?}")),
            None => Ok(()),
        }
    }

    fn describe_stuck(&self) -> Broken {
        let mut text = String::from("stuck:");
        for partition in 0..self.plan.partitions {
            let committed = self.world.cluster.committed(GROUP, &source(partition));
            let offset = committed.map(|committed| committed.map(|committed| committed.offset));
            let end = count(self.input(partition));
            write!(text, " {partition}: {offset:?} of {end};").expect("strings take all");
        }
        write!(text, " stopped: {:?}", self.sink.stopped()).expect("strings take all");
        self.world.note(format_args!("{}", self.world.cluster.describe_groups()));
        text
    }

    fn check_over(&self) -> Result<(), Broken> {
        if self.world.is_over() { Err("too many steps: a livelock".to_owned()) } else { Ok(()) }
    }

    fn input(&self, partition: i32) -> &[Input] {
        usize::try_from(partition).ok().and_then(|index| self.inputs.get(index)).expect("it exists")
    }
}

fn source(partition: i32) -> TopicPartition {
    TopicPartition::new(SOURCE, partition)
}

fn count(input: &[Input]) -> i64 {
    i64::try_from(input.len()).expect("few")
}

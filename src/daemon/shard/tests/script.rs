//! A broker that does as it is told, and a stage simple enough to be right by sight.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::*;
use crate::daemon::broker::{BrokerErrorKind, LookupFailure, SendError};
use crate::pipeline::record::Timestamp;
use crate::pipeline::step::{
    Delivery, Lookup, LookupAnswer, OffsetCommit, OutputRecord, RecordFailure, RestoreStep,
};

pub(super) fn source(partition: i32) -> TopicPartition {
    TopicPartition::new("in", partition)
}

/// Everything outside the shard.
#[derive(Default)]
pub(super) struct World {
    pub(super) elapsed: Duration,
    pub(super) log: Vec<String>,
    pub(super) ends: BTreeMap<TopicPartition, i64>,
    pub(super) running: BTreeMap<TopicPartition, i64>,
    pub(super) events: VecDeque<Event>,
    /// Errors of the next calls of an operation.
    pub(super) errors: BTreeMap<&'static str, VecDeque<BrokerErrorKind>>,
    /// Commits that take effect though their answer is an error.
    pub(super) answers_lost: usize,
    /// How long each commit takes.
    pub(super) commit_time: Duration,
    pub(super) committed: BTreeMap<TopicPartition, (i64, String)>,
    /// `partition:value` of committed outputs in order.
    pub(super) visible: Vec<String>,
    /// Outputs of the open transaction.
    pub(super) open: Vec<String>,
    offsets: Vec<OffsetCommit>,
    /// Answers of look-ups, by their printed question; used up from the front.
    pub(super) lookups: BTreeMap<String, VecDeque<Result<LookupAnswer, LookupFailure>>>,
    pub(super) writers: VecDeque<Option<String>>,
    pub(super) queue_full: usize,
    /// Delivery of an output with this text is refused.
    pub(super) poison_outputs: BTreeSet<String>,
    /// Outputs that do not exist; a transaction that writes to one fails when it is drained.
    pub(super) missing: BTreeSet<TopicPartition>,
    /// Whether that failure names nothing, as a time-out does.
    pub(super) is_silent: bool,
    /// Outputs the open transaction was sent to.
    sent_to: BTreeSet<TopicPartition>,
    /// Records handed out a second time.
    pub(super) again: Vec<(TopicPartition, i64)>,
}

impl World {
    fn fails(&mut self, operation: &'static str) -> Option<BrokerError> {
        self.log.push(operation.to_owned());
        let kind = self.errors.get_mut(operation)?.pop_front()?;
        Some(BrokerError::new(kind, operation, "scripted"))
    }

    pub(super) fn count(&self, line: &str) -> usize {
        self.log.iter().filter(|entry| *entry == line).count()
    }

    pub(super) fn place(&self, line: &str) -> usize {
        self.log.iter().position(|entry| entry == line).expect("the call was made")
    }
}

#[derive(Clone, Default)]
pub(super) struct Script(pub(super) Rc<RefCell<World>>);

impl Clock for Script {
    fn now(&self) -> Timestamp {
        let millis = i64::try_from(self.0.borrow().elapsed.as_millis()).expect("tests are short");
        Timestamp::from_millis(1_000_000 + millis)
    }

    fn monotonic(&self) -> Duration {
        self.0.borrow().elapsed
    }
}

impl Broker for Script {
    fn poll(
        &mut self,
        wait: Duration,
        batches: &mut Vec<RecordBatch>,
        events: &mut Vec<Event>,
    ) -> Result<(), BrokerError> {
        let mut world = self.0.borrow_mut();
        if let Some(error) = world.fails("poll") {
            return Err(error);
        }
        batches.clear();
        for (topic_partition, offset) in std::mem::take(&mut world.again) {
            let mut batch = RecordBatch::new(topic_partition);
            batch.push(offset, Timestamp::EPOCH, None, Some(b"r"), []);
            batches.push(batch);
        }
        let ends = world.ends.clone();
        for (topic_partition, position) in &mut world.running {
            let end = *ends.get(topic_partition).unwrap_or(&0);
            let last = end.min(*position + 100);
            if *position < last {
                let mut batch = RecordBatch::new(topic_partition.clone());
                for offset in *position..last {
                    batch.push(offset, Timestamp::EPOCH, None, Some(b"r"), []);
                }
                *position = last;
                batches.push(batch);
            }
        }
        events.extend(world.events.pop_front());
        world.elapsed +=
            if events.is_empty() && batches.is_empty() { wait } else { Duration::from_millis(1) };
        Ok(())
    }

    fn accept(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        self.0.borrow_mut().log.push(format!("accept {}", partitions.len()));
        Ok(())
    }

    fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        let mut world = self.0.borrow_mut();
        world.log.push(format!("release {}", partitions.len()));
        for topic_partition in partitions {
            world.running.remove(topic_partition);
        }
        Ok(())
    }

    fn start(
        &mut self,
        topic_partition: &TopicPartition,
        position: i64,
    ) -> Result<(), BrokerError> {
        let mut world = self.0.borrow_mut();
        if let Some(error) = world.fails("start") {
            return Err(error);
        }
        world.running.insert(topic_partition.clone(), position);
        Ok(())
    }

    fn pause(&mut self, topic_partition: &TopicPartition) -> Result<(), BrokerError> {
        self.0.borrow_mut().running.remove(topic_partition);
        Ok(())
    }

    fn lookup(&mut self, ticket: Ticket, topic_partition: &TopicPartition, lookup: Lookup) {
        let mut world = self.0.borrow_mut();
        let question = match &lookup {
            Lookup::Committed => format!("committed {topic_partition}"),
            Lookup::Range(asked) => format!("range {asked}"),
            other => format!("{other:?}"),
        };
        world.log.push(question.clone());
        let scripted = world.lookups.get_mut(&question).and_then(VecDeque::pop_front);
        if matches!(scripted, Some(Err(LookupFailure::TimedOut))) {
            world.elapsed += Duration::from_millis(600);
        }
        let result = scripted.unwrap_or_else(|| {
            if matches!(&lookup, Lookup::Range(asked) if world.missing.contains(asked)) {
                return Err(LookupFailure::UnknownPartition);
            }
            Ok(match lookup {
                Lookup::Committed => match world.committed.get(topic_partition) {
                    Some((offset, metadata)) => LookupAnswer::Committed {
                        offset: Some(*offset),
                        metadata: metadata.clone(),
                    },
                    None => LookupAnswer::Committed { offset: None, metadata: String::new() },
                },
                _ => LookupAnswer::Range { low: 0, high: 0, lso: 0 },
            })
        });
        let topic_partition = topic_partition.clone();
        world.events.push_back(Event::Lookup { ticket, topic_partition, result });
    }

    fn read_writer(&mut self, ticket: Ticket, topic_partition: &TopicPartition) {
        let mut world = self.0.borrow_mut();
        world.log.push("read_writer".to_owned());
        let result = Ok(world.writers.pop_front().flatten());
        let topic_partition = topic_partition.clone();
        world.events.push_back(Event::Writer { ticket, topic_partition, result });
    }

    fn fence(&mut self, ticket: Ticket, transactional_id: &str) {
        let mut world = self.0.borrow_mut();
        world.log.push(format!("fence {transactional_id}"));
        world.events.push_back(Event::Fenced { ticket, result: Ok(()) });
    }

    fn reset_producer(&mut self, _timeout: Duration) -> Result<(), BrokerError> {
        let mut world = self.0.borrow_mut();
        if let Some(error) = world.fails("reset") {
            return Err(error);
        }
        world.open.clear();
        world.sent_to.clear();
        world.offsets.clear();
        Ok(())
    }

    fn begin(&mut self) -> Result<(), BrokerError> {
        self.0.borrow_mut().fails("begin").map_or(Ok(()), Err)
    }

    fn send(&mut self, record: &OutputRecord<'_>) -> Result<(), SendError> {
        let mut world = self.0.borrow_mut();
        if world.queue_full > 0 {
            world.queue_full -= 1;
            return Err(SendError::QueueFull);
        }
        if let Some(error) = world.fails("send") {
            return Err(error.into());
        }
        let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
        world.open.push(value);
        let partition = record.partition.unwrap_or(0);
        world.sent_to.insert(TopicPartition { topic: Arc::clone(record.topic), partition });
        Ok(())
    }

    fn await_room(&mut self, wait: Duration) -> Result<(), BrokerError> {
        let mut world = self.0.borrow_mut();
        world.elapsed += wait;
        world.fails("await_room").map_or(Ok(()), Err)
    }

    fn drain(&mut self, _timeout: Duration) -> Result<Vec<Delivery>, BrokerError> {
        let mut world = self.0.borrow_mut();
        world.elapsed += Duration::from_millis(1);
        if let Some(error) = world.fails("drain") {
            return Err(error);
        }
        if let Some(output) = world.sent_to.intersection(&world.missing).next().cloned() {
            if world.is_silent {
                world.elapsed += Duration::from_secs(3);
                return Err(BrokerError::new(BrokerErrorKind::TimedOut, "drain", "silence"));
            }
            let gone = BrokerError::new(BrokerErrorKind::UnknownPartition, "drain", "gone");
            return Err(gone.at(output));
        }
        if world.open.iter().any(|output| world.poison_outputs.contains(output)) {
            return Err(BrokerError::new(BrokerErrorKind::RecordRefused, "drain", "too large"));
        }
        Ok(Vec::new())
    }

    fn send_offsets(
        &mut self,
        offsets: &[OffsetCommit],
        _timeout: Duration,
    ) -> Result<(), BrokerError> {
        let mut world = self.0.borrow_mut();
        if let Some(error) = world.fails("send_offsets") {
            return Err(error);
        }
        world.offsets = offsets.to_vec();
        Ok(())
    }

    fn commit(&mut self, _timeout: Duration) -> Result<(), BrokerError> {
        let mut world = self.0.borrow_mut();
        let commit_time = world.commit_time;
        world.elapsed += commit_time;
        let error = world.fails("commit");
        if let (Some(error), 0) = (&error, world.answers_lost) {
            return Err(error.clone());
        }
        let (mut outputs, offsets) =
            (std::mem::take(&mut world.open), std::mem::take(&mut world.offsets));
        world.sent_to.clear();
        world.visible.append(&mut outputs);
        for commit in offsets {
            world.committed.insert(commit.topic_partition, (commit.offset, commit.metadata));
        }
        match error {
            Some(error) => {
                world.answers_lost -= 1;
                Err(error)
            }
            None => Ok(()),
        }
    }

    fn close(self, _timeout: Duration) {
        self.0.borrow_mut().log.push("close".to_owned());
    }
}

/// Writes `partition:offset` for each record; counts its transactions in the metadata.
#[derive(Default)]
pub(super) struct Echo {
    pub(super) world: Script,
    committed: BTreeMap<TopicPartition, (i64, u64)>,
    pending: BTreeMap<TopicPartition, (i64, u64)>,
    fresh: BTreeSet<TopicPartition>,
    counted: f64,
    pub(super) panics: BTreeSet<i64>,
    pub(super) failures: BTreeSet<i64>,
    /// Records before which the partition waits.
    pub(super) waits: BTreeSet<i64>,
    /// Adds an offset of a partition that is not its own.
    pub(super) foreign: bool,
    pub(super) pauses: Vec<(TopicPartition, PartitionStop)>,
    /// Writes one record for all partitions at the end of each transaction.
    pub(super) measures: bool,
    /// Restores that end in a stop.
    pub(super) stops: usize,
}

impl Echo {
    fn log(&self, line: &str) {
        self.world.0.borrow_mut().log.push(line.to_owned());
    }

    fn write(&self, batch: &RecordBatch, range: Range<usize>, mark: &str, outputs: &mut Outputs) {
        let topic: Arc<str> = Arc::from(if mark.is_empty() { "out" } else { "letters" });
        batch.for_each(range, |record| {
            let partition = record.topic_partition.partition;
            let value = format!("{partition}:{}{mark}", record.offset);
            outputs.push(OutputRecord {
                topic: &topic,
                partition: Some(partition),
                timestamp: None,
                key: None,
                value: Some(value.as_bytes()),
                headers: &[],
                tracked: false,
                forwarded: false,
            });
        });
    }

    fn took(&mut self, batch: &RecordBatch, range: Range<usize>) {
        let mut end = 0;
        batch.for_each(range, |record| end = record.offset + 1);
        self.counted += 1.0;
        let key = batch.topic_partition().clone();
        let (_, n) = self.committed[&key];
        self.pending.insert(key, (end, n + 1));
    }
}

impl Stage for Echo {
    fn assign(&mut self, topic_partition: &TopicPartition, _now: Timestamp) -> RestoreStep {
        self.log(&format!("assign {topic_partition}"));
        RestoreStep::Ask(Lookup::Committed)
    }

    fn restore(
        &mut self,
        topic_partition: &TopicPartition,
        answer: LookupAnswer,
        _now: Timestamp,
    ) -> RestoreStep {
        let LookupAnswer::Committed { offset, metadata } = answer else { panic!("never asked") };
        if self.stops > 0 {
            self.stops -= 1;
            return RestoreStep::Stop(PartitionStop {
                reason: "chain_broken",
                detail: String::new(),
                command: String::new(),
            });
        }
        let position = offset.unwrap_or(0);
        let n = metadata.parse().unwrap_or(0);
        self.committed.insert(topic_partition.clone(), (position, n));
        self.fresh.insert(topic_partition.clone());
        RestoreStep::Ready { position }
    }

    fn revoke(&mut self, topic_partition: &TopicPartition) {
        self.committed.remove(topic_partition);
        self.pending.remove(topic_partition);
        self.fresh.remove(topic_partition);
    }

    fn output_partitions(&self, topic_partition: &TopicPartition) -> Vec<TopicPartition> {
        vec![TopicPartition::new("out", topic_partition.partition)]
    }

    fn process(
        &mut self,
        batch: &RecordBatch,
        range: Range<usize>,
        _now: Timestamp,
        outputs: &mut Outputs,
    ) -> Result<(), RecordFailure> {
        let mut offset = 0;
        batch.for_each(range.clone(), |record| offset = record.offset);
        self.write(batch, range.clone(), "", outputs);
        assert!(!self.panics.contains(&offset), "a harmful record");
        if self.waits.contains(&offset) {
            let stop = PartitionStop {
                reason: "key_missing",
                detail: String::new(),
                command: String::new(),
            };
            self.pauses.push((batch.topic_partition().clone(), stop));
        }
        if self.failures.contains(&offset) || self.waits.contains(&offset) {
            let topic_partition = batch.topic_partition().clone();
            return Err(RecordFailure { topic_partition, offset, reason: "bad" });
        }
        self.took(batch, range);
        Ok(())
    }

    fn reject(
        &mut self,
        batch: &RecordBatch,
        index: usize,
        reason: &'static str,
        _now: Timestamp,
        outputs: &mut Outputs,
    ) {
        self.write(batch, index..index + 1, reason, outputs);
        self.took(batch, index..index + 1);
    }

    fn caught_up(&mut self, topic_partition: &TopicPartition, _now: Timestamp) {
        self.log(&format!("caught_up {topic_partition}"));
    }

    fn due(&self, _now: Timestamp) -> Option<Timestamp> {
        None
    }

    fn is_dirty(&self) -> bool {
        !self.pending.is_empty()
    }

    fn close(&mut self, _now: Timestamp, outputs: &mut Outputs) {
        if self.measures && !self.pending.is_empty() {
            outputs.push(OutputRecord {
                topic: &Arc::from("measures"),
                partition: Some(0),
                timestamp: None,
                key: None,
                value: Some(b"measured"),
                headers: &[],
                tracked: false,
                forwarded: false,
            });
        }
        for topic_partition in std::mem::take(&mut self.fresh) {
            let (position, n) = self.committed[&topic_partition];
            self.pending.entry(topic_partition).or_insert((position, n + 1));
        }
    }

    fn offsets(&mut self, _deliveries: &[Delivery]) -> Vec<OffsetCommit> {
        let mut offsets: Vec<OffsetCommit> = self
            .pending
            .iter()
            .map(|(topic_partition, (offset, n))| OffsetCommit {
                topic_partition: topic_partition.clone(),
                offset: *offset,
                metadata: n.to_string(),
            })
            .collect();
        if self.foreign {
            offsets.push(OffsetCommit {
                topic_partition: source(99),
                offset: 1,
                metadata: String::new(),
            });
        }
        offsets
    }

    fn committed(&mut self) -> Vec<MetricUpdate> {
        self.log("committed");
        let counted = std::mem::take(&mut self.counted);
        self.committed.append(&mut self.pending);
        vec![Metric::LogBytes.update(&["in"], counted)]
    }

    fn discard(&mut self) -> Vec<TopicPartition> {
        self.log("discard");
        self.pending.clear();
        self.counted = 0.0;
        Vec::new()
    }

    fn suspend(&mut self) -> Vec<TopicPartition> {
        self.log("suspend");
        self.pending.clear();
        self.counted = 0.0;
        self.committed.keys().cloned().collect()
    }

    fn pauses(&mut self) -> Vec<(TopicPartition, PartitionStop)> {
        std::mem::take(&mut self.pauses)
    }
}

/// Adds up what is published.
#[derive(Default)]
pub(super) struct Counters(pub(super) Mutex<Vec<MetricUpdate>>);

impl MetricSink for Counters {
    fn publish(&self, updates: Vec<MetricUpdate>) {
        self.0.lock().expect("no test panics with it").extend(updates);
    }
}

impl Counters {
    pub(super) fn sum(&self, metric: Metric) -> f64 {
        let updates = self.0.lock().expect("no test panics with it");
        updates.iter().filter(|update| update.metric == metric).map(|update| update.value).sum()
    }
}

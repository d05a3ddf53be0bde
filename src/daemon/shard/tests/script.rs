//! A broker that does as it is told.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::super::*;
use crate::daemon::broker::{BrokerErrorKind, LookupFailure, SendError};
use crate::pipeline::record::Timestamp;
use crate::pipeline::step::{Delivery, Lookup, LookupAnswer, OffsetCommit, OutputRecord};

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
    /// How long each read of a restore takes.
    pub(super) read_time: Duration,
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
    /// What the stage was told of partitions that are not read.
    pub(super) held: Vec<(TopicPartition, Timestamp)>,
    /// Records handed out a second time.
    pub(super) again: Vec<(TopicPartition, i64)>,
    /// The operation during which the second signal comes.
    pub(super) second_signal: Option<(&'static str, Stop)>,
}

impl World {
    fn fails(&mut self, operation: &'static str) -> Option<BrokerError> {
        self.log.push(operation.to_owned());
        if let Some((_, stop)) = self.second_signal.as_ref().filter(|(at, _)| *at == operation) {
            stop.request(StopLevel::Now);
        }
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
                Lookup::Read { topic_partition, from, .. } => {
                    let read_time = world.read_time;
                    world.elapsed += read_time;
                    let batch = RecordBatch::new(topic_partition);
                    LookupAnswer::Records { batch, next: from + 1 }
                }
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

    fn fence(&mut self, ticket: Ticket, _: &TopicPartition, transactional_id: &str) {
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

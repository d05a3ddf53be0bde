//! Look-ups of a slot, on one thread with clients of their own: they may block, the loop may not.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::super::{
    BrokerError, BrokerErrorKind, Event, Lookup, LookupAnswer, LookupFailure, PartitionFailure,
    RecordBatch, SlotConfig, Ticket, TopicPartition,
};
use super::config::KafkaConfig;
use super::context::{Deliveries, DeliveryContext, PlainContext};
use super::errors::{classify, lookup_failure};
use super::hand_over::{self, GroupRest};
use crate::daemon::clock::{Clock, SystemClock};
use crate::pipeline::record::{Header, Timestamp};
use crate::pipeline::step::WRITER_HEADER;

/// Longest single wait for records.
const POLL: Duration = Duration::from_millis(10);

/// Longest wait for a committed offset that a transaction holds: other partitions' questions stand
/// behind it, and the one that frees it.
const PENDING_WAIT: Duration = Duration::from_secs(1);

/// Something to find out or to do beside the loop.
pub(super) enum Task {
    Lookup {
        ticket: Ticket,
        topic_partition: TopicPartition,
        lookup: Lookup,
    },
    Writer {
        ticket: Ticket,
        topic_partition: TopicPartition,
    },
    Fence {
        ticket: Ticket,
        topic_partition: TopicPartition,
        transactional_id: String,
    },
    /// Which of these next offsets can't be read?
    Probe(Vec<(TopicPartition, i64)>),
    /// At which of these next offsets is a damaged batch?
    Inspect(Vec<(TopicPartition, i64)>),
    /// Would joining the group now orphan a partition?
    Group,
}

pub(super) enum Answer {
    Event(Event),
    Failed(Vec<(TopicPartition, PartitionFailure)>),
    Inspected(Vec<TopicPartition>),
    Group(Result<GroupRest, LookupFailure>),
}

/// The shard's end of the helper thread.
pub(super) struct Helper {
    tasks: Sender<Task>,
    answers: Receiver<Answer>,
    pending: usize,
}

impl Helper {
    /// Starts the thread; it ends when this is dropped and its current task is done.
    pub(super) fn start(config: &KafkaConfig, slot: &SlotConfig) -> Result<Self, BrokerError> {
        let reader = |isolation| {
            let config = config.reader(slot, isolation);
            let made: Result<Reader, _> = config.create_with_context(PlainContext);
            made.map_err(|error| classify("create look-up client", &error))
        };
        let (tasks, inbox) = channel();
        let (outbox, answers) = channel();
        let clients = Clients {
            committed: reader("read_committed")?,
            uncommitted: reader("read_uncommitted")?,
            producer: config.producer(slot),
            timeout: slot.lookup_timeout,
            bytes_max: slot.lookup_bytes_max,
            slot: slot.clone(),
        };
        std::thread::Builder::new()
            .name("blotter-lookup".into())
            .spawn(move || clients.serve(&inbox, &outbox))
            .map_err(|error| {
                BrokerError::new(BrokerErrorKind::Fatal, "start look-ups", error.to_string())
            })?;
        Ok(Self { tasks, answers, pending: 0 })
    }

    pub(super) fn ask(&mut self, task: Task) {
        // The thread ends only after this end is dropped.
        if self.tasks.send(task).is_ok() {
            self.pending += 1;
        }
    }

    pub(super) fn answer(&mut self) -> Option<Answer> {
        let answer = self.answers.try_recv().ok()?;
        self.pending -= 1;
        Some(answer)
    }

    /// Whether an answer is still to come.
    pub(super) fn is_busy(&self) -> bool {
        self.pending > 0
    }
}

pub(super) type Reader = BaseConsumer<PlainContext>;

pub(super) struct Clients {
    pub(super) committed: Reader,
    pub(super) uncommitted: Reader,
    producer: ClientConfig,
    pub(super) timeout: Duration,
    bytes_max: usize,
    pub(super) slot: SlotConfig,
}

impl Clients {
    fn serve(&self, inbox: &Receiver<Task>, outbox: &Sender<Answer>) {
        let mut waiting = VecDeque::new();
        loop {
            if waiting.is_empty() {
                let Ok(task) = inbox.recv() else { return };
                waiting.push_back(task);
            }
            waiting.extend(inbox.try_iter());
            // A fence frees look-ups that would otherwise wait for their time-out.
            let urgent = |task: &Task| matches!(task, Task::Fence { .. } | Task::Writer { .. });
            let next = waiting.iter().position(urgent).unwrap_or(0);
            let task = waiting.remove(next).expect("the index was just found");
            if outbox.send(self.answer(task)).is_err() {
                return;
            }
        }
    }

    fn answer(&self, task: Task) -> Answer {
        match task {
            Task::Lookup { ticket, topic_partition, lookup } => {
                let result = unwinding(|| self.look_up(&topic_partition, &lookup));
                Answer::Event(Event::Lookup { ticket, topic_partition, result })
            }
            Task::Writer { ticket, topic_partition } => {
                let result = unwinding(|| self.writer(&topic_partition, |_| true));
                Answer::Event(Event::Writer { ticket, topic_partition, result })
            }
            Task::Fence { ticket, topic_partition, transactional_id } => {
                let result = unwinding(|| self.fence(&topic_partition, &transactional_id));
                Answer::Event(Event::Fenced { ticket, result })
            }
            Task::Probe(positions) => Answer::Failed(self.probe(positions)),
            Task::Inspect(positions) => Answer::Inspected(self.inspect(positions)),
            Task::Group => {
                let look = || hand_over::look(&self.committed, &self.slot, self.timeout);
                Answer::Group(unwinding(look))
            }
        }
    }

    fn look_up(
        &self,
        topic_partition: &TopicPartition,
        lookup: &Lookup,
    ) -> Result<LookupAnswer, LookupFailure> {
        match lookup {
            Lookup::Committed => self.committed(topic_partition),
            Lookup::Range(of) => {
                let range = self.range(of)?;
                Ok(LookupAnswer::Range { low: range.low, high: range.high, lso: range.lso })
            }
            Lookup::Read { topic_partition: of, from, to } => self.read(of, *from, *to),
            Lookup::OffsetAt { topic_partition: of, time } => self.offset_at(of, *time),
        }
    }

    pub(super) fn committed(&self, of: &TopicPartition) -> Result<LookupAnswer, LookupFailure> {
        committed(&self.committed, of, self.timeout.min(PENDING_WAIT))
    }

    fn range(&self, of: &TopicPartition) -> Result<Range, LookupFailure> {
        let ask = |reader: &Reader| {
            let ask = || reader.fetch_watermarks(&of.topic, of.partition, self.timeout);
            match ask().map_err(failed) {
                // The client may remember the topic from before it was made or has grown.
                Err(LookupFailure::UnknownPartition) => {
                    reader.fetch_metadata(Some(&of.topic), self.timeout).map_err(failed)?;
                    ask().map_err(failed)
                }
                answer => answer,
            }
        };
        // In this order the last stable offset is never above the high watermark.
        let (low, lso) = ask(&self.committed)?;
        let (_, high) = ask(&self.uncommitted)?;
        Ok(Range { low, lso, high })
    }

    fn offset_at(
        &self,
        of: &TopicPartition,
        time: Timestamp,
    ) -> Result<LookupAnswer, LookupFailure> {
        let mut list = TopicPartitionList::with_capacity(1);
        let time = Offset::Offset(time.millis().max(0));
        list.add_partition_offset(&of.topic, of.partition, time).map_err(failed)?;
        let list = self.uncommitted.offsets_for_times(list, self.timeout).map_err(failed)?;
        let elements = list.elements();
        let element = elements.first().expect("one partition was asked for");
        element.error().map_err(failed)?;
        match element.offset() {
            Offset::Offset(offset) => Ok(LookupAnswer::OffsetAt(offset)),
            _ => self.range(of).map(|range| LookupAnswer::OffsetAt(range.high)),
        }
    }

    fn read(&self, of: &TopicPartition, from: i64, to: i64) -> Result<LookupAnswer, LookupFailure> {
        let range = self.range(of)?;
        if from < range.low || from > range.high {
            return Err(LookupFailure::OffsetOutOfRange);
        }
        let end = to.min(range.lso);
        let mut batch = RecordBatch::new(of.clone());
        let mut next = from;
        if from < end {
            let bytes_max = self.bytes_max;
            next = self.scan(&self.committed, of, from, end, |offset, message| {
                push(&mut batch, offset, message);
                batch.size_bytes() < bytes_max
            })?;
        }
        Ok(LookupAnswer::Records { batch, next })
    }

    /// The first writer named above the last stable offset that `is_wanted`.
    pub(super) fn writer(
        &self,
        of: &TopicPartition,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<Option<String>, LookupFailure> {
        let range = self.range(of)?;
        let mut found = None;
        if range.lso < range.high {
            self.scan(&self.uncommitted, of, range.lso, range.high, |_, message| {
                found = writer_header(message).filter(|writer| is_wanted(writer));
                found.is_none()
            })?;
        }
        Ok(found)
    }

    /// Reads `of` from `from` to `end` (exclusive) until `visit` has enough; returns where to go
    /// on. One partition is assigned at a time, since end-of-partition errors name no topic.
    fn scan(
        &self,
        reader: &Reader,
        of: &TopicPartition,
        from: i64,
        end: i64,
        mut visit: impl FnMut(i64, &rdkafka::message::BorrowedMessage<'_>) -> bool,
    ) -> Result<i64, LookupFailure> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&of.topic, of.partition, Offset::Offset(from)).map_err(failed)?;
        reader.assign(&list).map_err(failed)?;
        let clock = SystemClock::new();
        let mut next = from;
        let outcome = loop {
            match reader.poll(POLL) {
                Some(Ok(message)) if message.offset() >= end => break Ok(end),
                Some(Ok(message)) => {
                    next = message.offset() + 1;
                    if !visit(message.offset(), &message) || next >= end {
                        break Ok(next);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => break Ok(end),
                Some(Err(error)) => match lookup_failure(&error) {
                    // A passing fault of a broker: the time-out bounds it.
                    LookupFailure::Other(_) | LookupFailure::TimedOut => {}
                    failure => break Err(failure),
                },
                None if clock.monotonic() >= self.timeout && next > from => break Ok(next),
                None if clock.monotonic() >= self.timeout => break Err(LookupFailure::TimedOut),
                None => {}
            }
        };
        reader.unassign().map_err(failed)?;
        outcome
    }

    fn fence(&self, of: &TopicPartition, transactional_id: &str) -> Result<(), LookupFailure> {
        let mut config = self.producer.clone();
        config.set("transactional.id", transactional_id);
        let context = DeliveryContext { deliveries: std::sync::Arc::new(Deliveries::default()) };
        let producer: BaseProducer<_> = config.create_with_context(context).map_err(failed)?;
        producer.init_transactions(self.timeout).map_err(failed)?;
        self.end_hanging(&producer, of, transactional_id)
    }

    fn probe(
        &self,
        positions: Vec<(TopicPartition, i64)>,
    ) -> Vec<(TopicPartition, PartitionFailure)> {
        let failure = |of: &TopicPartition, next: i64| match self.range(of) {
            Ok(range) if next < range.low || next > range.high => {
                Some(PartitionFailure::OffsetOutOfRange)
            }
            Ok(_) => None,
            Err(LookupFailure::UnknownPartition) => Some(PartitionFailure::UnknownPartition),
            Err(LookupFailure::NotAuthorized) => Some(PartitionFailure::NotAuthorized),
            // A passing fault; when nothing is found the shard is told that it is unknown.
            Err(_) => None,
        };
        positions
            .into_iter()
            .filter_map(|(of, next)| failure(&of, next).map(|failure| (of, failure)))
            .collect()
    }
}

impl Clients {
    /// One partition at a time, so that the error is that partition's.
    fn inspect(&self, positions: Vec<(TopicPartition, i64)>) -> Vec<TopicPartition> {
        let is_damaged = |of: &TopicPartition, next: i64| {
            let read = self.range(of).and_then(|range| match range.lso {
                end if next < end => self.scan(&self.committed, of, next, end, |_, _| false),
                _ => Ok(next),
            });
            read == Err(LookupFailure::Corrupt)
        };
        positions.into_iter().filter(|(of, next)| is_damaged(of, *next)).map(|(of, _)| of).collect()
    }
}

/// The group's committed offset, a stable one when `reader` reads committed records only.
pub(super) fn committed(
    reader: &Reader,
    of: &TopicPartition,
    wait: Duration,
) -> Result<LookupAnswer, LookupFailure> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition(&of.topic, of.partition);
    let list = reader.committed_offsets(list, wait).map_err(failed)?;
    let elements = list.elements();
    let element = elements.first().expect("one partition was asked for");
    element.error().map_err(failed)?;
    let offset = match element.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    };
    Ok(LookupAnswer::Committed { offset, metadata: element.metadata().to_owned() })
}

struct Range {
    low: i64,
    lso: i64,
    pub(super) high: i64,
}

fn push(batch: &mut RecordBatch, offset: i64, message: &rdkafka::message::BorrowedMessage<'_>) {
    let headers = message.headers().into_iter().flat_map(|headers| {
        headers.iter().map(|header| Header { name: header.key, value: header.value })
    });
    let timestamp = Timestamp::from_millis(message.timestamp().to_millis().unwrap_or(-1));
    batch.push(offset, timestamp, message.key(), message.payload(), headers);
}

fn writer_header(message: &rdkafka::message::BorrowedMessage<'_>) -> Option<String> {
    let headers = message.headers()?;
    let value = headers.iter().filter(|header| header.key == WRITER_HEADER).last()?.value?;
    String::from_utf8(value.to_vec()).ok()
}

pub(super) fn failed(error: KafkaError) -> LookupFailure {
    lookup_failure(&error)
}

/// The crate panics on an offset whose metadata is not text; that must not end the thread.
fn unwinding<T>(work: impl FnOnce() -> Result<T, LookupFailure>) -> Result<T, LookupFailure> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(LookupFailure::Other("the client panicked".to_owned())))
}

//! Look-ups: asked now, answered at a later poll.

use std::collections::BTreeMap;

use super::ModelError;
use super::client::{Line, borrowed};
use super::cluster::{State, millis};
use super::log::{Isolation, StoredRecord};
use crate::daemon::broker::{Event, LookupFailure, SlotConfig, Ticket};
use crate::pipeline::record::{RecordBatch, Timestamp, TopicPartition};
use crate::pipeline::step::{Lookup, LookupAnswer, WRITER_HEADER};

enum Question {
    Restore { topic_partition: TopicPartition, lookup: Lookup },
    Writer { topic_partition: TopicPartition },
    Fence { transactional_id: String },
}

struct Asked {
    question: Question,
    ready_at: Timestamp,
    gives_up_at: Timestamp,
    answer: Option<Event>,
}

#[derive(Default)]
pub(super) struct Lookups {
    open: BTreeMap<Ticket, Asked>,
}

impl Lookups {
    pub(super) fn ask(
        &mut self,
        line: &Line,
        slot: &SlotConfig,
        ticket: Ticket,
        topic_partition: &TopicPartition,
        lookup: Lookup,
    ) {
        let topic_partition = topic_partition.clone();
        self.open(line, "lookup", slot, ticket, Question::Restore { topic_partition, lookup });
    }

    pub(super) fn ask_writer(
        &mut self,
        line: &Line,
        slot: &SlotConfig,
        ticket: Ticket,
        topic_partition: &TopicPartition,
    ) {
        let topic_partition = topic_partition.clone();
        self.open(line, "read_writer", slot, ticket, Question::Writer { topic_partition });
    }

    pub(super) fn ask_fence(
        &mut self,
        line: &Line,
        slot: &SlotConfig,
        ticket: Ticket,
        transactional_id: &str,
    ) {
        let transactional_id = transactional_id.to_owned();
        self.open(line, "fence", slot, ticket, Question::Fence { transactional_id });
    }

    /// Gives the answers that are ready.
    pub(super) fn answer(&mut self, state: &mut State, slot: &SlotConfig, events: &mut Vec<Event>) {
        let now = state.now;
        let due: Vec<Ticket> = self
            .open
            .iter()
            .filter(|(_, asked)| asked.ready_at <= now)
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in due {
            let Some(asked) = self.open.get_mut(&ticket) else { continue };
            let answer = asked.answer.take().or_else(|| evaluate(state, slot, ticket, asked));
            if let Some(event) = answer {
                self.open.remove(&ticket);
                events.push(event);
            }
        }
    }

    /// When the next answer or time-out is due.
    pub(super) fn wakes_at(&self) -> Option<Timestamp> {
        let due = self.open.values().flat_map(|asked| [asked.ready_at, asked.gives_up_at]);
        due.min()
    }

    fn open(
        &mut self,
        line: &Line,
        operation: &'static str,
        slot: &SlotConfig,
        ticket: Ticket,
        question: Question,
    ) {
        line.conductor().before(&line.named(operation));
        let about = match &question {
            Question::Restore { topic_partition, .. } | Question::Writer { topic_partition } => {
                topic_partition.clone()
            }
            Question::Fence { transactional_id } => {
                TopicPartition::new(transactional_id.as_str(), 0)
            }
        };
        let fate = line.conductor().lookup(&line.named(operation), &about);
        let mut state = line.cluster.lock();
        let mut asked = Asked {
            question,
            ready_at: state.now.plus_millis(millis(fate.delay)),
            gives_up_at: state.now.plus_millis(millis(slot.lookup_timeout)),
            answer: None,
        };
        if let Some(failure) = fate.failure {
            asked.answer = Some(failed(ticket, &asked.question, failure));
        } else if fate.stale {
            asked.answer = evaluate(&mut state, slot, ticket, &asked);
        }
        self.open.insert(ticket, asked);
    }
}

/// Copies a stored record into a batch.
pub(super) fn push(batch: &mut RecordBatch, record: &StoredRecord) {
    let body = &record.body;
    let (key, value) = (body.key.as_deref(), body.value.as_deref());
    batch.push(record.offset, record.timestamp, key, value, borrowed(body));
}

/// The answer as things stand now; `None` when it has to wait.
fn evaluate(state: &mut State, slot: &SlotConfig, ticket: Ticket, asked: &Asked) -> Option<Event> {
    let result = match &asked.question {
        Question::Restore { topic_partition, lookup } => {
            restore(state, slot, topic_partition, lookup).map(|answer| Event::Lookup {
                ticket,
                topic_partition: topic_partition.clone(),
                result: Ok(answer),
            })
        }
        Question::Writer { topic_partition } => writer(state, topic_partition).map(|writer| {
            Event::Writer { ticket, topic_partition: topic_partition.clone(), result: Ok(writer) }
        }),
        Question::Fence { transactional_id } => {
            let id = transactional_id.as_str().into();
            drop(state.init_producer(&id, millis(slot.transaction_timeout)));
            state.touch();
            Ok(Event::Fenced { ticket, result: Ok(()) })
        }
    };
    match result {
        Ok(event) => Some(event),
        Err(ModelError::UnstableOffset) if state.now < asked.gives_up_at => None,
        Err(error) => Some(failed(ticket, &asked.question, failure_of(error))),
    }
}

fn restore(
    state: &mut State,
    slot: &SlotConfig,
    source: &TopicPartition,
    lookup: &Lookup,
) -> Result<LookupAnswer, ModelError> {
    match lookup {
        Lookup::Committed => {
            let group = state.group_mut(&slot.group.as_str().into());
            let committed = group.committed(source)?;
            Ok(LookupAnswer::Committed {
                offset: committed.as_ref().map(|own| own.offset),
                metadata: committed.map(|own| own.metadata).unwrap_or_default(),
            })
        }
        Lookup::Range(topic_partition) => {
            let (topic, index) = state.topic_mut(topic_partition)?;
            let log = topic.partitions.get(index).ok_or(ModelError::UnknownTopicOrPartition)?;
            Ok(LookupAnswer::Range { low: log.low(), high: log.high(), lso: log.last_stable() })
        }
        Lookup::Read { topic_partition, from, to } => {
            let (topic, index) = state.topic_mut(topic_partition)?;
            let log = topic.partitions.get(index).ok_or(ModelError::UnknownTopicOrPartition)?;
            let mut batch = RecordBatch::new(topic_partition.clone());
            let next = log.read(Isolation::ReadCommitted, *from, *to, |record| {
                push(&mut batch, record);
                batch.size_bytes() < slot.lookup_bytes_max
            })?;
            Ok(LookupAnswer::Records { batch, next })
        }
        Lookup::OffsetAt { topic_partition, time } => {
            let (topic, index) = state.topic_mut(topic_partition)?;
            let log = topic.partitions.get(index).ok_or(ModelError::UnknownTopicOrPartition)?;
            Ok(LookupAnswer::OffsetAt(log.offset_at(*time).unwrap_or_else(|| log.high())))
        }
    }
}

fn writer(
    state: &mut State,
    topic_partition: &TopicPartition,
) -> Result<Option<String>, ModelError> {
    let (topic, index) = state.topic_mut(topic_partition)?;
    let log = topic.partitions.get(index).ok_or(ModelError::UnknownTopicOrPartition)?;
    let mut oldest = None;
    log.read(Isolation::ReadUncommitted, log.last_stable(), i64::MAX, |record| {
        let header = record.body.header(WRITER_HEADER);
        oldest = header.map(|value| String::from_utf8_lossy(value).into_owned());
        oldest.is_none()
    })?;
    Ok(oldest)
}

fn failed(ticket: Ticket, question: &Question, failure: LookupFailure) -> Event {
    match question {
        Question::Restore { topic_partition, .. } => {
            Event::Lookup { ticket, topic_partition: topic_partition.clone(), result: Err(failure) }
        }
        Question::Writer { topic_partition } => {
            Event::Writer { ticket, topic_partition: topic_partition.clone(), result: Err(failure) }
        }
        Question::Fence { .. } => Event::Fenced { ticket, result: Err(failure) },
    }
}

fn failure_of(error: ModelError) -> LookupFailure {
    match error {
        ModelError::UnknownTopicOrPartition => LookupFailure::UnknownPartition,
        ModelError::OffsetOutOfRange => LookupFailure::OffsetOutOfRange,
        ModelError::UnstableOffset => LookupFailure::TimedOut,
        other => LookupFailure::Other(other.to_string()),
    }
}

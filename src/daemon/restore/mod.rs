//! The restore of one partition: asks what the stage wants to know, one question at a time, beside
//! the loop. Nothing here waits; a late or stale answer is recognised by its ticket.

mod pending;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::broker::{Broker, LookupFailure, Ticket};
use super::shard::RestoreConfig;
use crate::pipeline::record::{Timestamp, TopicPartition};
use crate::pipeline::step::{Lookup, LookupAnswer, PartitionStop, RestoreStep, Stage};

/// The restore of one partition.
pub(crate) struct Restore {
    state: State,
    outputs: Vec<TopicPartition>,
    ticket: Option<Ticket>,
    /// When it began, or last was given records.
    moved_at: Option<Duration>,
    asked_at: Duration,
    retry_at: Option<Duration>,
    /// When it last told the log that it gets no further.
    noticed_at: Duration,
    failures: u32,
    last_failure: Option<LookupFailure>,
    /// When something was first found pending, and when its writer was last looked for.
    pending_since: Option<Duration>,
    looked_at: Option<Duration>,
    high_first: Option<i64>,
    /// The committed offset and metadata that the stage was told.
    told: Option<(Option<i64>, String)>,
}

enum State {
    /// Waits for its turn.
    Queued,
    /// Looks whether output partition `.0` exists and holds no open transaction.
    Output(usize),
    /// Waits for the answer to the stage's question.
    Stage(Lookup),
    /// The stage wants to end it so: is the committed offset still what it was told?
    Confirm(Progress),
    /// Looks for the writer of an open transaction in output partition `index`.
    Writer { index: usize, resume: Question },
    /// Fences that writer.
    Fence { transactional_id: String, resume: Question },
}

/// A question that is asked again once the dead writer is fenced.
#[derive(Clone)]
enum Question {
    Output(usize),
    Stage(Lookup),
    Confirm(Progress),
}

impl Question {
    fn is_committed(&self) -> bool {
        matches!(self, Self::Stage(Lookup::Committed) | Self::Confirm(_))
    }
}

/// What a restore works with, lent by the shard for one call.
pub(crate) struct Context<'a, B, S> {
    pub(crate) broker: &'a mut B,
    pub(crate) stage: &'a mut S,
    pub(crate) topic_partition: &'a TopicPartition,
    pub(crate) config: &'a RestoreConfig,
    pub(crate) own_transactional_id: &'a str,
    pub(crate) next_ticket: &'a mut u64,
    /// The writers that have been fenced in this assignment.
    pub(crate) fenced: &'a mut BTreeSet<String>,
    pub(crate) now: Timestamp,
    pub(crate) monotonic: Duration,
}

/// An answer by whatever event it came.
pub(crate) enum Answer {
    Lookup(Result<LookupAnswer, LookupFailure>),
    Writer(Result<Option<String>, LookupFailure>),
    Fenced(Result<(), LookupFailure>),
}

/// Where the restore stands.
#[derive(Clone, Debug)]
pub(crate) enum Progress {
    Waiting,
    Ready {
        position: i64,
    },
    Stop(PartitionStop),
    /// The process ends.
    Refuse(PartitionStop),
}

impl Restore {
    /// A restore that waits for its turn.
    pub(crate) fn queued() -> Self {
        Self {
            state: State::Queued,
            outputs: Vec::new(),
            ticket: None,
            moved_at: None,
            asked_at: Duration::ZERO,
            retry_at: None,
            noticed_at: Duration::ZERO,
            failures: 0,
            last_failure: None,
            pending_since: None,
            looked_at: None,
            high_first: None,
            told: None,
        }
    }

    /// A restore that waits until `at` before it takes its turn.
    pub(crate) fn queued_until(at: Duration) -> Self {
        Self { retry_at: Some(at), ..Self::queued() }
    }

    /// Whether it waits for its turn.
    pub(crate) fn is_queued(&self) -> bool {
        matches!(self.state, State::Queued)
    }

    /// Whether `ticket` is the question it waits for.
    pub(crate) fn awaits(&self, ticket: Ticket) -> bool {
        self.ticket == Some(ticket)
    }

    /// When it wants [`Restore::advance`] at the latest.
    pub(crate) fn wake_at(&self) -> Option<Duration> {
        self.retry_at
    }

    /// Begins, asks again what failed, or gives up when the budget is spent.
    pub(crate) fn advance<B: Broker, S: Stage>(
        &mut self,
        context: &mut Context<'_, B, S>,
    ) -> Progress {
        if self.retry_at.is_some_and(|at| at > context.monotonic) {
            return Progress::Waiting;
        }
        let moved_at = *self.moved_at.get_or_insert(context.monotonic);
        self.notice(moved_at, context);
        if context.monotonic.saturating_sub(moved_at) > context.config.budget {
            return Progress::Stop(PartitionStop {
                reason: "restore_timeout",
                detail: format!(
                    "{} could not be restored: no progress for {:?}",
                    context.topic_partition, context.config.budget
                ),
                command: self.way_on().to_owned(),
            });
        }
        if self.is_queued() {
            self.retry_at = None;
            self.told = None;
            self.outputs = context.stage.output_partitions(context.topic_partition);
            return self.check_output(0, context);
        }
        if self.retry_at.take().is_some() {
            self.ask(context);
        }
        Progress::Waiting
    }

    /// Takes the answer to the question it [awaits](Restore::awaits).
    pub(crate) fn answer<B: Broker, S: Stage>(
        &mut self,
        answer: Answer,
        context: &mut Context<'_, B, S>,
    ) -> Progress {
        self.ticket = None;
        match (std::mem::replace(&mut self.state, State::Queued), answer) {
            (State::Output(index), Answer::Lookup(result)) => {
                self.output_answered(index, result, context)
            }
            (State::Stage(lookup), Answer::Lookup(result)) => {
                self.stage_answered(lookup, result, context)
            }
            (State::Confirm(end), Answer::Lookup(result)) => {
                self.confirm_answered(end, result, context)
            }
            (State::Writer { index, resume }, Answer::Writer(result)) => {
                self.writer_answered(index, resume, result, context)
            }
            (State::Fence { transactional_id, resume }, Answer::Fenced(result)) => {
                if result.is_err() {
                    context.fenced.remove(&transactional_id);
                }
                self.looked_at = Some(context.monotonic);
                self.resume(resume, context)
            }
            (state, _) => {
                self.state = state;
                Progress::Waiting
            }
        }
    }

    fn output(&self, index: usize) -> &TopicPartition {
        self.outputs.get(index).expect("the state holds an index into the outputs")
    }

    fn check_output<B: Broker, S: Stage>(
        &mut self,
        index: usize,
        context: &mut Context<'_, B, S>,
    ) -> Progress {
        self.settle();
        if index < self.outputs.len() {
            self.state = State::Output(index);
            self.ask(context);
            return Progress::Waiting;
        }
        let step = guarded(|| context.stage.assign(context.topic_partition, context.now));
        self.take_step(step, None, context)
    }

    fn output_answered<B: Broker, S: Stage>(
        &mut self,
        index: usize,
        result: Result<LookupAnswer, LookupFailure>,
        context: &mut Context<'_, B, S>,
    ) -> Progress {
        match result {
            Ok(LookupAnswer::Range { high, lso, .. }) => {
                if lso >= *self.high_first.get_or_insert(high) {
                    self.check_output(index + 1, context)
                } else {
                    self.pend(Question::Output(index), context.monotonic, context)
                }
            }
            Ok(_) => self.retry(Question::Output(index), context),
            Err(LookupFailure::UnknownPartition) => Progress::Stop(PartitionStop {
                reason: "output_partition_missing",
                detail: format!(
                    "{} writes to {}, which does not exist",
                    context.topic_partition,
                    self.outputs.get(index).map(ToString::to_string).unwrap_or_default()
                ),
                command: "blotter topics grow".to_owned(),
            }),
            Err(failure) => self.failed(Question::Output(index), &failure, context),
        }
    }

    /// An answer to the stage's question. The range of one of its output partitions is handed on
    /// only when the last stable offset has reached the high watermark that was seen first: below
    /// that, committed records may hide above a dead writer's open transaction.
    fn stage_answered<B: Broker, S: Stage>(
        &mut self,
        lookup: Lookup,
        result: Result<LookupAnswer, LookupFailure>,
        context: &mut Context<'_, B, S>,
    ) -> Progress {
        match (&lookup, result) {
            (Lookup::Range(asked), Ok(LookupAnswer::Range { low, high, lso })) => {
                let own = self.outputs.contains(asked);
                if own && lso < *self.high_first.get_or_insert(high) {
                    return self.pend(Question::Stage(lookup), context.monotonic, context);
                }
                self.hand_over(lookup, LookupAnswer::Range { low, high, lso }, context)
            }
            (Lookup::Committed, Err(LookupFailure::TimedOut)) => {
                self.pend(Question::Stage(lookup), self.asked_at, context)
            }
            (_, Ok(answer)) => self.hand_over(lookup, answer, context),
            (_, Err(LookupFailure::OffsetOutOfRange)) => self.again(context),
            (_, Err(failure)) => self.failed(Question::Stage(lookup), &failure, context),
        }
    }

    fn hand_over<B: Broker, S: Stage>(
        &mut self,
        lookup: Lookup,
        answer: LookupAnswer,
        context: &mut Context<'_, B, S>,
    ) -> Progress {
        self.settle();
        if let LookupAnswer::Committed { offset, metadata } = &answer {
            self.told = Some((*offset, metadata.clone()));
        }
        let read = matches!(answer, LookupAnswer::Records { .. });
        let step = guarded(|| context.stage.restore(context.topic_partition, answer, context.now));
        // However much there is to read, it comes to an end: what is read was fixed before.
        if read && !matches!(&step, Some(RestoreStep::Ask(next)) if *next == lookup) {
            self.moved_at = Some(context.monotonic);
        }
        self.take_step(step, Some(&lookup), context)
    }

    fn take_step<B: Broker, S: Stage>(
        &mut self,
        step: Option<RestoreStep>,
        asked_before: Option<&Lookup>,
        context: &mut Context<'_, B, S>,
    ) -> Progress {
        match step {
            Some(RestoreStep::Ready { position }) => Progress::Ready { position },
            Some(RestoreStep::Stop(stop)) => self.confirm(Progress::Stop(stop), context),
            Some(RestoreStep::Refuse(stop)) => self.confirm(Progress::Refuse(stop), context),
            Some(RestoreStep::Ask(lookup)) if asked_before == Some(&lookup) => {
                self.state = State::Stage(lookup);
                self.retry_at = Some(context.monotonic + context.config.retry_min);
                Progress::Waiting
            }
            Some(RestoreStep::Ask(lookup)) => {
                self.state = State::Stage(lookup);
                self.ask(context);
                Progress::Waiting
            }
            None => Progress::Stop(PartitionStop {
                reason: "restore_panicked",
                detail: format!("the restore of {} panicked", context.topic_partition),
                command: "none: a bug, please report it; blotter audit verify tells if the chain is whole"
                    .to_owned(),
            }),
        }
    }

    /// A stop stands only when the committed offset is still what the stage was told. Otherwise
    /// another owner has been at work since (this member has lost the partition and does not know
    /// it yet), and what the stage found means nothing.
    fn confirm<B: Broker, S>(
        &mut self,
        end: Progress,
        context: &mut Context<'_, B, S>,
    ) -> Progress {
        if self.told.is_none() {
            return end;
        }
        self.state = State::Confirm(end);
        self.ask(context);
        Progress::Waiting
    }

    fn confirm_answered<B: Broker, S: Stage>(
        &mut self,
        end: Progress,
        result: Result<LookupAnswer, LookupFailure>,
        context: &mut Context<'_, B, S>,
    ) -> Progress {
        match result {
            Ok(LookupAnswer::Committed { offset, metadata }) => {
                if self.told == Some((offset, metadata)) {
                    return end;
                }
                self.again(context)
            }
            Err(LookupFailure::TimedOut) => {
                self.pend(Question::Confirm(end), self.asked_at, context)
            }
            Ok(_) => self.retry(Question::Confirm(end), context),
            Err(failure) => self.failed(Question::Confirm(end), &failure, context),
        }
    }

    /// From the first question on, after a pause.
    fn again<B, S>(&mut self, context: &Context<'_, B, S>) -> Progress {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(context.monotonic + self.back_off(context.config));
        self.state = State::Queued;
        Progress::Waiting
    }

    fn failed<B, S>(
        &mut self,
        question: Question,
        failure: &LookupFailure,
        context: &Context<'_, B, S>,
    ) -> Progress {
        let reason = match failure {
            LookupFailure::UnknownPartition => "partition_missing",
            LookupFailure::NotAuthorized => "not_authorized",
            LookupFailure::Corrupt => "batch_corrupt",
            LookupFailure::TimedOut | LookupFailure::OffsetOutOfRange | LookupFailure::Other(_) => {
                self.failures = self.failures.saturating_add(1);
                self.last_failure = Some(failure.clone());
                tracing::debug!(partition = %context.topic_partition, %failure,
                    "a look-up failed and is repeated");
                self.set(question);
                self.retry_at = Some(context.monotonic + self.back_off(context.config));
                return Progress::Waiting;
            }
        };
        Progress::Stop(PartitionStop {
            reason,
            detail: format!("the restore of {} failed: {failure}", context.topic_partition),
            command: "blotter topics check".to_owned(),
        })
    }

    fn retry<B, S>(&mut self, question: Question, context: &Context<'_, B, S>) -> Progress {
        self.set(question);
        self.retry_at = Some(context.monotonic + context.config.retry_min);
        Progress::Waiting
    }

    fn resume<B: Broker, S>(
        &mut self,
        question: Question,
        context: &mut Context<'_, B, S>,
    ) -> Progress {
        self.set(question);
        self.ask(context);
        Progress::Waiting
    }

    fn set(&mut self, question: Question) {
        self.state = match question {
            Question::Output(index) => State::Output(index),
            Question::Stage(lookup) => State::Stage(lookup),
            Question::Confirm(end) => State::Confirm(end),
        };
    }

    fn settle(&mut self) {
        self.failures = 0;
        self.last_failure = None;
        self.pending_since = None;
        self.looked_at = None;
        self.high_first = None;
    }

    fn back_off(&self, config: &RestoreConfig) -> Duration {
        let factor = 1_u32 << self.failures.min(10);
        config.retry_min.saturating_mul(factor).min(config.retry_max)
    }

    fn ask<B: Broker, S>(&mut self, context: &mut Context<'_, B, S>) {
        *context.next_ticket += 1;
        let ticket = Ticket(*context.next_ticket);
        self.ticket = Some(ticket);
        self.asked_at = context.monotonic;
        match &self.state {
            State::Queued => self.ticket = None,
            State::Output(index) => {
                let lookup = Lookup::Range(self.output(*index).clone());
                context.broker.lookup(ticket, context.topic_partition, lookup);
            }
            State::Stage(lookup) => {
                context.broker.lookup(ticket, context.topic_partition, lookup.clone());
            }
            State::Confirm(_) => {
                context.broker.lookup(ticket, context.topic_partition, Lookup::Committed);
            }
            State::Writer { index, .. } => context.broker.read_writer(ticket, self.output(*index)),
            State::Fence { transactional_id, .. } => {
                context.broker.fence(ticket, context.topic_partition, transactional_id);
            }
        }
    }
}

/// Runs a call into the pure floor; `None` when it panicked.
pub(crate) fn guarded<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}

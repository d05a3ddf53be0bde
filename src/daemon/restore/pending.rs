//! What a restore waits for: open transactions, and whoever left them open.

use std::time::Duration;

use super::{Context, Progress, Question, Restore, State};
use crate::daemon::broker::{Broker, LookupFailure};
use crate::pipeline::record::TopicPartition;
use crate::pipeline::step::{Lookup, Stage};

impl Restore {
    /// Something is pending since `since`: waits, and after a while ends the transaction of its
    /// writer, once per assignment.
    pub(super) fn pend<B: Broker, S: Stage>(
        &mut self,
        question: Question,
        since: Duration,
        context: &mut Context<'_, B, S>,
    ) -> Progress {
        let since = *self.pending_since.get_or_insert(since);
        let waited = context.monotonic.saturating_sub(self.looked_at.unwrap_or(since));
        if self.outputs.is_empty() || waited < context.config.pending_after {
            return self.retry(question, context);
        }
        self.state = State::Writer { index: 0, resume: question };
        self.ask(context);
        Progress::Waiting
    }

    pub(super) fn writer_answered<B: Broker, S: Stage>(
        &mut self,
        index: usize,
        resume: Question,
        result: Result<Option<String>, LookupFailure>,
        context: &mut Context<'_, B, S>,
    ) -> Progress {
        match result {
            Ok(Some(writer)) if self.is_to_be_fenced(&writer, context) => {
                self.fence(writer, resume, context);
            }
            _ if index + 1 < self.outputs.len() => {
                self.state = State::Writer { index: index + 1, resume };
                self.ask(context);
            }
            // An offset that nothing in the outputs goes with: most likely a slot's own.
            _ if resume.is_committed()
                && self.is_to_be_fenced(context.own_transactional_id, context) =>
            {
                self.fence(context.own_transactional_id.to_owned(), resume, context);
            }
            _ => {
                self.looked_at = Some(context.monotonic);
                return self.retry(resume, context);
            }
        }
        Progress::Waiting
    }

    fn fence<B: Broker, S>(
        &mut self,
        transactional_id: String,
        resume: Question,
        context: &mut Context<'_, B, S>,
    ) {
        tracing::warn!(partition = %context.topic_partition, transactional_id,
            "fencing the writer of a pending transaction");
        context.fenced.insert(transactional_id.clone());
        self.state = State::Fence { transactional_id, resume };
        self.ask(context);
    }

    /// Whoever left a transaction open. A slot's own last one was ended by its producer's start; one
    /// that is open all the same for long is hanging, and nobody but its writer can end it.
    fn is_to_be_fenced<B, S>(&self, writer: &str, context: &Context<'_, B, S>) -> bool {
        let open = self.pending_since.map(|since| context.monotonic.saturating_sub(since));
        let hangs = open.is_some_and(|open| open >= context.config.hanging_after);
        !context.fenced.contains(writer) && (writer != context.own_transactional_id || hangs)
    }

    /// Tells the log what it waits for when it gets no further, long before the budget is spent.
    pub(super) fn notice<B, S>(&mut self, moved_at: Duration, context: &Context<'_, B, S>) {
        let last = self.noticed_at.max(moved_at);
        if context.monotonic.saturating_sub(last) < context.config.notice_every {
            return;
        }
        self.noticed_at = context.monotonic;
        let failure = self.last_failure.as_ref().map(tracing::field::display);
        tracing::warn!(partition = %context.topic_partition, waits_for = self.waits_for(),
            waited_s = context.monotonic.saturating_sub(moved_at).as_secs(), failure,
            "the restore gets no further");
    }

    fn waits_for(&self) -> String {
        let is_pending = self.pending_since.is_some();
        let range_of = |of: &TopicPartition| match is_pending {
            true => format!("the open transaction in {of}"),
            false => format!("the offsets of {of}"),
        };
        match &self.state {
            State::Queued => "its next attempt".to_owned(),
            State::Output(index) => range_of(self.output(*index)),
            State::Stage(Lookup::Range(of)) => range_of(of),
            State::Stage(Lookup::Committed) | State::Confirm(_) if is_pending => {
                "the committed offset, which an open transaction holds".to_owned()
            }
            State::Stage(Lookup::Committed) | State::Confirm(_) => {
                "the committed offset".to_owned()
            }
            State::Stage(
                Lookup::Read { topic_partition, .. } | Lookup::OffsetAt { topic_partition, .. },
            ) => format!("records of {topic_partition}"),
            State::Writer { index, .. } => {
                format!("the writer of the open transaction in {}", self.output(*index))
            }
            State::Fence { transactional_id, .. } => format!("the fencing of {transactional_id}"),
        }
    }

    /// What an operator can do about a restore that did not end.
    pub(super) fn way_on(&self) -> &'static str {
        if self.pending_since.is_some() {
            // One that hangs, and of which it is not known that nothing was seen.
            "kafka-transactions.sh find-hanging and abort, for a transaction that stays open"
        } else {
            "blotter topics check"
        }
    }
}

//! Restoring one measures partition: the group's offset, then the state topic from its first
//! offset to its end, then the rules that say whether to go on.

use std::sync::Arc;

use super::WatchConfig;
use super::board::Board;
use super::state::{Position, restore_into};
use crate::pipeline::record::TopicPartition;
use crate::pipeline::step::{Lookup, LookupAnswer, PartitionStop};

/// A restore under way.
pub(super) struct Restore {
    topic_partition: TopicPartition,
    state: TopicPartition,
    board: Board,
    stage: Stage,
    committed: Option<i64>,
    position: Option<Position>,
    state_records: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Committed,
    /// `high` is the end that the last stable offset has to reach, once it is known.
    StateRange {
        high: Option<i64>,
    },
    State {
        from: i64,
        to: i64,
    },
    MeasuresRange,
}

/// How a restore goes on.
pub(super) enum RestoreProgress {
    Ask(Box<Restore>),
    Done(Box<Board>),
    Stop(PartitionStop),
}

impl Restore {
    pub(super) fn new(config: &Arc<WatchConfig>, topic_partition: &TopicPartition) -> Self {
        Self {
            topic_partition: topic_partition.clone(),
            state: config.state_partition(topic_partition),
            board: Board::new(Arc::clone(config), topic_partition.clone()),
            stage: Stage::Committed,
            committed: None,
            position: None,
            state_records: 0,
        }
    }

    /// The question that is open.
    pub(super) fn question(&self) -> Lookup {
        match self.stage {
            Stage::Committed => Lookup::Committed,
            Stage::StateRange { .. } => Lookup::Range(self.state.clone()),
            Stage::State { from, to } => {
                Lookup::Read { topic_partition: self.state.clone(), from, to }
            }
            Stage::MeasuresRange => Lookup::Range(self.topic_partition.clone()),
        }
    }

    /// Takes in an answer; one to another question leaves the open one open.
    pub(super) fn answer(mut self, answer: LookupAnswer) -> RestoreProgress {
        match (self.stage, answer) {
            (Stage::Committed, LookupAnswer::Committed { offset, .. }) => {
                self.committed = offset;
                self.stage = Stage::StateRange { high: None };
            }
            (Stage::StateRange { high }, LookupAnswer::Range { low, high: end, lso }) => {
                let high = high.unwrap_or(end);
                self.stage = match (lso >= high, low < high) {
                    (false, _) => Stage::StateRange { high: Some(high) },
                    (true, true) => Stage::State { from: low, to: high },
                    (true, false) => Stage::MeasuresRange,
                };
            }
            (Stage::State { to, .. }, LookupAnswer::Records { batch, next }) => {
                if let Err(stop) = self.take_state(&batch) {
                    return RestoreProgress::Stop(stop);
                }
                self.stage =
                    if next < to { Stage::State { from: next, to } } else { Stage::MeasuresRange };
            }
            (Stage::MeasuresRange, LookupAnswer::Range { low, high, .. }) => {
                return self.decide(low, high);
            }
            _ => {}
        }
        RestoreProgress::Ask(Box::new(self))
    }

    fn take_state(
        &mut self,
        batch: &crate::pipeline::record::RecordBatch,
    ) -> Result<(), PartitionStop> {
        let mut broken = None;
        batch.for_each(0..batch.len(), |record| {
            self.state_records += 1;
            match restore_into(&mut self.board, record.key.unwrap_or_default(), record.value) {
                Ok(Some(position)) => self.position = Some(position),
                Ok(None) => {}
                Err(_) => drop(broken.get_or_insert(record.offset)),
            }
        });
        let Some(offset) = broken else { return Ok(()) };
        let detail = format!("state record {}/{offset} can't be read by this build", self.state);
        Err(self.stop("state_unreadable", detail))
    }

    /// The state's own position is the truth; the group's offset has to agree with it.
    fn decide(mut self, low: i64, high: i64) -> RestoreProgress {
        let stored = self.position.map(|position| position.position);
        let found = match (stored, self.committed) {
            (None, None) if self.state_records == 0 => {
                self.board.position = low;
                return RestoreProgress::Done(Box::new(self.board));
            }
            (Some(stored), None) => Ok(stored),
            (Some(stored), Some(committed)) if stored == committed => Ok(stored),
            (Some(stored), Some(committed)) => Err((
                "state_differs",
                format!("state of {} stands at {stored}, the group at {committed}", self.state),
            )),
            (None, Some(committed)) => Err((
                "state_missing",
                format!("the group stands at {committed}, but {} has no position", self.state),
            )),
            (None, None) => {
                Err(("state_missing", format!("{} has records but no position", self.state)))
            }
        };
        let position = match found {
            Ok(position) if position <= high => position,
            Ok(position) => {
                let detail = format!(
                    "state of {} stands at {position}, but {} ends at {high}: it was made anew",
                    self.state, self.topic_partition
                );
                return RestoreProgress::Stop(self.stop("measures_truncated", detail));
            }
            Err((reason, detail)) => return RestoreProgress::Stop(self.stop(reason, detail)),
        };
        let stored = self.position.expect("a position was found");
        self.board.restore_position(&stored);
        if low > position {
            self.board.lost_until(low);
        }
        RestoreProgress::Done(Box::new(self.board))
    }

    fn stop(&self, reason: &'static str, detail: String) -> PartitionStop {
        let command =
            format!("blotter alerts reset --partition {}", self.topic_partition.partition);
        PartitionStop { reason, detail, command }
    }
}

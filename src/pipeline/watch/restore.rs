//! Restoring one measures partition: the group's offset, then the state topic from its first
//! offset to its end, then the rules that say whether to go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::WatchConfig;
use super::board::Board;
use super::state::{Position, StateKey, encode_position, restore_into};
use crate::pipeline::record::{SourceRecord, TopicPartition};
use crate::pipeline::step::{Lookup, LookupAnswer, PartitionStop};

/// A restore under way.
pub(super) struct Restore {
    topic_partition: TopicPartition,
    state: TopicPartition,
    config: Arc<WatchConfig>,
    board: Board,
    stage: Stage,
    committed: Option<i64>,
    position: Option<Position>,
    state_records: u64,
    /// State records that this build can't read, by key, with their offsets.
    unreadable: BTreeMap<Vec<u8>, i64>,
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
            config: Arc::clone(config),
            board: Board::new(Arc::clone(config), topic_partition.clone()),
            stage: Stage::Committed,
            committed: None,
            position: None,
            state_records: 0,
            unreadable: BTreeMap::new(),
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
                batch.for_each(0..batch.len(), |record| self.take_state(&record));
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

    /// Takes in one state record. A later record under the same key replaces it, a null removes it.
    fn take_state(&mut self, record: &SourceRecord<'_>) {
        self.state_records += 1;
        let key = record.key.unwrap_or_default();
        match restore_into(&mut self.board, key, record.value) {
            Err(_) if record.value.is_some() => {
                self.unreadable.insert(key.to_vec(), record.offset);
                return;
            }
            Ok(Some(position)) => self.position = Some(position),
            Ok(None) | Err(_) => {}
        }
        self.unreadable.remove(key);
    }

    fn decide(mut self, low: i64, high: i64) -> RestoreProgress {
        match self.judge(high) {
            Err(stop) => return RestoreProgress::Stop(stop),
            Ok(None) => self.board.position = low,
            Ok(Some(stored)) => {
                self.board.restore_position(&stored);
                if low > stored.position {
                    self.board.lost_until(low);
                }
            }
        }
        RestoreProgress::Done(Box::new(self.board))
    }

    /// Where to go on: the state's own position is the truth, and the group's offset has to agree
    /// with it, unless an operator set it. `None`: nothing was ever read.
    fn judge(&self, high: i64) -> Result<Option<Position>, PartitionStop> {
        if let Some(offset) = self.unreadable.values().min() {
            let detail =
                format!("state record {}/{offset} can't be read by this build", self.state);
            return Err(self.stop("state_unreadable", detail));
        }
        let differs = |stored: &Position| {
            self.committed.filter(|committed| *committed != stored.position && !stored.reset)
        };
        let Some(stored) = self.position else {
            let detail = match self.committed {
                None if self.state_records == 0 => return Ok(None),
                None => format!("{} has records but no position", self.state),
                Some(committed) => {
                    format!("the group stands at {committed}, but {} has no position", self.state)
                }
            };
            return Err(self.stop("state_missing", detail));
        };
        let position = stored.position;
        if let Some(committed) = differs(&stored) {
            let detail =
                format!("state of {} stands at {position}, the group at {committed}", self.state);
            return Err(self.stop("state_differs", detail));
        }
        if position > high {
            let detail = format!(
                "state of {} stands at {position}, but {} ends at {high}: it was made anew",
                self.state, self.topic_partition
            );
            return Err(self.stop("measures_truncated", detail));
        }
        Ok(Some(stored))
    }

    fn stop(&self, reason: &'static str, detail: String) -> PartitionStop {
        let command =
            format!("blotter alerts reset --partition {}", self.topic_partition.partition);
        PartitionStop { reason, detail, command }
    }
}

/// What `blotter alerts reset` does to a measures partition that stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetPlan {
    /// Why it stopped.
    pub stop: PartitionStop,
    /// Offset of the measure record it goes on with.
    pub position: i64,
    /// Whether what it remembers is kept; otherwise windows, sessions and alerts begin empty.
    pub keeps_state: bool,
    /// The records for its state partition, in order: key and value (null removes).
    pub records: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Finds out how a stopped measures partition can go on.
pub struct Reset {
    restore: Restore,
    keys: BTreeSet<Vec<u8>>,
}

impl Reset {
    /// For one measures partition, whose group has committed `committed`.
    #[must_use]
    pub fn new(config: WatchConfig, measures: &TopicPartition, committed: Option<i64>) -> Self {
        let restore = Restore { committed, ..Restore::new(&Arc::new(config), measures) };
        Self { restore, keys: BTreeSet::new() }
    }

    /// The state partition, every committed record of which is to be taken in.
    #[must_use]
    pub fn state(&self) -> &TopicPartition {
        &self.restore.state
    }

    /// Takes in one state record, in order.
    pub fn take(&mut self, record: &SourceRecord<'_>) {
        let key = record.key.unwrap_or_default();
        if record.value.is_some() {
            self.keys.insert(key.to_vec());
        } else {
            self.keys.remove(key);
        }
        self.restore.take_state(record);
    }

    /// The plan; `None` when the partition is not stopped. The measures partition holds `low..high`.
    /// A state that can be read and whose position is there is kept and goes on at that position;
    /// else it begins empty where the group stands, or at `low`.
    #[must_use]
    pub fn plan(self, low: i64, high: i64) -> Option<ResetPlan> {
        let Self { restore, mut keys } = self;
        let stop = restore.judge(high).err()?;
        let readable = restore.position.filter(|_| restore.unreadable.is_empty());
        let kept = readable.filter(|stored| stored.position <= high);
        let stored = kept.unwrap_or_else(|| {
            let committed = restore.committed.filter(|offset| (low..=high).contains(offset));
            let (config, measures) = (Arc::clone(&restore.config), restore.topic_partition.clone());
            let mut empty = Board::new(config, measures);
            empty.position = committed.unwrap_or(low);
            empty.position_record()
        });
        let position = StateKey::Position.encode();
        keys.remove(&position);
        let forgotten = keys.into_iter().filter(|_| kept.is_none()).map(|key| (key, None));
        let value = encode_position(Position { reset: true, ..stored });
        let records = forgotten.chain([(position, Some(value))]).collect();
        Some(ResetPlan { stop, position: stored.position, keeps_state: kept.is_some(), records })
    }
}

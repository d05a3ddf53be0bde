//! WATCH: measures in, alerts out. It orders the rooms [`measure`](super::measure) and
//! [`alert`](super::alert) per measures partition and keeps its whole state in a compacted topic,
//! written in the transaction that consumed the measures.
//!
//! Nothing runs without a record, so every output has an offset to commit and a replay decides the
//! same. In silence the owner of a partition appends a tick that carries its clock.

mod board;
mod gauges;
mod restore;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use board::Board;
use gauges::Shown;
pub use restore::{Reset, ResetPlan};
use restore::{Restore, RestoreProgress};

use super::alert::{Emission, Rules};
use super::emit::TopicNames;
use super::limits::{TICK_AFTER_SILENCE_MS, TICK_INTERVAL_MS};
use super::measure::{MeasureRecord, Retention, Signal};
use super::metric::{MetricSeries, MetricUpdate};
use super::record::{Header, RecordBatch, Timestamp, TopicPartition};
use super::step::{
    Delivery, LookupAnswer, OffsetCommit, OutputRecord, Outputs, PauseRequest, RecordFailure,
    RestoreStep, Stage,
};

/// What WATCH is told.
#[derive(Clone, Debug)]
pub struct WatchConfig {
    /// Topic it reads.
    pub measures_topic: Arc<str>,
    /// Compacted topic of its state, with as many partitions.
    pub state_topic: Arc<str>,
    /// Topic of alerts; `None` switches alerts off and leaves the measures.
    pub alerts_topic: Option<Arc<str>>,
    /// The rules.
    pub rules: Rules,
    /// Window of the error ratio gauges, a multiple of 10 s.
    pub error_window_ms: i64,
    /// Window of the handover ratio gauges, a multiple of 10 s.
    pub handover_window_ms: i64,
}

impl Default for WatchConfig {
    fn default() -> Self {
        let names = TopicNames::default();
        Self {
            measures_topic: names.measures,
            state_topic: names.watch_state,
            alerts_topic: Some(names.alerts),
            rules: Rules::default(),
            error_window_ms: 5 * 60_000,
            handover_window_ms: 30 * 60_000,
        }
    }
}

impl WatchConfig {
    fn state_partition(&self, measures: &TopicPartition) -> TopicPartition {
        TopicPartition::new(Arc::clone(&self.state_topic), measures.partition)
    }

    /// How long each signal is kept: as long as a rule or a gauge looks back.
    fn retention(&self) -> Retention {
        let mut retention = Retention::new();
        self.rules.require(&mut retention);
        for signal in [Signal::Records, Signal::Errors] {
            retention.require(signal, self.error_window_ms);
        }
        for signal in [Signal::Sessions, Signal::SessionsHandedOver] {
            retention.require(signal, self.handover_window_ms);
        }
        retention
    }
}

/// The stage WATCH.
pub struct Watch {
    config: Arc<WatchConfig>,
    slots: BTreeMap<TopicPartition, Slot>,
    /// Partitions the open transaction writes for.
    open: BTreeSet<TopicPartition>,
    /// What transactions of unknown outcome counted, and the position they would have led to.
    suspended: BTreeMap<TopicPartition, (i64, Vec<MetricUpdate>)>,
    /// Counted by transactions that turned out to stand.
    recovered: Vec<MetricUpdate>,
    /// What partitions without a state have on show.
    shown: BTreeMap<TopicPartition, Shown>,
}

struct Slot {
    phase: Phase,
    /// Shard's clock when a record was last read.
    heard_at: Option<Timestamp>,
    /// Shard's clock when a tick was last sent.
    ticked_at: Option<Timestamp>,
    /// Records were applied since the last commit.
    applied: bool,
}

enum Phase {
    Restoring(Box<Restore>),
    Ready(Box<Board>),
    Stopped,
}

impl Slot {
    /// When the next tick is owed; at once when none was sent yet.
    fn tick_due(&self, now: Timestamp) -> Option<Timestamp> {
        let Phase::Ready(_) = self.phase else { return None };
        let Some(ticked_at) = self.ticked_at else { return Some(now) };
        let active_at = self.heard_at.map_or(ticked_at, |heard| heard.max(ticked_at));
        let silent = active_at.plus_millis(TICK_AFTER_SILENCE_MS);
        Some(silent.min(ticked_at.plus_millis(TICK_INTERVAL_MS)))
    }
}

impl Watch {
    /// A stage without partitions.
    #[must_use]
    pub fn new(config: WatchConfig) -> Self {
        Self {
            config: Arc::new(config),
            slots: BTreeMap::new(),
            open: BTreeSet::new(),
            suspended: BTreeMap::new(),
            recovered: Vec::new(),
            shown: BTreeMap::new(),
        }
    }

    fn ready(&mut self, topic_partition: &TopicPartition, mut board: Box<Board>) -> RestoreStep {
        let position = board.position;
        if let Some((expected, updates)) = self.suspended.remove(topic_partition)
            && expected == position
        {
            self.recovered.extend(updates);
        }
        if let Some(shown) = self.shown.remove(topic_partition) {
            board.gauges.inherit(shown);
        }
        self.set_phase(topic_partition, Phase::Ready(board));
        RestoreStep::Ready { position }
    }

    /// Drops the state of a partition; what it has on show is remembered.
    fn forget(&mut self, topic_partition: &TopicPartition) -> Option<Slot> {
        let mut slot = self.slots.remove(topic_partition)?;
        if let Phase::Ready(board) = &mut slot.phase {
            self.shown.insert(topic_partition.clone(), board.gauges.take_shown());
        }
        Some(slot)
    }

    fn set_phase(&mut self, topic_partition: &TopicPartition, phase: Phase) {
        let slot = Slot { phase, heard_at: None, ticked_at: None, applied: false };
        self.slots.insert(topic_partition.clone(), slot);
    }

    fn board_mut(
        &mut self,
        topic_partition: &TopicPartition,
        now: Timestamp,
    ) -> Option<&mut Board> {
        let slot = self.slots.get_mut(topic_partition)?;
        let Phase::Ready(board) = &mut slot.phase else { return None };
        slot.heard_at = Some(now);
        slot.applied = true;
        if !self.open.contains(topic_partition) {
            self.open.insert(topic_partition.clone());
        }
        Some(board)
    }

    fn push_alert(&self, emission: &Emission, now: Timestamp, outputs: &mut Outputs) {
        let Some(topic) = &self.config.alerts_topic else { return };
        let key = emission.fingerprint.to_string();
        let headers: Vec<_> = emission
            .headers
            .iter()
            .map(|(name, value)| Header { name, value: Some(value.as_bytes()) })
            .collect();
        outputs.push(OutputRecord {
            topic,
            partition: None,
            timestamp: Some(now),
            key: Some(key.as_bytes()),
            value: emission.value.as_deref(),
            headers: &headers,
            tracked: false,
            forwarded: false,
        });
    }
}

impl Stage for Watch {
    fn assign(&mut self, topic_partition: &TopicPartition, _now: Timestamp) -> RestoreStep {
        self.open.remove(topic_partition);
        self.forget(topic_partition);
        let restore = Box::new(Restore::new(&self.config, topic_partition));
        let question = restore.question();
        self.set_phase(topic_partition, Phase::Restoring(restore));
        RestoreStep::Ask(question)
    }

    fn restore(
        &mut self,
        topic_partition: &TopicPartition,
        answer: LookupAnswer,
        now: Timestamp,
    ) -> RestoreStep {
        let Some(slot) = self.slots.get_mut(topic_partition) else {
            return self.assign(topic_partition, now);
        };
        let restore = match std::mem::replace(&mut slot.phase, Phase::Stopped) {
            Phase::Restoring(restore) => restore,
            Phase::Ready(board) => {
                let position = board.position;
                slot.phase = Phase::Ready(board);
                return RestoreStep::Ready { position };
            }
            Phase::Stopped => return self.assign(topic_partition, now),
        };
        match restore.answer(answer) {
            RestoreProgress::Done(board) => self.ready(topic_partition, board),
            RestoreProgress::Stop(stop) => RestoreStep::Stop(stop),
            RestoreProgress::Ask(restore) => {
                let question = restore.question();
                slot.phase = Phase::Restoring(restore);
                RestoreStep::Ask(question)
            }
        }
    }

    fn revoke(&mut self, topic_partition: &TopicPartition) {
        self.forget(topic_partition);
        self.open.remove(topic_partition);
    }

    fn withdraw(&mut self, topic_partition: &TopicPartition) -> Vec<MetricSeries> {
        let shown = self.shown.remove(topic_partition);
        shown.map(|shown| shown.series(topic_partition.partition, &self.config)).unwrap_or_default()
    }

    fn output_partitions(&self, topic_partition: &TopicPartition) -> Vec<TopicPartition> {
        vec![self.config.state_partition(topic_partition)]
    }

    fn process(
        &mut self,
        batch: &RecordBatch,
        range: std::ops::Range<usize>,
        now: Timestamp,
        outputs: &mut Outputs,
    ) -> Result<(), RecordFailure> {
        let topic_partition = batch.topic_partition();
        let mut emitted = Vec::new();
        let Some(board) = self.board_mut(topic_partition, now) else {
            let offset = batch.offsets().map_or(-1, |(first, _)| first);
            let topic_partition = topic_partition.clone();
            return Err(RecordFailure { topic_partition, offset, reason: "not_restored" });
        };
        batch.for_each(range, |record| {
            let mut alerts = Vec::new();
            board.apply(&record, &mut alerts);
            emitted.extend(alerts.into_iter().map(|alert| (alert, record.timestamp)));
        });
        for (emission, at) in &emitted {
            self.push_alert(emission, *at, outputs);
        }
        Ok(())
    }

    fn reject(
        &mut self,
        batch: &RecordBatch,
        index: usize,
        reason: &'static str,
        now: Timestamp,
        _outputs: &mut Outputs,
    ) {
        if let Some(board) = self.board_mut(batch.topic_partition(), now) {
            batch.for_each(index..index + 1, |record| board.skip(record.offset, reason));
        }
    }

    fn caught_up(&mut self, _topic_partition: &TopicPartition, _now: Timestamp) {}

    fn due(&self, now: Timestamp) -> Option<Timestamp> {
        self.slots.values().filter_map(|slot| slot.tick_due(now)).min()
    }

    fn is_dirty(&self) -> bool {
        self.slots.values().any(|slot| slot.applied)
    }

    fn close(&mut self, now: Timestamp, outputs: &mut Outputs) {
        let tick = MeasureRecord::Tick { clock: now }.encode();
        for (topic_partition, slot) in &mut self.slots {
            let ticks = slot.tick_due(now).is_some_and(|due| due <= now);
            let Phase::Ready(board) = &mut slot.phase else { continue };
            if ticks {
                slot.ticked_at = Some(now);
                self.open.insert(topic_partition.clone());
                outputs.push(plain(topic_partition, None, Some(&tick)));
            }
            if self.open.contains(topic_partition) {
                let state = self.config.state_partition(topic_partition);
                for key in board.take_changed() {
                    let value = state::value_of(board, &key);
                    outputs.push(plain(&state, Some(&key.encode()), value.as_deref()));
                }
            }
        }
    }

    fn offsets(&mut self, _deliveries: &[Delivery]) -> Vec<OffsetCommit> {
        let ready = self.open.iter().filter_map(|topic_partition| {
            let Phase::Ready(board) = &self.slots.get(topic_partition)?.phase else { return None };
            Some(OffsetCommit {
                topic_partition: topic_partition.clone(),
                offset: board.position,
                metadata: format!(r#"{{"v":1,"position":{}}}"#, board.position),
            })
        });
        ready.collect()
    }

    fn committed(&mut self) -> Vec<MetricUpdate> {
        let mut updates = std::mem::take(&mut self.recovered);
        for topic_partition in std::mem::take(&mut self.open) {
            let Some(slot) = self.slots.get_mut(&topic_partition) else { continue };
            slot.applied = false;
            if let Phase::Ready(board) = &mut slot.phase {
                updates.extend(board.take_updates());
            }
        }
        updates
    }

    /// State can't be wound back: what applied records is forgotten and read again. A partition
    /// that only ticked has nothing to forget.
    fn discard(&mut self) -> Vec<TopicPartition> {
        self.open.clear();
        let lost: Vec<_> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.applied)
            .map(|(topic_partition, _)| topic_partition.clone())
            .collect();
        for topic_partition in &lost {
            self.forget(topic_partition);
        }
        lost
    }

    fn suspend(&mut self) -> Vec<TopicPartition> {
        self.open.clear();
        let partitions: Vec<TopicPartition> = self.slots.keys().cloned().collect();
        for topic_partition in &partitions {
            let Some(slot) = self.forget(topic_partition) else { continue };
            if let Phase::Ready(mut board) = slot.phase
                && slot.applied
            {
                let pending = (board.position, board.take_updates());
                self.suspended.insert(topic_partition.clone(), pending);
            }
        }
        partitions
    }

    fn pauses(&mut self) -> Vec<(TopicPartition, PauseRequest)> {
        Vec::new()
    }
}

/// A record without headers for one partition.
fn plain<'a>(
    topic_partition: &'a TopicPartition,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
) -> OutputRecord<'a> {
    OutputRecord {
        topic: &topic_partition.topic,
        partition: Some(topic_partition.partition),
        timestamp: None,
        key,
        value,
        headers: &[],
        tracked: false,
        forwarded: false,
    }
}

#[cfg(test)]
mod tests;

//! Deliberate breaks of the protocol, put between the shard and its broker or its stage. Each must
//! be caught: a simulation that passes with one of them proves nothing.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blotter::daemon::broker::embedded::{Cluster, EmbeddedBroker};
use blotter::daemon::broker::{Broker, BrokerError, Event, SendError, Ticket};
use blotter::daemon::shard::MetricSink;
use blotter::pipeline::metric::{Metric, MetricUpdate};
use blotter::pipeline::record::{RecordBatch, Timestamp, TopicPartition};
use blotter::pipeline::step::{
    Delivery, Lookup, LookupAnswer, OffsetCommit, OutputRecord, Outputs, PauseRequest,
    RecordFailure, RestoreStep, Stage,
};

use crate::input::is_poison;
use crate::reloading::Simulated;

/// A way to break the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    CommitBeforeDrain,
    NoRewind,
    HeadFromMemory,
    MetadataLeftOut,
    CountersBeforeCommit,
    TimerWithoutOffsets,
    GroupMetadataRefreshed,
    RollbackAccepted,
    RestoreBoundedByLso,
    PanicNotIsolated,
}

impl Sabotage {
    pub(crate) const ALL: [Self; 10] = [
        Self::CommitBeforeDrain,
        Self::NoRewind,
        Self::HeadFromMemory,
        Self::MetadataLeftOut,
        Self::CountersBeforeCommit,
        Self::TimerWithoutOffsets,
        Self::GroupMetadataRefreshed,
        Self::RollbackAccepted,
        Self::RestoreBoundedByLso,
        Self::PanicNotIsolated,
    ];
}

/// What the broken daemons of one world know together: the end of the audit partition when an
/// offset's metadata was committed.
pub(crate) type Ends = Arc<Mutex<BTreeMap<String, i64>>>;

/// A broker whose shard breaks the protocol, or keeps it when there is no sabotage.
pub(crate) struct SabotagedBroker {
    pub(crate) inner: EmbeddedBroker,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) cluster: Cluster,
    pub(crate) audit: Arc<str>,
    pub(crate) ends: Ends,
    pub(crate) state: BreakState,
}

/// What a break needs to remember.
#[derive(Default)]
pub(crate) struct BreakState {
    tracked: Vec<TopicPartition>,
    handed_out: BTreeMap<TopicPartition, i64>,
    sent: Vec<OffsetCommit>,
    committed: BTreeMap<TopicPartition, (i64, String)>,
    asked: BTreeMap<Ticket, Lookup>,
}

impl SabotagedBroker {
    fn is(&self, sabotage: Sabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    fn answered(&mut self, source: &TopicPartition, lookup: &Lookup, answer: &mut LookupAnswer) {
        match (lookup, answer) {
            (Lookup::Committed, LookupAnswer::Committed { offset, metadata }) => {
                if self.is(Sabotage::HeadFromMemory)
                    && let Some((own_offset, own_metadata)) = self.state.committed.get(source)
                {
                    *offset = Some(*own_offset);
                    metadata.clone_from(own_metadata);
                }
                if let Some(offset) = offset {
                    let memory = (*offset, metadata.clone());
                    self.state.committed.insert(source.clone(), memory);
                }
            }
            (Lookup::Range(_), LookupAnswer::Range { high, lso, .. })
                if self.is(Sabotage::RestoreBoundedByLso) =>
            {
                *high = *lso;
            }
            (Lookup::Range(asked), LookupAnswer::Range { high, lso, .. })
                if self.is(Sabotage::RollbackAccepted) && asked.topic == self.audit =>
            {
                let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
                let metadata = self.state.committed.get(source).map(|(_, metadata)| metadata);
                if let Some(end) = metadata.and_then(|metadata| ends.get(metadata)) {
                    (*high, *lso) = (*end, *end);
                }
            }
            _ => {}
        }
    }
}

impl Broker for SabotagedBroker {
    fn poll(
        &mut self,
        wait: Duration,
        batches: &mut Vec<RecordBatch>,
        events: &mut Vec<Event>,
    ) -> Result<(), BrokerError> {
        self.inner.poll(wait, batches, events)?;
        for batch in batches {
            if let Some((_, last)) = batch.offsets() {
                self.state.handed_out.insert(batch.topic_partition().clone(), last + 1);
            }
            batch.for_each(0..batch.len(), |record| {
                let poison = is_poison(record.value.unwrap_or_default());
                assert!(!(poison && self.is(Sabotage::PanicNotIsolated)), "poison in the loop");
            });
        }
        for event in events {
            if let Event::Lookup { ticket, topic_partition, result: Ok(answer) } = event
                && let Some(lookup) = self.state.asked.remove(ticket)
            {
                self.answered(topic_partition, &lookup, answer);
            }
        }
        Ok(())
    }

    fn accept(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        self.state.handed_out.retain(|partition, _| !partitions.contains(partition));
        self.inner.accept(partitions)
    }

    fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        self.inner.release(partitions)
    }

    fn start(&mut self, partition: &TopicPartition, position: i64) -> Result<(), BrokerError> {
        let read = self.state.handed_out.get(partition).copied();
        let read = read.filter(|_| self.is(Sabotage::NoRewind));
        self.inner.start(partition, read.map_or(position, |read| read.max(position)))
    }

    fn pause(&mut self, partition: &TopicPartition) -> Result<(), BrokerError> {
        self.inner.pause(partition)
    }

    fn lookup(&mut self, ticket: Ticket, partition: &TopicPartition, lookup: Lookup) {
        self.state.asked.insert(ticket, lookup.clone());
        self.inner.lookup(ticket, partition, lookup);
    }

    fn read_writer(&mut self, ticket: Ticket, partition: &TopicPartition) {
        self.inner.read_writer(ticket, partition);
    }

    fn fence(&mut self, ticket: Ticket, topic_partition: &TopicPartition, transactional_id: &str) {
        self.inner.fence(ticket, topic_partition, transactional_id);
    }

    fn reset_producer(&mut self, timeout: Duration) -> Result<(), BrokerError> {
        self.inner.reset_producer(timeout)
    }

    fn begin(&mut self) -> Result<(), BrokerError> {
        self.state.tracked.clear();
        self.inner.begin()
    }

    fn send(&mut self, record: &OutputRecord<'_>) -> Result<(), SendError> {
        if let (true, Some(partition)) = (record.tracked, record.partition) {
            self.state.tracked.push(TopicPartition::new(Arc::clone(record.topic), partition));
        }
        self.inner.send(record)
    }

    fn await_room(&mut self, wait: Duration) -> Result<(), BrokerError> {
        self.inner.await_room(wait)
    }

    fn drain(&mut self, timeout: Duration) -> Result<Vec<Delivery>, BrokerError> {
        if self.is(Sabotage::CommitBeforeDrain) {
            let tracked = self.state.tracked.drain(..);
            let untold = |topic_partition| Delivery { topic_partition, offset: None };
            return Ok(tracked.map(untold).collect());
        }
        self.inner.drain(timeout)
    }

    fn send_offsets(
        &mut self,
        offsets: &[OffsetCommit],
        timeout: Duration,
    ) -> Result<(), BrokerError> {
        let mut offsets = offsets.to_vec();
        let same = |commit: &OffsetCommit| {
            let known = self.state.committed.get(&commit.topic_partition);
            known.map_or(commit.offset == 0, |(offset, _)| *offset == commit.offset)
        };
        if self.is(Sabotage::TimerWithoutOffsets) && offsets.iter().all(same) {
            return Ok(());
        }
        if self.is(Sabotage::MetadataLeftOut) {
            offsets.iter_mut().for_each(|commit| commit.metadata.clear());
        }
        if self.is(Sabotage::GroupMetadataRefreshed) {
            self.inner.refresh_group_metadata();
        }
        self.state.sent.clone_from(&offsets);
        self.inner.send_offsets(&offsets, timeout)
    }

    fn commit(&mut self, timeout: Duration) -> Result<(), BrokerError> {
        self.inner.commit(timeout)?;
        for commit in self.state.sent.drain(..) {
            let audit =
                TopicPartition::new(Arc::clone(&self.audit), commit.topic_partition.partition);
            if let Ok((_, high, _)) = self.cluster.watermarks(&audit) {
                let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
                ends.insert(commit.metadata.clone(), high);
            }
            let memory = (commit.offset, commit.metadata);
            self.state.committed.insert(commit.topic_partition, memory);
        }
        Ok(())
    }

    fn close(self, timeout: Duration) {
        self.inner.close(timeout);
    }
}

/// A stage that panics on poison, and may tell its counters too early.
pub(crate) struct SabotagedStage {
    pub(crate) inner: Box<dyn Simulated>,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) sink: Arc<dyn MetricSink>,
    pub(crate) taken: u32,
    pub(crate) commits: u32,
}

impl Stage for SabotagedStage {
    fn assign(&mut self, source: &TopicPartition, now: Timestamp) -> RestoreStep {
        self.inner.assign(source, now)
    }

    fn restore(
        &mut self,
        source: &TopicPartition,
        answer: LookupAnswer,
        now: Timestamp,
    ) -> RestoreStep {
        self.inner.restore(source, answer, now)
    }

    fn revoke(&mut self, source: &TopicPartition) {
        self.inner.revoke(source);
    }

    fn output_partitions(&self, source: &TopicPartition) -> Vec<TopicPartition> {
        self.inner.output_partitions(source)
    }

    fn process(
        &mut self,
        batch: &RecordBatch,
        range: Range<usize>,
        now: Timestamp,
        outputs: &mut Outputs,
    ) -> Result<(), RecordFailure> {
        batch.for_each(range.clone(), |record| {
            assert!(!is_poison(record.value.unwrap_or_default()), "poison");
        });
        self.taken += u32::try_from(range.len()).expect("small");
        self.inner.process(batch, range, now, outputs)
    }

    fn reject(
        &mut self,
        batch: &RecordBatch,
        index: usize,
        reason: &'static str,
        now: Timestamp,
        outputs: &mut Outputs,
    ) {
        self.taken += 1;
        self.inner.reject(batch, index, reason, now, outputs);
    }

    fn caught_up(&mut self, source: &TopicPartition, now: Timestamp) {
        self.inner.caught_up(source, now);
    }

    fn held(&mut self, source: &TopicPartition, now: Timestamp) {
        self.inner.held(source, now);
    }

    fn resumed(&mut self, source: &TopicPartition) {
        self.inner.resumed(source);
    }

    fn due(&self, now: Timestamp) -> Option<Timestamp> {
        self.inner.due(now)
    }

    fn is_dirty(&self) -> bool {
        self.inner.is_dirty()
    }

    fn close(&mut self, now: Timestamp, outputs: &mut Outputs) {
        self.inner.close(now, outputs);
    }

    fn offsets(&mut self, deliveries: &[Delivery]) -> Vec<OffsetCommit> {
        if self.sabotage == Some(Sabotage::CountersBeforeCommit) {
            let taken = f64::from(std::mem::take(&mut self.taken));
            self.sink.publish(vec![Metric::LogRecords.update(&["", "", ""], taken)]);
        }
        self.inner.offsets(deliveries)
    }

    fn committed(&mut self) -> Vec<MetricUpdate> {
        self.taken = 0;
        let mut updates = self.inner.committed();
        self.commits += 1;
        self.inner.after_commit(self.commits);
        if self.sabotage == Some(Sabotage::CountersBeforeCommit) {
            let counted = [Metric::LogRecords, Metric::RecordsRejected];
            updates.retain(|update| !counted.contains(&update.metric));
        }
        updates
    }

    fn discard(&mut self) -> Vec<TopicPartition> {
        self.taken = 0;
        self.inner.discard()
    }

    fn suspend(&mut self) -> Vec<TopicPartition> {
        self.taken = 0;
        self.inner.suspend()
    }

    fn pauses(&mut self) -> Vec<(TopicPartition, PauseRequest)> {
        self.inner.pauses()
    }
}

//! A stage simple enough to be right by sight.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::super::*;
use super::script::{Script, source};
use crate::pipeline::audit::RestoreAlert;
use crate::pipeline::record::Timestamp;
use crate::pipeline::step::{
    Delivery, Lookup, LookupAnswer, OffsetCommit, OutputRecord, RecordFailure, RestoreStep,
};

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
    /// Whether restores refuse the process.
    pub(super) refuses: bool,
    /// Records that a restore reads, one at a time.
    pub(super) reads: i64,
    /// What restores find.
    pub(super) findings: Vec<RestoreAlert>,
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
        let read = |from| Lookup::Read {
            topic_partition: TopicPartition::new("out", topic_partition.partition),
            from,
            to: self.reads,
        };
        let (offset, metadata) = match answer {
            LookupAnswer::Committed { .. } if self.reads > 0 => return RestoreStep::Ask(read(0)),
            LookupAnswer::Committed { offset, metadata } => (offset, metadata),
            LookupAnswer::Records { next, .. } if next < self.reads => {
                return RestoreStep::Ask(read(next));
            }
            LookupAnswer::Records { .. } => (None, String::new()),
            _ => panic!("never asked"),
        };
        let stop = |reason| PartitionStop { reason, detail: String::new(), command: String::new() };
        if self.stops > 0 {
            self.stops -= 1;
            return RestoreStep::Stop(stop("chain_broken"));
        }
        if self.refuses {
            return RestoreStep::Refuse(stop("other_keyring"));
        }
        let position = offset.unwrap_or(0);
        let n = metadata.parse().unwrap_or(0);
        self.committed.insert(topic_partition.clone(), (position, n));
        self.fresh.insert(topic_partition.clone());
        RestoreStep::Ready { position }
    }

    fn findings(&mut self) -> Vec<RestoreAlert> {
        std::mem::take(&mut self.findings)
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

    fn held(&mut self, topic_partition: &TopicPartition, now: Timestamp) {
        self.world.0.borrow_mut().held.push((topic_partition.clone(), now));
    }

    fn resumed(&mut self, topic_partition: &TopicPartition) {
        self.log(&format!("resumed {topic_partition}"));
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

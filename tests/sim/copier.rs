//! A small stage with the protocol of SCRUB and none of its work: copies each record, keeps a hash
//! chain per partition, seals every transaction, and names the head in the offset's metadata.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use blotter::pipeline::metric::{Metric, MetricUpdate};
use blotter::pipeline::record::{Header, RecordBatch, SourceRecord, Timestamp, TopicPartition};
use blotter::pipeline::step::{
    Delivery, Lookup, LookupAnswer, OffsetCommit, OutputRecord, Outputs, PartitionStop,
    PauseRequest, RecordFailure, RestoreStep, Stage,
};

use crate::chain::{leaf_hash, read_entry};

/// A seal is written after this time though nothing was read.
const HEARTBEAT_MS: i64 = 5_000;

pub(crate) struct Copier {
    output: Arc<str>,
    audit: Arc<str>,
    partitions: BTreeMap<TopicPartition, Partition>,
    suspended: Vec<(OffsetCommit, u64)>,
    found_standing: u64,
}

struct Partition {
    phase: Phase,
    head: Head,
    committed: Option<i64>,
    fresh: bool,
    sealed_at: Timestamp,
    open: Option<Open>,
    ready: Option<OffsetCommit>,
}

enum Phase {
    Committed,
    Range,
    Entries { next: i64, high: i64, found: bool },
    Source,
    Live,
}

/// Where the chain stands: the next entry's number and what it refers to.
#[derive(Clone, Default)]
struct Head {
    seq: u64,
    prev: String,
    /// Offset of the last seal in the audit partition.
    stored: i64,
    to: i64,
}

struct Open {
    head: Head,
    records: u64,
    dead: u64,
}

impl Copier {
    pub(crate) fn new(output: &str, audit: &str) -> Self {
        Self {
            output: Arc::from(output),
            audit: Arc::from(audit),
            partitions: BTreeMap::new(),
            suspended: Vec::new(),
            found_standing: 0,
        }
    }

    fn take(&mut self, record: &SourceRecord<'_>, dead: Option<&'static str>, out: &mut Outputs) {
        let partition = self.partitions.get_mut(record.topic_partition).expect("it is restored");
        let source = record.id().to_string();
        let mut headers = vec![Header { name: "blotter-source", value: Some(source.as_bytes()) }];
        let copied = record.value.map(<[u8]>::to_ascii_uppercase);
        headers.extend(
            dead.map(|reason| Header {
                name: "blotter-dead-letter",
                value: Some(reason.as_bytes()),
            }),
        );
        out.push(OutputRecord {
            topic: &self.output,
            partition: Some(record.topic_partition.partition),
            timestamp: Some(record.timestamp),
            key: record.key,
            value: if dead.is_some() { Some(b"***") } else { copied.as_deref() },
            headers: &headers,
            tracked: false,
            forwarded: false,
        });
        let open = partition.open.get_or_insert_with(|| Open {
            head: partition.head.clone(),
            records: 0,
            dead: 0,
        });
        open.head.to = record.offset + 1;
        open.records += 1;
        open.dead += u64::from(dead.is_some());
    }

    fn audit_of(&self, source: &TopicPartition) -> TopicPartition {
        TopicPartition::new(Arc::clone(&self.audit), source.partition)
    }

    fn resolve_suspended(&mut self, source: &TopicPartition, offset: i64, metadata: &str) {
        let stands = self.suspended.iter().any(|(commit, _)| {
            commit.topic_partition == *source
                && commit.offset == offset
                && commit.metadata == metadata
        });
        let asked = self.suspended.iter().any(|(commit, _)| commit.topic_partition == *source);
        if asked {
            let records = self.suspended.drain(..).map(|(_, records)| records).sum::<u64>();
            self.found_standing += if stands { records } else { 0 };
        }
    }
}

impl Stage for Copier {
    fn assign(&mut self, source: &TopicPartition, now: Timestamp) -> RestoreStep {
        let partition = Partition {
            phase: Phase::Committed,
            head: Head { prev: "0".repeat(64), ..Head::default() },
            committed: None,
            fresh: false,
            sealed_at: now,
            open: None,
            ready: None,
        };
        self.partitions.insert(source.clone(), partition);
        RestoreStep::Ask(Lookup::Committed)
    }

    fn restore(
        &mut self,
        source: &TopicPartition,
        answer: LookupAnswer,
        _now: Timestamp,
    ) -> RestoreStep {
        if let LookupAnswer::Committed { offset: Some(offset), metadata } = &answer {
            self.resolve_suspended(source, *offset, metadata);
        }
        let audit = self.audit_of(source);
        let partition = self.partitions.get_mut(source).expect("it was assigned");
        partition.restore(source, &audit, answer)
    }

    fn revoke(&mut self, source: &TopicPartition) {
        self.partitions.remove(source);
    }

    fn output_partitions(&self, source: &TopicPartition) -> Vec<TopicPartition> {
        let output = TopicPartition::new(Arc::clone(&self.output), source.partition);
        vec![output, self.audit_of(source)]
    }

    fn process(
        &mut self,
        batch: &RecordBatch,
        range: Range<usize>,
        _now: Timestamp,
        outputs: &mut Outputs,
    ) -> Result<(), RecordFailure> {
        batch.for_each(range, |record| self.take(&record, None, outputs));
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
        batch.for_each(index..index + 1, |record| self.take(&record, Some(reason), outputs));
    }

    fn caught_up(&mut self, _source: &TopicPartition, _now: Timestamp) {}

    fn due(&self, _now: Timestamp) -> Option<Timestamp> {
        let live = self.partitions.values().filter(|partition| partition.is_live());
        live.map(|partition| partition.sealed_at.plus_millis(HEARTBEAT_MS)).min()
    }

    fn is_dirty(&self) -> bool {
        self.partitions.values().any(|partition| partition.open.is_some())
    }

    fn close(&mut self, now: Timestamp, outputs: &mut Outputs) {
        for (source, partition) in &mut self.partitions {
            let due = now.millis_since(partition.sealed_at) >= HEARTBEAT_MS || partition.fresh;
            if partition.is_live() && (due || partition.open.is_some()) {
                partition.seal(source, &self.audit, now, outputs);
            }
        }
    }

    fn offsets(&mut self, deliveries: &[Delivery]) -> Vec<OffsetCommit> {
        let mut commits = Vec::new();
        for (source, partition) in &mut self.partitions {
            let Some(open) = &mut partition.open else { continue };
            let seal = deliveries.iter().find(|delivery| {
                delivery.topic_partition.topic == self.audit
                    && delivery.topic_partition.partition == source.partition
            });
            // Without an offset the old one stays: the head is there or later.
            open.head.stored =
                seal.and_then(|delivery| delivery.offset).unwrap_or(open.head.stored);
            let Head { seq, prev, stored, to } = &open.head;
            let commit = OffsetCommit {
                topic_partition: source.clone(),
                offset: *to,
                metadata: format!("{seq} {prev} {stored} {to}"),
            };
            partition.ready = Some(commit.clone());
            commits.push(commit);
        }
        commits
    }

    fn committed(&mut self) -> Vec<MetricUpdate> {
        let mut records = std::mem::take(&mut self.found_standing);
        for partition in self.partitions.values_mut() {
            if let Some(open) = partition.open.take() {
                records += open.records;
                partition.head = open.head;
                partition.fresh = false;
                partition.ready = None;
            }
        }
        let value = f64::from(u32::try_from(records).expect("few"));
        vec![Metric::LogRecords.update(&["", "", ""], value)]
    }

    fn discard(&mut self) -> Vec<TopicPartition> {
        for partition in self.partitions.values_mut() {
            partition.open = None;
            partition.ready = None;
        }
        Vec::new()
    }

    fn suspend(&mut self) -> Vec<TopicPartition> {
        self.suspended.clear();
        for partition in self.partitions.values_mut() {
            let records = partition.open.take().map_or(0, |open| open.records);
            self.suspended.extend(partition.ready.take().map(|commit| (commit, records)));
        }
        self.partitions.keys().cloned().collect()
    }

    fn pauses(&mut self) -> Vec<(TopicPartition, PauseRequest)> {
        Vec::new()
    }
}

impl Partition {
    fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live)
    }

    fn seal(
        &mut self,
        source: &TopicPartition,
        audit: &Arc<str>,
        now: Timestamp,
        outputs: &mut Outputs,
    ) {
        let from = self.head.to;
        let open =
            self.open.get_or_insert_with(|| Open { head: self.head.clone(), records: 0, dead: 0 });
        let Head { seq, prev, to, .. } = &open.head;
        let fates = [open.records - open.dead, open.dead, 0];
        let entry = format!(
            "{{\"v\":1,\"k\":\"sea\",\"seq\":\"{seq:020}\",\"prev\":\"{prev}\",\"from\":{from},\
             \"to\":{to},\"fates\":{fates:?}}}"
        );
        outputs.push(OutputRecord {
            topic: audit,
            partition: Some(source.partition),
            timestamp: Some(now),
            key: None,
            value: Some(entry.as_bytes()),
            headers: &[],
            tracked: true,
            forwarded: false,
        });
        open.head.seq += 1;
        open.head.prev = leaf_hash(entry.as_bytes());
        self.sealed_at = now;
    }

    fn restore(
        &mut self,
        source: &TopicPartition,
        audit: &TopicPartition,
        answer: LookupAnswer,
    ) -> RestoreStep {
        match (&self.phase, answer) {
            (Phase::Committed, LookupAnswer::Committed { offset, metadata }) => {
                self.committed = offset;
                if offset.is_some() {
                    let Some(head) = Head::parse(&metadata) else {
                        return stop("metadata_absent");
                    };
                    self.head = head;
                }
                self.phase = Phase::Range;
                RestoreStep::Ask(Lookup::Range(audit.clone()))
            }
            (Phase::Range, LookupAnswer::Range { low, high, lso }) => {
                if lso < high {
                    return RestoreStep::Ask(Lookup::Range(audit.clone()));
                }
                let next = if self.committed.is_some() { self.head.stored } else { low };
                self.phase = Phase::Entries { next, high, found: self.committed.is_none() };
                self.entries(source, audit)
            }
            (Phase::Entries { .. }, LookupAnswer::Records { batch, next }) => {
                self.read(source, audit, &batch, next)
            }
            (Phase::Source, LookupAnswer::Range { low, high, .. }) => {
                if high < self.head.to || low > self.head.to {
                    return stop("source_lost");
                }
                self.phase = Phase::Live;
                self.fresh = true;
                RestoreStep::Ready { position: self.head.to }
            }
            _ => RestoreStep::Ask(Lookup::Committed),
        }
    }

    fn entries(&mut self, source: &TopicPartition, audit: &TopicPartition) -> RestoreStep {
        let Phase::Entries { next, high, found } = self.phase else { return stop("confused") };
        if next < high {
            let topic_partition = audit.clone();
            return RestoreStep::Ask(Lookup::Read { topic_partition, from: next, to: high });
        }
        if !found {
            return stop("head_absent");
        }
        if self.committed.is_some_and(|committed| committed != self.head.to) {
            return stop("offset_differs");
        }
        self.phase = Phase::Source;
        RestoreStep::Ask(Lookup::Range(source.clone()))
    }

    fn read(
        &mut self,
        source: &TopicPartition,
        audit: &TopicPartition,
        batch: &RecordBatch,
        end: i64,
    ) -> RestoreStep {
        let Phase::Entries { next, high, mut found } = self.phase else {
            return stop("confused");
        };
        let mut fault = None;
        batch.for_each(0..batch.len(), |record| {
            let value = record.value.unwrap_or_default();
            let (entry, leaf) = (read_entry(value), leaf_hash(value));
            if !found {
                found = leaf == self.head.prev;
                return;
            }
            if self.committed.is_some() {
                fault = Some("entries_after_head");
            } else if entry.prev != self.head.prev {
                fault = Some("chain_broken");
            }
            let (seq, to) = (entry.seq + 1, entry.to.unwrap_or(self.head.to));
            self.head = Head { seq, prev: leaf, stored: record.offset, to };
        });
        if let Some(reason) = fault {
            return stop(reason);
        }
        self.phase = Phase::Entries { next: end.max(next), high, found };
        self.entries(source, audit)
    }
}

impl Head {
    fn parse(metadata: &str) -> Option<Self> {
        let mut words = metadata.split(' ');
        Some(Self {
            seq: words.next()?.parse().ok()?,
            prev: words.next()?.to_owned(),
            stored: words.next()?.parse().ok()?,
            to: words.next()?.parse().ok()?,
        })
    }
}

fn stop(reason: &'static str) -> RestoreStep {
    RestoreStep::Stop(PartitionStop { reason, detail: String::new(), command: String::new() })
}

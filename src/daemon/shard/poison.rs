//! Taking records, and finding the one that harms: a panic names its record at once; a refusal by
//! the brokers names none, so that after three of them at the same position transactions are
//! halved until one holds a single record. That one goes to the dead letters.

use std::collections::{BTreeMap, BTreeSet};

use super::partition::Until;
use super::recovery::Failure;
use super::{Shard, Stop};
use crate::daemon::broker::Broker;
use crate::daemon::clock::Clock;
use crate::daemon::restore::guarded;
use crate::pipeline::limits;
use crate::pipeline::metric::Metric;
use crate::pipeline::record::{RecordBatch, Timestamp, TopicPartition};
use crate::pipeline::step::{PauseRequest, Stage};

/// Failures at one position after which transactions are halved.
const FAILURES_BEFORE_HALVING: u32 = 3;

/// Records between two looks at the clock.
const RECORDS_PER_LOOK: usize = 64;

/// What became of a record.
enum Taken {
    /// It is in the transaction, as itself or as a dead letter.
    Taken,
    /// It can't be taken now and must not be rejected: the partition waits before it.
    Paused(PauseRequest),
}

/// The hunt for a record that fails.
#[derive(Default)]
pub(super) struct Isolation {
    /// First offsets of the transaction that failed last.
    starts: BTreeMap<TopicPartition, i64>,
    failures: u32,
    limit: Option<usize>,
    /// Last offsets of the transaction in which the hunt began.
    until: BTreeMap<TopicPartition, i64>,
    rejects: BTreeMap<(TopicPartition, i64), &'static str>,
    stuck: BTreeSet<TopicPartition>,
}

impl Isolation {
    /// Most records a transaction may hold now.
    pub(super) fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// A transaction failed for a cause in one of its records; whether there is any and the hunt
    /// goes on.
    pub(super) fn failed(
        &mut self,
        taken: &BTreeMap<TopicPartition, (i64, i64)>,
        records: usize,
        reason: &'static str,
    ) -> bool {
        if taken.is_empty() {
            return false;
        }
        if records == 1 {
            for (topic_partition, (offset, _)) in taken {
                self.blame(topic_partition, *offset, reason);
            }
            return true;
        }
        let again = taken
            .iter()
            .any(|(topic_partition, (first, _))| self.starts.get(topic_partition) == Some(first));
        self.failures = if again { self.failures.saturating_add(1) } else { 1 };
        self.starts = taken.iter().map(|(key, (first, _))| (key.clone(), *first)).collect();
        if self.limit.is_none() && self.failures >= FAILURES_BEFORE_HALVING {
            self.until = taken.iter().map(|(key, (_, last))| (key.clone(), *last)).collect();
        }
        if self.limit.is_some() || self.failures >= FAILURES_BEFORE_HALVING {
            self.limit = Some((records / 2).max(1));
        }
        true
    }

    /// A transaction did not end in time: the next ones are smaller, until one has passed its end.
    pub(super) fn too_slow(
        &mut self,
        taken: &BTreeMap<TopicPartition, (i64, i64)>,
        records: usize,
    ) {
        if records > 1 {
            self.until = taken.iter().map(|(key, (_, last))| (key.clone(), *last)).collect();
            self.limit = Some(records / 2);
        }
    }

    /// The record at `offset` harms: it is rejected next time, and its partition is stopped when
    /// even that fails.
    fn blame(&mut self, topic_partition: &TopicPartition, offset: i64, reason: &'static str) {
        self.limit = None;
        self.until.clear();
        self.starts.clear();
        self.failures = 0;
        let before = self.rejects.insert((topic_partition.clone(), offset), reason);
        if before.is_some() {
            self.stuck.insert(topic_partition.clone());
        }
    }

    /// A transaction stands: what lies behind is forgotten.
    pub(super) fn committed(&mut self, taken: &BTreeMap<TopicPartition, (i64, i64)>) {
        for (topic_partition, (_, last)) in taken {
            self.rejects.retain(|(key, offset), _| key != topic_partition || offset > last);
            if self.until.get(topic_partition).is_some_and(|until| until <= last) {
                self.until.remove(topic_partition);
            }
        }
        if self.until.is_empty() {
            self.limit = None;
        }
    }

    /// The partition went away.
    pub(super) fn forget(&mut self, topic_partition: &TopicPartition) {
        self.rejects.retain(|(key, _), _| key != topic_partition);
        self.starts.remove(topic_partition);
        self.stuck.remove(topic_partition);
        self.until.remove(topic_partition);
        if self.until.is_empty() {
            self.limit = None;
        }
    }

    /// Whether the partition has a record that can't even be rejected; told once.
    pub(super) fn take_stuck(&mut self, topic_partition: &TopicPartition) -> bool {
        self.stuck.remove(topic_partition)
    }

    fn reject_reason(&self, topic_partition: &TopicPartition, offset: i64) -> Option<&'static str> {
        if self.rejects.is_empty() {
            return None;
        }
        self.rejects.get(&(topic_partition.clone(), offset)).copied()
    }
}

impl<B: Broker, S: Stage, C: Clock> Shard<B, S, C> {
    /// Takes one batch into the open transaction, committing whenever that is full or old.
    pub(super) fn take_batch(&mut self, batch: &RecordBatch, stop: &Stop) -> Result<(), Failure> {
        let topic_partition = batch.topic_partition();
        let mut coordinates = Vec::with_capacity(batch.len());
        batch.for_each(0..batch.len(), |record| {
            coordinates.push((record.offset, record.size_bytes()));
        });
        let running =
            self.partitions.get(topic_partition).filter(|partition| partition.is_running());
        let Some(mut position) = running.map(|partition| partition.position) else {
            self.dropped(coordinates.len());
            return Ok(());
        };
        let mut now = self.clock.now();
        let (mut again, mut first) = (0, None);
        for (index, (offset, size)) in coordinates.into_iter().enumerate() {
            if offset < position {
                again += 1;
                continue;
            }
            if let Taken::Paused(request) = self.take_record(batch, index, offset, now)? {
                self.took(topic_partition, first, position);
                self.pause(topic_partition, request, Until::Rebuilt)?;
                return self.send_outputs(Some(topic_partition), stop);
            }
            position = offset + 1;
            first.get_or_insert(offset);
            self.transaction.count(size);
            let unsent = self.outputs.size_bytes() >= limits::UNSENT_OUTPUT_BYTES_MAX;
            let look = index % RECORDS_PER_LOOK == RECORDS_PER_LOOK - 1;
            if !unsent && !look && !self.is_full() {
                continue;
            }
            self.took(topic_partition, first.take(), position);
            self.send_outputs(Some(topic_partition), stop)?;
            self.commit_when_due(stop)?;
            now = self.clock.now();
        }
        self.took(topic_partition, first, position);
        self.dropped(again);
        self.send_outputs(Some(topic_partition), stop)
    }

    /// Notes that records from `first` (if any) up to `position` are in the open transaction.
    fn took(&mut self, topic_partition: &TopicPartition, first: Option<i64>, position: i64) {
        let Some(first) = first else { return };
        let monotonic = self.clock.monotonic();
        self.transaction.took(topic_partition, first, position - 1, monotonic);
        if let Some(partition) = self.partitions.get_mut(topic_partition) {
            partition.position = position;
            partition.progress_at = monotonic;
        }
        self.moved(topic_partition);
    }

    fn take_record(
        &mut self,
        batch: &RecordBatch,
        index: usize,
        offset: i64,
        now: Timestamp,
    ) -> Result<Taken, Failure> {
        let topic_partition = batch.topic_partition();
        let blamed = self.isolation.reject_reason(topic_partition, offset);
        let before = self.outputs.len();
        let (stage, outputs, requests) =
            (&mut self.stage, &mut self.outputs, &mut self.pause_requests);
        let taken = guarded(|| {
            let reason = match blamed {
                Some(reason) => reason,
                None => match stage.process(batch, index..index + 1, now, outputs) {
                    Ok(()) => return Taken::Taken,
                    Err(failure) => {
                        outputs.truncate(before);
                        requests.extend(stage.pauses());
                        let own = requests.iter().position(|(paused, _)| paused == topic_partition);
                        match own {
                            Some(own) => return Taken::Paused(requests.swap_remove(own).1),
                            None => failure.reason,
                        }
                    }
                },
            };
            stage.reject(batch, index, reason, now, outputs);
            Taken::Taken
        });
        taken.ok_or_else(|| {
            self.isolation.blame(topic_partition, offset, "panic");
            Failure::isolated("panic", format!("record {offset} of {topic_partition} panicked"))
        })
    }

    fn dropped(&self, records: usize) {
        if let Ok(records @ 1..) = u32::try_from(records) {
            self.publish(Metric::DuplicatesDropped, &[self.config.stage], f64::from(records));
        }
    }
}

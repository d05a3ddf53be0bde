//! What passes between a stage (pure) and the shard that drives it: outputs, look-ups, offsets.
//!
//! A stage is a state machine over whole transactions. The shard calls [`Stage::process`] any
//! number of times, [`Stage::close`] once, sends everything in [`Outputs`], commits the offsets of
//! [`Stage::offsets`] in the same transaction and then calls [`Stage::committed`]; or, when
//! anything failed, [`Stage::discard`]. Nothing a stage reports counts before `committed`.

use std::sync::Arc;

use super::audit::RestoreAlert;
use super::metric::{MetricSeries, MetricUpdate};
use super::record::{Header, RecordBatch, Timestamp, TopicPartition};

/// Header with the transactional id of a record's writer. A new owner of a partition reads it to end
/// the transaction a dead owner left open: the first record of a transaction in a partition carries
/// it, and each one that is not [forwarded](OutputRecord::forwarded).
pub const WRITER_HEADER: &str = "w";

/// One record to be produced.
#[derive(Clone, Copy)]
pub struct OutputRecord<'a> {
    /// Topic to produce to.
    pub topic: &'a Arc<str>,
    /// Partition to produce to; `None` lets the client's partitioner choose by key.
    pub partition: Option<i32>,
    /// Timestamp to carry; `None` is the time of sending.
    pub timestamp: Option<Timestamp>,
    /// Key, if any.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers in order (the shard adds its own `w` header).
    pub headers: &'a [Header<'a>],
    /// Set for a seal: the shard tells [`Stage::offsets`] at which offset it was stored.
    pub tracked: bool,
    /// Set for a source record passed on, one of many of its partition.
    pub forwarded: bool,
}

/// Records to be produced, held in one arena: filled by a stage, sent and cleared by the shard.
#[derive(Default)]
pub struct Outputs {
    bytes: Vec<u8>,
    records: Vec<StoredOutput>,
    headers: Vec<StoredHeader>,
}

struct StoredOutput {
    topic: Arc<str>,
    partition: Option<i32>,
    timestamp: Option<Timestamp>,
    key: Option<(usize, usize)>,
    value: Option<(usize, usize)>,
    headers: (usize, usize),
    tracked: bool,
    forwarded: bool,
}

#[derive(Clone, Copy)]
struct StoredHeader {
    name: (usize, usize),
    value: Option<(usize, usize)>,
}

impl Outputs {
    /// Copies one record in.
    pub fn push(&mut self, record: OutputRecord<'_>) {
        let first_header = self.headers.len();
        for header in record.headers {
            let name = self.store(header.name.as_bytes());
            let value = header.value.map(|value| self.store(value));
            self.headers.push(StoredHeader { name, value });
        }
        let headers = (first_header, self.headers.len());
        let key = record.key.map(|key| self.store(key));
        let value = record.value.map(|value| self.store(value));
        self.records.push(StoredOutput {
            topic: Arc::clone(record.topic),
            partition: record.partition,
            timestamp: record.timestamp,
            key,
            value,
            headers,
            tracked: record.tracked,
            forwarded: record.forwarded,
        });
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes held by keys, values and headers.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Calls `visit` with each record in order, starting at index `from`, until it returns `false`;
    /// returns the index of the first record not visited (or refused).
    pub fn for_each_from(
        &self,
        from: usize,
        mut visit: impl FnMut(OutputRecord<'_>) -> bool,
    ) -> usize {
        let mut headers = Vec::new();
        for (index, stored) in self.records.iter().enumerate().skip(from) {
            headers.clear();
            let own = self.headers.get(stored.headers.0..stored.headers.1).unwrap_or_default();
            headers.extend(own.iter().map(|header| {
                Header {
                    name: std::str::from_utf8(self.slice(header.name))
                        .expect("header names were pushed as text"),
                    value: header.value.map(|value| self.slice(value)),
                }
            }));
            let taken = visit(OutputRecord {
                topic: &stored.topic,
                partition: stored.partition,
                timestamp: stored.timestamp,
                key: stored.key.map(|key| self.slice(key)),
                value: stored.value.map(|value| self.slice(value)),
                headers: &headers,
                tracked: stored.tracked,
                forwarded: stored.forwarded,
            });
            if !taken {
                return index;
            }
        }
        self.records.len()
    }

    /// Empties the arena and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.headers.clear();
    }

    /// Drops everything pushed after `len` records (a poison record's partial output).
    pub fn truncate(&mut self, len: usize) {
        self.records.truncate(len);
    }

    fn store(&mut self, bytes: &[u8]) -> (usize, usize) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        (start, self.bytes.len())
    }

    fn slice(&self, (start, end): (usize, usize)) -> &[u8] {
        self.bytes.get(start..end).expect("spans were made by store")
    }
}

/// A question a partition's restore asks the brokers. Questions run beside the loop; the partition
/// stays paused and its neighbours go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The group's committed offset and metadata of the source partition itself.
    Committed,
    /// Low watermark, high watermark (read uncommitted) and last stable offset of a partition. For
    /// one of the stage's own [output partitions](Stage::output_partitions) the answer is handed
    /// over only once the last stable offset has reached the high watermark that was seen first, so
    /// that everything below that is readable.
    Range(TopicPartition),
    /// Committed records from offset `from` up to `to` (exclusive). An answer may stop early (its
    /// `next` says where); control and aborted records leave holes.
    Read {
        /// Partition to read.
        topic_partition: TopicPartition,
        /// First offset.
        from: i64,
        /// End, exclusive.
        to: i64,
    },
    /// The offset of the first record at or after a time; the high watermark when there is none.
    OffsetAt {
        /// Partition to look into.
        topic_partition: TopicPartition,
        /// The time, compared with the records' timestamps.
        time: Timestamp,
    },
}

/// The answer to a [`Lookup`].
#[derive(Debug)]
pub enum LookupAnswer {
    /// To [`Lookup::Committed`].
    Committed {
        /// Next offset to read; `None` when the group has none.
        offset: Option<i64>,
        /// The metadata string committed with it (empty when a tool set the offset).
        metadata: String,
    },
    /// To [`Lookup::Range`].
    Range {
        /// First offset still kept.
        low: i64,
        /// High watermark.
        high: i64,
        /// Last stable offset (first offset that a read-committed reader can't see).
        lso: i64,
    },
    /// To [`Lookup::Read`].
    Records {
        /// The committed records found.
        batch: RecordBatch,
        /// Where to go on; equal to `to` (or above) when all was read.
        next: i64,
    },
    /// To [`Lookup::OffsetAt`].
    OffsetAt(i64),
}

/// What a partition's restore wants next.
#[derive(Debug)]
pub enum RestoreStep {
    /// Ask this and come back with the answer.
    Ask(Lookup),
    /// Restored: read the source from `position`. The first transaction after it carries the
    /// partition's offset and metadata though nothing was read (a heartbeat).
    Ready {
        /// Offset of the next record to read.
        position: i64,
    },
    /// This partition stops; an operator decides. The others go on.
    Stop(PartitionStop),
    /// This process is not made to serve the partition and its like (its keyring is another one):
    /// it ends.
    Refuse(PartitionStop),
}

/// Why a partition stopped, for the alert, the log and `/status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStop {
    /// A bounded word for labels, such as `chain_broken`.
    pub reason: &'static str,
    /// One sentence with the place and what was found; holds no record content.
    pub detail: String,
    /// The command that resumes it.
    pub command: String,
}

/// One offset to commit with its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommit {
    /// The source partition.
    pub topic_partition: TopicPartition,
    /// Next offset to read.
    pub offset: i64,
    /// Metadata, at most 4,096 bytes.
    pub metadata: String,
}

/// Where a tracked output was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The partition produced to.
    pub topic_partition: TopicPartition,
    /// The offset, when the broker told it.
    pub offset: Option<i64>,
}

/// A record that a stage can't take, however often it is tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {offset} of {topic_partition} fails: {reason}")]
pub struct RecordFailure {
    /// Partition of the record.
    pub topic_partition: TopicPartition,
    /// Offset of the record.
    pub offset: i64,
    /// A bounded word for labels.
    pub reason: &'static str,
}

/// Why a stage asks for a partition to be paused while the others go on (a missing key epoch, a
/// topic that is mostly not text).
pub type PauseRequest = PartitionStop;

/// One of the two stages, SCRUB or WATCH. Pure: time and records come in, outputs go out.
pub trait Stage {
    /// A partition was assigned: starts its restore (dropping any state of an earlier assignment).
    fn assign(&mut self, topic_partition: &TopicPartition, now: Timestamp) -> RestoreStep;

    /// Goes on with a partition's restore.
    fn restore(
        &mut self,
        topic_partition: &TopicPartition,
        answer: LookupAnswer,
        now: Timestamp,
    ) -> RestoreStep;

    /// A partition went away, or is to be restored from scratch: its state is dropped. Also called
    /// for partitions that are being restored, were stopped, or are not known. What
    /// [`Stage::suspend`] kept apart survives it.
    fn revoke(&mut self, topic_partition: &TopicPartition);

    /// What the last restore that ended well found out of order, for the log.
    fn findings(&mut self) -> Vec<RestoreAlert> {
        Vec::new()
    }

    /// The gauges that show something of a partition which was revoked and is not restored here: they
    /// are taken off /metrics at once.
    fn withdraw(&mut self, _topic_partition: &TopicPartition) -> Vec<MetricSeries> {
        Vec::new()
    }

    /// The output partitions this source partition writes to exclusively: a transaction left open
    /// by a dead owner shows there.
    fn output_partitions(&self, topic_partition: &TopicPartition) -> Vec<TopicPartition>;

    /// Takes `range` of `batch` into the open transaction.
    ///
    /// # Errors
    /// A record that can't be taken; outputs of the records before it stay valid. The shard then
    /// calls [`Stage::reject`] for it and goes on behind it.
    fn process(
        &mut self,
        batch: &RecordBatch,
        range: std::ops::Range<usize>,
        now: Timestamp,
        outputs: &mut Outputs,
    ) -> Result<(), RecordFailure>;

    /// Sends the record at `index` to the dead letters by its coordinates, with a masked stub in
    /// its place.
    fn reject(
        &mut self,
        batch: &RecordBatch,
        index: usize,
        reason: &'static str,
        now: Timestamp,
        outputs: &mut Outputs,
    );

    /// The source of `topic_partition` has been read to its end as of `now`.
    fn caught_up(&mut self, topic_partition: &TopicPartition, now: Timestamp);

    /// A partition is not read: it is stopped or paused, whoever decided that. Comes when it begins and
    /// about once a minute while it lasts, also for partitions whose state is gone.
    fn held(&mut self, _topic_partition: &TopicPartition, _now: Timestamp) {}

    /// A partition that was [held](Stage::held), and whose state is still there, is read again.
    fn resumed(&mut self, _topic_partition: &TopicPartition) {}

    /// When the stage next wants a transaction though nothing was read (heartbeat seal, tick,
    /// watermark); `None` when it has nothing to say.
    fn due(&self, now: Timestamp) -> Option<Timestamp>;

    /// Whether anything waits for a commit.
    fn is_dirty(&self) -> bool;

    /// Ends the transaction's content: seals, deltas, watermarks, state.
    fn close(&mut self, now: Timestamp, outputs: &mut Outputs);

    /// The offsets and metadata of every partition this transaction writes for, once the tracked
    /// outputs have been delivered. Every partition that was read from is among them, with the
    /// offset behind the last record taken. Empty only when nothing was written or read.
    fn offsets(&mut self, deliveries: &[Delivery]) -> Vec<OffsetCommit>;

    /// The transaction stands: state advances; what it counted is handed out for publication.
    fn committed(&mut self) -> Vec<MetricUpdate>;

    /// The transaction is lost: everything since the last `committed` is forgotten. Partitions
    /// whose state can't be wound back are named: they must be assigned (restored) again. The
    /// others go on from their last committed offset, once the shard has seen that the committed
    /// offset and metadata are still theirs. Comes also after a panic in any of the calls above.
    fn discard(&mut self) -> Vec<TopicPartition>;

    /// The transaction's outcome is unknown, and stays so though the shard has asked for the committed
    /// offsets (it calls [`Stage::committed`] or [`Stage::discard`] when they told): keep what was pending apart (see
    /// [`Stage::restore`]: when the restored state equals it, its counters are published by the
    /// next `committed`, else they are dropped) and require every partition to be restored.
    fn suspend(&mut self) -> Vec<TopicPartition>;

    /// Partitions the stage wants paused until an operator has acted and the process was started
    /// again, with the reason; each is reported once. Asked also right after [`Stage::process`]
    /// failed: when the record's own partition is named, the record is not rejected but waited
    /// before.
    fn pauses(&mut self) -> Vec<(TopicPartition, PauseRequest)>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sending_stops_where_the_queue_is_full_and_goes_on_there() {
        let topic: Arc<str> = Arc::from("t");
        let mut outputs = Outputs::default();
        for value in [b"a", b"b", b"c"] {
            let headers = [Header { name: "w", value: Some(b"x") }];
            outputs.push(OutputRecord {
                topic: &topic,
                partition: Some(1),
                timestamp: None,
                key: None,
                value: Some(value),
                headers: &headers,
                tracked: false,
                forwarded: false,
            });
        }
        let mut seen = Vec::new();
        let stopped = outputs.for_each_from(0, |record| {
            if seen.len() == 2 {
                return false;
            }
            seen.push(record.value.map(<[u8]>::to_vec));
            true
        });
        assert_eq!(stopped, 2);
        let end = outputs.for_each_from(stopped, |record| {
            assert_eq!(record.headers[0].name, "w");
            seen.push(record.value.map(<[u8]>::to_vec));
            true
        });
        assert_eq!((end, seen.len()), (3, 3));
        assert_eq!(seen[2].as_deref(), Some(b"c".as_slice()));
    }
}

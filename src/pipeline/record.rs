//! The words every room shares. A raw record (which may hold personal data) prints as its
//! coordinates and sizes only.

use std::fmt;
use std::sync::Arc;

/// Milliseconds since the Unix epoch, UTC. The pure floor never reads a clock: it is handed these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// This time moved by `millis` (which may be negative), saturating.
    #[must_use]
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to `self`, negative when `self` is the earlier one.
    #[must_use]
    pub const fn millis_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// RFC 3339 in UTC with milliseconds; times outside years 0000..9999 are clamped to them.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        let bounded = self.0.clamp(RFC3339_MILLIS_MIN, RFC3339_MILLIS_MAX);
        let time = jiff::Timestamp::from_millisecond(bounded)
            .expect("the bounds lie inside the range of jiff");
        format!("{time:.3}")
    }
}

const RFC3339_MILLIS_MIN: i64 = -62_167_219_200_000;
const RFC3339_MILLIS_MAX: i64 = 253_402_207_200_000;

/// One partition of one topic; ordered by topic, then number.
#[derive(Clone, Debug, Eq)]
pub struct TopicPartition {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

/// As derived, but two that share a topic's text, as those of one daemon do, compare without it.
impl PartialEq for TopicPartition {
    fn eq(&self, other: &Self) -> bool {
        self.partition == other.partition
            && (Arc::ptr_eq(&self.topic, &other.topic) || self.topic == other.topic)
    }
}

impl std::hash::Hash for TopicPartition {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.topic.hash(state);
        self.partition.hash(state);
    }
}

impl Ord for TopicPartition {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let topics = if Arc::ptr_eq(&self.topic, &other.topic) {
            std::cmp::Ordering::Equal
        } else {
            self.topic.cmp(&other.topic)
        };
        topics.then(self.partition.cmp(&other.partition))
    }
}

impl PartialOrd for TopicPartition {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.topic, self.partition)
    }
}

/// Where a record stands in Kafka.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// Topic and partition.
    pub topic_partition: TopicPartition,
    /// Offset in the partition.
    pub offset: i64,
}

impl fmt::Display for RecordId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.topic_partition, self.offset)
    }
}

/// A tenant's id **after** it has passed the redactor: safe as a label, a Kafka key or a MAC input.
/// Never empty, at most [`limits::TENANT_ID_BYTES_MAX`](super::limits::TENANT_ID_BYTES_MAX) bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// `None` when `text` is empty or over the limit.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.len() <= super::limits::TENANT_ID_BYTES_MAX;
        fits.then(|| Self(Arc::from(text)))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as shared text.
    #[must_use]
    pub const fn text(&self) -> &Arc<str> {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// How bad a record says things are. `Unknown` is its own value: it is never guessed to be `Info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Absent or not recognised.
    #[default]
    Unknown,
    /// Trace.
    Trace,
    /// Debug.
    Debug,
    /// Info (and notice).
    Info,
    /// Warning.
    Warn,
    /// Error.
    Error,
    /// Fatal (and critical, alert, emergency).
    Fatal,
}

impl Severity {
    /// Every value, in rising order.
    pub const ALL: [Self; 7] =
        [Self::Unknown, Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error, Self::Fatal];

    /// The lower-case name used in labels and on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }

    /// Error or worse: the numerator of the error ratio.
    #[must_use]
    pub const fn is_error(self) -> bool {
        matches!(self, Self::Error | Self::Fatal)
    }
}

/// One header of a record; Kafka allows a null value.
#[derive(Clone, Copy)]
pub struct Header<'a> {
    /// Header name (librdkafka hands out UTF-8 names only).
    pub name: &'a str,
    /// Header value.
    pub value: Option<&'a [u8]>,
}

/// One record as it was read: **may hold personal data**. Only `ingest` and `redact` look inside.
#[derive(Clone, Copy)]
pub struct SourceRecord<'a> {
    /// Topic and partition.
    pub topic_partition: &'a TopicPartition,
    /// Offset in the partition.
    pub offset: i64,
    /// The record's timestamp (CreateTime or LogAppendTime).
    pub timestamp: Timestamp,
    /// Key, if any.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers in order.
    pub headers: &'a [Header<'a>],
}

impl SourceRecord<'_> {
    /// The record's coordinates.
    #[must_use]
    pub fn id(&self) -> RecordId {
        RecordId { topic_partition: self.topic_partition.clone(), offset: self.offset }
    }

    /// Bytes of key, value and headers.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|h| h.name.len() + h.value.map_or(0, <[u8]>::len)).sum();
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + headers
    }
}

impl fmt::Debug for SourceRecord<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "SourceRecord({}/{}, {} bytes)",
            self.topic_partition,
            self.offset,
            self.size_bytes()
        )
    }
}

/// Records of one partition in offset order, held in one arena: filled by a poll, read by a stage,
/// cleared and used again.
pub struct RecordBatch {
    topic_partition: TopicPartition,
    bytes: Vec<u8>,
    records: Vec<StoredRecord>,
    headers: Vec<StoredHeader>,
}

#[derive(Clone, Copy)]
struct StoredRecord {
    offset: i64,
    timestamp: Timestamp,
    key: Option<(usize, usize)>,
    value: Option<(usize, usize)>,
    headers: (usize, usize),
}

#[derive(Clone, Copy)]
struct StoredHeader {
    name: (usize, usize),
    value: Option<(usize, usize)>,
}

impl RecordBatch {
    /// An empty batch of `topic_partition`.
    #[must_use]
    pub fn new(topic_partition: TopicPartition) -> Self {
        Self { topic_partition, bytes: Vec::new(), records: Vec::new(), headers: Vec::new() }
    }

    /// The batch emptied, with its memory, for records of `topic_partition`.
    #[must_use]
    pub fn recycled(mut self, topic_partition: TopicPartition) -> Self {
        self.topic_partition = topic_partition;
        self.bytes.clear();
        self.records.clear();
        self.headers.clear();
        self
    }

    /// Topic and partition of every record in the batch.
    #[must_use]
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// Copies one record in. Its topic and partition are the batch's.
    pub fn push<'h>(
        &mut self,
        offset: i64,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = Header<'h>>,
    ) {
        let first_header = self.headers.len();
        for header in headers {
            let name = self.store(header.name.as_bytes());
            let value = header.value.map(|value| self.store(value));
            self.headers.push(StoredHeader { name, value });
        }
        let headers = (first_header, self.headers.len());
        let key = key.map(|key| self.store(key));
        let value = value.map(|value| self.store(value));
        self.records.push(StoredRecord { offset, timestamp, key, value, headers });
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether the batch holds no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes held by keys, values and headers.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Offsets of the first and the last record.
    #[must_use]
    pub fn offsets(&self) -> Option<(i64, i64)> {
        Some((self.records.first()?.offset, self.records.last()?.offset))
    }

    /// Calls `visit` with each record of `range` (indices into the batch) in offset order.
    pub fn for_each(&self, range: std::ops::Range<usize>, mut visit: impl FnMut(SourceRecord<'_>)) {
        let mut headers = Vec::new();
        for stored in self.records.get(range).unwrap_or_default() {
            headers.clear();
            let own = self.headers.get(stored.headers.0..stored.headers.1).unwrap_or_default();
            headers.extend(own.iter().map(|header| {
                Header {
                    name: std::str::from_utf8(self.slice(header.name))
                        .expect("header names were pushed as text"),
                    value: header.value.map(|value| self.slice(value)),
                }
            }));
            visit(SourceRecord {
                topic_partition: &self.topic_partition,
                offset: stored.offset,
                timestamp: stored.timestamp,
                key: stored.key.map(|key| self.slice(key)),
                value: stored.value.map(|value| self.slice(value)),
                headers: &headers,
            });
        }
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

impl fmt::Debug for RecordBatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RecordBatch({}, {} records)", self.topic_partition, self.records.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gives_back_what_was_pushed() {
        let mut batch = RecordBatch::new(TopicPartition::new("t", 3));
        let headers = [Header { name: "h", value: Some(b"v") }, Header { name: "n", value: None }];
        batch.push(7, Timestamp::from_millis(1), Some(b"key"), Some(b"value"), headers);
        batch.push(9, Timestamp::from_millis(2), None, None, []);
        let mut seen = Vec::new();
        batch.for_each(0..2, |record| {
            let headers: Vec<_> = record
                .headers
                .iter()
                .map(|h| (h.name.to_owned(), h.value.map(<[u8]>::to_vec)))
                .collect();
            seen.push((
                record.offset,
                record.key.map(<[u8]>::to_vec),
                record.value.map(<[u8]>::to_vec),
                headers,
            ));
        });
        assert_eq!(seen[0].0, 7);
        assert_eq!(seen[0].3, vec![("h".to_owned(), Some(b"v".to_vec())), ("n".to_owned(), None)]);
        assert_eq!(seen[1], (9, None, None, vec![]));
    }

    #[test]
    fn a_source_record_prints_no_content() {
        let topic_partition = TopicPartition::new("t", 0);
        let record = SourceRecord {
            topic_partition: &topic_partition,
            offset: 1,
            timestamp: Timestamp::EPOCH,
            key: None,
            value: Some(b"asha@example.com"),
            headers: &[],
        };
        assert_eq!(format!("{record:?}"), "SourceRecord(t/0/1, 16 bytes)");
    }

    #[test]
    fn times_far_away_still_print() {
        assert_eq!(Timestamp::from_millis(1).to_rfc3339(), "1970-01-01T00:00:00.001Z");
        assert!(Timestamp::from_millis(i64::MAX).to_rfc3339().starts_with("9999-12-30"));
        assert!(Timestamp::from_millis(i64::MIN).to_rfc3339().starts_with("0000-01-01"));
    }
}

//! The log of one partition: offsets, open transactions, last stable offset, what an abort hides.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;

use super::ModelError;
use crate::pipeline::record::{Header, Timestamp};

/// Who wrote a transactional record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub i64);

/// Which records a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Everything below the high watermark, aborted records included.
    ReadUncommitted,
    /// Committed records below the last stable offset.
    ReadCommitted,
}

/// A header's name and value.
pub type OwnedHeader = (Box<str>, Option<Box<[u8]>>);

/// A record's content, as handed to the log. May hold personal data: prints its size only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Body {
    /// Key, if any.
    pub key: Option<Box<[u8]>>,
    /// Value; `None` is a tombstone.
    pub value: Option<Box<[u8]>>,
    /// Headers in order.
    pub headers: Vec<OwnedHeader>,
}

impl Body {
    /// A record with this key and value and no headers.
    #[must_use]
    pub fn new(key: Option<&[u8]>, value: Option<&[u8]>) -> Self {
        Self { key: key.map(Box::from), value: value.map(Box::from), headers: Vec::new() }
    }

    /// Copies `headers` in behind those there are.
    #[must_use]
    pub fn with_headers(mut self, headers: &[Header<'_>]) -> Self {
        let owned = headers.iter().map(|h| (Box::from(h.name), h.value.map(Box::from)));
        self.headers.extend(owned);
        self
    }

    /// The first header of this name, when it has a value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(own, _)| &**own == name)?.1.as_deref()
    }

    /// Bytes of key, value and headers.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.as_ref().map_or(0, |value| value.len()))
            .sum();
        let key = self.key.as_ref().map_or(0, |key| key.len());
        key + self.value.as_ref().map_or(0, |value| value.len()) + headers
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Body({} bytes)", self.size_bytes())
    }
}

/// One record as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its offset.
    pub offset: i64,
    /// CreateTime or LogAppendTime, by the topic's configuration.
    pub timestamp: Timestamp,
    /// Its content.
    pub body: Body,
}

#[derive(Debug)]
struct Entry {
    producer: Option<ProducerId>,
    aborted: bool,
    /// A commit or abort marker takes an offset and is seen by no reader.
    marker: bool,
    record: StoredRecord,
}

/// One partition.
#[derive(Debug, Default)]
pub(super) struct PartitionLog {
    low: i64,
    high: i64,
    entries: VecDeque<Entry>,
    open: BTreeMap<ProducerId, i64>,
}

impl PartitionLog {
    pub(super) fn low(&self) -> i64 {
        self.low
    }

    pub(super) fn high(&self) -> i64 {
        self.high
    }

    /// The first offset that a read-committed reader can't see.
    pub(super) fn last_stable(&self) -> i64 {
        self.open.values().copied().min().unwrap_or(self.high)
    }

    pub(super) fn end(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadUncommitted => self.high,
            Isolation::ReadCommitted => self.last_stable(),
        }
    }

    /// Appends a record; `producer` makes it part of that producer's open transaction.
    pub(super) fn append(
        &mut self,
        producer: Option<ProducerId>,
        timestamp: Timestamp,
        body: Body,
    ) -> i64 {
        let offset = self.high;
        if let Some(producer) = producer {
            self.open.entry(producer).or_insert(offset);
        }
        let record = StoredRecord { offset, timestamp, body };
        self.entries.push_back(Entry { producer, aborted: false, marker: false, record });
        self.high += 1;
        offset
    }

    /// Ends the producer's transaction in this partition with a marker.
    pub(super) fn end_transaction(&mut self, producer: ProducerId, commit: bool, now: Timestamp) {
        let first = self.open.remove(&producer);
        if let (Some(first), false) = (first, commit) {
            let start = self.index_of(first);
            for entry in self.entries.range_mut(start..) {
                entry.aborted |= entry.producer == Some(producer);
            }
        }
        let record = StoredRecord { offset: self.high, timestamp: now, body: Body::default() };
        self.entries.push_back(Entry { producer: None, aborted: false, marker: true, record });
        self.high += 1;
    }

    /// Visits the records from offset `from` below `to` that `isolation` shows, until `visit`
    /// returns `false` (that record was still taken); returns where to go on.
    pub(super) fn read(
        &self,
        isolation: Isolation,
        from: i64,
        to: i64,
        mut visit: impl FnMut(&StoredRecord) -> bool,
    ) -> Result<i64, ModelError> {
        if from < self.low || from > self.high {
            return Err(ModelError::OffsetOutOfRange);
        }
        let end = self.end(isolation).min(to);
        for entry in self.entries.range(self.index_of(from)..) {
            let offset = entry.record.offset;
            if offset >= end {
                break;
            }
            let hidden = entry.marker || (entry.aborted && isolation == Isolation::ReadCommitted);
            if !hidden && !visit(&entry.record) {
                return Ok(offset + 1);
            }
        }
        Ok(end.max(from))
    }

    /// The first offset whose record's time is at or after `time`.
    pub(super) fn offset_at(&self, time: Timestamp) -> Option<i64> {
        let mut found = self.entries.iter().filter(|entry| !entry.marker);
        found.find(|entry| entry.record.timestamp >= time).map(|entry| entry.record.offset)
    }

    /// Retention: drops everything below `before`.
    pub(super) fn delete_before(&mut self, before: i64) {
        self.low = before.clamp(self.low, self.high);
        while self.entries.front().is_some_and(|entry| entry.record.offset < self.low) {
            self.entries.pop_front();
        }
    }

    /// Loss: drops everything from `end` on, as an unclean election does.
    pub(super) fn truncate(&mut self, end: i64) {
        self.high = end.clamp(self.low, self.high);
        self.entries.truncate(self.index_of(self.high));
        let high = self.high;
        self.open.retain(|_, first| *first < high);
    }

    /// Compaction: of each key the newest visible record stays; the rest below the last stable
    /// offset goes, with the aborted records and markers. Offsets keep their values.
    pub(super) fn compact(&mut self) {
        let stable = self.last_stable();
        let visible = |entry: &Entry| !entry.marker && !entry.aborted;
        let mut newest: HashMap<Box<[u8]>, i64> = HashMap::new();
        for entry in self.entries.iter().filter(|e| e.record.offset < stable && visible(e)) {
            if let Some(key) = &entry.record.body.key {
                newest.insert(key.clone(), entry.record.offset);
            }
        }
        self.entries.retain(|entry| {
            let record = &entry.record;
            let kept =
                record.body.key.as_ref().is_some_and(|key| newest.get(key) == Some(&record.offset));
            record.offset >= stable || (visible(entry) && kept)
        });
    }

    fn index_of(&self, offset: i64) -> usize {
        self.entries.partition_point(|entry| entry.record.offset < offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Body {
        Body::new(Some(text.as_bytes()), Some(text.as_bytes()))
    }

    fn values(log: &PartitionLog, isolation: Isolation) -> Vec<String> {
        let mut seen = Vec::new();
        log.read(isolation, log.low(), i64::MAX, |record| {
            seen.push(String::from_utf8(record.body.value.clone().unwrap().into_vec()).unwrap());
            true
        })
        .unwrap();
        seen
    }

    #[test]
    fn an_open_transaction_bounds_what_is_stable_and_an_abort_hides() {
        let mut log = PartitionLog::default();
        let (first, second) = (ProducerId(1), ProducerId(2));
        log.append(Some(first), Timestamp::EPOCH, body("a"));
        log.append(Some(second), Timestamp::EPOCH, body("b"));
        log.end_transaction(second, true, Timestamp::EPOCH);
        assert_eq!((log.last_stable(), log.high()), (0, 3));
        assert!(values(&log, Isolation::ReadCommitted).is_empty());
        log.end_transaction(first, false, Timestamp::EPOCH);
        assert_eq!(values(&log, Isolation::ReadCommitted), ["b"]);
        assert_eq!(values(&log, Isolation::ReadUncommitted), ["a", "b"]);
        assert_eq!((log.last_stable(), log.high()), (4, 4));
        assert_eq!(log.read(Isolation::ReadCommitted, 2, i64::MAX, |_| true), Ok(4));
        assert_eq!(
            log.read(Isolation::ReadCommitted, 5, i64::MAX, |_| true),
            Err(ModelError::OffsetOutOfRange)
        );
    }

    #[test]
    fn compaction_keeps_the_newest_of_each_key_and_the_offsets() {
        let mut log = PartitionLog::default();
        for text in ["a", "b", "a"] {
            log.append(None, Timestamp::EPOCH, body(text));
        }
        log.append(Some(ProducerId(1)), Timestamp::EPOCH, body("b"));
        log.end_transaction(ProducerId(1), false, Timestamp::EPOCH);
        log.compact();
        assert_eq!(values(&log, Isolation::ReadCommitted), ["b", "a"]);
        assert_eq!((log.low(), log.high()), (0, 5));
        log.delete_before(2);
        assert_eq!(values(&log, Isolation::ReadCommitted), ["a"]);
        log.truncate(2);
        assert_eq!((log.low(), log.high()), (2, 2));
    }
}

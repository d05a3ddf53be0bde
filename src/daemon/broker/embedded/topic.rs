//! Topics: their configuration and what a broker refuses to append.

use super::ModelError;
use super::log::{Body, PartitionLog, ProducerId};
use crate::pipeline::record::Timestamp;

/// Which time a record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's at the append.
    LogAppendTime,
}

/// A topic's configuration, as far as the model knows it. The defaults are Apache Kafka's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// Number of partitions.
    pub partitions: i32,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `max.message.bytes`.
    pub message_bytes_max: usize,
    /// `message.timestamp.after.max.ms`: how far ahead of the broker's clock a CreateTime may be.
    pub timestamp_after_ms_max: i64,
    /// `cleanup.policy` contains `compact`: a record needs a key.
    pub compact: bool,
}

impl TopicConfig {
    /// `partitions` partitions, everything else as Apache Kafka has it.
    #[must_use]
    pub const fn new(partitions: i32) -> Self {
        Self {
            partitions,
            timestamp_type: TimestampType::CreateTime,
            message_bytes_max: 1_048_588,
            timestamp_after_ms_max: 3_600_000,
            compact: false,
        }
    }

    /// With `message.timestamp.type=LogAppendTime`.
    #[must_use]
    pub const fn log_append_time(mut self) -> Self {
        self.timestamp_type = TimestampType::LogAppendTime;
        self
    }

    /// With `cleanup.policy=compact`.
    #[must_use]
    pub const fn compacted(mut self) -> Self {
        self.compact = true;
        self
    }
}

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) config: TopicConfig,
    pub(super) partitions: Vec<PartitionLog>,
}

impl Topic {
    pub(super) fn new(config: TopicConfig) -> Self {
        let partitions = (0..config.partitions).map(|_| PartitionLog::default()).collect();
        Self { config, partitions }
    }

    /// Refuses what a broker refuses before it appends anything.
    pub(super) fn check(
        &self,
        body: &Body,
        timestamp: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), ModelError> {
        if body.size_bytes() > self.config.message_bytes_max {
            return Err(ModelError::MessageTooLarge);
        }
        if self.config.compact && body.key.is_none() {
            return Err(ModelError::InvalidRecord);
        }
        let ahead_ms = timestamp.map_or(0, |timestamp| timestamp.millis_since(now));
        let create_time = self.config.timestamp_type == TimestampType::CreateTime;
        if create_time && ahead_ms > self.config.timestamp_after_ms_max {
            return Err(ModelError::InvalidTimestamp);
        }
        Ok(())
    }

    /// Appends to `partition`, which exists.
    pub(super) fn append(
        &mut self,
        partition: usize,
        producer: Option<ProducerId>,
        timestamp: Option<Timestamp>,
        now: Timestamp,
        body: Body,
    ) -> Result<i64, ModelError> {
        self.check(&body, timestamp, now)?;
        let log = self.partitions.get_mut(partition).ok_or(ModelError::UnknownTopicOrPartition)?;
        let timestamp = match self.config.timestamp_type {
            TimestampType::CreateTime => timestamp.unwrap_or(now),
            TimestampType::LogAppendTime => now,
        };
        Ok(log.append(producer, timestamp, body))
    }
}

/// The partition Java's default partitioner and librdkafka's `murmur2` choose for a key.
#[must_use]
pub fn partition_for_key(key: &[u8], partitions: i32) -> i32 {
    let positive = murmur2(key) & 0x7fff_ffff;
    i32::try_from(positive).expect("31 bits fit") % partitions.max(1)
}

/// MurmurHash2, 32 bits, seed 0x9747b28c, as in `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = 0x9747_b28c_u32 ^ length;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let word = <[u8; 4]>::try_from(chunk).expect("chunks of four");
        let mut k = u32::from_le_bytes(word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values from Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_equals_kafkas() {
        let cases: [(&str, i32); 5] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ];
        for (text, expected) in cases {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), expected, "{text}");
        }
    }
}

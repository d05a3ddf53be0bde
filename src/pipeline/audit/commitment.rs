//! Keyed commitments to records. Never an unkeyed digest: all 10^10 phone numbers are tried in
//! minutes. With the key destroyed a commitment says nothing about its record for good.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::super::record::{Header, SourceRecord, Timestamp};
use super::keys::KeyId;

const RAW_TAG: &[u8] = b"blotter/raw-commit/v1\0";
const REDACTED_TAG: &[u8] = b"blotter/redacted-commit/v1\0";
const CHECK_TAG: &[u8] = b"blotter/commit-key-check/v1\0";

/// HMAC-SHA256 over one record's coordinates and bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Commitment([u8; 32]);

impl Commitment {
    /// From its 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first half, as a seal holds it.
    #[must_use]
    pub fn short(&self) -> ShortCommitment {
        let (first, _) = self.0.split_at(16);
        ShortCommitment(first.try_into().expect("half of 32 bytes"))
    }
}

impl fmt::Debug for Commitment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Commitment({})", super::json::hex(&self.0))
    }
}

/// The first 16 bytes of a [`Commitment`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ShortCommitment(pub(super) [u8; 16]);

impl fmt::Debug for ShortCommitment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ShortCommitment({})", super::json::hex(&self.0))
    }
}

/// A commitment key with its hash state ready: one clone per record instead of a key schedule.
#[derive(Clone)]
pub struct CommitmentKey {
    raw: Hmac<Sha256>,
    redacted: Hmac<Sha256>,
    id: KeyId,
}

impl CommitmentKey {
    /// What a keyring's key MACs to give the bytes for [`Self::from_bytes`].
    pub const DERIVATION: &'static [u8] = b"blotter/commitment-key/v1";

    /// From 32 bytes that nobody can guess.
    #[must_use]
    pub fn from_bytes(key: &[u8; 32]) -> Self {
        let state = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        let tagged = |tag: &[u8]| {
            let mut state = state.clone();
            state.update(tag);
            state
        };
        let check: [u8; 32] = tagged(CHECK_TAG).finalize().into_bytes().into();
        Self { raw: tagged(RAW_TAG), redacted: tagged(REDACTED_TAG), id: KeyId::of(&check) }
    }

    /// The key's id (of a MAC under the key, so it gives nothing away).
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Commits to a source record as it was read.
    #[must_use]
    pub fn commit_raw(&self, record: &SourceRecord<'_>) -> Commitment {
        commit(self.raw.clone(), record)
    }

    /// Commits to a redacted record: `record` holds the source's coordinates and timestamp with the
    /// redacted key, value and headers (a number that was missed must not be guessable either).
    #[must_use]
    pub fn commit_redacted(&self, record: &SourceRecord<'_>) -> Commitment {
        commit(self.redacted.clone(), record)
    }
}

impl fmt::Debug for CommitmentKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CommitmentKey({})", self.id)
    }
}

/// The commitment keys of a keyring, one for each epoch whose key was not destroyed. A record's own
/// timestamp chooses, so that a replay commits to it with the same key.
#[derive(Clone, Debug)]
pub struct CommitmentKeys(Arc<[(Timestamp, CommitmentKey)]>);

impl CommitmentKeys {
    /// Keys with the times from which they count; `None` when there is none.
    #[must_use]
    pub fn new(mut epochs: Vec<(Timestamp, CommitmentKey)>) -> Option<Self> {
        epochs.sort_by_key(|(from, _)| *from);
        (!epochs.is_empty()).then(|| Self(epochs.into()))
    }

    /// The key for a record of that time: of the newest epoch that had begun, else of the first.
    #[must_use]
    pub fn at(&self, timestamp: Timestamp) -> &CommitmentKey {
        let begun = self.0.partition_point(|(from, _)| *from <= timestamp);
        &self.0[begun.saturating_sub(1)].1
    }

    /// Every key, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &CommitmentKey> {
        self.0.iter().map(|(_, key)| key)
    }

    /// The key of the newest epoch.
    #[must_use]
    pub fn newest(&self) -> &CommitmentKey {
        self.iter().next_back().expect("there is at least one key")
    }
}

impl From<CommitmentKey> for CommitmentKeys {
    fn from(key: CommitmentKey) -> Self {
        Self(Arc::from([(Timestamp::EPOCH, key)]))
    }
}

/// Integers are big endian; a length of `u32::MAX` stands for null (no record is that long).
fn commit(mut mac: Hmac<Sha256>, record: &SourceRecord<'_>) -> Commitment {
    let topic = record.topic_partition.topic.as_bytes();
    let mut fixed = [0_u8; 28];
    fixed[0..4].copy_from_slice(&length(topic));
    fixed[4..8].copy_from_slice(&record.topic_partition.partition.to_be_bytes());
    fixed[8..16].copy_from_slice(&record.offset.to_be_bytes());
    fixed[16..24].copy_from_slice(&record.timestamp.millis().to_be_bytes());
    let headers = u32::try_from(record.headers.len()).expect("far below 2^32 headers");
    fixed[24..28].copy_from_slice(&headers.to_be_bytes());
    mac.update(&fixed);
    mac.update(topic);
    update_nullable(&mut mac, record.key);
    update_nullable(&mut mac, record.value);
    for Header { name, value } in record.headers {
        update_nullable(&mut mac, Some(name.as_bytes()));
        update_nullable(&mut mac, *value);
    }
    Commitment(mac.finalize().into_bytes().into())
}

fn update_nullable(mac: &mut Hmac<Sha256>, part: Option<&[u8]>) {
    match part {
        None => mac.update(&u32::MAX.to_be_bytes()),
        Some(bytes) => {
            mac.update(&length(bytes));
            mac.update(bytes);
        }
    }
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).expect("Kafka records are below 2 GiB").to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::super::record::{Timestamp, TopicPartition};
    use super::*;

    #[test]
    fn every_part_of_a_record_counts() {
        let key = CommitmentKey::from_bytes(&[7; 32]);
        let (here, there) = (TopicPartition::new("t", 0), TopicPartition::new("t", 1));
        let headers = [Header { name: "h", value: Some(b"v") }];
        let base = SourceRecord {
            topic_partition: &here,
            offset: 5,
            timestamp: Timestamp::from_millis(9),
            key: None,
            value: Some(b"value"),
            headers: &[],
        };
        let variants = [
            base,
            SourceRecord { topic_partition: &there, ..base },
            SourceRecord { offset: 6, ..base },
            SourceRecord { timestamp: Timestamp::from_millis(8), ..base },
            SourceRecord { key: Some(b""), ..base },
            SourceRecord { key: Some(b"value"), value: None, ..base },
            SourceRecord { value: None, ..base },
            SourceRecord { value: Some(b""), ..base },
            SourceRecord { headers: &headers, ..base },
        ];
        for (i, one) in variants.iter().enumerate() {
            assert_eq!(key.commit_raw(one), key.commit_raw(one));
            assert_ne!(key.commit_raw(one), key.commit_redacted(one));
            for other in &variants[i + 1..] {
                assert_ne!(key.commit_raw(one), key.commit_raw(other));
            }
        }
        let other_key = CommitmentKey::from_bytes(&[8; 32]);
        assert_ne!(key.id(), other_key.id());
        assert_ne!(key.commit_raw(&base), other_key.commit_raw(&base));
    }
}

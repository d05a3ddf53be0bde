//! What a restore asks, and what it must know beforehand.

use super::super::super::record::{RecordBatch, SourceRecord, Timestamp};
use super::super::commitment::CommitmentKeys;
use super::super::keys::{Certificate, KeyId, KeyringId};
use super::super::verify::Trust;
use super::{Permission, RestoreStop, Restored, StartPosition};

/// A partition that belongs to the one being restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The source partition itself.
    Source,
    /// Its audit partition.
    Audit,
    /// Its redacted partition.
    Redacted,
}

/// A question of the restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The group's committed offset (stable) and its metadata.
    Committed,
    /// Low watermark, high watermark and last stable offset. Asked again and again while a
    /// transaction is open below the high watermark: the driver paces that, and fences the writer
    /// of a transaction left open.
    Range(Role),
    /// Committed records from `from` up to `to`, exclusive.
    Read {
        /// Which partition.
        role: Role,
        /// First offset.
        from: i64,
        /// End, exclusive.
        to: i64,
    },
    /// The offset of the source's first record at or after a time (its end when there is none).
    OffsetAt(Timestamp),
}

/// The answer to an [`Ask`].
#[derive(Debug)]
pub enum Answer {
    /// To [`Ask::Committed`].
    Committed {
        /// The next offset to read, if there is one.
        offset: Option<i64>,
        /// Its metadata, empty when there is none.
        metadata: String,
    },
    /// To [`Ask::Range`].
    Range {
        /// First offset kept.
        low: i64,
        /// High watermark.
        high: i64,
        /// Last stable offset.
        lso: i64,
    },
    /// To [`Ask::Read`].
    Records {
        /// The committed records found, in order.
        batch: RecordBatch,
        /// Where to go on reading; `to` or above when all was read.
        next: i64,
    },
    /// To [`Ask::OffsetAt`].
    OffsetAt(i64),
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Answer this.
    Ask(Ask),
    /// Restored.
    Ready(Box<Restored>),
    /// Stopped.
    Stop(Box<RestoreStop>),
}

/// What the restore of one partition must know beforehand.
#[derive(Clone, Debug)]
pub struct RestoreContext {
    /// The partition and the root of trust.
    pub trust: Trust,
    /// Whether the audit is on.
    pub audit: bool,
    /// The keyring in use.
    pub keyring: KeyringId,
    /// The id of this instance's key.
    pub instance_key: KeyId,
    /// Certificates of instance keys known here, for a chain whose beginning retention took.
    pub signers: Vec<Certificate>,
    /// Commitment keys that are alive: of every tenant and epoch whose records may be the last ones.
    pub commitment_keys: CommitmentKeys,
    /// Where to start when the partition was never read (partitions that came later and new topics
    /// of a pattern start at earliest: the caller's choice).
    pub start: StartPosition,
    /// Partitions of the source topic when it was first read (now, when it never was).
    pub partitions: i32,
    /// What an operator allowed.
    pub permission: Permission,
    /// Reads the source offset that a redacted record carries in its headers.
    pub redacted_offset: fn(&SourceRecord<'_>) -> Option<i64>,
}

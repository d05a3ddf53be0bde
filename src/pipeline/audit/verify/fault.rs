//! What can be wrong with a chain, and where.

use std::fmt;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// There was nothing to verify.
    Empty,
    /// An entry is longer than entries may be.
    TooLong,
    /// An entry is not UTF-8.
    NotUtf8,
    /// An entry is not as this format writes it.
    Malformed,
    /// An entry has another format version; nothing is skipped.
    UnknownVersion,
    /// An entry is of an unknown kind; nothing is skipped.
    UnknownKind,
    /// The chain does not start with a genesis (or with the head it was said to start with).
    StartAbsent,
    /// A genesis stands where none may.
    UnexpectedGenesis,
    /// Something other than a genesis follows an end.
    AfterEnd,
    /// An entry belongs to another chain.
    WrongOrigin,
    /// Entries are missing, doubled or out of order.
    WrongSeq,
    /// An entry's bytes differ from what its successor recorded.
    WrongPrev,
    /// A range does not begin where the one before ended, or is upside down.
    WrongCoverage,
    /// An action or redaction names a source offset outside its seal's range, or out of order.
    WrongSource,
    /// A seal's counts contradict each other or the entries.
    WrongCounts,
    /// A heartbeat contradicts the seal before about the last record.
    WrongLast,
    /// A policy entry's hash is not its text's, or a seal names another policy than the one in force.
    WrongPolicy,
    /// A key's certificate is not by the deployment key.
    WrongCertificate,
    /// A seal names another key than the one in force.
    WrongSigner,
    /// A seal's signature does not verify.
    WrongSignature,
    /// The Merkle root over the records differs from the seal's.
    WrongRoot,
    /// Entries follow the last seal: the end is cut off, or a transaction was torn.
    Unsealed,
}

impl FaultKind {
    /// A bounded word for labels and machines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLong => "too_long",
            Self::NotUtf8 => "not_utf8",
            Self::Malformed => "malformed",
            Self::UnknownVersion => "unknown_version",
            Self::UnknownKind => "unknown_kind",
            Self::StartAbsent => "start_absent",
            Self::UnexpectedGenesis => "unexpected_genesis",
            Self::AfterEnd => "after_end",
            Self::WrongOrigin => "wrong_origin",
            Self::WrongSeq => "wrong_seq",
            Self::WrongPrev => "wrong_prev",
            Self::WrongCoverage => "wrong_coverage",
            Self::WrongSource => "wrong_source",
            Self::WrongCounts => "wrong_counts",
            Self::WrongLast => "wrong_last",
            Self::WrongPolicy => "wrong_policy",
            Self::WrongCertificate => "wrong_certificate",
            Self::WrongSigner => "wrong_signer",
            Self::WrongSignature => "wrong_signature",
            Self::WrongRoot => "wrong_root",
            Self::Unsealed => "unsealed",
        }
    }
}

/// The first thing found wrong with a chain. Holds hashes, numbers and names, no content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    /// What is wrong.
    pub kind: FaultKind,
    /// The chain.
    pub origin: String,
    /// The entry's number in the chain, where it could be told.
    pub seq: Option<u64>,
    /// Where the entry is stored: audit offset or line of a file.
    pub place: Option<i64>,
    /// What should have been there.
    pub expected: String,
    /// What was there.
    pub found: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} in {}", self.kind.name(), self.origin)?;
        if let Some(seq) = self.seq {
            write!(formatter, " at seq {seq}")?;
        }
        if let Some(place) = self.place {
            write!(formatter, " (stored at {place})")?;
        }
        write!(formatter, ": expected {}, found {}", self.expected, self.found)
    }
}

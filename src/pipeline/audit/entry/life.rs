//! Entries about the chain's own life: where it starts, ends and has gaps, keys and policies.

use super::super::super::limits::AUDIT_POLICY_BYTES_MAX;
use super::super::super::record::Timestamp;
use super::super::chain::ChainHead;
use super::super::json::{push_base64, push_fixed, push_hex, push_name, push_number};
use super::super::keys::{Certificate, KeyringId};
use super::{Body, Kind, PolicyHash, ShortPolicyHash, Word, push_named, push_optional};

/// From where a chain's first transaction reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartKind {
    /// The oldest record kept.
    Earliest,
    /// The end of the partition.
    Latest,
    /// The first record at or after a time.
    Time(Timestamp),
    /// The offset committed while the audit was off.
    Committed,
    /// The position found again after the committed offset was lost.
    Recovered,
    /// The position at which an operator restarted the chain.
    Repaired,
}

impl StartKind {
    /// The word stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Earliest => "earliest",
            Self::Latest => "latest",
            Self::Time(_) => "time",
            Self::Committed => "committed",
            Self::Recovered => "recovered",
            Self::Repaired => "repaired",
        }
    }
}

impl Word for StartKind {
    const ALL: &'static [Self] = &[
        Self::Earliest,
        Self::Latest,
        Self::Time(Timestamp::EPOCH),
        Self::Committed,
        Self::Recovered,
        Self::Repaired,
    ];

    fn word(self) -> &'static str {
        self.name()
    }
}

/// Kind [`Kind::Genesis`].
#[derive(Clone, Copy, Debug)]
pub struct Genesis<'a> {
    /// The chain's origin.
    pub origin: &'a str,
    /// Why reading starts where it does.
    pub start: StartKind,
    /// Source offset at which reading starts.
    pub offset: i64,
    /// Partitions of the source topic when it was first read.
    pub partitions: i32,
    /// The keyring in use.
    pub keyring: KeyringId,
    /// The key that signs from here on.
    pub signer: &'a Certificate,
    /// The policy in force.
    pub policy: ShortPolicyHash,
    /// The last entry of the incarnation before, where there was one and it could be read.
    pub after: Option<ChainHead>,
}

impl Body for Genesis<'_> {
    fn kind(&self) -> Kind {
        Kind::Genesis
    }

    fn write(&self, _source: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"origin\":");
        push_name(out, self.origin);
        push_optional(out, b",\"start\":", Some(self.start.name()));
        if let StartKind::Time(time) = self.start {
            out.extend_from_slice(b",\"start_time\":");
            push_number(out, time.millis());
        }
        push_named(out, b",\"offset\":", self.offset);
        push_named(out, b",\"partitions\":", i64::from(self.partitions));
        out.extend_from_slice(format!(",\"keyring\":\"{}\"", self.keyring).as_bytes());
        push_signer(out, self.signer);
        out.extend_from_slice(b",\"policy\":\"");
        self.policy.push(out);
        out.push(b'"');
        if let Some(head) = self.after {
            out.extend_from_slice(b",\"after\":{\"seq\":\"");
            push_fixed(out, head.seq);
            out.extend_from_slice(b"\",\"leaf\":\"");
            push_hex(out, &head.leaf);
            out.extend_from_slice(b"\"}");
        }
    }
}

/// Why source offsets were not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// The source's retention deleted them first.
    Retention,
    /// They were processed while the audit was off.
    AuditOff,
    /// They were redacted, but the audit's end was found before them.
    Unaudited,
    /// An operator moved the committed offset forward.
    Adopted,
    /// An operator restarted the chain behind them.
    Repaired,
}

impl GapReason {
    /// The word stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::AuditOff => "audit_off",
            Self::Unaudited => "unaudited",
            Self::Adopted => "adopted",
            Self::Repaired => "repaired",
        }
    }
}

impl Word for GapReason {
    const ALL: &'static [Self] =
        &[Self::Retention, Self::AuditOff, Self::Unaudited, Self::Adopted, Self::Repaired];

    fn word(self) -> &'static str {
        self.name()
    }
}

/// Kind [`Kind::Gap`]: source offsets `from..to` are covered by no seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// First offset.
    pub from: i64,
    /// End, exclusive.
    pub to: i64,
    /// Why.
    pub reason: GapReason,
}

impl Body for Gap {
    fn kind(&self) -> Kind {
        Kind::Gap
    }

    fn write(&self, _source: &[u8], out: &mut Vec<u8>) {
        push_named(out, b",\"from\":", self.from);
        push_named(out, b",\"to\":", self.to);
        push_optional(out, b",\"reason\":", Some(self.reason.name()));
    }
}

/// Why a chain's position had to be found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveryReason {
    /// The group's committed offset was gone (expired, reset, topic deleted).
    OffsetLost,
    /// A tool had set the offset and an operator adopted it.
    OffsetAdopted,
}

impl RecoveryReason {
    /// The word stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OffsetLost => "offset_lost",
            Self::OffsetAdopted => "offset_adopted",
        }
    }
}

impl Word for RecoveryReason {
    const ALL: &'static [Self] = &[Self::OffsetLost, Self::OffsetAdopted];

    fn word(self) -> &'static str {
        self.name()
    }
}

/// Kind [`Kind::Recovery`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Why.
    pub reason: RecoveryReason,
    /// The source offset from which reading goes on.
    pub position: i64,
}

impl Body for Recovery {
    fn kind(&self) -> Kind {
        Kind::Recovery
    }

    fn write(&self, _source: &[u8], out: &mut Vec<u8>) {
        push_optional(out, b",\"reason\":", Some(self.reason.name()));
        push_named(out, b",\"position\":", self.position);
    }
}

/// Kind [`Kind::Rotate`].
#[derive(Clone, Copy, Debug)]
pub struct Rotate<'a> {
    /// The key that signs from here on.
    pub signer: &'a Certificate,
}

impl Body for Rotate<'_> {
    fn kind(&self) -> Kind {
        Kind::Rotate
    }

    fn write(&self, _source: &[u8], out: &mut Vec<u8>) {
        push_signer(out, self.signer);
    }
}

/// Why a policy text can't be an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyTextError {
    /// It is no JSON value on one line.
    #[error("the policy text is no JSON value on one line")]
    NotJsonOnOneLine,
    /// It is too long.
    #[error("the policy text is longer than {AUDIT_POLICY_BYTES_MAX} bytes")]
    TooLong,
}

/// Kind [`Kind::Policy`].
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    text: &'a str,
    loosened: Option<bool>,
}

impl<'a> Policy<'a> {
    /// `text` is the full effective policy as JSON on one line, without secrets; `loosened` says
    /// whether it may take out less than the one before, `None` that the one before is not at hand.
    ///
    /// # Errors
    /// Text that is not JSON, spans lines or is over the limit.
    pub fn new(text: &'a str, loosened: impl Into<Option<bool>>) -> Result<Self, PolicyTextError> {
        if text.len() > AUDIT_POLICY_BYTES_MAX {
            return Err(PolicyTextError::TooLong);
        }
        let text = text.trim();
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
        if !is_json || text.contains(['\n', '\r']) {
            return Err(PolicyTextError::NotJsonOnOneLine);
        }
        Ok(Self { text, loosened: loosened.into() })
    }
}

impl Body for Policy<'_> {
    fn kind(&self) -> Kind {
        Kind::Policy
    }

    fn write(&self, _source: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"hash\":\"");
        push_base64(out, PolicyHash::of(self.text).as_bytes());
        out.extend_from_slice(b"\",\"loosened\":");
        out.extend_from_slice(match self.loosened {
            Some(true) => b"true",
            Some(false) => b"false",
            None => b"null",
        });
        out.extend_from_slice(b",\"policy\":");
        out.extend_from_slice(self.text.as_bytes());
    }
}

/// Kind [`Kind::Shred`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shred<'a> {
    /// The name of the key that was destroyed (tenant, kind, epoch), never the key.
    pub key: &'a str,
}

impl Body for Shred<'_> {
    fn kind(&self) -> Kind {
        Kind::Shred
    }

    fn write(&self, _source: &[u8], out: &mut Vec<u8>) {
        push_optional(out, b",\"key\":", Some(self.key));
    }
}

/// Kind [`Kind::End`]: an operator closed this incarnation.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// The reason the operator gave (redacted).
    pub reason: &'a str,
}

impl Body for End<'_> {
    fn kind(&self) -> Kind {
        Kind::End
    }

    fn write(&self, _source: &[u8], out: &mut Vec<u8>) {
        push_optional(out, b",\"reason\":", Some(self.reason));
    }
}

fn push_signer(out: &mut Vec<u8>, signer: &Certificate) {
    out.extend_from_slice(b",\"key\":\"");
    push_base64(out, signer.key.as_bytes());
    out.extend_from_slice(b"\",\"cert\":\"");
    push_base64(out, &signer.signature);
    out.push(b'"');
}

//! The kinds of audit entries and the bodies they carry. Bodies are pure functions of (record,
//! policy, keys): no clock, nothing random; only the seal (see [`super::seal`]) holds a time of the
//! writer. All facts must have passed the redactor before they come here.

mod life;

use super::super::limits::AUDIT_COUNTS_MAX;
use super::super::record::{Timestamp, TopicPartition};
use super::commitment::Commitment;
use super::json::{push_base64, push_number, push_text, push_unsigned, read_base64};
use sha2::{Digest, Sha256};

pub use life::{
    End, Gap, GapReason, Genesis, Policy, PolicyTextError, Recovery, RecoveryReason, Rotate, Shred,
    StartKind,
};

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// First entry of a chain.
    Genesis,
    /// Who did what.
    Action,
    /// Receipt of what was taken out of a record.
    Redaction,
    /// Signed end of a transaction.
    Seal,
    /// Source offsets that were not read, and why.
    Gap,
    /// The chain goes on after its position had to be found again.
    Recovery,
    /// The key that signs from here on.
    Rotate,
    /// The policy in force from here on.
    Policy,
    /// A key was destroyed.
    Shred,
    /// Last entry of a chain.
    End,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Genesis,
        Self::Action,
        Self::Redaction,
        Self::Seal,
        Self::Gap,
        Self::Recovery,
        Self::Rotate,
        Self::Policy,
        Self::Shred,
        Self::End,
    ];

    /// The three letters stored in the entry.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Genesis => "gen",
            Self::Action => "act",
            Self::Redaction => "red",
            Self::Seal => "sea",
            Self::Gap => "gap",
            Self::Recovery => "rec",
            Self::Rotate => "rot",
            Self::Policy => "pol",
            Self::Shred => "shr",
            Self::End => "end",
        }
    }

    /// The kind of three stored letters.
    #[must_use]
    pub fn from_code(code: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code().as_bytes() == code)
    }
}

/// What an entry says after its chain fields.
pub trait Body {
    /// The entry's kind.
    fn kind(&self) -> Kind;

    /// Appends the fields, each with a comma in front. `source` is what [`source_prefix`] made for
    /// the chain's partition.
    fn write(&self, source: &[u8], out: &mut Vec<u8>);
}

/// The start of the coordinates of every action and redaction of one chain: ready but the offset.
#[must_use]
pub fn source_prefix(source: &TopicPartition) -> Vec<u8> {
    let mut out = b",\"src\":{\"topic\":".to_vec();
    push_text(&mut out, &source.topic);
    out.extend_from_slice(b",\"partition\":");
    push_number(&mut out, i64::from(source.partition));
    out.extend_from_slice(b",\"offset\":");
    out
}

/// The hash of a policy's full text, under its own tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyHash([u8; 32]);

impl PolicyHash {
    /// Of a policy's full effective text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"blotter/policy/v1\0");
        hasher.update(text);
        Self(hasher.finalize().into())
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first nine bytes, as entries hold them (12 characters).
    #[must_use]
    pub fn short(&self) -> ShortPolicyHash {
        let (first, _) = self.0.split_at(9);
        ShortPolicyHash(first.try_into().expect("nine of 32 bytes"))
    }
}

/// The first nine bytes of a [`PolicyHash`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortPolicyHash([u8; 9]);

impl ShortPolicyHash {
    /// From 12 characters of base64url.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        read_base64(text).map(Self)
    }

    pub(super) fn push(&self, out: &mut Vec<u8>) {
        push_base64(out, &self.0);
    }
}

/// A value that is stored as one of a few words: a reader refuses every other.
pub(super) trait Word: Copy + 'static {
    /// All there are.
    const ALL: &'static [Self];

    /// The word stored.
    fn word(self) -> &'static str;

    /// The value stored as `text`.
    fn of(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|one| one.word() == text)
    }
}

/// How far a fact about a person or tenant can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assurance {
    /// The record says so.
    Claimed,
    /// Bound by topic, trusted header or signed command.
    Verified,
}

impl Assurance {
    /// The word stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Verified => "verified",
        }
    }
}

impl Word for Assurance {
    const ALL: &'static [Self] = &[Self::Claimed, Self::Verified];

    fn word(self) -> &'static str {
        self.name()
    }
}

/// A tenant and how far it can be believed.
#[derive(Clone, Copy, Debug)]
pub struct TenantFact<'a> {
    /// Redacted tenant id.
    pub id: &'a str,
    /// Claimed or verified.
    pub assurance: Assurance,
}

/// An actor and how far it can be believed.
#[derive(Clone, Copy, Debug)]
pub struct ActorFact<'a> {
    /// Keyed token or opaque id.
    pub id: &'a str,
    /// Such as staff, bot, system.
    pub kind: Option<&'a str>,
    /// Claimed or verified.
    pub assurance: Assurance,
}

/// What stands as [`Count::surface`].
const SURFACES: [&str; 8] =
    ["value", "key", "number", "nested", "escaped", "record_key", "header", OTHER];

/// What stands as [`Count::kind`].
const KINDS: [&str; 4] = ["email", "phone", "pattern", OTHER];

/// Surface and kind of the sum of what is over the limit.
const OTHER: &str = "other";

/// Whether `surface` and `kind` are words of this format.
pub(super) fn is_count(surface: &str, kind: &str) -> bool {
    SURFACES.contains(&surface) && KINDS.contains(&kind)
}

/// How many findings of one kind were acted upon on one surface of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Class of the value's part, or `record_key` or `header`.
    pub surface: &'static str,
    /// `email`, `phone` or `pattern`.
    pub kind: &'static str,
    /// How many.
    pub count: u32,
}

/// Kind [`Kind::Action`].
#[derive(Clone, Copy, Debug)]
pub struct Action<'a> {
    /// Offset of the source record.
    pub offset: i64,
    /// Timestamp of the source record.
    pub timestamp: Timestamp,
    /// Event time as the application claims it.
    pub event_time: Option<Timestamp>,
    /// For which tenant.
    pub tenant: Option<TenantFact<'a>>,
    /// Who.
    pub actor: Option<ActorFact<'a>>,
    /// Did what, such as `booking.cancel`.
    pub action: &'a str,
    /// To which object.
    pub object: Option<&'a str>,
    /// Success, failure, denied ...
    pub outcome: Option<&'a str>,
    /// A code that says why.
    pub reason: Option<&'a str>,
    /// The service that wrote the record.
    pub service: Option<&'a str>,
    /// Commitment to the raw record: the same one that its seal covers.
    pub raw: &'a Commitment,
    /// What was taken out of the record.
    pub redactions: &'a [Count],
}

impl Body for Action<'_> {
    fn kind(&self) -> Kind {
        Kind::Action
    }

    fn write(&self, source: &[u8], out: &mut Vec<u8>) {
        push_source(out, source, self.offset, self.timestamp);
        if let Some(time) = self.event_time {
            out.extend_from_slice(b",\"time\":");
            push_number(out, time.millis());
        }
        push_tenant(out, self.tenant);
        if let Some(actor) = self.actor {
            out.extend_from_slice(b",\"actor\":{\"id\":");
            push_text(out, actor.id);
            push_optional(out, b",\"type\":", actor.kind);
            push_assurance(out, actor.assurance);
        }
        push_optional(out, b",\"action\":", Some(self.action));
        push_optional(out, b",\"object\":", self.object);
        push_optional(out, b",\"outcome\":", self.outcome);
        push_optional(out, b",\"reason\":", self.reason);
        push_optional(out, b",\"service\":", self.service);
        push_commitment(out, b",\"raw\":\"", self.raw);
        push_counts(out, self.redactions);
    }
}

/// What became of a record that went on (a dead-lettered one leaves no receipt).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Findings were replaced, the record went on.
    Redacted,
    /// The whole content was masked, the record went on.
    Masked,
}

impl Disposition {
    /// The word stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redacted => "redacted",
            Self::Masked => "masked",
        }
    }
}

impl Word for Disposition {
    const ALL: &'static [Self] = &[Self::Redacted, Self::Masked];

    fn word(self) -> &'static str {
        self.name()
    }
}

/// Kind [`Kind::Redaction`]: a receipt without the data.
#[derive(Clone, Copy, Debug)]
pub struct Redaction<'a> {
    /// Offset of the source record.
    pub offset: i64,
    /// Timestamp of the source record.
    pub timestamp: Timestamp,
    /// Whose record.
    pub tenant: Option<TenantFact<'a>>,
    /// The policy that was applied.
    pub policy: ShortPolicyHash,
    /// What was taken out where.
    pub counts: &'a [Count],
    /// What became of the record.
    pub disposition: Disposition,
    /// Commitment to the raw record: the same one that its seal covers.
    pub raw: &'a Commitment,
    /// Commitment to the redacted record.
    pub redacted: &'a Commitment,
}

impl Body for Redaction<'_> {
    fn kind(&self) -> Kind {
        Kind::Redaction
    }

    fn write(&self, source: &[u8], out: &mut Vec<u8>) {
        push_source(out, source, self.offset, self.timestamp);
        push_tenant(out, self.tenant);
        out.extend_from_slice(b",\"policy\":\"");
        self.policy.push(out);
        out.extend_from_slice(b"\",\"disposition\":\"");
        out.extend_from_slice(self.disposition.name().as_bytes());
        out.push(b'"');
        push_commitment(out, b",\"raw\":\"", self.raw);
        push_commitment(out, b",\"redacted\":\"", self.redacted);
        push_counts(out, self.counts);
    }
}

fn push_source(out: &mut Vec<u8>, source: &[u8], offset: i64, timestamp: Timestamp) {
    out.extend_from_slice(source);
    push_number(out, offset);
    out.extend_from_slice(b"},\"src_ts\":");
    push_number(out, timestamp.millis());
}

fn push_tenant(out: &mut Vec<u8>, tenant: Option<TenantFact<'_>>) {
    if let Some(tenant) = tenant {
        out.extend_from_slice(b",\"tenant\":{\"id\":");
        push_text(out, tenant.id);
        push_assurance(out, tenant.assurance);
    }
}

fn push_assurance(out: &mut Vec<u8>, assurance: Assurance) {
    out.extend_from_slice(b",\"is\":\"");
    out.extend_from_slice(assurance.name().as_bytes());
    out.extend_from_slice(b"\"}");
}

fn push_optional(out: &mut Vec<u8>, name: &[u8], text: Option<&str>) {
    if let Some(text) = text {
        out.extend_from_slice(name);
        push_text(out, text);
    }
}

fn push_named(out: &mut Vec<u8>, name: &[u8], number: i64) {
    out.extend_from_slice(name);
    push_number(out, number);
}

fn push_commitment(out: &mut Vec<u8>, name: &[u8], commitment: &Commitment) {
    out.extend_from_slice(name);
    push_base64(out, commitment.as_bytes());
    out.push(b'"');
}

fn push_counts(out: &mut Vec<u8>, counts: &[Count]) {
    out.extend_from_slice(b",\"counts\":[");
    let (listed, rest) = counts.split_at(counts.len().min(AUDIT_COUNTS_MAX));
    for (index, line) in listed.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"[\"" } else { b",[\"" });
        debug_assert!(is_count(line.surface, line.kind));
        out.extend_from_slice(line.surface.as_bytes());
        out.extend_from_slice(b"\",\"");
        out.extend_from_slice(line.kind.as_bytes());
        out.extend_from_slice(b"\",");
        push_unsigned(out, u64::from(line.count));
        out.push(b']');
    }
    if !rest.is_empty() {
        let sum = rest.iter().map(|line| u64::from(line.count)).sum();
        out.extend_from_slice(b",[\"other\",\"other\",");
        push_unsigned(out, sum);
        out.push(b']');
    }
    out.push(b']');
}

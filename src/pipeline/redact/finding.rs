//! The words of this room: what is looked for, where, and what was found.

use std::fmt;

use super::identity::Identity;
use crate::pipeline::record::{TenantId, Timestamp};

/// What a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntityKind {
    /// An e-mail address (RFC 5321, RFC 6531).
    Email,
    /// A phone number.
    Phone,
    /// An extra pattern of the policy, by its index there.
    Custom(u8),
    /// A string that could not be read to its ground (too many layers), masked whole.
    Opaque,
}

/// Which part of a record the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface<'a> {
    /// The record's value.
    Value,
    /// The record's key.
    Key,
    /// The value of the named header.
    Header(&'a str),
    /// A string that names somebody or something (tenant, session, actor): findings in it become
    /// keyed tokens, so that two identities never become one.
    Identity,
}

/// Whether the bytes are a piece of a longer line that a log driver has split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partial {
    /// A whole line.
    #[default]
    Whole,
    /// The line began in an earlier record.
    CutAtStart,
    /// The line goes on in a later record.
    CutAtEnd,
    /// A middle piece.
    CutBoth,
}

impl Partial {
    /// Whether the first byte may stand in the middle of a value.
    #[must_use]
    pub const fn cut_at_start(self) -> bool {
        matches!(self, Self::CutAtStart | Self::CutBoth)
    }

    /// Whether the last byte may stand in the middle of a value.
    #[must_use]
    pub const fn cut_at_end(self) -> bool {
        matches!(self, Self::CutAtEnd | Self::CutBoth)
    }
}

/// Where bytes come from: chooses regions, field rules, actions and keys.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The source topic.
    pub topic: &'a str,
    /// The tenant, already redacted.
    pub tenant: Option<&'a TenantId>,
    /// The record's timestamp: chooses the key epoch.
    pub timestamp: Timestamp,
    /// Which part of the record.
    pub surface: Surface<'a>,
    /// Whether the line was split.
    pub partial: Partial,
    /// The names that the record is known by.
    pub identities: &'a [Identity<'a>],
}

impl Default for Scope<'_> {
    fn default() -> Self {
        Self {
            topic: "",
            tenant: None,
            timestamp: Timestamp::EPOCH,
            surface: Surface::Value,
            partial: Partial::Whole,
            identities: &[],
        }
    }
}

/// How a finding stands in the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// It is (inside) a JSON number: its replacement must be a string or a number.
    pub json_number: bool,
    /// It is (inside) the key of a JSON object.
    pub object_key: bool,
    /// How many layers of JSON text inside JSON strings lie around it.
    pub nesting: u8,
    /// It was written with escapes (JSON, percent, entities, foreign digits ...).
    pub escaped: bool,
}

/// One e-mail address or phone number in a record. Its `Debug` shows no value.
#[derive(Clone)]
pub struct Finding {
    /// What it is.
    pub kind: EntityKind,
    /// First byte in the input.
    pub start: usize,
    /// One past the last byte in the input.
    pub end: usize,
    /// The decoded value: the address as written, or the digits of a number, with a `+` in front
    /// when they begin with a calling code. Empty where a span was masked without being understood.
    pub value: Vec<u8>,
    /// How it stands in the record.
    pub position: Position,
    /// For a JSON number: how a quotation mark is written where it stands (`"`, `\"` ...).
    pub quote: Vec<u8>,
    /// Bit set of the rules that spoke, see `explain`.
    pub rules: u64,
    /// The score that the rules gave.
    pub score: i16,
}

impl Finding {
    /// All of `bytes`, whatever they are.
    pub(super) fn whole(bytes: &[u8]) -> Self {
        Self {
            kind: EntityKind::Opaque,
            start: 0,
            end: bytes.len(),
            value: bytes.to_vec(),
            position: Position::default(),
            quote: Vec::new(),
            rules: 0,
            score: 0,
        }
    }
}

impl fmt::Debug for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Finding({:?} {}..{}, score {})",
            self.kind, self.start, self.end, self.score
        )
    }
}

/// Where findings are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SurfaceClass {
    /// A string or plain text.
    Value,
    /// The key of a JSON object.
    Key,
    /// A JSON number.
    Number,
    /// JSON inside a JSON string.
    Nested,
    /// Written with escapes.
    Escaped,
}

impl SurfaceClass {
    /// Every class, in the order of [`Report::found`].
    pub const ALL: [Self; 5] = [Self::Value, Self::Key, Self::Number, Self::Nested, Self::Escaped];

    /// The class of a position: the most telling property wins.
    #[must_use]
    pub const fn of(position: Position) -> Self {
        if position.json_number {
            Self::Number
        } else if position.object_key {
            Self::Key
        } else if position.escaped {
            Self::Escaped
        } else if position.nesting > 0 {
            Self::Nested
        } else {
            Self::Value
        }
    }

    /// The lower-case name used in labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Key => "key",
            Self::Number => "number",
            Self::Nested => "nested",
            Self::Escaped => "escaped",
        }
    }
}

/// Why bytes were masked strictly instead of being understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StrictReason {
    /// Not UTF-8.
    InvalidUtf8,
    /// Begins as JSON and is not.
    BrokenJson,
    /// Deeper nesting or more layers of encoding than the limit.
    TooDeep,
    /// Longer than the limit.
    TooLong,
    /// More candidates than the limit.
    TooMany,
}

impl StrictReason {
    /// The lower-case name used in labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidUtf8 => "invalid_utf8",
            Self::BrokenJson => "broken_json",
            Self::TooDeep => "too_deep",
            Self::TooLong => "too_long",
            Self::TooMany => "too_many",
        }
    }
}

/// What became of the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Disposition {
    /// Nothing found: the output is the input.
    #[default]
    Clean,
    /// Findings were replaced.
    Redacted,
    /// The bytes could not be scanned whole: every digit run and address-like piece is gone.
    StrictMasked(StrictReason),
    /// Not text at all, by the name of its format; of a key a token is left, of a header a
    /// placeholder, of anything else nothing.
    NotText(&'static str),
    /// A token was needed and no key epoch covers the record's time; the output is empty.
    MissingKeyEpoch,
}

/// What one call of the redactor did. Holds counts only, never a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What became of the bytes.
    pub disposition: Disposition,
    /// Findings per kind (e-mail, phone, anything else) and surface class.
    pub found: [[u32; 5]; 3],
    /// Bit set of the rules that spoke for or against what was found, see [`super::rule_names`].
    pub rules: u64,
    /// Tokens written with the default key for a tenant that has none.
    pub default_keys: u32,
    /// Placeholders that stand where a token should: its key is destroyed, or there is no keyring.
    pub unavailable_keys: u32,
    /// Whether the record was over the size limit: none of it is left.
    pub truncated: bool,
}

impl Report {
    /// Adds the counts of another part of the same record; of the dispositions the first one stays
    /// that is more than redacted.
    pub fn absorb(&mut self, other: &Self) {
        if matches!(self.disposition, Disposition::Clean | Disposition::Redacted)
            && other.disposition != Disposition::Clean
        {
            self.disposition = other.disposition;
        }
        for (sums, counts) in self.found.iter_mut().zip(&other.found) {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        self.rules |= other.rules;
        self.default_keys += other.default_keys;
        self.unavailable_keys += other.unavailable_keys;
        self.truncated |= other.truncated;
    }

    /// All findings.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.found.iter().flatten().sum()
    }

    /// Findings of one kind (all but e-mail and phone count together) and class.
    #[must_use]
    pub fn count(&self, kind: EntityKind, class: SurfaceClass) -> u32 {
        self.found[kind_row(kind)][class as usize]
    }

    /// Counts one finding.
    pub fn add(&mut self, finding: &Finding) {
        self.found[kind_row(finding.kind)][SurfaceClass::of(finding.position) as usize] += 1;
        self.rules |= finding.rules;
    }
}

const fn kind_row(kind: EntityKind) -> usize {
    match kind {
        EntityKind::Email => 0,
        EntityKind::Phone => 1,
        EntityKind::Custom(_) | EntityKind::Opaque => 2,
    }
}

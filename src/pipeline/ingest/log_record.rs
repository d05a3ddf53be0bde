//! What `ingest` found in one record. Everything here may hold personal data: it prints masked.

use std::borrow::Cow;
use std::fmt;

use super::otlp::SeverityCounts;
use crate::pipeline::record::{Severity, Timestamp};

/// How the bytes of the value were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// One JSON object (or an array of them).
    Json,
    /// `key=value` pairs from the first byte on.
    Logfmt,
    /// Anything else that is UTF-8, broken JSON included.
    Text,
    /// No value, or a value without bytes.
    #[default]
    Empty,
    /// Not UTF-8. Fields in front of the first bad byte are still reported.
    Undecodable,
}

impl Format {
    /// Lower-case name for labels and `explain`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Logfmt => "logfmt",
            Self::Text => "text",
            Self::Empty => "empty",
            Self::Undecodable => "undecodable",
        }
    }
}

/// The rule that found a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule<'a> {
    /// A name of the field table: the key path as the table writes it.
    Name(&'a str),
    /// The leading tokens of a plain line.
    Text,
    /// A syslog or CRI line header.
    LineHeader,
    /// A Kafka header.
    Header,
    /// The record key.
    Key,
    /// The capture of the topic template.
    Topic,
    /// A constant of the configuration.
    Constant,
}

/// One field: decoded text and the rule that found it. **May hold personal data.**
#[derive(Clone, PartialEq, Eq)]
pub struct Field<'a> {
    /// The value, escapes decoded; numbers and booleans as they were written.
    pub text: Cow<'a, str>,
    /// The rule that found it.
    pub rule: Rule<'a>,
}

impl Field<'_> {
    /// The decoded text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Field<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Field({} bytes, {:?})", self.text.len(), self.rule)
    }
}

/// How far an identity can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Assurance {
    /// The record says so itself.
    Claimed,
    /// Bound by the topic, a trusted header or the configuration.
    Verified,
}

impl Assurance {
    /// Lower-case name used in audit entries.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Verified => "verified",
        }
    }
}

/// The tenant as the record has it, before redaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantClaim<'a> {
    /// The id and where it was found.
    pub id: Field<'a>,
    /// Whether something other than the record's own word stands behind it.
    pub assurance: Assurance,
}

/// Why a bot handed a conversation to a human: a closed set, safe as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HandoverReason {
    /// The user asked for a human.
    UserRequest,
    /// The bot did not understand.
    LowConfidence,
    /// A rule demands a human.
    Policy,
    /// Something failed.
    Error,
    /// Something took too long.
    Timeout,
    /// Any other reason, or none given.
    Other,
}

impl HandoverReason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::UserRequest,
        Self::LowConfidence,
        Self::Policy,
        Self::Error,
        Self::Timeout,
        Self::Other,
    ];

    /// The label value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserRequest => "user_request",
            Self::LowConfidence => "low_confidence",
            Self::Policy => "policy",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Other => "other",
        }
    }
}

/// Whose turn of a conversation a record reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Turn {
    /// A message of the user.
    User,
    /// A message of the bot.
    Bot,
    /// A message of the user and the bot's answer in one record.
    Exchange,
}

impl Turn {
    /// Counts in the denominator of the fallback rate.
    #[must_use]
    pub const fn has_user(self) -> bool {
        matches!(self, Self::User | Self::Exchange)
    }

    /// Counts in the denominator of handovers per turn.
    #[must_use]
    pub const fn has_bot(self) -> bool {
        matches!(self, Self::Bot | Self::Exchange)
    }
}

/// What a bot record reports. One record may report several things (a turn that ended in a
/// handover); at least one of them is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BotFact {
    /// A conversation began.
    pub session_started: bool,
    /// A conversation ended.
    pub session_ended: bool,
    /// A turn.
    pub turn: Option<Turn>,
    /// The bot handed over to a human.
    pub handover: Option<HandoverReason>,
    /// The bot did not understand.
    pub fallback: bool,
}

/// A record that says who did what. Its actor, action and object are the record's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaffAction {
    /// Named as staff: a staff event, a staff field, a staff role, or an actor or action under a
    /// name that the settings give. The audit trail holds these.
    Explicit,
    /// An action and an actor whose role is not given: most are customers.
    Inferred,
}

/// Tokens of a language model that a record reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Prompt tokens.
    pub input: u64,
    /// Completion tokens.
    pub output: u64,
    /// Total: as reported, else the sum.
    pub total: u64,
}

/// Whether the record is a piece of a longer line that a container runtime split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SplitLine {
    /// The beginning of the line is in an earlier record.
    pub cut_at_start: bool,
    /// The rest of the line is in a later record.
    pub cut_at_end: bool,
}

impl SplitLine {
    /// Whether anything is missing.
    #[must_use]
    pub const fn is_partial(self) -> bool {
        self.cut_at_start || self.cut_at_end
    }
}

/// What one record says, found with no knowledge of its schema. **May hold personal data**: only
/// `redact` reads it; later rooms see a redacted twin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogRecord<'a> {
    /// How the value was read.
    pub format: Format,
    /// Severity; `Unknown` when no rule is sure.
    pub severity: Severity,
    /// The field that gave the severity.
    pub severity_field: Option<Field<'a>>,
    /// The time the record gives for itself.
    pub event_time: Option<Timestamp>,
    /// The field that gave the event time.
    pub event_time_field: Option<Field<'a>>,
    /// The service that wrote the record.
    pub service: Option<Field<'a>>,
    /// The tenant.
    pub tenant: Option<TenantClaim<'a>>,
    /// Name of the event: an identifier, never free text.
    pub event: Option<Field<'a>>,
    /// What was done.
    pub action: Option<Field<'a>>,
    /// Who did it.
    pub actor: Option<Field<'a>>,
    /// Role or type of the actor.
    pub actor_type: Option<Field<'a>>,
    /// What it was done to.
    pub object: Option<Field<'a>>,
    /// Type of the object.
    pub object_type: Option<Field<'a>>,
    /// How it ended.
    pub outcome: Option<Field<'a>>,
    /// Why.
    pub reason: Option<Field<'a>>,
    /// The conversation or session.
    pub session: Option<Field<'a>>,
    /// What a bot reported.
    pub bot: Option<BotFact>,
    /// Whether somebody acted.
    pub staff_action: Option<StaffAction>,
    /// Duration of what the record reports, in milliseconds; finite and not negative.
    pub latency_ms: Option<f64>,
    /// Rating in stars; finite.
    pub rating: Option<f64>,
    /// Model tokens.
    pub tokens: Option<Tokens>,
    /// Value of a booking in its currency's units; finite.
    pub booking_value: Option<f64>,
    /// Whether the record is a piece of a longer line.
    pub partial: SplitLine,
    /// What the value holds when it is a batch of log records (OTLP), by tenant and service; the
    /// other fields are the first one's, or absent when they are not all of one tenant. Empty when
    /// it is one log record.
    pub batch: Vec<ResourceLogs<'a>>,
}

/// The log records of one tenant and service in a batch. **May hold personal data.**
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResourceLogs<'a> {
    /// The tenant.
    pub tenant: Option<TenantClaim<'a>>,
    /// The service.
    pub service: Option<Field<'a>>,
    /// Event time of the first one.
    pub event_time: Option<Timestamp>,
    /// How many of each severity.
    pub severities: SeverityCounts,
}

impl ResourceLogs<'_> {
    /// Counts those of `other` too.
    pub(super) fn absorb(&mut self, other: &Self) {
        self.event_time = self.event_time.or(other.event_time);
        for (own, more) in self.severities.iter_mut().zip(other.severities) {
            *own = own.saturating_add(more);
        }
    }
}

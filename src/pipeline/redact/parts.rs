//! What a redacted record is made of, beside its bytes.

use super::{Disposition, Report};
use crate::pipeline::ingest::{BotFact, Format, LogRecord, SplitLine, StaffAction, Tokens};
use crate::pipeline::record::{Severity, Timestamp};

/// What redaction did to the key, the value and the headers of a record. The fields that were found
/// in them are not counted again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordReport {
    /// The value.
    pub value: Report,
    /// The key.
    pub key: Report,
    /// All headers, names and values, see [`Report::absorb`].
    pub headers: Report,
}

impl RecordReport {
    /// The three reports.
    #[must_use]
    pub const fn parts(&self) -> [&Report; 3] {
        [&self.value, &self.key, &self.headers]
    }

    /// Everything found in the record.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.parts().into_iter().map(Report::total).sum()
    }

    /// Tokens made with the default key.
    #[must_use]
    pub fn default_keys(&self) -> u32 {
        self.parts().into_iter().map(|part| part.default_keys).sum()
    }

    /// Whether anything at all was changed.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.parts().into_iter().all(|report| report.disposition == Disposition::Clean)
    }
}

/// The texts that ingest found, redacted. Identities (actor, object, session) that were addresses or
/// numbers are keyed tokens; a text that could not be scanned whole is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedactedFields<'a> {
    /// The service that wrote the record.
    pub service: Option<&'a str>,
    /// Name of the event.
    pub event: Option<&'a str>,
    /// What was done.
    pub action: Option<&'a str>,
    /// Who did it. Always claimed: the record says so itself.
    pub actor: Option<&'a str>,
    /// Role or type of the actor.
    pub actor_type: Option<&'a str>,
    /// What it was done to.
    pub object: Option<&'a str>,
    /// Type of the object.
    pub object_type: Option<&'a str>,
    /// How it ended.
    pub outcome: Option<&'a str>,
    /// Why.
    pub reason: Option<&'a str>,
    /// The conversation or session.
    pub session: Option<&'a str>,
}

/// What ingest found that is no text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RecordFacts {
    /// How the value was read.
    pub format: Format,
    /// Severity.
    pub severity: Severity,
    /// The record's own time.
    pub event_time: Option<Timestamp>,
    /// What a bot reported.
    pub bot: Option<BotFact>,
    /// Whether somebody acted.
    pub staff_action: Option<StaffAction>,
    /// Duration in milliseconds; finite and not negative.
    pub latency_ms: Option<f64>,
    /// Rating in stars; finite.
    pub rating: Option<f64>,
    /// Model tokens.
    pub tokens: Option<Tokens>,
    /// Value of a booking; finite.
    pub booking_value: Option<f64>,
    /// Whether the record is a piece of a longer line.
    pub partial: SplitLine,
}

/// How many texts there are.
pub(super) const FIELDS: usize = 10;

impl<'a> From<[Option<&'a str>; FIELDS]> for RedactedFields<'a> {
    fn from(texts: [Option<&'a str>; FIELDS]) -> Self {
        let [
            service,
            event,
            action,
            actor,
            actor_type,
            object,
            object_type,
            outcome,
            reason,
            session,
        ] = texts;
        Self {
            service,
            event,
            action,
            actor,
            actor_type,
            object,
            object_type,
            outcome,
            reason,
            session,
        }
    }
}

impl RecordFacts {
    pub(super) const fn of(log: &LogRecord<'_>) -> Self {
        Self {
            format: log.format,
            severity: log.severity,
            event_time: log.event_time,
            bot: log.bot,
            staff_action: log.staff_action,
            latency_ms: log.latency_ms,
            rating: log.rating,
            tokens: log.tokens,
            booking_value: log.booking_value,
            partial: log.partial,
        }
    }
}

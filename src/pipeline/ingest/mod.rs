//! Bytes to [`LogRecord`]: severity, time, service, tenant, event, actor, session and what bots
//! report, found with no configuration in JSON, logfmt, syslog, container lines and plain text.
//!
//! Nothing here fails and nothing is guessed: what no rule is sure of stays absent (or
//! [`Severity::Unknown`](super::record::Severity)). One pass, no tree; text is borrowed from the
//! record wherever it holds no escapes.

mod log_record;

pub use log_record::{
    Assurance, BotFact, Field, Format, HandoverReason, LogRecord, Rule, SplitLine, StaffAction,
    TenantClaim, Tokens, Turn,
};

//! E-mail addresses and phone numbers out of every byte: bytes in, bytes out, no parse tree.
//!
//! Everything outside the redacted spans stays byte-identical and JSON stays JSON. A record passes
//! scan -> decode views -> candidates -> context score -> action; what cannot be scanned whole is
//! masked strictly, never passed on.
//!
//! ```
//! use blotter::pipeline::redact::{Policy, Redactor};
//!
//! let mut redactor = Redactor::new(Policy::default());
//! let mut out = Vec::new();
//! let report = redactor.redact(br#"{"phone":"+91 98765 43210"}"#, &mut out);
//! assert_eq!(out, br#"{"phone":"[phone]"}"#);
//! assert_eq!(report.total(), 1);
//! ```

mod blind;
mod context;
mod detect;
mod email;
mod engine;
mod explain;
mod finding;
mod gate;
mod identity;
mod json;
mod name_cache;
mod pairs;
mod partial;
mod parts;
mod phone;
mod record;
mod redactor;
mod rewrite;
mod rules;
mod scan;
mod views;
mod walk;

pub mod action;
pub mod canonical;
pub mod keyring;
pub mod not_text;
pub mod plan;
pub mod policy;
pub mod sentinel;
pub mod token;

pub use explain::{Considered, RuleWeight, rule_names};
pub use finding::{
    Disposition, EntityKind, Finding, Partial, Position, Report, Scope, StrictReason, Surface,
    SurfaceClass,
};
pub use identity::Identity;
pub use parts::{RecordFacts, RecordReport, RedactedFields};
pub use policy::{Policy, RawPolicy, Strictness};
pub use record::{RecordBuffer, RedactedRecord};
pub use redactor::Redactor;

//! E-mail addresses and phone numbers out of every byte: bytes in, bytes out, no parse tree.
//!
//! Everything outside the redacted spans stays byte-identical and JSON stays JSON. A record passes
//! scan -> decode views -> candidates -> context score -> action; what cannot be scanned whole is
//! masked strictly, never passed on.

mod context;
mod email;
mod engine;
mod finding;
mod json;
mod phone;
mod redactor;
mod rewrite;
mod rules;
mod views;

pub mod action;
pub mod canonical;
pub mod keyring;
pub mod not_text;
pub mod plan;
pub mod policy;
pub mod sentinel;
pub mod token;

pub use finding::{
    Disposition, EntityKind, Finding, Partial, Position, Report, Scope, StrictReason, Surface,
    SurfaceClass,
};
pub use policy::{Policy, RawPolicy, Strictness};
pub use redactor::Redactor;

//! E-mail addresses and phone numbers out of every byte: bytes in, bytes out, no parse tree.
//!
//! Everything outside the redacted spans stays byte-identical and JSON stays JSON. A record passes
//! scan -> decode views -> candidates -> context score -> action; what cannot be scanned whole is
//! masked strictly, never passed on.

mod finding;
mod views;

pub mod canonical;
pub mod plan;
pub mod policy;

pub use finding::{
    Disposition, EntityKind, Finding, Partial, Position, Report, Scope, StrictReason, Surface,
    SurfaceClass,
};

//! The room `redact`.

pub mod plan;

//! The room `redact`.

//! Redaction.

mod generator;

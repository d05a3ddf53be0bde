//! Seconds, no broker.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod chain_tamper;
mod cli;
mod docs;
mod tidy;

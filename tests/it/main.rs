//! Seconds, no broker.

mod chain_tamper;
mod cli;
mod docs;
mod tidy;

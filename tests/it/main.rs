//! Seconds, no broker.

mod chain_tamper;
mod tidy;

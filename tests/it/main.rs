//! Seconds, no broker.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod chain_tamper;
mod cli;
mod daemon;
mod demo;
mod deploy;
mod docs;
mod home;
mod pipe;
mod reload;
mod repair;
mod rewrap;
mod tidy;
mod verify;

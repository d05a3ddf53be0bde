//! The broker in memory: conformance with Apache Kafka, and the real shard on it under faults.
//!
//! `SIM_SEED=n cargo test --test sim replay -- --nocapture` replays one seed and prints its event
//! log; `SIM_RUNS=n` sets how many seeds `the_promises_hold` plays. (`SIM_BREAK=n` and `SIM_CAST=n` replay
//! a deliberate break and a forced cast.)

mod chain;
#[path = "../conformance/mod.rs"]
mod conformance;
mod copier;
mod daemon;
mod faults;
mod fleet;
mod input;
mod model;
mod oracle;
mod plan;
mod played;
mod reloading;
mod rng;
mod run;
mod sabotage;
mod seeds;
mod stages;
mod world;

//! The world: the shard that carries every guarantee, the brokers it runs on, its supervisor, the
//! endpoint and the own log.

pub mod broker;
pub mod clock;
pub mod http;
pub mod keys;
pub mod metrics;
mod openmetrics;
pub mod policy;
pub mod reader;
mod restore;
pub mod rewrite;
pub mod service;
pub mod shard;
pub mod supervisor;
pub mod telemetry;
pub mod topics;
pub mod topology;

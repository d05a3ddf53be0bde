//! The broker in memory: conformance with Apache Kafka, and the real shard on it under faults.

#[path = "../conformance/mod.rs"]
mod conformance;
mod model;

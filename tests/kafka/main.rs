//! Tests on a real Apache Kafka, which they start themselves.

mod chaos;
mod client;
mod conform;
#[path = "../conformance/mod.rs"]
mod conformance;
mod daemon;
mod hanging;
mod harness;
mod hostile;
mod mock;
mod operations;
mod pipeline;
mod slots;
mod smoke;
mod tokens;
mod traffic;
mod verdict;

//! Tests on a real Apache Kafka, which they start themselves.

mod client;
mod conform;
#[path = "../conformance/mod.rs"]
mod conformance;
mod harness;
mod mock;
mod slots;
mod smoke;

//! Tests on a real Apache Kafka, which they start themselves.

mod conform;
#[path = "../conformance/mod.rs"]
mod conformance;
mod harness;
mod smoke;

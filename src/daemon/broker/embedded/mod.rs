//! Kafka in memory, deterministic: logs with transactions, a group coordinator, committed offsets
//! with metadata, and a broker on top of them. `blotter demo` and `blotter pipe` run on it with the
//! machine's clock, the simulation with a virtual one. What it promises to do as Apache Kafka does
//! is held to by the conformance scenarios, which run on both.

mod assignor;
mod client;
mod clock;
mod cluster;
mod conductor;
mod error;
mod group;
mod log;
mod lookups;
mod member;
mod producer;
mod topic;
mod transaction;

pub use client::{EmbeddedBroker, EmbeddedConnector};
pub use clock::VirtualClock;
pub use cluster::{Cluster, ClusterConfig};
pub use conductor::{Call, Conductor, LookupFate, Undisturbed, Verdict};
pub use error::ModelError;
pub use group::{CommittedOffset, GroupMetadata, METADATA_BYTES_MAX};
pub use log::{Body, Isolation, OwnedHeader, ProducerId, StoredRecord};
pub use topic::{TimestampType, TopicConfig, partition_for_key};
pub use transaction::ProducerHandle;

//! blotter reads application logs from Kafka and, in one Kafka transaction, writes them back
//! redacted, appends a signed hash chain of what happened, sends measures and raises alerts.
//!
//! Two floors. [`pipeline`] is pure: bytes and the time come in as arguments, outputs go out as
//! values; it compiles without tokio, rdkafka or any C (`--no-default-features`) and is the
//! library that others embed. The rest (feature `daemon`) touches the world.
//!
//! The rooms, in the order in which data passes:
//!
//! | room | purpose |
//! |---|---|
//! | [`pipeline::record`] | the words: tenant, record id, timestamp, severity, source record |
//! | [`pipeline::limits`] | every maximum, with its reason |
//! | [`pipeline::ingest`] | bytes to fields: severity, time, service, tenant, event, actor, session |
//! | [`pipeline::redact`] | e-mail addresses and phone numbers out of every byte |
//! | [`pipeline::audit`] | hash chain, seals, restore and verification |
//! | [`pipeline::measure`] | signals, deltas, buckets, windows, watermarks, ratios |
//! | [`pipeline::alert`] | rules, state machine, alert messages |
//! | [`pipeline::emit`] | the only place that names wire fields, topic roles, keys and headers |
//! | [`pipeline::scrub`], [`pipeline::watch`] | the two stages: they only order the rooms |
//! | `daemon` | the shard loop, brokers, restore, HTTP, telemetry, clock |
//! | `settings` | files, environment and flags to checked settings |
//! | `cli` | one file per command |

#[cfg(feature = "daemon")]
pub mod cli;
#[cfg(feature = "daemon")]
pub mod daemon;
pub mod pipeline;
#[cfg(feature = "daemon")]
pub mod settings;

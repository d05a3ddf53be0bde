//! Every maximum of the product, with its reason. Relations between them are asserted at compile
//! time. Sections follow the rooms.

// record

/// Longest tenant id kept as it is; a longer one is no id but an accident (or an attack).
pub const TENANT_ID_BYTES_MAX: usize = 128;

// ingest

// redact

// audit

// measure

// alert

// emit

// shard

// embedded broker

/// Bytes in the producer's queue of the broker in memory, as `queue.buffering.max.kbytes` of the
/// real one: beyond it the shard waits.
pub const EMBEDDED_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Records that the broker in memory appends under one lock, so that readers get their turn.
pub const EMBEDDED_REQUEST_RECORDS_MAX: usize = 1_000;

/// How often a member that has read everything is told so, as by the client's statistics.
pub const EMBEDDED_CAUGHT_UP_MS: i64 = 1_000;

/// How often a member is told its lag.
pub const EMBEDDED_LAG_MS: i64 = 5_000;

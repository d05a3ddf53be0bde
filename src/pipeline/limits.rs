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

/// Room for the coordinates header, the writer header and the framing of a record: a redacted
/// record must fit `max.message.bytes` of its topic with them.
pub const EMIT_OVERHEAD_BYTES: usize = 1024;

// shard

// settings

/// Shards of one stage in one process: more threads than any host has cores to spare.
pub const SHARDS_MAX: u16 = 256;

/// Partitions of one of our own topics: beyond it brokers suffer more than we gain.
pub const TOPIC_PARTITIONS_MAX: u16 = 1_000;

// metrics and HTTP

/// Series per metric family: 10,000 tenants are a large deployment; past it lies an accident.
pub const METRIC_SERIES_PER_FAMILY_MAX: usize = 10_000;

/// Series in all: about 100 MB and a scrape of some 15 MB.
pub const METRIC_SERIES_TOTAL_MAX: usize = 150_000;

const _: () = assert!(METRIC_SERIES_PER_FAMILY_MAX <= METRIC_SERIES_TOTAL_MAX);

/// Idle time after which a series is dropped: longer than the longest window of 6 h that shipped
/// rules look back, or `increase()` would lose data.
pub const METRIC_SERIES_IDLE_MS_MAX: i64 = 24 * 60 * 60 * 1000;

/// Connections served at once: a handful of scrapers and probes.
pub const HTTP_CONNECTIONS_MAX: usize = 64;

/// Time a client has to send its request head; slow ones hold a connection slot.
pub const HTTP_HEADER_READ_MS_MAX: u64 = 5_000;

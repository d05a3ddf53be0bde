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

/// Bytes of input after which a transaction is committed: bounds what a failure repeats, and with
/// it the memory of outputs and pending state.
pub const TRANSACTION_INPUT_BYTES_MAX: usize = 4 << 20;

/// Bytes of outputs held before they are handed to the producer.
pub const UNSENT_OUTPUT_BYTES_MAX: usize = 256 << 10;

/// Partitions of one shard restored at the same time: each holds at most one answer in memory.
pub const RESTORES_CONCURRENT_MAX: usize = 8;

/// Metadata of one committed offset; brokers refuse more (`offset.metadata.max.bytes`).
pub const OFFSET_METADATA_BYTES_MAX: usize = 4096;

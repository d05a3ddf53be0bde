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

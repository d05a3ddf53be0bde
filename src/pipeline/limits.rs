//! Every maximum of the product, with its reason. Relations between them are asserted at compile
//! time. Sections follow the rooms.

// record

/// Longest tenant id kept as it is; a longer one is no id but an accident (or an attack).
pub const TENANT_ID_BYTES_MAX: usize = 128;

// ingest

// redact

/// Deepest nesting of JSON containers that is followed; real records stay far below it.
pub const JSON_DEPTH_MAX: usize = 64;

/// Longest record that is scanned; a longer one is masked strictly. Kafka's own default for a
/// message is 1 MiB, and offsets into a record are kept as `u32`.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

/// Layers of encoding (escapes, JSON in strings, percent, entities ...) undone around a value;
/// past it the whole string is masked.
pub const LAYERS_MAX: usize = 12;

/// Longest local part of an address that is looked for: RFC 5321, 4.5.3.1.1. Caps the way back from
/// each `@`, so that a line of `@` stays linear.
pub const EMAIL_LOCAL_BYTES_MAX: usize = 64;

/// Longest domain of an address: RFC 5321, 4.5.3.1.2.
pub const EMAIL_DOMAIN_BYTES_MAX: usize = 255;

/// Rounds of redaction until nothing more is found; a record that needs more is masked strictly.
pub const REDACTION_ROUNDS_MAX: usize = 4;

/// Findings in one record; more, and the record is masked strictly.
pub const FINDINGS_MAX: usize = 100_000;

// audit

// measure

// alert

// emit

// shard

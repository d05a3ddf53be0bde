//! Every maximum of the product, with its reason. Relations between them are asserted at compile
//! time. Sections follow the rooms.

// record

/// Longest tenant id kept as it is; a longer one is no id but an accident (or an attack).
pub const TENANT_ID_BYTES_MAX: usize = 128;

// ingest

// redact

/// Longest value scanned in full; a longer one is masked strictly. Kafka's default maximum is 1 MiB,
/// and a topic that allows more seldom allows more than this.
pub const REDACT_RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Candidates scored in one record. A log line has tens; ten thousand bound the work at a few
/// milliseconds.
pub const REDACT_CANDIDATES_MAX: usize = 10_000;

/// Depth of nested JSON. Loggers nest below 20; serde and others stop at 128.
pub const REDACT_JSON_DEPTH_MAX: usize = 64;

/// Layers of encoding undone in one string. Real logs stack up to three.
pub const REDACT_DECODE_LAYERS_MAX: usize = 6;

/// Extra patterns of a policy in all: each is another pass over every record it applies to.
pub const REDACT_PATTERNS_MAX: usize = 32;

/// Bytes of the compiled program of an extra pattern.
pub const REDACT_PATTERN_PROGRAM_BYTES_MAX: usize = 256 * 1024;

/// Topics and tenants with rules of their own, each.
pub const REDACT_OVERRIDES_MAX: usize = 100_000;

/// Trailing characters a policy may leave visible.
pub const REDACT_KEPT_CHARACTERS_MAX: u8 = 4;

/// Characters that stay hidden whenever some are kept.
pub const REDACT_HIDDEN_CHARACTERS_MIN: usize = 6;

/// Entries of a keyring: ten thousand tenants with five kinds of key and twenty epochs.
pub const KEYRING_ENTRIES_MAX: usize = 1_000_000;

/// The fixed number for JSON numbers: one digit less than the shortest phone number.
pub const REDACT_NUMBER_REPLACEMENT_MAX: u32 = 999_999;

// audit

// measure

// alert

// emit

// shard

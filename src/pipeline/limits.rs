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

/// The fixed number for JSON numbers: one digit less than the shortest phone number.
pub const REDACT_NUMBER_REPLACEMENT_MAX: u32 = 999_999;

// audit

/// Longest text field of an audit entry, in bytes before escaping; a longer one is cut. Entries
/// hold identifiers and codes, not prose.
pub const AUDIT_TEXT_BYTES_MAX: usize = 256;

/// Longest audit entry: the public bundle format of tiled logs counts entry bytes in 16 bits.
pub const AUDIT_ENTRY_BYTES_MAX: usize = 65_535;

/// Longest policy text in a `policy` entry: an entry less its chain fields and policy hash.
pub const AUDIT_POLICY_BYTES_MAX: usize = AUDIT_ENTRY_BYTES_MAX - 1_023;

/// Longest seal: one is written per transaction and partition, so its bytes are the audit's cost.
pub const AUDIT_SEAL_BYTES_MAX: usize = 512;

/// Most records one seal covers: keeps its counts at seven digits.
pub const AUDIT_SEAL_RECORDS_MAX: u32 = 9_999_999;

/// Longest instance name in a seal; a longer one is cut.
pub const AUDIT_INSTANCE_BYTES_MAX: usize = 24;

/// Count lines (surface and kind) in one entry; the rest are summed in the last one.
pub const AUDIT_COUNTS_MAX: usize = 32;

/// Longest metadata of a committed offset: the brokers' default `offset.metadata.max.bytes`.
pub const OFFSET_METADATA_BYTES_MAX: usize = 4_096;

/// Audit records read per look-up of a restore.
pub const AUDIT_RESTORE_READ_RECORDS_MAX: i64 = 10_000;

/// An idle partition gets a seal this often, so that silence and a cut tail look different.
pub const AUDIT_HEARTBEAT_MS_MAX: i64 = 30_000;

const _: () = assert!(AUDIT_SEAL_BYTES_MAX < AUDIT_ENTRY_BYTES_MAX);
// An action has eight text fields whose bytes may each become six; count lines hold short names.
const _: () =
    assert!(8 * 6 * AUDIT_TEXT_BYTES_MAX + AUDIT_COUNTS_MAX * 64 + 2_048 < AUDIT_ENTRY_BYTES_MAX);

// measure

// alert

// emit

// shard

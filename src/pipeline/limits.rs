//! Every maximum of the product, with its reason. Relations between them are asserted at compile
//! time. Sections follow the rooms.

// record

/// Longest tenant id kept as it is; a longer one is no id but an accident (or an attack).
pub const TENANT_ID_BYTES_MAX: usize = 128;

// ingest

// redact

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

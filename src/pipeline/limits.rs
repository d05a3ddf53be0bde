//! Every maximum of the product, with its reason. Relations between them are asserted at compile
//! time. Sections follow the rooms.

// record

/// Longest tenant id kept as it is; a longer one is no id but an accident (or an attack).
pub const TENANT_ID_BYTES_MAX: usize = 128;

// ingest

/// Objects and arrays nested deeper are stepped over: no logger puts its fields that deep, and it
/// bounds both the stack and the work on hostile pairs.
pub const JSON_DEPTH_MAX: usize = 24;

/// Fields are looked for in this much of a value; a logger writes them first, and the rest of a
/// huge record is payload.
pub const SCAN_BYTES_MAX: usize = 1024 * 1024;

/// Longest text of one field: an identity, a name or a reason. Anything longer is a message.
pub const FIELD_BYTES_MAX: usize = 1024;

/// Names of one kind of field in one set of rules; the table's index is 8 bits wide.
pub const FIELD_NAMES_MAX: usize = 200;

/// Longest key path of a rule.
pub const FIELD_NAME_BYTES_MAX: usize = 256;

/// Topics with rules of their own: each has its own compiled table.
pub const TOPIC_RULES_MAX: usize = 256;

const _: () = assert!(FIELD_NAMES_MAX <= u8::MAX as usize);

// redact

// audit

// measure

// alert

// emit

// shard

//! An audit entry as an outsider reads it: RFC 6962 leaf hashes and a few JSON fields, written
//! apart from the product's own code.

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// The fields a check needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntryFields {
    pub(crate) kind: String,
    pub(crate) seq: u64,
    pub(crate) prev: String,
    pub(crate) from: Option<i64>,
    pub(crate) to: Option<i64>,
    /// Forwarded, dead-lettered, commands.
    pub(crate) fates: Vec<i64>,
}

/// SHA-256 over a zero byte and the entry, in hexadecimal.
pub(crate) fn leaf_hash(entry: &[u8]) -> String {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(entry);
    let mut text = String::with_capacity(64);
    for byte in hasher.finalize() {
        write!(text, "{byte:02x}").expect("strings take everything");
    }
    text
}

/// Reads an entry; what is missing reads as nothing.
pub(crate) fn read_entry(entry: &[u8]) -> EntryFields {
    let Ok(value) = serde_json::from_slice::<Value>(entry) else { return EntryFields::default() };
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let fates = value.get("fates").and_then(Value::as_array);
    EntryFields {
        kind: text("k"),
        seq: text("seq").parse().unwrap_or(u64::MAX),
        prev: text("prev"),
        from: value.get("from").and_then(Value::as_i64),
        to: value.get("to").and_then(Value::as_i64),
        fates: fates.into_iter().flatten().filter_map(Value::as_i64).collect(),
    }
}

//! The policy as it is written: what a `[redact]` table holds, before any check.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A `[redact]` table. Every key may be left out; unknown keys are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawPolicy {
    /// `balanced` (default) or `strict`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strictness: Option<String>,
    /// Regions whose national formats apply, for example `["IN", "DE"]`; empty: international only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regions: Option<Vec<String>>,
    /// `keep` or `redact`: message ids of mail (`Message-ID`, `References`) under their own key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_ids: Option<String>,
    /// Rules for named fields.
    pub fields: RawFields,
    /// Values that are nobody's personal data.
    pub allow: RawAllow,
    /// What replaces a finding.
    pub actions: RawActions,
    /// Patterns to be redacted beside e-mail addresses and phone numbers.
    pub patterns: Vec<RawPattern>,
    /// Limits below the built-in ones.
    pub caps: RawCaps,
    /// Additions and exceptions by source topic.
    pub topics: BTreeMap<String, RawOverride>,
    /// Additions and exceptions by tenant, applied after those of the topic.
    pub tenants: BTreeMap<String, RawOverride>,
}

/// What a topic or tenant may say for itself: lists add to the ones above, single values replace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawOverride {
    /// As in [`RawPolicy`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strictness: Option<String>,
    /// As in [`RawPolicy`]; replaces the regions above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regions: Option<Vec<String>>,
    /// As in [`RawPolicy`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_ids: Option<String>,
    /// As in [`RawPolicy`]; a field named here loses the rule it has above.
    pub fields: RawFields,
    /// As in [`RawPolicy`].
    pub allow: RawAllow,
    /// As in [`RawPolicy`].
    pub actions: RawActions,
    /// As in [`RawPolicy`].
    pub patterns: Vec<RawPattern>,
}

/// Field names, alone (`phone`) or as the tail of a path (`customer.phone`). Case, `_` and `-` do
/// not matter: `customerPhone`, `customer_phone` and `CUSTOMER-PHONE` are one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawFields {
    /// The whole value is redacted whatever it is.
    pub always: Vec<String>,
    /// The value is passed on unseen. Weakens the promise that nothing leaks: use it for ids only.
    pub never: Vec<String>,
    /// Any 7 to 15 digits in the value are a phone number.
    pub phone: Vec<String>,
    /// Anything with an at sign in the value is an e-mail address, known suffix or not.
    pub email: Vec<String>,
    /// The value is base64 and is decoded before the scan.
    pub base64: Vec<String>,
}

/// Values that stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawAllow {
    /// Addresses (`support@salon.example`), or whole domains (`@salon.example`).
    pub emails: Vec<String>,
    /// International numbers (`+49 30 1234567`).
    pub phones: Vec<String>,
}

/// `placeholder`, `token`, `mask`, `keep-last-1` to `keep-last-4`, or `drop`, by kind and position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawActions {
    /// E-mail addresses in text; `placeholder` when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Phone numbers in text; `placeholder` when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// Matches of `patterns` in text; `placeholder` when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Record keys, sessions, actors, objects, tenants; `token` when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Keys of JSON objects; `token` when left out, so that two keys never become one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_key: Option<String>,
    /// A fixed number (at most six digits) that replaces JSON numbers instead of a string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// By field name or path.
    pub fields: BTreeMap<String, String>,
}

/// One extra pattern.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawPattern {
    /// Stands in the placeholder: lower-case letters and `_`.
    pub name: String,
    /// A regular expression of the `regex` crate (linear time, no look-around).
    pub regex: String,
}

/// Limits that may be set lower than the built-in ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawCaps {
    /// Bytes of a record's value; a longer one is masked strictly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_bytes: Option<usize>,
    /// Findings in one record; beyond that it is masked strictly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub findings: Option<usize>,
    /// Depth of nested JSON; beyond that the string is masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json_depth: Option<usize>,
    /// Layers of encoding undone; beyond that the string is masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<usize>,
}

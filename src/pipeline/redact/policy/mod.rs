//! What is redacted, where and how: the checked policy, its identity, and what of it applies to a
//! record.
//!
//! Three layers: the policy itself, its topics, its tenants. Lists add up; single values of a
//! tenant replace those of the topic, which replace those of the policy.

mod check;
mod fields;
mod loosening;
mod raw;

use std::collections::{HashMap, HashSet};
use std::fmt;

use regex::bytes::Regex;

use super::finding::EntityKind;
use super::plan::Region;
use crate::pipeline::limits;
use crate::pipeline::record::TenantId;

pub use check::{PolicyError, PolicyFault};
pub use fields::FieldRule;
use fields::FieldTable;
pub use raw::{RawActions, RawAllow, RawCaps, RawFields, RawOverride, RawPattern, RawPolicy};

/// Version of the built-in rules: raised with every change to a rule, a key word or a weight, so
/// that the identity of a policy changes with it.
pub const RULES_VERSION: u32 = 2;

/// A checked policy. Cheap to ask, never changed: a reload makes a new one.
#[derive(Clone)]
pub struct Policy {
    base: Layer,
    topics: HashMap<String, Layer>,
    tenants: HashMap<String, Layer>,
    patterns: Vec<Pattern>,
    caps: Caps,
    canonical_json: String,
    identity: String,
}

impl Policy {
    /// Checks a policy as written.
    ///
    /// # Errors
    /// The first fault, with the path of the key it stands under.
    pub fn new(raw: &RawPolicy) -> Result<Self, PolicyError> {
        check::check(raw)
    }

    /// The default policy with national formats of `regions`.
    #[must_use]
    pub fn for_regions(regions: &[Region]) -> Self {
        let codes = regions.iter().map(|region| region.code().to_owned()).collect();
        Self::new(&RawPolicy { regions: Some(codes), ..RawPolicy::default() })
            .expect("regions by their own codes are a sound policy")
    }

    /// What applies to a record of `topic` and `tenant`.
    #[must_use]
    pub fn rules(&self, topic: &str, tenant: Option<&TenantId>) -> Rules<'_> {
        Rules {
            policy: self,
            topic: self.topics.get(topic),
            tenant: tenant.and_then(|tenant| self.tenants.get(tenant.as_str())),
        }
    }

    /// The limits in force.
    #[must_use]
    pub fn caps(&self) -> Caps {
        self.caps
    }

    /// SHA-256 over the versions of rules and numbering plans and over all settings, as 64 hex
    /// digits: stands in every redaction receipt.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// What [`Policy::identity`] is the hash of: one line of JSON, equal for equal policies.
    #[must_use]
    pub fn canonical_json(&self) -> &str {
        &self.canonical_json
    }

    /// Whether `new` might let something pass that `old` redacts. Errs towards yes.
    #[must_use]
    pub fn is_loosening(old: &Self, new: &Self) -> bool {
        loosening::is_loosening(old, new)
    }

    /// The name of extra pattern `index`, as it stands in its placeholder.
    #[must_use]
    pub fn pattern_name(&self, index: u8) -> Option<&str> {
        self.patterns.get(usize::from(index)).map(|pattern| pattern.name.as_str())
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new(&RawPolicy::default()).expect("an empty policy is sound")
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Policy({})", self.identity)
    }
}

/// How much evidence a redaction needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// Misses and false alarms weigh the same.
    #[default]
    Balanced,
    /// A miss is worse than any false alarm: redacts a superset of `Balanced`.
    Strict,
}

/// What becomes of the ids of mail messages, which look like addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageIds {
    /// They stay when they stand under their own key.
    Keep,
    /// They are redacted like addresses.
    Redact,
}

/// What replaces a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Its kind in brackets: `[phone]`.
    Placeholder,
    /// A keyed pseudonym: equal for equal values of one tenant, kind and key epoch.
    Token,
    /// Eight asterisks, whatever the length was.
    Mask,
    /// Asterisks and the last digits or letters, at most four, when at least six stay hidden.
    KeepLast(u8),
    /// Nothing.
    Drop,
}

/// Where a finding stands, as far as actions care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Text, values, headers.
    Text,
    /// A name of somebody or something: record key, session, actor, object, tenant.
    Identity,
    /// The key of a JSON object.
    ObjectKey,
}

/// Limits in force; beyond them a record or string is masked strictly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Bytes of a record's value.
    pub record_bytes: usize,
    /// Findings in one record.
    pub findings: usize,
    /// Depth of nested JSON.
    pub json_depth: usize,
    /// Layers of encoding undone.
    pub layers: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            record_bytes: limits::RECORD_BYTES_MAX,
            findings: limits::FINDINGS_MAX,
            json_depth: limits::JSON_DEPTH_MAX,
            layers: limits::LAYERS_MAX,
        }
    }
}

/// The part of a policy that applies to one record.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    policy: &'a Policy,
    topic: Option<&'a Layer>,
    tenant: Option<&'a Layer>,
}

impl<'a> Rules<'a> {
    /// How much evidence a redaction needs.
    #[must_use]
    pub fn strictness(&self) -> Strictness {
        self.single(|layer| layer.strictness).unwrap_or_default()
    }

    /// Regions whose national formats apply.
    #[must_use]
    pub fn regions(&self) -> &'a [Region] {
        self.single(|layer| layer.regions.as_deref()).unwrap_or_default()
    }

    /// What becomes of message ids. Kept when nothing is said, except under `strict`.
    #[must_use]
    pub fn message_ids(&self) -> MessageIds {
        self.single(|layer| layer.message_ids).unwrap_or_else(|| match self.strictness() {
            Strictness::Balanced => MessageIds::Keep,
            Strictness::Strict => MessageIds::Redact,
        })
    }

    /// Whether any field has a rule: when not, paths need not be kept.
    #[must_use]
    pub fn has_field_rules(&self) -> bool {
        self.layers().any(|layer| !layer.fields.is_empty() || !layer.actions.fields.is_empty())
    }

    /// Whether nothing is looked for but what the built-in rules find, in every field.
    pub(super) fn is_built_in(&self) -> bool {
        self.layers().all(|layer| {
            layer.patterns.is_empty() && layer.fields.is_empty() && layer.actions.fields.is_empty()
        })
    }

    /// The rule for the field whose path (keys from the outside in) is `path`. The longest name
    /// wins within a layer, the innermost layer over the others.
    #[must_use]
    pub fn field_rule(&self, path: &[&[u8]]) -> Option<FieldRule> {
        self.layers().find_map(|layer| layer.fields.find(path).copied())
    }

    /// Whether any value is allowed: when not, values need not be brought into canonical form.
    #[must_use]
    pub fn has_allow_list(&self) -> bool {
        self.layers().any(|layer| !layer.allow.is_empty())
    }

    /// Whether this address (in canonical form) or its domain is on an allow-list.
    #[must_use]
    pub fn allows_email(&self, canonical: &str) -> bool {
        self.layers().any(|layer| layer.allow.has_email(canonical))
    }

    /// Whether this number (E.164 with `+`) is on an allow-list.
    #[must_use]
    pub fn allows_phone(&self, e164: &str) -> bool {
        self.layers().any(|layer| layer.allow.phones.contains(e164))
    }

    /// The extra patterns that apply, with their index for [`EntityKind::Custom`].
    pub fn patterns(&self) -> impl Iterator<Item = (u8, &'a Regex)> + use<'a> {
        let Rules { policy, .. } = *self;
        self.layers().flat_map(|layer| layer.patterns.iter()).map(move |&index| {
            let pattern = &policy.patterns[usize::from(index)];
            (index, &pattern.regex)
        })
    }

    /// What replaces a finding of `kind` at `place` under the field `path` (empty: none).
    #[must_use]
    pub fn action(&self, kind: EntityKind, place: Place, path: &[&[u8]]) -> Action {
        if let Some(action) =
            self.layers().find_map(|layer| layer.actions.fields.find(path).copied())
        {
            return action;
        }
        match place {
            Place::Identity => self.single(|layer| layer.actions.identity).unwrap_or(Action::Token),
            Place::ObjectKey => {
                self.single(|layer| layer.actions.object_key).unwrap_or(Action::Token)
            }
            Place::Text => self
                .single(|layer| match kind {
                    EntityKind::Email => layer.actions.email,
                    EntityKind::Phone => layer.actions.phone,
                    EntityKind::Custom(_) | EntityKind::Opaque => layer.actions.pattern,
                })
                .unwrap_or(Action::Placeholder),
        }
    }

    /// The fixed number that replaces JSON numbers; `None`: they become JSON strings.
    #[must_use]
    pub fn number_replacement(&self) -> Option<u32> {
        self.single(|layer| layer.actions.number)
    }

    /// The policy these rules are part of.
    #[must_use]
    pub fn policy(&self) -> &'a Policy {
        self.policy
    }

    /// The layers, most particular first.
    fn layers(&self) -> impl Iterator<Item = &'a Layer> + use<'a> {
        self.tenant.into_iter().chain(self.topic).chain(std::iter::once(&self.policy.base))
    }

    fn single<T>(&self, value: impl Fn(&'a Layer) -> Option<T>) -> Option<T> {
        self.layers().find_map(value)
    }
}

#[derive(Clone, Default)]
struct Layer {
    strictness: Option<Strictness>,
    regions: Option<Vec<Region>>,
    message_ids: Option<MessageIds>,
    fields: FieldTable<FieldRule>,
    allow: AllowList,
    actions: Actions,
    patterns: Vec<u8>,
}

#[derive(Clone, Default)]
struct AllowList {
    emails: HashSet<String>,
    domains: HashSet<String>,
    phones: HashSet<String>,
}

impl AllowList {
    fn is_empty(&self) -> bool {
        self.emails.is_empty() && self.domains.is_empty() && self.phones.is_empty()
    }

    fn has_email(&self, canonical: &str) -> bool {
        self.emails.contains(canonical)
            || !self.domains.is_empty()
                && canonical
                    .rsplit_once('@')
                    .is_some_and(|(_, domain)| self.domains.contains(domain))
    }
}

#[derive(Clone, Default)]
struct Actions {
    email: Option<Action>,
    phone: Option<Action>,
    pattern: Option<Action>,
    identity: Option<Action>,
    object_key: Option<Action>,
    number: Option<u32>,
    fields: FieldTable<Action>,
}

#[derive(Clone)]
struct Pattern {
    name: String,
    regex: Regex,
}

#[cfg(test)]
mod tests;

//! From the policy as written to the checked one: parse, refuse, put into canonical order.

use std::collections::{BTreeMap, HashMap};

use regex::bytes::RegexBuilder;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::fields::{FieldRule, FieldTable};
use super::raw::{RawActions, RawAllow, RawCaps, RawFields, RawOverride, RawPattern, RawPolicy};
use super::{
    Action, Actions, AllowList, Caps, Layer, MessageIds, Pattern, Policy, RULES_VERSION, Strictness,
};
use crate::pipeline::limits;
use crate::pipeline::redact::canonical;
use crate::pipeline::redact::plan::{self, Region};

/// A policy that cannot be used, and where it says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {fault}")]
pub struct PolicyError {
    /// Path of the key, `redact.tenants."acme".regions[0]` for example.
    pub key: String,
    /// What is wrong with it.
    pub fault: PolicyFault,
}

/// What is wrong with a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    /// Not one of the values it can have.
    #[error("`{found}` is none of {expected}")]
    NotOneOf {
        /// What is written.
        found: String,
        /// What can be written.
        expected: &'static str,
    },
    /// Not a region.
    #[error("`{0}` is no region of the numbering plans (two letters, ISO 3166-1: GB, not UK)")]
    NoRegion(String),
    /// Not an address or `@domain`.
    #[error("`{0}` is neither an e-mail address nor `@domain`")]
    NoEmail(String),
    /// Not an international number.
    #[error("`{0}` is no international phone number (`+` and calling code first)")]
    NoPhone(String),
    /// Empty, or named twice.
    #[error("the field name `{0}` is empty or stands here or in a sister list already")]
    FieldName(String),
    /// Not a pattern name.
    #[error(
        "a pattern's name is 1 to 32 lower-case letters or `_`, not `email` or `phone`, and unique; found `{0}`"
    )]
    PatternName(String),
    /// Not a regular expression, or too large a one.
    #[error("the pattern does not compile: {0}")]
    PatternSyntax(String),
    /// The pattern matches nothing at all, or what replaces findings.
    #[error("the pattern matches {0}: it would redact without end")]
    PatternTooWide(&'static str),
    /// More than the limit.
    #[error("{found} is over the limit of {limit}")]
    OverLimit {
        /// What is written.
        found: usize,
        /// The most that can be.
        limit: usize,
    },
    /// Zero where at least one is needed.
    #[error("must be at least 1")]
    Zero,
}

pub(super) fn check(raw: &RawPolicy) -> Result<Policy, PolicyError> {
    let mut patterns = Vec::new();
    let base = RawOverride {
        strictness: raw.strictness.clone(),
        regions: raw.regions.clone(),
        message_ids: raw.message_ids.clone(),
        fields: raw.fields.clone(),
        allow: raw.allow.clone(),
        actions: raw.actions.clone(),
        patterns: raw.patterns.clone(),
    };
    let base = layer("redact", &base, &mut patterns)?;
    let topics = overrides("redact.topics", &raw.topics, &mut patterns)?;
    let tenants = overrides("redact.tenants", &raw.tenants, &mut patterns)?;
    let caps = caps(&raw.caps)?;
    let canonical_json = canonical_json(raw);
    let identity = data_encoding::HEXLOWER.encode(&Sha256::digest(canonical_json.as_bytes()));
    Ok(Policy { base, topics, tenants, patterns, caps, canonical_json, identity })
}

fn overrides(
    key: &str,
    raw: &BTreeMap<String, RawOverride>,
    patterns: &mut Vec<Pattern>,
) -> Result<HashMap<String, Layer>, PolicyError> {
    at_most(key, raw.len(), limits::REDACT_OVERRIDES_MAX)?;
    raw.iter()
        .map(|(name, raw)| Ok((name.clone(), layer(&format!("{key}.{name:?}"), raw, patterns)?)))
        .collect()
}

fn layer(key: &str, raw: &RawOverride, patterns: &mut Vec<Pattern>) -> Result<Layer, PolicyError> {
    let strictness = raw.strictness.as_deref().map(|text| {
        one_of(
            &format!("{key}.strictness"),
            text,
            &[("balanced", Strictness::Balanced), ("strict", Strictness::Strict)],
            "balanced, strict",
        )
    });
    let message_ids = raw.message_ids.as_deref().map(|text| {
        one_of(
            &format!("{key}.message_ids"),
            text,
            &[("keep", MessageIds::Keep), ("redact", MessageIds::Redact)],
            "keep, redact",
        )
    });
    Ok(Layer {
        strictness: strictness.transpose()?,
        regions: raw.regions.as_ref().map(|codes| regions(key, codes)).transpose()?,
        message_ids: message_ids.transpose()?,
        fields: fields(key, &raw.fields)?,
        allow: allow(key, &raw.allow)?,
        actions: actions(key, &raw.actions)?,
        patterns: add_patterns(key, &raw.patterns, patterns)?,
    })
}

fn regions(key: &str, codes: &[String]) -> Result<Vec<Region>, PolicyError> {
    let mut regions = Vec::new();
    for (index, code) in codes.iter().enumerate() {
        let region = Region::parse(code).filter(|&region| region != Region::WORLD);
        let region = region.ok_or_else(|| {
            fault(format!("{key}.regions[{index}]"), PolicyFault::NoRegion(code.clone()))
        })?;
        if !regions.contains(&region) {
            regions.push(region);
        }
    }
    Ok(regions)
}

fn fields(key: &str, raw: &RawFields) -> Result<FieldTable<FieldRule>, PolicyError> {
    let mut table = FieldTable::default();
    let lists = [
        ("always", &raw.always, FieldRule::AlwaysRedact),
        ("never", &raw.never, FieldRule::NeverScan),
        ("phone", &raw.phone, FieldRule::TreatAsPhone),
        ("email", &raw.email, FieldRule::TreatAsEmail),
        ("base64", &raw.base64, FieldRule::Base64),
    ];
    for (list, names, rule) in lists {
        for (index, name) in names.iter().enumerate() {
            if !table.add(name, rule) {
                let key = format!("{key}.fields.{list}[{index}]");
                return Err(fault(key, PolicyFault::FieldName(name.clone())));
            }
        }
    }
    Ok(table)
}

fn allow(key: &str, raw: &RawAllow) -> Result<AllowList, PolicyError> {
    let mut allow = AllowList::default();
    for (index, text) in raw.emails.iter().enumerate() {
        let refused = || {
            let key = format!("{key}.allow.emails[{index}]");
            fault(key, PolicyFault::NoEmail(text.clone()))
        };
        if let Some(domain) = text.strip_prefix('@') {
            let address = canonical::email(&format!("x@{domain}")).filter(|_| domain.contains('.'));
            let address = address.ok_or_else(refused)?;
            allow.domains.insert(address["x@".len()..].to_owned());
        } else {
            allow.emails.insert(canonical::email(text).ok_or_else(refused)?);
        }
    }
    for (index, text) in raw.phones.iter().enumerate() {
        let number = canonical::phone(text.as_bytes(), &[]);
        if !number.starts_with('+') {
            let key = format!("{key}.allow.phones[{index}]");
            return Err(fault(key, PolicyFault::NoPhone(text.clone())));
        }
        allow.phones.insert(number);
    }
    Ok(allow)
}

fn actions(key: &str, raw: &RawActions) -> Result<Actions, PolicyError> {
    let optional = |name: &str, text: &Option<String>| {
        text.as_deref().map(|text| action(&format!("{key}.actions.{name}"), text)).transpose()
    };
    let mut fields = FieldTable::default();
    for (name, text) in &raw.fields {
        let key = format!("{key}.actions.fields.{name:?}");
        if !fields.add(name, action(&key, text)?) {
            return Err(fault(key, PolicyFault::FieldName(name.clone())));
        }
    }
    if let Some(number) = raw.number {
        let limit = limits::REDACT_NUMBER_REPLACEMENT_MAX as usize;
        at_most(&format!("{key}.actions.number"), number as usize, limit)?;
    }
    Ok(Actions {
        email: optional("email", &raw.email)?,
        phone: optional("phone", &raw.phone)?,
        pattern: optional("pattern", &raw.pattern)?,
        identity: optional("identity", &raw.identity)?,
        object_key: optional("object_key", &raw.object_key)?,
        number: raw.number,
        fields,
    })
}

fn action(key: &str, text: &str) -> Result<Action, PolicyError> {
    const EXPECTED: &str = "placeholder, token, mask, keep-last-1 to keep-last-4, drop";
    if let Some(kept) = text.strip_prefix("keep-last-").and_then(|kept| kept.parse().ok())
        && (1..=limits::REDACT_KEPT_CHARACTERS_MAX).contains(&kept)
    {
        return Ok(Action::KeepLast(kept));
    }
    let known = [
        ("placeholder", Action::Placeholder),
        ("token", Action::Token),
        ("mask", Action::Mask),
        ("drop", Action::Drop),
    ];
    one_of(key, text, &known, EXPECTED)
}

fn add_patterns(
    key: &str,
    raw: &[RawPattern],
    patterns: &mut Vec<Pattern>,
) -> Result<Vec<u8>, PolicyError> {
    let mut own = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let key = format!("{key}.patterns[{index}]");
        at_most(&key, patterns.len() + 1, limits::REDACT_PATTERNS_MAX)?;
        let is_name = (1..=32).contains(&raw.name.len())
            && raw.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            && raw.name != "email"
            && raw.name != "phone"
            && patterns.iter().all(|pattern| pattern.name != raw.name);
        if !is_name {
            return Err(fault(format!("{key}.name"), PolicyFault::PatternName(raw.name.clone())));
        }
        own.push(u8::try_from(patterns.len()).expect("the limit is below 256"));
        patterns.push(pattern(&format!("{key}.regex"), raw)?);
    }
    Ok(own)
}

fn pattern(key: &str, raw: &RawPattern) -> Result<Pattern, PolicyError> {
    let regex = RegexBuilder::new(&raw.regex)
        .size_limit(limits::REDACT_PATTERN_PROGRAM_BYTES_MAX)
        .build()
        .map_err(|error| fault(key.to_owned(), PolicyFault::PatternSyntax(error.to_string())))?;
    let placeholder = format!("[{}]", raw.name);
    let replacements = [
        ("the empty text", ""),
        ("the placeholder of addresses", "[email]"),
        ("the placeholder of numbers", "[phone]"),
        ("its own placeholder", &placeholder),
        ("a mask", "********"),
        ("a token", "[phone:b:abcdefghijklmnopponmlkjihgfedcba]"),
    ];
    match replacements.iter().find(|(_, text)| regex.is_match(text.as_bytes())) {
        Some((what, _)) => Err(fault(key.to_owned(), PolicyFault::PatternTooWide(what))),
        None => Ok(Pattern { name: raw.name.clone(), regex }),
    }
}

fn caps(raw: &RawCaps) -> Result<Caps, PolicyError> {
    let cap = |name: &str, value: Option<usize>, limit: usize| match value {
        None => Ok(limit),
        Some(0) => Err(fault(format!("redact.caps.{name}"), PolicyFault::Zero)),
        Some(value) => at_most(&format!("redact.caps.{name}"), value, limit).map(|()| value),
    };
    let most = Caps::default();
    Ok(Caps {
        record_bytes: cap("record_bytes", raw.record_bytes, most.record_bytes)?,
        findings: cap("findings", raw.findings, most.findings)?,
        json_depth: cap("json_depth", raw.json_depth, most.json_depth)?,
        layers: cap("layers", raw.layers, most.layers)?,
    })
}

/// The policy in one spelling: lists that are sets sorted, regions in capitals, defaults named.
fn canonical_json(raw: &RawPolicy) -> String {
    #[derive(Serialize)]
    struct Canonical<'a> {
        rules_version: u32,
        numbering_plans: &'static str,
        policy: &'a RawPolicy,
    }
    let mut policy = raw.clone();
    policy.strictness.get_or_insert_with(|| "balanced".to_owned());
    let bases = [(&mut policy.regions, &mut policy.fields, &mut policy.allow)];
    let overrides = policy.topics.values_mut().chain(policy.tenants.values_mut());
    let overrides = overrides.map(|own| (&mut own.regions, &mut own.fields, &mut own.allow));
    for (regions, fields, allow) in bases.into_iter().chain(overrides) {
        for code in regions.iter_mut().flatten() {
            code.make_ascii_uppercase();
        }
        let lists = [
            &mut fields.always,
            &mut fields.never,
            &mut fields.phone,
            &mut fields.email,
            &mut fields.base64,
            &mut allow.emails,
            &mut allow.phones,
        ];
        for list in lists {
            list.sort();
            list.dedup();
        }
    }
    let canonical =
        Canonical { rules_version: RULES_VERSION, numbering_plans: plan::SOURCE, policy: &policy };
    serde_json::to_string(&canonical).expect("maps with text keys always serialise")
}

fn one_of<T: Copy>(
    key: &str,
    text: &str,
    known: &[(&str, T)],
    expected: &'static str,
) -> Result<T, PolicyError> {
    known.iter().find(|(name, _)| *name == text).map(|&(_, value)| value).ok_or_else(|| {
        fault(key.to_owned(), PolicyFault::NotOneOf { found: text.to_owned(), expected })
    })
}

fn at_most(key: &str, found: usize, limit: usize) -> Result<(), PolicyError> {
    if found > limit {
        return Err(fault(key.to_owned(), PolicyFault::OverLimit { found, limit }));
    }
    Ok(())
}

fn fault(key: String, fault: PolicyFault) -> PolicyError {
    PolicyError { key, fault }
}

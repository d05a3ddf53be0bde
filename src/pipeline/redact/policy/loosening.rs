//! Whether a new policy might let something pass that the old one redacts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::fields::FieldRule;
use super::{Action, Layer, MessageIds, Place, Policy, Rules, Strictness};
use crate::pipeline::record::TenantId;
use crate::pipeline::redact::finding::EntityKind;

/// Pairs of topic and tenant compared one by one; with more of them any change counts.
const PAIRS_MAX: usize = 20_000;

pub(super) fn is_loosening(old: &Policy, new: &Policy) -> bool {
    if old.identity == new.identity {
        return false;
    }
    let topics: BTreeSet<&str> = names(&old.topics).chain(names(&new.topics)).collect();
    let tenants: BTreeSet<&str> = names(&old.tenants).chain(names(&new.tenants)).collect();
    if (topics.len() + 1) * (tenants.len() + 1) > PAIRS_MAX {
        return true;
    }
    // An empty topic and no tenant stand for all that have no rules of their own.
    let tenants: Vec<Option<TenantId>> =
        std::iter::once(None).chain(tenants.into_iter().map(TenantId::new)).collect();
    std::iter::once("").chain(topics).any(|topic| {
        tenants.iter().any(|tenant| {
            let tenant = tenant.as_ref();
            is_looser(old.rules(topic, tenant), new.rules(topic, tenant))
        })
    })
}

fn names<T>(map: &HashMap<String, T>) -> impl Iterator<Item = &str> {
    map.keys().map(String::as_str)
}

fn is_looser(old: Rules<'_>, new: Rules<'_>) -> bool {
    let (old_fields, new_fields) = (field_rules(old), field_rules(new));
    let keeps_seeing = |(name, rule): (&String, &FieldRule)| {
        *rule == FieldRule::NeverScan || new_fields.get(name) == Some(rule)
    };
    let blinds = |(name, rule): (&String, &FieldRule)| {
        *rule == FieldRule::NeverScan && old_fields.get(name) != Some(rule)
    };
    let strict = |rules: Rules<'_>| rules.strictness() == Strictness::Strict;
    strict(old) && !strict(new)
        || !old.regions().iter().all(|region| new.regions().contains(region))
        || old.message_ids() == MessageIds::Redact && new.message_ids() == MessageIds::Keep
        || !old_fields.iter().all(keeps_seeing)
        || new_fields.iter().any(blinds)
        || !allowed(new).is_subset(&allowed(old))
        || !patterns(old).is_subset(&patterns(new))
        || shows_more(old, new)
}

fn field_rules(rules: Rules<'_>) -> BTreeMap<String, FieldRule> {
    let mut effective = BTreeMap::new();
    for layer in rules.layers() {
        for (name, &rule) in layer.fields.entries() {
            effective.entry(name).or_insert(rule);
        }
    }
    effective
}

fn allowed(rules: Rules<'_>) -> BTreeSet<&str> {
    rules
        .layers()
        .flat_map(|layer| {
            let allow = &layer.allow;
            allow.emails.iter().chain(&allow.domains).chain(&allow.phones).map(String::as_str)
        })
        .collect()
}

fn patterns(rules: Rules<'_>) -> BTreeSet<&str> {
    rules.patterns().map(|(_, regex)| regex.as_str()).collect()
}

/// Whether any action leaves more of a value readable.
fn shows_more(old: Rules<'_>, new: Rules<'_>) -> bool {
    let kinds = [EntityKind::Email, EntityKind::Phone, EntityKind::Custom(0)];
    let places = [Place::Text, Place::Identity, Place::ObjectKey];
    let more_at = |place: Place, path: &[&[u8]]| {
        kinds.iter().any(|&kind| {
            kept_characters(new.action(kind, place, path))
                > kept_characters(old.action(kind, place, path))
        })
    };
    let named: BTreeSet<String> = old.layers().chain(new.layers()).flat_map(field_names).collect();
    places.iter().any(|&place| more_at(place, &[]))
        || named.iter().any(|name| {
            let path: Vec<&[u8]> = name.split('.').map(str::as_bytes).collect();
            places.iter().any(|&place| more_at(place, &path))
        })
}

fn field_names(layer: &Layer) -> impl Iterator<Item = String> {
    layer.actions.fields.entries().map(|(name, _)| name)
}

fn kept_characters(action: Action) -> u8 {
    match action {
        Action::KeepLast(kept) => kept,
        Action::Placeholder | Action::Token | Action::Mask | Action::Drop => 0,
    }
}

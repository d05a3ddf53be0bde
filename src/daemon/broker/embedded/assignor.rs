//! Which member gets which partition: cooperative-sticky.

use std::collections::{BTreeMap, BTreeSet};

use crate::pipeline::record::TopicPartition;

/// One member as the assignor sees it.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    /// What it said it owns when it joined.
    pub(super) owned: BTreeSet<TopicPartition>,
    /// All partitions of the topics it subscribes to.
    pub(super) wanted: BTreeSet<TopicPartition>,
}

/// Balanced, and as few moves as possible; a partition that moves is withheld from its new owner
/// until the old one has given it up and joined again (the second round).
pub(super) fn assign(
    claims: &BTreeMap<String, Claim>,
) -> BTreeMap<String, BTreeSet<TopicPartition>> {
    let mut target = balanced(claims);
    for (member, partitions) in &mut target {
        partitions.retain(|partition| {
            let owner = claims.iter().find(|(_, claim)| claim.owned.contains(partition));
            owner.is_none_or(|(owner, _)| owner == member)
        });
    }
    target
}

fn balanced(claims: &BTreeMap<String, Claim>) -> BTreeMap<String, BTreeSet<TopicPartition>> {
    let all: BTreeSet<_> = claims.values().flat_map(|claim| claim.wanted.iter().cloned()).collect();
    let mut target: BTreeMap<String, BTreeSet<TopicPartition>> =
        claims.keys().map(|member| (member.clone(), BTreeSet::new())).collect();
    let mut free = Vec::new();
    for partition in all {
        let owner = claims.iter().find(|(_, claim)| {
            claim.owned.contains(&partition) && claim.wanted.contains(&partition)
        });
        match owner.and_then(|(member, _)| target.get_mut(member)) {
            Some(kept) => drop(kept.insert(partition)),
            None => free.push(partition),
        }
    }
    for partition in free {
        let least = least_loaded(&target, claims, &partition);
        if let Some(given) = least.and_then(|member| target.get_mut(&member)) {
            given.insert(partition);
        }
    }
    while move_one(&mut target, claims) {}
    target
}

/// Moves one partition from a member to one that has at least two fewer.
fn move_one(
    target: &mut BTreeMap<String, BTreeSet<TopicPartition>>,
    claims: &BTreeMap<String, Claim>,
) -> bool {
    let mut by_load: Vec<_> = target.iter().map(|(member, own)| (own.len(), member)).collect();
    by_load.sort_by(|left, right| right.0.cmp(&left.0).then(left.1.cmp(right.1)));
    let found = by_load.iter().find_map(|(load, from)| {
        target.get(*from)?.iter().rev().find_map(|partition| {
            let to = least_loaded(target, claims, partition)?;
            let lighter = target.get(&to)?.len() + 1 < *load;
            lighter.then(|| ((*from).clone(), to, partition.clone()))
        })
    });
    let Some((from, to, partition)) = found else { return false };
    if let Some(own) = target.get_mut(&from) {
        own.remove(&partition);
    }
    if let Some(own) = target.get_mut(&to) {
        own.insert(partition);
    }
    true
}

fn least_loaded(
    target: &BTreeMap<String, BTreeSet<TopicPartition>>,
    claims: &BTreeMap<String, Claim>,
    partition: &TopicPartition,
) -> Option<String> {
    let takers = claims.iter().filter(|(_, claim)| claim.wanted.contains(partition));
    let loads = takers.filter_map(|(member, _)| Some((target.get(member)?.len(), member)));
    loads.min().map(|(_, member)| member.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions(range: std::ops::Range<i32>) -> BTreeSet<TopicPartition> {
        range.map(|partition| TopicPartition::new("t", partition)).collect()
    }

    #[test]
    fn a_moving_partition_waits_for_its_owner() {
        let mut claims = BTreeMap::new();
        claims.insert("a".to_owned(), Claim { owned: partitions(0..4), wanted: partitions(0..4) });
        claims.insert("b".to_owned(), Claim { owned: partitions(0..0), wanted: partitions(0..4) });
        let first = assign(&claims);
        assert_eq!(first["a"], partitions(0..2));
        assert!(first["b"].is_empty());
        claims.get_mut("a").unwrap().owned = partitions(0..2);
        let second = assign(&claims);
        assert_eq!(second["a"], partitions(0..2));
        assert_eq!(second["b"], partitions(2..4));
    }
}

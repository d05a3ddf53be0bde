//! The policy in force as the audit trail tells it.

use std::sync::Arc;

use crate::pipeline::audit::{Policy as PolicyEntry, PolicyHash, PolicyTextError, ShortPolicyHash};
use crate::pipeline::redact::Policy;

/// The policy that receipts and seals name, and its text for the `policy` entry.
#[derive(Clone, Debug)]
pub struct AuditPolicy {
    text: Arc<str>,
    hash: ShortPolicyHash,
    /// The policy it replaced while the daemon ran, and whether it may let more pass than that.
    replaced: Option<(ShortPolicyHash, bool)>,
}

impl AuditPolicy {
    /// The policy that a process starts with.
    ///
    /// # Errors
    /// The policy is too long for an entry.
    pub fn new(policy: &Policy) -> Result<Self, PolicyTextError> {
        let text = policy.canonical_json();
        PolicyEntry::new(text, None)?;
        Ok(Self { text: Arc::from(text), hash: PolicyHash::of(text).short(), replaced: None })
    }

    /// `policy` in the place of `before`, whose audit form is `self`.
    ///
    /// # Errors
    /// The policy is too long for an entry.
    pub fn replaced_by(&self, before: &Policy, policy: &Policy) -> Result<Self, PolicyTextError> {
        let replaced = Some((self.hash, Policy::is_loosening(before, policy)));
        Ok(Self { replaced, ..Self::new(policy)? })
    }

    /// What receipts and seals name.
    #[must_use]
    pub const fn hash(&self) -> ShortPolicyHash {
        self.hash
    }

    /// Whether it may let something pass that the policy before took out.
    #[must_use]
    pub fn is_loosening(&self) -> bool {
        self.replaced.is_some_and(|(_, loosened)| loosened)
    }

    /// Whether it may let more pass than the policy that a chain names; `None` when that one is not at
    /// hand.
    pub(super) fn loosened(&self, named: Option<ShortPolicyHash>) -> Option<bool> {
        match (named, self.replaced) {
            (None, _) => Some(false),
            (Some(named), _) if named == self.hash => Some(false),
            (Some(named), Some((before, loosened))) if named == before => Some(loosened),
            (Some(_), _) => None,
        }
    }

    /// The entry for a chain, behind which it is in force.
    pub(super) fn entry(&self, loosened: Option<bool>) -> PolicyEntry<'_> {
        PolicyEntry::new(&self.text, loosened).expect("the text was checked when this was made")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(json: &str) -> Policy {
        Policy::new(&serde_json::from_str(json).unwrap()).unwrap()
    }

    #[test]
    fn an_entry_says_whether_its_policy_is_looser_than_the_one_the_chain_names() {
        let (strict, balanced) =
            (policy(r#"{"strictness":"strict"}"#), policy(r#"{"strictness":"balanced"}"#));
        let first = AuditPolicy::new(&strict).unwrap();
        assert_eq!(first.loosened(None), Some(false));
        assert_eq!(first.loosened(Some(first.hash())), Some(false));
        let second = first.replaced_by(&strict, &balanced).unwrap();
        assert!(second.is_loosening());
        assert_eq!(second.loosened(Some(first.hash())), Some(true));
        let third = second.replaced_by(&balanced, &strict).unwrap();
        assert!(!third.is_loosening());
        assert_eq!(third.loosened(Some(second.hash())), Some(false));
        // The chain slept through the second policy, or the process was started with another one.
        assert_eq!(third.hash(), first.hash());
        assert_eq!(second.loosened(Some(PolicyHash::of("{}").short())), None);
    }
}

//! The policy in force in this process: replaced by a reload, taken over by each SCRUB shard between
//! two transactions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::shard::Refresh;
use crate::pipeline::audit::PolicyTextError;
use crate::pipeline::redact::keyring::Keyring;
use crate::pipeline::redact::{Policy, Redactor};
use crate::pipeline::scrub::{AuditPolicy, Scrub};

/// A policy and how the audit trail tells it.
#[derive(Clone, Debug)]
pub struct PolicyInForce {
    /// The policy.
    pub policy: Arc<Policy>,
    /// Its audit form.
    pub audit: AuditPolicy,
    number: u64,
}

/// What became of a new policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyChange {
    /// It is the one in force.
    Unchanged,
    /// It is in force from now on.
    Applied,
    /// The same, and it may let something pass that the one before took out.
    Loosened,
}

impl PolicyChange {
    /// A word for labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Applied => "applied",
            Self::Loosened => "loosened",
        }
    }
}

/// Where the policy in force stands. Clones share it.
#[derive(Clone)]
pub struct PolicyCell(Arc<Shared>);

struct Shared {
    /// That of the policy in force: shards look at it in every turn.
    number: AtomicU64,
    in_force: Mutex<PolicyInForce>,
}

impl PolicyCell {
    /// A cell that holds `policy`.
    ///
    /// # Errors
    /// The policy is too long for an audit entry.
    pub fn new(policy: Arc<Policy>) -> Result<Self, PolicyTextError> {
        let audit = AuditPolicy::new(&policy)?;
        let in_force = Mutex::new(PolicyInForce { policy, audit, number: 0 });
        Ok(Self(Arc::new(Shared { number: AtomicU64::new(0), in_force })))
    }

    /// The policy in force.
    #[must_use]
    pub fn read(&self) -> PolicyInForce {
        self.0.in_force.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts `policy` into force.
    ///
    /// # Errors
    /// The policy is too long for an audit entry: the one in force stays.
    pub fn replace(&self, policy: Arc<Policy>) -> Result<PolicyChange, PolicyTextError> {
        let mut in_force = self.0.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        if in_force.policy.identity() == policy.identity() {
            return Ok(PolicyChange::Unchanged);
        }
        let audit = in_force.audit.replaced_by(&in_force.policy, &policy)?;
        let loosened = audit.is_loosening();
        let number = in_force.number + 1;
        *in_force = PolicyInForce { policy, audit, number };
        self.0.number.store(number, Ordering::Release);
        Ok(if loosened { PolicyChange::Loosened } else { PolicyChange::Applied })
    }
}

/// Hands each new policy to one SCRUB stage.
pub struct PolicyRefresh {
    cell: PolicyCell,
    keyring: Arc<Keyring>,
    seen: PolicyInForce,
}

impl PolicyRefresh {
    /// For a stage that is made with [`PolicyRefresh::seen`].
    #[must_use]
    pub fn new(cell: PolicyCell, keyring: Arc<Keyring>) -> Self {
        let seen = cell.read();
        Self { cell, keyring, seen }
    }

    /// The policy that the stage has.
    #[must_use]
    pub const fn seen(&self) -> &PolicyInForce {
        &self.seen
    }
}

impl Refresh<Scrub> for PolicyRefresh {
    fn is_due(&self) -> bool {
        self.cell.0.number.load(Ordering::Acquire) != self.seen.number
    }

    fn apply(&mut self, stage: &mut Scrub) {
        self.seen = self.cell.read();
        let redactor = Redactor::new(Arc::clone(&self.seen.policy));
        let redactor = redactor.with_keyring(Arc::clone(&self.keyring));
        stage.change_policy(redactor, self.seen.audit.clone());
        tracing::info!(policy = self.seen.policy.identity(), "another policy is in force");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(json: &str) -> Arc<Policy> {
        Arc::new(Policy::new(&serde_json::from_str(json).unwrap()).unwrap())
    }

    #[test]
    fn a_new_policy_is_due_once_and_an_equal_one_never() {
        let cell = PolicyCell::new(policy("{}")).unwrap();
        assert_eq!(cell.replace(policy("{}")), Ok(PolicyChange::Unchanged));
        let allow = policy(r#"{"allow":{"emails":["a@example.com"]}}"#);
        let before = cell.read();
        assert_eq!(cell.replace(allow), Ok(PolicyChange::Loosened));
        assert_eq!(cell.replace(policy("{}")), Ok(PolicyChange::Applied));
        assert_eq!(cell.read().number, before.number + 2);
        let long = "a".repeat(100);
        let emails: Vec<String> = (0..700).map(|at| format!("{long}{at}@example.com")).collect();
        let wide = serde_json::json!({ "allow": { "emails": emails } }).to_string();
        assert_eq!(cell.replace(policy(&wide)), Err(PolicyTextError::TooLong));
        assert_eq!(cell.read().number, before.number + 2, "the old one stays");
    }
}

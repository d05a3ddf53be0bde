//! SCRUB whose policy is replaced every few transactions, as a reload does it. Both policies treat the
//! simulated records alike: what must hold is the chain, whatever happens around a change.

use std::sync::{Arc, LazyLock};

use blotter::pipeline::redact::{Policy, RawPolicy, Redactor};
use blotter::pipeline::scrub::{AuditPolicy, Scrub};
use blotter::pipeline::step::Stage;
use blotter::pipeline::watch::Watch;

use crate::copier::Copier;

/// Transactions between two changes.
const COMMITS_PER_POLICY: u32 = 5;

/// A policy and how the audit tells it.
type Told = (Arc<Policy>, AuditPolicy);

/// Compiling a policy takes longer than a whole run: all processes share them.
static POLICIES: LazyLock<[Told; 2]> = LazyLock::new(|| {
    let first = Arc::new(Policy::default());
    let mut raw = RawPolicy::default();
    raw.caps.findings = Some(50_000);
    let second = Arc::new(Policy::new(&raw).expect("a sound policy"));
    let told = AuditPolicy::new(&first).expect("it fits an entry");
    let other = told.replaced_by(&first, &second).expect("it fits an entry");
    let again = other.replaced_by(&second, &first).expect("it fits an entry");
    [(first, again), (second, other)]
});

/// The policy that a process starts with.
pub(crate) fn first() -> &'static Told {
    &POLICIES[0]
}

/// A stage as the simulated processes run it.
pub(crate) trait Simulated: Stage {
    /// Called once `commits` transactions of its process stand.
    fn after_commit(&mut self, _commits: u32) {}
}

impl Simulated for Scrub {
    fn after_commit(&mut self, commits: u32) {
        if commits.is_multiple_of(COMMITS_PER_POLICY) {
            let turn = usize::try_from(commits / COMMITS_PER_POLICY % 2).expect("0 or 1");
            let (policy, told) = &POLICIES[turn];
            self.change_policy(Redactor::new(Arc::clone(policy)), told.clone());
        }
    }
}

impl Simulated for Watch {}

impl Simulated for Copier {}

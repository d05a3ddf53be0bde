//! The way through one partition's entries: up to a fault, and on from the chain that an operator
//! began behind it.

use super::super::policies::Policies;
use super::Scene;
use super::verdict::{Break, Problem, Verdict, hex};
use crate::pipeline::audit::{Fault, FaultKind, GenesisFacts, HeadRef, Start, Trust, Verifier};

/// Takes entries up to a fault, and on from the chain that an operator began behind it.
#[derive(Default)]
pub(super) struct Run {
    verifier: Option<Verifier>,
    fault: Option<Fault>,
    breaks: Vec<Broken>,
    /// Entries since the fault.
    unverified: u64,
    /// The newest chain whose genesis says that the one before was whole.
    whole_before: u32,
    /// Whether the first chain was seen from its genesis on.
    from_genesis: bool,
    policies: Policies,
    /// The head that the daemon committed, until it is seen.
    committed: Option<HeadRef>,
}

/// A fault, and the chain that was begun behind it.
struct Broken {
    fault: Fault,
    /// Place of the next chain's genesis.
    next: i64,
    /// Entries between the two.
    unverified: u64,
    /// Source offset up to which the broken chain was verified, exclusive.
    to: Option<i64>,
    /// Source offset from which the next chain goes on.
    from: i64,
}

impl Run {
    /// One that must come by the head that the daemon committed, where that is known.
    pub(super) fn new(committed: Option<HeadRef>) -> Self {
        Self { committed, ..Self::default() }
    }

    pub(super) fn push(&mut self, scene: &Scene, trust: &Trust, place: i64, entry: &[u8]) {
        let genesis = GenesisFacts::read(entry);
        if let Some(genesis) = genesis.filter(|genesis| genesis.after.is_some()) {
            self.whole_before = self.whole_before.max(genesis.incarnation);
        }
        if self.fault.is_some() && !self.repair(trust, place, genesis) {
            self.unverified += 1;
            return;
        }
        let verifier = self.verifier.get_or_insert_with(|| {
            let start = match &scene.signers_of_suffix {
                Some(signers) => Start::Suffix(signers.clone()),
                None => Start::Genesis,
            };
            Verifier::new(trust.clone(), start)
        });
        self.fault = verifier.push(place, entry).err();
        // The beginning of the new chain may be what showed that the old one breaks off.
        if self.fault.is_some() && self.repair(trust, place, genesis) {
            self.fault = self.verifier.as_mut().and_then(|new| new.push(place, entry).err());
        }
        let Some(verifier) = &self.verifier else { return };
        if self.fault.is_none() {
            self.policies.push(place, entry);
        }
        if self.committed.is_some_and(|head| Some(head.head) == verifier.head()) {
            self.committed = None;
        }
    }

    /// Whether the entry at `place` begins the chain that follows the broken one: a genesis of a
    /// later incarnation. Whether it is a good one, the verifier tells. Where a genesis says that the
    /// broken chain was whole when it ended, somebody broke it afterwards: no operator repaired that.
    fn repair(&mut self, trust: &Trust, place: i64, genesis: Option<GenesisFacts>) -> bool {
        let broken = self.verifier.as_ref().map_or(0, Verifier::incarnation);
        let is_at_start =
            self.fault.as_ref().is_some_and(|fault| fault.kind == FaultKind::StartAbsent);
        let follows = genesis.filter(|genesis| genesis.incarnation > broken);
        let Some(genesis) = follows else { return false };
        if is_at_start || self.whole_before > broken {
            return false;
        }
        if let Some(fault) = self.fault.take() {
            self.breaks.push(Broken {
                fault,
                next: place,
                unverified: std::mem::take(&mut self.unverified),
                to: self.verifier.as_ref().and_then(Verifier::position),
                from: genesis.offset,
            });
        }
        self.from_genesis |= self.verifier.as_ref().is_some_and(|old| old.report().from_genesis);
        self.verifier = Some(Verifier::new(trust.clone(), Start::Suffix(Vec::new())));
        true
    }

    pub(super) fn finish(self, trust: &Trust, place: impl Fn(Option<i64>) -> String) -> Verdict {
        let verifier =
            self.verifier.unwrap_or_else(|| Verifier::new(trust.clone(), Start::Genesis));
        let (mut report, head) = (verifier.report().clone(), verifier.head());
        report.from_genesis |= self.from_genesis;
        let fault = self.fault.or_else(|| verifier.finish().err());
        let problem = |fault: Fault| Problem {
            place: place(fault.place),
            kind: fault.kind.name(),
            seq: fault.seq,
            expected: fault.expected,
            found: fault.found,
        };
        let fault = fault.map(problem);
        let breaks = self.breaks.into_iter().map(|broken| Break {
            fault: problem(broken.fault),
            repaired: place(Some(broken.next)),
            unverified: broken.unverified,
            to: broken.to,
            from: broken.from,
        });
        let remarks = self.policies.remarks().into_iter();
        let remarks = remarks.map(|(at, what)| format!("{what} {}", place(Some(at))));
        let lost = |head: HeadRef| Problem {
            place: place(Some(head.stored.offset())),
            kind: "committed_head_absent",
            seq: Some(head.head.seq),
            expected: format!("the committed head, leaf {}", hex(&head.head.leaf)),
            found: "entries without it: the trail was cut, rolled back or rewritten".to_owned(),
        };
        Verdict {
            source: trust.source.to_string(),
            report,
            head,
            fault: fault.or_else(|| self.committed.map(lost)),
            breaks: breaks.collect(),
            notes: remarks.collect(),
        }
    }
}

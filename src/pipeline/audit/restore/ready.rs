//! From what was found to how the partition goes on.

use super::super::chain::Origin;
use super::super::entry::{Gap, GapReason, Recovery, RecoveryReason, StartKind};
use super::super::metadata::{AuditState, HeadRef};
use super::super::seal::SealedPosition;
use super::{PendingEntry, Restore, RestoreAlert, Restored, RestoredAudit, RestoredChain, Step};

impl Restore {
    /// The head that the metadata names, whether or not the audit was on.
    pub(super) fn named_head(&self) -> Option<HeadRef> {
        match self.metadata?.audit {
            AuditState::On(head) => Some(head),
            AuditState::Off(head) => head,
        }
    }

    /// The partition was never read.
    pub(super) fn begin_chain(&self, start: StartKind, offset: i64) -> Step {
        let pending = vec![PendingEntry::Genesis { start, offset }];
        self.restored(offset, self.new_chain(offset, pending), Vec::new())
    }

    /// All up to `to` is written; the source begins at `low`.
    pub(super) fn ready(&self, to: i64, low: i64) -> Step {
        let position = to.max(low);
        let mut alerts = Vec::new();
        if low > to {
            let detail =
                format!("retention deleted source offsets {to}..{low} before they were read");
            alerts.push(RestoreAlert { severity: 1, name: "source_gap", detail });
        }
        if self.metadata.is_none() {
            let detail = format!("no usable committed offset: going on at {position}");
            alerts.push(RestoreAlert { severity: 2, name: "offset_recovered", detail });
            if self.context.audit && self.chain.is_none() && self.redacted_to.is_some() {
                let detail = "redacted records exist, but the audit partition is empty".to_owned();
                alerts.push(RestoreAlert { severity: 1, name: "audit_empty", detail });
            }
        }
        let mut chain = match self.chain {
            None => self.new_chain(to, self.late_genesis(to)),
            Some(seal) => {
                let gaps = self.gaps(seal.sealed.to, to).map(PendingEntry::Gap);
                RestoredChain {
                    origin: self.origin(seal.head.incarnation),
                    head: Some(seal.head.head),
                    sealed: seal.sealed,
                    policy: Some(seal.policy),
                    pending: gaps.collect(),
                }
            }
        };
        if low > to {
            let gap = Gap { from: to, to: low, reason: GapReason::Retention };
            chain.pending.push(PendingEntry::Gap(gap));
        }
        if self.metadata.is_none() {
            let reason = match self.committed {
                Some(_) => RecoveryReason::OffsetAdopted,
                None => RecoveryReason::OffsetLost,
            };
            chain.pending.push(PendingEntry::Recovery(Recovery { reason, position }));
        }
        let signer = self.chain.map(|seal| seal.head.signer.key.id());
        if signer.is_some_and(|id| id != self.context.instance_key) {
            chain.pending.push(PendingEntry::Rotate);
        }
        self.restored(position, chain, alerts)
    }

    /// The audit begins at `to` although the partition was read before.
    fn late_genesis(&self, to: i64) -> Vec<PendingEntry> {
        match (self.metadata, self.redacted_to) {
            (None, Some(found)) => {
                let start = StartKind::Recovered;
                let genesis = PendingEntry::Genesis { start, offset: found };
                let gaps = self.gaps(found, to).map(PendingEntry::Gap);
                std::iter::once(genesis).chain(gaps).collect()
            }
            _ => vec![PendingEntry::Genesis { start: StartKind::Committed, offset: to }],
        }
    }

    /// The gaps between where the chain ends and where reading goes on, with their reasons.
    fn gaps(&self, from: i64, to: i64) -> impl Iterator<Item = Gap> + use<> {
        let (first, written) = match self.metadata {
            Some(_) => (GapReason::AuditOff, to),
            None => (GapReason::Unaudited, self.redacted_to.map_or(from, |end| end.max(from))),
        };
        [
            Gap { from, to: written, reason: first },
            Gap { from: written, to, reason: GapReason::Adopted },
        ]
        .into_iter()
        .filter(|gap| gap.from < gap.to)
    }

    pub(super) fn new_chain(&self, position: i64, pending: Vec<PendingEntry>) -> RestoredChain {
        RestoredChain {
            origin: self.origin(0),
            head: None,
            sealed: SealedPosition { to: position, last: None },
            policy: None,
            pending,
        }
    }

    pub(super) fn origin(&self, incarnation: u32) -> Origin {
        let trust = &self.context.trust;
        Origin::new(&trust.deployment, &trust.source, incarnation)
    }

    pub(super) fn restored(
        &self,
        position: i64,
        chain: RestoredChain,
        alerts: Vec<RestoreAlert>,
    ) -> Step {
        let audit = if self.context.audit {
            RestoredAudit::On(Box::new(chain))
        } else {
            RestoredAudit::Off(self.named_head())
        };
        let known = self.metadata.map(|metadata| metadata.partitions);
        let known = known.or_else(|| self.genesis.map(|genesis| genesis.partitions));
        Step::Ready(Box::new(Restored {
            position,
            transactions: self.metadata.map_or(0, |metadata| metadata.transactions),
            partitions: known.unwrap_or(self.context.partitions),
            commitment_key: self.metadata.map(|metadata| metadata.commitment_key),
            audit,
            alerts,
        }))
    }
}

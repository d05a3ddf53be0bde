//! Stops, and how a partition goes on from one on an operator's word.

use super::super::entry::{Gap, GapReason, StartKind};
use super::super::metadata::AuditState;
use super::super::verify::Fault;
use super::{
    PendingEntry, Permission, Phase, RestartFrom, Restore, RestoreAlert, RestoreStop,
    RestoredChain, Step, StopKind, Stopping,
};

impl Restore {
    /// A stop, unless an operator allowed a new incarnation.
    pub(super) fn stop(&mut self, kind: StopKind, detail: String, fault: Option<Fault>) -> Step {
        let stopping = Stopping { kind, detail, fault };
        if kind == StopKind::OtherKeyring {
            return self.stopped(stopping);
        }
        self.stopping = Some(stopping);
        if self.redacted_is_read {
            self.settle()
        } else {
            self.go(Phase::RedactedRange { high: None })
        }
    }

    /// The redacted topic was read: the stop is told, or the restart begins.
    pub(super) fn settle(&mut self) -> Step {
        let Permission::Restart { from, reason } = self.context.permission.clone() else {
            let stopping = self.stopping.take().expect("only a stop is settled");
            return self.stopped(stopping);
        };
        let Some((low, high)) = self.source else { return self.go(Phase::SourceRange) };
        let mut stopping = self.stopping.take().expect("only a stop is settled");
        match self.refusal(&stopping, from, high) {
            None => self.restart(&stopping, from.offset, low, &reason),
            Some(refusal) => {
                stopping.detail = format!("{}; {refusal}", stopping.detail);
                self.stopped(stopping)
            }
        }
    }

    fn stopped(&self, stopping: Stopping) -> Step {
        let Stopping { kind, detail, fault } = stopping;
        let low = self.source.map(|(low, _)| low);
        let command = kind.command(&self.context.trust.source, self.written(), low);
        Step::Stop(Box::new(RestoreStop { kind, detail, command, fault: fault.map(Box::new) }))
    }

    /// Source offset up to which records are redacted, as far as anything tells. A committed offset
    /// does where no seal can contradict it.
    fn written(&self) -> Option<i64> {
        let sealed = self.chain.map(|seal| seal.sealed.to);
        let committed = self.committed.filter(|_| self.metadata.is_some() && sealed.is_none());
        sealed.max(self.redacted_to).max(committed)
    }

    /// Why the partition can't be restarted there.
    fn refusal(&self, stopping: &Stopping, from: RestartFrom, high: i64) -> Option<String> {
        let offset = from.offset;
        if offset > high {
            return Some(format!("no restart at {offset}: the source ends at {high}"));
        }
        let end = match self.written() {
            _ if from.again => return None,
            Some(written) if offset < written => written.to_string(),
            _ if stopping.kind == StopKind::RedactedUnreadable => "an unknown offset".to_owned(),
            _ => return None,
        };
        Some(format!(
            "no restart at {offset}: all up to {end} is redacted and would be once more; \
             if that is meant, say {offset}:again"
        ))
    }

    /// Begins a new chain at `position` of a source that begins at `low`.
    fn restart(&self, stopping: &Stopping, position: i64, low: i64, reason: &str) -> Step {
        let whole = self.chain.filter(|_| stopping.kind.leaves_chain_whole());
        let written = self.written();
        let sealed = whole.map(|seal| seal.sealed.to).or(written).unwrap_or(position);
        let start = sealed.min(position);
        let mut chain = match whole {
            Some(seal) => RestoredChain {
                origin: self.origin(seal.head.incarnation),
                head: Some(seal.head.head),
                sealed: seal.sealed,
                policy: None,
                pending: vec![PendingEntry::End { reason: reason.to_owned() }],
            },
            None => {
                let named = self.named_head().map(|head| head.incarnation);
                let found = named.max(self.incarnation);
                let next = found.map_or(0, |incarnation| incarnation.saturating_add(1));
                RestoredChain { origin: self.origin(next), ..self.new_chain(start, Vec::new()) }
            }
        };
        chain.pending.push(PendingEntry::Genesis { start: StartKind::Repaired, offset: start });
        let unsealed = written.unwrap_or(start).clamp(start, position);
        let was_off =
            matches!(self.metadata, Some(found) if matches!(found.audit, AuditState::Off(_)));
        let redacted = if was_off { GapReason::AuditOff } else { GapReason::Unaudited };
        let gaps = [
            Gap { from: start, to: unsealed, reason: redacted },
            Gap { from: unsealed, to: position, reason: GapReason::Repaired },
            Gap { from: position, to: low, reason: GapReason::Retention },
        ];
        let gaps = gaps.into_iter().filter(|gap| gap.from < gap.to);
        chain.pending.extend(gaps.map(PendingEntry::Gap));
        let mut detail = format!("restarted at {position}: {}", stopping.detail);
        if let Some(end) = written.filter(|end| position < *end) {
            detail.push_str(&format!("; redacted up to {end} before"));
        }
        let alert = RestoreAlert { severity: 1, name: "chain_restarted", detail };
        self.restored(position.max(low), chain, vec![alert])
    }
}

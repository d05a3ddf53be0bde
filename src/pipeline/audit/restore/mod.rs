//! Taking over a partition: from the committed offset and its metadata, the audit partition and
//! the source to a position, a chain to go on with, or a stop. No input or output here: the
//! machine asks, its driver answers, in any tempo.

mod ask;
mod outcome;
mod ready;
mod restart;

use super::super::limits::AUDIT_RESTORE_READ_RECORDS_MAX;
use super::super::record::RecordBatch;
use super::entry::StartKind;
use super::keys::KeyringId;
use super::merkle::leaf_hash;
use super::metadata::{AuditState, HeadRef, MetadataError, OffsetMetadata, StoredAt};
use super::seal::SealedPosition;
use super::verify::{Fault, GenesisFacts, SealFacts, Start, Verifier};

pub use ask::{Answer, Ask, RestoreContext, Role, Step};
pub use outcome::{
    PendingEntry, Permission, RestartFrom, RestoreAlert, RestoreStop, Restored, RestoredAudit,
    RestoredChain, StartPosition, StopKind,
};

/// The restore of one partition.
pub struct Restore {
    context: RestoreContext,
    phase: Phase,
    committed: Option<i64>,
    metadata: Option<OffsetMetadata>,
    verifier: Option<Verifier>,
    chain: Option<SealFacts>,
    genesis: Option<GenesisFacts>,
    incarnation: Option<u32>,
    broken: Option<Fault>,
    redacted_to: Option<i64>,
    redacted_is_read: bool,
    /// First offset and end of the source, once asked.
    source: Option<(i64, i64)>,
    stopping: Option<Stopping>,
}

/// What stops the partition. Before that is told or a restart begins, the redacted topic says how far
/// it goes: what lies below its end must not be read again unawares.
struct Stopping {
    kind: StopKind,
    detail: String,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Committed,
    /// `high` is fixed by the first answer.
    AuditRange {
        high: Option<i64>,
    },
    /// From the head named by the metadata to the end.
    AuditHead {
        next: i64,
        high: i64,
    },
    /// From the oldest entry kept to the end.
    AuditAll {
        next: i64,
        high: i64,
    },
    RedactedRange {
        high: Option<i64>,
    },
    /// Backwards in growing windows until a record is found.
    RedactedTail {
        low: i64,
        from: i64,
        next: i64,
        high: i64,
    },
    SourceRange,
    StartOffset,
    LastRecord {
        to: i64,
    },
}

/// First window when looking for the last record of the redacted partition.
const TAIL_RECORDS: i64 = 64;

impl Restore {
    /// Begins: the first step is always a question.
    #[must_use]
    pub fn begin(context: RestoreContext) -> (Self, Step) {
        let restore = Self {
            context,
            phase: Phase::Committed,
            committed: None,
            metadata: None,
            verifier: None,
            chain: None,
            genesis: None,
            incarnation: None,
            broken: None,
            redacted_to: None,
            redacted_is_read: false,
            source: None,
            stopping: None,
        };
        let step = restore.ask();
        (restore, step)
    }

    /// Goes on with the answer to the last question; an answer to another one is dropped and the
    /// question repeated.
    pub fn next(&mut self, answer: Answer) -> Step {
        match (self.phase, answer) {
            (Phase::Committed, Answer::Committed { offset, metadata }) => {
                self.committed(offset, &metadata)
            }
            (Phase::AuditRange { high }, Answer::Range { low, high: now, lso }) => {
                self.audit_range(high.unwrap_or(now), low, lso)
            }
            (Phase::AuditHead { high, .. }, Answer::Records { batch, next }) => {
                self.audit_head(&batch, next, high)
            }
            (Phase::AuditAll { high, .. }, Answer::Records { batch, next }) => {
                self.audit_all(&batch, next, high)
            }
            (Phase::RedactedRange { high }, Answer::Range { low, high: now, lso }) => {
                self.redacted_range(high.unwrap_or(now), low, lso)
            }
            (Phase::RedactedTail { low, from, high, .. }, Answer::Records { batch, next }) => {
                self.redacted_tail(&batch, next, low, from, high)
            }
            (Phase::SourceRange, Answer::Range { low, high, .. }) => self.source_range(low, high),
            (Phase::StartOffset, Answer::Range { low, high, .. }) => match self.context.start {
                StartPosition::Earliest => self.begin_chain(StartKind::Earliest, low),
                StartPosition::Latest => self.begin_chain(StartKind::Latest, high),
                StartPosition::Time(_) => self.ask(),
            },
            (Phase::StartOffset, Answer::OffsetAt(offset)) => {
                let StartPosition::Time(time) = self.context.start else { return self.ask() };
                self.begin_chain(StartKind::Time(time), offset)
            }
            (Phase::LastRecord { to }, Answer::Records { batch, next }) => {
                if next < to && batch.is_empty() {
                    return self.ask();
                }
                self.last_record(&batch, to)
            }
            _ => self.ask(),
        }
    }

    fn ask(&self) -> Step {
        let read = |role, from: i64, to: i64| {
            let bound = from.saturating_add(AUDIT_RESTORE_READ_RECORDS_MAX);
            Ask::Read { role, from, to: to.min(bound) }
        };
        Step::Ask(match self.phase {
            Phase::Committed => Ask::Committed,
            Phase::AuditRange { .. } => Ask::Range(Role::Audit),
            Phase::AuditHead { next, high } | Phase::AuditAll { next, high } => {
                read(Role::Audit, next, high)
            }
            Phase::RedactedRange { .. } => Ask::Range(Role::Redacted),
            Phase::RedactedTail { next, high, .. } => read(Role::Redacted, next, high),
            Phase::SourceRange => Ask::Range(Role::Source),
            Phase::StartOffset => match self.context.start {
                StartPosition::Time(time) => Ask::OffsetAt(time),
                _ => Ask::Range(Role::Source),
            },
            Phase::LastRecord { to } => {
                Ask::Read { role: Role::Source, from: to.saturating_sub(1), to }
            }
        })
    }

    fn go(&mut self, phase: Phase) -> Step {
        self.phase = phase;
        self.ask()
    }

    fn committed(&mut self, offset: Option<i64>, metadata: &str) -> Step {
        self.committed = offset;
        let Some(offset) = offset else { return self.recover() };
        match OffsetMetadata::parse(metadata) {
            Ok(metadata) if metadata.keyring != self.context.keyring => {
                let what = format!("offset {offset} was committed");
                self.other_keyring(&what, metadata.keyring)
            }
            Ok(metadata) => {
                self.metadata = Some(metadata);
                if self.context.audit {
                    self.go(Phase::AuditRange { high: None })
                } else {
                    self.go(Phase::SourceRange)
                }
            }
            Err(_) if self.context.permission != Permission::None => self.recover(),
            Err(MetadataError::Absent) => {
                let detail = format!("offset {offset} has no metadata: a tool set it");
                self.stop(StopKind::OffsetWithoutMetadata, detail, None)
            }
            Err(error) => {
                let detail = format!("offset {offset}: {error}");
                self.stop(StopKind::MetadataUnreadable, detail, None)
            }
        }
    }

    fn other_keyring(&mut self, what: &str, theirs: KeyringId) -> Step {
        let detail = format!("{what} under keyring {theirs}, not {}", self.context.keyring);
        self.stop(StopKind::OtherKeyring, detail, None)
    }

    /// Without a usable committed offset the outputs themselves tell how far they go.
    fn recover(&mut self) -> Step {
        if self.context.audit {
            self.go(Phase::AuditRange { high: None })
        } else {
            self.go(Phase::RedactedRange { high: None })
        }
    }

    fn audit_range(&mut self, high: i64, low: i64, lso: i64) -> Step {
        if lso < high {
            return self.go(Phase::AuditRange { high: Some(high) });
        }
        match self.named_head() {
            Some(HeadRef { stored: StoredAt::Exact(at), .. }) if at < low => {
                let detail =
                    format!("the head at audit offset {at} is gone: entries begin at {low}");
                self.stop(StopKind::HeadAbsent, detail, None)
            }
            Some(head) => self.read_audit(head.stored.offset().max(low), high, true),
            None => self.read_audit(low, high, false),
        }
    }

    fn read_audit(&mut self, next: i64, high: i64, from_head: bool) -> Step {
        let phase = if from_head {
            Phase::AuditHead { next, high }
        } else {
            Phase::AuditAll { next, high }
        };
        if next < high {
            return self.go(phase);
        }
        if from_head { self.head_absent(high) } else { self.audit_read() }
    }

    fn audit_head(&mut self, batch: &RecordBatch, next: i64, high: i64) -> Step {
        let head = self.named_head().expect("the phase is entered with a head");
        let mut stop = None;
        batch.for_each(0..batch.len(), |record| {
            let value = record.value.unwrap_or_default();
            if stop.is_some() || (self.verifier.is_none() && leaf_hash(value) != head.head.leaf) {
                return;
            }
            if self.verifier.is_some() {
                let detail = format!(
                    "a committed entry at audit offset {} follows the head at seq {}",
                    record.offset, head.head.seq
                );
                stop = Some((StopKind::EntriesAfterHead, detail, None));
                return;
            }
            let mut verifier = Verifier::new(self.context.trust.clone(), Start::Head(head));
            if let Err(fault) = verifier.push(record.offset, value) {
                stop = Some((StopKind::ChainBroken, fault.to_string(), Some(fault)));
            }
            self.verifier = Some(verifier);
        });
        if let Some((kind, detail, fault)) = stop {
            return self.stop(kind, detail, fault);
        }
        if next < high {
            return self.go(Phase::AuditHead { next, high });
        }
        if self.verifier.is_some() { self.audit_read() } else { self.head_absent(high) }
    }

    fn head_absent(&mut self, high: i64) -> Step {
        let head = self.named_head().expect("only a named head can be absent");
        let (seq, at) = (head.head.seq, head.stored.offset());
        let detail = format!("the head (seq {seq}) is not in audit offsets {at}..{high}");
        self.stop(StopKind::HeadAbsent, detail, None)
    }

    fn audit_all(&mut self, batch: &RecordBatch, next: i64, high: i64) -> Step {
        batch.for_each(0..batch.len(), |record| {
            let value = record.value.unwrap_or_default();
            let (trust, signers) = (&self.context.trust, &self.context.signers);
            let verifier = self.verifier.get_or_insert_with(|| {
                Verifier::new(trust.clone(), Start::Suffix(signers.clone()))
            });
            if self.broken.is_none() {
                self.broken = verifier.push(record.offset, value).err();
            }
            let genesis = GenesisFacts::read(value);
            self.incarnation = self.incarnation.max(genesis.map(|genesis| genesis.incarnation));
        });
        // A restart must know every incarnation there was, also behind a break.
        let must_read_on = matches!(self.context.permission, Permission::Restart { .. });
        if !must_read_on && let Some(fault) = self.broken.take() {
            return self.stop(StopKind::ChainBroken, fault.to_string(), Some(fault));
        }
        self.read_audit(next, high, false)
    }

    /// The audit partition was read to its end.
    fn audit_read(&mut self) -> Step {
        if let Some(verifier) = self.verifier.take() {
            self.chain = verifier.newest_seal().copied();
            self.genesis = verifier.newest_genesis().copied();
            self.incarnation = self.incarnation.max(Some(verifier.incarnation()));
            let broken = self.broken.take();
            if let Some(fault) = broken.or_else(|| verifier.finish().err()) {
                return self.stop(StopKind::ChainBroken, fault.to_string(), Some(fault));
            }
        }
        let Some(metadata) = self.metadata else {
            let keyring = self.genesis.map(|genesis| genesis.keyring);
            return match keyring.filter(|theirs| *theirs != self.context.keyring) {
                None => self.go(Phase::RedactedRange { high: None }),
                Some(theirs) => self.other_keyring("the chain was begun", theirs),
            };
        };
        let committed = self.committed.expect("metadata comes with an offset");
        match (metadata.audit, self.chain) {
            (AuditState::Off(None), Some(seal)) => {
                let detail = format!(
                    "the audit was off from the start, but seq {} stands in its topic",
                    seal.head.head.seq
                );
                self.stop(StopKind::EntriesAfterHead, detail, None)
            }
            (AuditState::On(_), Some(seal)) if seal.sealed.to != committed => {
                let to = seal.sealed.to;
                let detail = format!("offset {committed} is committed, the last seal ends at {to}");
                self.stop(StopKind::OffsetDiffers, detail, None)
            }
            (AuditState::Off(_), Some(seal)) if seal.sealed.to > committed => {
                let to = seal.sealed.to;
                let detail = format!("offset {committed} is committed, sealed was up to {to}");
                self.stop(StopKind::OffsetDiffers, detail, None)
            }
            _ => self.go(Phase::SourceRange),
        }
    }

    fn redacted_range(&mut self, high: i64, low: i64, lso: i64) -> Step {
        if lso < high {
            return self.go(Phase::RedactedRange { high: Some(high) });
        }
        if low >= high {
            return self.outputs_read();
        }
        let from = high.saturating_sub(TAIL_RECORDS).max(low);
        self.go(Phase::RedactedTail { low, from, next: from, high })
    }

    fn redacted_tail(
        &mut self,
        batch: &RecordBatch,
        next: i64,
        low: i64,
        from: i64,
        high: i64,
    ) -> Step {
        let mut unreadable = None;
        batch.for_each(0..batch.len(), |record| {
            let offset = (self.context.redacted_offset)(&record);
            unreadable = offset.is_none().then_some(record.offset);
            self.redacted_to = offset.map(|offset| offset.saturating_add(1)).or(self.redacted_to);
        });
        if let Some(offset) = unreadable {
            self.redacted_is_read = true;
            if self.stopping.is_some() {
                return self.settle();
            }
            let detail = format!("the redacted record at offset {offset} names no source offset");
            return self.stop(StopKind::RedactedUnreadable, detail, None);
        }
        if next < high {
            return self.go(Phase::RedactedTail { low, from, next, high });
        }
        if self.redacted_to.is_some() || from <= low {
            return self.outputs_read();
        }
        let window = high.saturating_sub(from).saturating_mul(4);
        let from = high.saturating_sub(window).max(low);
        self.go(Phase::RedactedTail { low, from, next: from, high })
    }

    /// The redacted partition was read to its end, and the audit partition, unless that stops here.
    fn outputs_read(&mut self) -> Step {
        self.redacted_is_read = true;
        if self.stopping.is_some() {
            return self.settle();
        }
        if let (Permission::Restart { .. }, Some(offset)) =
            (&self.context.permission, self.committed)
        {
            let detail = format!("offset {offset} has no usable metadata");
            return self.stop(StopKind::OffsetWithoutMetadata, detail, None);
        }
        let to = self.found_to();
        match (to, self.committed) {
            (Some(to), Some(adopted)) if adopted < to => {
                let detail = format!("offset {adopted} was set, but all up to {to} is written");
                self.stop(StopKind::OffsetDiffers, detail, None)
            }
            (None, None) => self.go(Phase::StartOffset),
            _ => self.go(Phase::SourceRange),
        }
    }

    /// How far the outputs go, when there is no usable committed offset.
    fn found_to(&self) -> Option<i64> {
        self.chain.map(|seal| seal.sealed.to).max(self.redacted_to)
    }

    fn source_range(&mut self, low: i64, high: i64) -> Step {
        self.source = Some((low, high));
        if self.stopping.is_some() {
            return self.settle();
        }
        let to = self.committed.or_else(|| self.found_to()).expect("otherwise StartOffset");
        if high < to {
            let detail = format!("the source ends at {high}, but was read up to {to}");
            return self.stop(StopKind::SourceShorter, detail, None);
        }
        let sealed = self.chain.map(|seal| seal.sealed);
        let is_last = |sealed: &SealedPosition| sealed.to == to && sealed.last.is_some();
        if sealed.as_ref().is_some_and(is_last) && low < to {
            return self.go(Phase::LastRecord { to });
        }
        self.ready(to, low)
    }

    fn last_record(&mut self, batch: &RecordBatch, to: i64) -> Step {
        let key = self.metadata.map(|metadata| metadata.commitment_key);
        let last = self.chain.and_then(|seal| seal.sealed.last).expect("asked for its sake");
        let mut keys = 0;
        let mut matches = false;
        batch.for_each(0..batch.len(), |record| {
            if record.offset != to.saturating_sub(1) {
                return;
            }
            for one in self.context.commitment_keys.iter() {
                if key.is_none_or(|key| key == one.id()) {
                    keys += 1;
                    matches |= one.commit_raw(&record).short() == last;
                }
            }
        });
        if keys > 0 && !matches {
            let at = to.saturating_sub(1);
            let detail = format!("the record at source offset {at} is not the one that was sealed");
            return self.stop(StopKind::SourceReplaced, detail, None);
        }
        self.ready(to, to)
    }
}

#[cfg(test)]
mod tests;

//! What each kind of entry must say, given the entries before it.

use serde::Deserialize;

use super::super::super::limits::AUDIT_INCARNATIONS_MAX;
use super::super::chain::{CHAIN_FIELDS_BYTES, ChainHead, Origin};
use super::super::entry::{Kind, PolicyHash, ShortPolicyHash};
use super::super::json::read_base64;
use super::super::keys::KeyId;
use super::super::merkle::root_of;
use super::super::metadata::{HeadRef, StoredAt};
use super::super::seal::{SIGNATURE_FIELD_BYTES, SealedPosition};
use super::wire::{
    ActionWire, EndWire, GapWire, GenesisWire, PolicyWire, RecoveryWire, RedactionWire, RotateWire,
    Seal, ShredWire, certificate,
};
use super::{At, Fault, FaultKind, Open, SealFacts, Verifier};

impl Verifier {
    /// Checks the body of an entry whose place in the chain is right; `entry` hashes to `head`.
    pub(super) fn check_body(
        &mut self,
        at: At,
        kind: Kind,
        head: ChainHead,
        entry: &[u8],
    ) -> Result<(), Fault> {
        match kind {
            Kind::Action => {
                self.open.actions += 1;
                self.check_topic(at, entry)?;
                let wire: ActionWire<'_> = self.parse(at, entry)?;
                self.check_source(at, wire.src.offset)
            }
            Kind::Redaction => {
                self.open.redactions += 1;
                self.check_topic(at, entry)?;
                let wire: RedactionWire<'_> = self.parse(at, entry)?;
                self.check_receipt(at, &wire)?;
                self.check_source(at, wire.src.offset)
            }
            Kind::Seal => self.check_seal(at, head, entry),
            Kind::Genesis => self.check_genesis(at, entry),
            Kind::Gap => self.check_gap(at, entry),
            Kind::Recovery => self.check_recovery(at, entry),
            Kind::Rotate => {
                let wire: RotateWire<'_> = self.parse(at, entry)?;
                let signer = certificate(wire.key, wire.cert).ok_or_else(|| self.malformed(at))?;
                self.accept_signer(at, signer)
            }
            Kind::Policy => self.check_policy(at, entry),
            Kind::Shred => {
                let _: ShredWire<'_> = self.parse(at, entry)?;
                Ok(())
            }
            Kind::End => {
                let _: EndWire<'_> = self.parse(at, entry)?;
                self.ended = true;
                Ok(())
            }
        }
    }

    /// Whether a seal's signature is by the key in force.
    pub(super) fn signature_verifies(&self, entry: &[u8]) -> bool {
        let (Some(signer), Some(seal)) = (self.signer, Seal::read(entry)) else { return false };
        let unsigned = entry.split_at_checked(entry.len().wrapping_sub(SIGNATURE_FIELD_BYTES));
        unsigned.is_some_and(|(unsigned, field)| {
            field.starts_with(b",\"sig\":\"")
                && signer.verifies_seal(self.origin.as_str(), unsigned, &seal.signature)
        })
    }

    fn check_topic(&self, at: At, entry: &[u8]) -> Result<(), Fault> {
        let body = entry.get(CHAIN_FIELDS_BYTES..).unwrap_or_default();
        if body.starts_with(&self.source) {
            return Ok(());
        }
        let expected = format!("source {}", self.trust.source);
        Err(self.fault(FaultKind::WrongOrigin, at, expected, "another source"))
    }

    fn check_receipt(&self, at: At, wire: &RedactionWire<'_>) -> Result<(), Fault> {
        let policy = ShortPolicyHash::parse(wire.policy).ok_or_else(|| self.malformed(at))?;
        if self.policy.is_none_or(|in_force| in_force == policy) {
            return Ok(());
        }
        let expected = "the policy in force";
        Err(self.fault(FaultKind::WrongPolicy, at, expected, "another policy"))
    }

    fn check_source(&mut self, at: At, offset: i64) -> Result<(), Fault> {
        let floor = self.open.sources.map(|(_, last)| last).or(self.position);
        if let Some(floor) = floor.filter(|floor| offset < *floor) {
            let expected = format!("a source offset from {floor}");
            return Err(self.fault(FaultKind::WrongSource, at, expected, offset.to_string()));
        }
        let first = self.open.sources.map_or(offset, |(first, _)| first);
        self.open.sources = Some((first, offset));
        Ok(())
    }

    fn check_seal(&mut self, at: At, head: ChainHead, entry: &[u8]) -> Result<(), Fault> {
        let seal = Seal::read(entry).ok_or_else(|| self.malformed(at))?;
        self.check_signature(at, &seal, entry)?;
        self.check_range(at, &seal)?;
        self.check_counts(at, &seal)?;
        self.check_last(at, &seal)?;
        if self.policy.is_some_and(|policy| policy != seal.policy) {
            let kind = FaultKind::WrongPolicy;
            return Err(self.fault(kind, at, "the policy in force", "another policy"));
        }
        self.origin_is_known = true;
        self.policy = Some(seal.policy);
        self.position = Some(seal.to);
        let signer = self.signer.expect("check_signature found the signer");
        self.newest_seal = Some(SealFacts {
            head: HeadRef {
                incarnation: self.origin.incarnation(),
                head,
                stored: StoredAt::Exact(at.place),
                signer,
            },
            sealed: SealedPosition { to: seal.to, last: seal.last },
            policy: seal.policy,
        });
        self.report_seal(&seal);
        self.open = Open::default();
        Ok(())
    }

    fn check_signature(&mut self, at: At, seal: &Seal<'_>, entry: &[u8]) -> Result<(), Fault> {
        let named = KeyId::parse(seal.key).ok_or_else(|| self.malformed(at))?;
        if self.signer.is_none() {
            let known = self.candidates.iter().find(|one| one.key.id() == named).copied();
            if let Some(signer) = known {
                self.accept_signer(at, signer)?;
            }
        }
        let in_force = self.signer.map(|signer| signer.key.id());
        if in_force != Some(named) {
            let expected = in_force.map_or_else(|| "a known key".to_owned(), |id| id.to_string());
            return Err(self.fault(FaultKind::WrongSigner, at, expected, named.to_string()));
        }
        if !self.is_signed(entry) {
            let expected = format!("a signature by key {named}");
            return Err(self.fault(FaultKind::WrongSignature, at, expected, "another"));
        }
        Ok(())
    }

    /// Whether the key in force signed a seal. The signature covers the chain's name: of a suffix, the
    /// first one tells which of the partition's chains it is.
    fn is_signed(&mut self, entry: &[u8]) -> bool {
        if self.origin_is_known {
            return self.signature_verifies(entry);
        }
        (0..=AUDIT_INCARNATIONS_MAX).any(|incarnation| {
            self.set_incarnation(incarnation);
            self.signature_verifies(entry)
        })
    }

    fn set_incarnation(&mut self, incarnation: u32) {
        self.origin = Origin::new(&self.trust.deployment, &self.trust.source, incarnation);
    }

    fn check_range(&self, at: At, seal: &Seal<'_>) -> Result<(), Fault> {
        let found = format!("{}..{}", seal.from, seal.to);
        let from = self.position.unwrap_or(seal.from);
        if seal.from != from || seal.to < seal.from {
            let expected = format!("a range from {from}");
            return Err(self.fault(FaultKind::WrongCoverage, at, expected, found));
        }
        let Some((first, last)) = self.open.sources else { return Ok(()) };
        if first < seal.from || last >= seal.to {
            let expected = format!("a range around the entries' offsets {first}..={last}");
            return Err(self.fault(FaultKind::WrongSource, at, expected, found));
        }
        Ok(())
    }

    fn check_counts(&self, at: At, seal: &Seal<'_>) -> Result<(), Fault> {
        let read = seal.fates.read();
        let offsets = seal.to.abs_diff(seal.from);
        if read > offsets {
            let expected = format!("at most {offsets} records");
            return Err(self.fault(FaultKind::WrongCounts, at, expected, read.to_string()));
        }
        let entries = (self.open.actions, self.open.redactions);
        if self.open.is_whole && entries != (seal.actions, seal.redactions) {
            let expected = format!("{} actions and {} redactions", seal.actions, seal.redactions);
            let found = format!("{} and {}", entries.0, entries.1);
            return Err(self.fault(FaultKind::WrongCounts, at, expected, found));
        }
        if read == 0 && seal.root != root_of([]) {
            return Err(self.fault(FaultKind::WrongRoot, at, "the empty root", "another"));
        }
        Ok(())
    }

    /// A seal over no offset repeats what the one before said about the last record.
    fn check_last(&self, at: At, seal: &Seal<'_>) -> Result<(), Fault> {
        if seal.from != seal.to {
            return Ok(());
        }
        let expected = match &self.newest_seal {
            _ if self.open.moved => None,
            None => return Ok(()),
            Some(before) => before.sealed.last,
        };
        if seal.last == expected {
            return Ok(());
        }
        let expected = format!("last {expected:?}");
        Err(self.fault(FaultKind::WrongLast, at, expected, format!("last {:?}", seal.last)))
    }

    fn check_genesis(&mut self, at: At, entry: &[u8]) -> Result<(), Fault> {
        let wire: GenesisWire<'_> = self.parse(at, entry)?;
        let facts = wire.facts().ok_or_else(|| self.malformed(at))?;
        if self.ended {
            self.origin = self.origin.next_incarnation();
            self.check_joint(at, facts.offset)?;
            self.ended = false;
        }
        if !self.origin_is_known {
            self.set_incarnation(facts.incarnation);
        }
        if wire.origin != self.origin.as_str() {
            let expected = self.origin.as_str().to_owned();
            return Err(self.fault(FaultKind::WrongOrigin, at, expected, wire.origin));
        }
        let signer = certificate(wire.key, wire.cert).ok_or_else(|| self.malformed(at))?;
        let policy = ShortPolicyHash::parse(wire.policy).ok_or_else(|| self.malformed(at))?;
        self.newest_genesis = Some(facts);
        self.accept_signer(at, signer)?;
        self.origin_is_known = true;
        self.policy = Some(policy);
        self.position = Some(wire.offset);
        self.open.moved = true;
        self.report.from_genesis |= self.report.entries_total() == 0 && facts.incarnation == 0;
        self.report.from.get_or_insert(wire.offset);
        Ok(())
    }

    /// A chain goes on where the one before ended, or below: what it leaves out is in its gaps.
    fn check_joint(&mut self, at: At, offset: i64) -> Result<(), Fault> {
        let Some(end) = self.position else { return Ok(()) };
        if offset > end {
            let expected = format!("a genesis at {end} or below, and a gap");
            return Err(self.fault(FaultKind::WrongCoverage, at, expected, offset.to_string()));
        }
        let twice = &mut self.report.overlap_offsets;
        *twice = twice.saturating_add(end.abs_diff(offset));
        Ok(())
    }

    fn check_gap(&mut self, at: At, entry: &[u8]) -> Result<(), Fault> {
        let wire: GapWire<'_> = self.parse(at, entry)?;
        let from = self.position.unwrap_or(wire.from);
        let first = self.open.sources.is_none();
        if wire.from != from || wire.to <= wire.from || !first {
            let expected = format!("a gap from {from} before any record");
            let found = format!("{}..{}", wire.from, wire.to);
            return Err(self.fault(FaultKind::WrongCoverage, at, expected, found));
        }
        self.position = Some(wire.to);
        self.open.moved = true;
        self.report.from.get_or_insert(wire.from);
        let offsets = wire.to.abs_diff(wire.from);
        self.report.gap_offsets = self.report.gap_offsets.saturating_add(offsets);
        Ok(())
    }

    fn check_recovery(&self, at: At, entry: &[u8]) -> Result<(), Fault> {
        let wire: RecoveryWire<'_> = self.parse(at, entry)?;
        match self.position {
            Some(position) if position != wire.position => {
                let expected = format!("position {position}");
                let found = wire.position.to_string();
                Err(self.fault(FaultKind::WrongCoverage, at, expected, found))
            }
            _ => Ok(()),
        }
    }

    fn check_policy(&mut self, at: At, entry: &[u8]) -> Result<(), Fault> {
        let wire: PolicyWire<'_> = self.parse(at, entry)?;
        let hash = PolicyHash::of(wire.policy.get());
        if read_base64(wire.hash) != Some(*hash.as_bytes()) {
            let expected = "the hash of the policy's text";
            return Err(self.fault(FaultKind::WrongPolicy, at, expected, wire.hash));
        }
        self.policy = Some(hash.short());
        Ok(())
    }

    fn report_seal(&mut self, seal: &Seal<'_>) {
        let report = &mut self.report;
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut report.fates.forwarded, seal.fates.forwarded);
        add(&mut report.fates.dead_lettered, seal.fates.dead_lettered);
        add(&mut report.fates.commands, seal.fates.commands);
        report.heartbeats += u64::from(seal.from == seal.to);
        report.from.get_or_insert(seal.from);
        report.to = Some(seal.to);
        let (first, last) = report.sealed_at.unwrap_or((seal.at, seal.at));
        report.clock_steps_back += u64::from(seal.at < last);
        report.sealed_at = Some((first, seal.at));
    }

    fn parse<'e, T: Deserialize<'e>>(&self, at: At, entry: &'e [u8]) -> Result<T, Fault> {
        serde_json::from_slice(entry).map_err(|_| self.malformed(at))
    }

    pub(super) fn malformed(&self, at: At) -> Fault {
        self.fault(FaultKind::Malformed, at, "a body of format 1", "another")
    }
}

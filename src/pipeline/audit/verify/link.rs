//! Where an entry may stand: the first one, and every other behind the one before it.

use super::super::chain::{ChainFields, ChainHead, GENESIS_PREV};
use super::super::entry::Kind;
use super::super::json::hex;
use super::super::merkle::{Hash, leaf_hash};
use super::{At, Fault, FaultKind, GenesisFacts, Start, Verifier, describe};

/// Entry `n` does not hash to what entry `n + 1` recorded: the next entry tells which was changed.
pub(super) struct Suspect {
    pub(super) earlier: Fault,
    later: Fault,
    /// When the next entry recorded this, the later entry is as it was written.
    later_leaf: Hash,
}

impl Verifier {
    /// Checks the first entry against what it must be.
    pub(super) fn begin(
        &mut self,
        start: Start,
        at: At,
        fields: &ChainFields,
        entry: &[u8],
    ) -> Result<(), Fault> {
        match start {
            Start::Genesis => {
                let found = match GenesisFacts::read(entry).map(|genesis| genesis.incarnation) {
                    Some(later) if later > 0 => format!("the genesis of chain {later}"),
                    _ if fields.kind == Kind::Genesis => return self.check_first(at, fields),
                    _ => fields.kind.code().to_owned(),
                };
                let expected = "the genesis of the partition's first chain";
                Err(self.fault(FaultKind::StartAbsent, at, expected, found))
            }
            Start::Head(head) => {
                let found = ChainHead { seq: fields.seq, leaf: leaf_hash(entry) };
                if found != head.head || fields.kind != Kind::Seal {
                    let expected = format!("the seal {}", describe(head.head));
                    let found = format!("{} {}", fields.kind.code(), describe(found));
                    return Err(self.fault(FaultKind::StartAbsent, at, expected, found));
                }
                self.open.is_whole = false;
                self.accept_signer(at, head.signer)
            }
            Start::Suffix(signers) => {
                self.candidates = signers;
                if fields.kind == Kind::Genesis {
                    return self.check_first(at, fields);
                }
                self.open.is_whole = false;
                Ok(())
            }
        }
    }

    /// Checks an entry's place in the chain; `false` when the next entry must decide whose fault it is.
    pub(super) fn link(
        &mut self,
        at: At,
        fields: &ChainFields,
        entry: &[u8],
    ) -> Result<bool, Fault> {
        let head = self.head.expect("the first entry went through begin");
        if self.ended {
            if fields.kind != Kind::Genesis {
                let found = fields.kind.code();
                return Err(self.fault(FaultKind::AfterEnd, at, "a genesis", found));
            }
            self.check_first(at, fields)?;
            return self.check_after(at, head, entry);
        }
        if fields.kind == Kind::Genesis {
            let named = GenesisFacts::read(entry).and_then(|genesis| genesis.after);
            let found = match named {
                None => format!("a genesis behind {}", describe(head)),
                Some(end) => format!(
                    "a genesis behind {} that names the end {}",
                    describe(head),
                    describe(end)
                ),
            };
            return Err(self.fault(FaultKind::UnexpectedGenesis, at, "another entry", found));
        }
        if fields.seq != head.seq + 1 {
            let (expected, found) = (head.seq + 1, fields.seq);
            let kind = FaultKind::WrongSeq;
            return Err(self.fault(kind, at, format!("seq {expected}"), format!("seq {found}")));
        }
        if fields.prev == head.leaf {
            return Ok(true);
        }
        self.suspect(at, head, fields, entry).map(|()| false)
    }

    /// Checks that a genesis names the end before it; `false` as in [`Self::link`].
    fn check_after(&mut self, at: At, end: ChainHead, entry: &[u8]) -> Result<bool, Fault> {
        let Some(genesis) = GenesisFacts::read(entry) else { return Err(self.malformed(at)) };
        if genesis.after == Some(end) {
            return Ok(true);
        }
        let named = genesis.after.map_or_else(|| "nothing".to_owned(), describe);
        let (kind, expected) = (FaultKind::WrongPrev, format!("a genesis after {}", describe(end)));
        let later = self.fault(kind, at, expected, &named);
        if genesis.after.is_none() {
            return Err(later);
        }
        let place = At { place: self.head_place, seq: Some(end.seq) };
        let earlier = self.fault(kind, place, format!("the end {named}"), describe(end));
        self.suspect = Some(Suspect { earlier, later, later_leaf: leaf_hash(entry) });
        Ok(false)
    }

    /// Entry `head` does not hash to what `entry` recorded. Signatures settle whose fault it is at
    /// once; where there is none, the next entry does.
    fn suspect(
        &mut self,
        at: At,
        head: ChainHead,
        fields: &ChainFields,
        entry: &[u8],
    ) -> Result<(), Fault> {
        let (leaf, prev) = (hex(&head.leaf), hex(&fields.prev));
        let place = At { place: self.head_place, seq: Some(head.seq) };
        let kind = FaultKind::WrongPrev;
        let earlier = self.fault(kind, place, format!("leaf {prev}"), format!("leaf {leaf}"));
        let later = self.fault(kind, at, format!("prev {leaf}"), format!("prev {prev}"));
        if self.head_kind == Kind::Seal {
            return Err(later);
        }
        if fields.kind == Kind::Seal {
            return Err(if self.signature_verifies(entry) { earlier } else { later });
        }
        self.suspect = Some(Suspect { earlier, later, later_leaf: leaf_hash(entry) });
        Ok(())
    }

    /// A genesis stands at seq 0 with no predecessor.
    fn check_first(&self, at: At, fields: &ChainFields) -> Result<(), Fault> {
        if fields.seq != 0 {
            let found = format!("seq {}", fields.seq);
            return Err(self.fault(FaultKind::WrongSeq, at, "a genesis at seq 0", found));
        }
        if fields.prev != GENESIS_PREV {
            let found = format!("prev {}", hex(&fields.prev));
            return Err(self.fault(FaultKind::WrongPrev, at, "a genesis with prev zero", found));
        }
        Ok(())
    }
}

impl Suspect {
    pub(super) fn resolve(self, next: &[u8]) -> Fault {
        let recorded = ChainFields::read(next).map(|fields| fields.prev);
        if recorded == Ok(self.later_leaf) { self.earlier } else { self.later }
    }
}

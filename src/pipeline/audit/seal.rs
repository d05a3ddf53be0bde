//! Seals: the last entry of each transaction that read from a partition. A seal says which source
//! offsets were read, what became of them, and binds every record by a Merkle root; it is signed.

use std::ops::Range;
use std::sync::Arc;

use super::super::limits::{AUDIT_INSTANCE_BYTES_MAX, AUDIT_SEAL_RECORDS_MAX};
use super::super::record::Timestamp;
use super::chain::{Chain, ChainHead, Origin};
use super::commitment::{Commitment, ShortCommitment};
use super::entry::{Body, Gap, Genesis, Kind, ShortPolicyHash};
use super::json::{push_base64, push_number, push_unsigned};
use super::keys::{InstanceKey, Signature};
use super::merkle::{CompactRange, Hash, leaf_hash};

/// Bytes from the comma before `sig` to the end of a seal: `,"sig":"` + 86 + `"}`.
pub(super) const SIGNATURE_FIELD_BYTES: usize = 96;

/// What became of a source record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It went to the redacted topic.
    Forwarded,
    /// It went to the dead letters (a masked stub went on).
    DeadLettered,
    /// It was a command to blotter.
    Command,
}

/// How many records met which fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fates {
    /// Forwarded.
    pub forwarded: u64,
    /// Dead-lettered.
    pub dead_lettered: u64,
    /// Commands.
    pub commands: u64,
}

impl Fates {
    /// All records read.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.forwarded.saturating_add(self.dead_lettered).saturating_add(self.commands)
    }
}

/// The name of a running instance in seals: at most [`AUDIT_INSTANCE_BYTES_MAX`] of
/// `A-Z a-z 0-9 . _ -`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceName(Arc<str>);

impl InstanceName {
    /// Other characters become `-`; of a long name its end is kept (what tells pods apart).
    #[must_use]
    pub fn new(text: &str) -> Self {
        let clean = |c: char| {
            let allowed = c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if allowed { c } else { '-' }
        };
        let text: String = text.chars().map(clean).collect();
        let start = text.len().saturating_sub(AUDIT_INSTANCE_BYTES_MAX);
        Self(Arc::from(text.get(start..).expect("only ASCII is left")))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who seals, and under which policy.
#[derive(Clone, Copy, Debug)]
pub struct Sealer<'a> {
    /// The instance's key.
    pub key: &'a InstanceKey,
    /// The instance's name.
    pub instance: &'a InstanceName,
    /// The policy in force.
    pub policy: ShortPolicyHash,
}

/// Where a ledger stands behind its last seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedPosition {
    /// Source offset up to which everything is sealed (exclusive).
    pub to: i64,
    /// Commitment to the record at `to - 1`, when a record stood there.
    pub last: Option<ShortCommitment>,
}

/// One partition's chain together with what its next seal will say. A clone taken before a
/// transaction is the state to go back to when the transaction fails.
#[derive(Clone, Debug)]
pub struct Ledger {
    chain: Chain,
    from: i64,
    last: Option<(i64, ShortCommitment)>,
    tree: CompactRange,
    fates: Fates,
    actions: u64,
    redactions: u64,
    is_sealed: bool,
}

impl Ledger {
    /// A chain not yet begun that will read its source from `position`.
    #[must_use]
    pub fn begin(origin: Origin, position: i64) -> Self {
        Self::resume(origin, None, SealedPosition { to: position, last: None })
    }

    /// The chain `origin` behind `head` (a seal's leaf), which covers the source up to `sealed`.
    #[must_use]
    pub fn resume(origin: Origin, head: Option<ChainHead>, sealed: SealedPosition) -> Self {
        Self {
            chain: Chain::new(origin, head),
            from: sealed.to,
            last: sealed.last.map(|last| (sealed.to.saturating_sub(1), last)),
            tree: CompactRange::default(),
            fates: Fates::default(),
            actions: 0,
            redactions: 0,
            is_sealed: head.is_some(),
        }
    }

    /// The chain's name.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        self.chain.origin()
    }

    /// The newest entry.
    #[must_use]
    pub fn head(&self) -> Option<ChainHead> {
        self.chain.head()
    }

    /// Where the next seal's range begins.
    #[must_use]
    pub fn position(&self) -> i64 {
        self.from
    }

    /// Whether nothing came since the last seal: then only a heartbeat may be due.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.is_sealed
    }

    /// Whether another record would make the next seal too long.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.tree.size() >= u64::from(AUDIT_SEAL_RECORDS_MAX)
    }

    /// Counts one source record that was read; every one is, in offset order, whatever its fate.
    pub fn record(&mut self, offset: i64, fate: Fate, commitment: &Commitment) {
        self.is_sealed = false;
        self.tree.push(leaf_hash(commitment.as_bytes()));
        self.last = Some((offset, commitment.short()));
        match fate {
            Fate::Forwarded => self.fates.forwarded += 1,
            Fate::DeadLettered => self.fates.dead_lettered += 1,
            Fate::Command => self.fates.commands += 1,
        }
    }

    /// Appends an entry that moves no position: action, redaction, recovery, rotate, policy, shred,
    /// end. Tells where it lies in `out`.
    pub fn append(&mut self, body: &impl Body, out: &mut Vec<u8>) -> Range<usize> {
        match body.kind() {
            Kind::Action => self.actions += 1,
            Kind::Redaction => self.redactions += 1,
            _ => {}
        }
        self.is_sealed = false;
        self.chain.append(body, out)
    }

    /// Appends the genesis; reading starts at the offset it names.
    pub fn append_genesis(&mut self, genesis: &Genesis<'_>, out: &mut Vec<u8>) -> Range<usize> {
        self.skip_to(genesis.offset);
        self.is_sealed = false;
        self.chain.append(genesis, out)
    }

    /// Appends a gap; the next seal begins behind it. A gap stands at the beginning of a
    /// transaction, before any record.
    pub fn append_gap(&mut self, gap: &Gap, out: &mut Vec<u8>) -> Range<usize> {
        self.skip_to(gap.to);
        self.is_sealed = false;
        self.chain.append(gap, out)
    }

    /// Appends the seal over everything since the last one, up to the consumer position `to`
    /// (exclusive; equal to [`Self::position`] for a heartbeat), and starts the next range.
    pub fn seal(
        &mut self,
        to: i64,
        at: Timestamp,
        sealer: &Sealer<'_>,
        out: &mut Vec<u8>,
    ) -> Range<usize> {
        let start = self.chain.begin(Kind::Seal, out);
        self.write_seal(to, at, sealer, out);
        let origin = self.chain.origin().as_str();
        let unsigned = out.get(start..).expect("begin gave the start");
        let signature = sealer.key.sign_seal(origin, unsigned);
        push_signature(out, &signature);
        let range = self.chain.finish(start, out);
        let last = self.sealed(to).last;
        self.skip_to(to);
        self.last = last.map(|last| (to.saturating_sub(1), last));
        self.is_sealed = true;
        range
    }

    /// What [`Self::resume`] needs besides the head, were the chain sealed at `to` now.
    #[must_use]
    pub fn sealed(&self, to: i64) -> SealedPosition {
        let last = self.last.filter(|(offset, _)| offset.saturating_add(1) == to);
        SealedPosition { to, last: last.map(|(_, commitment)| commitment) }
    }

    fn skip_to(&mut self, position: i64) {
        self.from = position;
        self.last = None;
        self.tree.clear();
        self.fates = Fates::default();
        (self.actions, self.redactions) = (0, 0);
    }

    fn write_seal(&self, to: i64, at: Timestamp, sealer: &Sealer<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"from\":");
        push_number(out, self.from);
        out.extend_from_slice(b",\"to\":");
        push_number(out, to);
        out.extend_from_slice(b",\"fates\":[");
        push_unsigned(out, self.fates.forwarded);
        out.push(b',');
        push_unsigned(out, self.fates.dead_lettered);
        out.push(b',');
        push_unsigned(out, self.fates.commands);
        out.extend_from_slice(b"],\"entries\":[");
        push_unsigned(out, self.actions);
        out.push(b',');
        push_unsigned(out, self.redactions);
        out.extend_from_slice(b"],\"root\":\"");
        push_base64(out, &self.tree.root());
        out.extend_from_slice(b"\",\"last\":\"");
        if let Some(last) = self.sealed(to).last {
            push_base64(out, &last.0);
        }
        out.extend_from_slice(b"\",\"policy\":\"");
        sealer.policy.push(out);
        out.extend_from_slice(b"\",\"at\":");
        push_number(out, at.millis());
        out.extend_from_slice(b",\"inst\":\"");
        out.extend_from_slice(sealer.instance.as_str().as_bytes());
        out.extend_from_slice(b"\",\"key\":\"");
        out.extend_from_slice(sealer.key.id().to_string().as_bytes());
        out.push(b'"');
    }
}

/// The root a seal must hold for records with these commitments, in offset order.
#[must_use]
pub fn seal_root<'a>(commitments: impl IntoIterator<Item = &'a Commitment>) -> Hash {
    super::merkle::root_of(commitments.into_iter().map(|one| leaf_hash(one.as_bytes())))
}

fn push_signature(out: &mut Vec<u8>, signature: &Signature) {
    out.extend_from_slice(b",\"sig\":\"");
    push_base64(out, signature);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::super::super::limits::AUDIT_SEAL_BYTES_MAX;
    use super::super::testing::{Scene, commitment};
    use super::*;

    #[test]
    fn the_longest_seal_fits() {
        let scene = Scene::new();
        let mut ledger = Ledger::begin(scene.origin(0), i64::MAX - 10_000_000);
        ledger.record(i64::MAX - 1, Fate::Forwarded, &commitment(1));
        let most = u64::from(AUDIT_SEAL_RECORDS_MAX);
        ledger.fates = Fates { forwarded: most, dead_lettered: most, commands: most };
        (ledger.actions, ledger.redactions) = (most, most);
        let instance = InstanceName::new(&"i".repeat(99));
        let sealer = Sealer { instance: &instance, ..scene.sealer() };
        let mut out = Vec::new();
        let year_9999 = Timestamp::from_millis(253_402_300_799_999);
        ledger.seal(i64::MAX, year_9999, &sealer, &mut out);
        assert!(out.len() <= AUDIT_SEAL_BYTES_MAX, "{} bytes", out.len());
        assert!(out.len() > AUDIT_SEAL_BYTES_MAX - 16, "the test builds the longest one");
        let signature = out.len() - SIGNATURE_FIELD_BYTES;
        assert!(out[signature..].starts_with(b",\"sig\":\""));
    }

    #[test]
    fn a_heartbeat_keeps_the_last_commitment() {
        let scene = Scene::new();
        let mut ledger = Ledger::begin(scene.origin(0), 5);
        let mut out = Vec::new();
        ledger.record(5, Fate::Forwarded, &commitment(5));
        ledger.seal(6, Timestamp::EPOCH, &scene.sealer(), &mut out);
        let sealed = ledger.sealed(6);
        assert_eq!(sealed.last, Some(commitment(5).short()));
        ledger.seal(6, Timestamp::EPOCH, &scene.sealer(), &mut out);
        assert_eq!(ledger.sealed(6), sealed);
        assert!(ledger.is_sealed());
        let resumed = Ledger::resume(scene.origin(0), ledger.head(), sealed);
        assert_eq!(resumed.sealed(6), sealed);
        ledger.seal(9, Timestamp::EPOCH, &scene.sealer(), &mut out);
        assert_eq!(ledger.sealed(9), SealedPosition { to: 9, last: None });
    }

    #[test]
    fn instance_names_are_cleaned() {
        assert_eq!(InstanceName::new("pod/ü\"1").as_str(), "pod---1");
        assert_eq!(InstanceName::new("").as_str(), "");
    }
}

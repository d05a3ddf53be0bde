//! The verifier: takes the stored entries of one audit partition in order and names the first
//! fault. Used by restore, by `audit verify` and by the tests; it never skips what it doesn't know.
//!
//! What it can't see alone: a valid older copy of the whole chain (rollback), entries cut off at a
//! seal, and what the holder of the current signing key rewrote. Those need the committed offset's
//! metadata or a checkpoint kept elsewhere.

mod body;
mod fault;
mod link;
mod wire;

use super::super::limits::AUDIT_ENTRY_BYTES_MAX;
use super::super::record::TopicPartition;
use super::chain::{ChainFields, ChainFieldsError, ChainHead, Deployment, Origin};
use super::commitment::Commitment;
use super::entry::{Kind, ShortPolicyHash, source_prefix};
use super::json::hex;
use super::keys::{Certificate, KeyringId, PublicKey};
use super::merkle::leaf_hash;
use super::metadata::HeadRef;
use super::seal::{Fates, SealedPosition, seal_root};

pub use fault::{Fault, FaultKind};
use link::Suspect;
use wire::{GenesisWire, Seal};

/// Whose chain is verified, against which root of trust.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The deployment.
    pub deployment: Deployment,
    /// The source partition.
    pub source: TopicPartition,
    /// The deployment's public key.
    pub deployment_key: PublicKey,
}

/// With what the first entry must agree.
#[derive(Clone, Debug)]
pub enum Start {
    /// It is the genesis of the first incarnation.
    Genesis,
    /// It is this seal (of a committed offset's metadata, or of an earlier verification).
    Head(HeadRef),
    /// The beginning is gone: the first entry is believed as it stands, whichever of the partition's
    /// chains it is of. Where it is no genesis, the holder of one of these certificates must have
    /// signed the first seal.
    Suffix(Vec<Certificate>),
}

/// What was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries of each kind, in the order of [`Kind::ALL`].
    pub entries: [u64; Kind::ALL.len()],
    /// Seals over no record.
    pub heartbeats: u64,
    /// Source records sealed, by fate.
    pub fates: Fates,
    /// Source offsets in gaps.
    pub gap_offsets: u64,
    /// Source offsets sealed twice: a chain was restarted below the end of the one before.
    pub overlap_offsets: u64,
    /// First source offset covered.
    pub from: Option<i64>,
    /// End of the covered source offsets, exclusive.
    pub to: Option<i64>,
    /// Writer's clock in the first and last seal, milliseconds since the Unix epoch.
    pub sealed_at: Option<(i64, i64)>,
    /// Seals whose writer's clock stood before that of the seal before (clocks of two hosts).
    pub clock_steps_back: u64,
    /// Whether the verified entries begin at the genesis of the partition's first chain.
    pub from_genesis: bool,
}

impl Report {
    /// Entries of one kind.
    #[must_use]
    pub fn entries_of(&self, kind: Kind) -> u64 {
        self.entries.get(index(kind)).copied().unwrap_or_default()
    }

    /// All entries.
    #[must_use]
    pub fn entries_total(&self) -> u64 {
        self.entries.iter().sum()
    }
}

/// What the newest seal told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealFacts {
    /// The seal itself and where it is stored.
    pub head: HeadRef,
    /// Source position and commitment of the record before it.
    pub sealed: SealedPosition,
    /// The policy in force.
    pub policy: ShortPolicyHash,
}

/// What a genesis tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenesisFacts {
    /// Which of the partition's chains it begins.
    pub incarnation: u32,
    /// Source offset at which reading starts.
    pub offset: i64,
    /// The `end` of the chain before: its writer had read that chain whole.
    pub after: Option<ChainHead>,
    /// The keyring of the chain.
    pub keyring: KeyringId,
    /// Partitions of the source topic when it was first read.
    pub partitions: i32,
}

impl GenesisFacts {
    /// Of a stored entry; `None` when it is no genesis.
    #[must_use]
    pub fn read(entry: &[u8]) -> Option<Self> {
        let fields = ChainFields::read(entry).ok()?;
        if fields.kind == Kind::Genesis { GenesisWire::read(entry)?.facts() } else { None }
    }
}

/// Verifies one audit partition, entry by entry.
pub struct Verifier {
    trust: Trust,
    start: Option<Start>,
    origin: Origin,
    /// Whether the incarnation is known: in a suffix the first seal or genesis tells it.
    origin_is_known: bool,
    source: Vec<u8>,
    head: Option<ChainHead>,
    head_kind: Kind,
    head_place: i64,
    ended: bool,
    position: Option<i64>,
    signer: Option<Certificate>,
    candidates: Vec<Certificate>,
    policy: Option<ShortPolicyHash>,
    open: Open,
    newest_seal: Option<SealFacts>,
    newest_genesis: Option<GenesisFacts>,
    suspect: Option<Suspect>,
    report: Report,
}

/// What came since the last seal.
struct Open {
    /// Seen from the beginning of its transaction on.
    is_whole: bool,
    entries: u64,
    actions: u64,
    redactions: u64,
    /// First and last source offset named.
    sources: Option<(i64, i64)>,
    /// A genesis or gap moved the position.
    moved: bool,
}

impl Default for Open {
    fn default() -> Self {
        Self { is_whole: true, entries: 0, actions: 0, redactions: 0, sources: None, moved: false }
    }
}

impl Verifier {
    /// A verifier that has seen nothing.
    #[must_use]
    pub fn new(trust: Trust, start: Start) -> Self {
        let incarnation = match &start {
            Start::Head(head) => head.incarnation,
            Start::Genesis | Start::Suffix(_) => 0,
        };
        Self {
            origin: Origin::new(&trust.deployment, &trust.source, incarnation),
            origin_is_known: !matches!(start, Start::Suffix(_)),
            source: source_prefix(&trust.source),
            trust,
            start: Some(start),
            head: None,
            head_kind: Kind::Genesis,
            head_place: 0,
            ended: false,
            position: None,
            signer: None,
            candidates: Vec::new(),
            policy: None,
            open: Open::default(),
            newest_seal: None,
            newest_genesis: None,
            suspect: None,
            report: Report::default(),
        }
    }

    /// Takes the next entry, stored at `place` (audit offset or line).
    ///
    /// # Errors
    /// The first fault; the verifier must not be used after it.
    pub fn push(&mut self, place: i64, entry: &[u8]) -> Result<(), Fault> {
        if let Some(suspect) = self.suspect.take() {
            return Err(suspect.resolve(entry));
        }
        let fields = self.read_fields(place, entry)?;
        let seq = self.expected_seq().unwrap_or(fields.seq);
        let at = At { place, seq: Some(seq) };
        if let Some(start) = self.start.take() {
            self.begin(start, at, &fields, entry)?;
        } else if !self.link(at, &fields, entry)? {
            return Ok(());
        }
        let head = ChainHead { seq: fields.seq, leaf: leaf_hash(entry) };
        self.open.entries += 1;
        self.check_body(at, fields.kind, head, entry)?;
        self.report.entries[index(fields.kind)] += 1;
        self.head = Some(head);
        (self.head_kind, self.head_place) = (fields.kind, place);
        Ok(())
    }

    /// The verdict: what was verified.
    ///
    /// # Errors
    /// A fault that only the end shows: nothing at all, or entries that no seal covers.
    pub fn finish(mut self) -> Result<Report, Fault> {
        if let Some(suspect) = self.suspect.take() {
            return Err(suspect.earlier);
        }
        let end = At { place: self.head_place, seq: self.head.map(|head| head.seq) };
        if self.head.is_none() {
            let fault = self.fault(FaultKind::Empty, end, "entries", "none");
            return Err(Fault { place: None, ..fault });
        }
        if self.open.entries > 0 {
            let found = format!("{} entries behind the last seal", self.open.entries);
            return Err(self.fault(FaultKind::Unsealed, end, "a seal at the end", found));
        }
        Ok(self.report)
    }

    /// What was verified so far.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The newest seal: verification can go on from it later with [`Start::Head`].
    #[must_use]
    pub fn newest_seal(&self) -> Option<&SealFacts> {
        self.newest_seal.as_ref()
    }

    /// The newest genesis, if one was seen.
    #[must_use]
    pub fn newest_genesis(&self) -> Option<&GenesisFacts> {
        self.newest_genesis.as_ref()
    }

    /// Which of the partition's chains the newest entry belongs to.
    #[must_use]
    pub fn incarnation(&self) -> u32 {
        self.origin.incarnation()
    }

    /// Source offset up to which seals and gaps were seen (exclusive), once one told.
    #[must_use]
    pub fn position(&self) -> Option<i64> {
        self.position
    }

    /// The newest entry, sealed or not.
    #[must_use]
    pub fn head(&self) -> Option<ChainHead> {
        self.head
    }

    /// The number of the next entry, once there was one.
    fn expected_seq(&self) -> Option<u64> {
        self.head.map(|head| if self.ended { 0 } else { head.seq + 1 })
    }

    fn read_fields(&self, place: i64, entry: &[u8]) -> Result<ChainFields, Fault> {
        let at = At { place, seq: self.expected_seq() };
        if entry.len() > AUDIT_ENTRY_BYTES_MAX {
            let limit = format!("at most {AUDIT_ENTRY_BYTES_MAX} bytes");
            return Err(self.fault(FaultKind::TooLong, at, limit, entry.len().to_string()));
        }
        if let Err(error) = std::str::from_utf8(entry) {
            let found = format!("another byte at {}", error.valid_up_to());
            return Err(self.fault(FaultKind::NotUtf8, at, "UTF-8", found));
        }
        ChainFields::read(entry).map_err(|error| {
            let kind = match error {
                ChainFieldsError::Malformed => FaultKind::Malformed,
                ChainFieldsError::UnknownVersion => FaultKind::UnknownVersion,
                ChainFieldsError::UnknownKind => FaultKind::UnknownKind,
            };
            self.fault(kind, at, "chain fields of format 1", error.to_string())
        })
    }

    fn accept_signer(&mut self, at: At, signer: Certificate) -> Result<(), Fault> {
        if !signer.is_valid(&self.trust.deployment_key, self.trust.deployment.as_str()) {
            let found = format!("key {} without one", signer.key.id());
            let expected = "a certificate by the deployment key";
            return Err(self.fault(FaultKind::WrongCertificate, at, expected, found));
        }
        self.signer = Some(signer);
        Ok(())
    }

    fn fault(
        &self,
        kind: FaultKind,
        at: At,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Fault {
        Fault {
            kind,
            origin: self.origin.as_str().to_owned(),
            seq: at.seq,
            place: Some(at.place),
            expected: expected.into(),
            found: found.into(),
        }
    }
}

#[derive(Clone, Copy)]
struct At {
    place: i64,
    seq: Option<u64>,
}

/// Checks a seal's Merkle root against commitments computed anew from the source's records.
///
/// # Errors
/// [`FaultKind::Malformed`] or [`FaultKind::WrongRoot`].
pub fn check_seal_root<'a>(
    entry: &[u8],
    commitments: impl IntoIterator<Item = &'a Commitment>,
) -> Result<(), FaultKind> {
    let seal = Seal::read(entry).ok_or(FaultKind::Malformed)?;
    if seal.root == seal_root(commitments) { Ok(()) } else { Err(FaultKind::WrongRoot) }
}

fn describe(head: ChainHead) -> String {
    format!("seq {} {}", head.seq, hex(&head.leaf))
}

fn index(kind: Kind) -> usize {
    Kind::ALL.iter().position(|one| *one == kind).expect("ALL holds every kind")
}

#[cfg(test)]
mod tests;

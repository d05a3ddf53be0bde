//! How a partition's restore can end.

use super::super::super::record::{Timestamp, TopicPartition};
use super::super::chain::{ChainHead, Origin};
use super::super::entry::{End, Gap, Genesis, Recovery, Rotate, ShortPolicyHash, StartKind};
use super::super::keys::{KeyId, KeyringId};
use super::super::metadata::HeadRef;
use super::super::seal::{Ledger, SealedPosition, Sealer};
use super::super::verify::Fault;

/// Where a partition that was never read starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartPosition {
    /// At the oldest record kept.
    Earliest,
    /// At the end.
    Latest,
    /// At the first record from this time on.
    Time(Timestamp),
}

/// Where an operator has a partition restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartFrom {
    /// Source offset to read from.
    pub offset: i64,
    /// Whether records below the end of what is redacted may be redacted once more.
    pub again: bool,
}

/// What an operator allowed for this partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Permission {
    /// Nothing beyond the ordinary.
    #[default]
    None,
    /// An offset that a tool set is taken over (forward only).
    Adopt,
    /// Where the restore would stop (unless the keyring is another one), a new incarnation of the
    /// chain starts; a partition that can go on is left alone. Holds for one stop: whoever passes
    /// it on takes it back behind the partition's first transaction.
    Restart {
        /// Where.
        from: RestartFrom,
        /// Why, in the operator's (redacted) words.
        reason: String,
    },
}

/// Why a partition stops. An operator decides; its neighbours go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopKind {
    /// The chain is broken from its head on.
    ChainBroken,
    /// The head that the committed offset names is not in the audit topic.
    HeadAbsent,
    /// Committed entries follow the head, or stand where no chain was begun.
    EntriesAfterHead,
    /// The committed offset has no metadata: a tool set it.
    OffsetWithoutMetadata,
    /// The metadata is of another version or malformed.
    MetadataUnreadable,
    /// The offset was committed under another keyring. The process exits with 78.
    OtherKeyring,
    /// The committed offset is not where the last seal ends.
    OffsetDiffers,
    /// The source ends before what was already read: it was truncated or re-created.
    SourceShorter,
    /// The last sealed record is another one now: the source was re-created.
    SourceReplaced,
    /// The redacted topic's last record doesn't name its source.
    RedactedUnreadable,
}

impl StopKind {
    /// A bounded word for labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChainBroken => "chain_broken",
            Self::HeadAbsent => "head_absent",
            Self::EntriesAfterHead => "entries_after_head",
            Self::OffsetWithoutMetadata => "offset_without_metadata",
            Self::MetadataUnreadable => "metadata_unreadable",
            Self::OtherKeyring => "other_keyring",
            Self::OffsetDiffers => "offset_differs",
            Self::SourceShorter => "source_shorter",
            Self::SourceReplaced => "source_replaced",
            Self::RedactedUnreadable => "redacted_unreadable",
        }
    }

    /// Whether the chain was read to its end with nothing wrong in it.
    pub(super) const fn leaves_chain_whole(self) -> bool {
        matches!(
            self,
            Self::OffsetWithoutMetadata
                | Self::MetadataUnreadable
                | Self::OffsetDiffers
                | Self::SourceShorter
                | Self::SourceReplaced
                | Self::RedactedUnreadable
        )
    }

    /// The command that lets the partition go on, for `source`: what to add to the usual one.
    /// `written`: source offset up to which records are redacted; `low`: the source's first one.
    pub(super) fn command(
        self,
        source: &TopicPartition,
        written: Option<i64>,
        low: Option<i64>,
    ) -> String {
        let restart = |place: String| format!("blotter run --set audit.restart={source}@{place}");
        match self {
            Self::OtherKeyring => {
                "run with the keyring that the partition was begun with".to_owned()
            }
            Self::OffsetWithoutMetadata | Self::MetadataUnreadable => {
                format!("blotter run --set audit.adopt={source}")
            }
            // The offsets of the new source are other records than those that were redacted.
            Self::SourceShorter | Self::SourceReplaced => {
                restart(low.map_or_else(|| "OFFSET:again".to_owned(), |low| format!("{low}:again")))
            }
            _ => restart(written.map_or_else(|| "OFFSET".to_owned(), |offset| offset.to_string())),
        }
    }
}

/// A stop with what was found. Always of the highest severity (SEV-1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreStop {
    /// Why.
    pub kind: StopKind,
    /// One sentence with the place and what was found; no record content.
    pub detail: String,
    /// The repair command.
    pub command: String,
    /// The fault, when the chain is broken.
    pub fault: Option<Box<Fault>>,
}

/// Something an operator must know although the partition goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreAlert {
    /// Severity, 1 (worst) to 3.
    pub severity: u8,
    /// A bounded word for labels.
    pub name: &'static str,
    /// One sentence; no record content.
    pub detail: String,
}

/// An entry that the first transaction after a restore begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PendingEntry {
    /// Closes the chain that was found; the next entry is the next incarnation's genesis.
    End {
        /// The operator's words.
        reason: String,
    },
    /// Begins a chain.
    Genesis {
        /// Why reading starts where it does.
        start: StartKind,
        /// Where.
        offset: i64,
    },
    /// Offsets that no seal covers.
    Gap(Gap),
    /// The position was found again.
    Recovery(Recovery),
    /// This instance's key signs from here on.
    Rotate,
}

/// The chain to go on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredChain {
    /// The chain's name.
    pub origin: Origin,
    /// Its last entry (a seal); `None` when a genesis is pending.
    pub head: Option<ChainHead>,
    /// What the last seal covers.
    pub sealed: SealedPosition,
    /// The policy that the last seal names: when another is in force, a policy entry is due.
    pub policy: Option<ShortPolicyHash>,
    /// What the first transaction begins with, in this order.
    pub pending: Vec<PendingEntry>,
}

/// The audit of a restored partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoredAudit {
    /// On.
    On(Box<RestoredChain>),
    /// Off; the head of the last transaction that was audited goes on in the metadata.
    Off(Option<HeadRef>),
}

/// A partition ready to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Source offset to read from.
    pub position: i64,
    /// Transactions committed for the partition so far.
    pub transactions: u64,
    /// Partitions of the topic when it was first read, for the metadata.
    pub partitions: i32,
    /// The key that the last record was committed to with, when the metadata tell.
    pub commitment_key: Option<KeyId>,
    /// The audit's state.
    pub audit: RestoredAudit,
    /// What an operator must know.
    pub alerts: Vec<RestoreAlert>,
}

impl RestoredChain {
    /// The ledger to write with, behind the pending entries, each of which goes to `emit`. The
    /// transaction that takes them ends in a seal like every other.
    pub fn open(
        &self,
        sealer: &Sealer<'_>,
        keyring: KeyringId,
        partitions: i32,
        mut emit: impl FnMut(&[u8]),
    ) -> Ledger {
        let mut ledger = Ledger::resume(self.origin.clone(), self.head, self.sealed);
        let mut ended = None;
        let mut out = Vec::new();
        for entry in &self.pending {
            out.clear();
            let range = match entry {
                PendingEntry::End { reason } => {
                    let range = ledger.append(&End { reason }, &mut out);
                    ended = ledger.head();
                    ledger = Ledger::begin(self.origin.next_incarnation(), self.sealed.to);
                    range
                }
                PendingEntry::Genesis { start, offset } => {
                    let origin = ledger.origin().clone();
                    let genesis = Genesis {
                        origin: origin.as_str(),
                        start: *start,
                        offset: *offset,
                        partitions,
                        keyring,
                        signer: sealer.key.certificate(),
                        policy: sealer.policy,
                        after: ended,
                    };
                    ledger.append_genesis(&genesis, &mut out)
                }
                PendingEntry::Gap(gap) => ledger.append_gap(gap, &mut out),
                PendingEntry::Recovery(recovery) => ledger.append(recovery, &mut out),
                PendingEntry::Rotate => {
                    ledger.append(&Rotate { signer: sealer.key.certificate() }, &mut out)
                }
            };
            emit(out.get(range).expect("the ledger tells where the entry lies"));
        }
        ledger
    }
}

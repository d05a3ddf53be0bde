//! The audit trail: per source partition one chain of entries, sealed and signed once per
//! transaction. The same code writes it, restores it and verifies it. Bytes: see FORMAT.md.
//!
//! Writing (hot path): [`Ledger`] appends bodies ([`Action`], [`Redaction`] ...) and seals.
//! Owning a partition: [`Restore`] asks what it must know and says how to go on.
//! Checking: [`Verifier`] takes stored entries in order and names the first fault.

mod chain;
mod commitment;
mod entry;
mod json;
mod keys;
mod merkle;
mod metadata;
mod restore;
mod seal;
#[cfg(test)]
mod testing;
mod verify;

pub use chain::{
    CHAIN_FIELDS_BYTES, Chain, ChainFields, ChainFieldsError, ChainHead, Deployment, GENESIS_PREV,
    Origin,
};
pub use commitment::{Commitment, CommitmentKey, CommitmentKeys, ShortCommitment};
pub use entry::{
    Action, ActorFact, Assurance, Body, Count, Disposition, End, Gap, GapReason, Genesis, Kind,
    Policy, PolicyHash, PolicyTextError, Recovery, RecoveryReason, Redaction, Rotate,
    ShortPolicyHash, Shred, StartKind, TenantFact, source_prefix,
};
pub use keys::{Certificate, DeploymentKey, InstanceKey, KeyId, KeyringId, PublicKey, Signature};
pub use merkle::{CompactRange, Hash, leaf_hash, root_of};
pub use metadata::{AuditState, HeadRef, MetadataError, OffsetMetadata, StoredAt};
pub use restore::{
    Answer, Ask, PendingEntry, Permission, RestartFrom, Restore, RestoreAlert, RestoreContext,
    RestoreStop, Restored, RestoredAudit, RestoredChain, Role, StartPosition, Step, StopKind,
};
pub use seal::{Fate, Fates, InstanceName, Ledger, SealedPosition, Sealer, seal_root};
pub use verify::{
    Fault, FaultKind, GenesisFacts, Report, SealFacts, Start, Trust, Verifier, check_seal_root,
};

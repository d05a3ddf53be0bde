//! One partition as the brokers hold it, and a daemon that restores and writes it.

use std::cell::Cell;

use super::super::super::super::limits::AUDIT_RESTORE_READ_RECORDS_MAX;
use super::super::super::super::record::{Header, RecordBatch, SourceRecord, Timestamp};
use super::super::super::commitment::CommitmentKey;
use super::super::super::keys::KeyringId;
use super::super::super::metadata::{AuditState, HeadRef, OffsetMetadata, StoredAt};
use super::super::super::seal::{Fate, Ledger};
use super::super::super::testing::Scene;
use super::super::super::verify::{Report, Start, Trust, Verifier};
use super::super::{
    Answer, Ask, Permission, Restore, RestoreContext, Restored, RestoredAudit, Role, StartPosition,
    Step, StopKind,
};

pub(super) const KEYRING: KeyringId = KeyringId::from_bytes([7; 8]);
const SOURCE_START: i64 = 100;

/// One partition as the brokers hold it, and a daemon that writes to it.
pub(super) struct World {
    pub(super) scene: Scene,
    pub(super) commitment_key: CommitmentKey,
    /// Source offset and value.
    pub(super) source: Vec<(i64, String)>,
    pub(super) source_low: i64,
    pub(super) source_high: i64,
    /// Audit offset and entry.
    pub(super) audit: Vec<(i64, Vec<u8>)>,
    pub(super) audit_low: i64,
    pub(super) audit_high: i64,
    /// Redacted offset and the source offset it names.
    pub(super) redacted: Vec<(i64, Option<i64>)>,
    pub(super) committed: Option<i64>,
    pub(super) metadata: String,
    pub(super) context: RestoreContext,
    pub(super) open_transaction: Cell<bool>,
}

impl World {
    pub(super) fn new() -> Self {
        let scene = Scene::new();
        let commitment_key = CommitmentKey::from_bytes(&[5; 32]);
        let context = RestoreContext {
            trust: Trust {
                deployment: scene.deployment.clone(),
                source: scene.source.clone(),
                deployment_key: scene.deployment_key.public(),
            },
            audit: true,
            keyring: KEYRING,
            instance_key: scene.instance_key.id(),
            signers: vec![*scene.instance_key.certificate()],
            commitment_keys: commitment_key.clone().into(),
            start: StartPosition::Earliest,
            partitions: 6,
            permission: Permission::None,
            redacted_offset: |record| {
                let header = record.headers.iter().find(|header| header.name == "src")?;
                std::str::from_utf8(header.value?).ok()?.parse().ok()
            },
        };
        Self {
            scene,
            commitment_key,
            source: (SOURCE_START..SOURCE_START + 20).map(|o| (o, format!("v{o}"))).collect(),
            source_low: SOURCE_START,
            source_high: SOURCE_START + 20,
            audit: Vec::new(),
            audit_low: 0,
            audit_high: 0,
            redacted: Vec::new(),
            committed: None,
            metadata: String::new(),
            context,
            open_transaction: Cell::new(false),
        }
    }

    /// A world in which ten records were read in two transactions.
    pub(super) fn after_two_transactions() -> Self {
        let mut world = Self::new();
        world.transaction(105);
        world.transaction(110);
        world
    }

    /// Restores and commits one transaction up to the source offset `to`.
    pub(super) fn transaction(&mut self, to: i64) {
        let restored = self.ready();
        let mut entries = Vec::new();
        let audit = match &restored.audit {
            RestoredAudit::Off(last) => AuditState::Off(*last),
            RestoredAudit::On(chain) => {
                let sealer = self.scene.sealer();
                let partitions = restored.partitions;
                let mut ledger =
                    chain.open(&sealer, KEYRING, partitions, |entry| entries.push(entry.to_vec()));
                self.seal(&mut ledger, restored.position, to, &mut entries);
                AuditState::On(HeadRef {
                    incarnation: ledger.origin().incarnation(),
                    head: ledger.head().unwrap(),
                    stored: StoredAt::AtLeast(self.audit_high),
                    signer: *self.scene.instance_key.certificate(),
                })
            }
        };
        for entry in entries {
            self.audit.push((self.audit_high, entry));
            self.audit_high += 1;
        }
        // A transaction's marker takes an offset.
        self.audit_high += 1;
        for offset in restored.position..to {
            let at = self.redacted.last().map_or(0, |(at, _)| at + 2);
            self.redacted.push((at, Some(offset)));
        }
        self.committed = Some(to);
        let metadata = OffsetMetadata {
            transactions: restored.transactions + 1,
            partitions: restored.partitions,
            keyring: KEYRING,
            commitment_key: self.commitment_key.id(),
            audit,
        };
        self.metadata = metadata.encode();
    }

    fn seal(&self, ledger: &mut Ledger, from: i64, to: i64, entries: &mut Vec<Vec<u8>>) {
        for (offset, value) in &self.source {
            if (from..to).contains(offset) {
                let record = source_record(&self.scene, *offset, value);
                let raw = self.commitment_key.commit_raw(&record);
                ledger.record(*offset, Fate::Forwarded, &raw);
            }
        }
        let mut out = Vec::new();
        ledger.seal(to, Timestamp::EPOCH, &self.scene.sealer(), &mut out);
        entries.push(out);
    }

    pub(super) fn restore(&self) -> Step {
        let (mut restore, mut step) = Restore::begin(self.context.clone());
        for _ in 0..100 {
            let Step::Ask(ask) = step else { return step };
            step = restore.next(self.answer(ask));
        }
        panic!("the restore does not end");
    }

    pub(super) fn ready(&self) -> Restored {
        match self.restore() {
            Step::Ready(restored) => *restored,
            other => panic!("expected to be ready, got {other:?}"),
        }
    }

    pub(super) fn stopped(&self) -> StopKind {
        match self.restore() {
            Step::Stop(stop) => {
                assert!(!stop.detail.is_empty() && !stop.command.is_empty());
                stop.kind
            }
            other => panic!("expected a stop, got {other:?}"),
        }
    }

    pub(super) fn answer(&self, ask: Ask) -> Answer {
        match ask {
            Ask::Committed => {
                Answer::Committed { offset: self.committed, metadata: self.metadata.clone() }
            }
            Ask::OffsetAt(time) => Answer::OffsetAt(time.millis()),
            Ask::Range(role) => {
                let (low, high) = match role {
                    Role::Source => (self.source_low, self.source_high),
                    Role::Audit => (self.audit_low, self.audit_high),
                    Role::Redacted => (0, self.redacted.last().map_or(0, |(at, _)| at + 2)),
                };
                // An open transaction hides the end once, then it is decided.
                let lso = if self.open_transaction.replace(false) { low } else { high };
                Answer::Range { low, high, lso }
            }
            Ask::Read { role, from, to } => {
                assert!(to - from <= AUDIT_RESTORE_READ_RECORDS_MAX && from < to);
                // At most three offsets at a time.
                let next = to.min(from + 3);
                Answer::Records { batch: self.read(role, from, next), next }
            }
        }
    }

    pub(super) fn read(&self, role: Role, from: i64, to: i64) -> RecordBatch {
        let mut batch = RecordBatch::new(self.scene.source.clone());
        let range = from..to;
        match role {
            Role::Source => {
                for (offset, value) in &self.source {
                    if range.contains(offset) && *offset >= self.source_low {
                        let time = Timestamp::from_millis(*offset);
                        batch.push(*offset, time, None, Some(value.as_bytes()), []);
                    }
                }
            }
            Role::Audit => {
                for (offset, entry) in &self.audit {
                    if range.contains(offset) && *offset >= self.audit_low {
                        batch.push(*offset, Timestamp::EPOCH, None, Some(entry), []);
                    }
                }
            }
            Role::Redacted => {
                for (at, source) in &self.redacted {
                    if range.contains(at) {
                        let text = source.map(|source| source.to_string()).unwrap_or_default();
                        let header = Header { name: "src", value: Some(text.as_bytes()) };
                        batch.push(*at, Timestamp::EPOCH, None, None, [header]);
                    }
                }
            }
        }
        batch
    }

    /// Verifies everything in the audit partition from its first genesis on.
    pub(super) fn assert_chain_verifies(&self) -> Report {
        let mut verifier = Verifier::new(self.context.trust.clone(), Start::Genesis);
        for (offset, entry) in &self.audit {
            verifier.push(*offset, entry).unwrap();
        }
        verifier.finish().unwrap()
    }
}

fn source_record<'a>(scene: &'a Scene, offset: i64, value: &'a str) -> SourceRecord<'a> {
    SourceRecord {
        topic_partition: &scene.source,
        offset,
        timestamp: Timestamp::from_millis(offset),
        key: None,
        value: Some(value.as_bytes()),
        headers: &[],
    }
}

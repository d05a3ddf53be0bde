//! What SCRUB keeps of one source partition: its restore, its chain and what it has committed.

use std::sync::Arc;

use crate::pipeline::audit::{
    Answer, Ask, AuditState, Commitment, Fate, HeadRef, KeyId, Ledger, OffsetMetadata, Restore,
    RestoreAlert, RestoreStop, Restored, RestoredAudit, RestoredChain, Role, ShortPolicyHash, Step,
    StopKind, StoredAt,
};
use crate::pipeline::emit::Emitter;
use crate::pipeline::limits::NOT_TEXT_SAMPLE_RECORDS;
use crate::pipeline::record::{Timestamp, TopicPartition};
use crate::pipeline::step::{
    Lookup, LookupAnswer, OffsetCommit, Outputs, PartitionStop, RestoreStep,
};

use super::{AuditConfig, ScrubConfig};

/// One source partition.
pub(super) struct Partition {
    source: TopicPartition,
    phase: Phase,
    sample: TextSample,
}

/// The first records since the assignment: how many were no text.
#[derive(Default)]
struct TextSample {
    seen: u32,
    not_text: u32,
}

enum Phase {
    Restoring(Box<Restore>),
    Ready(Box<Ready>),
}

struct Ready {
    /// What the last committed transaction left.
    committed: State,
    /// What the open transaction would leave; `None` while it does not touch the partition.
    pending: Option<State>,
}

/// Position and chain. Cloning is cheap: between transactions the ledger holds no commitments.
#[derive(Clone)]
pub(super) struct State {
    /// Next source offset to read.
    pub(super) position: i64,
    /// The chain.
    pub(super) chain: Chain,
    /// When the last seal was written.
    pub(super) sealed_at: Option<Timestamp>,
    transactions: u64,
    partitions: i32,
    head: Option<HeadRef>,
    metadata: Arc<str>,
    is_sealed: bool,
    /// The open transaction names another policy than the chain did, which is not at hand to compare.
    pub(super) is_loosening_unknown: bool,
    /// The policy that the chain names as the one in force.
    policy: Option<ShortPolicyHash>,
    /// The key that the last record was committed to with.
    commitment_key: Option<KeyId>,
}

/// The chain of a partition, at its stages.
#[derive(Clone)]
pub(super) enum Chain {
    /// The audit is off; the head of the last audited transaction is carried along.
    Off,
    /// Restored; the first transaction begins with what is pending.
    Restored(Box<RestoredChain>),
    /// Being written.
    Open(Box<Ledger>),
}

/// What a restore's answer led to.
pub(super) struct Advance {
    /// The next step.
    pub(super) step: RestoreStep,
    /// What an operator must know.
    pub(super) alerts: Vec<RestoreAlert>,
}

impl Partition {
    /// Begins the restore of `source`.
    pub(super) fn restore(
        source: &TopicPartition,
        config: &ScrubConfig,
        emitter: &mut Emitter,
    ) -> (Self, RestoreStep) {
        let (restore, step) = Restore::begin(config.restore_context(source));
        let mut partition = Self {
            source: source.clone(),
            phase: Phase::Restoring(Box::new(restore)),
            sample: TextSample::default(),
        };
        let advance = partition.follow(step, emitter);
        (partition, advance.step)
    }

    /// Goes on with the restore.
    pub(super) fn answer(&mut self, answer: LookupAnswer, emitter: &mut Emitter) -> Advance {
        let Phase::Restoring(restore) = &mut self.phase else {
            let ready = self.ready().expect("a partition is restoring or ready");
            let step = RestoreStep::Ready { position: ready.committed.position };
            return Advance { step, alerts: Vec::new() };
        };
        let step = restore.next(match answer {
            LookupAnswer::Committed { offset, metadata } => Answer::Committed { offset, metadata },
            LookupAnswer::Range { low, high, lso } => Answer::Range { low, high, lso },
            LookupAnswer::Records { batch, next } => Answer::Records { batch, next },
            LookupAnswer::OffsetAt(offset) => Answer::OffsetAt(offset),
        });
        self.follow(step, emitter)
    }

    fn follow(&mut self, step: Step, emitter: &mut Emitter) -> Advance {
        let quiet = |step| Advance { step, alerts: Vec::new() };
        match step {
            Step::Ask(ask) => quiet(RestoreStep::Ask(self.lookup(ask, emitter))),
            Step::Stop(stop) => {
                let RestoreStop { kind, detail, command, .. } = *stop;
                let stop = PartitionStop { reason: kind.name(), detail, command };
                quiet(match kind {
                    StopKind::OtherKeyring => RestoreStep::Refuse(stop),
                    _ => RestoreStep::Stop(stop),
                })
            }
            Step::Ready(restored) => {
                let position = restored.position;
                let alerts = restored.alerts.clone();
                let committed = State::restored(*restored);
                self.phase = Phase::Ready(Box::new(Ready { committed, pending: None }));
                Advance { step: RestoreStep::Ready { position }, alerts }
            }
        }
    }

    fn lookup(&self, ask: Ask, emitter: &mut Emitter) -> Lookup {
        let mut of = |role| {
            let topic = match role {
                Role::Source => Arc::clone(&self.source.topic),
                Role::Audit => emitter.audit_topic(&self.source.topic),
                Role::Redacted => emitter.redacted_topic(&self.source.topic),
            };
            TopicPartition::new(topic, self.source.partition)
        };
        match ask {
            Ask::Committed => Lookup::Committed,
            Ask::Range(role) => Lookup::Range(of(role)),
            Ask::Read { role, from, to } => Lookup::Read { topic_partition: of(role), from, to },
            Ask::OffsetAt(time) => Lookup::OffsetAt { topic_partition: self.source.clone(), time },
        }
    }

    fn ready(&self) -> Option<&Ready> {
        match &self.phase {
            Phase::Ready(ready) => Some(ready),
            Phase::Restoring(_) => None,
        }
    }

    /// Whether the open transaction writes for it.
    pub(super) fn is_touched(&self) -> bool {
        self.ready().is_some_and(|ready| ready.pending.is_some())
    }

    /// Whether the next transaction begins with entries of its own: a restore's, or another policy.
    /// It is due at once.
    pub(super) fn has_news(&self, config: &ScrubConfig) -> bool {
        let Some(Ready { committed, pending: None }) = self.ready() else { return false };
        let policy = config.audit.as_ref().map(|audit| audit.policy.hash());
        let is_audited = !matches!(committed.chain, Chain::Off);
        committed.transactions_since_restore() == 0
            || is_audited && policy.is_some() && committed.policy != policy
    }

    /// The chain names other rules than those in force, and which are looser can't be told here.
    pub(super) fn other_policy(&self, config: &ScrubConfig) -> Option<RestoreAlert> {
        let policy = &config.audit.as_ref()?.policy;
        if policy.loosened(self.ready()?.committed.policy).is_some() {
            return None;
        }
        let detail = format!(
            "the chain names other redaction rules than those in force, which may let more pass: \
             `blotter audit verify --topic {}` compares its `policy` entries",
            self.source.topic
        );
        Some(RestoreAlert { severity: 2, name: "other_policy", detail })
    }

    /// When a heartbeat seal is due.
    pub(super) fn heartbeat_due(&self, heartbeat_ms: i64) -> Option<Timestamp> {
        let ready = self.ready()?;
        if matches!(ready.committed.chain, Chain::Off) {
            return None;
        }
        Some(ready.committed.sealed_at.map_or(Timestamp::EPOCH, |at| at.plus_millis(heartbeat_ms)))
    }

    /// The partition's state in the open transaction, which it joins with its pending entries if
    /// it has not yet. `None` while it is being restored.
    pub(super) fn join(
        &mut self,
        config: &ScrubConfig,
        emitter: &mut Emitter,
        outputs: &mut Outputs,
    ) -> Option<&mut State> {
        let Self { source, phase: Phase::Ready(ready), .. } = self else { return None };
        if ready.pending.is_none() {
            let mut state = ready.committed.clone();
            state.is_sealed = false;
            state.is_loosening_unknown = false;
            if let Some(audit) = &config.audit {
                state.open(audit, source, emitter, outputs);
            }
            ready.pending = Some(state);
        }
        ready.pending.as_mut()
    }

    /// The state in the open transaction, if it was joined.
    pub(super) fn pending(&mut self) -> Option<&mut State> {
        match &mut self.phase {
            Phase::Ready(ready) => ready.pending.as_mut(),
            Phase::Restoring(_) => None,
        }
    }

    /// The offset and metadata to commit, when the open transaction writes for the partition.
    /// `stored` is the audit offset of its seal, when the broker told it.
    pub(super) fn offset_commit(
        &mut self,
        config: &ScrubConfig,
        stored: Option<i64>,
    ) -> Option<OffsetCommit> {
        let source = self.source.clone();
        let state = self.pending()?;
        state.transactions += 1;
        state.advance_head(config, stored);
        let audit = match (&state.chain, state.head) {
            (Chain::Open(_), Some(head)) => AuditState::On(head),
            (_, head) => AuditState::Off(head),
        };
        let metadata = OffsetMetadata {
            transactions: state.transactions,
            partitions: state.partitions,
            keyring: config.keyring,
            commitment_key: state
                .commitment_key
                .unwrap_or_else(|| config.commitment_keys.newest().id()),
            audit,
        };
        state.metadata = Arc::from(metadata.encode());
        Some(OffsetCommit {
            topic_partition: source,
            offset: state.position,
            metadata: state.metadata.to_string(),
        })
    }

    /// Counts one record; `true` once, when over half of the first ones were no text.
    pub(super) fn sample_text(&mut self, is_text: bool) -> bool {
        if self.sample.seen >= NOT_TEXT_SAMPLE_RECORDS {
            return false;
        }
        self.sample.seen += 1;
        self.sample.not_text += u32::from(!is_text);
        self.sample.seen == NOT_TEXT_SAMPLE_RECORDS
            && self.sample.not_text * 2 > NOT_TEXT_SAMPLE_RECORDS
    }

    /// The open transaction stands.
    pub(super) fn committed(&mut self) -> Option<&State> {
        let Phase::Ready(ready) = &mut self.phase else { return None };
        ready.committed = ready.pending.take()?;
        Some(&ready.committed)
    }

    /// The open transaction's outcome is unknown: what it would have committed, and the state is
    /// forgotten until a restore tells.
    pub(super) fn suspend(&mut self) -> Option<OffsetCommit> {
        let source = self.source.clone();
        let state = self.pending()?;
        let metadata = state.metadata.to_string();
        let commit = OffsetCommit { topic_partition: source, offset: state.position, metadata };
        self.discard();
        Some(commit)
    }

    /// The open transaction is lost.
    pub(super) fn discard(&mut self) {
        if let Phase::Ready(ready) = &mut self.phase {
            ready.pending = None;
        }
    }
}

impl State {
    fn restored(restored: Restored) -> Self {
        let (policy, chain, head) = match restored.audit {
            RestoredAudit::On(chain) => (chain.policy, Chain::Restored(chain), None),
            RestoredAudit::Off(head) => (None, Chain::Off, head),
        };
        Self {
            position: restored.position,
            chain,
            sealed_at: None,
            transactions: restored.transactions,
            partitions: restored.partitions,
            head,
            metadata: Arc::from(""),
            is_sealed: false,
            is_loosening_unknown: false,
            policy,
            commitment_key: restored.commitment_key,
        }
    }

    /// Begins a transaction: writes the pending entries of a restored chain, then the policy when the
    /// chain names another one.
    fn open(
        &mut self,
        audit: &AuditConfig,
        source: &TopicPartition,
        emitter: &mut Emitter,
        outputs: &mut Outputs,
    ) {
        if let Chain::Restored(chain) = &self.chain {
            let ledger = chain.open(&audit.sealer(), audit.keyring, self.partitions, |entry| {
                emitter.audit_entry(source, entry, false, outputs);
            });
            self.chain = Chain::Open(Box::new(ledger));
        }
        let named = self.policy;
        let Some(ledger) = self.ledger() else { return };
        if named != Some(audit.policy.hash()) {
            let mut entry = Vec::new();
            let loosened = audit.policy.loosened(named);
            ledger.append(&audit.policy.entry(loosened), &mut entry);
            emitter.audit_entry(source, &entry, false, outputs);
            self.is_loosening_unknown = loosened.is_none();
            self.policy = Some(audit.policy.hash());
        }
    }

    /// The ledger, when the audit is on and the transaction was joined.
    pub(super) fn ledger(&mut self) -> Option<&mut Ledger> {
        match &mut self.chain {
            Chain::Open(ledger) => Some(ledger),
            Chain::Off | Chain::Restored(_) => None,
        }
    }

    /// Counts a record read, which was committed to with `key`.
    pub(super) fn record(&mut self, offset: i64, fate: Fate, raw: &Commitment, key: KeyId) {
        self.commitment_key = Some(key);
        if let Some(ledger) = self.ledger() {
            ledger.record(offset, fate, raw);
        }
    }

    /// Entries in the chain.
    pub(super) fn chain_height(&self) -> Option<u64> {
        match &self.chain {
            Chain::Open(ledger) => ledger.head().map(|head| head.seq + 1),
            Chain::Off | Chain::Restored(_) => None,
        }
    }

    /// Appends the seal of the open transaction.
    pub(super) fn seal(
        &mut self,
        audit: &AuditConfig,
        source: &TopicPartition,
        now: Timestamp,
        emitter: &mut Emitter,
        outputs: &mut Outputs,
    ) {
        let to = self.position;
        let Some(ledger) = self.ledger() else { return };
        let mut entry = Vec::new();
        ledger.seal(to, now, &audit.sealer(), &mut entry);
        emitter.audit_entry(source, &entry, true, outputs);
        self.sealed_at = Some(now);
        self.is_sealed = true;
    }

    fn transactions_since_restore(&self) -> usize {
        self.metadata.len()
    }

    fn advance_head(&mut self, config: &ScrubConfig, stored: Option<i64>) {
        if !self.is_sealed {
            return;
        }
        let (Chain::Open(ledger), Some(audit)) = (&self.chain, &config.audit) else { return };
        let lower_bound = self.head.map_or(0, |head| head.stored.offset());
        self.head = ledger.head().map(|head| HeadRef {
            incarnation: ledger.origin().incarnation(),
            head,
            stored: stored.map_or(StoredAt::AtLeast(lower_bound), StoredAt::Exact),
            signer: *audit.key.certificate(),
        });
    }
}

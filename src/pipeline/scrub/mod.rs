//! The first stage: each source record is read, redacted, forwarded to the same partition,
//! receipted, sealed and measured. SCRUB only orders the rooms; it owns source partitions.

mod canary;
mod part;
mod partition;
mod policy;
mod take;
mod tally;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

pub use self::canary::Canaries;
use self::partition::Partition;
pub use self::policy::AuditPolicy;
use self::tally::Tally;
use crate::pipeline::audit::{
    CommitmentKeys, Deployment, InstanceKey, InstanceName, KeyringId, Permission, PublicKey,
    RestartFrom, RestoreAlert, RestoreContext, Sealer, StartPosition, Trust,
};
use crate::pipeline::emit::{Emitter, TopicNames};
use crate::pipeline::ingest::Ingest;
use crate::pipeline::measure::{DeltaBook, Places, Signal};
use crate::pipeline::metric::{Metric, MetricSeries, MetricUpdate};
use crate::pipeline::record::{RecordBatch, Timestamp, TopicPartition};
use crate::pipeline::redact::sentinel::Sampling;
use crate::pipeline::redact::{RecordBuffer, Redactor};
use crate::pipeline::step::{
    Delivery, LookupAnswer, OffsetCommit, OutputRecord, Outputs, PauseRequest, RecordFailure,
    RestoreStep, Stage,
};

/// What SCRUB is made of.
pub struct ScrubConfig {
    /// Where everything goes.
    pub names: Arc<TopicNames>,
    /// Largest redacted record, framing included.
    pub record_bytes_max: usize,
    /// Share of output records that the leak sentinel looks at.
    pub sentinel: Sampling,
    /// Planted values that must not come out.
    pub canaries: Canaries,
    /// Name of the deployment.
    pub deployment: Deployment,
    /// The deployment's public key, which certifies the keys of instances.
    pub deployment_key: PublicKey,
    /// The keyring in use.
    pub keyring: KeyringId,
    /// The keys of commitments.
    pub commitment_keys: CommitmentKeys,
    /// This instance's key (used for seals when the audit is on).
    pub instance_key: Arc<InstanceKey>,
    /// Where partitions of each topic start that were never read, by topic; others at earliest.
    pub starts: BTreeMap<Arc<str>, TopicStart>,
    /// Partitions whose committed offset an operator takes over.
    pub adopt: Vec<TopicPartition>,
    /// Partitions that go on with a new chain where they would stop, and from where.
    pub restart: Arc<dyn Restarts>,
    /// The audit trail, when it is on.
    pub audit: Option<AuditConfig>,
    /// The measures topic and its partitions, when measures are on.
    pub measures: Option<MeasuresTarget>,
}

/// Who may begin a new chain. Each permission holds until its partition has committed, for every
/// stage that shares it: a stage built anew, or another one, would forward records a second time.
pub trait Restarts: Send + Sync {
    /// Where to read from, when `source` may begin a new chain.
    fn from(&self, source: &TopicPartition) -> Option<RestartFrom>;

    /// `source` has committed.
    fn committed(&self, source: &TopicPartition);
}

/// Nobody.
pub struct NoRestarts;

impl Restarts for NoRestarts {
    fn from(&self, _source: &TopicPartition) -> Option<RestartFrom> {
        None
    }

    fn committed(&self, _source: &TopicPartition) {}
}

/// Where a topic's partitions start that were never read.
#[derive(Clone, Copy, Debug)]
pub struct TopicStart {
    /// Where.
    pub start: StartPosition,
    /// Partitions when the topic was first read, for genesis and metadata; later ones start at
    /// earliest.
    pub partitions: i32,
}

/// The audit trail as SCRUB writes it.
pub struct AuditConfig {
    /// The key that signs seals.
    pub key: Arc<InstanceKey>,
    /// Name of this instance in seals.
    pub instance: InstanceName,
    /// The keyring, named in genesis.
    pub keyring: KeyringId,
    /// The policy in force.
    pub policy: AuditPolicy,
    /// A seal is written after this time though nothing was read.
    pub heartbeat_ms: i64,
    /// An entry for every record something was redacted in.
    pub receipts: bool,
}

/// Where measures go.
#[derive(Clone, Debug)]
pub struct MeasuresTarget {
    /// Topic.
    pub topic: Arc<str>,
    /// Its partitions, frozen when it was made.
    pub partitions: i32,
}

/// The stage.
pub struct Scrub {
    config: ScrubConfig,
    ingest: Ingest,
    redactor: Redactor,
    emitter: Emitter,
    book: Option<DeltaBook>,
    partitions: BTreeMap<TopicPartition, Partition>,
    tally: Tally,
    places: Places,
    /// Updates that wait for the next commit: alerts of a restore, a suspended transaction's.
    published_next: Vec<MetricUpdate>,
    suspended: Option<Suspended>,
    /// Of the last restore that ended, until somebody logs them.
    findings: Vec<RestoreAlert>,
    pauses: Vec<(TopicPartition, PauseRequest)>,
    entry: Vec<u8>,
    buffer: RecordBuffer,
}

/// A transaction of unknown outcome: what it counted, and the metadata that would show it stands.
struct Suspended {
    commits: Vec<OffsetCommit>,
    updates: Vec<MetricUpdate>,
}

impl Scrub {
    /// A stage without partitions.
    #[must_use]
    pub fn new(config: ScrubConfig, ingest: Ingest, redactor: Redactor) -> Self {
        let emitter = Emitter::new(Arc::clone(&config.names), config.record_bytes_max);
        let book = config.measures.as_ref().map(|target| DeltaBook::new(target.partitions));
        Self {
            config,
            ingest,
            redactor,
            emitter,
            book,
            partitions: BTreeMap::new(),
            tally: Tally::default(),
            places: Places::default(),
            published_next: Vec::new(),
            suspended: None,
            findings: Vec::new(),
            pauses: Vec::new(),
            entry: Vec::new(),
            buffer: RecordBuffer::default(),
        }
    }

    /// Follows another policy from the next record on. Between two transactions only: each chain
    /// names it in its next one, which is due at once.
    pub fn change_policy(&mut self, redactor: Redactor, policy: AuditPolicy) {
        debug_assert!(!self.is_dirty(), "a transaction knows one policy");
        self.redactor = redactor;
        if let Some(audit) = &mut self.config.audit {
            audit.policy = policy;
        }
    }

    /// Joins every restored partition to the open transaction: a measures record speaks for all.
    fn join_all(&mut self, outputs: &mut Outputs) {
        for partition in self.partitions.values_mut() {
            partition.join(&self.config, &mut self.emitter, outputs);
        }
    }

    fn send_measures(&mut self, now: Timestamp, outputs: &mut Outputs) {
        let (Some(book), Some(target)) = (&mut self.book, &self.config.measures) else { return };
        let (records, overflow) = book.drain(now);
        for record in records {
            outputs.push(OutputRecord {
                topic: &target.topic,
                partition: Some(record.partition),
                timestamp: None,
                key: None,
                value: Some(&record.value),
                headers: &[],
                tracked: false,
                forwarded: false,
            });
        }
        self.tally.add(Metric::LabelOverflow, &["tenant"], overflow.tenant);
        self.tally.add(Metric::LabelOverflow, &["service"], overflow.service);
        self.tally.add(Metric::LabelOverflow, &["time"], overflow.bucket);
        self.tally.add(Metric::LabelOverflow, &["session"], overflow.session);
    }

    fn look_for_canaries(&mut self, now: Timestamp, outputs: &Outputs, from: usize) {
        let found = self.config.canaries.survivors(outputs, from);
        self.tally.add(Metric::LeaksFound, &["canary"], found);
        self.notice(Signal::Leaks, u32::try_from(found).unwrap_or(u32::MAX), now);
    }

    /// Measures something that is no tenant's.
    fn notice(&mut self, signal: Signal, count: u32, now: Timestamp) {
        if let Some(book) = self.book.as_mut().filter(|_| count > 0) {
            let place = self.places.of(None, None);
            book.notice(&self.places, place, signal, count, now);
        }
    }

    fn seal(&mut self, now: Timestamp, outputs: &mut Outputs) {
        let Some(audit) = &self.config.audit else { return };
        for (source, partition) in &mut self.partitions {
            let due = partition.heartbeat_due(audit.heartbeat_ms).is_some_and(|due| due <= now);
            let Some(state) = partition.pending() else { continue };
            let unknown = u64::from(state.is_loosening_unknown);
            self.tally.add(Metric::PolicyReloads, &["unknown"], unknown);
            let unsealed = state.ledger().is_some_and(|ledger| !ledger.is_sealed());
            if unsealed || due {
                state.seal(audit, source, now, &mut self.emitter, outputs);
                self.tally.add(Metric::AuditEntries, &["sea"], 1);
            }
        }
    }

    /// When the restored offset is one that a transaction of unknown outcome would have committed,
    /// that transaction stands: its counters are published with the next commit.
    fn resolve_suspended(&mut self, topic_partition: &TopicPartition, answer: &LookupAnswer) {
        let LookupAnswer::Committed { offset, metadata } = answer else { return };
        let Some(suspended) = &self.suspended else { return };
        let own = suspended.commits.iter().find(|one| one.topic_partition == *topic_partition);
        let Some(own) = own else { return };
        let stands = *offset == Some(own.offset) && *metadata == own.metadata;
        let suspended = self.suspended.take().expect("it was just looked at");
        if stands {
            self.published_next.extend(suspended.updates);
        }
    }
}

impl Stage for Scrub {
    fn assign(&mut self, topic_partition: &TopicPartition, _now: Timestamp) -> RestoreStep {
        let (partition, step) =
            Partition::restore(topic_partition, &self.config, &mut self.emitter);
        self.partitions.insert(topic_partition.clone(), partition);
        step
    }

    fn restore(
        &mut self,
        topic_partition: &TopicPartition,
        answer: LookupAnswer,
        now: Timestamp,
    ) -> RestoreStep {
        self.resolve_suspended(topic_partition, &answer);
        let Some(partition) = self.partitions.get_mut(topic_partition) else {
            return self.assign(topic_partition, now);
        };
        let advance = partition.answer(answer, &mut self.emitter);
        for alert in &advance.alerts {
            let severity = alert.severity.to_string();
            self.published_next.push(Metric::RestoreFindings.update(&[alert.name, &severity], 1.0));
        }
        self.findings.extend(advance.alerts);
        if matches!(advance.step, RestoreStep::Ready { .. }) {
            // Counted with the entry that tells it.
            self.findings.extend(partition.other_policy(&self.config));
            self.book.iter_mut().for_each(|book| book.assign(topic_partition));
        }
        advance.step
    }

    fn revoke(&mut self, topic_partition: &TopicPartition) {
        self.partitions.remove(topic_partition);
        if let Some(book) = &mut self.book {
            book.revoke(topic_partition);
        }
    }

    fn findings(&mut self) -> Vec<RestoreAlert> {
        std::mem::take(&mut self.findings)
    }

    fn withdraw(&mut self, topic_partition: &TopicPartition) -> Vec<MetricSeries> {
        let number = topic_partition.partition.to_string();
        let labels = [&*topic_partition.topic, &*number];
        [Metric::AuditChainHeight, Metric::AuditSealTimestamp].map(|of| of.series(&labels)).into()
    }

    fn output_partitions(&self, topic_partition: &TopicPartition) -> Vec<TopicPartition> {
        let own = |topic: String| TopicPartition::new(topic, topic_partition.partition);
        let mut outputs = vec![own(self.config.names.redacted.topic(&topic_partition.topic))];
        if self.config.audit.is_some() {
            outputs.push(own(self.config.names.audit.topic(&topic_partition.topic)));
        }
        outputs
    }

    fn process(
        &mut self,
        batch: &RecordBatch,
        range: Range<usize>,
        now: Timestamp,
        outputs: &mut Outputs,
    ) -> Result<(), RecordFailure> {
        let from = outputs.len();
        let mut failed = None;
        batch.for_each(range, |record| {
            if failed.is_none() {
                failed = self.take(&record, now, outputs).err();
            }
        });
        self.look_for_canaries(now, outputs, from);
        failed.map_or(Ok(()), Err)
    }

    fn reject(
        &mut self,
        batch: &RecordBatch,
        index: usize,
        reason: &'static str,
        now: Timestamp,
        outputs: &mut Outputs,
    ) {
        batch.for_each(index..index + 1, |record| self.dead_letter(&record, reason, now, outputs));
    }

    fn caught_up(&mut self, topic_partition: &TopicPartition, now: Timestamp) {
        if let Some(book) = &mut self.book {
            book.caught_up(topic_partition, now);
        }
    }

    fn held(&mut self, topic_partition: &TopicPartition, now: Timestamp) {
        if let Some(book) = &mut self.book {
            book.revoke(topic_partition);
        }
        self.notice(Signal::Stops, 1, now);
    }

    fn resumed(&mut self, topic_partition: &TopicPartition) {
        if let Some(book) = &mut self.book {
            book.assign(topic_partition);
        }
    }

    fn due(&self, now: Timestamp) -> Option<Timestamp> {
        if self.partitions.values().any(|partition| partition.has_news(&self.config)) {
            return Some(now);
        }
        let marks = self.book.as_ref().and_then(|book| book.due(now));
        let heartbeat = self.config.audit.as_ref().and_then(|audit| {
            let dues = self.partitions.values().filter_map(|p| p.heartbeat_due(audit.heartbeat_ms));
            dues.min()
        });
        marks.into_iter().chain(heartbeat).min()
    }

    fn is_dirty(&self) -> bool {
        self.partitions.values().any(Partition::is_touched)
    }

    fn close(&mut self, now: Timestamp, outputs: &mut Outputs) {
        let from = outputs.len();
        let audit_due = self.config.audit.as_ref().map(|audit| audit.heartbeat_ms);
        for partition in self.partitions.values_mut() {
            let heartbeat = audit_due
                .and_then(|heartbeat_ms| partition.heartbeat_due(heartbeat_ms))
                .is_some_and(|due| due <= now);
            if heartbeat || partition.has_news(&self.config) {
                partition.join(&self.config, &mut self.emitter, outputs);
            }
        }
        let marks_due = self.book.as_ref().and_then(|book| book.due(now));
        if marks_due.is_some_and(|due| due <= now) {
            self.join_all(outputs);
        }
        self.send_measures(now, outputs);
        self.seal(now, outputs);
        self.look_for_canaries(now, outputs, from);
    }

    fn offsets(&mut self, deliveries: &[Delivery]) -> Vec<OffsetCommit> {
        let mut commits = Vec::new();
        for (source, partition) in &mut self.partitions {
            let audit_topic = self.emitter.audit_topic(&source.topic);
            let stored = deliveries.iter().rev().find(|delivery| {
                delivery.topic_partition.partition == source.partition
                    && delivery.topic_partition.topic == audit_topic
            });
            let stored = stored.and_then(|delivery| delivery.offset);
            commits.extend(partition.offset_commit(&self.config, stored));
        }
        commits
    }

    fn committed(&mut self) -> Vec<MetricUpdate> {
        let mut updates = std::mem::take(&mut self.published_next);
        updates.extend(self.tally.take(&self.places));
        for (source, partition) in &mut self.partitions {
            let Some(state) = partition.committed() else { continue };
            self.config.restart.committed(source);
            let number = source.partition.to_string();
            let labels = [&*source.topic, &*number];
            if let Some(height) = state.chain_height() {
                updates.push(Metric::AuditChainHeight.update(&labels, height as f64));
            }
            if let Some(sealed_at) = state.sealed_at {
                let seconds = sealed_at.millis() as f64 / 1_000.0;
                updates.push(Metric::AuditSealTimestamp.update(&labels, seconds));
            }
        }
        if let Some(book) = &mut self.book {
            book.committed();
        }
        self.places.trim();
        updates
    }

    fn discard(&mut self) -> Vec<TopicPartition> {
        self.tally = Tally::default();
        for partition in self.partitions.values_mut() {
            partition.discard();
        }
        if let Some(book) = &mut self.book {
            book.discard();
        }
        Vec::new()
    }

    fn suspend(&mut self) -> Vec<TopicPartition> {
        let mut updates = std::mem::take(&mut self.published_next);
        updates.extend(self.tally.take(&self.places));
        let commits = self.partitions.values_mut().filter_map(Partition::suspend).collect();
        self.suspended = Some(Suspended { commits, updates });
        if let Some(book) = &mut self.book {
            book.discard();
        }
        self.partitions.keys().cloned().collect()
    }

    fn pauses(&mut self) -> Vec<(TopicPartition, PauseRequest)> {
        std::mem::take(&mut self.pauses)
    }
}

impl ScrubConfig {
    fn restore_context(&self, source: &TopicPartition) -> RestoreContext {
        let known = self.starts.get(&source.topic);
        let first = known.filter(|start| source.partition < start.partitions);
        let permission = match self.restart.from(source) {
            Some(from) => {
                Permission::Restart { from, reason: "restarted by an operator".to_owned() }
            }
            None if self.adopt.contains(source) => Permission::Adopt,
            None => Permission::None,
        };
        RestoreContext {
            trust: Trust {
                deployment: self.deployment.clone(),
                source: source.clone(),
                deployment_key: self.deployment_key,
            },
            audit: self.audit.is_some(),
            keyring: self.keyring,
            instance_key: self.instance_key.id(),
            signers: vec![*self.instance_key.certificate()],
            commitment_keys: self.commitment_keys.clone(),
            start: first.map_or(StartPosition::Earliest, |start| start.start),
            partitions: known.map_or(source.partition + 1, |start| start.partitions),
            permission,
            redacted_offset: crate::pipeline::emit::source_offset,
        }
    }
}

impl AuditConfig {
    fn sealer(&self) -> Sealer<'_> {
        Sealer { key: &self.key, instance: &self.instance, policy: self.policy.hash() }
    }
}

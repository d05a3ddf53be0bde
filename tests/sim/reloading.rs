//! SCRUB whose policy is replaced every few transactions, as a reload does it. Both policies treat the
//! simulated records alike: what must hold is the chain, whatever happens around a change.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use blotter::pipeline::metric::{MetricSeries, MetricUpdate};
use blotter::pipeline::record::{RecordBatch, Timestamp, TopicPartition};
use blotter::pipeline::redact::{Policy, RawPolicy, Redactor};
use blotter::pipeline::scrub::{AuditPolicy, Scrub};
use blotter::pipeline::step::{
    Delivery, LookupAnswer, OffsetCommit, Outputs, PauseRequest, RecordFailure, RestoreStep, Stage,
};

/// Transactions between two changes.
const COMMITS_PER_POLICY: u32 = 5;

/// A policy and how the audit tells it.
type Told = (Arc<Policy>, AuditPolicy);

/// Compiling a policy takes longer than a whole run: all processes share them.
static POLICIES: LazyLock<[Told; 2]> = LazyLock::new(|| {
    let first = Arc::new(Policy::default());
    let mut raw = RawPolicy::default();
    raw.caps.findings = Some(50_000);
    let second = Arc::new(Policy::new(&raw).expect("a sound policy"));
    let told = AuditPolicy::new(&first).expect("it fits an entry");
    let other = told.replaced_by(&first, &second).expect("it fits an entry");
    let again = other.replaced_by(&second, &first).expect("it fits an entry");
    [(first, again), (second, other)]
});

/// The policy that a process starts with.
pub(crate) fn first() -> &'static Told {
    &POLICIES[0]
}

pub(crate) struct Reloading {
    scrub: Scrub,
    commits: u32,
}

impl Reloading {
    /// For a stage that was made with [`first`].
    pub(crate) fn new(scrub: Scrub) -> Self {
        Self { scrub, commits: 0 }
    }
}

impl Stage for Reloading {
    fn assign(&mut self, source: &TopicPartition, now: Timestamp) -> RestoreStep {
        self.scrub.assign(source, now)
    }

    fn restore(
        &mut self,
        source: &TopicPartition,
        answer: LookupAnswer,
        now: Timestamp,
    ) -> RestoreStep {
        self.scrub.restore(source, answer, now)
    }

    fn revoke(&mut self, source: &TopicPartition) {
        self.scrub.revoke(source);
    }

    fn withdraw(&mut self, source: &TopicPartition) -> Vec<MetricSeries> {
        self.scrub.withdraw(source)
    }

    fn output_partitions(&self, source: &TopicPartition) -> Vec<TopicPartition> {
        self.scrub.output_partitions(source)
    }

    fn process(
        &mut self,
        batch: &RecordBatch,
        range: Range<usize>,
        now: Timestamp,
        outputs: &mut Outputs,
    ) -> Result<(), RecordFailure> {
        self.scrub.process(batch, range, now, outputs)
    }

    fn reject(
        &mut self,
        batch: &RecordBatch,
        index: usize,
        reason: &'static str,
        now: Timestamp,
        outputs: &mut Outputs,
    ) {
        self.scrub.reject(batch, index, reason, now, outputs);
    }

    fn caught_up(&mut self, source: &TopicPartition, now: Timestamp) {
        self.scrub.caught_up(source, now);
    }

    fn due(&self, now: Timestamp) -> Option<Timestamp> {
        self.scrub.due(now)
    }

    fn is_dirty(&self) -> bool {
        self.scrub.is_dirty()
    }

    fn close(&mut self, now: Timestamp, outputs: &mut Outputs) {
        self.scrub.close(now, outputs);
    }

    fn offsets(&mut self, deliveries: &[Delivery]) -> Vec<OffsetCommit> {
        self.scrub.offsets(deliveries)
    }

    fn committed(&mut self) -> Vec<MetricUpdate> {
        let updates = self.scrub.committed();
        self.commits += 1;
        if self.commits.is_multiple_of(COMMITS_PER_POLICY) {
            let turn = usize::try_from(self.commits / COMMITS_PER_POLICY % 2).expect("0 or 1");
            let (policy, told) = &POLICIES[turn];
            self.scrub.change_policy(Redactor::new(Arc::clone(policy)), told.clone());
        }
        updates
    }

    fn discard(&mut self) -> Vec<TopicPartition> {
        self.scrub.discard()
    }

    fn suspend(&mut self) -> Vec<TopicPartition> {
        self.scrub.suspend()
    }

    fn pauses(&mut self) -> Vec<(TopicPartition, PauseRequest)> {
        self.scrub.pauses()
    }
}

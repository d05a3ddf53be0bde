//! The conformance scenarios on the model, alone with a virtual clock.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use blotter::daemon::broker::embedded::{
    Body, Call, Cluster, ClusterConfig, Conductor, EmbeddedConnector, Isolation, TopicConfig,
    Verdict, VirtualClock,
};
use blotter::daemon::clock::Clock;
use blotter::pipeline::record::{Timestamp, TopicPartition};

use crate::conformance::{Bench, CommitFault, DisturbedBench, disturbed_scenarios, scenarios};

/// Time passes when somebody waits; the next commit may be disturbed.
struct Alone {
    clock: Arc<VirtualClock>,
    fault: Mutex<Option<CommitFault>>,
}

impl Conductor for Alone {
    fn before(&self, call: &Call<'_>) -> Verdict {
        if call.operation != "commit" {
            return Verdict::Proceed;
        }
        match self.fault.lock().expect("nobody panicked").take() {
            None => Verdict::Proceed,
            Some(CommitFault::LoseRequest) => Verdict::LoseRequest,
            Some(CommitFault::LoseAnswer) => Verdict::LoseAnswer,
            Some(CommitFault::Keep) => Verdict::Keep,
        }
    }

    fn wait(&self, _call: &Call<'_>, cluster: &Cluster, seen: u64, until: Timestamp) {
        if cluster.version() == seen {
            self.clock.advance_to(cluster.next_due().min(until));
        }
    }
}

struct ModelBench {
    clock: Arc<VirtualClock>,
    cluster: Cluster,
    conductor: Arc<Alone>,
    connector: EmbeddedConnector,
}

impl ModelBench {
    fn new() -> Self {
        let clock = Arc::new(VirtualClock::new());
        let cluster = Cluster::new(Arc::<VirtualClock>::clone(&clock), ClusterConfig::default());
        let conductor = Arc::new(Alone { clock: Arc::clone(&clock), fault: Mutex::new(None) });
        let connector =
            EmbeddedConnector::conducted(cluster.clone(), Arc::<Alone>::clone(&conductor));
        Self { clock, cluster, conductor, connector }
    }
}

impl Bench for ModelBench {
    type Connector = EmbeddedConnector;

    fn connector(&self) -> &EmbeddedConnector {
        &self.connector
    }

    fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    fn create_topic(&self, topic: &str, partitions: i32) {
        self.cluster.create_topic(topic, TopicConfig::new(partitions)).expect("a new topic");
    }

    fn produce(&self, topic: &str, partition: i32, value: &str) {
        let body = Body::new(None, Some(value.as_bytes()));
        self.cluster
            .produce(&TopicPartition::new(topic, partition), None, body)
            .expect("the partition is there");
    }

    fn committed_values(&self, topic: &str, partition: i32) -> Vec<String> {
        let partition = TopicPartition::new(topic, partition);
        let (records, next) =
            self.cluster.read(&partition, Isolation::ReadCommitted, 0).expect("readable");
        assert_eq!(
            next,
            self.cluster.watermarks(&partition).expect("it is there").1,
            "a transaction is open"
        );
        let values =
            records.into_iter().map(|record| record.body.value.expect("values only").into_vec());
        values.map(|value| String::from_utf8(value).expect("text")).collect()
    }

    fn pass(&self, time: Duration) {
        self.clock.advance(i64::try_from(time.as_millis()).expect("short"));
    }
}

impl DisturbedBench for ModelBench {
    fn disturb_commit(&self, fault: CommitFault) {
        *self.conductor.fault.lock().expect("nobody panicked") = Some(fault);
    }

    fn mend(&self) {}

    fn deliver_kept(&self) -> Result<(), String> {
        let answer = self.cluster.deliver_kept().expect("a commit was kept");
        answer.map_err(|refusal| refusal.to_string())
    }
}

#[test]
fn the_model_gives_kafkas_verdicts() {
    let bench = ModelBench::new();
    for scenario in scenarios().into_iter().chain(disturbed_scenarios()) {
        println!("{}", scenario.name);
        (scenario.run)(&bench, scenario.name);
    }
}

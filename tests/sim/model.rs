//! The conformance scenarios on the model, alone with a virtual clock.

use std::sync::Arc;
use std::time::Duration;

use blotter::daemon::broker::embedded::{
    Body, Call, Cluster, ClusterConfig, Conductor, EmbeddedConnector, Isolation, TopicConfig,
    VirtualClock,
};
use blotter::daemon::clock::Clock;
use blotter::pipeline::record::{Timestamp, TopicPartition};

use crate::conformance::{Bench, scenarios};

/// Time passes when somebody waits.
struct Alone(Arc<VirtualClock>);

impl Conductor for Alone {
    fn wait(&self, _call: &Call<'_>, cluster: &Cluster, seen: u64, until: Timestamp) {
        if cluster.version() == seen {
            self.0.advance_to(cluster.next_due().min(until));
        }
    }
}

struct ModelBench {
    clock: Arc<VirtualClock>,
    cluster: Cluster,
    connector: EmbeddedConnector,
}

impl ModelBench {
    fn new() -> Self {
        let clock = Arc::new(VirtualClock::new());
        let cluster = Cluster::new(Arc::<VirtualClock>::clone(&clock), ClusterConfig::default());
        let conductor = Arc::new(Alone(Arc::clone(&clock)));
        let connector = EmbeddedConnector::conducted(cluster.clone(), conductor);
        Self { clock, cluster, connector }
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

#[test]
fn the_model_gives_kafkas_verdicts() {
    let bench = ModelBench::new();
    for scenario in scenarios() {
        println!("{}", scenario.name);
        (scenario.run)(&bench, scenario.name);
    }
}

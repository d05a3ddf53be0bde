//! The scenarios of `tests/conformance` on the real broker.

use std::time::Duration;

use blotter::daemon::broker::kafka::{KafkaConfig, KafkaConnector};
use blotter::daemon::clock::{Clock, SystemClock};

use crate::conformance::{Bench, CommitFault, DisturbedBench, disturbed_scenarios, scenarios};
use crate::harness::{Admin, Cluster, Forwarder, shared_brokers, unique};

/// API key of EndTxn (the request that commits).
const END_TXN: i16 = 26;

struct Real<Line> {
    connector: KafkaConnector,
    admin: Admin,
    clock: SystemClock,
    /// What the clients' traffic passes through.
    line: Line,
}

impl<Line> Real<Line> {
    fn new(cluster: &str, clients: &str, line: Line) -> Self {
        let config = KafkaConfig { brokers: clients.to_owned(), ..KafkaConfig::default() };
        let connector = KafkaConnector::new(config).expect("plain settings");
        let admin = Admin { brokers: cluster.to_owned() };
        Self { connector, admin, clock: SystemClock::new(), line }
    }
}

impl<Line> Bench for Real<Line> {
    type Connector = KafkaConnector;

    fn connector(&self) -> &KafkaConnector {
        &self.connector
    }

    fn clock(&self) -> &dyn Clock {
        &self.clock
    }

    fn create_topic(&self, topic: &str, partitions: i32) {
        self.admin.create_topic(topic, partitions, &[]);
    }

    fn produce(&self, topic: &str, partition: i32, value: &str) {
        self.admin.produce(topic, partition, value);
    }

    fn committed_values(&self, topic: &str, partition: i32) -> Vec<String> {
        self.admin.read(topic, partition).iter().map(crate::harness::Seen::text).collect()
    }

    fn pass(&self, time: Duration) {
        let until = self.clock.monotonic() + time;
        while self.clock.monotonic() < until {
            std::thread::park_timeout(until.saturating_sub(self.clock.monotonic()));
        }
    }
}

impl DisturbedBench for Real<Forwarder> {
    fn disturb_commit(&self, fault: CommitFault) {
        match fault {
            CommitFault::LoseAnswer => self.line.hold_answers_after(END_TXN),
            CommitFault::LoseRequest | CommitFault::Keep => self.line.keep_next(END_TXN),
        }
    }

    fn mend(&self) {
        // What is held is lost with its connection. Without a need the connections stay: the
        // client would send again what is under way.
        if self.line.has_matched() {
            self.line.cut();
        }
        self.line.restore();
    }

    fn deliver_kept(&self) -> Result<(), String> {
        let answer = self.line.deliver(&self.line.take_kept());
        // EndTxn up to version 2: length, correlation id, throttle time, error.
        let error = answer.get(12..14).expect("a whole answer");
        let error = i16::from_be_bytes([error[0], error[1]]);
        if error == 0 { Ok(()) } else { Err(format!("error {error}")) }
    }
}

#[test]
fn a_real_broker_gives_the_verdicts_of_the_model_on_disturbed_commits() {
    let cluster = Cluster::single();
    let (forwarder, proxied) = cluster.forwarder();
    let real = Real::new(&cluster.brokers(), &proxied, forwarder);
    for scenario in disturbed_scenarios() {
        println!("{}", scenario.name);
        (scenario.run)(&real, scenario.name);
    }
}

/// One thread per scenario: most of them wait for the brokers.
#[test]
fn a_real_broker_gives_the_verdicts_of_the_model() {
    let only = std::env::var_os("BLOTTER_TEST_SCENARIO");
    let real = Real::new(shared_brokers(), shared_brokers(), ());
    let failed: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = scenarios::<Real<()>>()
            .into_iter()
            .filter(|scenario| only.as_ref().is_none_or(|only| only == scenario.name))
            .map(|scenario| {
                let real = &real;
                let name: &'static str = Box::leak(unique(scenario.name).into_boxed_str());
                let run = move || {
                    let before = real.clock.monotonic();
                    (scenario.run)(real, name);
                    println!("{}: {:?}", scenario.name, real.clock.monotonic() - before);
                };
                (scenario.name, scope.spawn(run))
            })
            .collect();
        running.into_iter().filter_map(|(name, run)| run.join().is_err().then_some(name)).collect()
    });
    assert!(failed.is_empty(), "another verdict than the model's: {failed:?}");
}

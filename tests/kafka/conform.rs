//! The scenarios of `tests/conformance` on the real broker.

use std::time::Duration;

use blotter::daemon::broker::kafka::{KafkaConfig, KafkaConnector};
use blotter::daemon::clock::{Clock, SystemClock};

use crate::conformance::{Bench, scenarios};
use crate::harness::{Admin, shared_brokers, unique};

struct Real {
    connector: KafkaConnector,
    admin: Admin,
    clock: SystemClock,
}

impl Bench for Real {
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

/// One thread per scenario: most of them wait for the brokers.
#[test]
fn a_real_broker_gives_the_verdicts_of_the_model() {
    let brokers = shared_brokers().to_owned();
    let only = std::env::var_os("BLOTTER_TEST_SCENARIO");
    let config = KafkaConfig { brokers: brokers.clone(), ..KafkaConfig::default() };
    let connector = KafkaConnector::new(config).expect("plain settings");
    let real = Real { connector, admin: Admin { brokers }, clock: SystemClock::new() };
    let failed: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = scenarios::<Real>()
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

//! The harness itself.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::harness::{Cluster, Direction, Traffic, shared_brokers, unique, wait_until};

fn client(brokers: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("log_level", "0");
    config.create().expect("a client")
}

#[test]
fn the_shared_broker_answers() {
    let metadata = client(shared_brokers()).fetch_metadata(None, Duration::from_secs(10));
    assert!(!metadata.expect("metadata").brokers().is_empty());
    assert_ne!(unique("a"), unique("a"));
}

#[test]
fn a_forwarder_holds_and_cuts_and_a_killed_broker_comes_back() {
    let cluster = Cluster::single();
    let (forwarder, proxied) = cluster.forwarder();
    let probe = client(&proxied);
    let answers = |millis| probe.fetch_metadata(None, Duration::from_millis(millis)).is_ok();
    assert!(answers(10_000), "passes");
    forwarder.set(Direction::ToClient, Traffic::Hold);
    assert!(!answers(300), "held");
    forwarder.restore();
    assert!(answers(10_000), "passes again");
    forwarder.cut();
    assert!(!answers(300), "cut");
    forwarder.restore();
    wait_until("a new connection", 10, || answers(1_000));
    cluster.kill(1);
    assert!(!cluster.is_alive(1));
    assert!(!answers(300), "dead");
    cluster.restart(1);
    wait_until("the restarted broker answers", 10, || answers(1_000));
}

#[test]
fn three_brokers_form_a_cluster() {
    let cluster = Cluster::three();
    let metadata = client(&cluster.brokers()).fetch_metadata(None, Duration::from_secs(10));
    assert_eq!(metadata.expect("metadata").brokers().len(), 3);
}

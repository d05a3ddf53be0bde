//! A real Apache Kafka for the tests: fetched once by Maven, started on free ports in a folder of
//! its own, killed when the test process ends (however it ends), logs kept.

mod admin;
mod cluster;
mod forwarder;
pub(crate) mod guard;
mod jars;
mod node;
mod wait;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) use admin::{Admin, Feeder, Seen, flush};
pub(crate) use cluster::Cluster;
pub(crate) use forwarder::{Direction, Forwarder, Traffic};
pub(crate) use wait::{Deadline, millis_since_epoch, now, wait_until};

/// Bootstrap servers of the one broker all tests of this binary share: the cluster named by
/// `BLOTTER_TEST_BROKERS`, else a single node that lives as long as this process.
pub(crate) fn shared_brokers() -> &'static str {
    static SHARED: OnceLock<(String, Option<Cluster>)> = OnceLock::new();
    let (brokers, _) = SHARED.get_or_init(|| match std::env::var_os("BLOTTER_TEST_BROKERS") {
        Some(brokers) => {
            (brokers.into_string().expect("BLOTTER_TEST_BROKERS is host:port,..."), None)
        }
        None => {
            let cluster = Cluster::single();
            (cluster.brokers(), Some(cluster))
        }
    });
    brokers
}

/// A name that no other test, and no other run against the same cluster, uses.
pub(crate) fn unique(word: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{word}-{}-{}-{number}", std::process::id(), millis_since_epoch() / 1000)
}

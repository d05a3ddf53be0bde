//! One broker, or three of them, started and waited for.

use std::collections::HashSet;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use nix::sys::signal::Signal;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::admin::Admin;
use super::forwarder::Forwarder;
use super::node::{Node, Ports, cluster_folder};
use super::wait::wait_until;

const START_SECONDS_MAX: u64 = 90;

/// Sixteen bytes in URL-safe base64, as StorageTool wants them.
const CLUSTER_ID: &str = "YmxvdHRlci10ZXN0LTAwMQ";

/// A running Apache Kafka; stopped when dropped.
pub(crate) struct Cluster {
    nodes: Vec<Mutex<Node>>,
    ports: Vec<Ports>,
}

impl Cluster {
    /// One node: replication 1.
    pub(crate) fn single() -> Self {
        Self::start(1, "")
    }

    /// One node that appends what belongs to no open transaction, as those before Kafka 3.6 did.
    pub(crate) fn single_unverified() -> Self {
        Self::start(1, "transaction.partition.verification.enable=false\n")
    }

    /// Three nodes: replication 3, min ISR 2.
    pub(crate) fn three() -> Self {
        Self::start(3, "")
    }

    /// Bootstrap servers.
    pub(crate) fn brokers(&self) -> String {
        let all: Vec<_> = self.ports.iter().map(|p| format!("127.0.0.1:{}", p.plain)).collect();
        all.join(",")
    }

    /// Bootstrap server of the listener that wants tokens.
    pub(crate) fn token_broker(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0].tokens)
    }

    /// A forwarder in front of the first node's PROXIED listener, with its bootstrap server.
    pub(crate) fn forwarder(&self) -> (Forwarder, String) {
        let ports = self.ports[0];
        let forwarder = Forwarder::start(ports.forwarder, ports.proxied);
        (forwarder, format!("127.0.0.1:{}", ports.forwarder))
    }

    /// Waits until every replica of every partition is in sync.
    pub(crate) fn wait_in_sync(&self) {
        let admin = Admin { brokers: self.brokers() };
        wait_until("all replicas in sync", START_SECONDS_MAX, || admin.is_in_sync());
    }

    /// Kills node `id` (from 1) at once; its data stays.
    pub(crate) fn kill(&self, id: usize) {
        self.node(id).kill();
    }

    /// Ends node `id` (from 1) in good order and keeps its data.
    pub(crate) fn stop(&self, id: usize) {
        self.node(id).stop();
    }

    /// Sends a signal to node `id` (from 1).
    pub(crate) fn signal(&self, id: usize, signal: Signal) {
        self.node(id).signal(signal);
    }

    /// Whether the process of node `id` (from 1) is there.
    pub(crate) fn is_alive(&self, id: usize) -> bool {
        self.node(id).is_alive()
    }

    /// The first file of a partition's log at node `id` (from 1).
    pub(crate) fn segment(&self, id: usize, topic: &str, partition: i32) -> PathBuf {
        self.node(id).segment(topic, partition)
    }

    /// Starts node `id` (from 1) again on its data and waits until every node answers.
    pub(crate) fn restart(&self, id: usize) {
        self.node(id).kill();
        self.node(id).start();
        self.wait_up();
    }

    fn start(count: usize, extra: &str) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let folder =
            cluster_folder(&format!("{count}n{}", STARTED.fetch_add(1, Ordering::Relaxed)));
        let ports = free_ports(count);
        let heap = if count == 1 { "-Xmx512m" } else { "-Xmx384m" };
        let nodes = (1..=count)
            .map(|id| {
                let properties = properties(id, &ports) + extra;
                let folder = folder.join(format!("node{id}"));
                let mut node = Node::format(folder, &properties, CLUSTER_ID, heap);
                node.start();
                Mutex::new(node)
            })
            .collect();
        let cluster = Self { nodes, ports };
        cluster.wait_up();
        cluster
    }

    fn node(&self, id: usize) -> MutexGuard<'_, Node> {
        self.nodes[id - 1].lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn wait_up(&self) {
        wait_until("all brokers in the metadata of each", START_SECONDS_MAX, || {
            (1..=self.nodes.len()).all(|id| {
                let alive = self.is_alive(id);
                assert!(alive, "broker {id} ended:\n{}", self.node(id).log_tail());
                // A fresh client asks the broker it was pointed at.
                let probe: BaseConsumer = ClientConfig::new()
                    .set("bootstrap.servers", format!("127.0.0.1:{}", self.ports[id - 1].plain))
                    .set("log_level", "0")
                    .create()
                    .expect("a client with two settings");
                probe
                    .fetch_metadata(None, Duration::from_secs(1))
                    .is_ok_and(|metadata| metadata.brokers().len() == self.nodes.len())
            })
        });
    }
}

fn properties(id: usize, all: &[Ports]) -> String {
    let own = all[id - 1];
    let voters: Vec<_> = all
        .iter()
        .enumerate()
        .map(|(index, ports)| format!("{}@127.0.0.1:{}", index + 1, ports.controller))
        .collect();
    let (replication, isr) = if all.len() == 1 { (1, 1) } else { (3, 2) };
    let Ports { plain, controller, proxied, forwarder, tokens } = own;
    format!(
        "process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},PROXIED://127.0.0.1:{proxied},TOKENS://127.0.0.1:{tokens}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},PROXIED://127.0.0.1:{forwarder},TOKENS://127.0.0.1:{tokens}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,TOKENS:SASL_PLAINTEXT
listener.name.tokens.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.tokens.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";
num.partitions=4
auto.create.topics.enable=false
min.insync.replicas={isr}
default.replication.factor={replication}
offsets.topic.replication.factor={replication}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={replication}
transaction.state.log.min.isr={isr}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
log.retention.ms=-1
log.retention.check.interval.ms=1000
log.cleaner.backoff.ms=500
controlled.shutdown.enable=true
",
        voters = voters.join(","),
    )
}

/// Ports nobody listens on now and that no other cluster of this process was given.
fn free_ports(nodes: usize) -> Vec<Ports> {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let given = given.get_or_insert_with(HashSet::new);
    let mut held = Vec::new();
    let mut next = || {
        loop {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = listener.local_addr().expect("bound").port();
            held.push(listener);
            if given.insert(port) {
                return port;
            }
        }
    };
    (0..nodes)
        .map(|_| Ports {
            plain: next(),
            controller: next(),
            proxied: next(),
            forwarder: next(),
            tokens: next(),
        })
        .collect()
}

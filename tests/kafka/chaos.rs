//! Daemons killed and stopped at every named point, brokers and the net failing: at the end nothing
//! is lost, doubled or out of order, and the chain verifies.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::daemon::{Deployment, MEASURES_PARTITIONS, SESSION_SECONDS};
use crate::harness::{Admin, Cluster, Deadline, Direction, Traffic, shared_brokers, wait_until};

/// Points in the life of a transaction or a partition at which a daemon can be made to stand.
const POINTS: [&str; 6] = [
    "after_send",
    "after_send_offsets",
    "after_end_txn",
    "before_counters",
    "during_restore",
    "during_rebalance",
];

/// The place of the `number`-th fault: each point of each stage in turn, at a random passage, so
/// that what was committed before it differs. A stage is asked to give partitions back seldom.
fn place(number: usize) -> String {
    let point = POINTS[number / 2 % POINTS.len()];
    let stage = ["scrub", "watch"][number % 2];
    let nth = if point == "during_rebalance" { 1 } else { 1 + random() % 4 };
    format!("{stage}:{point}:{nth}")
}

fn random() -> u64 {
    RandomState::new().hash_one(0)
}

/// A number from the environment, for longer runs.
fn count(name: &str, default: usize) -> usize {
    let given = std::env::var_os(name).and_then(|text| text.into_string().ok());
    given.map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn killed_at_any_point_nothing_is_lost_or_doubled() {
    let kills = count("BLOTTER_TEST_KILLS", 30);
    let brokers = shared_brokers().to_owned();
    let deployment = Deployment::new(Admin { brokers }, 4, "");
    deployment.feed(100);
    for number in 0..kills {
        let place = place(number);
        println!("kill {number} at {place}");
        let mut victim = deployment.start("victim", Some(&place));
        deployment.feed(60);
        if place.contains("during_rebalance") {
            // Another member takes partitions away from it.
            let (stage, _) = place.split_once(':').expect("stage:point:nth");
            let all = if stage == "scrub" { 4 } else { MEASURES_PARTITIONS };
            let owned = usize::try_from(all).expect("few");
            wait_until("the victim's partitions", 60, || victim.assigned(stage) >= owned);
            let mut other = deployment.start("other", None);
            deployment.feed_to_fault(&mut victim, &place);
            victim.kill();
            // The victim's slot comes back at once; without it the other would wait for a session.
            let mut next = deployment.start("victim", None);
            deployment.feed(60);
            deployment.wait_for_all(90);
            assert_eq!(other.terminate(), Some(0), "{}", other.log());
            assert_eq!(next.terminate(), Some(0), "{}", next.log());
        } else {
            deployment.feed_to_fault(&mut victim, &place);
            victim.kill();
        }
    }
    let mut last = deployment.start("victim", None);
    deployment.feed(60);
    deployment.wait_for_all(120);
    assert_eq!(last.terminate(), Some(0), "{}", last.log());
    deployment.verify();
    let buckets = deployment.verify_state();
    assert!(buckets > 0, "no bucket to compare");
    println!("{kills} kills, {} records, {buckets} buckets", deployment.fed().concat().len());
}

#[test]
fn stopped_past_its_session_a_daemon_can_do_no_harm() {
    let stops = count("BLOTTER_TEST_STOPS", 12);
    let brokers = shared_brokers().to_owned();
    // Six, so that a third member takes two away from each of the others.
    let deployment = Deployment::new(Admin { brokers }, 6, "");
    let mut heir = deployment.start("heir", None);
    deployment.feed(50);
    deployment.wait_for_all(60);
    for number in 0..stops {
        let place = place(number);
        println!("stop {number} at {place}");
        let mut sleeper = deployment.start("sleeper", Some(&place));
        let second = place.contains("during_rebalance").then(|| {
            // A third member takes a partition away from the sleeper, once that has its half.
            let (stage, _) = place.split_once(':').expect("stage:point:nth");
            wait_until("the sleeper's half", 60, || sleeper.assigned(stage) >= 3);
            deployment.feed(20);
            deployment.wait_for_all(60);
            deployment.start("third", None)
        });
        deployment.feed_to_fault(&mut sleeper, &place);
        let had = ["scrub", "watch"].map(|stage| (stage, heir.assigned(stage)));
        sleeper.signal(Signal::SIGSTOP);
        deployment.feed(40);
        // Its partitions go to the others, which process everything.
        deployment.wait_for_all(SESSION_SECONDS * 2 + 60);
        if second.is_none() {
            for (stage, before) in had {
                wait_until("the inheritance", 60, || heir.assigned(stage) > before);
            }
        }
        sleeper.pass_fault();
        sleeper.signal(Signal::SIGCONT);
        deployment.feed(40);
        deployment.wait_for_all(90);
        assert_eq!(sleeper.terminate(), Some(0), "{place}: {}", sleeper.log());
        if let Some(mut third) = second {
            assert_eq!(third.terminate(), Some(0), "{}", third.log());
        }
        heir.assert_running();
    }
    deployment.feed(50);
    deployment.wait_for_all(60);
    assert_eq!(heir.terminate(), Some(0), "{}", heir.log());
    deployment.verify();
    let buckets = deployment.verify_state();
    assert!(buckets > 0, "no bucket to compare");
    println!("{stops} stops, {} records, {buckets} buckets", deployment.fed().concat().len());
}

#[test]
fn traffic_held_delayed_and_cut() {
    let cluster = Cluster::single();
    let (forwarder, proxied) = cluster.forwarder();
    let admin = Admin { brokers: cluster.brokers() };
    let deployment = Deployment::new(admin, 3, "");
    let through = format!("kafka.brokers={proxied}");
    let mut daemon = deployment.start_with("a", None, &[&through]);
    deployment.feed(300);
    deployment.wait_for_all(60);
    let both = [Direction::ToBroker, Direction::ToClient];
    for direction in both {
        forwarder.set(direction, Traffic::Delay(Duration::from_millis(150)));
        deployment.feed(300);
        deployment.wait_for_all(90);
        forwarder.restore();
    }
    for direction in both {
        // Longer than a transaction lives and than a session lasts.
        forwarder.set(direction, Traffic::Hold);
        deployment.feed(300);
        pause(SESSION_SECONDS * 2);
        forwarder.restore();
        deployment.wait_for_all(90);
        daemon.assert_running();
    }
    // The request arrives, its answer does not. The last one's outcome is asked for by a new
    // producer, whose first answer is lost too.
    for lost in [
        &[ADD_OFFSETS_TO_TXN][..],
        &[PRODUCE],
        &[TXN_OFFSET_COMMIT],
        &[END_TXN],
        &[END_TXN, INIT_PRODUCER_ID],
    ] {
        for (nth, &api_key) in lost.iter().enumerate() {
            forwarder.hold_answers_after(api_key);
            deployment.feed(100);
            wait_until("the request", 60, || forwarder.has_matched());
            if lost.get(nth + 1) == Some(&INIT_PRODUCER_ID) {
                // If the client could ask once more in time, it would need no new producer.
                let failures = || daemon.log().matches("going back to the committed").count();
                let before = failures();
                wait_until("the commit given up", 60, || failures() > before);
            } else {
                pause(1);
            }
            forwarder.cut();
            forwarder.restore();
        }
        deployment.wait_for_all(90);
        daemon.assert_running();
    }
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    deployment.verify();
}

#[test]
fn the_only_broker_is_restarted() {
    let cluster = Cluster::single();
    let deployment = Deployment::new(Admin { brokers: cluster.brokers() }, 3, "");
    let mut daemon = deployment.start("a", None);
    for _ in 0..2 {
        deployment.feed(300);
        deployment.wait_for_all(60);
        deployment.feed(200);
        cluster.stop(1);
        cluster.restart(1);
        deployment.feed(100);
        deployment.wait_for_all(120);
        daemon.assert_running();
    }
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    deployment.verify();
}

#[test]
fn three_brokers_lose_leader_and_coordinators() {
    let cluster = Cluster::three();
    let admin = Admin { brokers: cluster.brokers() };
    let deployment = Deployment::new(admin, 3, "");
    let mut daemons = [deployment.start("a", None), deployment.start("b", None)];
    deployment.feed(300);
    deployment.wait_for_all(90);
    // Whoever leads a partition or coordinates a group or a transaction: each is killed once.
    for broker in [1, 2, 3] {
        deployment.feed(200);
        cluster.kill(broker);
        deployment.feed(200);
        deployment.wait_for_all(120);
        cluster.restart(broker);
        cluster.wait_in_sync();
        for daemon in &mut daemons {
            daemon.assert_running();
        }
    }
    // A broker that hangs instead of dying.
    cluster.signal(2, Signal::SIGSTOP);
    deployment.feed_unconfirmed(100);
    pause(3);
    cluster.signal(2, Signal::SIGCONT);
    deployment.feed(100);
    deployment.wait_for_all(120);
    for daemon in &mut daemons {
        // 70: a shard still waited for the broker that had hung; its next owner ends what is open.
        let code = daemon.terminate();
        assert!(matches!(code, Some(0 | 70)), "{code:?}: {}", daemon.log());
    }
    deployment.verify();
}

const PRODUCE: i16 = 0;
const INIT_PRODUCER_ID: i16 = 22;
const ADD_OFFSETS_TO_TXN: i16 = 25;
const END_TXN: i16 = 26;
const TXN_OFFSET_COMMIT: i16 = 28;

/// Lets a fault last: there is no condition to wait for but time.
fn pause(seconds: u64) {
    let over = Deadline::after_seconds(seconds);
    while !over.is_over() {
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

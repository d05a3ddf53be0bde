//! The whole pipeline on the real broker, undisturbed and with members that come and go.

use std::fs;
use std::time::Duration;

use rdkafka::producer::BaseRecord;

use crate::daemon::{Daemon, Deployment};
use crate::harness::{Admin, Deadline, flush, shared_brokers, wait_until};

fn deployment(partitions: i32) -> Deployment {
    Deployment::new(Admin { brokers: shared_brokers().to_owned() }, partitions, "")
}

#[test]
fn everything_passes_once_and_a_stop_is_clean() {
    let deployment = deployment(4);
    deployment.feed(2_000);
    let mut daemon = deployment.start("a", None);
    deployment.wait_for_all(60);
    deployment.feed(2_000);
    deployment.wait_for_all(60);
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    deployment.verify();
    let log = daemon.log();
    assert!(!log.contains("@example.com") && !log.contains("98765"), "{log}");
    // A restart goes on where it stopped.
    deployment.feed(500);
    let mut again = deployment.start("a", None);
    deployment.wait_for_all(60);
    assert_eq!(again.terminate(), Some(0), "{}", again.log());
    deployment.verify();
}

#[test]
fn an_idle_daemon_costs_next_to_nothing() {
    let deployment = deployment(6);
    let daemon = deployment.start("a", None);
    deployment.feed(600);
    deployment.wait_for_all(60);
    // Ticks, heartbeats and seals go on; nothing may spin while it waits for them.
    let watched = Deadline::after_seconds(5);
    let before = daemon.cpu();
    wait_until("the time is over", 10, || watched.is_over());
    let used = daemon.cpu() - before;
    assert!(used < Duration::from_secs(1), "{used:?} of processor time in 5 s");
}

const READY: &str = "blotter_partitions_ready";
const REBALANCES: &str = "blotter_kafka_rebalances_total";
const RECORDS: &str = "blotter_log_records_total";

fn ready(daemon: &Daemon, stage: &str) -> f64 {
    daemon.metric(READY, &[&format!("stage=\"{stage}\"")])
}

/// Waits until every one of these works, in both stages, and none of the partitions is left out.
fn wait_for_shares(daemons: &[&Daemon]) {
    for stage in ["scrub", "watch"] {
        wait_until(&format!("each one's share of {stage}"), 90, || {
            let shares: Vec<f64> = daemons.iter().map(|daemon| ready(daemon, stage)).collect();
            shares.iter().all(|share| *share > 0.0) && shares.iter().sum::<f64>() == 6.0
        });
    }
    for daemon in daemons {
        let before = daemon.metric(RECORDS, &[]);
        wait_until("records redacted by each", 60, || daemon.metric(RECORDS, &[]) > before);
    }
}

/// Rebalances of both stages in which partitions went (`revoked`) or came (`assigned`).
fn rebalances(daemon: &Daemon, event: &str) -> [f64; 2] {
    let event = format!("event=\"{event}\"");
    ["scrub", "watch"]
        .map(|stage| daemon.metric(REBALANCES, &[&format!("stage=\"{stage}\""), &event]))
}

fn have_grown(now: [f64; 2], before: [f64; 2]) -> bool {
    now.iter().zip(before).all(|(now, before)| *now > before)
}

#[test]
fn members_join_and_leave_under_load() {
    let deployment = deployment(6);
    let mut first = deployment.start_seen("a", false);
    deployment.under_load(|| {
        wait_for_shares(&[&first]);
        for round in 0..3 {
            let (lost, won) = (rebalances(&first, "revoked"), rebalances(&first, "assigned"));
            let mut others = ["b", "c"].map(|name| deployment.start_seen(name, false));
            let [second, third] = &others;
            wait_for_shares(&[&first, second, third]);
            assert!(have_grown(rebalances(&first, "revoked"), lost), "round {round}");
            for leaving in &mut others {
                assert_eq!(leaving.terminate(), Some(0), "round {round}: {}", leaving.log());
            }
            wait_for_shares(&[&first]);
            assert!(have_grown(rebalances(&first, "assigned"), won), "round {round}");
        }
    });
    deployment.wait_for_all(90);
    assert_eq!(first.terminate(), Some(0), "{}", first.log());
    deployment.verify();
    assert!(deployment.verify_state() > 0, "no bucket to compare");
}

#[test]
fn static_members_come_back_under_load() {
    let deployment = deployment(6);
    let mut first = deployment.start_seen("a", true);
    let mut second = deployment.start_seen("b", true);
    deployment.under_load(|| {
        wait_for_shares(&[&first, &second]);
        assert_eq!(second.terminate(), Some(0), "{}", second.log());
        second = deployment.start_seen("b", true);
        wait_for_shares(&[&first, &second]);
    });
    deployment.wait_for_all(90);
    assert_eq!(first.terminate(), Some(0), "{}", first.log());
    assert_eq!(second.terminate(), Some(0), "{}", second.log());
    deployment.verify();
}

#[test]
fn what_is_shown_and_alerted_is_what_was_fed() {
    let rule = "[alert]\ndefault_rules = false\n[[alert.rules]]\nname = \"SomeErrors\"\n\
                ratio = { of = \"errors\", per = \"records\" }\nwindow = \"10s\"\n\
                threshold = 0.05\nsamples_min = 1\nkeep_firing_for = \"5s\"\nseverity = \"SEV-2\"";
    let deployment = Deployment::new(Admin { brokers: shared_brokers().to_owned() }, 2, rule);
    deployment.feed(1_200);
    let mut daemon = deployment.start_seen("a", false);
    let is_well = |path: &str| daemon.http(path).is_some_and(|(status, _)| status == 200);
    wait_until("/livez and /readyz", 60, || is_well("/livez") && is_well("/readyz"));
    deployment.wait_for_all(60);
    let fed = deployment.fed().concat();
    for salon in 0..12 {
        let tenant = format!("salon-{salon}");
        let own = fed.iter().filter(|record| record.tenant() == tenant);
        let errors = own.clone().filter(|record| record.is_error()).count() as f64;
        let records = own.count() as f64;
        let label = format!("tenant=\"{tenant}\"");
        let shows = |name: &str, labels: &[&str], wanted: f64| {
            let labels: Vec<&str> = labels.iter().copied().chain([label.as_str()]).collect();
            wait_until(&format!("{name} of {tenant} = {wanted}"), 60, || {
                daemon.metric(name, &labels) == wanted
            });
        };
        shows(RECORDS, &[], records);
        shows(RECORDS, &["severity=\"error\""], errors);
        shows("blotter_error_ratio_records", &["service=\"booking-api\""], records);
        shows("blotter_error_ratio_errors", &["service=\"booking-api\""], errors);
    }
    // Every eleventh is an error; then nothing comes, and the window empties.
    let raised = || {
        let all = deployment.alerts().into_iter();
        let own = all.filter(|alert| alert["rule"] == "SomeErrors");
        own.filter(|alert| alert["reason"] == "transition").collect::<Vec<_>>()
    };
    wait_until("the alert and its end", 120, || raised().len() == 2);
    let [firing, resolved] = <[_; 2]>::try_from(raised()).expect("two");
    assert_eq!((&firing["status"], &firing["seq"]), (&"firing".into(), &1.into()), "{firing}");
    assert_eq!(firing["labels"]["alertname"], "SomeErrors");
    let [errors, records] =
        ["numerator", "samples"].map(|part| firing[part].as_f64().expect("a count"));
    assert!(errors / records > 0.05 && records <= fed.len() as f64, "{firing}");
    assert_eq!(resolved["status"], "resolved", "{resolved}");
    assert_eq!(resolved["episode"], firing["episode"]);
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    deployment.verify();
}

#[test]
fn two_processes_with_one_name_the_newcomer_wins() {
    let deployment = deployment(2);
    deployment.feed(200);
    let mut old = deployment.start("a", None);
    deployment.wait_for_all(60);
    let mut new = deployment.start("a", None);
    deployment.feed(200);
    assert_eq!(old.wait(60), Some(78), "{}", old.log());
    deployment.wait_for_all(60);
    deployment.feed(200);
    deployment.wait_for_all(60);
    assert_eq!(new.terminate(), Some(0), "{}", new.log());
    deployment.verify();
}

#[test]
fn missing_topics_and_brokers_are_named() {
    let deployment = deployment(1);
    let unreachable =
        deployment.command(&["topics", "check", "--set", "kafka.brokers=127.0.0.1:1"]);
    assert_eq!(unreachable.status.code(), Some(69), "{unreachable:?}");
    let missing = deployment.command(&["run", "--input", "no-such-topic"]);
    assert_eq!(missing.status.code(), Some(78), "{missing:?}");
    assert!(String::from_utf8_lossy(&missing.stderr).contains("no-such-topic"), "{missing:?}");
    let refused = deployment.command(&[
        "check",
        "--set",
        "kafka.properties.isolation.level=read_uncommitted",
    ]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(78), "{told}");
    assert!(told.contains("isolation.level"), "{told}");
}

#[test]
fn an_output_topic_that_goes_away_stops_those_alone_that_write_to_it() {
    let deployment = deployment(2);
    deployment.feed(50);
    let mut daemon = deployment.start("a", None);
    deployment.wait_for_all(60);
    let letters = format!("{}.dead-letters", deployment.source);
    deployment.admin.delete_topic(&letters);
    let feeder = deployment.admin.feeder();
    let no_text = BaseRecord::<[u8], [u8]>::to(&deployment.source).partition(0);
    feeder.send(no_text.payload(b"\x1f\x8b\x08\x00")).map_err(|(error, _)| error).expect("queued");
    flush(&feeder);
    wait_until("the stop", 90, || {
        daemon.assert_running();
        let log = daemon.log();
        log.lines().any(|line| line.contains("output_partition_missing") && line.contains(&letters))
    });
    let [stopped, other] =
        [0, 1].map(|partition| deployment.admin.watermarks(&deployment.redacted(), partition).1);
    deployment.admin.produce(&deployment.source, 1, "{\"level\":\"INFO\",\"message\":\"new\"}");
    let end = |partition| deployment.admin.watermarks(&deployment.redacted(), partition).1;
    wait_until("the neighbour's record", 60, || end(1) > other);
    deployment.must(&["topics", "create"]);
    wait_until("the record that waited", 120, || end(0) > stopped);
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
}

#[test]
fn a_grown_source_goes_on_when_its_topics_have_grown() {
    let deployment = deployment(1);
    deployment.feed(50);
    let mut daemon = deployment.start("a", None);
    deployment.wait_for_all(60);
    deployment.admin.grow(&deployment.source, 2);
    deployment.admin.produce(&deployment.source, 1, "{\"level\":\"INFO\",\"message\":\"new\"}");
    let check = deployment.command(&["topics", "check"]);
    assert_eq!(check.status.code(), Some(1), "{check:?}");
    assert!(String::from_utf8_lossy(&check.stdout).contains("blotter topics grow"), "{check:?}");
    deployment.feed(50);
    deployment.wait_for_all(60);
    deployment.must(&["topics", "grow"]);
    wait_until("the new partition's record", 90, || {
        daemon.assert_running();
        deployment.admin.watermarks(&deployment.redacted(), 1).1 > 0
    });
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    let seen = deployment.admin.read(&deployment.redacted(), 1);
    assert_eq!(seen.len(), 1);
    assert!(fs::metadata(env!("CARGO_BIN_EXE_blotter")).is_ok());
}

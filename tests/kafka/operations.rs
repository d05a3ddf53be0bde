//! What an operator does to a running deployment: other redaction rules, a broken alert state.

use nix::sys::signal::Signal;
use rdkafka::producer::BaseRecord;

use crate::daemon::Deployment;
use crate::harness::{Admin, flush, shared_brokers, wait_until};

fn deployment(partitions: i32, extra: &str) -> Deployment {
    Deployment::new(Admin { brokers: shared_brokers().to_owned() }, partitions, extra)
}

#[test]
fn rules_change_on_sighup_and_every_chain_tells() {
    let deployment = deployment(2, "[redact]\nregions = [\"IN\"]");
    deployment.feed(100);
    let mut daemon = deployment.start("a", None);
    deployment.wait_for_all(60);
    deployment.change_settings("regions = [\"IN\"]", "regions = [\"INDIA\"]");
    daemon.signal(Signal::SIGHUP);
    wait_until("the refusal", 30, || daemon.log().contains("those before stay in force"));
    let allowed = "regions = [\"IN\"]\nallow.emails = [\"@example.com\"]";
    deployment.change_settings("regions = [\"INDIA\"]", allowed);
    daemon.signal(Signal::SIGHUP);
    wait_until("the new rules", 30, || daemon.log().contains("they may let more pass"));
    let told = |partition| {
        let audit = deployment.admin.read(&format!("{}.audit", deployment.source), partition);
        audit.iter().filter(|entry| entry.text().contains(r#""loosened":true"#)).count()
    };
    wait_until("a policy entry in each chain", 30, || told(0) == 1 && told(1) == 1);
    deployment.feed(100);
    deployment.wait_for_all(60);
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    for partition in 0..2 {
        let texts: Vec<_> = deployment.admin.read(&deployment.redacted(), partition);
        let (before, after) = texts.split_at(50);
        assert!(before.iter().all(|record| !record.text().contains("@example.com")));
        assert!(after.iter().any(|record| record.text().contains("@example.com")));
        assert!(after.iter().all(|record| !record.text().contains("98765")));
    }
    deployment.must(&["audit", "verify", "--topic", &deployment.source]);
}

#[test]
fn a_broken_alert_state_stops_its_partition_until_it_is_reset() {
    let deployment = deployment(1, "");
    let state = format!("{}.watch-state", deployment.source);
    let feeder = deployment.admin.feeder();
    let broken = BaseRecord::to(&state).partition(0).key(r#"["?"]"#).payload("no state");
    feeder.send(broken).map_err(|(error, _)| error).expect("queued");
    flush(&feeder);
    let mut daemon = deployment.start("a", None);
    deployment.feed(100);
    // Redaction goes on; the partition of the alerts says what is wrong and what to do.
    deployment.wait_for_all(60);
    let command = "blotter alerts reset --partition 0";
    wait_until("the stop", 60, || {
        daemon.log().contains("state_unreadable") && daemon.log().contains(command)
    });
    let plan = deployment.must(&["alerts", "reset", "--partition", "0"]);
    assert!(plan.contains("stopped: state_unreadable") && plan.contains("--yes"), "{plan}");
    let before = deployment.admin.watermarks(&state, 0).1;
    deployment.must(&["alerts", "reset", "--partition", "0", "--yes"]);
    assert!(deployment.admin.watermarks(&state, 0).1 > before);
    let again = deployment.command(&["alerts", "reset", "--partition", "0"]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    let reset_to = deployment.admin.watermarks(&state, 0).1;
    let mut restarted = deployment.start("b", None);
    wait_until("the partition's state to go on", 60, || {
        restarted.assert_running();
        deployment.admin.watermarks(&state, 0).1 > reset_to
    });
    assert_eq!(restarted.terminate(), Some(0), "{}", restarted.log());
    assert!(!restarted.log().contains("state_unreadable"), "{}", restarted.log());
    deployment.verify();
}

//! What an operator does to a deployment: other redaction rules, a broken alert state, topics that
//! are missing, unequal or new.

use std::process::Output;

use nix::sys::signal::Signal;
use rdkafka::producer::BaseRecord;

use crate::daemon::{Deployment, MEASURES_PARTITIONS};
use crate::harness::{Admin, flush, shared_brokers, unique, wait_until};

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

/// The exit code with what was told.
fn told(output: &Output) -> (Option<i32>, String) {
    let [stdout, stderr] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    (output.status.code(), format!("{stdout}{stderr}"))
}

#[test]
fn missing_and_unequal_topics_are_named_with_the_command_that_mends_them() {
    let deployment = deployment(1, "");
    let other = unique("app.other");
    deployment.admin.create_topic(&other, 2, &[]);
    let input = format!("input.topics={other}");
    let (code, text) = told(&deployment.command(&["run", "--set", &input]));
    assert_eq!(code, Some(78), "{text}");
    let missing = format!("topic {other}.redacted: missing (needs 2 partitions)");
    assert!(text.contains(&missing) && text.contains("--create-topics"), "{text}");
    // More replicas than there are brokers is a wrong setting, not a missing right.
    let replicas = ["--set", "topics.replication=99"];
    let call = [&["topics", "create", "--set", &input], &replicas[..]].concat();
    let (code, text) = told(&deployment.command(&call));
    assert!(code == Some(78) && text.contains("topics.replication"), "{code:?} {text}");
    // What a stopped partition of a new topic names makes what is missing.
    let text = deployment.must(&["topics", "grow", "--set", &input]);
    for made in ["redacted", "audit"] {
        assert!(text.contains(&format!("made {other}.{made}\n")), "{text}");
    }
    assert!(text.ends_with("all topics are as they should be\n"), "{text}");
    // A state with another number of partitions than the measures.
    let state = unique("state");
    deployment.admin.create_topic(&state, 1, &[("cleanup.policy", "compact")]);
    let output = format!("output.watch_state={state}");
    let (code, text) = told(&deployment.command(&["run", "--set", &output]));
    assert_eq!(code, Some(78), "{text}");
    let unequal = format!(
        "topic {state}: partitions is 1, needs {MEASURES_PARTITIONS}; mend: blotter topics grow"
    );
    assert!(text.contains(&unequal), "{text}");
    let (_, text) = told(&deployment.command(&["topics", "grow", "--set", &output]));
    assert!(text.contains(&format!("{state} has {MEASURES_PARTITIONS} partitions now")), "{text}");
}

#[test]
fn a_new_topic_of_a_pattern_gets_its_topics_while_running() {
    let fast = "[kafka.properties]\n\"topic.metadata.refresh.interval.ms\" = \"1000\"";
    let deployment = deployment(1, fast);
    let new = format!("{}-new", deployment.source);
    let pattern = format!("input.patterns={new}");
    let mut daemon = deployment.start_with("a", None, &[&pattern, "topics.create=true"]);
    deployment.feed(10);
    deployment.wait_for_all(60);
    deployment.admin.create_topic(&new, 1, &[]);
    deployment.admin.produce(&new, 0, r#"{"level":"INFO","message":"mail a@example.com"}"#);
    let redacted = format!("{new}.redacted");
    let made =
        |name: &str| daemon.log().lines().any(|l| l.contains("made a topic") && l.contains(name));
    wait_until("the topics", 60, || made(&redacted) && made(&format!("{new}.audit")));
    wait_until("the record", 90, || {
        daemon.assert_running();
        !deployment.admin.read(&redacted, 0).is_empty()
    });
    let seen = deployment.admin.read(&redacted, 0);
    assert!(seen.len() == 1 && !seen[0].text().contains("a@example.com"), "{seen:?}");
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
}

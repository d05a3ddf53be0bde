//! Other redaction rules while the daemon runs: taken over between two transactions, told in every
//! chain.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::Arc;

use blotter::pipeline::redact::Policy;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::daemon::{Daemon, Site};
use crate::home::{Home, calm};

const LINE: &[u8] = br#"{"note":"ring 98765 43210 please","mail":"desk@salon.example"}"#;

fn policy(settings: Value) -> Arc<Policy> {
    Arc::new(Policy::new(&serde_json::from_value(settings).unwrap()).unwrap())
}

#[test]
fn every_chain_tells_each_policy_before_what_it_was_used_for() {
    let daemon = Daemon::start(&Site::new(2), &["run.shards=1"]);
    let indian = json!({ "regions": ["IN"] });
    let kept = json!({ "regions": ["IN"], "allow": { "emails": ["@salon.example"] } });
    let mut expected = Vec::new();
    for (round, (settings, line)) in [
        (json!({}), r#"{"note":"ring 98765 43210 please","mail":"[email]"}"#),
        (indian.clone(), r#"{"note":"ring [phone] please","mail":"[email]"}"#),
        (kept, r#"{"note":"ring [phone] please","mail":"desk@salon.example"}"#),
        (indian, r#"{"note":"ring [phone] please","mail":"[email]"}"#),
    ]
    .into_iter()
    .enumerate()
    {
        daemon.policy.replace(policy(settings)).unwrap();
        // Partition 1 stays silent: its chain tells the policies all the same.
        daemon.await_records("app.logs.audit", 1, 3 + 2 * round);
        daemon.feed(0, LINE);
        expected.push(line.to_owned());
        let redacted = daemon.redacted(0, expected.len());
        let values: Vec<String> = redacted
            .into_iter()
            .map(|record| String::from_utf8(record.body.value.unwrap().into_vec()).unwrap())
            .collect();
        assert_eq!(values, expected);
    }
    for partition in [0, 1] {
        let (entries, _) = daemon.audit(partition);
        let of = |kind: &str| entries.iter().filter(|e| e["k"] == kind).collect::<Vec<_>>();
        let told: Vec<Value> = of("pol").iter().map(|e| e["loosened"].clone()).collect();
        assert_eq!(told, [json!(false), json!(false), json!(true), json!(false)]);
        assert_eq!(of("pol")[1]["policy"]["policy"]["regions"], json!(["IN"]));
        // Receipts name the newest policy in front of them.
        let mut in_force = String::new();
        for entry in &entries {
            match entry["k"].as_str() {
                Some("pol") => in_force = entry["hash"].as_str().unwrap()[..12].to_owned(),
                Some("red") => assert_eq!(entry["policy"], json!(in_force)),
                _ => {}
            }
        }
        assert_eq!(of("red").len(), if partition == 0 { 4 } else { 0 });
    }
    daemon.end();
}

#[test]
fn a_restart_under_other_rules_is_counted_for_each_chain() {
    let site = Site::new(2);
    let first = Daemon::start(&site, &["redact.regions=[\"IN\", \"DE\"]"]);
    for partition in [0, 1] {
        first.await_records("app.logs.audit", partition, 3);
    }
    first.end();
    let second = Daemon::start(&site, &["redact.regions=[\"IN\"]"]);
    second.metrics(|text| text.contains("policy_reloads_total{outcome=\"unknown\"} 2\n"));
    for partition in [0, 1] {
        let (entries, _) = second.audit(partition);
        let told = entries.iter().filter(|entry| entry["k"] == "pol").map(|e| &e["loosened"]);
        assert_eq!(told.collect::<Vec<_>>(), [&json!(false), &json!(null)]);
    }
    second.end();
}

#[test]
fn the_binary_takes_rules_over_on_sighup_and_refuses_broken_ones() {
    let home = Home::new();
    let file = home.write("blotter.toml", "[redact]\n");
    let mut child = home
        .command(["-c", "blotter.toml", "pipe", "--out", "out"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut ask = || {
        stdin.write_all(b"ring 98765 43210 please\n").unwrap();
        stdout.next().unwrap().unwrap()
    };
    assert_eq!(ask(), "ring 98765 43210 please");
    fs::write(&file, "[redact]\nregions = [\"UK\"]\n").unwrap();
    kill(pid, Signal::SIGHUP).unwrap();
    assert_eq!(ask(), "ring 98765 43210 please");
    fs::write(&file, "[redact]\nregions = [\"IN\"]\n").unwrap();
    kill(pid, Signal::SIGHUP).unwrap();
    let asked = (0..10_000).find(|_| ask() == "ring [phone] please");
    assert!(asked.is_some(), "the rules were not taken over");
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let stderr = calm(&output);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("blotter.toml:2: redact.regions[0]: `UK`"), "{stderr}");
    let audit = fs::read_to_string(home.path("out/audit.jsonl")).unwrap();
    assert_eq!(audit.lines().filter(|line| line.contains(r#""k":"pol""#)).count(), 2);
    let metrics = fs::read_to_string(home.path("out/metrics.txt")).unwrap();
    for part in ["reloads_total{outcome=\"refused\"} 1", "reloads_total{outcome=\"applied\"} 1"] {
        assert!(metrics.contains(part), "{metrics}");
    }
    let verified = home.run(&["audit", "verify", "out/audit.jsonl"]);
    assert_eq!(verified.exit, 0, "{}{}", verified.stdout, verified.stderr);
}

//! The whole job on hostile records: each ends in a counted outcome beside neighbours that pass, and
//! nothing of what is personal leaves, in no topic, file, metric or log.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use blotter::daemon::broker::embedded::Body;
use blotter::daemon::clock::{Clock, SystemClock};
use blotter::pipeline::record::Header;

use crate::daemon::{Daemon, SOURCE, Site};
use crate::home::Home;

/// What must never come out.
const PERSONAL: [&str; 4] = ["asha@", "asha%40", "98765 43210", "9876543210"];
const NEIGHBOUR: &[u8] =
    br#"{"level":"info","tenant":"acme","msg":"fine","to":"asha@example.com"}"#;
const NEIGHBOUR_REDACTED: &str = r#"{"level":"info","tenant":"acme","msg":"fine","to":"[email]"}"#;

/// Values no service should write, and some do.
fn hostile() -> Vec<Vec<u8>> {
    let year_ahead = SystemClock::new().now().plus_millis(366 * 86_400_000).to_rfc3339();
    let deep = |open: &str, close: &str| {
        let (open, close) = (open.repeat(100_000), close.repeat(100_000));
        format!("{open}\"+91 98765 43210\"{close}").into_bytes()
    };
    let tenants = [
        "_all",
        "_other",
        "../../etc/passwd",
        "a\\u0000b",
        "{evil=\\\"1\\\"}",
        "asha@example.com",
        "+91 98765 43210",
        "\\n# HELP x",
        "\u{202e}\u{fe0f}\u{1f600}",
    ];
    let long_tenant = "t".repeat(100_000);
    let tenants = tenants.into_iter().chain([long_tenant.as_str()]).map(|tenant| {
        format!(r#"{{"level":"error","tenant":"{tenant}","phone":"+919876543210"}}"#).into_bytes()
    });
    [
        b"not utf-8 \xff\xfe asha@example.com +919876543210".to_vec(),
        b"".to_vec(),
        format!("{} call +91 98765 43210", "x ".repeat(2_600_000)).into_bytes(),
        deep("[", "]"),
        deep("{\"a\":", "}"),
        format!(
            r#"{{"level":"error","time":"{year_ahead}","tenant":"acme","to":"asha@example.com"}}"#
        )
        .into_bytes(),
        b"\x1f\x8b\x08\x00asha@example.com".to_vec(),
        b"{\"broken\": \"asha@example.com".to_vec(),
        b"\x00\x00\x00\x00\x00".to_vec(),
    ]
    .into_iter()
    .chain(tenants)
    .collect()
}

#[track_caller]
fn assert_clean(text: &str) {
    let lower = text.to_lowercase();
    for word in PERSONAL {
        let found = lower.find(word);
        let near = found.map(|at| lower.get(at.saturating_sub(80)..at + 20));
        assert!(found.is_none(), "`{word}` came out: {near:?}");
    }
}

#[test]
fn the_binary_takes_every_line_and_lets_nothing_out() {
    let home = Home::new();
    let mut input = Vec::new();
    let hostile = hostile();
    for line in &hostile {
        input.extend_from_slice(line);
        input.push(b'\n');
        input.extend_from_slice(NEIGHBOUR);
        input.push(b'\n');
    }
    let ran = home.pipe(&["pipe", "--out", "out"], &input);
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), hostile.len() * 2);
    assert!(lines.iter().skip(1).step_by(2).all(|line| *line == NEIGHBOUR_REDACTED));
    assert_clean(&ran.stdout);
    assert_clean(&ran.stderr);
    for file in ["audit.jsonl", "alerts.jsonl", "dead-letters.jsonl", "metrics.txt"] {
        assert_clean(&fs::read_to_string(home.path("out").join(file)).unwrap());
    }
    let verified = home.run(&["audit", "verify", "out/audit.jsonl"]);
    assert_eq!(verified.exit, 0, "{}{}", verified.stdout, verified.stderr);
    let read = format!("{} read", hostile.len() * 2);
    assert!(verified.stdout.contains(&read), "{}", verified.stdout);
    let metrics = fs::read_to_string(home.path("out/metrics.txt")).unwrap();
    for part in [
        r#"blotter_records_masked_total{reason="invalid_utf8"} 1"#,
        r#"blotter_records_rejected_total{reason="gzip"} 1"#,
    ] {
        assert!(metrics.contains(part), "{part}: {metrics}");
    }
}

#[test]
fn a_record_without_value_stays_one_and_no_timestamp_stops_anything() {
    let daemon = Daemon::start(&Site::new(2), &[]);
    let now = SystemClock::new().now();
    let year_ahead = now.plus_millis(366 * 86_400_000);
    let header = [
        Header { name: "x-customer", value: Some(b"asha@example.com") },
        Header { name: "empty", value: None },
    ];
    let bodies = [
        Body::new(None, None),
        Body::new(Some(b"asha@example.com"), None),
        Body::new(Some(b""), Some(b"")),
        Body::new(None, Some(b"")).with_headers(&header),
    ];
    for body in bodies {
        daemon.produce(0, now, body);
    }
    daemon.produce(0, year_ahead, Body::new(None, Some(NEIGHBOUR)));
    daemon.produce(0, now.plus_millis(-now.millis()), Body::new(None, Some(NEIGHBOUR)));
    for value in hostile() {
        daemon.feed(0, &value);
    }
    daemon.feed(1, NEIGHBOUR);
    let count = 6 + hostile().len();
    let redacted = daemon.redacted(0, count);
    assert_eq!(redacted.len(), count);
    assert!(redacted[0].body.value.is_none() && redacted[1].body.value.is_none());
    assert!(redacted[1].body.key.as_ref().is_some_and(|key| key.starts_with(b"[email:")));
    for at in [2, 3] {
        assert_eq!(redacted[at].body.value.as_deref(), Some(b"".as_slice()));
    }
    assert_eq!(redacted[3].body.header("x-customer"), Some(b"[email]".as_slice()));
    assert_eq!(redacted[4].timestamp, year_ahead);
    assert_eq!(daemon.redacted(1, 1)[0].body.value.as_deref(), Some(NEIGHBOUR_REDACTED.as_bytes()));
    // The future moves no watermark: event time stays near now.
    let metrics = daemon.metrics(|text| text.contains("blotter_event_time_timestamp_seconds{"));
    let times = metrics.lines().filter(|line| line.starts_with("blotter_event_time_timestamp"));
    let limit = now.millis() / 1_000 + 600;
    for line in times {
        let seconds: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(seconds < f64::from(i32::try_from(limit).unwrap()), "{line}");
    }
    assert_clean(&daemon.everything());
    for partition in [0, 1] {
        daemon.audit(partition);
    }
    daemon.end();
}

#[test]
fn a_canary_that_is_let_through_is_counted_and_told_without_its_value() {
    let home = Home::new();
    let file = home.write("blotter.toml", "[sentinel]\ncanaries = [\"acme\", \"salon-7\"]\n");
    let file = file.to_str().unwrap();
    let planted = home.run(&["-c", file, "keys", "canaries"]);
    assert_eq!((planted.exit, planted.stdout.lines().count()), (0, 2), "{}", planted.stderr);
    let count = |ran: &crate::home::Ran, out: &str| {
        assert_eq!(ran.exit, 0, "{}", ran.stderr);
        let metrics = fs::read_to_string(home.path(out).join("metrics.txt")).unwrap();
        let line = metrics.lines().find(|line| line.contains("leaks_found_total{kind=\"canary\"}"));
        line.map(|line| line.rsplit(' ').next().unwrap().to_owned())
    };
    let caught = home.pipe(&["-c", file, "pipe", "--out", "out"], planted.stdout.as_bytes());
    assert_eq!(count(&caught, "out"), None);
    // A policy that lets addresses of the domain pass.
    let open = "redact = { allow = { emails = [\"@example.com\"] } }\n";
    let open = home.write("open.toml", open);
    let arguments = ["-c", file, "-c", open.to_str().unwrap(), "pipe", "--out", "open"];
    let leaked = home.pipe(&arguments, planted.stdout.as_bytes());
    assert_eq!(count(&leaked, "open").as_deref(), Some("2"));
    assert!(leaked.stderr.contains("has left"), "{}", leaked.stderr);
    let alerts = fs::read_to_string(home.path("open/alerts.jsonl")).unwrap();
    assert!(alerts.contains("LeakFound") && !alerts.contains("example.com"), "{alerts}");
    assert!(!leaked.stderr.contains("example.com"), "{}", leaked.stderr);
    assert_eq!(home.run(&["keys", "canaries"]).exit, 78);
}

#[test]
fn a_partition_whose_outputs_are_missing_stops_with_an_alert() {
    let site = Site::new(1);
    site.cluster.grow_topic(SOURCE, 2).unwrap();
    let daemon = Daemon::start(&site, &[]);
    let is_told = |count| {
        let alerts = daemon.await_records("blotter.alerts", 0, count);
        let last = alerts.last().and_then(|alert| alert.body.value.as_deref());
        last.is_some_and(|value| String::from_utf8_lossy(value).contains("PartitionStopped"))
    };
    assert!((1..100).any(is_told));
    // Its neighbour goes on.
    daemon.feed(0, NEIGHBOUR);
    assert_eq!(daemon.redacted(0, 1)[0].body.value.as_deref(), Some(NEIGHBOUR_REDACTED.as_bytes()));
    daemon.end();
}

#[test]
fn a_partition_that_is_no_text_stops_with_an_alert() {
    let daemon = Daemon::start(&Site::new(2), &[]);
    for _ in 0..1_000 {
        daemon.feed(0, b"\x1f\x8b\x08\x00no text");
    }
    let is_told = |count| {
        let alerts = daemon.await_records("blotter.alerts", 0, count);
        let last = alerts.last().and_then(|alert| alert.body.value.as_deref());
        last.is_some_and(|value| String::from_utf8_lossy(value).contains("PartitionStopped"))
    };
    assert!((1..100).any(is_told));
    // Its neighbour goes on.
    daemon.feed(1, NEIGHBOUR);
    assert_eq!(daemon.redacted(1, 1)[0].body.value.as_deref(), Some(NEIGHBOUR_REDACTED.as_bytes()));
    daemon.end();
}

#[test]
fn an_otlp_batch_counts_each_log_record_under_its_resource() {
    let home = Home::new();
    let resource = |tenant: &str, service: &str, severities: &[u8]| {
        let attribute = |key: &str, value: &str| {
            format!(r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#)
        };
        let logs: Vec<String> = severities
            .iter()
            .map(|number| {
                format!(
                    r#"{{"severityNumber":{number},"body":{{"stringValue":"asha@example.com"}}}}"#
                )
            })
            .collect();
        format!(
            r#"{{"resource":{{"attributes":[{},{}]}},"scopeLogs":[{{"logRecords":[{}]}}]}}"#,
            attribute("service.name", service),
            attribute("tenant.id", tenant),
            logs.join(",")
        )
    };
    let batch = [
        resource("acme", "api", &[9, 17]),
        resource("acme", "worker", &[17, 21, 9]),
        resource("asha@example.com", "api", &[17]),
        resource("acme", "api", &[18]),
    ];
    let line = format!(r#"{{"resourceLogs":[{}]}}"#, batch.join(","));
    let ran = home.pipe(&["pipe", "--out", "out"], line.as_bytes());
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    let metrics = fs::read_to_string(home.path("out/metrics.txt")).unwrap();
    assert_clean(&metrics);
    let count = |labels: &str| {
        let line = format!("blotter_log_records_total{{{labels}}} ");
        metrics.lines().find_map(|one| one.strip_prefix(&line)).unwrap_or("none").to_owned()
    };
    for (labels, expected) in [
        (r#"service="api",severity="error",tenant="acme""#, "2"),
        (r#"service="api",severity="info",tenant="acme""#, "1"),
        (r#"service="worker",severity="error",tenant="acme""#, "1"),
        (r#"service="worker",severity="fatal",tenant="acme""#, "1"),
        (r#"service="worker",severity="info",tenant="acme""#, "1"),
    ] {
        assert_eq!(count(labels), expected, "{labels}: {metrics}");
    }
    let masked = metrics.lines().filter(|line| line.contains("log_records_total{"));
    assert!(masked.into_iter().any(|line| line.contains("tenant=\"[email:")), "{metrics}");
}

#[test]
fn turns_are_the_bots_and_no_tenant_poses_as_the_overflow() {
    let home = Home::new();
    let line = |role: &str| {
        format!(
            r#"{{"level":"info","event":"bot.turn","role":"{role}","session_id":"s-1","tenant":"_other","service":"_other","to":"asha@example.com"}}"#
        )
    };
    let ran =
        home.pipe(&["pipe", "--out", "out"], [line("user"), line("bot")].join("\n").as_bytes());
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    let metrics = fs::read_to_string(home.path("out/metrics.txt")).unwrap();
    for sample in [
        r#"blotter_bot_turns_total{tenant="__other"} 1"#,
        r#"blotter_log_records_total{service="__other",severity="info",tenant="__other"} 2"#,
        r#"tenant="__other"} 2"#,
    ] {
        assert!(metrics.contains(sample), "{sample}: {metrics}");
    }
    assert!(!metrics.contains("\"_other\""), "{metrics}");
}

#[test]
fn a_line_over_the_limit_is_masked_whole() {
    let home = Home::new();
    // The limit of a record is 64 MiB: a number stands across it.
    let mut input = vec![b'.'; (64 << 20) - 10];
    input.extend_from_slice(b" call 9876543210 now\n");
    input.extend_from_slice(NEIGHBOUR);
    input.push(b'\n');
    let ran = home.pipe(&["--set", "log.filter=error", "pipe"], &input);
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!((lines.len(), lines[1]), (2, NEIGHBOUR_REDACTED));
    for part in ["98765", "43210"] {
        assert!(!lines[0].contains(part), "{part} of a number came out");
    }
}

#[test]
fn a_trail_is_never_written_over() {
    let home = Home::new();
    let first = home.pipe(&["pipe", "--out", "out"], NEIGHBOUR);
    assert_eq!(first.exit, 0, "{}", first.stderr);
    let trail = fs::read(home.path("out/audit.jsonl")).unwrap();
    let again = home.pipe(&["pipe", "--out", "out"], b"");
    assert_eq!(again.exit, 74, "{}", again.stderr);
    assert!(again.stderr.contains("out/audit.jsonl"), "{}", again.stderr);
    assert_eq!(fs::read(home.path("out/audit.jsonl")).unwrap(), trail);
    let nothing = home.run(&["pipe", "missing.log", "--out", "other"]);
    assert_eq!((nothing.exit, home.path("other").exists()), (74, false), "{}", nothing.stderr);
}

#[test]
fn a_pipe_that_is_told_to_end_finishes_what_it_took() {
    let home = Home::new();
    let mut child = home.command(["pipe", "--out", "out"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        stdin.write_all(NEIGHBOUR).and_then(|()| stdin.write_all(b"\n")).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), NEIGHBOUR_REDACTED);
    }
    // The input stays open.
    let id = child.id().to_string();
    let limits = fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "a core dump would hold records: {core}");
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    drop(stdin);
    let verified = home.run(&["audit", "verify", "out/audit.jsonl"]);
    assert_eq!(verified.exit, 0, "{}{}", verified.stdout, verified.stderr);
    assert!(verified.stdout.contains("3 read"), "{}", verified.stdout);
    assert!(home.path("out/metrics.txt").exists());
}

#[test]
fn a_pipe_whose_reader_has_gone_ends_quietly() {
    let home = Home::new();
    let mut child = home.command(["pipe"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    let mut write = || stdin.write_all(NEIGHBOUR).and_then(|()| stdin.write_all(b"\n"));
    write().unwrap();
    stdout.read_line(&mut first).unwrap();
    drop(stdout);
    // It ends though its input does not: at some line nobody reads on.
    while write().is_ok() {}
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    crate::home::calm(&ended);
}

#[test]
fn a_demo_touches_no_folder_of_somebody_else() {
    let home = Home::new();
    fs::create_dir(home.path("mine")).unwrap();
    home.write("mine/notes.txt", "kept");
    let refused = home.run(&["demo", "--out", "mine"]);
    assert_eq!(refused.exit, 64, "{}", refused.stderr);
    assert!(refused.stderr.contains("--out"), "{}", refused.stderr);
    let other = home.run(&["demo", "--out", "new", "--set", "input.topics=app.logs"]);
    assert_eq!(other.exit, 64, "{}", other.stderr);
    assert_eq!(fs::read_to_string(home.path("mine/notes.txt")).unwrap(), "kept");
}

#[test]
fn an_otlp_batch_of_two_tenants_joins_nothing_of_theirs() {
    let home = Home::new();
    let resource = |tenant: &str, more: &str| {
        format!(
            r#"{{"resource":{{"attributes":[{{"key":"tenant.id","value":{{"stringValue":"{tenant}"}}}}]}},"scopeLogs":[{{"logRecords":[{{"attributes":[{{"key":"session.id","value":{{"stringValue":"+919876543210"}}}}{more}]}}]}}]}}"#
        )
    };
    let deed = r#",{"key":"staff_id","value":{"stringValue":"st-2"}},{"key":"action","value":{"stringValue":"refund"}}"#;
    let (acme, globex) = (resource("acme", ""), resource("globex", deed));
    let line = format!(r#"{{"resourceLogs":[{acme},{globex}]}}"#);
    let ran = home.pipe(&["pipe", "--out", "out"], line.as_bytes());
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    assert_clean(&ran.stdout);
    assert!(!ran.stdout.contains("[phone:"), "a token would join them: {}", ran.stdout);
    let audit = fs::read_to_string(home.path("out/audit.jsonl")).unwrap();
    assert!(audit.contains(r#""k":"red""#), "{audit}");
    for word in [r#""k":"act""#, "acme", "globex", "refund", "st-2"] {
        assert!(!audit.contains(word), "{word}: {audit}");
    }
}

#[test]
fn the_audit_trail_holds_what_staff_did_and_not_what_customers_did() {
    let home = Home::new();
    let lines = concat!(
        r#"{"action":"view","user_id":"u77","msg":"customer viewed page"}"#,
        "\n",
        r#"{"action":"refund","staff_id":"st-4"}"#,
        "\n",
    );
    let ran = home.pipe(&["pipe", "--out", "out"], lines.as_bytes());
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    let audit = fs::read_to_string(home.path("out/audit.jsonl")).unwrap();
    let actions: Vec<&str> = audit.lines().filter(|line| line.contains(r#""k":"act""#)).collect();
    assert_eq!(actions.len(), 1, "{audit}");
    assert!(actions[0].contains("refund") && !audit.contains("u77"), "{audit}");
}

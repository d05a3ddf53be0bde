//! Records nobody expects: each passes or is counted, and nothing beside it stands still.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use rdkafka::producer::BaseRecord;

use crate::daemon::Deployment;
use crate::harness::{Admin, Feeder, flush, millis_since_epoch, shared_brokers, unique};

const YEAR_MS: i64 = 365 * 86_400_000;

/// Larger than any record below.
const RECORD_BYTES_MAX: &str = "8000000";

fn admin() -> Admin {
    Admin { brokers: shared_brokers().to_owned() }
}

/// A record nobody expects, and what becomes of its value.
struct Hostile {
    what: &'static str,
    value: Option<Vec<u8>>,
    ahead_ms: i64,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It passes as it is.
    Unchanged,
    /// It passes with this taken out.
    Without(&'static str),
}

fn hostile() -> Vec<Hostile> {
    let log = |tenant: &str| {
        let line = serde_json::json!({"level": "ERROR", "tenant_id": tenant, "message": "m"});
        Some(line.to_string().into_bytes())
    };
    let mail = "rahul.mehta@example.com";
    let mut long = vec![b'x'; 5_000_000];
    long.extend_from_slice(b" from rahul.mehta@example.com");
    let mut deep = "[".repeat(100_000);
    deep.push_str("\"rahul.mehta@example.com\"");
    deep.push_str(&"]".repeat(100_000));
    let latin_1 = b"le caf\xe9 de rahul.mehta@example.com".to_vec();
    let binary = b"\x00\xff\xfe\x01\x02 rahul.mehta@example.com \xc3".to_vec();
    let record = |what, value, fate| Hostile { what, value, ahead_ms: 0, fate };
    vec![
        record("null", None, Fate::Unchanged),
        record("empty", Some(Vec::new()), Fate::Unchanged),
        record("5 MB", Some(long), Fate::Without(mail)),
        record("100,000 deep", Some(deep.into_bytes()), Fate::Without(mail)),
        record("not UTF-8", Some(latin_1), Fate::Without(mail)),
        record("binary", Some(binary), Fate::Without(mail)),
        Hostile { ahead_ms: YEAR_MS, ..record("a year ahead", log("acme"), Fate::Unchanged) },
        record("tenant of labels", log("a\",service=\"x\"}\n# HELP x"), Fate::Unchanged),
        record("tenant of NUL", log("\u{0}\u{7f}"), Fate::Unchanged),
        record("tenant of blotter", log("_all"), Fate::Unchanged),
        record("tenant of paths", log("../../../etc/passwd"), Fate::Unchanged),
        record("tenant of 10 kB", log(&"t".repeat(10_000)), Fate::Unchanged),
        record("tenant with an address", log(mail), Fate::Without(mail)),
    ]
}

#[test]
fn records_nobody_expects_pass_or_are_counted_and_nothing_stands_still() {
    let source = unique("app.hostile");
    let years = (YEAR_MS * 10).to_string();
    let config =
        [("max.message.bytes", RECORD_BYTES_MAX), ("message.timestamp.after.max.ms", &years)];
    admin().create_topic(&source, 2, &config);
    let deployment = Deployment::of_topic(admin(), source, 2, "");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|held| held.local_addr());
    let address = port.expect("a free port").to_string();
    let listen = format!("http.listen={address}");
    let mut daemon = deployment.start_with("a", None, &["http.enabled=true", &listen]);
    let records = hostile();
    let now_ms = millis_since_epoch();
    let mut config = deployment.admin.client();
    config.set("message.max.bytes", RECORD_BYTES_MAX);
    let feeder: Feeder = config.create_with_context(Default::default()).expect("a producer");
    for record in &records {
        let mut out = BaseRecord::<[u8], [u8]>::to(&deployment.source)
            .partition(0)
            .timestamp(now_ms + record.ahead_ms)
            .key(record.what.as_bytes());
        out.payload = record.value.as_deref();
        feeder.send(out).map_err(|(error, _)| error).expect("queued");
    }
    flush(&feeder);
    // Behind them in their partition, and beside them.
    deployment.feed(100);
    deployment.wait_for_all(120);
    daemon.assert_running();
    let metrics = scrape(&address);
    let seen = deployment.admin.read(&deployment.redacted(), 0);
    assert_eq!(seen.len(), records.len() + 50, "nothing is lost or doubled");
    for (record, seen) in records.iter().zip(&seen) {
        let what = record.what;
        assert_eq!(seen.timestamp, now_ms + record.ahead_ms, "{what}");
        match record.fate {
            Fate::Unchanged => assert!(seen.value == record.value, "{what}: {seen:?}"),
            Fate::Without(mail) => assert!(!seen.text().contains(mail), "{what}: {seen:?}"),
        }
    }
    let total = |name: &str| -> f64 {
        let lines = metrics.lines().filter(|line| line.starts_with(name));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    assert_eq!(total("blotter_records_masked_total{reason=\"too_deep\"}"), 1.0, "{metrics}");
    assert_eq!(total("blotter_records_rejected_total{reason=\"binary\"}"), 1.0, "{metrics}");
    for none in ["blotter_shard_rebuilds_total", "blotter_partition_stopped"] {
        assert_eq!(total(none), 0.0, "{metrics}");
    }
    // A tenant's name is one label's value, however it is written, and holds no address.
    let forged = metrics.lines().any(|line| line.starts_with("# HELP x"));
    assert!(!forged && !metrics.contains("rahul.mehta@"), "{metrics}");
    let audit = deployment.must(&["audit", "verify", "--topic", &deployment.source, "--json"]);
    let verdict: serde_json::Value =
        serde_json::from_str(audit.lines().next().expect("a partition")).expect("JSON");
    let counts = &verdict["records"];
    assert_eq!(counts["read"], records.len() + 50, "{verdict}");
    assert_eq!(counts["forwarded"], records.len() + 49, "{verdict}");
    assert_eq!(verdict["fault"], serde_json::Value::Null, "{verdict}");
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}

fn scrape(address: &str) -> String {
    let mut connection = TcpStream::connect(address).expect("the endpoint listens");
    connection
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("asked");
    let mut text = String::new();
    connection.read_to_string(&mut text).expect("answered");
    text
}

//! The binary as a user runs it, without a broker: settings, the filters, verification, keys. Every
//! call is checked for exit code and text, and none may panic.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::thread;

use blotter::pipeline::audit::{
    Action, Commitment, Deployment, DeploymentKey, Fate, Genesis, InstanceKey, InstanceName,
    KeyringId, Ledger, Origin, PolicyHash, Sealer, StartKind,
};
use blotter::pipeline::record::{Timestamp, TopicPartition};

use crate::home::{Home, calm, ran};

const VALUE: &str = r#"{"level":"error","salonId":"salon-77","service":"booking-api","phone":"+91 98765 43210","note":"mail Asha.Rao+spa@example.com"}"#;

#[test]
fn the_help_fits_a_terminal_and_names_every_command() {
    let home = Home::new();
    let help = home.run(&["--help"]);
    assert_eq!(help.exit, 0);
    assert!(help.stdout.lines().count() <= 24, "{}", help.stdout);
    assert!(help.stdout.lines().all(|line| line.len() <= 80), "{}", help.stdout);
    let commands = [
        "run", "redact", "explain", "preview", "init", "check", "topics", "audit", "keys", "alerts",
    ];
    for command in commands {
        assert!(help.stdout.contains(&format!(" {command} ")), "{command}");
        assert_eq!(home.run(&[command, "--help"]).exit, 0, "{command}");
    }
    assert_eq!(home.run(&["--version"]).exit, 0);
}

#[test]
fn a_wrong_command_line_exits_64() {
    let home = Home::new();
    for wrong in
        [&["frobnicate"][..], &[], &["redact", "--frob"], &["audit", "verify"], &["preview"]]
    {
        let ran = home.run(wrong);
        assert_eq!(ran.exit, 64, "{wrong:?}");
        assert!(!ran.stderr.is_empty(), "{wrong:?}");
    }
}

#[test]
fn a_value_that_does_not_fit_names_its_line() {
    let home = Home::new();
    let wrong = [
        ("[ingest.fields]\nactor = [\"staff\", \"a..b\"]\n", 5, "ingest.fields.actor[1]"),
        ("[ingest.topics.\"a*\".fields]\nactor = [\"\"]\n", 5, "fields.actor[0]"),
        ("[redact]\nregions = [\"UK\"]\n", 5, "redact.regions[0]"),
    ];
    for (section, line, key) in wrong {
        let file = home.write("blotter.toml", format!("[input]\ntopics = [\"a\"]\n\n{section}"));
        let ran = home.run(&["check", "--config", file.to_str().unwrap()]);
        assert_eq!(ran.exit, 78);
        assert!(ran.stderr.contains(&format!("blotter.toml:{line}: ")), "{}", ran.stderr);
        assert!(ran.stderr.contains(key), "{}", ran.stderr);
    }
}

#[test]
fn a_typo_in_a_file_names_line_and_nearest_key() {
    let home = Home::new();
    let file = home.write("blotter.toml", "[input]\ntopics = [\"a\"]\n\n[audit]\nheartbeat = 3\n");
    let ran = home.run(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!(ran.exit, 78);
    assert!(ran.stderr.contains("blotter.toml:5:"), "{}", ran.stderr);
    assert!(ran.stderr.contains("did you mean `heartbeat_ms`"), "{}", ran.stderr);
    let missing = home.run(&["check", "--config", "nowhere.toml"]);
    assert_eq!(missing.exit, 78);
    assert!(missing.stderr.contains("nowhere.toml"), "{}", missing.stderr);
}

#[test]
fn wrong_values_name_their_place() {
    let home = Home::new();
    for (set, part) in [
        ("audit.restart=logs/0", "TOPIC/PARTITION@OFFSET"),
        ("audit.adopt=logs", "TOPIC/PARTITION"),
        ("kafka.security=sasl_plaintext", "unencrypted"),
        ("kafka.sasl.username=blotter", "not used with kafka.security"),
        ("kafka.tls.ca_file=ca.pem", "not used with kafka.security"),
        ("redact.strictness=lax", "lax"),
        ("audit.heartbeat_ms=30001", "30000"),
        ("log.filter=blotter=loud", "filter"),
        ("debug.fault_point=nowhere", "after_send"),
        ("input.patterns=app\\b", "edge of a word"),
    ] {
        let ran = home.run(&["check", "--set", set]);
        assert_eq!(ran.exit, 78, "{set}");
        let key = set.split('=').next().unwrap();
        assert!(ran.stderr.contains(key) && ran.stderr.contains(part), "{set}: {}", ran.stderr);
    }
    let together = home.run(&["check", "--set", "kafka.properties.retries=0"]);
    assert_eq!(together.exit, 78);
    assert!(together.stderr.contains("`retries` must be"), "{}", together.stderr);
    let repairs_without_audit =
        home.run(&["check", "--set", "audit.enabled=false", "--set", "audit.adopt=garbage"]);
    assert_eq!(repairs_without_audit.exit, 78, "{}", repairs_without_audit.stderr);
    let fine = home.run(&[
        "check",
        "--set",
        "audit.restart=logs/0@17:again",
        "--set",
        "audit.adopt=logs/1",
    ]);
    assert_eq!(fine.exit, 0, "{}", fine.stderr);
}

#[test]
fn tokens_come_from_an_encrypted_endpoint() {
    let home = Home::new();
    let secret = home.write("secret", "hush\n");
    let secret = format!("kafka.sasl.client_secret_file={}", secret.display());
    for (endpoint, exit, told) in [
        ("", 78, "token_endpoint"),
        ("http://idp.example/token", 78, "unencrypted"),
        ("idp.example", 78, "https://HOST/PATH"),
        ("https://idp.example/token", 0, "valid"),
    ] {
        let endpoint = format!("kafka.sasl.token_endpoint={endpoint}");
        let settings = [
            "kafka.security=sasl_tls",
            "kafka.sasl.mechanism=OAUTHBEARER",
            "kafka.sasl.client_id=blotter",
            &secret,
            &endpoint,
        ];
        let set = settings.iter().flat_map(|setting| ["--set", setting]);
        let ran = home.run(&["check"].into_iter().chain(set).collect::<Vec<_>>());
        assert_eq!(ran.exit, exit, "{endpoint}: {}", ran.stderr);
        let output = ran.stdout + &ran.stderr;
        assert!(output.contains(told) && !output.contains("hush"), "{endpoint}: {output}");
    }
}

#[test]
fn secrets_are_refused_in_set_and_masked_when_shown() {
    let home = Home::new();
    let ran = home.run(&["check", "--set", "kafka.sasl.password=hunter2"]);
    assert_eq!(ran.exit, 78);
    assert!(ran.stderr.contains("refused") && !ran.stderr.contains("hunter2"), "{}", ran.stderr);
    let output = home
        .command(["check", "--show", "--set", "kafka.security=sasl_tls"])
        .env("BLOTTER__KAFKA__SASL__USERNAME", "blotter")
        .env("BLOTTER__KAFKA__SASL__PASSWORD", "hunter2")
        .env("BLOTTER__KAFKA__PROPERTIES__SSL_KEYSTORE_PASSWORD", "hunter3")
        .output()
        .unwrap();
    let shown = ran_ok(output);
    assert!(
        shown.contains(
            "kafka.sasl.password = \"***\"  # environment BLOTTER__KAFKA__SASL__PASSWORD"
        )
    );
    assert!(!shown.contains("hunter"), "{shown}");
    assert!(shown.contains("run.shards"), "{shown}");
}

fn ran_ok(output: Output) -> String {
    let ran = ran(output);
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    ran.stdout
}

#[test]
fn init_writes_a_short_file_that_passes_check() {
    let home = Home::new();
    assert_eq!(home.run(&["init"]).exit, 0);
    let text = fs::read_to_string(home.path("blotter.toml")).unwrap();
    assert!(text.lines().count() <= 15);
    let check = home.run(&["check", "-c", "blotter.toml"]);
    assert_eq!(check.exit, 0, "{}", check.stderr);
    assert_eq!(home.run(&["init"]).exit, 74, "it overwrites nothing");
}

#[test]
fn run_names_the_flag_that_is_missing() {
    let home = Home::new();
    let ran = home.run(&["run", "--input", "t"]);
    assert_eq!(ran.exit, 78);
    assert!(ran.stderr.contains("--brokers"), "{}", ran.stderr);
    let ran = home.run(&["run", "--brokers", "localhost:1"]);
    assert_eq!(ran.exit, 78);
    assert!(ran.stderr.contains("--input"), "{}", ran.stderr);
    for arguments in [&["audit", "show", "--topic", "t"][..], &["preview", "--topic", "t"]] {
        let ran = home.run(arguments);
        assert_eq!(ran.exit, 78);
        assert!(ran.stderr.contains("--brokers"), "{}", ran.stderr);
    }
}

#[test]
fn an_unreachable_broker_exits_69_in_time() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let broker = format!("127.0.0.1:{port}");
    let calls: [&[&str]; 6] = [
        &["topics", "check"],
        &["check", "--probe"],
        &["run", "--input", "t"],
        &["preview", "--topic", "t"],
        &["audit", "export", "--topic", "t", "--out", "x"],
        &["alerts", "reset", "--partition", "0"],
    ];
    thread::scope(|scope| {
        for call in calls {
            let broker = broker.as_str();
            scope.spawn(move || {
                let home = Home::new();
                let begun = elapsed();
                let output = home.command(call).env("BLOTTER__KAFKA__BROKERS", broker).output();
                let ran = ran(output.unwrap());
                assert_eq!(ran.exit, 69, "{call:?}: {}", ran.stderr);
                assert!((elapsed() - begun).as_secs() < 60, "{call:?}");
                // The address, and why nobody answers there.
                let told = ran.stderr.lines().find(|line| line.starts_with("blotter: ")).unwrap();
                assert!(told.contains(&format!("no broker of {broker} ")), "{call:?}: {told}");
                assert!(told.contains("Connection refused"), "{call:?}: {told}");
            });
        }
    });
}

/// One connection to a broker that knows no mechanism of ours, in the words of the protocol: as
/// after a wrong password nobody is let in.
fn refuse_login(mut connection: TcpStream) -> std::io::Result<()> {
    const API_VERSIONS: [u8; 2] = [0, 18];
    loop {
        let mut length = [0; 4];
        connection.read_exact(&mut length)?;
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        connection.read_exact(&mut request)?;
        let (api, version, correlation) = (&request[..2], &request[2..4], &request[4..8]);
        let body: &[u8] = match (api == API_VERSIONS, version) {
            // ApiVersions 0: no error, SaslHandshake 0 to 1 and ApiVersions 0.
            (true, [0, 0]) => &[0, 0, 0, 0, 0, 2, 0, 17, 0, 0, 0, 1, 0, 18, 0, 0, 0, 0],
            // UNSUPPORTED_VERSION
            (true, _) => &[0, 35, 0, 0, 0, 0],
            // UNSUPPORTED_SASL_MECHANISM, only OTHER
            (false, _) => &[0, 33, 0, 0, 0, 1, 0, 5, b'O', b'T', b'H', b'E', b'R'],
        };
        let answer = [correlation, body].concat();
        connection.write_all(&u32::try_from(answer.len()).unwrap().to_be_bytes())?;
        connection.write_all(&answer)?;
    }
}

#[test]
fn a_refused_login_exits_77_with_the_brokers_words() {
    let broker = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = broker.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for connection in broker.incoming() {
            drop(refuse_login(connection.unwrap()));
        }
    });
    let home = Home::new();
    home.write(
        "blotter.toml",
        format!(
            "[kafka]\nbrokers = [\"{address}\"]\nsecurity = \"sasl_plaintext\"\n\
             allow_plaintext_password = true\n\
             [kafka.sasl]\nmechanism = \"PLAIN\"\nusername = \"u\"\npassword = \"hush\"\n"
        ),
    );
    let ran = home.run(&["topics", "check", "-c", "blotter.toml"]);
    assert_eq!(ran.exit, 77, "{}", ran.stderr);
    assert!(ran.stderr.contains(&address) && ran.stderr.contains("SASL"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("hush"), "{}", ran.stderr);
}

#[expect(clippy::disallowed_methods, reason = "a test measures how long a command takes")]
fn elapsed() -> std::time::Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap()
}

#[test]
fn redact_keeps_lines_and_their_ends() {
    let home = Home::new();
    let input = "plain\r\n\n{\"phone\":\"+91 98765 43210\"}\nmail asha@example.com";
    let ran = home.pipe(&["redact"], input.as_bytes());
    assert_eq!(ran.exit, 0);
    assert_eq!(ran.stdout, "plain\r\n\n{\"phone\":\"[phone]\"}\nmail [email]");
    assert_eq!(ran.stderr, "");
    assert_eq!(home.pipe(&["redact"], b"").stdout, "");
}

/// `tail -f x | blotter redact | grep`: a line is out before the next one has come.
#[test]
fn redact_passes_a_line_on_at_once() {
    let home = Home::new();
    let mut child = home.command(["redact"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (sender, lines) = std::sync::mpsc::channel();
    let reader = thread::spawn(move || {
        stdout.lines().try_for_each(|line| sender.send(line.unwrap())).unwrap();
    });
    for half in ["from a@example.com\nto b@exa", "mple.com\n"] {
        stdin.write_all(half.as_bytes()).unwrap();
        let line = lines.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
        assert!(["from [email]", "to [email]"].contains(&line.as_str()), "{line}");
    }
    drop(stdin);
    reader.join().unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn redact_takes_regions_and_policies() {
    let home = Home::new();
    let line = b"ring 98765 43210 please\n";
    assert_eq!(
        home.pipe(&["redact", "--region", "IN", "DE"], line).stdout,
        "ring [phone] please\n"
    );
    assert_eq!(home.pipe(&["redact", "--region", "ZZ"], line).exit, 78);
    let policy = "[redact.topics.quiet.fields]\nalways = [\"note\"]\n";
    let file = home.write("p.toml", policy);
    let (file, note) = (file.to_str().unwrap(), b"{\"note\":\"secret words\"}\n");
    let topic = home.pipe(&["redact", "-c", file, "--topic", "quiet"], note);
    assert_eq!(topic.stdout, "{\"note\":\"[redacted]\"}\n");
    assert!(home.pipe(&["redact", "-c", file], note).stdout.contains("secret"));
}

#[test]
fn redact_masks_what_is_not_utf8_and_stubs_what_is_not_text() {
    let home = Home::new();
    let mut input = b"bad \xff asha@example.com +919876543210\n".to_vec();
    input.extend_from_slice(b"\x1f\x8b\x08\x00rest\nfine\n");
    let (exit, stdout, stderr) = home.pipe_bytes(&["redact"], &input);
    let stdout = String::from_utf8(stdout).expect("what leaves is UTF-8");
    assert_eq!(exit, 0);
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(
        lines[0].starts_with("bad ") && !lines[0].contains("asha") && !lines[0].contains("98765")
    );
    assert_eq!(lines[1], r#"{"blotter":"dead-letter","reason":"gzip"}"#);
    assert_eq!(lines[2], "fine");
    assert!(stderr.contains("gzip 1") && stderr.contains("invalid_utf8 1"), "{stderr}");
}

#[test]
fn redact_ends_quietly_on_a_closed_pipe() {
    let home = Home::new();
    let mut child = home.command(["redact"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let writer = thread::spawn(move || {
        // Ends with an error when the command has gone.
        while stdin.write_all(b"a line of text with asha@example.com in it\n").is_ok() {}
    });
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "a line of text with [email] in it\n");
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(calm(&output), "");
}

#[test]
fn hostile_records_end_redacted() {
    let home = Home::new();
    let long = format!("{} call +91 98765 43210\n", "x ".repeat(2_500_000));
    let ran = home.pipe(&["redact"], long.as_bytes());
    assert_eq!(ran.exit, 0);
    assert!(ran.stdout.ends_with("call [phone]\n") && ran.stdout.len() > 5_000_000);
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep =
            format!("{}\"+91 98765 43210\"{}\n", open.repeat(100_000), close.repeat(100_000));
        for arguments in [&["redact"][..], &["explain"]] {
            let ran = home.pipe(arguments, deep.as_bytes());
            assert_eq!(ran.exit, 0, "{}", ran.stderr);
            assert!(!ran.stdout.contains("98765"));
        }
    }
}

#[test]
fn a_diff_counts_what_would_change() {
    let home = Home::new();
    home.write("a.toml", "regions = [\"IN\"]\n");
    home.write("b.toml", "[redact]\nregions = []\nfields = { always = [\"note\"] }\n");
    let lines = "{\"text\":\"ring 98765 43210 please\",\"note\":\"hush\"}\n{\"x\":1}\n";
    let ran = home.pipe(&["redact", "--diff", "a.toml", "b.toml"], lines.as_bytes());
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("2 lines, 1 would change"), "{}", ran.stdout);
    let line = |change: &str, kind: &str, path: &str| {
        ran.stdout.lines().any(|line| {
            line.contains(change) && line.contains(kind) && line.ends_with(&format!(" {path}"))
        })
    };
    assert!(line("only in A", "phone", "text") && line("only in B", "", "note"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("98765") && !ran.stdout.contains("hush"), "{}", ran.stdout);
    let shown =
        home.pipe(&["redact", "--show-values", "--diff", "a.toml", "b.toml"], lines.as_bytes());
    assert!(shown.stdout.contains("98765 43210"), "{}", shown.stdout);
    home.write("c.toml", "\nregionz = []\n");
    let wrong = home.pipe(&["redact", "--diff", "a.toml", "c.toml"], b"");
    assert_eq!(wrong.exit, 78);
    assert!(wrong.stderr.contains("c.toml:2"), "{}", wrong.stderr);
    assert_eq!(home.pipe(&["redact", "--diff", "a.toml", "d.toml"], b"").exit, 74);
}

#[test]
fn explain_shows_rules_and_no_value() {
    let home = Home::new();
    let ran = home.pipe(&["explain", "--region", "IN"], VALUE.as_bytes());
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    for value in ["98765", "Asha", "example.com", "salon-77", "booking-api"] {
        assert!(!ran.stdout.contains(value), "{value}: {}", ran.stdout);
    }
    for part in
        ["service", "salonId", "redacted", "phone", "email", "field_phone +", "severity: error"]
    {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    let shown = home.pipe(&["explain", "--show-values"], VALUE.as_bytes());
    for value in ["98765", "Asha", "salon-77", "booking-api"] {
        assert!(shown.stdout.contains(value), "{value}: {}", shown.stdout);
    }
    // Personal data in the keys around a field are no path either.
    let keyed = br#"{"asha@example.com":{"level":"error"}}"#;
    let ran = home.pipe(&["explain"], keyed);
    assert!(!ran.stdout.contains("asha"), "{}", ran.stdout);
    for odd in [&b""[..], b"\n", b"\xff\xfe\xfd", b"\x1f\x8b\x08", b"{\"a\":"] {
        assert_eq!(home.pipe(&["explain"], odd).exit, 0);
    }
}

/// Two transactions of two records each, and the deployment's public key.
fn chain() -> (Vec<Vec<u8>>, String) {
    chain_of(0)
}

/// The same, of a later chain of the partition.
fn chain_of(incarnation: u32) -> (Vec<Vec<u8>>, String) {
    let deployment_key = DeploymentKey::from_seed(&[1; 32]);
    let certificate = deployment_key.certify("salon", InstanceKey::public_of_seed(&[2; 32]));
    let key = InstanceKey::from_seed(&[2; 32], certificate).unwrap();
    let deployment = Deployment::parse("salon").unwrap();
    let origin = Origin::new(&deployment, &TopicPartition::new("app.logs", 3), incarnation);
    let mut ledger = Ledger::begin(origin.clone(), 100);
    let (instance, policy) = (InstanceName::new("blotter-0"), PolicyHash::of("{}").short());
    let mut entries = Vec::new();
    let mut out = Vec::new();
    let genesis = Genesis {
        origin: origin.as_str(),
        start: StartKind::Earliest,
        offset: 100,
        partitions: 6,
        keyring: KeyringId::from_bytes([9; 8]),
        signer: key.certificate(),
        policy,
        after: None,
    };
    ledger.append_genesis(&genesis, &mut out);
    entries.push(std::mem::take(&mut out));
    for offset in 100..104 {
        let raw = Commitment::from_bytes([u8::try_from(offset).unwrap(); 32]);
        ledger.record(offset, Fate::Forwarded, &raw);
        let action = Action {
            offset,
            timestamp: Timestamp::from_millis(offset),
            event_time: None,
            tenant: None,
            actor: None,
            action: "booking.cancel",
            object: None,
            outcome: None,
            reason: None,
            service: Some("booking"),
            raw: &raw,
            redactions: &[],
        };
        ledger.append(&action, &mut out);
        entries.push(std::mem::take(&mut out));
        if offset % 2 == 1 {
            let sealer = Sealer { key: &key, instance: &instance, policy };
            ledger.seal(offset + 1, Timestamp::from_millis(1_700_000_000_000), &sealer, &mut out);
            entries.push(std::mem::take(&mut out));
        }
    }
    (entries, deployment_key.public().to_string())
}

fn file_of(home: &Home, name: &str, entries: &[Vec<u8>]) -> String {
    let path = home.write(name, [entries.join(&b'\n'), b"\n".to_vec()].concat());
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_good_file_verifies() {
    let home = Home::new();
    let (entries, key) = chain();
    let file = file_of(&home, "good.jsonl", &entries);
    let ran = home.run(&["audit", "verify", &file, "--deployment-key", &key]);
    assert_eq!(ran.exit, 0, "{}{}", ran.stdout, ran.stderr);
    for part in [
        "app.logs/3  verified",
        "gen 1, act 4, sea 2",
        "offsets 100..104",
        "4 read: 4 forwarded",
        "head     seq 6",
    ] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    // The key from a file, the verdict as JSON.
    home.write("deployment.pub", format!("{key}\n"));
    let ran = home.run(&["audit", "verify", &file, "--deployment-key", "deployment.pub", "--json"]);
    let line: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((line["verdict"].as_str(), line["to"].as_i64()), (Some("verified"), Some(104)));
    // The other deployment's key does not do.
    let other = DeploymentKey::from_seed(&[7; 32]).public().to_string();
    let ran = home.run(&["audit", "verify", &file, "--deployment-key", &other]);
    assert_eq!(ran.exit, 65);
    assert!(ran.stdout.contains("wrong_certificate at "), "{}", ran.stdout);
}

#[test]
fn a_tampered_file_is_named_with_its_line() {
    let home = Home::new();
    let (entries, key) = chain();
    let mut tampered = entries.clone();
    let text = String::from_utf8(tampered[4].clone()).unwrap().replace("cancel", "create");
    tampered[4] = text.into_bytes();
    let good = file_of(&home, "good.jsonl", &entries);
    let bad = file_of(&home, "bad.jsonl", &tampered);
    let ran = home.run(&["audit", "verify", &good, &bad, "--deployment-key", &key]);
    assert_eq!(ran.exit, 65, "{}", ran.stderr);
    assert!(ran.stdout.contains("app.logs/3  verified"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("wrong_prev at ") && ran.stdout.contains("bad.jsonl:5 (seq 4)"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains("expected leaf ") && ran.stdout.contains("found    leaf "),
        "{}",
        ran.stdout
    );
    let json = home.run(&["audit", "verify", &bad, "--deployment-key", &key, "--json"]);
    let line: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        (line["fault"]["kind"].as_str(), line["fault"]["seq"].as_u64()),
        (Some("wrong_prev"), Some(4))
    );
    for (name, entries) in [("cut.jsonl", &entries[..5]), ("late.jsonl", &entries[3..])] {
        let file = file_of(&home, name, entries);
        let ran = home.run(&["audit", "verify", &file, "--deployment-key", &key]);
        assert_eq!(ran.exit, 65, "{name}: {}", ran.stdout);
    }
    for garbage in [&b""[..], b"\n\n", b"no json\n", b"\xff\xff\n"] {
        let file = home.write("garbage.jsonl", garbage);
        let ran = home.run(&["audit", "verify", file.to_str().unwrap(), "--deployment-key", &key]);
        assert_eq!(ran.exit, 65, "{}", ran.stdout);
    }
}

#[test]
fn behind_a_repair_verification_goes_on_and_the_break_stays_on_record() {
    let home = Home::new();
    let ((old, key), (new, _)) = (chain(), chain_of(1));
    let verify = |entries: &[Vec<u8>], flags: &[&str]| {
        let file = file_of(&home, "trail.jsonl", entries);
        let arguments = [&["audit", "verify", &file, "--deployment-key", &key], flags].concat();
        home.run(&arguments)
    };
    // Cut in a transaction, and cut at a seal: the genesis shows both. A changed entry in the middle.
    let mut tampered = old.clone();
    tampered[1] =
        String::from_utf8(tampered[1].clone()).unwrap().replace("cancel", "create").into();
    let cases = [
        (old[..3].to_vec(), "unexpected_genesis at ", "trail.jsonl:4 (seq 3)", 0),
        (old[..4].to_vec(), "unexpected_genesis at ", "trail.jsonl:5 (seq 4)", 0),
        (tampered, "wrong_prev at ", "trail.jsonl:2 (seq 1)", 3),
    ];
    for (before, kind, place, unverified) in cases {
        let repaired = before.len() + 1;
        let entries = [before, new.clone()].concat();
        let ran = verify(&entries, &[]);
        assert_eq!(ran.exit, 65, "{}{}", ran.stdout, ran.stderr);
        for part in [
            "app.logs/3  repaired",
            kind,
            place,
            &format!("by a new chain at trail.jsonl:{repaired}; {unverified} entries"),
            "4 read: 4 forwarded",
        ] {
            let shown = ran.stdout.replace(&format!("{}/", home.path("").display()), "");
            let shown = shown.replace(home.path("").to_str().unwrap(), "");
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let at = |exit, named: &[&str]| {
            let names = named.iter().flat_map(|name| ["--accept-break", *name]);
            let ran = verify(&entries, &names.collect::<Vec<_>>());
            assert_eq!(ran.exit, exit, "{named:?}: {}{}", ran.stdout, ran.stderr);
        };
        let broken = ran.stdout.lines().find_map(|line| line.strip_prefix("  break    ")).unwrap();
        let broken = broken.split(' ').nth(2).unwrap();
        at(0, &[broken]);
        at(65, &["elsewhere:1"]);
        at(65, &[broken, "elsewhere:1"]);
        // A fault in the new chain is never accepted.
        let mut again = entries.clone();
        again.pop();
        assert_eq!(verify(&again, &["--accept-break", broken]).exit, 65);
    }
    // The old chain once more is no repair.
    let copied = [old[..4].to_vec(), old].concat();
    let ran = verify(&copied, &[]);
    assert_eq!(ran.exit, 65);
    assert!(ran.stdout.contains("app.logs/3  fault"), "{}", ran.stdout);
}

#[test]
fn what_cannot_be_read_exits_74() {
    let home = Home::new();
    let key = chain().1;
    let ran = home.run(&["audit", "verify", "nowhere.jsonl", "--deployment-key", &key]);
    assert_eq!(ran.exit, 74);
    assert!(ran.stderr.contains("nowhere.jsonl"), "{}", ran.stderr);
    let file = home.write("empty.jsonl", "");
    let ran = home.run(&["audit", "verify", file.to_str().unwrap()]);
    assert_eq!(ran.exit, 74, "no deployment key: {}", ran.stderr);
    assert!(ran.stderr.contains("deployment.pub"), "{}", ran.stderr);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn keys_are_made_rotated_and_shredded() {
    let home = Home::new();
    let created = home.run(&["keys", "create"]);
    assert_eq!(created.exit, 0, "{}", created.stderr);
    let folder = home.path(".local/state/blotter");
    assert_eq!(mode(&folder), 0o700);
    let mut files = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        files += 1;
    }
    assert!(files >= 4);
    let keyring = folder.join("keyring.jsonl");
    let before = fs::read_to_string(&keyring).unwrap();
    assert_eq!(home.run(&["keys", "create"]).exit, 0);
    assert_eq!(fs::read_to_string(&keyring).unwrap(), before, "made once");
    assert_eq!(home.run(&["keys", "create", "--tenant", "acme"]).exit, 0);
    let rotated = home.run(&["keys", "rotate", "--not-before", "2090-01-01T00:00:00Z"]);
    assert_eq!(rotated.exit, 0, "{}", rotated.stderr);
    assert!(rotated.stdout.contains("2090-01-01"), "{}", rotated.stdout);
    assert_eq!(home.run(&["keys", "shred", "--tenant", "acme"]).exit, 64, "it asks for --yes");
    let shredded = home.run(&["keys", "shred", "--tenant", "acme", "--yes"]);
    assert_eq!(shredded.exit, 0, "{}", shredded.stderr);
    assert_eq!(mode(&keyring), 0o600);
    assert_eq!(home.run(&["keys", "rotate", "--not-before", "soon"]).exit, 64);
    fs::set_permissions(&keyring, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(home.run(&["keys", "create"]).exit, 77, "others could read it");
}

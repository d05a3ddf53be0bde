//! What `blotter audit verify` says of trails that somebody cut, replaced, repaired or made up.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use blotter::pipeline::audit::{
    Action, ChainHead, Commitment, DeploymentKey, End, Fate, Gap, GapReason, Genesis, InstanceKey,
    InstanceName, KeyringId, Kind, Ledger, Origin, PolicyHash, Sealer, StartKind,
};
use blotter::pipeline::audit::{Body, Deployment};
use blotter::pipeline::record::{Timestamp, TopicPartition};

use crate::home::{Home, Ran};

const DEPLOYMENT_SEED: [u8; 32] = [1; 32];
const INSTANCE_SEED: [u8; 32] = [2; 32];

/// The chains of partition 3 of `app.logs`, as a writer with good keys leaves them.
struct Trail {
    source: TopicPartition,
    key: InstanceKey,
    ledger: Ledger,
    entries: Vec<Vec<u8>>,
}

impl Trail {
    /// Not begun.
    fn new() -> Self {
        Self::of(TopicPartition::new("app.logs", 3))
    }

    fn of(source: TopicPartition) -> Self {
        let certificate = DeploymentKey::from_seed(&DEPLOYMENT_SEED)
            .certify("blotter", InstanceKey::public_of_seed(&INSTANCE_SEED));
        let key = InstanceKey::from_seed(&INSTANCE_SEED, certificate).unwrap();
        let ledger = Ledger::begin(origin(&source, 0), 0);
        Self { source, key, ledger, entries: Vec::new() }
    }

    fn append(&mut self, body: &impl Body) -> &mut Self {
        let mut out = Vec::new();
        self.ledger.append(body, &mut out);
        self.entries.push(out);
        self
    }

    /// The genesis of chain `incarnation`, from the source offset `offset` on.
    fn genesis(
        &mut self,
        incarnation: u32,
        offset: i64,
        start: StartKind,
        after: Option<ChainHead>,
    ) -> &mut Self {
        let origin = origin(&self.source, incarnation);
        self.ledger = Ledger::begin(origin.clone(), offset);
        let genesis = Genesis {
            origin: origin.as_str(),
            start,
            offset,
            partitions: 6,
            keyring: KeyringId::from_bytes([9; 8]),
            signer: self.key.certificate(),
            policy: PolicyHash::of("{}").short(),
            after,
        };
        let mut out = Vec::new();
        self.ledger.append_genesis(&genesis, &mut out);
        self.entries.push(out);
        self
    }

    fn begin(&mut self) -> &mut Self {
        self.genesis(0, 0, StartKind::Earliest, None)
    }

    /// Ends the chain and begins the next, as a restart of a whole one does.
    fn restart(&mut self, incarnation: u32, offset: i64) -> &mut Self {
        self.append(&End { reason: "restarted by an operator" });
        let after = self.ledger.head();
        self.genesis(incarnation, offset, StartKind::Repaired, after)
    }

    fn gap(&mut self, to: i64, reason: GapReason) -> &mut Self {
        let mut out = Vec::new();
        let from = self.ledger.position();
        self.ledger.append_gap(&Gap { from, to, reason }, &mut out);
        self.entries.push(out);
        self
    }

    /// Records up to `to`, the first with an action, and their seal.
    fn records(&mut self, to: i64) -> &mut Self {
        self.sealed(to, true)
    }

    fn records_without_actions(&mut self, to: i64) -> &mut Self {
        self.sealed(to, false)
    }

    fn sealed(&mut self, to: i64, has_action: bool) -> &mut Self {
        let from = self.ledger.position();
        for offset in from..to {
            let raw = Commitment::from_bytes([7; 32]);
            self.ledger.record(offset, Fate::Forwarded, &raw);
            if has_action && offset == from {
                self.append(&Action {
                    offset,
                    timestamp: Timestamp::from_millis(offset),
                    event_time: None,
                    tenant: None,
                    actor: None,
                    action: "booking.cancel",
                    object: None,
                    outcome: None,
                    reason: None,
                    service: None,
                    raw: &raw,
                    redactions: &[],
                });
            }
        }
        let instance = InstanceName::new("blotter-0");
        let policy = PolicyHash::of("{}").short();
        let sealer = Sealer { key: &self.key, instance: &instance, policy };
        let mut out = Vec::new();
        self.ledger.seal(to, Timestamp::from_millis(1_700_000_000_000), &sealer, &mut out);
        self.entries.push(out);
        self
    }
}

fn origin(source: &TopicPartition, incarnation: u32) -> Origin {
    Origin::new(&Deployment::parse("blotter").unwrap(), source, incarnation)
}

/// A body that no writer of this format writes.
struct Forged(Kind, String);

impl Body for Forged {
    fn kind(&self) -> Kind {
        self.0
    }

    fn write(&self, _source: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(self.1.as_bytes());
    }
}

/// A machine whose keys are those of the trail's writer.
fn home_with_keys() -> Home {
    let home = Home::new();
    let folder = home.path(".local/state/blotter");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let public = DeploymentKey::from_seed(&DEPLOYMENT_SEED).public();
    let hex = |seed: &[u8]| format!("{}\n", data_encoding::HEXLOWER.encode(seed));
    for (name, text) in [
        ("deployment.key", hex(&DEPLOYMENT_SEED)),
        ("instance.key", hex(&INSTANCE_SEED)),
        ("deployment.pub", format!("{public}\n")),
    ] {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    home
}

fn write(home: &Home, name: &str, entries: &[Vec<u8>]) {
    home.write(name, [entries.join(&b'\n'), b"\n".to_vec()].concat());
}

fn verify(home: &Home, entries: &[Vec<u8>], flags: &[&str]) -> Ran {
    write(home, "trail.jsonl", entries);
    home.run(&[&["audit", "verify", "trail.jsonl"], flags].concat())
}

#[track_caller]
fn assert_told(ran: &Ran, exit: i32, parts: &[&str]) {
    assert_eq!(ran.exit, exit, "{}{}", ran.stdout, ran.stderr);
    for part in parts {
        assert!(ran.stdout.contains(part), "{part}: {}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn a_trail_without_its_beginning_passes_only_where_that_is_accepted() {
    let home = home_with_keys();
    let mut trail = Trail::new();
    trail.begin().records(2).records(4).restart(1, 4).records(6);
    trail.gap(7, GapReason::Retention).records(8);
    let entries = &trail.entries;
    assert_told(&verify(&home, entries, &[]), 0, &["app.logs/3  verified", "offsets 0..8"]);
    let genesis = entries.iter().rposition(|entry| entry[12..15] == *b"gen").unwrap();
    // A few entries, all but the newest seal, and the whole first chain.
    for from in [3, genesis, genesis + 2, entries.len() - 1] {
        let kept = &entries[from..];
        let fault = ["app.logs/3  fault", "start_absent at trail.jsonl:1"];
        // The newest seal alone names no source.
        let flags: &[&str] =
            if from + 1 == entries.len() { &["--source", "app.logs/3"] } else { &[] };
        assert_told(&verify(&home, kept, flags), 65, &fault);
        let accepted = verify(&home, kept, &[flags, &["--accept-suffix"]].concat());
        assert_told(&accepted, 0, &["app.logs/3  verified", "what came before is not verified"]);
    }
    // Believed is where it begins, not what it says.
    let mut edited = entries[3..].to_vec();
    let text = String::from_utf8(edited[0].clone()).unwrap().replace("cancel", "create");
    edited[0] = text.into_bytes();
    assert_told(&verify(&home, &edited, &["--accept-suffix"]), 65, &["wrong_prev at "]);
}

/// Somebody changes a chain that had ended whole: the genesis behind it names its end.
#[test]
fn what_was_whole_when_it_ended_was_not_broken_by_a_repair() {
    let home = home_with_keys();
    let mut trail = Trail::new();
    trail.begin().records(2).records(4).restart(1, 4).records(6).restart(2, 6).records(8);
    // A last chain whose writer could not read the one before.
    trail.genesis(3, 8, StartKind::Repaired, None).records(10);
    let entries = trail.entries;
    assert_told(&verify(&home, &entries, &[]), 65, &["  repaired", "unexpected_genesis at"]);
    let edited = |index: usize, from: &str, to: &str| {
        let mut edited = entries.clone();
        let text = String::from_utf8(edited[index].clone()).unwrap();
        assert!(text.contains(from), "{text}");
        edited[index] = text.replace(from, to).into_bytes();
        edited
    };
    let emptied = [&entries[..1], &entries[6..]].concat();
    for (changed, place) in [
        (edited(3, "cancel", "create"), "trail.jsonl:4"),
        (edited(5, "operator", "burglar!"), "trail.jsonl:6"),
        (edited(7, "cancel", "create"), "trail.jsonl:8"),
        (emptied, "trail.jsonl:2"),
    ] {
        let ran = verify(&home, &changed, &["--accept-break", place]);
        assert_told(&ran, 65, &["app.logs/3  fault", &format!("at {place}")]);
    }
}

#[test]
fn what_a_restart_left_out_or_sealed_twice_is_told() {
    let home = home_with_keys();
    let mut hole = Trail::new();
    hole.begin().records(4).restart(1, 9).records(12);
    let fault = ["app.logs/3  fault", "wrong_coverage at trail.jsonl:5", "a gap"];
    assert_told(&verify(&home, &hole.entries, &[]), 65, &fault);
    let mut gap = Trail::new();
    gap.begin().records(4).restart(1, 4).gap(9, GapReason::Repaired).records(12);
    let told = ["app.logs/3  verified", "offsets 0..12, 5 of them in gaps\n"];
    assert_told(&verify(&home, &gap.entries, &[]), 0, &told);
    let mut overlap = Trail::new();
    overlap.begin().records(4).restart(1, 2).records(6);
    let told = ["app.logs/3  verified", "offsets 0..6, 0 of them in gaps, 2 sealed twice"];
    assert_told(&verify(&home, &overlap.entries, &[]), 0, &told);
    // The same behind a break.
    let mut broken = Trail::new();
    broken.begin().records(4).genesis(1, 9, StartKind::Repaired, None).records(12);
    let told = ["app.logs/3  repaired", "offsets 4..9 are under no verified seal"];
    assert_told(&verify(&home, &broken.entries, &[]), 65, &told);
}

#[test]
fn a_file_holds_the_chain_that_its_name_tells_and_no_other_does() {
    let home = home_with_keys();
    let names = ["app.logs-3.jsonl", "app.logs-4.jsonl"];
    let of = |partition| {
        let mut trail = Trail::of(TopicPartition::new("app.logs", partition));
        trail.begin().records(4);
        trail.entries
    };
    let run = |flags: &[&str]| home.run(&[&["audit", "verify"], &names[..], flags].concat());
    write(&home, names[0], &of(3));
    write(&home, names[1], &of(4));
    assert_told(&run(&[]), 0, &["app.logs/3  verified", "app.logs/4  verified"]);
    // One exported chain in the place of another.
    write(&home, names[1], &of(3));
    assert_told(&run(&[]), 65, &["same_source at app.logs-4.jsonl", "app.logs-3.jsonl too"]);
    write(&home, names[0], &of(5));
    assert_told(
        &run(&[]),
        65,
        &["other_source at app.logs-3.jsonl", "found    that of app.logs/5"],
    );
    // A seal names no source; the file does.
    let seal = of(4).split_off(2);
    write(&home, "app.logs-4.jsonl", &seal);
    let suffix = home.run(&["audit", "verify", names[1], "--accept-suffix"]);
    assert_told(&suffix, 0, &["app.logs/4  verified"]);
}

/// Signed by the writer's own key, and yet no entry of the format.
#[test]
fn a_body_of_another_form_is_a_fault_wherever_it_stands() {
    let home = home_with_keys();
    let source = r#","src":{"topic":"app.logs","partition":3,"offset":0},"src_ts":1"#;
    let raw = "A".repeat(43);
    let action = |middle: &str, counts: &str| {
        let rest = format!(r#"{middle},"raw":"{raw}","counts":[{counts}]"#);
        (Kind::Action, format!("{source}{rest}"))
    };
    let policy = data_encoding::BASE64URL_NOPAD.encode(&PolicyHash::of("{}").as_bytes()[..9]);
    let receipt = |policy: &str, disposition: &str| {
        let said = format!(r#","policy":"{policy}","disposition":"{disposition}""#);
        let rest = format!(r#","raw":"{raw}","redacted":"{raw}","counts":[["value","email",1]]"#);
        (Kind::Redaction, format!("{source}{said}{rest}"))
    };
    let verdict = |(kind, body): (Kind, String)| {
        let mut trail = Trail::new();
        trail.begin().append(&Forged(kind, body));
        trail.records_without_actions(1);
        verify(&home, &trail.entries, &[])
    };
    let good = [
        action(r#","action":"x","outcome":"a \"b\"""#, r#"["record_key","phone",1]"#),
        receipt(&policy, "masked"),
    ];
    for body in good {
        assert_told(&verdict(body), 0, &["app.logs/3  verified"]);
    }
    let malformed = [
        action(r#","action":"x","evil":1"#, ""),
        action(r#","action":"x","object":null"#, ""),
        action(r#","action":"x","actor":{"id":"y","is":"certainly"}"#, ""),
        action(r#","action":"x","tenant":{"id":"y"}"#, ""),
        action(r#","action":"x""#, r#"["shoe","phone",1]"#),
        action("", ""),
        receipt(&policy, "leaked"),
        (Kind::Gap, r#","from":0,"to":1,"reason":"because""#.to_owned()),
        (Kind::Recovery, r#","reason":"because","position":0"#.to_owned()),
    ];
    for body in malformed {
        assert_told(&verdict(body), 65, &["malformed at trail.jsonl:2"]);
    }
    let other = verdict(receipt(&"A".repeat(12), "redacted"));
    assert_told(&other, 65, &["wrong_policy at trail.jsonl:2"]);
}

#[test]
fn the_longest_name_of_a_chain_is_written_whole() {
    let home = home_with_keys();
    let mut trail = Trail::of(TopicPartition::new("x".repeat(249), 3));
    trail.begin().records(4);
    assert_told(&verify(&home, &trail.entries, &[]), 0, &["/3  verified"]);
}

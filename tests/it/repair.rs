//! A chain that was broken behind the daemon's back: it stops, an operator has a new one begun, and
//! verification tells the break and goes on behind it.

use blotter::daemon::broker::embedded::StoredRecord;
use blotter::daemon::supervisor::End;
use blotter::pipeline::record::TopicPartition;

use crate::daemon::{Daemon, SOURCE, Site};
use crate::home::Home;

#[test]
fn a_broken_chain_stops_its_partition_until_a_new_one_is_begun() {
    let site = Site::new(2);
    let first = Daemon::start(&site, &[]);
    let key = first.deployment_key();
    for partition in [0, 1] {
        first.feed(partition, b"one");
        first.redacted(partition, 1);
        first.feed(partition, b"two");
        first.redacted(partition, 2);
    }
    let entries = first.stored_audit(0);
    first.end();
    // Somebody cuts the last transaction off the trail.
    let is_seal = |record: &&StoredRecord| {
        let value = record.body.value.as_deref().unwrap_or_default();
        value.windows(9).any(|part| part == br#""k":"sea""#)
    };
    let seals: Vec<i64> = entries.iter().filter(is_seal).map(|record| record.offset).collect();
    let audit = TopicPartition::new(format!("{SOURCE}.audit"), 0);
    site.cluster.truncate(&audit, seals[seals.len() - 2] + 1).unwrap();
    // Its partition stops; the neighbour goes on.
    let second = Daemon::start(&site, &[]);
    let stopped = second.metrics(|text| text.contains("blotter_partition_stopped{"));
    let line = stopped.lines().find(|line| line.starts_with("blotter_partition_stopped{"));
    let line = line.unwrap();
    assert!(line.contains("partition=\"0\"") && line.contains("topic=\"app.logs\""), "{line}");
    second.feed(0, b"three");
    second.feed(1, b"three");
    second.redacted(1, 3);
    assert_eq!(second.redacted(0, 2).len(), 2);
    second.end();
    // An operator has a new chain begun where the redacted topic ends.
    let third = Daemon::start(&site, &["audit.restart=app.logs/0@2"]);
    let values: Vec<Vec<u8>> =
        third.redacted(0, 3).into_iter().map(|one| one.body.value.unwrap().into_vec()).collect();
    assert_eq!(values, [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
    third.audit(1);
    let entries = third.stored_audit(0);
    third.end();
    let home = Home::new();
    let lines: Vec<Vec<u8>> =
        entries.into_iter().map(|one| [&one.body.value.unwrap()[..], b"\n"].concat()).collect();
    home.write("trail.jsonl", lines.concat());
    let verify = ["audit", "verify", "trail.jsonl", "--deployment-key", &key];
    let told = home.run(&verify);
    assert_eq!(told.exit, 65, "{}{}", told.stdout, told.stderr);
    for part in ["app.logs/0  repaired", "break    unexpected_genesis at", "1 read: 1 forwarded"] {
        assert!(told.stdout.contains(part), "{part}: {}", told.stdout);
    }
    let broken = told.stdout.lines().find_map(|line| line.strip_prefix("  break    ")).unwrap();
    let place = broken.split(' ').nth(2).unwrap();
    assert_eq!(home.run(&[&verify[..], &["--accept-break", place]].concat()).exit, 0);
}

#[test]
fn another_keyring_ends_the_process() {
    let site = Site::new(1);
    let first = Daemon::start(&site, &[]);
    first.feed(0, b"one");
    first.redacted(0, 1);
    first.end();
    site.lose_keys();
    let ended = Daemon::start(&site, &[]).ended();
    let End::Refused { detail } = ended else { panic!("{ended:?}") };
    for part in ["app.logs/0: ", " under keyring ", "run with the keyring"] {
        assert!(detail.contains(part), "{detail}");
    }
}

#[test]
fn without_an_audit_trail_a_stopped_partition_is_begun_anew_too() {
    let site = Site::new(1);
    let first = Daemon::start(&site, &["audit.enabled=false"]);
    first.feed(0, b"one");
    first.feed(0, b"two");
    first.redacted(0, 2);
    first.end();
    // The source ends before what was read of it.
    site.cluster.truncate(&TopicPartition::new(SOURCE, 0), 1).unwrap();
    let second = Daemon::start(&site, &["audit.enabled=false"]);
    second.metrics(|text| text.contains("blotter_partition_stopped{"));
    second.end();
    let third = Daemon::start(&site, &["audit.enabled=false", "audit.restart=app.logs/0@1:again"]);
    // Fed sooner, the source would end where it was read up to, and nothing would seem wrong.
    third.metrics(|text| text.contains("finding=\"chain_restarted\""));
    third.feed(0, b"three");
    assert_eq!(third.redacted(0, 3)[2].body.value.as_deref(), Some(&b"three"[..]));
    third.end();
}

use proptest::prelude::*;

use super::super::super::record::{Header, SourceRecord, Timestamp};
use super::super::seal::{Fate, Ledger};
use super::super::testing::{Scene, instance_key};
use super::super::{
    Action, ActorFact, Assurance, Body, CHAIN_FIELDS_BYTES, CommitmentKey, Count, Disposition, End,
    Gap, GapReason, Genesis, KeyringId, Policy, PolicyHash, Recovery, RecoveryReason, Redaction,
    Rotate, Sealer, Shred, StartKind, TenantFact,
};
use super::*;

fn trust(scene: &Scene) -> Trust {
    Trust {
        deployment: scene.deployment.clone(),
        source: scene.source.clone(),
        deployment_key: scene.deployment_key.public(),
    }
}

fn append(ledger: &mut Ledger, body: &impl Body) -> Vec<u8> {
    let mut out = Vec::new();
    ledger.append(body, &mut out);
    out
}

fn append_genesis(ledger: &mut Ledger, scene: &Scene, after: Option<ChainHead>) -> Vec<u8> {
    let origin = ledger.origin().clone();
    let mut out = Vec::new();
    let genesis = Genesis {
        origin: origin.as_str(),
        start: StartKind::Time(Timestamp::from_millis(5)),
        offset: ledger.position(),
        partitions: 1,
        keyring: KeyringId::from_bytes([1; 8]),
        signer: scene.instance_key.certificate(),
        policy: PolicyHash::of("{}").short(),
        after,
    };
    ledger.append_genesis(&genesis, &mut out);
    out
}

fn append_seal(ledger: &mut Ledger, sealer: &Sealer<'_>, to: i64) -> Vec<u8> {
    let mut out = Vec::new();
    ledger.seal(to, Timestamp::EPOCH, sealer, &mut out);
    out
}

fn verify(scene: &Scene, entries: &[Vec<u8>]) -> Result<Report, Fault> {
    let mut verifier = Verifier::new(trust(scene), Start::Genesis);
    for (place, entry) in entries.iter().enumerate() {
        verifier.push(i64::try_from(place).unwrap(), entry)?;
    }
    verifier.finish()
}

#[test]
fn every_kind_of_entry_verifies_and_is_json_on_one_line() {
    let scene = Scene::new();
    let mut ledger = Ledger::begin(scene.origin(0), 0);
    let mut entries = vec![append_genesis(&mut ledger, &scene, None)];
    let policy = "{\"rules\":[\"e-mail \\\"ü\\\"\"]}";
    entries.push(append(&mut ledger, &Policy::new(policy, true).unwrap()));
    entries.push(append(&mut ledger, &Shred { key: "salon-7/phone/a" }));
    let newer = instance_key(&scene.deployment_key, 44);
    entries.push(append(&mut ledger, &Rotate { signer: newer.certificate() }));
    let sealer = Sealer { key: &newer, policy: PolicyHash::of(policy).short(), ..scene.sealer() };
    entries.push(append_seal(&mut ledger, &sealer, 4));
    entries.push(append(&mut ledger, &End { reason: "moved \"house\"\n" }));
    let after = ledger.head();
    let mut next = Ledger::begin(scene.origin(1), 4);
    entries.push(append_genesis(&mut next, &scene, after));
    entries.push(append_seal(&mut next, &scene.sealer(), 9));
    let report = verify(&scene, &entries).unwrap();
    assert_eq!(report.entries_of(Kind::Genesis), 2);
    assert_eq!((report.from, report.to), (Some(0), Some(9)));
    for entry in &entries {
        serde_json::from_slice::<serde_json::Value>(entry).unwrap();
        assert!(!entry.contains(&b'\n'));
    }
    // A genesis that names another end, and one where nothing ended.
    let mut other = entries.clone();
    other.truncate(6);
    let wrong = ChainHead { seq: 0, leaf: [1; 32] };
    other.push(append_genesis(&mut Ledger::begin(scene.origin(1), 9), &scene, Some(wrong)));
    assert_eq!(verify(&scene, &other).unwrap_err().kind, FaultKind::WrongPrev);
    entries.remove(5);
    assert_eq!(verify(&scene, &entries).unwrap_err().kind, FaultKind::UnexpectedGenesis);
}

#[test]
fn a_policy_entry_and_the_seals_agree() {
    let scene = Scene::new();
    let mut ledger = Ledger::begin(scene.origin(0), 0);
    let mut entries = vec![append_genesis(&mut ledger, &scene, None)];
    entries.push(append(&mut ledger, &Policy::new("{\"other\":1}", false).unwrap()));
    entries.push(append_seal(&mut ledger, &scene.sealer(), 0));
    assert_eq!(verify(&scene, &entries).unwrap_err().kind, FaultKind::WrongPolicy);
    assert!(Policy::new("{\n}", false).is_err());
    assert!(Policy::new("{", false).is_err());
    assert!(Policy::new(&format!("\"{}\"", "x".repeat(70_000)), false).is_err());
}

#[test]
fn verification_goes_on_from_a_seal() {
    let scene = Scene::new();
    let mut ledger = Ledger::begin(scene.origin(0), 0);
    let mut entries = vec![append_genesis(&mut ledger, &scene, None)];
    for to in 1..6 {
        entries.push(append_seal(&mut ledger, &scene.sealer(), to));
    }
    let mut first = Verifier::new(trust(&scene), Start::Genesis);
    for (place, entry) in entries.iter().enumerate().take(4) {
        first.push(i64::try_from(place).unwrap(), entry).unwrap();
    }
    let head = first.newest_seal().unwrap().head;
    let mut second = Verifier::new(trust(&scene), Start::Head(head));
    for (place, entry) in entries.iter().enumerate().skip(3) {
        second.push(i64::try_from(place).unwrap(), entry).unwrap();
    }
    assert_eq!(second.head(), ledger.head());
    assert!(!second.finish().unwrap().from_genesis);
}

/// Every kind of entry with fixed keys. Seeds: deployment key 01.., instance keys 02.. and 2c..,
/// commitment key 05...
fn golden() -> Vec<Vec<u8>> {
    let scene = Scene::new();
    let key = CommitmentKey::from_bytes(&[5; 32]);
    let record = SourceRecord {
        topic_partition: &scene.source,
        offset: 41,
        timestamp: Timestamp::from_millis(1_790_000_000_123),
        key: Some(b"k"),
        value: Some(b"call +91 98765 43210"),
        headers: &[Header { name: "h", value: None }],
    };
    let raw = key.commit_raw(&record);
    let redacted = key.commit_redacted(&SourceRecord { value: Some(b"call [phone]"), ..record });
    let counts = [Count { surface: "value", kind: "phone", count: 1 }];
    let tenant = Some(TenantFact { id: "salon-7", assurance: Assurance::Claimed });
    let mut ledger = Ledger::begin(scene.origin(0), 40);
    let mut entries = vec![append_genesis(&mut ledger, &scene, None)];
    entries.push(append(&mut ledger, &Policy::new("{}", false).unwrap()));
    let gap = Gap { from: 40, to: 41, reason: GapReason::Retention };
    let mut out = Vec::new();
    ledger.append_gap(&gap, &mut out);
    entries.push(out);
    let reason = RecoveryReason::OffsetLost;
    entries.push(append(&mut ledger, &Recovery { reason, position: 41 }));
    ledger.record(41, Fate::Forwarded, &raw);
    let actor =
        ActorFact { id: "[actor:a:abcd]", kind: Some("staff"), assurance: Assurance::Claimed };
    let action = Action {
        offset: 41,
        timestamp: record.timestamp,
        event_time: Some(Timestamp::from_millis(1_790_000_000_100)),
        tenant,
        actor: Some(actor),
        action: "booking.cancel",
        object: Some("booking/77"),
        outcome: Some("denied"),
        reason: Some("too \"late\"\n"),
        service: Some("booking"),
        raw: &raw,
        redactions: &counts,
    };
    entries.push(append(&mut ledger, &action));
    let receipt = Redaction {
        offset: 41,
        timestamp: record.timestamp,
        tenant,
        policy: PolicyHash::of("{}").short(),
        counts: &counts,
        disposition: Disposition::Redacted,
        raw: &raw,
        redacted: &redacted,
    };
    entries.push(append(&mut ledger, &receipt));
    entries.push(append_seal(&mut ledger, &scene.sealer(), 42));
    entries.push(append(&mut ledger, &Shred { key: "salon-7/commit/a" }));
    let newer = instance_key(&scene.deployment_key, 44);
    entries.push(append(&mut ledger, &Rotate { signer: newer.certificate() }));
    let sealer = Sealer { key: &newer, ..scene.sealer() };
    entries.push(append_seal(&mut ledger, &sealer, 42));
    entries.push(append(&mut ledger, &End { reason: "moved" }));
    let after = ledger.head();
    let mut next = Ledger::begin(scene.origin(1), 0);
    entries.push(append_genesis(&mut next, &scene, after));
    entries.push(append_seal(&mut next, &scene.sealer(), 0));
    entries
}

/// The stored bytes are frozen: a writer that makes others must name another version.
#[test]
fn the_bytes_of_format_1_stay_what_they_are() {
    let expected: Vec<&str> = include_str!("golden-v1.jsonl").lines().collect();
    let written: Vec<String> =
        golden().into_iter().map(|entry| String::from_utf8(entry).unwrap()).collect();
    assert_eq!(written, expected, "\n{}", written.join("\n"));
    verify(&Scene::new(), &golden()).unwrap();
}

#[derive(Clone, Debug)]
struct Fact {
    value: Vec<u8>,
    tenant: Option<String>,
    actor: String,
    count: u32,
    has_action: bool,
}

fn facts() -> impl Strategy<Value = Vec<Fact>> {
    let fact = (
        any::<Vec<u8>>(),
        proptest::option::of(any::<String>()),
        any::<String>(),
        any::<u32>(),
        any::<bool>(),
    )
        .prop_map(|(value, tenant, actor, count, has_action)| Fact {
            value,
            tenant,
            actor,
            count,
            has_action,
        });
    proptest::collection::vec(fact, 1..30)
}

/// Writes all records, with a seal behind those whose index is in `cuts`.
fn write(scene: &Scene, facts: &[Fact], cuts: &[bool]) -> Vec<Vec<u8>> {
    let key = CommitmentKey::from_bytes(&[5; 32]);
    let mut ledger = Ledger::begin(scene.origin(0), 0);
    let mut entries = vec![append_genesis(&mut ledger, scene, None)];
    for (offset, fact) in (0_i64..).zip(facts) {
        let record = SourceRecord {
            topic_partition: &scene.source,
            offset,
            timestamp: Timestamp::from_millis(offset * 10),
            key: None,
            value: Some(&fact.value),
            headers: &[],
        };
        let raw = key.commit_raw(&record);
        ledger.record(offset, Fate::Forwarded, &raw);
        let counts = [Count { surface: "value", kind: "phone", count: fact.count }];
        let tenant =
            fact.tenant.as_deref().map(|id| TenantFact { id, assurance: Assurance::Verified });
        if fact.has_action {
            let actor = ActorFact { id: &fact.actor, kind: None, assurance: Assurance::Claimed };
            entries.push(append(
                &mut ledger,
                &Action {
                    offset,
                    timestamp: record.timestamp,
                    event_time: Some(Timestamp::from_millis(-1)),
                    tenant,
                    actor: Some(actor),
                    action: "a.b",
                    object: None,
                    outcome: None,
                    reason: None,
                    service: None,
                    raw: &raw,
                    redactions: &counts,
                },
            ));
        }
        entries.push(append(
            &mut ledger,
            &Redaction {
                offset,
                timestamp: record.timestamp,
                tenant,
                policy: PolicyHash::of("{}").short(),
                counts: &counts,
                disposition: Disposition::Redacted,
                raw: &raw,
                redacted: &key.commit_redacted(&record),
            },
        ));
        let index = usize::try_from(offset).unwrap();
        if cuts.get(index).copied().unwrap_or(false) || index + 1 == facts.len() {
            entries.push(append_seal(&mut ledger, &scene.sealer(), offset + 1));
        }
    }
    entries
}

fn bodies(entries: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let is_seal = |entry: &&Vec<u8>| ChainFields::read(entry).unwrap().kind == Kind::Seal;
    let rest = entries.iter().filter(|entry| !is_seal(entry));
    rest.map(|entry| entry[CHAIN_FIELDS_BYTES..].to_vec()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn where_batches_are_cut_changes_no_body(
        facts in facts(),
        cuts in proptest::collection::vec(any::<bool>(), 30),
        other_cuts in proptest::collection::vec(any::<bool>(), 30),
    ) {
        let scene = Scene::new();
        let (one, other) = (write(&scene, &facts, &cuts), write(&scene, &facts, &other_cuts));
        prop_assert_eq!(bodies(&one), bodies(&other));
        prop_assert_eq!(write(&scene, &facts, &cuts), one.clone());
        let (one, other) = (verify(&scene, &one).unwrap(), verify(&scene, &other).unwrap());
        prop_assert_eq!(one.fates, other.fates);
        prop_assert_eq!(one.to, Some(i64::try_from(facts.len()).unwrap()));
    }

    #[test]
    fn no_bytes_panic(entries in proptest::collection::vec(any::<Vec<u8>>(), 0..4)) {
        prop_assert!(verify(&Scene::new(), &entries).is_err());
    }

    #[test]
    fn a_mutated_chain_panics_never_and_passes_never(
        facts in facts(),
        entry in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let scene = Scene::new();
        let mut entries = write(&scene, &facts, &[]);
        let entry = entry.index(entries.len());
        let byte = byte.index(entries[entry].len());
        prop_assume!(entries[entry][byte] != value);
        entries[entry][byte] = value;
        let fault = verify(&scene, &entries).unwrap_err();
        prop_assert_eq!(fault.place, Some(i64::try_from(entry).unwrap()), "{}", fault);
    }
}

//! What becomes of records, whatever batches they came in.

use proptest::prelude::*;

use super::*;
use crate::pipeline::audit::{Certificate, CommitmentKey, DeploymentKey};
use crate::pipeline::emit::SOURCE_HEADER;
use crate::pipeline::ingest::IngestRules;
use crate::pipeline::record::{Header, SourceRecord};
use crate::pipeline::redact::keyring::{KeyEncryptionKey, Keyring, KeyringFile};
use crate::pipeline::redact::policy::{Policy, RawPolicy};
use crate::pipeline::step::{Lookup, LookupAnswer};
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
const HEX_64: usize = 64;

#[derive(Clone, Debug)]
struct Source {
    key: Option<&'static str>,
    value: Option<Vec<u8>>,
    headers: Vec<(&'static str, Option<&'static str>)>,
}

/// What left, but for what depends on where a transaction ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Left {
    /// Of the redacted topic and the dead letters, in the order of each.
    records: BTreeMap<Arc<str>, Vec<Forwarded>>,
    /// Kind and body of every entry but seals.
    entries: Vec<String>,
    seals: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Forwarded {
    timestamp: Option<Timestamp>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Left {
    fn take(&mut self, outputs: &Outputs) {
        outputs.for_each_from(0, |record| {
            let value = record.value.map(<[u8]>::to_vec);
            if record.topic.ends_with(".audit") {
                self.entry(&String::from_utf8(value.unwrap()).unwrap());
                return true;
            }
            let headers = record.headers.iter();
            let headers = headers.map(|h| (h.name.to_owned(), h.value.map(<[u8]>::to_vec)));
            self.records.entry(Arc::clone(record.topic)).or_default().push(Forwarded {
                timestamp: record.timestamp,
                key: record.key.map(<[u8]>::to_vec),
                value,
                headers: headers.collect(),
            });
            true
        });
    }

    /// Chain fields have fixed widths: kind at 12, `prev` up to 118.
    fn entry(&mut self, entry: &str) {
        match &entry[12..15] {
            "sea" => self.seals += 1,
            kind => self.entries.push(format!("{kind}{}", &entry[118..])),
        }
    }

    fn bodies(&self, kind: &str) -> Vec<Value> {
        let of_kind = self.entries.iter().filter_map(|entry| entry.strip_prefix(kind));
        of_kind.map(|rest| serde_json::from_str(&format!("{{{}", &rest[2..])).unwrap()).collect()
    }
}

fn keyring() -> Arc<Keyring> {
    let kek = KeyEncryptionKey::parse(&"7".repeat(HEX_64)).unwrap();
    let mut next = 0_u8;
    let mut draw = |bytes: &mut [u8]| {
        bytes.iter_mut().for_each(|byte| {
            next = next.wrapping_mul(5).wrapping_add(113);
            *byte = next;
        });
    };
    Arc::new(KeyringFile::create(&kek, &mut draw).open(&kek).unwrap())
}

fn commitment_key() -> CommitmentKey {
    CommitmentKey::from_bytes(&[5; 32])
}

fn policy(regions: &[&str]) -> Arc<Policy> {
    let regions = Some(regions.iter().map(|&region| region.into()).collect());
    Arc::new(Policy::new(&RawPolicy { regions, ..RawPolicy::default() }).unwrap())
}

fn scrub(policy: Arc<Policy>) -> Scrub {
    let deployment_key = DeploymentKey::from_seed(&[1; 32]);
    let deployment = Deployment::parse("test").unwrap();
    let certificate: Certificate =
        deployment_key.certify(deployment.as_str(), InstanceKey::public_of_seed(&[2; 32]));
    let instance_key = Arc::new(InstanceKey::from_seed(&[2; 32], certificate).unwrap());
    let keyring_id = KeyringId::from_bytes([7; 8]);
    let config = ScrubConfig {
        names: Arc::default(),
        record_bytes_max: 1 << 20,
        sentinel: Sampling::new(1_000),
        canaries: Canaries::default(),
        deployment,
        deployment_key: deployment_key.public(),
        keyring: keyring_id,
        commitment_keys: commitment_key().into(),
        instance_key: Arc::clone(&instance_key),
        starts: BTreeMap::new(),
        adopt: Vec::new(),
        restart: Arc::new(NoRestarts),
        audit: Some(AuditConfig {
            key: instance_key,
            instance: InstanceName::new("test"),
            keyring: keyring_id,
            policy: AuditPolicy::new(&policy).unwrap(),
            heartbeat_ms: 30_000,
            receipts: true,
        }),
        measures: None,
    };
    let redactor = Redactor::new(policy).with_keyring(keyring());
    Scrub::new(config, Ingest::new(IngestRules::default()), redactor)
}

fn source() -> TopicPartition {
    TopicPartition::new("app.logs", 0)
}

fn audit() -> TopicPartition {
    TopicPartition::new("app.logs.audit", 0)
}

fn restored() -> Scrub {
    restored_behind(policy(&["IN"]), &[], None)
}

/// A stage under `policy` that goes on behind `chain` and what was `committed` with it.
fn restored_behind(
    policy: Arc<Policy>,
    chain: &[Vec<u8>],
    committed: Option<&OffsetCommit>,
) -> Scrub {
    let mut stage = scrub(policy);
    let end_of = |of: &TopicPartition| if *of == audit() { chain.len() as i64 } else { 0 };
    let mut step = stage.assign(&source(), NOW);
    loop {
        let answer = match step {
            RestoreStep::Ready { .. } => return stage,
            RestoreStep::Stop(stop) | RestoreStep::Refuse(stop) => panic!("{}", stop.detail),
            RestoreStep::Ask(Lookup::Committed) => {
                let metadata = committed.map(|commit| commit.metadata.clone());
                LookupAnswer::Committed {
                    offset: committed.map(|commit| commit.offset),
                    metadata: metadata.unwrap_or_default(),
                }
            }
            RestoreStep::Ask(Lookup::Range(of)) => {
                LookupAnswer::Range { low: 0, high: end_of(&of), lso: end_of(&of) }
            }
            RestoreStep::Ask(Lookup::Read { topic_partition, to, .. }) => {
                let mut batch = RecordBatch::new(topic_partition);
                for (entry, offset) in chain.iter().zip(0..end_of(batch.topic_partition())) {
                    batch.push(offset, NOW, None, Some(entry), []);
                }
                LookupAnswer::Records { batch, next: to }
            }
            RestoreStep::Ask(Lookup::OffsetAt { .. }) => LookupAnswer::OffsetAt(0),
        };
        step = stage.restore(&source(), answer, NOW);
    }
}

/// Runs `records` through SCRUB in transactions of `cuts` records (repeated); every `lost`-th one is
/// lost and read again.
fn run(records: &[Source], cuts: &[usize], lost: usize) -> Left {
    let (mut stage, mut outputs, mut left) = (restored(), Outputs::default(), Left::default());
    let (mut at, mut turn) = (0, 0);
    while at < records.len() {
        let to = (at + cuts[turn % cuts.len()]).min(records.len());
        let mut batch = RecordBatch::new(source());
        for (number, record) in records.iter().enumerate().take(to).skip(at) {
            let offset = i64::try_from(number).unwrap();
            let (key, value) = (record.key.map(str::as_bytes), record.value.as_deref());
            let headers = record.headers.iter();
            let headers =
                headers.map(|(name, value)| Header { name, value: value.map(str::as_bytes) });
            batch.push(offset, NOW.plus_millis(offset), key, value, headers);
        }
        stage.process(&batch, 0..batch.len(), NOW, &mut outputs).unwrap();
        turn += 1;
        stage.close(NOW, &mut outputs);
        stage.offsets(&[]);
        if turn % lost == 0 {
            assert!(stage.discard().is_empty());
        } else {
            stage.committed();
            left.take(&outputs);
            at = to;
        }
        outputs.clear();
    }
    left
}

fn line(value: &Value) -> Source {
    Source { key: None, value: Some(value.to_string().into_bytes()), headers: Vec::new() }
}

fn staff_action() -> Value {
    json!({
        "level": "info", "service": "rostering", "tenant_id": "salon-7",
        "staff_id": "st-31", "staff_action": "booking.cancel", "booking_id": "b-993",
        "msg": "cancelled for asha@example.com, call +91 98765 43210",
    })
}

fn any_source() -> impl Strategy<Value = Source> {
    let text = prop_oneof![
        Just(staff_action()),
        (0..5_u32, 0..10_000_u32).prop_map(|(tenant, n)| json!({
            "level": "error", "tenant": format!("salon-{tenant}"), "session_id": format!("s-{n}"),
            "customer": {"email": format!("asha{n}@example.com"), "phone": "+91 98765 43210"},
        })),
        ".{0,40}".prop_map(|text| json!({"level": "info", "msg": text})),
    ];
    let value = prop_oneof![
        6 => text.prop_map(|value| Some(value.to_string().into_bytes())),
        1 => Just(None),
        1 => Just(Some(Vec::new())),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Some),
        1 => Just(Some(b"\x1f\x8b\x08\x00packed".to_vec())),
    ];
    let key = prop_oneof![Just(None), Just(Some("b-1")), Just(Some("asha@example.com"))];
    let header = ("x-customer", Some("ravi@example.com"));
    let headers = prop_oneof![Just(Vec::new()), Just(vec![header])];
    (key, value, headers).prop_map(|(key, value, headers)| Source { key, value, headers })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// G8: what leaves is a function of the records, not of the transactions they came in nor of
    /// those that were lost.
    #[test]
    fn where_batches_are_cut_changes_no_redacted_byte_and_no_body(
        records in prop::collection::vec(any_source(), 1..40),
        cuts in prop::collection::vec(1..15_usize, 1..6),
        lost in 2..5_usize,
    ) {
        let whole = run(&records, &[records.len()], usize::MAX);
        let cut = run(&records, &cuts, lost);
        prop_assert_eq!(&whole.records, &cut.records);
        prop_assert_eq!(&whole.entries, &cut.entries);
        prop_assert_eq!(whole.records.values().next().map(Vec::len), Some(records.len()));
        prop_assert!(whole.seals == 1 && cut.seals >= 1);
    }
}

#[test]
fn a_staff_action_is_told_with_who_what_to_which_and_for_whom() {
    let left = run(&[line(&staff_action())], &[1], usize::MAX);
    let [action] = &left.bodies("act")[..] else { panic!("{:?}", left.entries) };
    for (field, value) in [
        ("action", json!("booking.cancel")),
        ("actor", json!({"id": "st-31", "is": "claimed"})),
        ("object", json!("b-993")),
        ("service", json!("rostering")),
        ("tenant", json!({"id": "salon-7", "is": "claimed"})),
        ("src", json!({"topic": "app.logs", "partition": 0, "offset": 0})),
    ] {
        assert_eq!(action[field], value, "{field} of {action}");
    }
    let receipts = left.bodies("red");
    assert_eq!(receipts.len(), 1);
    assert_eq!((&receipts[0]["src"], &receipts[0]["raw"]), (&action["src"], &action["raw"]));
    let text = format!("{:?}", left.entries);
    assert!(!text.contains("asha@") && !text.contains("98765"), "{text}");
}

#[test]
fn a_receipt_commits_to_the_record_as_it_was_forwarded_headers_included() {
    let headers = vec![("x-customer", Some("asha@example.com")), ("trace", None)];
    let left = run(&[Source { headers, ..line(&staff_action()) }], &[1], usize::MAX);
    let redacted = &left.records[&Arc::from("app.logs.redacted")][0];
    // A reader of the redacted topic leaves out what blotter added, and commits to the rest.
    let headers: Vec<Header<'_>> = redacted
        .headers
        .iter()
        .filter(|(name, _)| name != SOURCE_HEADER)
        .map(|(name, value)| Header { name, value: value.as_deref() })
        .collect();
    assert_eq!(headers[0].value, Some(b"[email]".as_slice()));
    let record = SourceRecord {
        topic_partition: &source(),
        offset: 0,
        timestamp: NOW,
        key: redacted.key.as_deref(),
        value: redacted.value.as_deref(),
        headers: &headers,
    };
    let commitment = commitment_key().commit_redacted(&record);
    let told = left.bodies("red")[0]["redacted"].as_str().unwrap().to_owned();
    assert_eq!(told, data_encoding::BASE64URL_NOPAD.encode(commitment.as_bytes()));
}

#[test]
fn a_start_under_other_rules_is_told_at_once_and_counted_once_its_entry_stands() {
    let unknown = |stage: &mut Scrub| {
        let update = Metric::PolicyReloads.update(&["unknown"], 1.0);
        stage.committed().contains(&update)
    };
    let (mut first, mut outputs, mut chain) = (restored(), Outputs::default(), Vec::new());
    first.close(NOW, &mut outputs);
    let commits = first.offsets(&[]);
    assert!(!unknown(&mut first));
    outputs.for_each_from(0, |record| {
        chain.extend(record.value.map(<[u8]>::to_vec));
        true
    });
    let mut same = restored_behind(policy(&["IN"]), &chain, commits.first());
    assert!(same.findings().is_empty());
    same.close(NOW, &mut outputs);
    assert!(!unknown(&mut same));
    let mut other = restored_behind(policy(&["DE"]), &chain, commits.first());
    assert!(matches!(&other.findings()[..], [RestoreAlert { name: "other_policy", .. }]));
    other.close(NOW, &mut outputs);
    other.discard();
    assert!(!unknown(&mut other), "the transaction is lost");
    outputs.clear();
    other.close(NOW, &mut outputs);
    other.offsets(&[]);
    assert!(unknown(&mut other));
    let mut left = Left::default();
    left.take(&outputs);
    let [entry] = &left.bodies("pol")[..] else { panic!("{:?}", left.entries) };
    assert!(entry["loosened"].is_null(), "{entry}");
    other.close(NOW.plus_millis(60_000), &mut outputs);
    other.offsets(&[]);
    assert!(!unknown(&mut other), "the chain has named it");
}

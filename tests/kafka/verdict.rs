//! What must hold at the end of a deployment's life, whatever happened in it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::daemon::{Deployment, MEASURES_PARTITIONS};
use crate::harness::Seen;
use crate::traffic::Fed;

/// Counts by signal of each series and bucket.
type Counts = BTreeMap<String, BTreeMap<String, u64>>;

impl Deployment {
    /// Nothing lost, doubled or rejected; order, timestamps and headers kept; values and keys are
    /// what redaction makes of them; the chain verifies; its counts and the measures are the
    /// input's; each alert message was sent once.
    pub(crate) fn verify(&self) {
        let fed = self.fed();
        let mut tokens = Tokens::default();
        for (partition, records) in fed.iter().enumerate() {
            let number = i32::try_from(partition).expect("few partitions");
            let seen = self.admin.read(&self.redacted(), number);
            let numbers: Vec<_> = seen.iter().map(number_of).collect();
            let wanted: Vec<_> = records.iter().map(|fed| fed.number.to_string()).collect();
            assert!(numbers == wanted, "partition {number}: {}", first_fault(&numbers, &wanted));
            for (offset, (record, fed)) in seen.iter().zip(records).enumerate() {
                assert_eq!(record.timestamp, fed.timestamp, "timestamp of {number}/{offset}");
                assert_eq!(header(record, "empty"), Some(Some(Vec::new())));
                assert_eq!(header(record, "null"), Some(None));
                let source = header(record, "blotter-source").flatten().expect("coordinates");
                assert_eq!(
                    String::from_utf8_lossy(&source),
                    format!("{}/{number}/{offset}", self.source)
                );
                let token = String::from_utf8(record.key.clone().expect("a key")).expect("a token");
                assert_eq!(record.text(), fed.redacted(&token), "value of {number}/{offset}");
                tokens.take(fed, token);
            }
        }
        let rejected = self.admin.read(&format!("{}.dead-letters", self.source), 0);
        assert!(rejected.is_empty(), "{rejected:?}");
        self.verify_audit(&fed);
        self.verify_measures(&fed);
        self.verify_alerts();
    }

    fn verify_audit(&self, fed: &[Vec<Fed>]) {
        let lines = self.must(&["audit", "verify", "--topic", &self.source, "--json"]);
        let verdicts: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
        assert_eq!(verdicts.len(), fed.len(), "{lines}");
        for (verdict, records) in verdicts.iter().zip(fed) {
            assert_eq!(verdict["fault"], Value::Null, "{verdict}");
            assert_eq!(verdict["records"]["read"], records.len(), "{verdict}");
            assert_eq!(verdict["records"]["forwarded"], records.len(), "{verdict}");
            assert_eq!(verdict["gap_offsets"], 0, "{verdict}");
            if !records.is_empty() {
                assert_eq!(verdict["from"], 0, "{verdict}");
                assert_eq!(verdict["to"], records.len(), "{verdict}");
            }
        }
        for partition in 0..i32::try_from(fed.len()).expect("few partitions") {
            let entries = self.admin.read(&format!("{}.audit", self.source), partition);
            let genesis = entries.first().expect("each chain was begun").text();
            let counted = format!("\"partitions\":{},", fed.len());
            assert!(genesis.contains(&counted), "{genesis}");
        }
    }

    /// The deltas add up to the input, by tenant and over all.
    fn verify_measures(&self, fed: &[Vec<Fed>]) {
        let mut wanted = BTreeMap::new();
        for record in fed.iter().flatten() {
            for scope in [record.tenant(), "_all".to_owned()] {
                let (records, errors) = wanted.entry(scope).or_insert((0, 0));
                *records += 1;
                *errors += u64::from(record.is_error());
            }
        }
        let mut measured = BTreeMap::new();
        for partition in 0..MEASURES_PARTITIONS {
            for (series, counts) in self.deltas(partition, i64::MAX) {
                let series: Value = serde_json::from_str(&series).expect("we wrote it");
                let scope = series[0].as_str().expect("a scope").to_owned();
                let of = |signal: &str| counts.get(signal).copied().unwrap_or_default();
                let (records, errors) = measured.entry(scope).or_insert((0, 0));
                *records += of("records");
                *errors += of("errors");
            }
        }
        assert_eq!(measured, wanted, "records and errors by tenant");
    }

    /// What was measured below the offset `end`, by scope, service and bucket as JSON.
    fn deltas(&self, partition: i32, end: i64) -> Counts {
        let mut sums = Counts::new();
        let measures = self.admin.read(&format!("{}.measures", self.source), partition);
        for record in measures.iter().filter(|record| record.offset < end) {
            let measure: Value = serde_json::from_str(&record.text()).expect("JSON");
            for delta in measure["d"].as_array().into_iter().flatten() {
                let series =
                    sums.entry(Value::from(&delta.as_array().expect("a list")[..3]).to_string());
                add(series.or_default(), &delta[3]);
            }
        }
        sums
    }

    /// WATCH has counted every delta up to its position once: what it still holds of each bucket is
    /// what was measured. Returns the number of buckets compared.
    pub(crate) fn verify_state(&self) -> usize {
        let mut compared = 0;
        for partition in 0..MEASURES_PARTITIONS {
            let mut state = BTreeMap::new();
            for record in self.admin.read(&format!("{}.watch-state", self.source), partition) {
                let key = String::from_utf8(record.key.clone().unwrap_or_default()).expect("JSON");
                state.insert(key, record.value.is_some().then(|| record.text()));
            }
            let held = |text: &Option<String>| {
                let value: Option<Value> =
                    text.as_deref().map(|text| serde_json::from_str(text).expect("JSON"));
                value.map(|value| value["x"].clone())
            };
            let Some(position) = state.get("[\"p\"]").and_then(held) else { continue };
            let position = position["position"].as_i64().expect("an offset");
            let measured = self.deltas(partition, position);
            for (key, text) in &state {
                let key: Vec<Value> = serde_json::from_str(key).expect("JSON");
                let (Some(counts), [kind, series @ ..]) = (held(text), key.as_slice()) else {
                    continue;
                };
                if kind != "b" {
                    continue;
                }
                let mut kept = BTreeMap::new();
                add(&mut kept, &counts);
                let series = Value::from(series).to_string();
                assert_eq!(Some(&kept), measured.get(&series), "{partition}: {series}");
                compared += 1;
            }
        }
        compared
    }

    /// Every message on the alert topic.
    pub(crate) fn alerts(&self) -> Vec<Value> {
        let seen = self.admin.read(&format!("{}.alerts", self.source), 0);
        let values = seen.iter().filter(|record| record.value.is_some());
        values.map(|record| serde_json::from_str(&record.text()).expect("JSON")).collect()
    }

    /// The messages of each alert's episode came once each, in order, nothing after the resolve but
    /// its repetition.
    fn verify_alerts(&self) {
        let mut episodes: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for alert in self.alerts() {
            let episode = alert["episode"].as_str().expect("an episode").to_owned();
            episodes.entry(episode).or_default().push(alert);
        }
        for messages in episodes.values() {
            let numbers: Vec<_> = messages.iter().map(|alert| alert["seq"].as_u64()).collect();
            let wanted: Vec<_> = (1..=messages.len() as u64).map(Some).collect();
            assert_eq!(numbers, wanted, "{messages:#?}");
            assert!(messages.is_sorted_by_key(|alert| alert["status"] == "resolved"));
            let transitions = messages.iter().filter(|alert| alert["reason"] == "transition");
            let statuses: Vec<_> = transitions.map(|alert| alert["status"].as_str()).collect();
            let whole = [Some("firing"), Some("resolved")];
            assert!(!statuses.is_empty() && whole.starts_with(&statuses), "{statuses:?}");
        }
    }
}

/// The tokens of record keys: equal for equal keys of one tenant, and for no others.
#[derive(Default)]
struct Tokens {
    by_key: BTreeMap<(String, String), String>,
    taken: BTreeSet<String>,
}

impl Tokens {
    fn take(&mut self, fed: &Fed, token: String) {
        let key = (fed.tenant(), fed.key());
        if let Some(known) = self.by_key.get(&key) {
            assert_eq!(&token, known, "token of record {}", fed.number);
            return;
        }
        let payload = token.strip_prefix("[phone:a:").and_then(|rest| rest.strip_suffix(']'));
        let is_token = payload.is_some_and(|payload| {
            payload.len() == 24 && payload.bytes().all(|byte| matches!(byte, b'a'..=b'p'))
        });
        assert!(is_token, "key of record {}: {token}", fed.number);
        assert!(self.taken.insert(token.clone()), "{token} stands for two keys");
        self.by_key.insert(key, token);
    }
}

fn add(sums: &mut BTreeMap<String, u64>, counts: &Value) {
    for (signal, count) in counts.as_object().expect("counts by signal") {
        *sums.entry(signal.clone()).or_default() += count.as_u64().expect("a count");
    }
}

fn header(record: &Seen, name: &str) -> Option<Option<Vec<u8>>> {
    record.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone())
}

fn number_of(record: &Seen) -> String {
    let value = header(record, "number").flatten().unwrap_or_default();
    String::from_utf8_lossy(&value).into_owned()
}

fn first_fault(seen: &[String], wanted: &[String]) -> String {
    let at = seen.iter().zip(wanted).position(|(seen, wanted)| seen != wanted);
    let at = at.unwrap_or_else(|| seen.len().min(wanted.len()));
    format!(
        "{} of {}, first difference at {at}: {:?} instead of {:?}",
        seen.len(),
        wanted.len(),
        seen.get(at),
        wanted.get(at)
    )
}

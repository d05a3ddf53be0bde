//! What must hold at the end of a run, computed from the input and the stored topics alone.

use std::collections::{BTreeMap, BTreeSet};

use blotter::daemon::broker::embedded::{Cluster, Isolation, StoredRecord};
use blotter::pipeline::record::TopicPartition;
use serde_json::Value;

use crate::chain::{leaf_hash, read_entry};
use crate::input::Input;
use crate::stages::{ALERTS, MEASURES};

/// One source partition and its counterparts.
pub(crate) struct Partition<'a> {
    pub(crate) source: TopicPartition,
    pub(crate) redacted: TopicPartition,
    pub(crate) audit: TopicPartition,
    /// What was written to the source, from offset 0 on; all of it must have been processed.
    pub(crate) input: &'a [Input],
    /// Whether the stand-in for SCRUB processed it.
    pub(crate) copied: bool,
    /// Ranges that retention took before they were read.
    pub(crate) gaps: Vec<(i64, i64)>,
}

/// A promise that was broken.
pub(crate) type Broken = String;

/// Checks one partition. Returns the records of the largest seal.
pub(crate) fn check(cluster: &Cluster, partition: &Partition<'_>) -> Result<i64, Broken> {
    check_output(cluster, partition)?;
    check_chain(cluster, partition)
}

/// Every input record once, in order, with its partition and timestamp, and the right content.
fn check_output(cluster: &Cluster, partition: &Partition<'_>) -> Result<(), Broken> {
    let records = committed(cluster, &partition.redacted)?;
    let lost = |offset: i64| partition.gaps.iter().any(|(from, to)| (*from..*to).contains(&offset));
    let mut expected = (0_i64..).zip(partition.input);
    let mut expected = std::iter::from_fn(|| expected.find(|(offset, _)| !lost(*offset)));
    for record in &records {
        let source = record.body.header("blotter-source").unwrap_or_default();
        let source = String::from_utf8_lossy(source).into_owned();
        let at = format!("{} offset {}", partition.redacted, record.offset);
        let Some((offset, input)) = expected.next() else {
            return Err(format!("{at}: {source} is one too many"));
        };
        let coordinates = format!("{}/{offset}", partition.source);
        if source != coordinates {
            return Err(format!("{at}: found {source}, expected {coordinates}"));
        }
        if record.timestamp.millis() != input.timestamp_ms {
            return Err(format!("{at}: another timestamp than {coordinates}"));
        }
        let value = record.body.value.as_deref().unwrap_or_default();
        let expected = if partition.copied { input.copied() } else { input.redacted.clone() };
        let right = match expected {
            Some(expected) => value == expected.as_bytes(),
            None => {
                record.body.header("blotter-dead-letter").is_some()
                    && value != input.value.as_bytes()
            }
        };
        if !right {
            return Err(format!("{at}: {coordinates} has another content than it should"));
        }
    }
    match expected.next() {
        Some((offset, _)) => Err(format!("{}/{offset} never came out", partition.source)),
        None => Ok(()),
    }
}

/// The measures of all transactions add up to what was read: records and errors, by tenant.
pub(crate) fn check_measures(
    cluster: &Cluster,
    partitions: i32,
    inputs: &[&[Input]],
) -> Result<(), Broken> {
    let mut counted: BTreeMap<(String, &str), i64> = BTreeMap::new();
    for partition in 0..partitions {
        let partition = TopicPartition::new(MEASURES, partition);
        for record in committed(cluster, &partition)? {
            let value = record.body.value.as_deref().unwrap_or_default();
            let value: Value = serde_json::from_slice(value).map_err(|error| error.to_string())?;
            for delta in value.get("d").and_then(Value::as_array).into_iter().flatten() {
                let tenant = delta[0].as_str().unwrap_or_default().to_owned();
                for signal in ["records", "errors"] {
                    let count = delta[3][signal].as_i64().unwrap_or(0);
                    *counted.entry((tenant.clone(), signal)).or_default() += count;
                }
            }
        }
    }
    let mut written: BTreeMap<(String, &str), i64> = BTreeMap::new();
    for input in inputs.iter().copied().flatten().filter(|input| input.redacted.is_some()) {
        *written.entry((input.tenant.clone(), "records")).or_default() += 1;
        *written.entry((input.tenant.clone(), "errors")).or_default() += i64::from(input.is_error);
    }
    counted.retain(|(tenant, _), _| !tenant.starts_with('_'));
    if counted == written {
        Ok(())
    } else {
        Err(format!("measured {counted:?}, written {written:?}"))
    }
}

/// An alert that must have been raised.
pub(crate) struct Alarm {
    pub(crate) tenant: String,
    /// Messages before this one tell of earlier ones.
    pub(crate) from_offset: i64,
}

/// Every alert transition once: no event id twice, and of each alert firing and resolved in turn.
/// In the end nothing fires but the watchdogs, which always do, and each of `alarms` was raised. Gives
/// the number of transitions.
pub(crate) fn check_alerts(cluster: &Cluster, alarms: &[Alarm]) -> Result<usize, Broken> {
    let mut ids = BTreeSet::new();
    let mut firing: BTreeMap<Vec<u8>, (String, String)> = BTreeMap::new();
    let mut transitions = 0;
    let mut missing: Vec<&Alarm> = alarms.iter().collect();
    for record in committed(cluster, &TopicPartition::new(ALERTS, 0))? {
        let Some(value) = record.body.value.as_deref() else { continue };
        let value: Value = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        let id = record.body.header("ce_id").unwrap_or_default().to_vec();
        let at = format!("{} at {}", value["labels"]["alertname"], record.offset);
        if !ids.insert(id.clone()) {
            return Err(format!("{at}: id {} comes twice", String::from_utf8_lossy(&id)));
        }
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let key = record.body.key.as_deref().unwrap_or_default().to_vec();
        let (status, episode) = (text("status"), text("episode"));
        let name = value["labels"]["alertname"].as_str().unwrap_or_default().to_owned();
        let known = firing.get(&key).map(|(episode, _)| episode);
        match (status.as_str(), text("reason").as_str()) {
            ("firing", "transition") if known.is_none() => {
                let tenant = value["labels"]["tenant"].as_str().unwrap_or_default();
                missing.retain(|alarm| {
                    name != "Errors" || alarm.tenant != tenant || record.offset < alarm.from_offset
                });
                firing.insert(key, (episode, name));
            }
            ("firing", "refresh") if known == Some(&episode) => continue,
            ("resolved", "transition") if known == Some(&episode) => {
                firing.remove(&key);
            }
            (_, "refresh") if status == "resolved" => continue,
            (status, reason) => {
                return Err(format!("{at}: {status} ({reason}) of {episode} after {known:?}"));
            }
        }
        transitions += 1;
    }
    if let Some(alarm) = missing.first() {
        return Err(format!("nothing was raised for {}", alarm.tenant));
    }
    match firing.values().find(|(_, name)| name != "BlotterWatchdog") {
        Some((episode, name)) => Err(format!("{name} still fires in episode {episode}")),
        None => Ok(transitions),
    }
}

/// The chain is unbroken, seals are contiguous, cover everything and count rightly.
fn check_chain(cluster: &Cluster, partition: &Partition<'_>) -> Result<i64, Broken> {
    let entries = committed(cluster, &partition.audit)?;
    let (mut prev, mut to, mut largest) = ("0".repeat(64), 0, 0);
    let mut gaps = partition.gaps.iter();
    for (seq, record) in (0_u64..).zip(&entries) {
        let bytes = record.body.value.as_deref().unwrap_or_default();
        let entry = read_entry(bytes);
        let at = format!("{} offset {}", partition.audit, record.offset);
        if entry.seq != seq || entry.prev != prev {
            return Err(format!("{at}: the chain is broken at entry {seq}"));
        }
        prev = leaf_hash(bytes);
        match entry.kind.as_str() {
            "sea" => {
                if entry.from != Some(to) || entry.to.is_none_or(|end| end < to) {
                    return Err(format!("{at}: the seal does not begin at {to}"));
                }
                let end = entry.to.unwrap_or(to);
                if entry.fates.iter().sum::<i64>() != end - to {
                    return Err(format!("{at}: the seal's counts do not add up"));
                }
                largest = largest.max(end - to);
                to = end;
            }
            "gap" => {
                let found = entry.from.zip(entry.to);
                if found != gaps.next().copied() || entry.from != Some(to) {
                    return Err(format!("{at}: a gap {found:?} that was none"));
                }
                to = entry.to.unwrap_or(to);
            }
            _ => {}
        }
    }
    let processed = i64::try_from(partition.input.len()).unwrap_or(i64::MAX);
    if to != processed {
        return Err(format!("{}: sealed to {to}, not to {processed}", partition.audit));
    }
    Ok(largest)
}

fn committed(cluster: &Cluster, partition: &TopicPartition) -> Result<Vec<StoredRecord>, Broken> {
    let read = cluster.read(partition, Isolation::ReadCommitted, 0);
    let (records, next) = read.map_err(|error| format!("{partition}: {error}"))?;
    let (_, high, _) = cluster.watermarks(partition).map_err(|error| error.to_string())?;
    if next != high {
        return Err(format!("{partition}: a transaction is open for ever"));
    }
    Ok(records)
}

//! What must hold at the end of a run, computed from the input and the stored topics alone.

use blotter::daemon::broker::embedded::{Cluster, Isolation, StoredRecord};
use blotter::pipeline::record::TopicPartition;

use crate::chain::{leaf_hash, read_entry};
use crate::input::Input;

/// One source partition and its counterparts.
pub(crate) struct Partition<'a> {
    pub(crate) source: TopicPartition,
    pub(crate) redacted: TopicPartition,
    pub(crate) audit: TopicPartition,
    /// What was written to the source, from offset 0 on.
    pub(crate) input: &'a [Input],
    /// How many of it must have been processed.
    pub(crate) processed: usize,
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
    let mut expected = (0_i64..).zip(partition.input).take(partition.processed);
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
        let right = match &input.expected {
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
    let processed = i64::try_from(partition.processed).unwrap_or(i64::MAX);
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

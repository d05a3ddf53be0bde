//! `blotter preview`: what the newest records of a live topic would lose. Reads committed records,
//! joins no group, writes nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::exit::{Exit, Failure};
use super::records::{Found, Lens};
use super::redact::policy_file;
use super::topics::ADMIN_TIMEOUT;
use super::{Common, print};
use crate::daemon::broker::BrokerError;
use crate::daemon::reader::{KafkaReader, TopicReader};
use crate::pipeline::record::{SourceRecord, TopicPartition};
use crate::pipeline::redact::{Disposition, Partial, Scope, Surface, SurfaceClass};
use crate::settings::Settings;

const IN_MEMORY: &str = "writing to a string does not fail";

#[derive(Debug, Args)]
pub(super) struct PreviewArguments {
    /// Topic to look at
    #[arg(long)]
    topic: String,
    /// Newest records to read, over all partitions
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    last: u32,
    /// host:port of the brokers, separated by commas
    #[arg(long, value_name = "LIST")]
    brokers: Option<String>,
    /// Policy to apply: a file with a [redact] table, or its keys at top level
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Show the values too
    #[arg(long)]
    show_values: bool,
}

pub(super) fn run(common: &Common, arguments: &PreviewArguments) -> Result<Exit, Failure> {
    let settings = Settings::new(&common.load(brokers_flag(arguments.brokers.as_deref()))?)?;
    let mut reader = connect(&settings)?;
    let policy = match &arguments.policy {
        Some(file) => Arc::new(policy_file(file)?),
        None => Arc::clone(&settings.policy),
    };
    let mut tally = Tally {
        lens: Lens::new(&settings, policy, None),
        show_values: arguments.show_values,
        out: Vec::new(),
        records: 0,
        with_findings: 0,
        others: BTreeMap::new(),
        found: BTreeMap::new(),
    };
    let mut failed = Ok(());
    for (topic_partition, from, to) in tails(&mut reader, &arguments.topic, arguments.last.into())? {
        reader.read(&topic_partition, from, to, &mut |record| {
            if failed.is_ok() {
                failed = print(&tally.take(&record));
            }
        })?;
    }
    failed?;
    print(&tally.report(&arguments.topic))?;
    Ok(Exit::Success)
}

/// `--brokers` as a setting.
pub(super) fn brokers_flag(brokers: Option<&str>) -> Vec<(String, String)> {
    brokers.map(|list| ("kafka.brokers".to_owned(), list.to_owned())).into_iter().collect()
}

/// A reader of the cluster of the settings; its group is never joined.
pub(super) fn connect(settings: &Settings) -> Result<KafkaReader, Failure> {
    if settings.kafka.brokers.is_empty() {
        let message = "kafka.brokers: is empty; name it in a file, or say --brokers HOST:PORT";
        return Err(Failure::new(Exit::Config, message));
    }
    let group = format!("{}-scrub", settings.group.id);
    Ok(KafkaReader::connect(&settings.kafka, &group, ADMIN_TIMEOUT)?)
}

/// The partitions of `topic`.
pub(super) fn partitions(reader: &mut impl TopicReader, topic: &str) -> Result<i32, Failure> {
    let count = reader.topics()?.get(topic).copied();
    count.ok_or_else(|| Failure::new(Exit::Config, format!("--topic: `{topic}` does not exist")))
}

/// Ranges that hold the newest `wanted` offsets of a topic, spread evenly over its partitions.
pub(super) fn tails(
    reader: &mut impl TopicReader,
    topic: &str,
    wanted: i64,
) -> Result<Vec<(TopicPartition, i64, i64)>, Failure> {
    let all = (0..partitions(reader, topic)?).map(|partition| TopicPartition::new(topic, partition));
    let ranges = all.map(|one| reader.range(&one).map(|(low, end)| (one, low, end)));
    let ranges: Vec<_> = ranges.collect::<Result<_, BrokerError>>()?;
    let held: Vec<i64> = ranges.iter().map(|(_, low, end)| end - low).collect();
    let shares = shares(&held, wanted);
    Ok(ranges.into_iter().zip(shares).map(|((one, _, end), share)| (one, end - share, end)).collect())
}

/// Divides `wanted` as evenly as what is `held` allows.
fn shares(held: &[i64], wanted: i64) -> Vec<i64> {
    let mut order: Vec<usize> = (0..held.len()).collect();
    order.sort_by_key(|&at| held[at]);
    let (mut shares, mut left) = (vec![0; held.len()], wanted);
    for (done, at) in order.into_iter().enumerate() {
        let partitions = i64::try_from(held.len() - done).expect("partitions fit");
        shares[at] = held[at].min((left + partitions - 1) / partitions).max(0);
        left -= shares[at];
    }
    shares
}

struct Tally {
    lens: Lens,
    show_values: bool,
    out: Vec<u8>,
    records: u64,
    with_findings: u64,
    /// Records that were not redacted in the ordinary way, by reason.
    others: BTreeMap<String, u64>,
    /// By service, place, kind and class.
    found: BTreeMap<(String, String, String, SurfaceClass), u64>,
}

impl Tally {
    /// Counts one record; what it returns is to be printed.
    fn take(&mut self, record: &SourceRecord<'_>) -> String {
        let facts = self.lens.facts(record);
        let value = record.value.unwrap_or_default();
        let report = self.lens.redact(record, &facts, &mut self.out);
        match report.disposition {
            Disposition::NotText(name) => *self.others.entry(format!("not text: {name}")).or_default() += 1,
            Disposition::StrictMasked(reason) => {
                *self.others.entry(format!("masked strictly: {}", reason.name())).or_default() += 1;
            }
            _ => {}
        }
        let place = |path: String| if path.is_empty() { "(text)".to_owned() } else { path };
        let mut all: Vec<(String, Found)> =
            self.lens.found(value).into_iter().map(|one| (place(one.path.clone()), one)).collect();
        let pieces = record.headers.iter().map(|header| (Surface::Header(header.name), header.value));
        for (surface, bytes) in std::iter::once((Surface::Key, record.key)).chain(pieces) {
            let bytes = bytes.unwrap_or_default();
            let name = match surface {
                Surface::Header(name) => {
                    let scope = Scope { surface: Surface::Header(""), ..facts.scope(record) };
                    self.lens.redactor().redact_in(&scope, name.as_bytes(), &mut self.out);
                    format!("(header {})", String::from_utf8_lossy(&self.out))
                }
                _ => "(record key)".to_owned(),
            };
            let scope = Scope {
                surface,
                partial: Partial::Whole,
                ..facts.scope(record)
            };
            self.lens.redactor().redact_in(&scope, bytes, &mut self.out);
            all.extend(self.lens.found(bytes).into_iter().map(|one| (name.clone(), one)));
        }
        self.records += 1;
        self.with_findings += u64::from(!all.is_empty());
        let service = facts.service.unwrap_or_else(|| "-".to_owned());
        let mut shown = String::new();
        for (place, one) in all {
            if self.show_values {
                let (id, kind, value) = (record.id(), &one.kind, one.value.reveal());
                writeln!(shown, "{id} {service} {place} {kind} {value:?}").expect(IN_MEMORY);
            }
            *self.found.entry((service.clone(), place, one.kind, one.class)).or_default() += 1;
        }
        shown
    }

    fn report(&self, topic: &str) -> String {
        let mut text = format!(
            "{topic}: {} records read, findings in {}\n",
            self.records, self.with_findings
        );
        for (reason, count) in &self.others {
            writeln!(text, "{count:>8}  {reason}").expect(IN_MEMORY);
        }
        for ((service, place, kind, class), count) in &self.found {
            let class = class.name();
            writeln!(text, "{count:>8}  {service:20} {place:32} {kind:7} {class}").expect(IN_MEMORY);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_even_and_never_more_than_held() {
        assert_eq!(shares(&[100, 100], 10), [5, 5]);
        assert_eq!(shares(&[2, 100, 0], 10), [2, 8, 0]);
        assert_eq!(shares(&[1, 1], 10), [1, 1]);
        assert!(shares(&[], 10).is_empty());
        assert_eq!(shares(&[5, 5, 5], 4).iter().sum::<i64>(), 4);
    }
}

//! `blotter preview`: what the newest records of a live topic would lose. Reads committed records,
//! joins no group, writes nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::exit::{Exit, Failure};
use super::records::{Change, Found, Lens, differing};
use super::redact::policy_file;
use super::topics::ADMIN_TIMEOUT;
use super::{Common, print};
use crate::daemon::broker::BrokerError;
use crate::daemon::reader::{KafkaReader, TopicReader};
use crate::pipeline::record::{SourceRecord, TopicPartition};
use crate::pipeline::redact::{Disposition, Partial, Policy, Scope, Surface};
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
    /// Compare with this policy: a file with a [redact] table, or its keys at top level
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Show the values too
    #[arg(long)]
    show_values: bool,
}

pub(super) fn run(common: &Common, arguments: &PreviewArguments) -> Result<Exit, Failure> {
    let settings = Settings::new(&common.load(brokers_flag(arguments.brokers.as_deref()))?)?;
    let candidate = match &arguments.policy {
        Some(file) => Some(Arc::new(policy_file(file)?)),
        None => None,
    };
    let mut reader = connect(&settings)?;
    let mut tally = Tally::new(&settings, candidate.clone(), arguments.show_values);
    let mut failed = Ok(());
    for (topic_partition, from, to) in tails(&mut reader, &arguments.topic, arguments.last.into())?
    {
        reader.read(&topic_partition, from, to, &mut |record| {
            if failed.is_ok() {
                failed = print(&tally.take(&record));
            }
        })?;
    }
    failed?;
    let mut report = String::new();
    if let Some(candidate) = candidate {
        let in_force = &settings.policy;
        writeln!(report, "in force  {}\ncandidate {}", in_force.identity(), candidate.identity())
            .expect(IN_MEMORY);
        if Policy::is_loosening(in_force, &candidate) {
            report.push_str("the candidate may let something pass that is redacted now\n");
        }
    }
    report.push_str(&tally.report(&arguments.topic));
    print(&report)?;
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
    let all =
        (0..partitions(reader, topic)?).map(|partition| TopicPartition::new(topic, partition));
    let ranges = all.map(|one| reader.range(&one).map(|(low, end)| (one, low, end)));
    let ranges: Vec<_> = ranges.collect::<Result<_, BrokerError>>()?;
    let held: Vec<i64> = ranges.iter().map(|(_, low, end)| end - low).collect();
    let shares = shares(&held, wanted);
    Ok(ranges
        .into_iter()
        .zip(shares)
        .map(|((one, _, end), share)| (one, end - share, end))
        .collect())
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
    /// The policy in force.
    lens: Lens,
    /// The one it is compared with.
    candidate: Option<Lens>,
    show_values: bool,
    records: u64,
    /// Records with findings, or, in a comparison, that would change.
    matching: u64,
    /// Records that were not redacted in the ordinary way, by reason.
    others: BTreeMap<String, u64>,
    /// By service, place, kind and what about it: its class, or how it would change.
    found: BTreeMap<(String, String, String, &'static str), u64>,
}

/// Key, value or a header under one policy.
struct Part {
    /// Where it is, when it is not the value.
    name: Option<String>,
    found: Vec<Found>,
    redacted: Vec<u8>,
}

impl Tally {
    fn new(settings: &Settings, candidate: Option<Arc<Policy>>, show_values: bool) -> Self {
        Self {
            lens: Lens::new(settings, Arc::clone(&settings.policy), None),
            candidate: candidate.map(|policy| Lens::new(settings, policy, None)),
            show_values,
            records: 0,
            matching: 0,
            others: BTreeMap::new(),
            found: BTreeMap::new(),
        }
    }

    /// Counts one record; what it returns is to be printed.
    fn take(&mut self, record: &SourceRecord<'_>) -> String {
        let (service, disposition, parts) = parts_of(&mut self.lens, record);
        let compared = self.candidate.as_mut().map(|lens| parts_of(lens, record));
        let disposition = compared.as_ref().map_or(disposition, |(_, own, _)| *own);
        match disposition {
            Disposition::NotText(name) => {
                *self.others.entry(format!("not text: {name}")).or_default() += 1
            }
            Disposition::StrictMasked(reason) => {
                *self.others.entry(format!("masked strictly: {}", reason.name())).or_default() += 1;
            }
            _ => {}
        }
        let mut all: Vec<(&'static str, &Part, &Found)> = Vec::new();
        match &compared {
            None => {
                for part in &parts {
                    all.extend(part.found.iter().map(|one| (one.class.name(), part, one)));
                }
            }
            Some((_, _, others)) => {
                for (own, other) in parts.iter().zip(others) {
                    if own.redacted != other.redacted {
                        let changes = differing(&own.found, &other.found);
                        all.extend(changes.into_iter().map(|(how, one)| (name_of(how), own, one)));
                    }
                }
            }
        }
        self.records += 1;
        self.matching += u64::from(!all.is_empty());
        let mut shown = String::new();
        for (what, part, one) in all {
            let place = match &part.name {
                Some(name) => name.clone(),
                None if one.path.is_empty() => "(text)".to_owned(),
                None => one.path.clone(),
            };
            if self.show_values {
                let (id, kind, value) = (record.id(), &one.kind, one.value.reveal());
                writeln!(shown, "{id} {service} {place} {kind} {what} {value:?}").expect(IN_MEMORY);
            }
            *self.found.entry((service.clone(), place, one.kind.clone(), what)).or_default() += 1;
        }
        shown
    }

    fn report(&self, topic: &str) -> String {
        let matching = if self.candidate.is_some() { "would change" } else { "have findings" };
        let mut text =
            format!("{topic}: {} records read, {} {}\n", self.records, self.matching, matching);
        for (reason, count) in &self.others {
            writeln!(text, "{count:>8}  {reason}").expect(IN_MEMORY);
        }
        for ((service, place, kind, what), count) in &self.found {
            writeln!(text, "{count:>8}  {service:20} {place:32} {kind:7} {what}").expect(IN_MEMORY);
        }
        text
    }
}

/// What one policy finds and leaves of a record: service, how the value was redacted, and its parts.
fn parts_of(lens: &mut Lens, record: &SourceRecord<'_>) -> (String, Disposition, Vec<Part>) {
    let facts = lens.facts(record);
    let mut redacted = Vec::new();
    let disposition = lens.redact(record, &facts, &mut redacted).disposition;
    let found = lens.found(record.value.unwrap_or_default());
    let mut parts = vec![Part { name: None, found, redacted }];
    let headers = record.headers.iter().map(|header| (Surface::Header(header.name), header.value));
    for (surface, bytes) in std::iter::once((Surface::Key, record.key)).chain(headers) {
        let bytes = bytes.unwrap_or_default();
        let mut redacted = Vec::new();
        let name = match surface {
            Surface::Header(name) => {
                let scope = Scope { surface: Surface::Header(""), ..facts.scope(record) };
                lens.redactor().redact_in(&scope, name.as_bytes(), &mut redacted);
                format!("(header {})", String::from_utf8_lossy(&redacted))
            }
            _ => "(record key)".to_owned(),
        };
        let scope = Scope { surface, partial: Partial::Whole, ..facts.scope(record) };
        lens.redactor().redact_in(&scope, bytes, &mut redacted);
        parts.push(Part { name: Some(name), found: lens.found(bytes), redacted });
    }
    (facts.service.unwrap_or_else(|| "-".to_owned()), disposition, parts)
}

const fn name_of(change: Change) -> &'static str {
    match change {
        Change::OnlyA => "no longer redacted",
        Change::OnlyB => "newly redacted",
        Change::Replacement => "replaced otherwise",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::record::{Header, Timestamp};
    use crate::settings::load::{Sources, load};

    #[test]
    fn a_candidate_is_compared_by_service_and_place() {
        let settings = Settings::new(&load(&Sources::default()).unwrap()).unwrap();
        let candidate: Policy = Policy::new(
            &serde_json::from_str(
                r#"{"regions":["IN"],"allow":{"emails":["desk@salon.example"]},"actions":{"phone":"mask"}}"#,
            )
            .unwrap(),
        )
        .unwrap();
        let mut tally = Tally::new(&settings, Some(Arc::new(candidate)), true);
        let topic_partition = TopicPartition::new("app.logs", 0);
        let header = [Header { name: "from", value: Some(b"desk@salon.example") }];
        let mut shown = String::new();
        for value in [
            r#"{"service":"api","text":"ring 98765 43210 please"}"#,
            r#"{"service":"api","to":"desk@salon.example","cc":"asha@example.com"}"#,
            r#"{"service":"api","phone":"+91 98765 43210"}"#,
            r#"{"service":"api","text":"nothing"}"#,
        ] {
            let headers = if value.contains("phone") { &header[..] } else { &[] };
            shown += &tally.take(&SourceRecord {
                topic_partition: &topic_partition,
                offset: 0,
                timestamp: Timestamp::EPOCH,
                key: None,
                value: Some(value.as_bytes()),
                headers,
            });
        }
        let report = tally.report("app.logs");
        assert!(report.starts_with("app.logs: 4 records read, 3 would change\n"), "{report}");
        for line in [
            "1  api (header from) email no longer redacted",
            "1  api phone phone replaced otherwise",
            "1  api text phone newly redacted",
            "1  api to email no longer redacted",
        ] {
            let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            let found = report.lines().any(|one| squeezed(one) == squeezed(line));
            assert!(found, "{line}: {report}");
        }
        assert_eq!(report.lines().count(), 5, "{report}");
        assert!(shown.contains("98765 43210") && !shown.contains("asha"), "{shown}");
    }

    #[test]
    fn shares_are_even_and_never_more_than_held() {
        assert_eq!(shares(&[100, 100], 10), [5, 5]);
        assert_eq!(shares(&[2, 100, 0], 10), [2, 8, 0]);
        assert_eq!(shares(&[1, 1], 10), [1, 1]);
        assert!(shares(&[], 10).is_empty());
        assert_eq!(shares(&[5, 5, 5], 4).iter().sum::<i64>(), 4);
    }
}

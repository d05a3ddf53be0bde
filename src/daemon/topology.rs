//! Which topics there are and which there should be: from settings and the cluster's metadata to
//! plans for [`TopicAdmin`], and what the stages must know at start.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::broker::BrokerError;
use super::reader::KafkaReader;
use super::service::{StartFacts, scrub_subscription};
use super::topics::{TopicAdmin, TopicDefaults, TopicFacts, TopicPlan};
use crate::pipeline::audit::OffsetMetadata;
use crate::pipeline::emit::TopicRole;
use crate::pipeline::limits::{PRODUCED_RECORD_BYTES_MAX, SOURCE_RECORD_BYTES_DEFAULT};
use crate::settings::Settings;

/// Source topics with their partitions, and the plan of every output topic.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Source topics that exist, with their partitions.
    pub sources: BTreeMap<String, i32>,
    /// Names from the settings that do not exist.
    pub missing_sources: Vec<String>,
    /// Output topics.
    pub plans: Vec<TopicPlan>,
}

impl Topology {
    /// Asks the cluster for its topics and plans ours.
    ///
    /// # Errors
    /// Brokers unreachable or not authorized.
    pub fn discover(admin: &TopicAdmin, settings: &Settings) -> Result<Self, BrokerError> {
        let listed = admin.list()?;
        let sources = sources(&listed, settings);
        let names: Vec<&str> = sources.keys().map(String::as_str).collect();
        let facts = admin.facts(&names)?;
        let missing_sources = settings
            .input
            .topics
            .iter()
            .filter(|topic| !listed.contains_key(&***topic))
            .map(ToString::to_string)
            .collect();
        let measures = listed.get(&*settings.names.measures).copied();
        let plans = plans(&sources, &facts, measures, settings);
        Ok(Self { sources, missing_sources, plans })
    }

    /// What the stages must know before they start.
    ///
    /// # Errors
    /// Brokers unreachable or not authorized.
    pub fn start_facts(
        &self,
        admin: &TopicAdmin,
        reader: &KafkaReader,
        settings: &Settings,
    ) -> Result<StartFacts, BrokerError> {
        let mut first_read = BTreeMap::new();
        for (topic, &partitions) in &self.sources {
            let committed = reader.committed(topic, 0..partitions)?;
            let metadata = committed.values().map(|(_, metadata)| metadata);
            let first = partitions_first_read(partitions, metadata);
            first_read.insert(Arc::from(topic.as_str()), first);
        }
        let names: Vec<&str> = self.plans.iter().map(|plan| plan.name.as_str()).collect();
        let facts = admin.facts(&names)?;
        let redacted = self.plans.iter().filter(|plan| plan.role == TopicRole::Redacted);
        let record_bytes_max = redacted
            .filter_map(|plan| facts.get(&plan.name).and_then(record_bytes_max))
            .min()
            .unwrap_or(PRODUCED_RECORD_BYTES_MAX)
            .min(PRODUCED_RECORD_BYTES_MAX);
        let measures = facts.get(&*settings.names.measures);
        let planned = i32::from(settings.topics.measures_partitions);
        let measures_partitions = measures.map_or(planned, |facts| facts.partitions);
        Ok(StartFacts { first_read, measures_partitions, record_bytes_max })
    }
}

/// Partitions of a topic when its group first read it, by what is `committed` for any of them; of a
/// topic that was never read, as many as there are `now`.
fn partitions_first_read<'a>(now: i32, committed: impl IntoIterator<Item = &'a String>) -> i32 {
    let recorded = committed.into_iter().filter_map(|text| OffsetMetadata::parse(text).ok());
    recorded.map(|metadata| metadata.partitions).max().unwrap_or(now)
}

fn sources(listed: &BTreeMap<String, i32>, settings: &Settings) -> BTreeMap<String, i32> {
    let wanted = scrub_subscription(settings);
    listed.iter().filter(|(topic, _)| wanted.matches(topic)).map(|(t, &p)| (t.clone(), p)).collect()
}

/// `measures_there` are the partitions of the measures topic, when there is one.
fn plans(
    sources: &BTreeMap<String, i32>,
    facts: &BTreeMap<String, TopicFacts>,
    measures_there: Option<i32>,
    settings: &Settings,
) -> Vec<TopicPlan> {
    let defaults = TopicDefaults {
        replication: settings.topics.replication,
        min_insync_replicas: settings.topics.min_insync_replicas,
    };
    let source_bytes = |topic: &str| {
        facts.get(topic).and_then(record_bytes_max).unwrap_or(SOURCE_RECORD_BYTES_DEFAULT) as u64
    };
    let largest = sources.keys().map(|topic| source_bytes(topic)).max().unwrap_or_default();
    let plan = |role, name: &str, partitions, bytes| {
        TopicPlan::new(role, name, partitions, defaults, bytes)
    };
    let (names, measures, alerts) = (
        &settings.names,
        i32::from(settings.topics.measures_partitions),
        i32::from(settings.topics.alerts_partitions),
    );
    let mut plans = Vec::new();
    for (topic, &partitions) in sources {
        let bytes = source_bytes(topic);
        plans.push(plan(TopicRole::Redacted, &names.redacted.topic(topic), partitions, bytes));
        if settings.audit.is_some() {
            plans.push(plan(TopicRole::Audit, &names.audit.topic(topic), partitions, bytes));
        }
    }
    plans.push(plan(TopicRole::DeadLetters, &names.dead_letters, alerts, largest));
    if settings.measure.is_some() {
        plans.push(plan(TopicRole::Measures, &names.measures, measures, largest));
        let state = measures_there.unwrap_or(measures);
        plans.push(plan(TopicRole::WatchState, &names.watch_state, state, largest));
    }
    if settings.alert.is_some() {
        plans.push(plan(TopicRole::Alerts, &names.alerts, alerts, largest));
    }
    plans
}

fn record_bytes_max(facts: &TopicFacts) -> Option<usize> {
    facts.config.get("max.message.bytes")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::audit::{AuditState, KeyId, KeyringId};

    #[test]
    fn a_topic_counts_the_partitions_that_it_had_when_it_was_first_read() {
        let metadata = OffsetMetadata {
            transactions: 1,
            partitions: 3,
            keyring: KeyringId::from_bytes([1; 8]),
            commitment_key: KeyId::from_bytes([2; 4]),
            audit: AuditState::Off(None),
        };
        assert_eq!(partitions_first_read(12, &[]), 12);
        let set_by_a_tool = String::new();
        assert_eq!(partitions_first_read(12, std::slice::from_ref(&set_by_a_tool)), 12);
        assert_eq!(partitions_first_read(12, &[set_by_a_tool, metadata.encode()]), 3);
    }
}

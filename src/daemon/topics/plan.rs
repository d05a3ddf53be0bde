//! How a topic should be, by its role, and how a topic that is there differs from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::pipeline::emit::TopicRole;
use crate::pipeline::limits::OUTPUT_RECORD_HEADROOM_BYTES;

/// Further ahead than any clock: a record is never refused for its timestamp.
const TIMESTAMP_AHEAD_MS_MAX: i64 = i64::MAX;

/// Least `message.timestamp.after.max.ms` that `check` takes: ten years.
const TIMESTAMP_AHEAD_MS_MIN: i64 = 10 * 365 * 86_400_000;

/// What the plans of all topics share.
#[derive(Clone, Copy, Debug, Default)]
pub struct TopicDefaults {
    /// Replicas of each partition; `None` is the brokers' default.
    pub replication: Option<u16>,
    /// `min.insync.replicas`; `None` is the brokers' default.
    pub min_insync_replicas: Option<u16>,
}

/// How a topic should be.
#[derive(Clone, Debug)]
pub struct TopicPlan {
    /// Topic name.
    pub name: String,
    /// What it is for.
    pub role: TopicRole,
    /// Partitions: for redacted and audit topics those of the source, for WATCH's state those of
    /// the measures, else what the settings say.
    pub partitions: i32,
    /// Replicas of each partition; `None` is the brokers' default.
    pub replication: Option<u16>,
    /// Configuration with the bound that `check` holds it to.
    config: Vec<(&'static str, Demand)>,
}

/// What a configuration entry must be.
#[derive(Clone, Debug)]
enum Demand {
    Is(&'static str),
    /// The same words in any order, separated by commas.
    Words(&'static str),
    AtLeast {
        created: i64,
        least: i64,
    },
}

/// How a topic is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicFacts {
    /// Number of partitions, those without a leader included.
    pub partitions: i32,
    /// Partitions that have a leader now.
    pub led: i32,
    /// Replicas of the partition that has fewest.
    pub replication: usize,
    /// Configuration, defaults included.
    pub config: BTreeMap<String, String>,
}

/// A topic that is not as planned, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDifference {
    /// Topic name.
    pub topic: String,
    /// What differs: `missing`, `partitions`, `replication`, or a configuration name.
    pub what: String,
    /// What was found (empty when missing).
    pub found: String,
    /// What is needed.
    pub wanted: String,
    /// The command or setting that mends it.
    pub mend: String,
    /// Whether the daemon does not start before it is mended.
    pub prevents_start: bool,
}

impl fmt::Display for TopicDifference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, what, found, wanted, mend, .. } = self;
        if found.is_empty() {
            write!(formatter, "topic {topic}: {what} (needs {wanted}); mend: {mend}")
        } else {
            write!(formatter, "topic {topic}: {what} is {found}, needs {wanted}; mend: {mend}")
        }
    }
}

impl TopicPlan {
    /// The plan of a topic by its role. `source_record_bytes_max` is the largest
    /// `max.message.bytes` among the source topics it takes records from.
    #[must_use]
    pub fn new(
        role: TopicRole,
        name: impl Into<String>,
        partitions: i32,
        defaults: TopicDefaults,
        source_record_bytes_max: u64,
    ) -> Self {
        let mut config = vec![("cleanup.policy", Demand::Words(cleanup_policy(role)))];
        match role {
            TopicRole::Measures => {
                config.push(("message.timestamp.type", Demand::Is("LogAppendTime")));
            }
            _ => {
                config.push(("message.timestamp.type", Demand::Is("CreateTime")));
                let ahead = Demand::AtLeast {
                    created: TIMESTAMP_AHEAD_MS_MAX,
                    least: TIMESTAMP_AHEAD_MS_MIN,
                };
                config.push(("message.timestamp.after.max.ms", ahead.clone()));
                config.push(("message.timestamp.before.max.ms", ahead));
            }
        }
        if role == TopicRole::Audit {
            config.push(("retention.ms", Demand::Is("-1")));
            config.push(("retention.bytes", Demand::Is("-1")));
        }
        if matches!(role, TopicRole::Redacted | TopicRole::DeadLetters) {
            let bytes = source_record_bytes_max.saturating_add(OUTPUT_RECORD_HEADROOM_BYTES);
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX).min(i64::from(i32::MAX));
            config.push(("max.message.bytes", Demand::AtLeast { created: bytes, least: bytes }));
        }
        if let Some(replicas) = defaults.min_insync_replicas {
            let replicas = i64::from(replicas);
            let demand = Demand::AtLeast { created: replicas, least: replicas };
            config.push(("min.insync.replicas", demand));
        }
        let name = name.into();
        Self { name, role, partitions, replication: defaults.replication, config }
    }

    /// The entries a new topic gets.
    #[must_use]
    pub fn configuration(&self) -> BTreeMap<&'static str, String> {
        self.config.iter().map(|(name, demand)| (*name, demand.created())).collect()
    }

    /// What differs from `facts`; `brokers` goes into the commands.
    #[must_use]
    pub fn compare(&self, facts: Option<&TopicFacts>, brokers: &str) -> Vec<TopicDifference> {
        let Some(facts) = facts else {
            let wanted = format!("{} partitions", self.partitions);
            let missing = self.difference("missing", "", &wanted, "blotter topics create");
            return vec![TopicDifference { prevents_start: true, ..missing }];
        };
        let mut found = Vec::new();
        found.extend(self.compare_partitions(facts, brokers));
        if let Some(wanted) = self.replication
            && facts.replication < usize::from(wanted)
        {
            let mend = format!(
                "kafka-reassign-partitions.sh --bootstrap-server {brokers} (topic {})",
                self.name
            );
            let (is, wanted) = (facts.replication.to_string(), wanted.to_string());
            found.push(self.difference("replication", &is, &wanted, &mend));
        }
        for (name, demand) in &self.config {
            // An entry the brokers do not know (older than the name) can't be demanded.
            let Some(value) = facts.config.get(*name) else { continue };
            if !demand.is_met(value) {
                let created = demand.created();
                let mend = format!(
                    "kafka-configs.sh --bootstrap-server {brokers} --alter --entity-type topics \
                     --entity-name {} --add-config {name}={}",
                    self.name,
                    demand.argument()
                );
                found.push(self.difference(name, value, &created, &mend));
            }
        }
        found
    }

    fn compare_partitions(&self, facts: &TopicFacts, brokers: &str) -> Option<TopicDifference> {
        let (is, wanted) = (facts.partitions, self.partitions);
        let mend = match self.role {
            // Any number does: nothing is co-partitioned with them.
            TopicRole::Alerts | TopicRole::DeadLetters => return None,
            _ if is == wanted => return None,
            _ if self.follows_another() && is < wanted => "blotter topics grow".to_owned(),
            TopicRole::Redacted | TopicRole::Audit => format!(
                "kafka-topics.sh --bootstrap-server {brokers} --alter --topic <source> \
                 --partitions {is} (a topic can't shrink: the source must have as many)"
            ),
            // Keys would move: the number is frozen when the topic is made.
            TopicRole::Measures => format!("set topics.measures_partitions = {is}"),
            // One of the two was made anew: the state may be that of other series.
            TopicRole::WatchState => format!(
                "kafka-topics.sh --bootstrap-server {brokers} --delete --topic {}, then blotter \
                 topics create and blotter alerts reset",
                self.name
            ),
        };
        let found = self.difference("partitions", &is.to_string(), &wanted.to_string(), &mend);
        Some(TopicDifference { prevents_start: self.role == TopicRole::WatchState, ..found })
    }

    /// Whether each of its partitions belongs to the one of the same number in another topic, so
    /// that more may be added.
    pub(super) fn follows_another(&self) -> bool {
        matches!(self.role, TopicRole::Redacted | TopicRole::Audit | TopicRole::WatchState)
    }

    fn difference(&self, what: &str, found: &str, wanted: &str, mend: &str) -> TopicDifference {
        TopicDifference {
            topic: self.name.clone(),
            what: what.to_owned(),
            found: found.to_owned(),
            wanted: wanted.to_owned(),
            mend: mend.to_owned(),
            prevents_start: false,
        }
    }
}

impl Demand {
    fn created(&self) -> String {
        match self {
            Self::Is(value) | Self::Words(value) => (*value).to_owned(),
            Self::AtLeast { created, .. } => created.to_string(),
        }
    }

    /// The value as `kafka-configs.sh` takes it: a list stands in brackets.
    fn argument(&self) -> String {
        let value = self.created();
        if value.contains(',') { format!("[{value}]") } else { value }
    }

    fn is_met(&self, value: &str) -> bool {
        let words = |text: &str| -> BTreeSet<String> {
            text.split(',').map(|word| word.trim().to_owned()).collect()
        };
        match self {
            Self::Is(wanted) => value == *wanted,
            Self::Words(wanted) => words(value) == words(wanted),
            Self::AtLeast { least, .. } => value.parse::<i64>().is_ok_and(|value| value >= *least),
        }
    }
}

fn cleanup_policy(role: TopicRole) -> &'static str {
    match role {
        TopicRole::Redacted | TopicRole::Audit | TopicRole::Measures | TopicRole::DeadLetters => {
            "delete"
        }
        TopicRole::Alerts => "compact,delete",
        TopicRole::WatchState => "compact",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(plan: &TopicPlan) -> TopicFacts {
        let config = plan.configuration();
        TopicFacts {
            partitions: plan.partitions,
            led: plan.partitions,
            replication: plan.replication.map_or(1, usize::from),
            config: config.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }

    fn plan(role: TopicRole) -> TopicPlan {
        let defaults = TopicDefaults { replication: Some(3), min_insync_replicas: Some(2) };
        TopicPlan::new(role, "t", 4, defaults, 1_048_588)
    }

    #[test]
    fn a_topic_made_by_its_plan_does_not_differ_from_it() {
        for role in [
            TopicRole::Redacted,
            TopicRole::Audit,
            TopicRole::Measures,
            TopicRole::DeadLetters,
            TopicRole::Alerts,
            TopicRole::WatchState,
        ] {
            let plan = plan(role);
            assert_eq!(plan.compare(Some(&facts(&plan)), "b:9092"), []);
            assert_eq!(plan.compare(None, "b:9092")[0].mend, "blotter topics create");
        }
    }

    #[test]
    fn each_difference_is_named_with_what_mends_it() {
        let plan = plan(TopicRole::Redacted);
        let differs = |change: fn(&mut TopicFacts)| {
            let mut facts = facts(&plan);
            change(&mut facts);
            let found = plan.compare(Some(&facts), "b:9092");
            assert_eq!(found.len(), 1, "{found:?}");
            (found[0].what.clone(), found[0].mend.clone())
        };
        let (what, mend) = differs(|facts| facts.partitions = 3);
        assert_eq!((what.as_str(), mend.as_str()), ("partitions", "blotter topics grow"));
        let (what, mend) = differs(|facts| facts.partitions = 5);
        assert!(what == "partitions" && mend.contains("--partitions 5"), "{mend}");
        let (what, _) = differs(|facts| facts.replication = 1);
        assert_eq!(what, "replication");
        let (what, mend) = differs(|facts| {
            facts.config.insert("message.timestamp.after.max.ms".into(), "3600000".into());
        });
        assert_eq!(what, "message.timestamp.after.max.ms");
        assert!(mend.contains("--add-config message.timestamp.after.max.ms=9223372036854775807"));
        let (what, _) = differs(|facts| {
            facts.config.insert("max.message.bytes".into(), "1048588".into());
        });
        assert_eq!(what, "max.message.bytes");
    }

    #[test]
    fn an_audit_topic_never_forgets_and_the_number_of_measures_partitions_is_frozen() {
        let audit = plan(TopicRole::Audit);
        let mut found = facts(&audit);
        found.config.insert("cleanup.policy".into(), "compact".into());
        found.config.insert("retention.ms".into(), "604800000".into());
        let whats: Vec<_> = audit.compare(Some(&found), "b").into_iter().map(|d| d.what).collect();
        assert_eq!(whats, ["cleanup.policy", "retention.ms"]);
        let measures = plan(TopicRole::Measures);
        let mut found = facts(&measures);
        found.partitions = 12;
        let mend = &measures.compare(Some(&found), "b")[0].mend;
        assert_eq!(mend, "set topics.measures_partitions = 12");
        let state = plan(TopicRole::WatchState);
        for (partitions, mend) in [(3, "blotter topics grow"), (12, "--delete --topic t,")] {
            let found = TopicFacts { partitions, ..facts(&state) };
            let found = &state.compare(Some(&found), "b")[0];
            assert!(found.prevents_start && found.mend.contains(mend), "{found}");
        }
        let alerts = plan(TopicRole::Alerts);
        let mut found = facts(&alerts);
        found.partitions = 12;
        found.config.insert("cleanup.policy".into(), "delete, compact".into());
        assert_eq!(alerts.compare(Some(&found), "b"), []);
    }
}

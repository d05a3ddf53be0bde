//! Makes, checks and grows the topics that the outputs go to.
//!
//! What a topic needs follows from its role: a redacted record keeps its source's timestamp
//! (`CreateTime`, however far ahead), audit entries are never removed by compaction or age, WATCH
//! reads time from the measures' append times, its state is compacted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::broker::kafka::{KafkaConfig, PlainContext, classify};
use super::broker::{BrokerError, BrokerErrorKind};
use super::clock::{Clock, SystemClock};
use crate::pipeline::emit::TopicRole;
use crate::pipeline::limits::OUTPUT_RECORD_HEADROOM_BYTES;

/// How often the metadata is asked while new topics become known.
const KNOWN_POLL: Duration = Duration::from_millis(50);

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
    /// Partitions: for redacted and audit topics those of the source, else what the settings say.
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
    /// Number of partitions.
    pub partitions: i32,
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
}

impl fmt::Display for TopicDifference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, what, found, wanted, mend } = self;
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
            return vec![self.difference("missing", "", &wanted, "blotter topics create")];
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
            TopicRole::Redacted | TopicRole::Audit if is < wanted => {
                "blotter topics grow".to_owned()
            }
            TopicRole::Redacted | TopicRole::Audit => format!(
                "kafka-topics.sh --bootstrap-server {brokers} --alter --topic <source> \
                 --partitions {is} (a topic can't shrink: the source must have as many)"
            ),
            // Keys would move: the number is frozen when the topic is made.
            TopicRole::Measures | TopicRole::WatchState => {
                format!("set topics.measures_partitions = {is}")
            }
        };
        Some(self.difference("partitions", &is.to_string(), &wanted.to_string(), &mend))
    }

    fn difference(&self, what: &str, found: &str, wanted: &str, mend: &str) -> TopicDifference {
        TopicDifference {
            topic: self.name.clone(),
            what: what.to_owned(),
            found: found.to_owned(),
            wanted: wanted.to_owned(),
            mend: mend.to_owned(),
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

/// Asks and tells the cluster about topics.
pub struct TopicAdmin {
    client: AdminClient<PlainContext>,
    brokers: String,
    timeout: Duration,
}

impl TopicAdmin {
    /// A client for the cluster of `config`; every call takes at most about `timeout`.
    ///
    /// # Errors
    /// Settings that librdkafka refuses.
    pub fn connect(config: &KafkaConfig, timeout: Duration) -> Result<Self, BrokerError> {
        let client = config
            .client(&[])
            .create_with_context(PlainContext)
            .map_err(|error| classify("create admin client", &error))?;
        Ok(Self { client, brokers: config.brokers.clone(), timeout })
    }

    /// The topics of the cluster (internal ones left out) with their partition counts.
    ///
    /// # Errors
    /// Brokers unreachable or not authorized.
    pub fn list(&self) -> Result<BTreeMap<String, i32>, BrokerError> {
        let all = self.metadata()?.into_iter().map(|(name, facts)| (name, facts.partitions));
        Ok(all.filter(|(name, _)| !name.starts_with("__")).collect())
    }

    /// The facts of those of `names` that exist.
    ///
    /// # Errors
    /// Brokers unreachable or not authorized.
    pub fn facts(&self, names: &[&str]) -> Result<BTreeMap<String, TopicFacts>, BrokerError> {
        const OPERATION: &str = "describe topics";
        let mut known = self.metadata()?;
        known.retain(|name, _| names.contains(&name.as_str()));
        let wanted: Vec<_> = known.keys().cloned().collect();
        if wanted.is_empty() {
            return Ok(known);
        }
        let resources: Vec<_> = wanted.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        let described =
            self.run(OPERATION, self.client.describe_configs(&resources, &self.options()))?;
        for (name, resource) in wanted.iter().zip(described) {
            let resource = resource.map_err(|code| refused(OPERATION, name, code))?;
            let facts = known.get_mut(name).expect("the name comes from there");
            facts.config = resource
                .entries
                .into_iter()
                .filter_map(|entry| Some((entry.name, entry.value?)))
                .collect();
        }
        Ok(known)
    }

    /// Makes those of `plans` that do not exist, and waits until every broker asked knows them;
    /// returns their names.
    ///
    /// # Errors
    /// The brokers refuse one (named in the detail); those before it stay.
    pub fn create(&self, plans: &[TopicPlan]) -> Result<Vec<String>, BrokerError> {
        const OPERATION: &str = "create topics";
        let known = self.metadata()?;
        let missing: Vec<_> = plans.iter().filter(|plan| !known.contains_key(&plan.name)).collect();
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let configs: Vec<_> = missing.iter().map(|plan| plan.configuration()).collect();
        let wanted: Vec<_> = missing
            .iter()
            .zip(&configs)
            .map(|(plan, config)| {
                let replication = plan.replication.map_or(-1, i32::from);
                let replication = TopicReplication::Fixed(replication);
                let topic = NewTopic::new(&plan.name, plan.partitions, replication);
                config.iter().fold(topic, |topic, (name, value)| topic.set(name, value))
            })
            .collect();
        let made = self.run(OPERATION, self.client.create_topics(&wanted, &self.options()))?;
        for made in made {
            match made {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => return Err(refused(OPERATION, &name, code)),
            }
        }
        let partitions = missing.iter().map(|plan| (plan.name.clone(), plan.partitions)).collect();
        self.wait_known(OPERATION, &partitions)?;
        Ok(partitions.into_keys().collect())
    }

    /// What differs from `plans`, by topic.
    ///
    /// # Errors
    /// Brokers unreachable or not authorized.
    pub fn check(&self, plans: &[TopicPlan]) -> Result<Vec<TopicDifference>, BrokerError> {
        let names: Vec<_> = plans.iter().map(|plan| plan.name.as_str()).collect();
        let facts = self.facts(&names)?;
        Ok(plans.iter().flat_map(|p| p.compare(facts.get(&p.name), &self.brokers)).collect())
    }

    /// Adds partitions to the redacted and audit topics of `plans` that have too few; returns what
    /// grew, with the new count.
    ///
    /// # Errors
    /// The brokers refuse one (named in the detail); those before it stay.
    pub fn grow(&self, plans: &[TopicPlan]) -> Result<Vec<(String, i32)>, BrokerError> {
        const OPERATION: &str = "grow topics";
        let known = self.metadata()?;
        let short: BTreeMap<String, i32> = plans
            .iter()
            .filter(|plan| matches!(plan.role, TopicRole::Redacted | TopicRole::Audit))
            .filter(|plan| known.get(&plan.name).is_some_and(|is| is.partitions < plan.partitions))
            .map(|plan| (plan.name.clone(), plan.partitions))
            .collect();
        if short.is_empty() {
            return Ok(Vec::new());
        }
        let wanted: Vec<_> = short
            .iter()
            .map(|(name, count)| NewPartitions::new(name, usize::try_from(*count).unwrap_or(0)))
            .collect();
        let grown = self.run(OPERATION, self.client.create_partitions(&wanted, &self.options()))?;
        for grown in grown {
            grown.map_err(|(name, code)| refused(OPERATION, &name, code))?;
        }
        self.wait_known(OPERATION, &short)?;
        Ok(short.into_iter().collect())
    }

    fn metadata(&self) -> Result<BTreeMap<String, TopicFacts>, BrokerError> {
        let metadata = self
            .client
            .inner()
            .fetch_metadata(None, self.timeout)
            .map_err(|error| classify("fetch metadata", &error))?;
        let facts = metadata.topics().iter().map(|topic| {
            let led = topic.partitions().iter().filter(|partition| partition.leader() >= 0).count();
            let replicas = topic.partitions().iter().map(|partition| partition.replicas().len());
            let facts = TopicFacts {
                partitions: i32::try_from(led).unwrap_or(i32::MAX),
                replication: replicas.min().unwrap_or(0),
                config: BTreeMap::new(),
            };
            (topic.name().to_owned(), facts)
        });
        Ok(facts.collect())
    }

    /// Brokers learn of a new topic one after the other.
    fn wait_known(
        &self,
        operation: &'static str,
        wanted: &BTreeMap<String, i32>,
    ) -> Result<(), BrokerError> {
        let clock = SystemClock::new();
        loop {
            let known = self.metadata()?;
            let missing = wanted.iter().find(|(name, count)| {
                known.get(*name).is_none_or(|facts| facts.partitions < **count)
            });
            let Some((name, _)) = missing else { return Ok(()) };
            if clock.monotonic() >= self.timeout {
                let detail = format!("{name} did not become known in time");
                return Err(BrokerError::new(BrokerErrorKind::TimedOut, operation, detail));
            }
            thread::park_timeout(KNOWN_POLL);
        }
    }

    fn options(&self) -> AdminOptions {
        AdminOptions::new()
            .request_timeout(Some(self.timeout))
            .operation_timeout(Some(self.timeout))
    }

    fn run<T>(
        &self,
        operation: &'static str,
        future: impl Future<Output = Result<T, KafkaError>>,
    ) -> Result<T, BrokerError> {
        block_on(future).map_err(|error| classify(operation, &error))
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

fn refused(operation: &'static str, topic: &str, code: RDKafkaErrorCode) -> BrokerError {
    let kind = match code {
        RDKafkaErrorCode::TopicAuthorizationFailed
        | RDKafkaErrorCode::ClusterAuthorizationFailed
        | RDKafkaErrorCode::InvalidReplicationFactor
        | RDKafkaErrorCode::InvalidConfig
        | RDKafkaErrorCode::PolicyViolation => BrokerErrorKind::NotAuthorized,
        RDKafkaErrorCode::OperationTimedOut | RDKafkaErrorCode::RequestTimedOut => {
            BrokerErrorKind::TimedOut
        }
        RDKafkaErrorCode::UnknownTopicOrPartition => BrokerErrorKind::UnknownPartition,
        _ => BrokerErrorKind::Retriable,
    };
    BrokerError::new(kind, operation, format!("{topic}: {code}"))
}

/// Waits for a future of the admin client, whose own thread wakes it: no runtime is needed.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(plan: &TopicPlan) -> TopicFacts {
        let config = plan.configuration();
        TopicFacts {
            partitions: plan.partitions,
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
        let alerts = plan(TopicRole::Alerts);
        let mut found = facts(&alerts);
        found.partitions = 12;
        found.config.insert("cleanup.policy".into(), "delete, compact".into());
        assert_eq!(alerts.compare(Some(&found), "b"), []);
    }
}

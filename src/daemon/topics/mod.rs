//! Makes, checks and grows the topics that the outputs go to.
//!
//! What a topic needs follows from its role: a redacted record keeps its source's timestamp
//! (`CreateTime`, however far ahead), audit entries are never removed by compaction or age, WATCH
//! reads time from the measures' append times, its state is compacted.

mod plan;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::broker::kafka::{Asker, KafkaConfig, PlainContext, classify};
use super::broker::{BrokerError, BrokerErrorKind};
use super::clock::{Clock, SystemClock};

pub use self::plan::{TopicDefaults, TopicDifference, TopicFacts, TopicPlan};

/// How often the metadata is asked while new topics become known.
const KNOWN_POLL: Duration = Duration::from_millis(50);

/// Asks and tells the cluster about topics.
pub struct TopicAdmin {
    asker: Asker,
    config: KafkaConfig,
    timeout: Duration,
}

impl TopicAdmin {
    /// A client for the cluster of `config`; every call takes at most about `timeout`.
    ///
    /// # Errors
    /// Settings that librdkafka refuses.
    pub fn connect(config: &KafkaConfig, timeout: Duration) -> Result<Self, BrokerError> {
        let asker = Asker::connect(&config.client(&[]))
            .map_err(|error| classify("create admin client", &error))?;
        Ok(Self { asker, config: config.clone(), timeout })
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
            self.run(OPERATION, self.client()?.describe_configs(&resources, &self.options()))?;
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
        let made = self.run(OPERATION, self.client()?.create_topics(&wanted, &self.options()))?;
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
        Ok(plans.iter().flat_map(|p| p.compare(facts.get(&p.name), &self.config.brokers)).collect())
    }

    /// Adds partitions to those of `plans` that follow another topic and have too few; returns
    /// what grew, with the new count.
    ///
    /// # Errors
    /// The brokers refuse one (named in the detail); those before it stay.
    pub fn grow(&self, plans: &[TopicPlan]) -> Result<Vec<(String, i32)>, BrokerError> {
        const OPERATION: &str = "grow topics";
        let known = self.metadata()?;
        let short: BTreeMap<String, i32> = plans
            .iter()
            .filter(|plan| plan.follows_another())
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
        let grown =
            self.run(OPERATION, self.client()?.create_partitions(&wanted, &self.options()))?;
        for grown in grown {
            match grown {
                // The count that another instance has given it meanwhile is no reason to fail.
                Ok(_) | Err((_, RDKafkaErrorCode::InvalidPartitions)) => {}
                Err((name, code)) => return Err(refused(OPERATION, &name, code)),
            }
        }
        self.wait_known(OPERATION, &short)?;
        Ok(short.into_iter().collect())
    }

    /// A client for one request: nobody hears what it has to tell.
    fn client(&self) -> Result<AdminClient<PlainContext>, BrokerError> {
        let config = self.config.client(&[]);
        config
            .create_with_context(PlainContext)
            .map_err(|error| classify("create admin client", &error))
    }

    fn metadata(&self) -> Result<BTreeMap<String, TopicFacts>, BrokerError> {
        let metadata = self
            .asker
            .consumer()
            .fetch_metadata(None, self.timeout)
            .map_err(|error| self.asker.explain("fetch metadata", &error))?;
        self.asker.hear();
        // One without any is being made or removed.
        let topics = metadata.topics().iter().filter(|topic| !topic.partitions().is_empty());
        let facts = topics.map(|topic| {
            let partitions = topic.partitions();
            let led = partitions.iter().filter(|partition| partition.leader() >= 0).count();
            let replicas = partitions.iter().map(|partition| partition.replicas().len());
            let count = |partitions: usize| i32::try_from(partitions).unwrap_or(i32::MAX);
            let facts = TopicFacts {
                partitions: count(partitions.len()),
                led: count(led),
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
            let missing = wanted
                .iter()
                .find(|(name, count)| known.get(*name).is_none_or(|facts| facts.led < **count));
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

fn refused(operation: &'static str, topic: &str, code: RDKafkaErrorCode) -> BrokerError {
    let kind = match code {
        RDKafkaErrorCode::TopicAuthorizationFailed
        | RDKafkaErrorCode::ClusterAuthorizationFailed => BrokerErrorKind::NotAuthorized,
        RDKafkaErrorCode::InvalidReplicationFactor => {
            let detail = format!("{topic}: topics.replication: there are not as many brokers");
            return BrokerError::new(BrokerErrorKind::SettingRefused, operation, detail);
        }
        RDKafkaErrorCode::InvalidConfig | RDKafkaErrorCode::PolicyViolation => {
            BrokerErrorKind::SettingRefused
        }
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

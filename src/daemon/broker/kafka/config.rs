//! Settings of the cluster to librdkafka's properties; refuses what would break a guarantee.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseProducer;
use zeroize::Zeroizing;

use super::super::{SlotConfig, TopicPattern};
use super::context::PlainContext;
use crate::pipeline::limits::PRODUCED_RECORD_BYTES_MAX;

/// How to reach and talk to one Kafka cluster. Prints no secret.
#[derive(Clone, Default)]
pub struct KafkaConfig {
    /// `host:port` of one or more brokers, separated by commas.
    pub brokers: String,
    /// Encryption and authentication.
    pub security: Security,
    /// Any further librdkafka property.
    pub properties: BTreeMap<String, String>,
}

/// Encryption and authentication of every connection.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// TLS, when the connection is encrypted.
    pub tls: Option<Tls>,
    /// SASL, when the client authenticates itself by it.
    pub sasl: Option<Sasl>,
}

/// TLS with PEM files; empty paths leave librdkafka's defaults (the system's authorities).
#[derive(Clone, Default)]
pub struct Tls {
    /// Certificate authorities.
    pub ca_file: String,
    /// Client certificate.
    pub certificate_file: String,
    /// Client key.
    pub key_file: String,
    /// Password of the client key.
    pub key_password: Zeroizing<String>,
}

/// SASL.
#[derive(Clone)]
pub enum Sasl {
    /// By name and password.
    Password {
        /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
        mechanism: String,
        /// User name.
        username: String,
        /// Password.
        password: Zeroizing<String>,
    },
    /// By `OAUTHBEARER`, with tokens that librdkafka fetches and renews on a thread of its own.
    Token(Box<TokenSource>),
}

/// Who gives out tokens, and to whom (the OAuth 2.0 client credentials grant, RFC 6749 4.4).
#[derive(Clone, Default)]
pub struct TokenSource {
    /// URL of the token endpoint; empty where librdkafka properties name another source.
    pub endpoint: String,
    /// Client id.
    pub client_id: String,
    /// Client secret.
    pub client_secret: Zeroizing<String>,
    /// Scope; empty asks for none.
    pub scope: String,
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("security", &self.security)
            .field("properties", &self.properties.keys().collect::<Vec<_>>())
            .finish()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Tls");
        shown.field("ca_file", &self.ca_file).field("certificate_file", &self.certificate_file);
        shown.finish_non_exhaustive()
    }
}

impl fmt::Debug for Sasl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Sasl");
        shown.field("mechanism", &self.mechanism()).finish_non_exhaustive()
    }
}

impl Sasl {
    fn mechanism(&self) -> &str {
        match self {
            Self::Password { mechanism, .. } => mechanism,
            Self::Token(_) => "OAUTHBEARER",
        }
    }
}

/// A librdkafka property, or a whole client, that can't be used as it was set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{property} refused: {reason}")]
pub struct ConfigRefused {
    /// The property's name, or what client it is that can't be made.
    pub property: String,
    /// Why.
    pub reason: String,
}

const TOKEN_ENDPOINT: &str = "sasl.oauthbearer.token.endpoint.url";

/// Properties that blotter sets itself, with the reason.
const OWN: &[(&str, &str)] = &[
    ("bootstrap.servers", "the brokers are set by kafka.brokers"),
    ("metadata.broker.list", "the brokers are set by kafka.brokers"),
    ("group.id", "it names the stage's consumer group, on which committed offsets depend"),
    ("group.instance.id", "it belongs to one slot; two members with one id fence each other"),
    ("transactional.id", "it belongs to one slot; two producers with one id fence each other"),
    ("transaction.timeout.ms", "it bounds how long a dead slot blocks readers; set by the shard"),
    ("session.timeout.ms", "it must stay above the transaction time-out; set by the shard"),
    ("group.remote.assignor", "group.protocol=consumer is not supported"),
    ("topic.blacklist", "it keeps our own outputs out of the input patterns"),
    ("security.protocol", "it is set by kafka.security"),
    ("sasl.mechanism", "it is set by kafka.sasl.mechanism"),
    ("sasl.mechanisms", "it is set by kafka.sasl.mechanism"),
    ("sasl.username", "it is set by kafka.sasl.username"),
    ("sasl.password", "it is set by kafka.sasl.password"),
    ("ssl.ca.location", "it is set by kafka.tls.ca_file"),
    ("ssl.certificate.location", "it is set by kafka.tls.certificate_file"),
    ("ssl.key.location", "it is set by kafka.tls.key_file"),
    ("ssl.key.password", "it is set by kafka.tls.key_password"),
    (TOKEN_ENDPOINT, "it is set by kafka.sasl.token_endpoint"),
    ("sasl.oauthbearer.client.id", "it is set by kafka.sasl.client_id"),
    ("sasl.oauthbearer.client.secret", "it is set by kafka.sasl.client_secret"),
    ("sasl.oauthbearer.scope", "it is set by kafka.sasl.scope"),
    ("statistics.interval.ms", "caught-up and lag come from the statistics, once a second"),
];

/// Properties that may be set to these values only, with what another value would break.
const FIXED: &[(&str, &[&str], &str)] = &[
    ("enable.auto.commit", &["false"], "offsets are committed in the transaction only"),
    ("enable.auto.offset.store", &["false"], "offsets are committed in the transaction only"),
    ("isolation.level", &["read_committed"], "aborted records would be processed"),
    ("group.protocol", &["classic"], "the consumer protocol of the client loses its epoch"),
    ("enable.idempotence", &["true"], "retries would double records"),
    ("acks", &["all", "-1"], "acknowledged records could be lost"),
    ("request.required.acks", &["all", "-1"], "acknowledged records could be lost"),
    ("auto.offset.reset", &["error"], "records would be skipped or read again in silence"),
    ("enable.partition.eof", &["false"], "end-of-partition errors name no topic"),
    ("delivery.report.only.error", &["false"], "every delivery is counted before a commit"),
    ("partitioner", &["murmur2_random"], "keys would move to other partitions"),
    ("allow.auto.create.topics", &["false"], "topics need the configuration of `topics create`"),
    (
        "partition.assignment.strategy",
        &["cooperative-sticky", "range", "roundrobin"],
        "members of one group must agree on one protocol",
    ),
];

/// Values used unless a property says otherwise; `research` figures: a `fetch.queue.backoff.ms` of
/// 1,000 reads 70,000 records/s with a bounded prefetch, 5 reads 290,000.
const COMMON: &[(&str, &str)] = &[
    ("client.id", "blotter"),
    ("socket.keepalive.enable", "true"),
    ("socket.timeout.ms", "10000"),
    ("reconnect.backoff.max.ms", "1000"),
    ("topic.metadata.refresh.interval.ms", "30000"),
    ("allow.auto.create.topics", "false"),
];

/// What `socket.timeout.ms` above says; a producer's must not exceed its transaction's time-out.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

const CONSUMER: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("isolation.level", "read_committed"),
    ("auto.offset.reset", "error"),
    ("check.crcs", "true"),
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.wait.max.ms", "50"),
    ("fetch.error.backoff.ms", "100"),
    ("fetch.message.max.bytes", "1048576"),
    ("queued.min.messages", "10000"),
    ("queued.max.messages.kbytes", "8192"),
];

const MEMBER: &[(&str, &str)] = &[
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("heartbeat.interval.ms", "1000"),
    ("statistics.interval.ms", "1000"),
];

const PRODUCER: &[(&str, &str)] = &[
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("partitioner", "murmur2_random"),
    ("compression.type", "lz4"),
    // The client looks at every partition each time one of them is due: at 5 ms that costs a tenth of
    // all processor time under load. A record waits for its transaction anyway.
    ("linger.ms", "20"),
    // How long a record waits for a topic the brokers do not know (30 s by default).
    ("topic.metadata.propagation.max.ms", "5000"),
    ("batch.size", "1000000"),
    ("queue.buffering.max.kbytes", "65536"),
];

impl KafkaConfig {
    /// Checks every property by name and value, without touching the network.
    ///
    /// # Errors
    /// The first property that would break a guarantee or that librdkafka does not know.
    pub fn check(&self) -> Result<(), ConfigRefused> {
        for (name, value) in &self.properties {
            check_property(name, value)?;
        }
        let known = self.client(CONSUMER).create_native_config();
        known.map(drop).map_err(|error| ConfigRefused::by_client(&error))
    }

    /// Makes every client of `slot`, which connects to nothing, and drops it: librdkafka refuses
    /// some settings only together, or for what is in a file.
    ///
    /// # Errors
    /// The first client that can't be made, with librdkafka's reason.
    pub fn rehearse(&self, slot: &SlotConfig) -> Result<(), ConfigRefused> {
        self.check_slot(slot)?;
        let consumer = |config: ClientConfig| {
            let made = alone(config).create_with_context::<_, BaseConsumer<_>>(PlainContext);
            made.map(drop)
        };
        let producer = |config: ClientConfig| {
            let made = alone(config).create::<BaseProducer>();
            made.map(drop)
        };
        let refused = |client: &str, error: &KafkaError| ConfigRefused::of_client(client, error);
        consumer(self.member(slot)).map_err(|error| refused("member of the group", &error))?;
        consumer(self.reader(slot, "read_committed")).map_err(|error| refused("reader", &error))?;
        producer(self.producer(slot)).map_err(|error| refused("producer", &error))
    }

    /// Checks the properties against the time-outs of a slot: a message must not live longer than
    /// its transaction.
    fn check_slot(&self, slot: &SlotConfig) -> Result<(), ConfigRefused> {
        let transaction_ms = slot.transaction_timeout.as_millis();
        let bounded = [
            ("message.timeout.ms", "a record"),
            ("delivery.timeout.ms", "a record"),
            ("socket.timeout.ms", "a request"),
        ];
        for (name, what) in bounded {
            let Some(value) = self.properties.get(name) else { continue };
            let fits = value.parse::<u128>().is_ok_and(|ms| (1..=transaction_ms).contains(&ms));
            if !fits {
                let reason =
                    format!("{what} must not outlive its transaction of {transaction_ms} ms");
                return Err(ConfigRefused { property: name.to_owned(), reason });
            }
        }
        Ok(())
    }

    /// Properties of a client that only asks and administers.
    pub(crate) fn client(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        let debugging = self.properties.contains_key("debug");
        let level = if debugging { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info };
        config.set_log_level(level);
        for (name, value) in COMMON.iter().chain(defaults) {
            config.set(*name, *value);
        }
        self.security.apply(&mut config);
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    /// Properties of a slot's group member.
    pub(super) fn member(&self, slot: &SlotConfig) -> ClientConfig {
        let defaults: Vec<_> = CONSUMER.iter().chain(MEMBER).copied().collect();
        let mut config = self.client(&defaults);
        config.set("group.id", &slot.group);
        if let Some(instance_id) = &slot.instance_id {
            config.set("group.instance.id", instance_id);
        }
        config.set("session.timeout.ms", millis(slot.session_timeout));
        let excluded: Vec<&str> =
            slot.subscription.excluded.iter().map(TopicPattern::posix).collect();
        if !excluded.is_empty() {
            config.set("topic.blacklist", excluded.join(","));
        }
        config
    }

    /// Properties of a consumer that reads for look-ups: never joins the group, reports the end of
    /// a partition, waits for nothing.
    pub(super) fn reader(&self, slot: &SlotConfig, isolation: &str) -> ClientConfig {
        let mut config = self.client(CONSUMER);
        config.remove("group.instance.id");
        config.remove("partition.assignment.strategy");
        config
            .set("group.id", &slot.group)
            .set("isolation.level", isolation)
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "10")
            .set("queued.max.messages.kbytes", "2048");
        config
    }

    /// Properties of a slot's transactional producer.
    pub(super) fn producer(&self, slot: &SlotConfig) -> ClientConfig {
        let mut config = self.client(PRODUCER);
        let timeout = millis(slot.transaction_timeout);
        let named = |name: &str| self.properties.contains_key(name);
        if !named("message.timeout.ms") && !named("delivery.timeout.ms") {
            config.set("message.timeout.ms", &timeout);
        }
        if !named("socket.timeout.ms") {
            config.set("socket.timeout.ms", millis(slot.transaction_timeout.min(REQUEST_TIMEOUT)));
        }
        if !named("message.max.bytes") {
            config.set("message.max.bytes", PRODUCED_RECORD_BYTES_MAX.to_string());
        }
        config.set("transaction.timeout.ms", timeout);
        config.set("transactional.id", &slot.transactional_id);
        config
    }
}

impl Security {
    fn apply(&self, config: &mut ClientConfig) {
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => return,
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        let mut set = |name: &str, value: &str| {
            if !value.is_empty() {
                config.set(name, value);
            }
        };
        if let Some(tls) = &self.tls {
            set("ssl.ca.location", &tls.ca_file);
            set("ssl.certificate.location", &tls.certificate_file);
            set("ssl.key.location", &tls.key_file);
            set("ssl.key.password", &tls.key_password);
        }
        if let Some(sasl) = &self.sasl {
            set("sasl.mechanism", sasl.mechanism());
            match sasl {
                Sasl::Password { username, password, .. } => {
                    set("sasl.username", username);
                    set("sasl.password", password);
                }
                Sasl::Token(source) if !source.endpoint.is_empty() => {
                    set("sasl.oauthbearer.method", "oidc");
                    set(TOKEN_ENDPOINT, &source.endpoint);
                    set("sasl.oauthbearer.client.id", &source.client_id);
                    set("sasl.oauthbearer.client.secret", &source.client_secret);
                    set("sasl.oauthbearer.scope", &source.scope);
                }
                Sasl::Token(_) => {}
            }
        }
    }
}

/// Without brokers a client is whole, but has nobody to connect to; tokens it asks for at once.
fn alone(mut config: ClientConfig) -> ClientConfig {
    config.remove("bootstrap.servers");
    if config.get(TOKEN_ENDPOINT).is_some() {
        config.set(TOKEN_ENDPOINT, "http://127.0.0.1:1/");
    }
    config
}

impl ConfigRefused {
    fn of_client(client: &str, error: &KafkaError) -> Self {
        match error {
            KafkaError::ClientCreation(reason) => {
                Self { property: format!("the settings of the {client}"), reason: reason.clone() }
            }
            other => Self::by_client(other),
        }
    }

    fn by_client(error: &KafkaError) -> Self {
        match error {
            // The client's own words repeat the value, which may be a secret.
            KafkaError::ClientConfig(_, _, property, _) => Self {
                property: property.clone(),
                reason: "librdkafka does not know it, or not this value".to_owned(),
            },
            other => Self { property: "librdkafka".to_owned(), reason: other.to_string() },
        }
    }
}

fn check_property(name: &str, value: &str) -> Result<(), ConfigRefused> {
    let refuse = |reason: String| Err(ConfigRefused { property: name.to_owned(), reason });
    if let Some((_, reason)) = OWN.iter().find(|(own, _)| *own == name) {
        return refuse(format!("blotter sets it itself ({reason})"));
    }
    if let Some((_, allowed, reason)) = FIXED.iter().find(|(fixed, ..)| *fixed == name)
        && !allowed.contains(&value)
    {
        return refuse(format!("only {} is possible: {reason}", allowed.join(" or ")));
    }
    Ok(())
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> KafkaConfig {
        KafkaConfig {
            brokers: "b:9092".into(),
            properties: BTreeMap::from([(name.to_owned(), value.to_owned())]),
            ..KafkaConfig::default()
        }
    }

    fn with_password(password: &str) -> Sasl {
        let (mechanism, password) = ("PLAIN".to_owned(), password.to_owned().into());
        Sasl::Password { mechanism, username: String::new(), password }
    }

    fn slot() -> SlotConfig {
        SlotConfig {
            group: "g".into(),
            instance_id: Some("i".into()),
            transactional_id: "t".into(),
            subscription: super::super::super::Subscription {
                topics: Vec::new(),
                patterns: Vec::new(),
                excluded: [".+\\.redacted", "b"]
                    .map(|own| TopicPattern::new(own).unwrap())
                    .to_vec(),
            },
            poll_records_max: 1,
            poll_bytes_max: 1,
            transaction_timeout: Duration::from_secs(10),
            session_timeout: Duration::from_secs(15),
            operation_timeout: Duration::from_secs(1),
            lookup_timeout: Duration::from_secs(1),
            written: Vec::new(),
            lookup_bytes_max: 1,
        }
    }

    #[test]
    fn what_breaks_a_guarantee_is_refused_by_name_with_the_reason() {
        let refused = [
            ("enable.auto.commit", "true"),
            ("enable.auto.offset.store", "true"),
            ("isolation.level", "read_uncommitted"),
            ("group.protocol", "consumer"),
            ("group.remote.assignor", "uniform"),
            ("transactional.id", "x"),
            ("group.id", "x"),
            ("group.instance.id", "x"),
            ("enable.idempotence", "false"),
            ("acks", "1"),
            ("request.required.acks", "0"),
            ("auto.offset.reset", "latest"),
            ("enable.partition.eof", "true"),
            ("delivery.report.only.error", "true"),
            ("partitioner", "consistent"),
            ("partition.assignment.strategy", "cooperative-sticky,range"),
            ("allow.auto.create.topics", "true"),
            ("bootstrap.servers", "x:1"),
            ("metadata.broker.list", "x:1"),
            ("session.timeout.ms", "1"),
            ("transaction.timeout.ms", "1"),
            ("topic.blacklist", "x"),
            ("statistics.interval.ms", "0"),
            ("security.protocol", "plaintext"),
            ("sasl.mechanisms", "PLAIN"),
            ("sasl.password", "x"),
            ("ssl.ca.location", "x"),
        ];
        for (name, value) in refused {
            let error = with(name, value).check().expect_err(name);
            assert_eq!(error.property, name);
            assert!(error.to_string().contains(name) && error.reason.len() > 20, "{error}");
        }
    }

    #[test]
    fn what_keeps_the_guarantees_is_taken() {
        let taken = [
            ("enable.auto.commit", "false"),
            ("acks", "all"),
            ("acks", "-1"),
            ("isolation.level", "read_committed"),
            ("partition.assignment.strategy", "range"),
            ("compression.type", "zstd"),
            ("client.rack", "eu-1"),
            ("sasl.oauthbearer.config", "principal=x"),
        ];
        for (name, value) in taken {
            assert_eq!(with(name, value).check(), Ok(()), "{name}={value}");
        }
    }

    #[test]
    fn a_record_never_outlives_its_transaction() {
        for (value, fits) in [("10000", true), ("10001", false), ("0", false), ("soon", false)] {
            for name in ["message.timeout.ms", "delivery.timeout.ms", "socket.timeout.ms"] {
                assert_eq!(with(name, value).check_slot(&slot()).is_ok(), fits, "{name}={value}");
            }
        }
    }

    #[test]
    fn what_the_client_refuses_together_is_refused_with_its_reason() {
        for (name, value, reason) in [
            ("max.in.flight", "10", "max.in.flight"),
            ("retries", "0", "retries"),
            ("queuing.strategy", "lifo", "queuing.strategy"),
            ("max.poll.interval.ms", "1000", "session.timeout.ms"),
            ("message.timeout.ms", "60000", "transaction"),
            ("ssl.ca.pem", "hush-hush", ""),
        ] {
            let mut config = with(name, value);
            config.security.tls = name.starts_with("ssl").then(Tls::default);
            assert_eq!(config.check(), Ok(()), "{name} alone");
            let error = config.rehearse(&slot()).expect_err(name).to_string();
            assert!(error.contains(reason) && !error.contains("hush"), "{name}: {error}");
        }
        let mut config = with("client.rack", "a");
        config.rehearse(&slot()).expect("nothing to refuse");
        let ca_file = "/nowhere/ca.pem".to_owned();
        config.security.tls = Some(Tls { ca_file, ..Tls::default() });
        let error = config.rehearse(&slot()).expect_err("no such file").to_string();
        assert!(error.contains("ssl.ca.location"), "{error}");
        config.security = Security { tls: None, sasl: Some(with_password("")) };
        let error = config.rehearse(&slot()).expect_err("nobody to log in as").to_string();
        assert!(error.contains("sasl.username"), "{error}");
    }

    #[test]
    fn an_unknown_property_is_named_and_its_value_is_not() {
        let error = with("compresion.type", "hush-hush").check().expect_err("unknown");
        assert_eq!(error.property, "compresion.type");
        assert!(!error.to_string().contains("hush"), "{error}");
        let error = with("linger.ms", "hush-hush").check().expect_err("not a number");
        assert!(!error.to_string().contains("hush"), "{error}");
    }

    #[test]
    fn secrets_are_not_printed() {
        let mut config = with("ssl.key.pem", "hush-1");
        config.security = Security {
            tls: Some(Tls { key_password: "hush-2".to_owned().into(), ..Tls::default() }),
            sasl: Some(with_password("hush-3")),
        };
        assert!(!format!("{config:?}").contains("hush"), "{config:?}");
        let client_secret = "hush-4".to_owned().into();
        let source = TokenSource { client_secret, ..TokenSource::default() };
        config.security.sasl = Some(Sasl::Token(Box::new(source)));
        assert!(!format!("{config:?}").contains("hush"), "{config:?}");
    }

    #[test]
    fn slots_get_their_ids_and_our_outputs_are_hidden_from_patterns() {
        let member = with("client.rack", "r").member(&slot());
        assert_eq!(member.get("group.instance.id"), Some("i"));
        assert_eq!(member.get("topic.blacklist"), Some("^((.)+\\.redacted)$,^(b)$"));
        assert_eq!(member.get("session.timeout.ms"), Some("15000"));
        let producer = with("client.rack", "r").producer(&slot());
        assert_eq!(producer.get("transactional.id"), Some("t"));
        assert_eq!(producer.get("message.timeout.ms"), Some("10000"));
        assert_eq!(with("a", "b").reader(&slot(), "read_committed").get("group.instance.id"), None);
    }
}

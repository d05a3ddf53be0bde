//! The only place that names wire fields of redacted records and dead letters, topic roles and
//! headers. Measures, state and alerts name theirs in their own rooms.

use std::collections::HashMap;
use std::sync::Arc;

use super::limits::EMIT_OVERHEAD_BYTES;
use super::record::{Header, SourceRecord, Timestamp, TopicPartition};
use super::redact::RedactedRecord;
use super::step::{OutputRecord, Outputs};

/// Header with the coordinates of the source record, `topic/partition/offset`: on redacted records
/// and on dead letters.
pub const SOURCE_HEADER: &str = "blotter-source";

/// Header that marks the stub left in the place of a dead-lettered record; its value is the reason.
pub const DEAD_LETTER_HEADER: &str = "blotter-dead-letter";

/// Stands in a topic template for the name of the source topic.
pub const TOPIC_PLACEHOLDER: &str = "{topic}";

/// What a topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TopicRole {
    /// The clean stream: source partition to the same partition.
    Redacted,
    /// The audit chain: source partition to the same partition.
    Audit,
    /// Deltas, session facts, watermarks.
    Measures,
    /// What could not be forwarded, by coordinates.
    DeadLetters,
    /// Alerts, compacted by fingerprint.
    Alerts,
    /// State of WATCH, compacted.
    WatchState,
}

/// A topic template that names no topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicTemplateError {
    /// The template holds no placeholder, so two source topics would share one topic.
    #[error("must contain {TOPIC_PLACEHOLDER}")]
    NoPlaceholder,
    /// The template would name the source topic itself.
    #[error("must add something to {TOPIC_PLACEHOLDER}")]
    Identity,
    /// A character Kafka does not allow, or a name over 249 characters.
    #[error("`{0}` is no Kafka topic name (1 to 249 of A-Z a-z 0-9 . _ -)")]
    Invalid(String),
}

/// A template such as `{topic}.redacted`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicTemplate {
    prefix: Arc<str>,
    suffix: Arc<str>,
}

impl TopicTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// See [`TopicTemplateError`].
    pub fn parse(text: &str) -> Result<Self, TopicTemplateError> {
        let (prefix, suffix) =
            text.split_once(TOPIC_PLACEHOLDER).ok_or(TopicTemplateError::NoPlaceholder)?;
        if prefix.is_empty() && suffix.is_empty() {
            return Err(TopicTemplateError::Identity);
        }
        topic_name(&format!("{prefix}t{suffix}"))?;
        Ok(Self { prefix: Arc::from(prefix), suffix: Arc::from(suffix) })
    }

    /// The topic for `source`.
    #[must_use]
    pub fn topic(&self, source: &str) -> String {
        format!("{}{source}{}", self.prefix, self.suffix)
    }

    /// A regular expression over the whole name that matches what [`TopicTemplate::matches`] does.
    fn pattern(&self) -> String {
        format!("{}.+{}", regex::escape(&self.prefix), regex::escape(&self.suffix))
    }

    /// Whether this template could have made `topic`.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        let inner = topic.strip_prefix(&*self.prefix).and_then(|t| t.strip_suffix(&*self.suffix));
        inner.is_some_and(|inner| !inner.is_empty())
    }
}

/// Checks a topic name against Kafka's rule.
///
/// # Errors
/// [`TopicTemplateError::Invalid`].
pub fn topic_name(text: &str) -> Result<Arc<str>, TopicTemplateError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let fits = (1..=249).contains(&text.len()) && text.bytes().all(allowed);
    if fits && text != "." && text != ".." {
        Ok(Arc::from(text))
    } else {
        Err(TopicTemplateError::Invalid(text.to_owned()))
    }
}

/// Where everything goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicNames {
    /// Template of redacted topics.
    pub redacted: TopicTemplate,
    /// Template of audit topics.
    pub audit: TopicTemplate,
    /// Measures.
    pub measures: Arc<str>,
    /// Dead letters.
    pub dead_letters: Arc<str>,
    /// Alerts.
    pub alerts: Arc<str>,
    /// State of WATCH.
    pub watch_state: Arc<str>,
}

/// Those of `config/default.toml`.
impl Default for TopicNames {
    fn default() -> Self {
        let template = |suffix| TopicTemplate { prefix: Arc::from(""), suffix: Arc::from(suffix) };
        Self {
            redacted: template(".redacted"),
            audit: template(".audit"),
            measures: Arc::from("blotter.measures"),
            dead_letters: Arc::from("blotter.dead-letters"),
            alerts: Arc::from("blotter.alerts"),
            watch_state: Arc::from("blotter.watch-state"),
        }
    }
}

impl TopicNames {
    /// The same as [`TopicNames::is_own`] as regular expressions over the whole name.
    #[must_use]
    pub fn own_patterns(&self) -> Vec<String> {
        let fixed = [&self.measures, &self.dead_letters, &self.alerts, &self.watch_state];
        let fixed = fixed.into_iter().map(|own| regex::escape(own));
        [self.redacted.pattern(), self.audit.pattern()].into_iter().chain(fixed).collect()
    }

    /// Whether `topic` is one of our outputs: such a topic is never read as a source.
    #[must_use]
    pub fn is_own(&self, topic: &str) -> bool {
        let fixed = [&self.measures, &self.dead_letters, &self.alerts, &self.watch_state];
        fixed.iter().any(|own| &***own == topic)
            || self.redacted.matches(topic)
            || self.audit.matches(topic)
    }
}

/// Writes redacted records, stubs and dead letters of one source topic after the other.
pub struct Emitter {
    names: Arc<TopicNames>,
    routes: HashMap<Arc<str>, Route>,
    /// The one asked for last: records of one topic come one after another.
    last: Option<(Arc<str>, Route)>,
    source: SourceText,
    record_bytes_max: usize,
}

#[derive(Clone)]
struct Route {
    redacted: Arc<str>,
    audit: Arc<str>,
}

/// A record that can't be forwarded.
#[derive(Clone, Copy, Debug)]
pub struct DeadLetter<'a> {
    /// Where it stands.
    pub topic_partition: &'a TopicPartition,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// Bytes of key, value and headers.
    pub size_bytes: usize,
    /// Why, as a bounded word.
    pub reason: &'a str,
    /// The redacted key, when the key could be redacted.
    pub key: Option<&'a [u8]>,
}

impl Emitter {
    /// An emitter for `names`; no redacted record is larger than `record_bytes_max`.
    #[must_use]
    pub fn new(names: Arc<TopicNames>, record_bytes_max: usize) -> Self {
        Self {
            names,
            routes: HashMap::new(),
            last: None,
            source: SourceText::default(),
            record_bytes_max,
        }
    }

    /// The redacted topic of a source topic.
    pub fn redacted_topic(&mut self, source: &Arc<str>) -> Arc<str> {
        Arc::clone(&self.route(source).redacted)
    }

    /// The audit topic of a source topic.
    pub fn audit_topic(&mut self, source: &Arc<str>) -> Arc<str> {
        Arc::clone(&self.route(source).audit)
    }

    /// Whether a redacted record fits its topic.
    #[must_use]
    pub fn fits(&self, record: &RedactedRecord<'_>) -> bool {
        record.size_bytes() + EMIT_OVERHEAD_BYTES <= self.record_bytes_max
    }

    /// Forwards a redacted record: same partition and timestamp, headers in order, coordinates
    /// added.
    pub fn forward(&mut self, record: &RedactedRecord<'_>, outputs: &mut Outputs) {
        let topic_partition = record.topic_partition();
        let topic = self.redacted_topic(&topic_partition.topic);
        self.source.write(topic_partition, record.offset());
        let own = Header { name: SOURCE_HEADER, value: Some(&self.source.text) };
        let all: Vec<Header<'_>>;
        let headers = if record.headers().len() == 0 {
            std::slice::from_ref(&own)
        } else {
            all = record.headers().chain([own]).collect();
            &all
        };
        outputs.push(OutputRecord {
            topic: &topic,
            partition: Some(topic_partition.partition),
            timestamp: Some(record.timestamp()),
            key: record.key(),
            value: record.value(),
            headers,
            tracked: false,
            forwarded: true,
        });
    }

    /// Sends a record to the dead letters by its coordinates and leaves a stub in its place.
    pub fn dead_letter(&mut self, letter: &DeadLetter<'_>, outputs: &mut Outputs) {
        let topic = self.redacted_topic(&letter.topic_partition.topic);
        self.source.write(letter.topic_partition, letter.offset);
        let headers = [
            Header { name: SOURCE_HEADER, value: Some(&self.source.text) },
            Header { name: DEAD_LETTER_HEADER, value: Some(letter.reason.as_bytes()) },
        ];
        let stub = dead_letter_stub(letter.reason);
        outputs.push(OutputRecord {
            topic: &topic,
            partition: Some(letter.topic_partition.partition),
            timestamp: Some(letter.timestamp),
            key: letter.key,
            value: Some(stub.as_bytes()),
            headers: &headers,
            tracked: false,
            forwarded: true,
        });
        let value = dead_letter_value(letter);
        outputs.push(OutputRecord {
            topic: &self.names.dead_letters,
            partition: None,
            timestamp: Some(letter.timestamp),
            key: Some(&self.source.text),
            value: Some(&value),
            headers: &headers,
            tracked: false,
            forwarded: false,
        });
    }

    /// Sends one audit entry; a seal is tracked.
    pub fn audit_entry(
        &mut self,
        topic_partition: &TopicPartition,
        entry: &[u8],
        is_seal: bool,
        outputs: &mut Outputs,
    ) {
        let topic = self.audit_topic(&topic_partition.topic);
        outputs.push(OutputRecord {
            topic: &topic,
            partition: Some(topic_partition.partition),
            timestamp: None,
            key: None,
            value: Some(entry),
            headers: &[],
            tracked: is_seal,
            forwarded: false,
        });
    }

    fn route(&mut self, source: &Arc<str>) -> &Route {
        let is_last = self.last.as_ref().is_some_and(|(last, _)| Arc::ptr_eq(last, source));
        if !is_last {
            let make = || Route {
                redacted: Arc::from(self.names.redacted.topic(source)),
                audit: Arc::from(self.names.audit.topic(source)),
            };
            let route = self.routes.entry(Arc::clone(source)).or_insert_with(make).clone();
            self.last = Some((Arc::clone(source), route));
        }
        let (_, route) = self.last.as_ref().expect("it is that of the source now");
        route
    }
}

/// The value of a stub.
#[must_use]
pub fn dead_letter_stub(reason: &str) -> String {
    serde_json::json!({ "blotter": "dead-letter", "reason": reason }).to_string()
}

fn dead_letter_value(letter: &DeadLetter<'_>) -> Vec<u8> {
    let value = serde_json::json!({
        "v": 1,
        "reason": letter.reason,
        "topic": &*letter.topic_partition.topic,
        "partition": letter.topic_partition.partition,
        "offset": letter.offset,
        "timestamp": letter.timestamp.millis(),
        "size_bytes": letter.size_bytes,
    });
    value.to_string().into_bytes()
}

/// The source offset that a redacted record's header names.
#[must_use]
pub fn source_offset(record: &SourceRecord<'_>) -> Option<i64> {
    let header = record.headers.iter().rev().find(|header| header.name == SOURCE_HEADER)?;
    let text = std::str::from_utf8(header.value?).ok()?;
    text.rsplit_once('/')?.1.parse().ok()
}

/// `topic/partition/offset`, of which mostly the offset alone changes.
#[derive(Default)]
struct SourceText {
    text: Vec<u8>,
    partition: Option<TopicPartition>,
    prefix_bytes: usize,
}

impl SourceText {
    fn write(&mut self, topic_partition: &TopicPartition, offset: i64) {
        use std::io::Write;
        if self.partition.as_ref() != Some(topic_partition) {
            self.text.clear();
            write!(self.text, "{topic_partition}/").expect("writing to memory does not fail");
            self.prefix_bytes = self.text.len();
            self.partition = Some(topic_partition.clone());
        }
        self.text.truncate(self.prefix_bytes);
        write!(self.text, "{offset}").expect("writing to memory does not fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_topics_are_known() {
        let audit = TopicTemplate::parse("audit.{topic}").unwrap();
        let names = TopicNames { audit, ..TopicNames::default() };
        for own in ["app.logs.redacted", "audit.app.logs"] {
            assert!(names.is_own(own), "{own}");
        }
        for own in ["measures", "dead-letters", "alerts", "watch-state"] {
            assert!(names.is_own(&format!("blotter.{own}")), "{own}");
        }
        for foreign in ["app.logs", "redacted", ".redacted", "audit."] {
            assert!(!names.is_own(foreign), "{foreign}");
        }
    }

    #[test]
    fn templates_that_mix_topics_are_refused() {
        assert_eq!(TopicTemplate::parse("all"), Err(TopicTemplateError::NoPlaceholder));
        assert_eq!(TopicTemplate::parse("{topic}"), Err(TopicTemplateError::Identity));
        assert!(matches!(TopicTemplate::parse("{topic}/x"), Err(TopicTemplateError::Invalid(_))));
        assert!(topic_name("..").is_err());
    }

    #[test]
    fn a_dead_letter_leaves_a_stub_and_names_its_place() {
        let mut emitter = Emitter::new(Arc::default(), 1_000_000);
        let mut outputs = Outputs::default();
        let topic_partition = TopicPartition::new("app.logs", 3);
        let letter = DeadLetter {
            topic_partition: &topic_partition,
            offset: 42,
            timestamp: Timestamp::from_millis(7),
            size_bytes: 10,
            reason: "gzip",
            key: None,
        };
        emitter.dead_letter(&letter, &mut outputs);
        let mut seen = Vec::new();
        outputs.for_each_from(0, |record| {
            seen.push((
                record.topic.to_string(),
                record.partition,
                record.timestamp,
                String::from_utf8(record.value.unwrap().to_vec()).unwrap(),
                String::from_utf8(record.headers[0].value.unwrap().to_vec()).unwrap(),
            ));
            true
        });
        assert_eq!(seen[0].0, "app.logs.redacted");
        assert_eq!((seen[0].1, seen[0].2), (Some(3), Some(Timestamp::from_millis(7))));
        assert_eq!(seen[0].3, r#"{"blotter":"dead-letter","reason":"gzip"}"#);
        assert_eq!(seen[1].0, "blotter.dead-letters");
        assert!(seen[1].3.contains(r#""offset":42"#) && seen[1].4 == "app.logs/3/42");
    }
}

//! Bytes to [`LogRecord`]: severity, time, service, tenant, event, actor, session and what bots
//! report, found with no configuration in JSON, logfmt, syslog, container lines and plain text.
//!
//! Nothing here fails and nothing is guessed: what no rule is sure of stays absent (or
//! [`Severity::Unknown`](super::record::Severity)). One pass, no tree; text is borrowed from the
//! record wherever it holds no escapes.
//!
//! ```
//! use blotter::pipeline::ingest::{Ingest, IngestRules};
//! use blotter::pipeline::record::{Severity, SourceRecord, Timestamp, TopicPartition};
//!
//! let ingest = Ingest::new(IngestRules::default());
//! let topic_partition = TopicPartition::new("app.logs", 0);
//! let record = SourceRecord {
//!     topic_partition: &topic_partition,
//!     offset: 0,
//!     timestamp: Timestamp::EPOCH,
//!     key: None,
//!     value: Some(br#"{"level":"error","service":{"name":"booking"},"salonId":"s-12"}"#),
//!     headers: &[],
//! };
//! let found = ingest.parse(&record);
//! assert_eq!(found.severity, Severity::Error);
//! assert_eq!(found.service.unwrap().as_str(), "booking");
//! assert_eq!(found.tenant.unwrap().id.as_str(), "s-12");
//! ```

mod collect;
mod defaults;
mod explain;
mod facts;
mod json;
mod kind;
mod log_record;
mod names;
mod otlp;
mod rules;
mod severity;
mod text;
mod time;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use self::collect::{Candidate, Collector, Source};
use self::names::NameTable;
use self::rules::{TenantSource, TopicRules};
use super::limits::{BATCH_RESOURCES_MAX, SCAN_BYTES_MAX};
use super::record::{Severity, SourceRecord};

pub use explain::{Explanation, Finding, MaskedText};
pub use kind::FieldKind;
pub use log_record::{
    Assurance, BotFact, Field, Format, HandoverReason, LogRecord, ResourceLogs, Rule, SplitLine,
    StaffAction, TenantClaim, Tokens, Turn,
};
pub use otlp::SeverityCounts;
pub use rules::{
    IngestRules, IngestRulesError, IngestRulesProblem, RawFields, RawIngestRules, RawTenant,
    RawTenantSource, RawTopicRules,
};

/// Finds fields by rules. Has no state: the same record always gives the same fields.
#[derive(Clone, Debug)]
pub struct Ingest {
    rules: IngestRules,
}

impl Ingest {
    /// A parser for `rules`.
    #[must_use]
    pub const fn new(rules: IngestRules) -> Self {
        Self { rules }
    }

    /// What `record` says. Never fails; linear in the record's size.
    #[must_use]
    pub fn parse<'a>(&'a self, record: &SourceRecord<'a>) -> LogRecord<'a> {
        let rules = self.rules_of(&record.topic_partition.topic);
        let mut found = Collector::new(rules, false);
        let read = read(record, rules, &mut found);
        build(record, rules, read, &mut found)
    }

    /// What `record` says, where each field was found and by which rule.
    #[must_use]
    pub fn explain<'a>(&'a self, record: &SourceRecord<'a>) -> Explanation<'a> {
        let rules = self.rules_of(&record.topic_partition.topic);
        let mut found = Collector::new(rules, true);
        let read = read(record, rules, &mut found);
        explain::explain(record, rules, read, &mut found)
    }

    fn rules_of(&self, topic: &str) -> &TopicRules {
        let own = self.rules.topics.iter().find(|(pattern, _)| pattern.matches(topic));
        own.map_or(&self.rules.general, |(_, rules)| rules)
    }
}

/// How a value was read, apart from its fields.
#[derive(Clone, Debug, Default)]
struct Reading<'x> {
    format: Format,
    partial: SplitLine,
    batch: BatchLogs<'x>,
}

impl Reading<'_> {
    fn of(format: Format) -> Self {
        Self { format, ..Self::default() }
    }
}

/// The log records of a batch by tenant and service.
#[derive(Clone, Debug, Default)]
struct BatchLogs<'x> {
    logs: Vec<ResourceLogs<'x>>,
    /// Not all of them are of the same tenant.
    mixes_tenants: bool,
}

fn read<'a>(
    record: &SourceRecord<'a>,
    rules: &'a TopicRules,
    found: &mut Collector<'a>,
) -> Reading<'a> {
    let Some(bytes) = record.value.filter(|bytes| !bytes.is_empty()) else {
        return Reading::of(Format::Empty);
    };
    let (text, is_whole) = text_of(bytes);
    let body = text.trim_start_matches([' ', '\t', '\n', '\r', '\u{feff}']);
    let mut reading = match otlp::batch(body) {
        Some(batch) => read_batch(record, rules, &batch, found),
        None => read_text(body, &rules.table, found),
    };
    if reading.batch.logs.is_empty() {
        look_inside_message(rules, found);
    }
    let by_fields = facts::split_line(found);
    if by_fields.is_partial() {
        reading.partial = by_fields;
    }
    if !is_whole {
        reading.format = Format::Undecodable;
    }
    reading
}

fn read_text<'x>(body: &'x str, table: &NameTable, found: &mut Collector<'x>) -> Reading<'x> {
    if body.starts_with(['{', '[']) && json::scan(body, table, found).is_ok() {
        return Reading::of(Format::Json);
    }
    let (format, partial) = text::scan(body, table, found);
    Reading { partial, ..Reading::of(format) }
}

/// What `found` gets is the first log record's. Of a batch of several tenants it gets nothing: there
/// is no one whose record the whole is.
fn read_batch<'a>(
    record: &SourceRecord<'a>,
    rules: &'a TopicRules,
    batch: &otlp::Batch<'a>,
    found: &mut Collector<'a>,
) -> Reading<'a> {
    let logs = batch_logs(record, rules, &batch.resources);
    if let ([first, ..], false) = (&*batch.resources, logs.mixes_tenants) {
        found.add_below("resourceLogs.resource.");
        scan_what_is_there(first.resource, rules, found);
        found.add_below("resourceLogs.scopeLogs.logRecords.");
        scan_what_is_there(first.records[0].0, rules, found);
    }
    let format = if batch.is_whole { Format::Json } else { Format::Text };
    Reading { batch: logs, ..Reading::of(format) }
}

/// What breaks off keeps what was found before the break.
fn scan_what_is_there<'a>(text: &'a str, rules: &TopicRules, found: &mut Collector<'a>) {
    let _broken = json::scan(text, &rules.table, found);
}

/// The text fields are looked for in, and whether all of the value is UTF-8.
fn text_of(bytes: &[u8]) -> (&str, bool) {
    let (text, is_whole) = match std::str::from_utf8(bytes) {
        Ok(text) => (text, true),
        Err(error) => {
            let good = &bytes[..error.valid_up_to()];
            (std::str::from_utf8(good).expect("valid up to here"), false)
        }
    };
    (&text[..text.floor_char_boundary(SCAN_BYTES_MAX)], is_whole)
}

/// Container runtimes and shippers put a service's line into `log` or `message` as a string. What
/// stands in a message is believed over the record around it only in a container's line: anywhere
/// else it may be what a user typed.
fn look_inside_message(rules: &TopicRules, found: &mut Collector<'_>) {
    let Some(message) = found.message else { return };
    found.offer_gelf_level();
    if found.is_container_line() {
        return take_container_line(&message.decoded(), rules, found);
    }
    if message.text.starts_with('{') {
        if facts::is_own_record(found) {
            return;
        }
        let text = message.decoded();
        let mut inner = Collector::new(rules, found.wants_paths());
        if json::scan(&text, &rules.table, &mut inner).is_ok() {
            return found.fill_from(inner);
        }
    }
    if found.severity == Severity::Unknown && !facts::is_of_conversation(found) {
        let severity = text::level_of_message(&message.decoded());
        found.offer_severity(severity, severity.name(), Source::Text);
    }
}

fn take_container_line(line: &str, rules: &TopicRules, found: &mut Collector<'_>) {
    let mut inner = Collector::new(rules, found.wants_paths());
    match read_text(line.trim_start(), &rules.table, &mut inner).format {
        Format::Json => found.take_over(inner),
        _ => found.fill_from(inner),
    }
}

fn build<'a>(
    record: &SourceRecord<'a>,
    rules: &'a TopicRules,
    reading: Reading<'a>,
    found: &mut Collector<'a>,
) -> LogRecord<'a> {
    let table = &rules.table;
    let bot = facts::bot_fact(found);
    let staff_action = facts::staff_action(found, table);
    let latency_ms = facts::latency_ms(found, table);
    let tokens = facts::tokens(found);
    let rating = facts::number(found, FieldKind::Rating);
    let booking_value = facts::number(found, FieldKind::BookingValue);
    let tenant = if reading.batch.mixes_tenants {
        None
    } else {
        tenant(record, rules, found.take(FieldKind::Tenant))
    };
    let (severity, event_time) = (found.severity, found.event_time);
    let mut take = |kind| found.take(kind).map(|candidate| field(candidate, table));
    LogRecord {
        format: reading.format,
        severity,
        severity_field: take(FieldKind::Severity),
        event_time,
        event_time_field: take(FieldKind::EventTime),
        service: take(FieldKind::Service),
        tenant,
        event: take(FieldKind::Event),
        action: take(FieldKind::Action),
        actor: take(FieldKind::Actor),
        actor_type: take(FieldKind::ActorType),
        object: take(FieldKind::Object),
        object_type: take(FieldKind::ObjectType),
        outcome: take(FieldKind::Outcome),
        reason: take(FieldKind::Reason),
        session: take(FieldKind::Session),
        bot,
        staff_action,
        latency_ms,
        rating,
        tokens,
        booking_value,
        partial: reading.partial,
        batch: reading.batch.logs,
    }
}

/// Tenant, service and counts of the log records of a batch; equal ones are one.
fn batch_logs<'a>(
    record: &SourceRecord<'a>,
    rules: &'a TopicRules,
    batch: &[otlp::ResourceText<'a>],
) -> BatchLogs<'a> {
    let mut logs = BatchLogs::default();
    for resource in batch {
        let mut shared = Collector::new(rules, false);
        scan_what_is_there(resource.resource, rules, &mut shared);
        let says_all = shared.has(FieldKind::Tenant) && shared.has(FieldKind::Service);
        let alike = if says_all { resource.records.len() } else { 1 };
        for records in resource.records.chunks(alike) {
            let mut own = Collector::new(rules, false);
            scan_what_is_there(records[0].0, rules, &mut own);
            let mut take = |kind| shared.candidate(kind).cloned().or_else(|| own.take(kind));
            let (named, service) = (take(FieldKind::Tenant), take(FieldKind::Service));
            let mut severities: SeverityCounts = [0; _];
            for (_, severity) in records {
                let is_off = rules.is_off(FieldKind::Severity);
                let severity = if is_off { Severity::Unknown } else { *severity };
                severities[severity as usize] += 1;
            }
            logs.add(ResourceLogs {
                tenant: tenant(record, rules, named),
                service: service.map(|found| field(found, &rules.table)),
                event_time: own.event_time,
                severities,
            });
        }
    }
    logs
}

impl<'x> BatchLogs<'x> {
    fn add(&mut self, own: ResourceLogs<'x>) {
        let all = &mut self.logs;
        self.mixes_tenants |= all.first().is_some_and(|first| first.tenant != own.tenant);
        let same = |one: &ResourceLogs<'_>| one.tenant == own.tenant && one.service == own.service;
        match all.iter().position(same) {
            Some(at) => all[at].absorb(&own),
            None if all.len() < BATCH_RESOURCES_MAX => all.push(own),
            // The last place is for all that have no place of their own.
            None => {
                let last = all.last_mut().expect("the limit is above zero");
                (last.tenant, last.service) = (None, None);
                last.absorb(&own);
            }
        }
    }
}

fn field<'a>(candidate: Candidate<'a>, table: &'a NameTable) -> Field<'a> {
    Field { rule: rule(candidate.source, table), text: candidate.text }
}

fn rule(source: Source, table: &NameTable) -> Rule<'_> {
    match source {
        Source::Name(id) => Rule::Name(&table.name(id).path),
        Source::Text => Rule::Text,
        Source::LineHeader => Rule::LineHeader,
    }
}

/// The first source that gives an id.
fn tenant<'a>(
    record: &SourceRecord<'a>,
    rules: &'a TopicRules,
    mut found: Option<Candidate<'a>>,
) -> Option<TenantClaim<'a>> {
    rules.tenant.iter().find_map(|source| {
        let (id, assurance) = match source {
            TenantSource::Field => (field(found.take()?, &rules.table), Assurance::Claimed),
            TenantSource::Header { name, is_trusted } => {
                let header = record.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name))?;
                let text = tenant_text(header.value?)?;
                let assurance = if *is_trusted { Assurance::Verified } else { Assurance::Claimed };
                (Field { text, rule: Rule::Header }, assurance)
            }
            TenantSource::Key => {
                let text = tenant_text(record.key?)?;
                (Field { text, rule: Rule::Key }, Assurance::Claimed)
            }
            TenantSource::Topic { before, behind } => {
                let topic: &'a str = &record.topic_partition.topic;
                let id = topic.strip_prefix(&**before)?.strip_suffix(&**behind)?;
                let text = Cow::Borrowed(Some(id).filter(|id| !id.is_empty())?);
                (Field { text, rule: Rule::Topic }, Assurance::Verified)
            }
            TenantSource::Constant(constant) => {
                let text = Cow::Borrowed(&**constant);
                (Field { text, rule: Rule::Constant }, Assurance::Verified)
            }
        };
        Some(TenantClaim { id, assurance })
    })
}

fn tenant_text(bytes: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    (!text.is_empty()).then_some(Cow::Borrowed(text))
}

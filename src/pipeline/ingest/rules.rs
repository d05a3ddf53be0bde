//! Which names mean what, and where the tenant comes from: as written ([`RawIngestRules`]) and
//! checked ([`IngestRules`]). The defaults need no configuration.

use std::collections::BTreeMap;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::Deserialize;

use super::defaults;
use super::kind::FieldKind;
use super::names::{NameSpec, NameTable};
use crate::pipeline::limits::{
    FIELD_NAME_BYTES_MAX, FIELD_NAMES_MAX, FIELD_SEGMENTS_MAX, TOPIC_RULES_MAX,
};
use crate::pipeline::record::TenantId;

/// Rules as the configuration writes them.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct RawIngestRules {
    /// Names per kind of field; `"+defaults"` in a list stands for the built-in names.
    pub fields: RawFields,
    /// Where the tenant comes from.
    pub tenant: Option<RawTenant>,
    /// Zone of times that name none, by its name in the IANA database. Without it they are no event
    /// times: the record's Kafka timestamp stands in for them.
    pub time_zone: Option<String>,
    /// Rules of single topics, over the general ones. A `*` at the end matches any ending; the
    /// longest match wins. `"+defaults"` stands for the general names here.
    pub topics: BTreeMap<String, RawTopicRules>,
}

/// Rules of one topic, as written.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct RawTopicRules {
    /// Names per kind of field.
    pub fields: RawFields,
    /// Where the tenant comes from.
    pub tenant: Option<RawTenant>,
    /// Zone of times that name none.
    pub time_zone: Option<String>,
}

/// Key paths (`a.b` is the member `b` of `a`, or a key `a.b`) in order of priority. What is absent
/// keeps its defaults; an empty list switches the field off, in plain text and line headers too.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct RawFields {
    /// Severity.
    pub severity: Option<Vec<String>>,
    /// Event time.
    pub event_time: Option<Vec<String>>,
    /// Message: looked into for a nested record.
    pub message: Option<Vec<String>>,
    /// Service.
    pub service: Option<Vec<String>>,
    /// Tenant.
    pub tenant: Option<Vec<String>>,
    /// Event name.
    pub event: Option<Vec<String>>,
    /// Action.
    pub action: Option<Vec<String>>,
    /// Actor.
    pub actor: Option<Vec<String>>,
    /// Role or type of the actor.
    pub actor_type: Option<Vec<String>>,
    /// Object.
    pub object: Option<Vec<String>>,
    /// Type of the object.
    pub object_type: Option<Vec<String>>,
    /// Outcome.
    pub outcome: Option<Vec<String>>,
    /// Reason.
    pub reason: Option<Vec<String>>,
    /// Conversation or session.
    pub session: Option<Vec<String>>,
    /// Intent.
    pub intent: Option<Vec<String>>,
    /// Flag: handed over to a human.
    pub handover: Option<Vec<String>>,
    /// Flag: not understood.
    pub fallback: Option<Vec<String>>,
    /// Who speaks in a turn.
    pub role: Option<Vec<String>>,
    /// Duration; the unit is read from the name (`_ms`, `_seconds`, `_ns`) or the value.
    pub latency: Option<Vec<String>>,
    /// Rating.
    pub rating: Option<Vec<String>>,
    /// Prompt tokens.
    pub tokens_input: Option<Vec<String>>,
    /// Completion tokens.
    pub tokens_output: Option<Vec<String>>,
    /// All tokens.
    pub tokens_total: Option<Vec<String>>,
    /// Value of a booking.
    pub booking_value: Option<Vec<String>>,
}

impl RawFields {
    fn of(&self, kind: FieldKind) -> Option<&Vec<String>> {
        match kind {
            FieldKind::Severity => self.severity.as_ref(),
            FieldKind::EventTime => self.event_time.as_ref(),
            FieldKind::Message => self.message.as_ref(),
            FieldKind::Service => self.service.as_ref(),
            FieldKind::Tenant => self.tenant.as_ref(),
            FieldKind::Event => self.event.as_ref(),
            FieldKind::Action => self.action.as_ref(),
            FieldKind::Actor => self.actor.as_ref(),
            FieldKind::ActorType => self.actor_type.as_ref(),
            FieldKind::Object => self.object.as_ref(),
            FieldKind::ObjectType => self.object_type.as_ref(),
            FieldKind::Outcome => self.outcome.as_ref(),
            FieldKind::Reason => self.reason.as_ref(),
            FieldKind::Session => self.session.as_ref(),
            FieldKind::Intent => self.intent.as_ref(),
            FieldKind::Handover => self.handover.as_ref(),
            FieldKind::Fallback => self.fallback.as_ref(),
            FieldKind::Role => self.role.as_ref(),
            FieldKind::Latency => self.latency.as_ref(),
            FieldKind::Rating => self.rating.as_ref(),
            FieldKind::TokensInput => self.tokens_input.as_ref(),
            FieldKind::TokensOutput => self.tokens_output.as_ref(),
            FieldKind::TokensTotal => self.tokens_total.as_ref(),
            FieldKind::BookingValue => self.booking_value.as_ref(),
            FieldKind::StepName
            | FieldKind::Sender
            | FieldKind::Stream
            | FieldKind::Container
            | FieldKind::PartialFlag
            | FieldKind::PartialOrdinal
            | FieldKind::PartialLast => None,
        }
    }
}

/// Where the tenant comes from, as written.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct RawTenant {
    /// Sources in order; the first that gives an id wins. An empty list means no tenants.
    pub from: Vec<RawTenantSource>,
    /// Header name for `header`; any letter case.
    #[serde(default)]
    pub header: Option<String>,
    /// The header is set by something that producers cannot bypass: its tenant is verified.
    #[serde(default)]
    pub header_trusted: bool,
    /// Topic template for `topic`, as `logs.{tenant}.app`.
    #[serde(default)]
    pub topic: Option<String>,
    /// Tenant of every record, for `constant`.
    #[serde(default)]
    pub constant: Option<String>,
}

/// One source of tenants, as written.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawTenantSource {
    /// The names of `fields.tenant`.
    Field,
    /// A Kafka header.
    Header,
    /// The record key.
    Key,
    /// A part of the topic's name.
    Topic,
    /// The same for every record.
    Constant,
}

/// One source of tenants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TenantSource {
    Field,
    Header { name: Box<str>, is_trusted: bool },
    Key,
    Topic { before: Box<str>, behind: Box<str> },
    Constant(Box<str>),
}

/// Checked rules.
#[derive(Clone, Debug)]
pub struct IngestRules {
    pub(super) general: TopicRules,
    /// Longest pattern first.
    pub(super) topics: Vec<(TopicPattern, TopicRules)>,
}

#[derive(Clone, Debug)]
pub(super) struct TopicRules {
    pub(super) table: NameTable,
    pub(super) tenant: Vec<TenantSource>,
    zone: Option<TimeZone>,
    off: [bool; FieldKind::COUNT],
}

impl TopicRules {
    fn new(names: &Names, tenant: Vec<TenantSource>, zone: Option<TimeZone>) -> Self {
        let off = FieldKind::ALL.map(|kind| names[&kind].is_empty());
        Self { table: NameTable::new(names), tenant, zone, off }
    }

    /// Whether the field is switched off.
    pub(super) fn is_off(&self, kind: FieldKind) -> bool {
        self.off[kind as usize]
    }

    /// That of times that name none, if it is known.
    pub(super) fn zone(&self) -> Option<&TimeZone> {
        self.zone.as_ref()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicPattern {
    text: Box<str>,
    is_prefix: bool,
}

impl TopicPattern {
    fn new(written: &str) -> Self {
        let text = written.strip_suffix('*');
        Self { is_prefix: text.is_some(), text: text.unwrap_or(written).into() }
    }

    pub(super) fn matches(&self, topic: &str) -> bool {
        if self.is_prefix { topic.starts_with(&*self.text) } else { topic == &*self.text }
    }
}

/// Rules that cannot be used; the message begins with the key path below the section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct IngestRulesError {
    /// Key path below the section, as `topics."app.*".fields.severity[1]`.
    pub path: String,
    /// What is wrong with the value there.
    pub problem: IngestRulesProblem,
}

/// What can be wrong with ingest rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IngestRulesProblem {
    /// An empty name, or one with an empty segment.
    #[error("a key path needs text on both sides of each dot")]
    EmptySegment,
    /// A name over the limit.
    #[error("a key path has at most {FIELD_NAME_BYTES_MAX} bytes")]
    NameTooLong,
    /// A list over the limit.
    #[error("at most {FIELD_NAMES_MAX} names")]
    TooManyNames,
    /// Names that are longer together than the table can number.
    #[error("all key paths together have at most {FIELD_SEGMENTS_MAX} dotted parts")]
    TooManySegments,
    /// Topics over the limit.
    #[error("at most {TOPIC_RULES_MAX} topics")]
    TooManyTopics,
    /// An unknown `+word`.
    #[error("`{0}` is no list of names; only `+defaults` is")]
    UnknownList(String),
    /// A source without its setting.
    #[error("source `{source_name}` needs `{setting}`")]
    MissingSetting {
        /// The source.
        source_name: &'static str,
        /// The setting it needs.
        setting: &'static str,
    },
    /// A topic template without exactly one `{tenant}`.
    #[error("needs `{{tenant}}` exactly once, as in `logs.{{tenant}}.app`")]
    BadTemplate,
    /// A zone that is not in the database.
    #[error("`{0}` is no time zone; they are named as `UTC` or `Asia/Kolkata`")]
    UnknownTimeZone(String),
    /// A constant that is no tenant id.
    #[error("a tenant id has 1 to 128 bytes")]
    BadConstant,
}

impl Default for IngestRules {
    fn default() -> Self {
        Self::new(&RawIngestRules::default()).expect("the built-in rules are sound")
    }
}

impl IngestRules {
    /// Checks and compiles `raw`.
    ///
    /// # Errors
    /// The first key path that cannot be used, and why.
    pub fn new(raw: &RawIngestRules) -> Result<Self, IngestRulesError> {
        let built_in = FieldKind::ALL.map(|kind| (kind, defaults::names_of(kind))).into();
        let names = layered(&built_in, &raw.fields, "fields")?;
        let default_tenant = vec![TenantSource::Field];
        let tenant = tenant_sources(raw.tenant.as_ref(), &default_tenant, "tenant")?;
        let zone = time_zone(raw.time_zone.as_deref(), None, "")?;
        if raw.topics.len() > TOPIC_RULES_MAX {
            return Err(error("topics".to_owned(), IngestRulesProblem::TooManyTopics));
        }
        let mut topics = Vec::with_capacity(raw.topics.len());
        for (pattern, rules) in &raw.topics {
            let path = format!("topics.\"{pattern}\"");
            let names = layered(&names, &rules.fields, &format!("{path}.fields"))?;
            let tenant = tenant_sources(rules.tenant.as_ref(), &tenant, &format!("{path}.tenant"))?;
            let zone = time_zone(rules.time_zone.as_deref(), zone.as_ref(), &path)?;
            let rules = TopicRules::new(&names, tenant, zone);
            topics.push((TopicPattern::new(pattern), rules));
        }
        topics
            .sort_by_key(|(pattern, _)| (std::cmp::Reverse(pattern.text.len()), pattern.is_prefix));
        Ok(Self { general: TopicRules::new(&names, tenant, zone), topics })
    }
}

type Names = BTreeMap<FieldKind, Vec<NameSpec>>;

fn layered(below: &Names, raw: &RawFields, path: &str) -> Result<Names, IngestRulesError> {
    let mut names = below.clone();
    for (kind, list) in FieldKind::ALL.iter().filter_map(|kind| Some((*kind, raw.of(*kind)?))) {
        let path = format!("{path}.{}", kind.name());
        let mut specs = Vec::with_capacity(list.len());
        for (index, name) in list.iter().enumerate() {
            let at = || format!("{path}[{index}]");
            match name.strip_prefix('+') {
                Some("defaults") => specs.extend_from_slice(&below[&kind]),
                Some(_) => {
                    return Err(error(at(), IngestRulesProblem::UnknownList(name.clone())));
                }
                None => specs.push(name_spec(name).map_err(|problem| error(at(), problem))?),
            }
        }
        if specs.len() > FIELD_NAMES_MAX {
            return Err(error(path, IngestRulesProblem::TooManyNames));
        }
        names.insert(kind, specs);
        let segments = names.values().flatten().map(|name| name.path.split('.').count());
        if segments.sum::<usize>() > FIELD_SEGMENTS_MAX {
            return Err(error(path, IngestRulesProblem::TooManySegments));
        }
    }
    Ok(names)
}

fn name_spec(name: &str) -> Result<NameSpec, IngestRulesProblem> {
    if name.len() > FIELD_NAME_BYTES_MAX {
        return Err(IngestRulesProblem::NameTooLong);
    }
    if name.split('.').any(str::is_empty) {
        return Err(IngestRulesProblem::EmptySegment);
    }
    Ok(NameSpec { path: name.into(), weak: false, is_configured: true })
}

/// The zone named at `path`, else that of the rules below.
fn time_zone(
    name: Option<&str>,
    below: Option<&TimeZone>,
    path: &str,
) -> Result<Option<TimeZone>, IngestRulesError> {
    let Some(name) = name else { return Ok(below.cloned()) };
    let path = format!("{path}.time_zone");
    TimeZoneDatabase::bundled().get(name).map(Some).map_err(|_| {
        let problem = IngestRulesProblem::UnknownTimeZone(name.to_owned());
        error(path.trim_start_matches('.').to_owned(), problem)
    })
}

fn tenant_sources(
    raw: Option<&RawTenant>,
    below: &[TenantSource],
    path: &str,
) -> Result<Vec<TenantSource>, IngestRulesError> {
    let Some(raw) = raw else { return Ok(below.to_vec()) };
    let sources = raw.from.iter().enumerate();
    sources
        .map(|(index, source)| {
            tenant_source(*source, raw).map_err(|(setting, problem)| {
                let at = match setting {
                    Some(setting) => format!("{path}.{setting}"),
                    None => format!("{path}.from[{index}]"),
                };
                error(at, problem)
            })
        })
        .collect()
}

fn tenant_source(
    source: RawTenantSource,
    raw: &RawTenant,
) -> Result<TenantSource, (Option<&'static str>, IngestRulesProblem)> {
    let missing =
        |name| (None, IngestRulesProblem::MissingSetting { source_name: name, setting: name });
    match source {
        RawTenantSource::Field => Ok(TenantSource::Field),
        RawTenantSource::Key => Ok(TenantSource::Key),
        RawTenantSource::Header => {
            let name = raw.header.as_deref().filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| missing("header"))?.into();
            Ok(TenantSource::Header { name, is_trusted: raw.header_trusted })
        }
        RawTenantSource::Topic => {
            let template = raw.topic.as_deref().ok_or_else(|| missing("topic"))?;
            match template.split("{tenant}").collect::<Vec<_>>().as_slice() {
                [before, behind] => {
                    Ok(TenantSource::Topic { before: (*before).into(), behind: (*behind).into() })
                }
                _ => Err((Some("topic"), IngestRulesProblem::BadTemplate)),
            }
        }
        RawTenantSource::Constant => {
            let constant = raw.constant.as_deref().ok_or_else(|| missing("constant"))?;
            TenantId::new(constant).ok_or((Some("constant"), IngestRulesProblem::BadConstant))?;
            Ok(TenantSource::Constant(constant.into()))
        }
    }
}

fn error(path: String, problem: IngestRulesProblem) -> IngestRulesError {
    IngestRulesError { path, problem }
}

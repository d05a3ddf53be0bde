//! `explain`: what was found in a record, under which key path, by which rule. Values stay masked
//! until somebody asks for them by name.

use std::fmt;

use super::collect::{Collector, Source};
use super::facts;
use super::kind::FieldKind;
use super::log_record::{BotFact, Format, LogRecord, Rule, SplitLine, StaffAction, TenantClaim};
use super::rules::TopicRules;
use super::{Reading, build, rule};
use crate::pipeline::record::{Severity, SourceRecord, Timestamp};

/// Text that may hold personal data.
#[derive(Clone, PartialEq, Eq)]
pub struct MaskedText(String);

impl MaskedText {
    /// The text itself. Call this only where the user has asked to see it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Its length in bytes, which may be shown.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for MaskedText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "MaskedText({} bytes)", self.0.len())
    }
}

/// One field that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding<'a> {
    /// What it means.
    pub kind: FieldKind,
    /// The key path it stands under, as the record writes it; `None` outside keyed text. Steps
    /// into a nested record are part of the path (`log.level` of `{"log":"{\"level\":..}"}`).
    pub path: Option<String>,
    /// The rule that found it.
    pub rule: Rule<'a>,
    /// Its value.
    pub value: MaskedText,
}

/// What was found in one record, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation<'a> {
    /// How the value was read.
    pub format: Format,
    /// The severity that counts.
    pub severity: Severity,
    /// The record's own time, in UTC.
    pub event_time: Option<Timestamp>,
    /// Fields, in the order of [`FieldKind::ALL`].
    pub findings: Vec<Finding<'a>>,
    /// The tenant that counts, whatever its source.
    pub tenant: Option<TenantClaim<'a>>,
    /// What a bot reported.
    pub bot: Option<BotFact>,
    /// Whether somebody acted.
    pub staff_action: Option<StaffAction>,
    /// Whether the record is a piece of a longer line.
    pub partial: SplitLine,
}

impl Explanation<'_> {
    /// The finding of `kind`, if there is one.
    #[must_use]
    pub fn finding(&self, kind: FieldKind) -> Option<&Finding<'_>> {
        self.findings.iter().find(|finding| finding.kind == kind)
    }
}

pub(super) fn explain<'a>(
    record: &SourceRecord<'a>,
    rules: &'a TopicRules,
    reading: Reading<'a>,
    found: &mut Collector<'a>,
) -> Explanation<'a> {
    let table = &rules.table;
    let findings = FieldKind::ALL
        .iter()
        .filter(|kind| **kind != FieldKind::Message || found.message.is_some())
        .filter_map(|kind| {
            let candidate = found.candidate(*kind)?;
            let is_keyed = matches!(candidate.source, Source::Name(_));
            let value = match kind {
                FieldKind::Message => found.message?.decoded().into_owned(),
                _ => candidate.text.clone().into_owned(),
            };
            Some(Finding {
                kind: *kind,
                path: found.path_of(*kind).filter(|_| is_keyed).map(str::to_owned),
                rule: rule(candidate.source, table),
                value: MaskedText(value),
            })
        })
        .collect();
    let (bot, staff_action) = (facts::bot_fact(found), facts::staff_action(found, table));
    let LogRecord { format, severity, event_time, tenant, partial, .. } =
        build(record, rules, reading, found);
    Explanation { format, severity, event_time, findings, tenant, bot, staff_action, partial }
}

//! `blotter explain`: what the rules find in one record, and why the redactor decides as it does.
//! Never a value, unless asked for.

use std::fmt::Write as _;
use std::io::{self, Read};
use std::sync::Arc;

use clap::Args;

use super::exit::{Exit, Failure};
use super::records::{Lens, split_end};
use super::redact::RulesArguments;
use super::{Common, print};
use crate::pipeline::ingest::{Explanation, Rule, StaffAction};
use crate::pipeline::limits::RECORD_BYTES_MAX;
use crate::pipeline::record::SourceRecord;
use crate::pipeline::redact::token::kind_name;
use crate::pipeline::redact::{Considered, Disposition, Report, Scope, SurfaceClass};

/// Candidates that are let stand and are printed: a long record has thousands.
const CANDIDATES_SHOWN_MAX: usize = 200;

const IN_MEMORY: &str = "writing to a string does not fail";

#[derive(Debug, Args)]
pub(super) struct ExplainArguments {
    #[command(flatten)]
    rules: RulesArguments,
    /// Show the values too
    #[arg(long)]
    show_values: bool,
}

pub(super) fn run(common: &Common, arguments: &ExplainArguments) -> Result<Exit, Failure> {
    let settings = arguments.rules.settings(common.load(Vec::new())?)?;
    let mut lens = arguments.rules.lens(&settings, Arc::clone(&settings.policy))?;
    let mut input = Vec::new();
    let limit = RECORD_BYTES_MAX as u64 + 2;
    io::stdin()
        .lock()
        .take(limit)
        .read_to_end(&mut input)
        .map_err(|error| Failure::io("stdin", &error))?;
    let source = arguments.rules.source();
    let record = source.record(split_end(&input).0, 0);
    print(&explain(&mut lens, &record, arguments.show_values))?;
    Ok(Exit::Success)
}

fn explain(lens: &mut Lens, record: &SourceRecord<'_>, show_values: bool) -> String {
    let value = record.value.unwrap_or_default();
    let facts = lens.facts(record);
    let identities = facts.identities();
    let scope = Scope { identities: &identities, ..facts.scope(record) };
    let (report, considered) = lens.redactor().explain(&scope, value);
    let secrets: Vec<&[u8]> = lens
        .redactor()
        .findings()
        .iter()
        .filter_map(|finding| value.get(finding.start..finding.end))
        .collect();
    let explanation = lens.ingest().explain(record);
    let mut text = fields(&explanation, &secrets, show_values);
    text.push_str(&facts_found(&explanation));
    let tenant = facts
        .tenant
        .as_ref()
        .map_or("none", |tenant| if show_values { tenant.as_str() } else { "known" });
    let rules =
        lens.redactor().policy().rules(&record.topic_partition.topic, facts.tenant.as_ref());
    let regions: Vec<&str> = rules.regions().iter().map(|region| region.code()).collect();
    let regions = if regions.is_empty() { "none".to_owned() } else { regions.join(" ") };
    writeln!(
        text,
        "\nredaction: {} (strictness {:?}, regions {regions}, tenant {tenant})",
        disposition(&report),
        rules.strictness(),
    )
    .expect(IN_MEMORY);
    let lossy = String::from_utf8_lossy(value);
    let paths = super::field_path::field_paths(lossy.as_bytes(), lens.redactor().findings());
    let mut paths = paths.into_iter();
    let mut standing = 0;
    for one in &considered {
        let path = if one.is_redacted { paths.next() } else { None };
        standing += usize::from(!one.is_redacted);
        if one.is_redacted || standing <= CANDIDATES_SHOWN_MAX {
            let kind = kind_name(one.kind, lens.redactor().policy()).to_owned();
            text.push_str(&candidate(one, &kind, path.as_deref(), show_values.then_some(&lossy)));
        }
    }
    if standing > CANDIDATES_SHOWN_MAX {
        let more = standing - CANDIDATES_SHOWN_MAX;
        writeln!(text, "  and {more} more candidates that stand").expect(IN_MEMORY);
    }
    if considered.is_empty() {
        text.push_str("  no candidates\n");
    }
    text
}

/// What ingest found, by field, path and rule.
fn fields(explanation: &Explanation<'_>, secrets: &[&[u8]], show_values: bool) -> String {
    let mut text = format!("format: {}\n", explanation.format.name());
    for finding in &explanation.findings {
        let path =
            finding.path.as_deref().map_or_else(|| "-".to_owned(), |path| masked(path, secrets));
        let rule = rule_name(&finding.rule);
        write!(text, "  {:14} at {path:28} by {rule}", finding.kind.name()).expect(IN_MEMORY);
        if show_values {
            write!(text, " = {:?}", finding.value.reveal()).expect(IN_MEMORY);
        }
        text.push('\n');
    }
    if let Some(claim) = &explanation.tenant
        && !matches!(claim.id.rule, Rule::Name(_))
    {
        let rule = rule_name(&claim.id.rule);
        write!(text, "  {:14} at {:28} by {rule}", "tenant", "-").expect(IN_MEMORY);
        if show_values {
            write!(text, " = {:?}", claim.id.as_str()).expect(IN_MEMORY);
        }
        text.push('\n');
    }
    if explanation.findings.is_empty() {
        text.push_str("  no fields\n");
    }
    text
}

/// What follows from the fields: closed sets of words only.
fn facts_found(explanation: &Explanation<'_>) -> String {
    let mut text = format!("severity: {}\n", explanation.severity.name());
    if let Some(claim) = &explanation.tenant {
        writeln!(text, "tenant: {}", claim.assurance.name()).expect(IN_MEMORY);
    }
    if let Some(bot) = &explanation.bot {
        writeln!(text, "bot: {bot:?}").expect(IN_MEMORY);
    }
    if let Some(action) = &explanation.staff_action {
        let note = match action {
            StaffAction::Explicit => "explicit",
            StaffAction::Inferred => "inferred, not audited",
        };
        writeln!(text, "staff action: {note}").expect(IN_MEMORY);
    }
    if explanation.partial.is_partial() {
        writeln!(text, "piece of a longer line: {:?}", explanation.partial).expect(IN_MEMORY);
    }
    text
}

fn candidate(
    one: &Considered,
    kind: &str,
    path: Option<&str>,
    values: Option<&impl AsRef<str>>,
) -> String {
    let decision = if one.is_redacted { "redacted" } else { "stands" };
    let class = SurfaceClass::of(one.position).name();
    let mut text = format!(
        "  {decision:9} {kind:7} bytes {}..{} ({class}) score {}",
        one.start, one.end, one.score
    );
    if let Some(path) = path.filter(|path| !path.is_empty()) {
        write!(text, " at {path}").expect(IN_MEMORY);
    }
    if let Some(value) = values.and_then(|text| text.as_ref().get(one.start..one.end)) {
        write!(text, " = {value:?}").expect(IN_MEMORY);
    }
    let rules: Vec<String> =
        one.rules.iter().map(|rule| format!("{} {:+}", rule.name, rule.weight)).collect();
    writeln!(text, "\n            {}", rules.join(", ")).expect(IN_MEMORY);
    text
}

fn disposition(report: &Report) -> String {
    match report.disposition {
        Disposition::Clean => "nothing found".to_owned(),
        Disposition::Redacted => format!("{} found", report.total()),
        Disposition::StrictMasked(reason) => format!("masked strictly: {}", reason.name()),
        Disposition::NotText(name) => format!("not text: {name}"),
        Disposition::MissingKeyEpoch => "no key for the record's time".to_owned(),
    }
}

/// A key path without what is redacted in it.
fn masked(path: &str, secrets: &[&[u8]]) -> String {
    let mut path = path.to_owned();
    for secret in secrets.iter().filter_map(|secret| std::str::from_utf8(secret).ok()) {
        if !secret.is_empty() && path.contains(secret) {
            path = path.replace(secret, "[key]");
        }
    }
    path.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

fn rule_name(rule: &Rule<'_>) -> String {
    match rule {
        Rule::Name(path) => format!("name {path}"),
        Rule::Text => "text".to_owned(),
        Rule::LineHeader => "line header".to_owned(),
        Rule::Header => "record header".to_owned(),
        Rule::Key => "record key".to_owned(),
        Rule::Topic => "topic".to_owned(),
        Rule::Constant => "setting".to_owned(),
    }
}

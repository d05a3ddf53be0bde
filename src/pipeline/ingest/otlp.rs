//! OTLP in JSON: one Kafka record holds the log records of several resources (services, tenants),
//! taken apart here, so that no error hides behind the first one or another's name.
//!
//! Source: opentelemetry-proto, `logs/v1/logs.proto`, in the JSON mapping of the OTLP specification
//! (`severityNumber` a number or the enum's name).

use super::json::quote_or_backslash;
use super::names::Unit;
use super::severity::severity_of;
use crate::pipeline::record::Severity;

/// Log records by severity, in the order of [`Severity::ALL`].
pub type SeverityCounts = [u32; Severity::ALL.len()];

/// What one Kafka record holds.
pub(super) struct Batch<'x> {
    /// Those that have log records; at least one.
    pub(super) resources: Vec<ResourceText<'x>>,
    /// Nothing broke off and nothing follows.
    pub(super) is_whole: bool,
}

/// Log records and the resource they came from.
#[derive(Default)]
pub(super) struct ResourceText<'x> {
    /// The resource's own object, empty if it has none.
    pub(super) resource: &'x str,
    /// The object of each log record, with its severity; at least one.
    pub(super) records: Vec<(&'x str, Severity)>,
}

/// The batch in `text`; none when it is no OTLP or empty. What breaks off keeps what came before the
/// break.
pub(super) fn batch(text: &str) -> Option<Batch<'_>> {
    let mut walk = Walk { text, depth: 1, ..Walk::default() };
    if !walk.is_otlp()? {
        return None;
    }
    while walk.step().is_some() {}
    walk.end_resource();
    let is_whole = walk.depth == 0 && walk.next_byte().is_none();
    (!walk.resources.is_empty()).then_some(Batch { resources: walk.resources, is_whole })
}

/// Depth of the object that holds a resource and its log records: in the list, in the whole.
const RESOURCE_DEPTH: usize = 3;

/// One pass over the text, strings stepped over as wholes.
#[derive(Default)]
struct Walk<'x> {
    text: &'x str,
    at: usize,
    /// Objects and arrays that are open.
    depth: usize,
    /// Depth inside the list of log records, while in one.
    list: Option<usize>,
    /// Where the object of a resource begins, while in one.
    resource_at: Option<usize>,
    /// Where the log record that is open begins.
    record_at: usize,
    /// Severity of the log record that is open.
    of_record: Option<Severity>,
    /// What is open.
    open: ResourceText<'x>,
    resources: Vec<ResourceText<'x>>,
}

impl<'x> Walk<'x> {
    /// Whether it begins as OTLP does. Leaves behind the first name.
    fn is_otlp(&mut self) -> Option<bool> {
        if self.next_byte()? != b'{' {
            return None;
        }
        self.at += 1;
        Some(self.next_byte()? == b'"' && self.string()? == "resourceLogs")
    }

    fn step(&mut self) -> Option<()> {
        if self.depth == 0 {
            return None;
        }
        match self.next_byte()? {
            b'"' => {
                let name = self.string()?;
                if self.next_byte()? == b':' {
                    self.at += 1;
                    self.member(name)?;
                }
                return Some(());
            }
            b'{' | b'[' => {
                self.depth += 1;
                if self.list.is_some_and(|list| self.depth == list + 1) {
                    self.record_at = self.at;
                }
            }
            b'}' | b']' => self.close()?,
            _ => {}
        }
        self.at += 1;
        Some(())
    }

    /// Behind the colon of a member.
    fn member(&mut self, name: &str) -> Option<()> {
        let value = self.next_byte()?;
        match (name, self.list) {
            ("logRecords", None) if value == b'[' => self.list = Some(self.depth + 1),
            ("resource", None) if value == b'{' && self.depth == RESOURCE_DEPTH => {
                self.resource_at = Some(self.at);
            }
            ("severityNumber" | "severityText", Some(list)) if self.depth == list + 1 => {
                let text = if value == b'"' { self.string()? } else { self.scalar() };
                let severity = severity_of(text, Unit::OtelSeverity);
                if self.of_record.is_none() && severity != Severity::Unknown {
                    self.of_record = Some(severity);
                }
            }
            _ => {}
        }
        Some(())
    }

    fn close(&mut self) -> Option<()> {
        if self.depth == RESOURCE_DEPTH {
            self.end_resource();
        }
        self.depth = self.depth.checked_sub(1)?;
        match self.list {
            Some(list) if self.depth == list => {
                let severity = self.of_record.take().unwrap_or_default();
                self.open.records.push((self.text.get(self.record_at..=self.at)?, severity));
            }
            Some(list) if self.depth < list => self.list = None,
            None if self.depth == RESOURCE_DEPTH => {
                if let Some(start) = self.resource_at.take() {
                    self.open.resource = self.text.get(start..=self.at)?;
                }
            }
            _ => {}
        }
        Some(())
    }

    fn end_resource(&mut self) {
        let ended = std::mem::take(&mut self.open);
        if !ended.records.is_empty() {
            self.resources.push(ended);
        }
    }

    /// The next byte that is no white space.
    fn next_byte(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        self.at += rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
        self.text.as_bytes().get(self.at).copied()
    }

    /// At a quote: what stands up to the closing one, escapes as written. Leaves behind it.
    fn string(&mut self) -> Option<&'x str> {
        let start = self.at + 1;
        let mut end = start;
        loop {
            end = quote_or_backslash(self.text.as_bytes(), end)?;
            if self.text.as_bytes()[end] == b'"' {
                self.at = end + 1;
                return self.text.get(start..end);
            }
            end += 2;
        }
    }

    /// At a number: its digits. Stays.
    fn scalar(&self) -> &'x str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        &rest[..digits]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The severities of each resource.
    fn severities(text: &str) -> Vec<Vec<Severity>> {
        let of = |resource: ResourceText<'_>| {
            assert!(resource.resource.is_empty() || resource.resource.starts_with('{'));
            assert!(resource.resource.is_empty() || resource.resource.ends_with('}'));
            let records = resource.records.into_iter();
            let severity = |(text, severity): (&str, _)| {
                assert!(text.starts_with('{') && text.ends_with('}'), "{text}");
                severity
            };
            records.map(severity).collect()
        };
        batch(text).map_or(Vec::new(), |batch| batch.resources.into_iter().map(of).collect())
    }

    #[test]
    fn every_log_record_has_its_own_severity_and_resource() {
        let text = r#" {"resourceLogs": [
            {"resource":{"attributes":[{"key":"severityNumber","value":{"intValue":"17"}}]},
             "scopeLogs":[{"scope":{},"logRecords":[
                {"severityNumber":9,"body":{"stringValue":"\"severityNumber\":17 } ] {"}},
                {"severityText":"ERROR","attributes":[{"key":"logRecords","value":{"arrayValue":{"values":[{"stringValue":"x"}]}}}]},
                {"body":{"stringValue":"no severity"},"x":{"severityNumber":17}}]},
              {"logRecords":[{"severityNumber":"SEVERITY_NUMBER_WARN2"}, {"severityNumber":17,"severityText":"INFO"}]}]},
            {"resource":{},"scopeLogs":[]},
            {"scopeLogs":[{"logRecords":[{"severityNumber":21},{"severityNumber":18}]}]}]}"#;
        use Severity::{Error, Fatal, Info, Unknown, Warn};
        let expected = [vec![Info, Error, Unknown, Warn, Error], vec![Fatal, Error]];
        assert_eq!(severities(text), expected);
        let whole = batch(text).unwrap();
        assert!(whole.is_whole);
        let resources = whole.resources.iter().map(|one| one.resource.len() > 2);
        assert_eq!(resources.collect::<Vec<_>>(), [true, false]);
        // What breaks off keeps what came before.
        let cut = &text[..text.find("SEVERITY_NUMBER_WARN2").unwrap()];
        assert_eq!(severities(cut), [[Info, Error, Unknown]]);
        assert!(!batch(cut).unwrap().is_whole);
        assert!(!batch(&format!("{text} x")).unwrap().is_whole);
    }

    #[test]
    fn what_is_not_otlp_is_not_counted() {
        for text in [
            "",
            "{",
            "{}",
            r#"{"resourceLogs":[]}"#,
            r#"{"logRecords":[{"severityNumber":17}]}"#,
            r#"{"message":"x","resourceLogs":[{"logRecords":[{}]}]}"#,
            r#"["resourceLogs"]"#,
            r#"{"resourceLogs":]]]]}"#,
        ] {
            assert!(severities(text).is_empty(), "{text}");
        }
    }
}

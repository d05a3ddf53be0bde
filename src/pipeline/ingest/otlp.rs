//! OTLP in JSON: one Kafka record holds the log records of several resources (services, tenants).
//! Ingest reports the first log record's fields; the severities are counted one by one, under the
//! resource they came from, so that no error hides behind the first record or another's name.
//!
//! Source: opentelemetry-proto, `logs/v1/logs.proto`, in the JSON mapping of the OTLP specification
//! (`severityNumber` a number or the enum's name).

use super::json::quote_or_backslash;
use super::names::Unit;
use super::severity::severity_of;
use crate::pipeline::record::Severity;

/// Log records by severity, in the order of [`Severity::ALL`].
pub type SeverityCounts = [u32; Severity::ALL.len()];

/// The resources in `text` that have log records, each as the object it stands in; none when it is
/// no OTLP. What breaks off keeps what was counted before the break.
pub(super) fn resources(text: &str) -> Vec<(&str, SeverityCounts)> {
    let mut walk = Walk { text, at: 0, depth: 1, start: None, ..Walk::default() };
    if walk.is_otlp() != Some(true) {
        return Vec::new();
    }
    while walk.step().is_some() {}
    walk.end_resource(text.len());
    walk.resources
}

/// Depth of a resource's object: in the list, in the whole.
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
    /// Of the resource that is open, which starts here.
    counts: SeverityCounts,
    start: Option<usize>,
    /// Severity of the log record that is open.
    of_record: Option<Severity>,
    resources: Vec<(&'x str, SeverityCounts)>,
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
                if self.depth == RESOURCE_DEPTH {
                    self.start = Some(self.at);
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
            self.end_resource(self.at + 1);
        }
        self.depth = self.depth.checked_sub(1)?;
        match self.list {
            Some(list) if self.depth == list => {
                let severity = self.of_record.take().unwrap_or_default();
                self.counts[severity as usize] += 1;
            }
            Some(list) if self.depth < list => self.list = None,
            _ => {}
        }
        Some(())
    }

    fn end_resource(&mut self, end: usize) {
        let counts = std::mem::take(&mut self.counts);
        let text = self.start.take().and_then(|start| self.text.get(start..end));
        if let (Some(text), true) = (text, counts != [0; _]) {
            self.resources.push((text, counts));
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

    /// What each resource counted.
    fn counted(text: &str) -> Vec<Vec<(Severity, u32)>> {
        let all = resources(text).into_iter().map(|(own, counts)| {
            assert!(own.starts_with('{'));
            let pairs = Severity::ALL.into_iter().zip(counts);
            pairs.filter(|(_, count)| *count > 0).collect()
        });
        all.collect()
    }

    #[test]
    fn every_log_record_counts_under_its_own_severity() {
        let text = r#" {"resourceLogs": [
            {"resource":{"attributes":[{"key":"severityNumber","value":{"intValue":"17"}}]},
             "scopeLogs":[{"scope":{},"logRecords":[
                {"severityNumber":9,"body":{"stringValue":"\"severityNumber\":17 } ] {"}},
                {"severityText":"ERROR","attributes":[{"key":"logRecords","value":{"arrayValue":{"values":[{"stringValue":"x"}]}}}]},
                {"body":{"stringValue":"no severity"},"x":{"severityNumber":17}}]},
              {"logRecords":[{"severityNumber":"SEVERITY_NUMBER_WARN2"}, {"severityNumber":17,"severityText":"INFO"}]}]},
            {"resource":{},"scopeLogs":[]},
            {"scopeLogs":[{"logRecords":[{"severityNumber":21},{"severityNumber":18}]}]}]}"#;
        let first = vec![
            (Severity::Unknown, 1),
            (Severity::Info, 1),
            (Severity::Warn, 1),
            (Severity::Error, 2),
        ];
        let last = vec![(Severity::Error, 1), (Severity::Fatal, 1)];
        assert_eq!(counted(text), [first, last]);
        // What breaks off keeps what came before.
        let cut = &text[..text.find("SEVERITY_NUMBER_WARN2").unwrap()];
        assert_eq!(counted(cut)[0].iter().map(|(_, count)| count).sum::<u32>(), 3);
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
            assert!(counted(text).is_empty(), "{text}");
        }
    }
}

//! OTLP in JSON: one Kafka record holds many log records, of which ingest reports the first one's
//! fields. Their severities are counted one by one, so that no error hides behind the first record.
//!
//! Source: opentelemetry-proto, `logs/v1/logs.proto`, in the JSON mapping of the OTLP specification
//! (`severityNumber` a number or the enum's name).

use super::json::quote_or_backslash;
use super::names::Unit;
use super::severity::severity_of;
use crate::pipeline::record::Severity;

/// Log records by severity, in the order of [`Severity::ALL`].
pub type SeverityCounts = [u32; Severity::ALL.len()];

/// The severities of the log records in `text`; `None` when it is no OTLP or holds none. What breaks
/// off keeps what was counted before the break.
pub(super) fn severities(text: &str) -> Option<SeverityCounts> {
    let mut walk = Walk { text, at: 0, depth: 0, list: None, counts: [0; _], of_record: None };
    if walk.next_byte()? != b'{' {
        return None;
    }
    walk.at += 1;
    if walk.next_byte()? != b'"' || walk.string()? != "resourceLogs" {
        return None;
    }
    walk.depth = 1;
    while walk.step().is_some() {}
    (walk.counts != [0; _]).then_some(walk.counts)
}

/// One pass over the text, strings stepped over as wholes.
struct Walk<'x> {
    text: &'x str,
    at: usize,
    /// Objects and arrays that are open.
    depth: usize,
    /// Depth inside the list of log records, while in one.
    list: Option<usize>,
    counts: SeverityCounts,
    /// Severity of the log record that is open.
    of_record: Option<Severity>,
}

impl<'x> Walk<'x> {
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
            b'{' | b'[' => self.depth += 1,
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

    fn counted(text: &str) -> Option<Vec<(Severity, u32)>> {
        let counts = severities(text)?;
        let pairs = Severity::ALL.into_iter().zip(counts);
        Some(pairs.filter(|(_, count)| *count > 0).collect())
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
            {"scopeLogs":[{"logRecords":[{"severityNumber":21},{"severityNumber":18}]}]}]}"#;
        let expected = vec![
            (Severity::Unknown, 1),
            (Severity::Info, 1),
            (Severity::Warn, 1),
            (Severity::Error, 3),
            (Severity::Fatal, 1),
        ];
        assert_eq!(counted(text), Some(expected));
        // What breaks off keeps what came before.
        let cut = &text[..text.find("SEVERITY_NUMBER_WARN2").unwrap()];
        assert_eq!(counted(cut).unwrap().iter().map(|(_, count)| count).sum::<u32>(), 3);
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
            assert_eq!(counted(text), None, "{text}");
        }
    }
}

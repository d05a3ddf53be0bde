//! Severity from numbers and words. The name of the field decides which scale a number is on; a
//! bare `level: 3` could be syslog, Windows or a game and stays unknown.

use super::names::Unit;
use crate::pipeline::record::Severity;

/// The severity that `text` under a name of `unit` means.
pub(super) fn severity_of(text: &str, unit: Unit) -> Severity {
    let text = uncoloured(text.trim());
    match text.parse::<u32>() {
        Ok(number) => of_number(number, unit),
        Err(_) if text.bytes().any(|byte| byte.is_ascii_digit()) => of_otel_name(text),
        Err(_) if unit == Unit::SeverityWord => of_word(text),
        Err(_) => of_level_text(text),
    }
}

/// `text` without the colours that loggers set on a terminal around it.
pub(super) fn uncoloured(text: &str) -> &str {
    let text = behind_colour(text);
    text.find(ESCAPE).map_or(text, |end| &text[..end])
}

/// `text` behind the colours it begins with.
pub(super) fn behind_colour(text: &str) -> &str {
    let mut text = text;
    while let Some(rest) = text.strip_prefix(ESCAPE).and_then(|rest| rest.strip_prefix('['))
        && let Some(end) = rest.find(|c: char| !c.is_ascii_digit() && c != ';')
        && let Some(behind) = rest[end..].strip_prefix('m')
    {
        text = behind;
    }
    text
}

const ESCAPE: char = '\u{1b}';

fn of_number(number: u32, unit: Unit) -> Severity {
    match (unit, number) {
        (Unit::OtelSeverity, 1..=4) => Severity::Trace,
        (Unit::OtelSeverity, 5..=8) => Severity::Debug,
        (Unit::OtelSeverity, 9..=12) => Severity::Info,
        (Unit::OtelSeverity, 13..=16) => Severity::Warn,
        (Unit::OtelSeverity, 17..=20) => Severity::Error,
        (Unit::OtelSeverity, 21..=24) => Severity::Fatal,
        (Unit::SyslogSeverity, number) => of_syslog(number),
        (Unit::PythonLevel, 10) => Severity::Debug,
        (Unit::PythonLevel, 20) => Severity::Info,
        (Unit::PythonLevel, 30) => Severity::Warn,
        (Unit::PythonLevel, 40) => Severity::Error,
        (Unit::PythonLevel, 50) => Severity::Fatal,
        // pino and bunyan
        (Unit::Plain, 10) => Severity::Trace,
        (Unit::Plain, 20) => Severity::Debug,
        (Unit::Plain, 30) => Severity::Info,
        (Unit::Plain, 40) => Severity::Warn,
        (Unit::Plain, 50) => Severity::Error,
        (Unit::Plain, 60) => Severity::Fatal,
        _ => Severity::Unknown,
    }
}

/// RFC 5424, 6.2.1: severity 0 to 7.
pub(super) fn of_syslog(number: u32) -> Severity {
    match number {
        0..=2 => Severity::Fatal,
        3 => Severity::Error,
        4 => Severity::Warn,
        5 | 6 => Severity::Info,
        7 => Severity::Debug,
        _ => Severity::Unknown,
    }
}

/// `SEVERITY_NUMBER_WARN2`, `INFO4` and the like.
fn of_otel_name(text: &str) -> Severity {
    let name = text.strip_prefix("SEVERITY_NUMBER_").unwrap_or(text);
    of_word(name.trim_end_matches(|digit: char| digit.is_ascii_digit()))
}

/// A level by its beginning, as Datadog does; words whose beginning would mislead come first
/// (`fine` is no fatal, `config` nothing critical). There is no default.
fn of_level_text(text: &str) -> Severity {
    let text = text.strip_prefix("SEVERITY_NUMBER_").unwrap_or(text);
    let known = of_word(text);
    if known != Severity::Unknown {
        return known;
    }
    let Some(first) = text.bytes().next().map(|byte| byte.to_ascii_lowercase()) else {
        return Severity::Unknown;
    };
    let starts_with =
        |prefix: &str| text.get(..prefix.len()).is_some_and(|t| t.eq_ignore_ascii_case(prefix));
    match first {
        _ if NO_LEVEL.iter().any(|word| text.eq_ignore_ascii_case(word)) => Severity::Unknown,
        b'f' | b'a' | b'c' => Severity::Fatal,
        b'e' if starts_with("emerg") => Severity::Fatal,
        b'e' if starts_with("err") => Severity::Error,
        b'w' => Severity::Warn,
        b'n' | b'i' => Severity::Info,
        b't' => Severity::Trace,
        b'd' | b'v' => Severity::Debug,
        _ => Severity::Unknown,
    }
}

/// Words that name the absence of a level, and would match by their first letter.
const NO_LEVEL: &[&str] =
    &["all", "default", "none", "null", "nil", "n/a", "na", "not_set", "notset"];

/// A full severity word in any letter case, or one of the usual single letters.
pub(super) fn of_word(text: &str) -> Severity {
    WORDS
        .iter()
        .find(|(word, _)| text.eq_ignore_ascii_case(word))
        .map_or(Severity::Unknown, |(_, severity)| *severity)
}

const WORDS: &[(&str, Severity)] = &[
    ("info", Severity::Info),
    ("error", Severity::Error),
    ("debug", Severity::Debug),
    ("warn", Severity::Warn),
    ("warning", Severity::Warn),
    ("information", Severity::Info),
    ("informational", Severity::Info),
    ("notice", Severity::Info),
    ("audit", Severity::Info),
    ("err", Severity::Error),
    ("severe", Severity::Error),
    ("trace", Severity::Trace),
    ("finest", Severity::Trace),
    ("finer", Severity::Trace),
    ("fine", Severity::Debug),
    ("config", Severity::Debug),
    ("verbose", Severity::Debug),
    ("fatal", Severity::Fatal),
    ("critical", Severity::Fatal),
    ("crit", Severity::Fatal),
    ("alert", Severity::Fatal),
    ("emerg", Severity::Fatal),
    ("emergency", Severity::Fatal),
    ("panic", Severity::Fatal),
    ("dpanic", Severity::Fatal),
    ("eror", Severity::Error),
    ("wrn", Severity::Warn),
    ("inf", Severity::Info),
    ("dbg", Severity::Debug),
    ("dbug", Severity::Debug),
    ("vrb", Severity::Debug),
    ("trc", Severity::Trace),
    ("trce", Severity::Trace),
    ("ftl", Severity::Fatal),
    ("e", Severity::Error),
    ("w", Severity::Warn),
    ("i", Severity::Info),
    ("d", Severity::Debug),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides_the_scale() {
        let cases = [
            ("3", Unit::Plain, Severity::Unknown),
            ("3", Unit::SyslogSeverity, Severity::Error),
            ("3", Unit::OtelSeverity, Severity::Trace),
            ("17", Unit::OtelSeverity, Severity::Error),
            ("0", Unit::OtelSeverity, Severity::Unknown),
            ("30", Unit::Plain, Severity::Info),
            ("30", Unit::PythonLevel, Severity::Warn),
            ("35", Unit::Plain, Severity::Unknown),
            ("500", Unit::Plain, Severity::Unknown),
            ("99999999999999999999", Unit::Plain, Severity::Unknown),
            ("SEVERITY_NUMBER_ERROR2", Unit::OtelSeverity, Severity::Error),
            ("SEVERITY_NUMBER_INFO", Unit::OtelSeverity, Severity::Info),
        ];
        for (text, unit, severity) in cases {
            assert_eq!(severity_of(text, unit), severity, "{text} {unit:?}");
        }
    }

    #[test]
    fn words_are_read_by_prefix_without_a_default() {
        let cases = [
            ("ERROR", Severity::Error),
            ("err", Severity::Error),
            ("Emergency!", Severity::Fatal),
            ("Warning", Severity::Warn),
            ("critical-ish", Severity::Fatal),
            ("FINE", Severity::Debug),
            ("SEVERE", Severity::Error),
            ("CONFIG", Severity::Debug),
            ("AUDIT", Severity::Info),
            ("DEFAULT", Severity::Unknown),
            ("premium", Severity::Unknown),
            ("", Severity::Unknown),
            ("é", Severity::Unknown),
        ];
        for (text, severity) in cases {
            assert_eq!(severity_of(text, Unit::Plain), severity, "{text}");
        }
        assert_eq!(severity_of("cancelled", Unit::SeverityWord), Severity::Unknown);
        assert_eq!(severity_of("error", Unit::SeverityWord), Severity::Error);
    }
}

//! Lines that are no JSON: logfmt, syslog (RFC 5424, RFC 3164), CRI container lines, plain text.
//! Pairs `key=value` are read wherever they stand in a line, JSON behind a line header too.

use jiff::tz::TimeZone;

use super::collect::{Collector, Raw, RawKind, Source};
use super::json;
use super::kind::FieldKind;
use super::log_record::{Format, SplitLine};
use super::names::{NameTable, Position};
use super::severity::{behind_colour, of_syslog, of_word, uncoloured};
use super::time::leading_time;
use crate::pipeline::record::Severity;

/// Reads a line. Returns its format and whether a container runtime split it.
pub(super) fn scan<'x>(
    line: &'x str,
    table: &NameTable,
    out: &mut Collector<'x>,
) -> (Format, SplitLine) {
    let (body, partial) = match container_line(line, out) {
        Some((body, partial)) => (body, partial),
        None => (syslog_line(line, out).unwrap_or(line), SplitLine::default()),
    };
    let payload = body.trim_start();
    let is_behind_header = payload.len() < line.len();
    if is_behind_header && payload.starts_with('{') && json::scan(payload, table, out).is_ok() {
        return (Format::Json, partial);
    }
    let leads_with_pair = !payload.starts_with('{') && pairs(payload, table, out);
    leading_words(payload, out);
    (if leads_with_pair { Format::Logfmt } else { Format::Text }, partial)
}

/// Kubernetes CRI: `2016-10-06T00:17:09.669794202Z stdout P the line`. `P` is a piece, `F` the last
/// (or only) one: that it has earlier pieces cannot be seen.
fn container_line<'x>(line: &'x str, out: &mut Collector<'x>) -> Option<(&'x str, SplitLine)> {
    if !line.as_bytes().first()?.is_ascii_digit() {
        return None;
    }
    let (time, rest) = line.split_once(' ')?;
    let (stream, rest) = rest.split_once(' ')?;
    let (tag, body) = rest.split_once(' ')?;
    if !matches!(stream, "stdout" | "stderr") || !matches!(tag, "P" | "F") {
        return None;
    }
    out.offer_time(time, Source::LineHeader);
    Some((body, SplitLine { cut_at_start: false, cut_at_end: tag == "P" }))
}

/// RFC 5424 `<34>1 TIME HOST APP PROCID MSGID ..` and RFC 3164 `<34>Oct 11 22:14:15 HOST APP[PID]: ..`.
fn syslog_line<'x>(line: &'x str, out: &mut Collector<'x>) -> Option<&'x str> {
    let (priority, rest) = line.strip_prefix('<')?.split_once('>')?;
    if priority.is_empty() || priority.len() > 3 {
        return None;
    }
    let severity = of_syslog(priority.parse::<u32>().ok().filter(|number| *number < 192)? & 7);
    out.offer_severity(severity, severity.name(), Source::LineHeader);
    let Some(rest) = rest.strip_prefix("1 ") else { return Some(bsd_header(rest, out)) };
    let mut parts = rest.splitn(6, ' ');
    let (time, _host, app) = (parts.next(), parts.next(), parts.next());
    out.offer_time(time.unwrap_or_default(), Source::LineHeader);
    if let Some(app) = app.filter(|app| *app != "-") {
        out.offer_text(FieldKind::Service, app, Source::LineHeader);
    }
    Some(parts.nth(2).unwrap_or(rest))
}

/// The time of RFC 3164 has no year: it is left alone, the record's own time stands in for it.
fn bsd_header<'x>(rest: &'x str, out: &mut Collector<'x>) -> &'x str {
    const TIME_BYTES: usize = 16;
    let is_time = rest.as_bytes().get(6) == Some(&b' ') && rest.as_bytes().get(9) == Some(&b':');
    let Some(behind) = rest.get(TIME_BYTES..).filter(|_| is_time) else { return rest };
    let Some((_host, message)) = behind.split_once(' ') else { return rest };
    let Some((tag, body)) = message.split_once(':') else { return message };
    let app = tag.split('[').next().unwrap_or(tag);
    if !app.is_empty() && !app.contains(' ') {
        out.offer_text(FieldKind::Service, app, Source::LineHeader);
    }
    body
}

/// Offers every `key=value` of `line`; whether the line begins with one.
fn pairs<'x>(line: &'x str, table: &NameTable, out: &mut Collector<'x>) -> bool {
    let bytes = line.as_bytes();
    let mut from = 0;
    let mut leads = false;
    while let Some(equals) = memchr::memchr(b'=', &bytes[from..]).map(|at| from + at) {
        let key_len =
            bytes[from..equals].iter().rev().take_while(|byte| is_key_byte(**byte)).count();
        let key_at = equals - key_len;
        from = equals + 1;
        let is_free = key_at == 0 || matches!(bytes[key_at - 1], b' ' | b'\t' | b'\n');
        if key_len == 0 || !is_free {
            continue;
        }
        leads |= key_at == 0;
        let (raw, end) = value(line, from);
        from = end;
        let key = &line[key_at..equals];
        let position = table.step(Position::TOP, key.as_bytes());
        for id in table.names_at(position) {
            let name = table.name(*id);
            if !(name.weak && position.among_attributes) {
                out.offer(*id, name, position.depth, raw, &[key]);
            }
        }
    }
    leads
}

fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'@' | b'/')
}

/// The value that begins at `at`, and where it ends.
fn value(line: &str, at: usize) -> (Raw<'_>, usize) {
    let rest = &line[at..];
    if let Some(quoted) = rest.strip_prefix('"') {
        let mut escaped = false;
        let mut end = 0;
        while let Some(found) = memchr::memchr2(b'"', b'\\', &quoted.as_bytes()[end..]) {
            end += found;
            if quoted.as_bytes()[end] == b'"' {
                let raw = Raw { text: &quoted[..end], kind: RawKind::String { escaped } };
                return (raw, at + 1 + end + 1);
            }
            escaped = true;
            end = (end + 2).min(quoted.len());
        }
    }
    let len = memchr::memchr3(b' ', b'\t', b'\n', rest.as_bytes()).unwrap_or(rest.len());
    (Raw { text: &rest[..len], kind: RawKind::Bare }, at + len)
}

/// Time and severity from the first words of a line, as `2026-11-23 09:41:07,123 [main] ERROR ..`,
/// `[error] ..`, `E1123 09:41:07.123 ..` (klog) or `error: ..` write them.
fn leading_words<'x>(line: &'x str, out: &mut Collector<'x>) {
    out.offer_leading_time(time_in_front(line), Source::Text);
    if out.severity == Severity::Unknown {
        let severity = words(line).find_map(|(index, word)| level_of_word(word, index == 0));
        let severity = severity.unwrap_or_default();
        out.offer_severity(severity, severity.name(), Source::Text);
    }
}

/// The level that a member's text gives itself. Unless it begins with a time, as lines of logs do, it
/// may be prose: only its first word and words in brackets count, and none that prose begins with.
pub(super) fn level_of_message(message: &str) -> Severity {
    const PROSE: [&str; 4] = ["alert", "emergency", "fine", "notice"];
    let is_line = leading_time(time_in_front(message), Some(&TimeZone::UTC)).is_some();
    let may_tell = |index, word: &str| {
        let bare = word.trim_end_matches(':');
        is_line
            || (index == 0 || word.starts_with(['[', '<']))
                && !PROSE.iter().any(|prose| bare.eq_ignore_ascii_case(prose))
    };
    let mut words = words(message).filter(|(index, word)| may_tell(*index, word));
    words.find_map(|(index, word)| level_of_word(word, index == 0)).unwrap_or_default()
}

/// `line` from where a time would begin.
fn time_in_front(line: &str) -> &str {
    let line = behind_colour(line);
    line.strip_prefix('[').unwrap_or(line)
}

/// The words that may tell a level, by index, without the colours around them.
fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    const WORDS_MAX: usize = 8;
    line.split_ascii_whitespace().take(WORDS_MAX).map(uncoloured).enumerate()
}

/// Levels stand alone in capitals, in brackets (`[core:error]`) or, at the beginning, in front of a
/// colon (`ERROR:root:`, `production.ERROR:`, `fail:`).
fn level_of_word(word: &str, is_first: bool) -> Option<Severity> {
    if is_first && is_klog(word) {
        return known(if word.starts_with('F') { Severity::Fatal } else { of_word(&word[..1]) });
    }
    let bare = word.trim_matches(['[', ']', '(', ')', '<', '>', '|', ':', ',', '-']);
    let is_bracketed = word.starts_with(['[', '<', '(']);
    let heads = word.ends_with(':');
    let name = match bare.rsplit_once(':') {
        Some((_, last)) if is_bracketed => last,
        Some(_) if is_first => bare.split(':').next().unwrap_or_default(),
        _ if heads => bare.rsplit('.').next().unwrap_or_default(),
        _ => bare,
    };
    let is_marked = is_bracketed || is_first && heads;
    let is_upper = name.bytes().all(|byte| byte.is_ascii_uppercase());
    match name {
        "fail" if is_first && heads => Some(Severity::Error),
        _ if name.len() > 1 && (is_marked || is_upper) => known(of_word(name)),
        _ => None,
    }
}

fn known(severity: Severity) -> Option<Severity> {
    (severity != Severity::Unknown).then_some(severity)
}

fn is_klog(word: &str) -> bool {
    let (level, date) = word.split_at_checked(1).unwrap_or_default();
    matches!(level, "I" | "W" | "E" | "F")
        && date.len() == 4
        && date.bytes().all(|byte| byte.is_ascii_digit())
}

//! What stands directly around a candidate inside its text: `key=`, `"key":`, SQL columns, rows.

use super::{FieldClass, class_of_key};

/// Farthest that a name, a column list or a neighbouring field is looked for.
const NAME_BYTES_MAX: usize = 64;
const LIST_BYTES_MAX: usize = 1024;
const FIELD_BYTES_MAX: usize = 120;

/// What the name before `at` says: `phone=`, `"phone": "`, `Tel.: `, `tel:`.
pub(in crate::pipeline::redact) fn local_field(text: &[u8], at: usize) -> Option<FieldClass> {
    let (name, is_field) = local_name(text, at)?;
    match class_of_key(name) {
        // `Robinson: 98765` is prose; so is the 5 of `12:5`.
        FieldClass::Other if !is_field => None,
        class => Some(class),
    }
}

/// The name before `at`, and whether it is certainly that of a field.
pub(in crate::pipeline::redact) fn local_name(text: &[u8], at: usize) -> Option<(&[u8], bool)> {
    if let Some(name) = element_name(text, at) {
        return Some((name, false));
    }
    let before = trim_end_of(&text[..at], |byte| {
        matches!(byte, b'"' | b'\'' | b'(' | b'[' | b'<' | b'{' | b'+' | b' ' | b'\\' | b'`' | b'>')
    });
    let (&sign, before) = before.split_last()?;
    if at - before.len() > 8 || !matches!(sign, b'=' | b':') {
        return None;
    }
    let closed = trim_end_of(before, |byte| matches!(byte, b' ' | b':' | b'='));
    let bare = trim_end_of(closed, |byte| matches!(byte, b'"' | b'\'' | b'\\' | b']' | b'.'));
    let is_quoted = closed.last().is_some_and(|byte| matches!(byte, b'"' | b'\''));
    let name = name_at_end(bare);
    (!name.is_empty()).then_some((name, sign == b'=' || is_quoted))
}

/// The name of the XML element whose content begins before `at`: `<ns:phone kind="home">+49 ...`.
fn element_name(text: &[u8], at: usize) -> Option<&[u8]> {
    let before = trim_end_of(&text[..at], |byte| matches!(byte, b'(' | b'+' | b' '));
    let tag = before.strip_suffix(b">")?;
    let tag = &tag[tag.len().saturating_sub(NAME_BYTES_MAX)..];
    let tag = &tag[memchr::memrchr(b'<', tag)? + 1..];
    let name = tag.split(|byte| byte.is_ascii_whitespace()).next()?;
    let name = name.rsplit(|byte| *byte == b':').next()?;
    (!name.is_empty() && name_at_end(name).len() == name.len()).then_some(name)
}

/// The identifier at the end of `text`.
fn name_at_end(text: &[u8]) -> &[u8] {
    let is_name = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.') || *byte >= 0x80
    };
    let len = text.iter().rev().take(NAME_BYTES_MAX).take_while(|byte| is_name(byte)).count();
    &text[text.len() - len..]
}

fn trim_end_of(text: &[u8], matches: impl Fn(u8) -> bool) -> &[u8] {
    let len = text.iter().rev().take(8).take_while(|byte| matches(**byte)).count();
    &text[..text.len() - len]
}

/// What the column of the value at `at` says: `(a, b) VALUES (1, 'x')`, `(a, b)=(1, x)`,
/// `id IN (1, 2)`.
pub(in crate::pipeline::redact) fn column_field(text: &[u8], at: usize) -> Option<FieldClass> {
    let own = trim_end_of(&text[..at], |byte| matches!(byte, b'(' | b'+' | b'\''));
    // Of `(` before a bare number one opens the list itself.
    let own = if text[own.len()..at].contains(&b'\'') { own.len() } else { at };
    let (open, index) = enclosing_list(text, own)?;
    let mut before = text[..open].trim_ascii_end();
    // Earlier rows of the same statement: `VALUES (..), (..)`.
    for _ in 0..16 {
        let Some(rest) = before.strip_suffix(b",") else { break };
        let rest = rest.trim_ascii_end().strip_suffix(b")")?;
        let (open, _) = enclosing_list(text, rest.len())?;
        before = text[..open].trim_ascii_end();
    }
    let word = name_at_end(before);
    let columns = if word.eq_ignore_ascii_case(b"values") {
        before[..before.len() - word.len()].trim_ascii_end()
    } else if word.eq_ignore_ascii_case(b"in") {
        let column = before[..before.len() - word.len()].trim_ascii_end();
        return Some(class_of_key(name_at_end(column)));
    } else {
        before.strip_suffix(b"=")?.trim_ascii_end()
    };
    let columns = columns.strip_suffix(b")")?;
    let from = columns.len().saturating_sub(LIST_BYTES_MAX);
    let open = from + memchr::memrchr(b'(', &columns[from..])?;
    let column = columns[open + 1..].split(|byte| *byte == b',').nth(index)?;
    Some(class_of_key(column.trim_ascii()))
}

/// The names of columns in the first line of `text`, when it is a table of at least two lines.
pub(in crate::pipeline::redact) fn header_of(text: &[u8]) -> Option<&[u8]> {
    let end = memchr::memchr(b'\n', &text[..text.len().min(LIST_BYTES_MAX)])?;
    let header = text[..end].trim_ascii_end();
    let sign = separator_of(header)?;
    let is_name = |field: &[u8]| {
        (1..=NAME_BYTES_MAX).contains(&field.len()) && !field.iter().any(u8::is_ascii_digit)
    };
    header.split(|byte| *byte == sign).all(|field| is_name(field.trim_ascii())).then_some(header)
}

fn separator_of(header: &[u8]) -> Option<u8> {
    [b',', b';', b'\t', b'|'].into_iter().find(|sign| header.contains(sign))
}

/// What the header of a table says of the value at `at`.
pub(in crate::pipeline::redact) fn headed_field(
    text: &[u8],
    header: &[u8],
    at: usize,
) -> Option<FieldClass> {
    let sign = separator_of(header)?;
    let from = at.saturating_sub(LIST_BYTES_MAX);
    let line = from + memchr::memrchr(b'\n', &text[from..at])? + 1;
    let mut is_quoted = false;
    let mut column = 0;
    for &byte in &text[line..at] {
        is_quoted ^= byte == b'"';
        column += usize::from(byte == sign && !is_quoted);
    }
    let name = header.split(|byte| *byte == sign).nth(column)?.trim_ascii();
    match class_of_key(name) {
        FieldClass::Other | FieldClass::Generic | FieldClass::Selector => None,
        class => Some(class),
    }
}

/// The opening bracket of the list that `at` lies in, and how many commas lie between.
fn enclosing_list(text: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut quoted = false;
    let mut commas = 0;
    for index in (at.saturating_sub(LIST_BYTES_MAX)..at).rev() {
        match text[index] {
            b'\'' => quoted = !quoted,
            b',' if !quoted => commas += 1,
            b'(' if !quoted => return Some((index, commas)),
            b')' | b';' if !quoted => return None,
            _ => {}
        }
    }
    None
}

/// Whether `start..end` fills a field of a row (CSV, tab-separated, an array) beside a field that
/// holds an e-mail address or a person's name.
pub(in crate::pipeline::redact) fn is_beside_person(text: &[u8], start: usize, end: usize) -> bool {
    // `Frau Kern (0171-1234567)`: a name, and digits in groups, which ids have not.
    let is_grouped = !text[start..end].iter().all(u8::is_ascii_digit);
    if let (Some(before), Some(b')')) = (text[..start].strip_suffix(b" ("), text.get(end))
        && is_grouped
        && ends_in_name(before)
    {
        return true;
    }
    let is_edge = |byte: u8| matches!(byte, b' ' | b'"' | b'\'' | b'\\');
    let before = trim_end_of(&text[..start], |byte| is_edge(byte) || matches!(byte, b'+' | b'('));
    let behind_start = end + text[end..].iter().take(4).take_while(|byte| is_edge(**byte)).count();
    let behind = &text[behind_start..];
    let is_sign = |byte: &u8| matches!(byte, b',' | b';' | b'\t' | b'|' | b'/');
    // A slash parts fields only with space around it.
    let sign_before = match before {
        [.., space, b'/'] if *space != b' ' => None,
        _ => before.last().copied().filter(is_sign),
    };
    let sign_behind = match behind {
        [b'/', space, ..] if *space != b' ' => None,
        _ => behind.first().copied().filter(is_sign),
    };
    let opens = before.last().is_none_or(|byte| is_sign(byte) || *byte == b'[');
    let closes = behind.first().is_none_or(|byte| is_sign(byte) || *byte == b']');
    let Some(sign) = sign_before.or(sign_behind) else { return false };
    if !opens || !closes {
        return false;
    }
    let next = match sign_behind {
        Some(_) => &behind[1..behind.len().min(FIELD_BYTES_MAX)],
        None => &[],
    };
    let next = next.split(|byte| *byte == sign).next().unwrap_or_default();
    let previous = match sign_before {
        Some(_) => &before[before.len().saturating_sub(FIELD_BYTES_MAX)..before.len() - 1],
        None => &[],
    };
    let previous = previous.rsplit(|byte| *byte == sign && sign != b',').next().unwrap_or_default();
    next.contains(&b'@') || last_field(previous, sign).contains(&b'@') || ends_in_name(previous)
}

fn last_field(text: &[u8], sign: u8) -> &[u8] {
    text.rsplit(|byte| *byte == sign).next().unwrap_or_default()
}

/// Two or more capitalised words at the end: `Rishi Khanna`, `"Sen, Amol"`.
fn ends_in_name(text: &[u8]) -> bool {
    let trimmed = text.trim_ascii_end();
    let trimmed = trim_end_of(trimmed, |byte| matches!(byte, b'"' | b'\'' | b'\\' | b' '));
    let words = trimmed.rsplit(|byte| matches!(byte, b' ' | b',' | b'"' | b'[' | b'\'' | b'('));
    let mut capitalised = 0;
    for word in words.filter(|word| !word.is_empty()).take(5) {
        // Particles: `van de Velden`.
        if word.len() <= 3 && capitalised > 0 && word.iter().all(u8::is_ascii_lowercase) {
            continue;
        }
        let letters = word.iter().all(|b| b.is_ascii_alphabetic() || *b >= 0x80 || *b == b'-');
        if !letters || !word.first().is_some_and(|b| b.is_ascii_uppercase() || *b >= 0x80) {
            break;
        }
        capitalised += 1;
    }
    capitalised >= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field_before(text: &str) -> Option<FieldClass> {
        local_field(text.as_bytes(), text.len())
    }

    #[test]
    fn a_name_before_the_value_is_found() {
        assert_eq!(field_before("a phone="), Some(FieldClass::Phone));
        assert_eq!(field_before(r#"{"a":1,"phone": "+"#), Some(FieldClass::Phone));
        assert_eq!(field_before(r#"{\"id\":\""#), Some(FieldClass::Negative));
        assert_eq!(field_before("phone = '"), Some(FieldClass::Phone));
        assert_eq!(field_before("Tel.: "), Some(FieldClass::Phone));
        assert_eq!(field_before("Robinson: "), None);
        assert_eq!(field_before("frob="), Some(FieldClass::Other));
        assert_eq!(field_before("phone "), None);
    }

    #[test]
    fn a_value_belongs_to_its_column() {
        let text = "INSERT INTO c (id, name, phone) VALUES (1, 'A, B', 'x'), (2, 'C', '";
        assert_eq!(column_field(text.as_bytes(), text.len()), Some(FieldClass::Phone));
        let text = "Key (tenant_id, email)=(5, ";
        assert_eq!(column_field(text.as_bytes(), text.len()), Some(FieldClass::Email));
        let text = "WHERE id IN (1, ";
        assert_eq!(column_field(text.as_bytes(), text.len()), Some(FieldClass::Negative));
    }

    #[test]
    fn a_value_belongs_to_the_column_of_its_header() {
        let text = b"id;name;mobile\n1;\"A; B\";x";
        let header = header_of(text).unwrap();
        assert_eq!(headed_field(text, header, text.len() - 1), Some(FieldClass::Phone));
        assert_eq!(headed_field(text, header, 16), Some(FieldClass::Negative));
        assert_eq!(header_of(b"1;2\n3;4"), None);
        assert_eq!(header_of(b"a line\nanother"), None);
    }

    #[test]
    fn rows_with_people_are_recognised() {
        for text in ["7;A B;<665 03>;o@g.es", "1,\"Sen, Amol\",<06104>,x@y.in", "o@g.es\t<665>\t2"]
        {
            let start = text.find('<').unwrap();
            let end = text.find('>').unwrap() - 1;
            let text = text.replace(['<', '>'], "");
            assert!(is_beside_person(text.as_bytes(), start, end), "{text}");
        }
        assert!(!is_beside_person(b"1,2026,06104,778.19", 7, 12));
    }
}

//! Detection without judgement, for bytes that could not be scanned whole: every run of digits long
//! enough, and whatever surrounds an `@`.

use super::phone::DIGITS_MIN;
use crate::pipeline::limits::{EMAIL_DOMAIN_BYTES_MAX, EMAIL_LOCAL_BYTES_MAX};

/// Hands every run of digits and separators with at least [`DIGITS_MIN`] digits to `found`.
pub(super) fn digit_runs(text: &[u8], mut found: impl FnMut(usize, usize)) {
    let mut at = 0;
    while let Some(offset) = text[at..].iter().position(u8::is_ascii_digit) {
        let start = at + offset;
        let mut end = start;
        let mut digits = 0;
        let mut gap = 0;
        for (index, byte) in text[start..].iter().enumerate() {
            if byte.is_ascii_digit() {
                digits += 1;
                gap = 0;
                end = start + index + 1;
            } else if matches!(byte, b' ' | b'-' | b'.' | b'/' | b'(' | b')' | b'+') && gap < 4 {
                gap += 1;
            } else {
                break;
            }
        }
        if digits >= DIGITS_MIN {
            found(start, end);
        }
        at = end;
    }
}

/// Hands every `@` with what is glued to it to `found`.
pub(super) fn at_signs(text: &[u8], mut found: impl FnMut(usize, usize)) {
    let mut from = 0;
    for at in memchr::memchr_iter(b'@', text) {
        if at < from {
            continue;
        }
        let before = &text[from.max(at.saturating_sub(EMAIL_LOCAL_BYTES_MAX))..at];
        let start = at - before.iter().rev().take_while(|byte| is_glued(**byte)).count();
        let behind = &text[at + 1..text.len().min(at + 1 + EMAIL_DOMAIN_BYTES_MAX)];
        let end =
            at + 1 + behind.iter().take_while(|byte| is_glued(**byte) || **byte == b'@').count();
        // Never half a character.
        let start = (start..at).find(|index| text[*index] & 0xc0 != 0x80).unwrap_or(at);
        let end = (at + 1..=end)
            .rev()
            .find(|index| text.get(*index).is_none_or(|byte| byte & 0xc0 != 0x80))
            .unwrap_or(at + 1);
        found(start, end);
        from = end;
    }
}

fn is_glued(byte: u8) -> bool {
    !byte.is_ascii_whitespace()
        && !byte.is_ascii_control()
        && !matches!(byte, b'"' | b'<' | b'>' | b',' | b';' | b'(' | b')' | b'[' | b']')
        && !matches!(byte, b'{' | b'}' | b'\\' | b':' | b'|')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_signs_are_taken_whole() {
        let text = "a 12-34-567, 123456 x é@y.z, @@ end@";
        let mut found = Vec::new();
        digit_runs(text.as_bytes(), |start, end| found.push(&text[start..end]));
        at_signs(text.as_bytes(), |start, end| found.push(&text[start..end]));
        assert_eq!(found, ["12-34-567", "é@y.z", "@@", "end@"]);
    }
}

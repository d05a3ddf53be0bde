//! Backslash escapes: RFC 8259 section 7, and `\xHH`, `\'`, `\0` of other languages.

use memchr::memchr;

use super::{Decoded, Text, hex_pair};

/// Undoes every escape; what is not an escape stays. `false`, and nothing decoded, without any.
pub(super) fn decode(text: Text<'_>, into: &mut Decoded) -> bool {
    let Some(first) = memchr(b'\\', text.bytes) else {
        return false;
    };
    into.clear();
    let mut changed = false;
    let mut copied = 0;
    let mut next = Some(first);
    while let Some(at) = next {
        let mut after = at + 1;
        if let Some((character, end)) = read_escape(text.bytes, at) {
            into.copy(&text, copied, at);
            into.push_char(&text, at, character);
            copied = end;
            after = end;
            changed = true;
        }
        next = memchr(b'\\', &text.bytes[after..]).map(|found| after + found);
    }
    into.copy(&text, copied, text.bytes.len());
    into.finish(&text);
    changed
}

/// The character that the escape at `at` stands for, and where the escape ends.
fn read_escape(bytes: &[u8], at: usize) -> Option<(char, usize)> {
    let simple = |character| Some((character, at + 2));
    match bytes.get(at + 1)? {
        b'"' => simple('"'),
        b'\'' => simple('\''),
        b'\\' => simple('\\'),
        b'/' => simple('/'),
        b'n' => simple('\n'),
        b'r' => simple('\r'),
        b't' => simple('\t'),
        b'b' => simple('\u{8}'),
        b'f' => simple('\u{c}'),
        b'x' => Some((char::from(hex_pair(bytes, at + 2)?), at + 4)),
        b'u' => read_unicode(bytes, at),
        _ => None,
    }
}

fn read_unicode(bytes: &[u8], at: usize) -> Option<(char, usize)> {
    let first = four_digits(bytes, at + 2)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, at + 6));
    }
    let is_pair = bytes.get(at + 6) == Some(&b'\\') && bytes.get(at + 7) == Some(&b'u');
    let second = if is_pair { four_digits(bytes, at + 8) } else { None };
    match second {
        Some(second @ 0xdc00..=0xdfff) if first < 0xdc00 => {
            let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            char::from_u32(code).map(|character| (character, at + 12))
        }
        _ => Some((char::REPLACEMENT_CHARACTER, at + 6)),
    }
}

fn four_digits(bytes: &[u8], at: usize) -> Option<u32> {
    let high = hex_pair(bytes, at)?;
    let low = hex_pair(bytes, at + 2)?;
    Some(u32::from(high) << 8 | u32::from(low))
}

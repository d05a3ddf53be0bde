//! Quoted-printable, RFC 2045 section 6.7. `=40` is also how any `key=40` looks, so only what can
//! hide a value is decoded: signs of addresses and numbers, runs of encoded digits, UTF-8 sequences
//! and soft line breaks.

use memchr::memchr;

use super::{Decoded, Text, hex_pair};

/// Undoes the sequences. `false`, and nothing decoded, without any.
pub(super) fn decode(text: Text<'_>, into: &mut Decoded) -> bool {
    let Some(first) = memchr(b'=', text.bytes) else {
        return false;
    };
    into.clear();
    let mut changed = false;
    let mut copied = 0;
    let mut next = Some(first);
    while let Some(at) = next {
        let mut after = at + 1;
        if let Some((byte, end)) = read_sequence(text.bytes, at) {
            into.copy(&text, copied, at);
            if let Some(byte) = byte {
                into.push(&text, at, byte);
            }
            copied = end;
            after = end;
            changed = true;
        }
        next = memchr(b'=', &text.bytes[after..]).map(|found| after + found);
    }
    into.copy(&text, copied, text.bytes.len());
    into.finish(&text);
    changed
}

/// Whether the `=` at `at` begins a sequence that is decoded.
pub(in crate::pipeline::redact) fn hides(bytes: &[u8], at: usize) -> bool {
    read_sequence(bytes, at).is_some()
}

/// The byte (none for a soft line break) and where the sequence ends.
fn read_sequence(bytes: &[u8], at: usize) -> Option<(Option<u8>, usize)> {
    let rest = &bytes[at + 1..];
    if rest.starts_with(b"\r\n") {
        return Some((None, at + 3));
    }
    if rest.starts_with(b"\n") {
        return Some((None, at + 2));
    }
    let byte = hex_pair(bytes, at + 1)?;
    let upper_case = !bytes[at + 1].is_ascii_lowercase() && !bytes[at + 2].is_ascii_lowercase();
    let end = at + 3;
    let glued = at > 0 && bytes[at - 1].is_ascii_alphanumeric();
    let hides = match byte {
        b'@' => glued && bytes.get(end).is_some_and(|next| next.is_ascii_alphabetic()),
        b'+' => bytes.get(end).is_some_and(|next| next.is_ascii_digit() || *next == b'='),
        b'.' | b'_' | b'-' => glued,
        // `from=2026` is no space.
        b' ' | b'(' | b')' => at > 0 && bytes[at - 1].is_ascii_digit(),
        b'0'..=b'9' => next_to_encoded_digit(bytes, at),
        0x80..=0xff => bytes.get(end) == Some(&b'=') || at >= 3 && bytes[at - 3] == b'=',
        _ => false,
    };
    (upper_case && hides).then_some((Some(byte), end))
}

fn next_to_encoded_digit(bytes: &[u8], at: usize) -> bool {
    let is_digit = |at: usize| {
        bytes.get(at) == Some(&b'=')
            && bytes.get(at + 1) == Some(&b'3')
            && bytes.get(at + 2).is_some_and(u8::is_ascii_digit)
    };
    is_digit(at + 3) || at >= 3 && is_digit(at - 3)
}

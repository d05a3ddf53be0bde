//! Percent-encoding, RFC 3986 section 2.1. A `+` stays: whether it is a space of a form
//! (WHATWG URL, application/x-www-form-urlencoded) is for the one who reads the number.

use memchr::memchr;

use super::{Decoded, Text, hex_pair};

/// Undoes every `%HH`. `false`, and nothing decoded, without any.
pub(super) fn decode(text: Text<'_>, into: &mut Decoded) -> bool {
    let Some(first) = memchr(b'%', text.bytes) else {
        return false;
    };
    into.clear();
    let mut changed = false;
    let mut copied = 0;
    let mut next = Some(first);
    while let Some(at) = next {
        let mut after = at + 1;
        if let Some(byte) = hex_pair(text.bytes, at + 1) {
            into.copy(&text, copied, at);
            into.push(&text, at, byte);
            copied = at + 3;
            after = copied;
            changed = true;
        }
        next = memchr(b'%', &text.bytes[after..]).map(|found| after + found);
    }
    into.copy(&text, copied, text.bytes.len());
    into.finish(&text);
    changed
}

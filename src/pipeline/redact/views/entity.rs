//! HTML character references (HTML Living Standard, 13.2.5.72): every numeric one, and the named
//! ones that can stand in an address, a number or the markup around them.

use memchr::memchr;

use super::{Decoded, Text};

const NAMED: [(&[u8], char); 28] = [
    (b"amp", '&'),
    (b"AMP", '&'),
    (b"lt", '<'),
    (b"gt", '>'),
    (b"quot", '"'),
    (b"apos", '\''),
    (b"commat", '@'),
    (b"nbsp", ' '),
    (b"ensp", ' '),
    (b"emsp", ' '),
    (b"thinsp", ' '),
    (b"numsp", ' '),
    (b"hairsp", ' '),
    (b"plus", '+'),
    (b"period", '.'),
    (b"hyphen", '-'),
    (b"dash", '-'),
    (b"ndash", '-'),
    (b"mdash", '-'),
    (b"minus", '-'),
    (b"lpar", '('),
    (b"rpar", ')'),
    (b"sol", '/'),
    (b"lowbar", '_'),
    (b"shy", '\u{ad}'),
    (b"zwnj", '\u{200c}'),
    (b"Tab", '\t'),
    (b"NewLine", '\n'),
];

/// The longest name or number between `&` and `;`.
const REFERENCE_BYTES_MAX: usize = 10;

/// Undoes every reference. `false`, and nothing decoded, without any.
pub(super) fn decode(text: Text<'_>, into: &mut Decoded) -> bool {
    let Some(first) = memchr(b'&', text.bytes) else {
        return false;
    };
    into.clear();
    let mut changed = false;
    let mut copied = 0;
    let mut next = Some(first);
    while let Some(at) = next {
        let mut after = at + 1;
        if let Some((character, end)) = read_reference(text.bytes, at) {
            into.copy(&text, copied, at);
            into.push_char(&text, at, character);
            copied = end;
            after = end;
            changed = true;
        }
        next = memchr(b'&', &text.bytes[after..]).map(|found| after + found);
    }
    into.copy(&text, copied, text.bytes.len());
    into.finish(&text);
    changed
}

fn read_reference(bytes: &[u8], at: usize) -> Option<(char, usize)> {
    let rest = &bytes[at + 1..];
    let window = &rest[..rest.len().min(REFERENCE_BYTES_MAX + 1)];
    if window.first() == Some(&b'#') {
        return read_numeric(window).map(|(character, len)| (character, at + 1 + len));
    }
    let len = memchr(b';', window)?;
    let name = &window[..len];
    let (_, character) = NAMED.iter().find(|(known, _)| *known == name)?;
    Some((*character, at + 1 + len + 1))
}

/// A numeric reference behind its `&`; the semicolon may be missing, as browsers allow.
fn read_numeric(window: &[u8]) -> Option<(char, usize)> {
    let (radix, start) = match window.get(1)? {
        b'x' | b'X' => (16, 2),
        _ => (10, 1),
    };
    let digits = window[start..].iter().take_while(|byte| char::from(**byte).is_digit(radix));
    let len = digits.count();
    let code = std::str::from_utf8(&window[start..start + len]).ok()?;
    let character = char::from_u32(u32::from_str_radix(code, radix).ok()?)?;
    let end = start + len;
    Some((character, end + usize::from(window.get(end) == Some(&b';'))))
}

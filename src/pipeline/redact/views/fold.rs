//! What Unicode offers to write a digit, an `@`, a space or a dash with, folded to ASCII; what
//! shows nothing is dropped. Sources: UnicodeData.txt 17 (category Nd; Zs; Pd; Cf), the
//! compatibility mappings of the full-width and small forms (NFKC, UAX #15).

use super::{Decoded, Text};

/// The zero of every run of decimal digits (category Nd) outside ASCII, in rising order.
const ZEROS: [u32; 70] = [
    0x0660, 0x06f0, 0x07c0, 0x0966, 0x09e6, 0x0a66, 0x0ae6, 0x0b66, 0x0be6, 0x0c66, 0x0ce6, 0x0d66,
    0x0de6, 0x0e50, 0x0ed0, 0x0f20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90,
    0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10,
    0x104a0, 0x10d30, 0x10d40, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0,
    0x11650, 0x116c0, 0x116d0, 0x116da, 0x11730, 0x118e0, 0x11950, 0x11bf0, 0x11c50, 0x11d50,
    0x11da0, 0x11f50, 0x16130, 0x16a60, 0x16ac0, 0x16b50, 0x16d70, 0x1ccf0, 0x1e140, 0x1e2f0,
    0x1e4f0, 0x1e5f1, 0x1e950, 0x1fbf0,
];

/// What a character counts as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::pipeline::redact) enum Folded {
    /// An ASCII character.
    To(u8),
    /// Nothing.
    Dropped,
}

/// What `character` counts as; `None` when it stands for itself.
pub(in crate::pipeline::redact) fn folds(character: char) -> Option<Folded> {
    let code = u32::from(character);
    let ascii = match code {
        0..=0x9f => return None,
        0x00ad | 0x034f | 0x061c | 0x115f | 0x1160 | 0x17b4 | 0x17b5 | 0x180b..=0x180e => {
            return Some(Folded::Dropped);
        }
        0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0x20e3 | 0xfe00..=0xfe0f | 0xfeff => {
            return Some(Folded::Dropped);
        }
        0xe0000..=0xe01ef => return Some(Folded::Dropped),
        0x00a0 | 0x1680 | 0x2000..=0x200a | 0x202f | 0x205f | 0x3000 | 0x2800 | 0x3164 => b' ',
        0x2028 | 0x2029 => b'\n',
        0x2010..=0x2015 | 0x2043 | 0x2212 | 0xfe58 | 0xfe63 | 0x30fc | 0x2e3a | 0x2e3b => b'-',
        0x2024 | 0x3002 | 0xff61 | 0xfe52 | 0x00b7 | 0x2219 | 0x22c5 => b'.',
        0x2044 | 0x2215 | 0x29f8 => b'/',
        0x207a | 0xfe62 | 0x2795 => b'+',
        0x207d | 0xfe59 => b'(',
        0x207e | 0xfe5a => b')',
        0xfe6b | 0x24d0 => b'@',
        0xfe55 => b':',
        0xff10..=0xff19 => digit(code - 0xff10),
        0xff01..=0xff5e => u8::try_from(code - 0xfee0).ok()?,
        0x2070 | 0x2074..=0x2079 => digit(code - 0x2070),
        0x2080..=0x2089 => digit(code - 0x2080),
        0x2460..=0x2468 => digit(code - 0x245f),
        0x24ea => b'0',
        0x1d7ce..=0x1d7ff => digit((code - 0x1d7ce) % 10),
        // Latin, Greek, Cyrillic and Hebrew letters.
        0xa0..0x660 => return None,
        _ => {
            let after = ZEROS.partition_point(|zero| *zero <= code);
            let zero = ZEROS[after.checked_sub(1)?];
            (code - zero < 10).then(|| digit(code - zero))?
        }
    };
    Some(Folded::To(ascii))
}

fn digit(value: u32) -> u8 {
    b'0' + u8::try_from(value).expect("digits are below ten")
}

/// Folds every character. `false`, and nothing decoded, when each stands for itself.
pub(super) fn decode(text: Text<'_>, into: &mut Decoded) -> bool {
    if text.bytes.is_ascii() {
        return false;
    }
    into.clear();
    let mut changed = false;
    let mut at = 0;
    for chunk in text.bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let end = at + character.len_utf8();
            match folds(character) {
                Some(Folded::To(ascii)) => into.push(&text, at, ascii),
                Some(Folded::Dropped) => {}
                None => into.copy(&text, at, end),
            }
            changed |= folds(character).is_some();
            at = end;
        }
        let end = at + chunk.invalid().len();
        into.copy(&text, at, end);
        at = end;
    }
    into.finish(&text);
    changed
}

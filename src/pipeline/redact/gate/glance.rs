//! What the bytes at one place of a record look like.

use crate::pipeline::redact::phone::DIGITS_MIN;
use crate::pipeline::redact::views::{folds, hides_quoted_printable};

/// Whether something may hide behind the trigger at `at`.
pub(super) fn hides(record: &[u8], at: usize) -> bool {
    let next = record.get(at + 1).copied();
    match record[at] {
        b'@' => true,
        b'\\' => matches!(next, None | Some(b'u' | b'x' | b'\\')),
        b'%' => next.is_some_and(|byte| byte.is_ascii_hexdigit()),
        b'&' => match next {
            Some(b'#') => true,
            Some(byte) if byte.is_ascii_alphabetic() => {
                memchr::memchr(b';', &record[at + 1..record.len().min(at + 12)]).is_some()
            }
            _ => false,
        },
        b'=' => hides_quoted_printable(record, at),
        0xc0.. => hides_digit_or_sign(record, at),
        _ => false,
    }
}

/// Whether the character at `at` counts as another one, or as nothing.
fn hides_digit_or_sign(record: &[u8], at: usize) -> bool {
    let bytes = &record[at..record.len().min(at + 4)];
    let character = bytes.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next());
    character.is_none_or(|character| folds(character).is_some())
}

/// `2026-11-20` with fewer digits behind it than a number has.
pub(super) fn begins_with_date(record: &[u8], first: usize, last: usize) -> bool {
    let run = &record[first..last];
    let is_date = run.len() >= 10
        && matches!(run[..2], [b'1', b'9'] | [b'2', b'0'])
        && run[2..4].iter().all(u8::is_ascii_digit)
        && (run[4], run[7]) == (b'-', b'-')
        && matches!(run[5], b'0' | b'1')
        && matches!(run[8], b'0'..=b'3')
        && run[6].is_ascii_digit()
        && run[9].is_ascii_digit()
        && !run.get(10).is_some_and(u8::is_ascii_digit);
    is_date && run[10..].iter().filter(|byte| byte.is_ascii_digit()).count() < DIGITS_MIN
}

/// Whether the digits `first..last` stand between letters of a hexadecimal number: what is glued to
/// both sides is no phone number by any rule, unless the letters before it are a word.
pub(super) fn is_inside_hex(record: &[u8], first: usize, last: usize) -> bool {
    let is_hex_letter = |byte: &u8| matches!(byte, b'a'..=b'f' | b'A'..=b'F');
    if first == 0
        || !is_hex_letter(&record[first - 1])
        || !record.get(last).is_some_and(is_hex_letter)
    {
        return false;
    }
    let before = record[..first].iter().rev().take(GLUED_LETTERS_MAX);
    let mut letters = before.take_while(|byte| byte.is_ascii_alphabetic());
    // `ext` and `durchwahl` begin with one.
    let goes_on = |byte: &u8| is_hex_letter(byte) || !byte.is_ascii_alphabetic();
    letters.all(is_hex_letter)
        && record.get(last + 1).is_none_or(goes_on)
        && record[first..last].iter().all(u8::is_ascii_digit)
}

/// Words glued to digits are looked at that far back.
const GLUED_LETTERS_MAX: usize = 32;

/// Digits alone, without an exit code.
pub(super) fn is_bare(record: &[u8], first: usize, last: usize) -> bool {
    let digits = &record[first..last];
    digits.iter().all(u8::is_ascii_digit) && digits[0] != b'0'
}

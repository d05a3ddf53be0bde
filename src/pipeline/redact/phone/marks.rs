//! What is written right around the digits of a number: its plus, exit code and extension, a word glued
//! to it, a currency.

use crate::pipeline::redact::context::{Cue, cue_of};

/// Where the number that begins with the digit at `at` begins with its plus: `+49`, `+(49`.
pub(super) fn first_plus(text: &[u8], at: usize) -> usize {
    let before = &text[..at];
    for plus in [&b"+"[..], b"+(", b"+ ", b"+ ("] {
        if before.ends_with(plus) {
            return at - plus.len();
        }
    }
    at
}

/// Digits of the exit code that `digits` begin with: 00 (ITU), 011 (North America).
pub(super) fn exit_code_len(digits: &[u8]) -> u8 {
    if digits.starts_with(b"00") {
        2
    } else if digits.starts_with(b"011") {
        3
    } else {
        0
    }
}

/// Where the extension behind a number ends: ` x12`, ` ext. 12`, `;ext=12`, ` extn 12`, ` #12`.
pub(super) fn extension_end(text: &[u8], at: usize) -> usize {
    let rest = &text[at..text.len().min(at + 20)];
    let spaces = rest.iter().take_while(|byte| matches!(byte, b' ' | b',' | b';')).count();
    let behind = &rest[spaces..];
    let mark = EXTENSION_MARKS
        .iter()
        .find(|mark| behind.len() >= mark.len() && behind[..mark.len()].eq_ignore_ascii_case(mark));
    let Some(mark) = mark else { return at };
    let behind = &behind[mark.len()..];
    let signs =
        behind.iter().take(2).take_while(|b| matches!(b, b'.' | b' ' | b':' | b'=')).count();
    let digits = behind[signs..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let end = at + spaces + mark.len() + signs + digits;
    let is_glued = text.get(end).is_some_and(u8::is_ascii_alphanumeric);
    if digits == 0 || digits > EXTENSION_DIGITS_MAX || is_glued { at } else { end }
}

const EXTENSION_DIGITS_MAX: usize = 6;
const EXTENSION_MARKS: [&[u8]; 8] =
    [b"extension", b"extn", b"ext", b"durchwahl", b"poste", b"int.", b"x", b"#"];

pub(super) fn ends_with_ignore_case(text: &[u8], suffix: &[u8]) -> bool {
    text.len() >= suffix.len() && text[text.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
}

/// The cue that a word glued to the digits gives: `Tel0301234`.
pub(super) fn glued_word(before: &[u8]) -> Option<Cue> {
    let len = before.iter().rev().take(24).take_while(|byte| byte.is_ascii_alphabetic()).count();
    let word = &before[before.len() - len..];
    (len >= 2).then(|| cue_of(word)).flatten()
}

/// `:12@s.whatsapp.net` behind a number: the device of a messenger id.
pub(super) fn is_messenger_device(behind: &[u8]) -> bool {
    let digits = behind[1..].iter().take(4).take_while(|byte| byte.is_ascii_digit()).count();
    digits > 0 && behind[1 + digits..].starts_with(b"@s.whatsapp.net")
}

const CURRENCIES: [&str; 7] = ["€", "£", "₹", "¥", "₽", "₩", "₺"];

pub(super) fn is_currency_end(text: &[u8]) -> bool {
    CURRENCIES.iter().any(|sign| text.ends_with(sign.as_bytes()))
}

pub(super) fn is_currency_start(text: &[u8]) -> bool {
    CURRENCIES.iter().chain(["°", "²"].iter()).any(|sign| text.starts_with(sign.as_bytes()))
}

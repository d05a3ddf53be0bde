//! Addresses as people write them to hide them: `name at gmail dot com`, `name [at] x [dot] de`.

use super::suffix::Suffix;
use super::{Address, edge};
use crate::pipeline::limits::{EMAIL_DOMAIN_BYTES_MAX, EMAIL_LOCAL_BYTES_MAX};
use crate::pipeline::redact::context::{Cue, cue_of};
use crate::pipeline::redact::rules::{Rule, Score};

/// A sign written out. A bare word needs a written-out dot as well.
struct Sign {
    text: &'static [u8],
    is_explicit: bool,
}

const fn explicit(text: &'static [u8]) -> Sign {
    Sign { text, is_explicit: true }
}

const fn word(text: &'static [u8]) -> Sign {
    Sign { text, is_explicit: false }
}

static AT_SIGNS: [Sign; 9] = [
    explicit(b"(at)"),
    explicit(b"[at]"),
    explicit(b"{at}"),
    explicit(b"<at>"),
    explicit(b"(@)"),
    explicit(b"[@]"),
    word(b" at "),
    word(b"_at_"),
    word(b" @ "),
];

static DOT_SIGNS: [Sign; 14] = [
    explicit(b"(dot)"),
    explicit(b"[dot]"),
    explicit(b"{dot}"),
    explicit(b"<dot>"),
    explicit(b"(.)"),
    explicit(b"[.]"),
    explicit(b"(punkt)"),
    explicit(b"[punkt]"),
    word(b" dot "),
    word(b"_dot_"),
    word(b" punto "),
    word(b" punkt "),
    word(b" point "),
    word(b" . "),
];

const LABELS_MAX: usize = 8;

/// Whether the written-out `@` that may begin at `at` belongs to an address.
pub(in crate::pipeline::redact) fn is_written_sign(text: &[u8], at: usize) -> bool {
    sign_at(&text[at..], &AT_SIGNS).is_some_and(|sign| read_address(text, 0, at, sign).is_some())
}

/// Hands every written-out address in `text`, in order, to `found`. Ends at the first error.
pub(in crate::pipeline::redact) fn find_obfuscated<E>(
    text: &[u8],
    mut found: impl FnMut(Address) -> Result<(), E>,
) -> Result<(), E> {
    let mut from = 0;
    let opens = |(_, byte): &(usize, &u8)| OPENS_SIGN[usize::from(**byte)];
    for (at, _) in text.iter().enumerate().filter(opens) {
        let is_sign = matches!(text[at + 1..], [b'@', _, ..] | [b'a' | b'A', b't' | b'T', ..]);
        if !is_sign || at < from {
            continue;
        }
        let Some(sign) = sign_at(&text[at..], &AT_SIGNS) else { continue };
        if let Some(address) = read_address(text, from, at, sign) {
            from = address.end;
            found(address)?;
        }
    }
    Ok(())
}

/// What the signs of [`AT_SIGNS`] begin with.
static OPENS_SIGN: [bool; 256] = {
    let mut table = [false; 256];
    let mut index = 0;
    while index < AT_SIGNS.len() {
        table[AT_SIGNS[index].text[0] as usize] = true;
        index += 1;
    }
    table
};

fn sign_at<'s>(rest: &[u8], signs: &'s [Sign]) -> Option<&'s Sign> {
    signs.iter().find(|sign| {
        rest.len() >= sign.text.len() && rest[..sign.text.len()].eq_ignore_ascii_case(sign.text)
    })
}

fn read_address(text: &[u8], from: usize, at: usize, sign: &Sign) -> Option<Address> {
    let floor = from.max(at.saturating_sub(EMAIL_LOCAL_BYTES_MAX));
    let (end, has_dot_sign) = domain_end(text, at + sign.text.len())?;
    let is_spaced = sign.text == b" @ ";
    if !sign.is_explicit && !has_dot_sign && !is_spaced {
        return None;
    }
    let start = local_start(text, floor, at)?;
    // `dinner @ roma.it`: a space too many is no sign of hiding, unless an address is spoken of.
    if is_spaced && !has_dot_sign && !follows_cue(text, start) {
        return None;
    }
    let mut score = Score::default();
    score.add(Rule::Obfuscated);
    Some(Address { start, end, score })
}

/// Whether one of the three words before `start` is a word for addresses.
fn follows_cue(text: &[u8], start: usize) -> bool {
    let words = text[start.saturating_sub(40)..start].rsplit(|byte| !byte.is_ascii_alphabetic());
    let mut words = words.filter(|word| !word.is_empty()).take(3);
    words.any(|word| cue_of(word) == Some(Cue::Email))
}

/// Where the local part before the sign begins: `first dot last`.
fn local_start(text: &[u8], floor: usize, sign: usize) -> Option<usize> {
    let mut start = None;
    let mut end = sign;
    for _ in 0..LABELS_MAX {
        let before = &text[floor..end];
        let end_of_token = floor + trim_spaces(before).len();
        let token = text[floor..end_of_token].iter().rev().take_while(|b| is_local(**b)).count();
        let first = end_of_token - token;
        if token == 0 {
            break;
        }
        start = Some(first);
        // A dot written out before the token, with a token before that.
        let rest = trim_spaces(&text[floor..first]);
        let dot = DOT_SIGNS.iter().find_map(|sign| {
            let bare = sign.text.trim_ascii();
            let word_before = rest.strip_suffix(bare).or_else(|| strip_upper(rest, bare))?;
            let is_apart = sign.is_explicit || word_before.last().is_some_and(|b| !is_local(*b));
            (is_apart && bare != b".").then_some(floor + word_before.len())
        });
        match dot {
            Some(dot) => end = dot,
            None => break,
        }
    }
    start
}

fn strip_upper<'t>(text: &'t [u8], suffix: &[u8]) -> Option<&'t [u8]> {
    let at = text.len().checked_sub(suffix.len())?;
    text[at..].eq_ignore_ascii_case(suffix).then_some(&text[..at])
}

fn trim_spaces(text: &[u8]) -> &[u8] {
    let spaces = text.iter().rev().take(2).take_while(|byte| **byte == b' ').count();
    &text[..text.len() - spaces]
}

fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+') || byte >= 0x80
}

/// Where the longest domain with a public suffix behind the sign ends, and whether one of its dots
/// is written out.
fn domain_end(text: &[u8], start: usize) -> Option<(usize, bool)> {
    let limit = text.len().min(start + EMAIL_DOMAIN_BYTES_MAX);
    let mut domain = Vec::new();
    let mut best = None;
    let mut has_dot_sign = false;
    let mut at = start + usize::from(text.get(start) == Some(&b' '));
    for _ in 0..LABELS_MAX {
        let is_label = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-' || *byte >= 0x80;
        let len = text[at..limit.max(at)].iter().take_while(|byte| is_label(byte)).count();
        if len == 0 {
            break;
        }
        domain.extend_from_slice(&text[at..at + len]);
        at += len;
        // A single label is no suffix; most words behind an "at" end here.
        if domain.len() > len {
            let (part, suffix) = edge::domain_part(&domain);
            let text_len = domain.len() - part.len();
            if suffix == Suffix::Public && text_len < len {
                best = Some((at - text_len, has_dot_sign));
            }
        }
        let Some((dot, is_sign)) = dot_len(&text[at..limit.max(at)]) else { break };
        has_dot_sign |= is_sign;
        at += dot;
        domain.push(b'.');
    }
    best
}

/// Length of the dot at the start of `rest`, and whether it is written out.
fn dot_len(rest: &[u8]) -> Option<(usize, bool)> {
    if rest.first() == Some(&b'.') {
        return Some((1, false));
    }
    for spaces in 0..=usize::from(rest.first() == Some(&b' ')) {
        if let Some(sign) = sign_at(&rest[spaces..], &DOT_SIGNS) {
            let len = spaces + sign.text.len();
            let more = usize::from(sign.is_explicit && rest.get(len) == Some(&b' '));
            return Some((len + more, true));
        }
    }
    None
}

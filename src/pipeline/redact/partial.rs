//! Lines that a log driver has split (Docker, CRI, Fluent Bit): what touches the cut may be half a
//! number or half an address, so it goes.

use super::finding::{EntityKind, Finding, Partial, Position};
use super::rules::{Rule, Score};

/// Digits at a cut that may be part of a number.
const CUT_DIGITS_MIN: usize = 3;
/// Farthest that a fragment reaches from the cut.
const FRAGMENT_BYTES_MAX: usize = 80;

/// Adds what touches the cuts of `input` to `findings`.
pub(super) fn add_fragments(input: &[u8], partial: Partial, findings: &mut Vec<Finding>) {
    if partial.cut_at_start() {
        let len = fragment_len(input.iter().take(FRAGMENT_BYTES_MAX));
        add(input, 0, whole_characters(input, len), findings);
    }
    if partial.cut_at_end() {
        let len = fragment_len(input.iter().rev().take(FRAGMENT_BYTES_MAX));
        let start = (input.len() - len..input.len())
            .find(|index| input[*index] & 0xc0 != 0x80)
            .unwrap_or(input.len());
        add(input, start, input.len(), findings);
    }
}

fn whole_characters(input: &[u8], mut end: usize) -> usize {
    while input.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
        end -= 1;
    }
    end
}

/// Length of the number, or else of the word, at the cut; `bytes` lead away from it.
fn fragment_len<'b>(bytes: impl Iterator<Item = &'b u8> + Clone) -> usize {
    let is_number = |byte: &&u8| {
        byte.is_ascii_digit() || matches!(byte, b' ' | b'-' | b'.' | b'(' | b')' | b'+' | b'/')
    };
    let number = bytes.clone().take_while(is_number);
    let word = bytes.take_while(|byte| {
        byte.is_ascii_alphanumeric() || b"@._%+-".contains(byte) || **byte >= 0x80
    });
    let digits = number.clone().filter(|byte| byte.is_ascii_digit()).count();
    // A word that could be the piece of an address: a bare word of letters is left alone.
    let is_telling = word.clone().any(|byte| !byte.is_ascii_alphabetic());
    let number_len = if digits >= CUT_DIGITS_MIN { number.count() } else { 0 };
    let word_len = if is_telling { word.count() } else { 0 };
    number_len.max(word_len)
}

fn add(input: &[u8], start: usize, end: usize, findings: &mut Vec<Finding>) {
    if start >= end {
        return;
    }
    let mut score = Score::default();
    score.add(Rule::Cut);
    let fragment = &input[start..end];
    let is_number = !fragment.iter().any(u8::is_ascii_alphabetic) && !fragment.contains(&b'@');
    findings.push(Finding {
        kind: if is_number { EntityKind::Phone } else { EntityKind::Email },
        start,
        end,
        value: Vec::new(),
        position: Position::default(),
        quote: Vec::new(),
        rules: score.rules,
        score: score.total,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_touches_the_cut_goes() {
        for (input, partial, spans) in [
            ("call +91 98765", Partial::CutAtEnd, &["+91 98765"][..]),
            ("43210 now", Partial::CutAtStart, &["43210"]),
            ("mail asha.ku", Partial::CutAtEnd, &["asha.ku"]),
            ("mar@x.in, and", Partial::CutAtStart, &["mar@x.in"]),
            ("a word", Partial::CutBoth, &[]),
            ("x 98765", Partial::Whole, &[]),
        ] {
            let mut findings = Vec::new();
            add_fragments(input.as_bytes(), partial, &mut findings);
            let found: Vec<_> = findings.iter().map(|f| input[f.start..f.end].trim()).collect();
            assert_eq!(found, spans, "{input}");
        }
    }
}

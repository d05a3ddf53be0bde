//! Telephone numbers in text: runs of digit groups, weighed by numbering plan, shape and context.
//!
//! That digits are a valid number is weak evidence (two of three random ten-digit strings are, in
//! India): the field, the words and the neighbours decide, the plan refines.

mod evidence;
mod run;
mod shape;

use super::context::FieldClass;
use super::plan::Region;
use super::rules::{Score, THRESHOLD_STRICT};
use evidence::{Evidence, Source};
pub(super) use run::Run;

/// Fewest and most digits of a number (E.164: at most 15; with an exit code before them 18).
pub(super) const DIGITS_MIN: usize = 7;
const DIGITS_MAX: usize = 18;
/// Longest value of a candidate.
pub(super) const VALUE_BYTES_MAX: usize = DIGITS_MAX + 1;

/// Where a text stands.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// What the names around the text say it holds.
    pub(super) field: FieldClass,
    /// The text around it (of its document), and where it lies there.
    pub(super) outer: Option<(&'a [u8], usize, usize)>,
    /// The regions whose national forms apply.
    pub(super) regions: &'a [Region],
}

/// A number that may be a phone number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// First byte in the text.
    pub(super) start: usize,
    /// One past the last byte in the text.
    pub(super) end: usize,
    digits: [u8; DIGITS_MAX],
    len: u8,
    /// Index of the first digit behind an exit code.
    skip: u8,
    /// The digits begin with a calling code.
    international: bool,
    /// The evidence.
    pub(super) score: Score,
}

impl Candidate {
    /// The digits, without an exit code, with a plus when they begin with a calling code.
    pub(super) fn value<'b>(&self, buffer: &'b mut [u8; VALUE_BYTES_MAX]) -> &'b [u8] {
        let digits = &self.digits[usize::from(self.skip)..usize::from(self.len)];
        let plus = usize::from(self.international);
        buffer[0] = b'+';
        buffer[plus..plus + digits.len()].copy_from_slice(digits);
        &buffer[..plus + digits.len()]
    }
}

/// Finds numbers; holds buffers that are reused from one text to the next.
#[derive(Default)]
pub(super) struct PhoneFinder {
    run: Run,
}

impl PhoneFinder {
    /// Hands every candidate in `text`, in order, to `found`: those below every threshold too.
    pub(super) fn find(
        &mut self,
        text: &[u8],
        place: &Place<'_>,
        mut found: impl FnMut(Candidate),
    ) {
        let source = Source::new(text, place);
        let mut at = 0;
        while let Some(next) = self.run.read(text, at) {
            at = next;
            if self.run.digit_count() < DIGITS_MIN {
                continue;
            }
            shape::block_other_shapes(text, &mut self.run);
            let last = self.run.groups.len() - 1;
            choose(&Evidence::new(&source, &self.run), 0, last, &mut found);
        }
    }
}

/// Whether the digits of `text[first..last]` that are no part of a date, an address or the like are
/// enough for a number.
pub(super) fn has_open_digits(text: &[u8], first: usize, last: usize, run: &mut Run) -> bool {
    let mut at = first;
    while let Some(next) = run.read(&text[..text.len().min(last + SHAPE_BYTES_BEHIND)], at) {
        shape::block_other_shapes(text, run);
        let mut open = 0;
        for group in run.groups.iter().filter(|group| group.start < last) {
            open = if group.blocked { 0 } else { open + group.len() };
            if open >= DIGITS_MIN {
                return true;
            }
        }
        at = next;
        if at >= last {
            break;
        }
    }
    false
}

/// What follows a run and may tell what it is.
const SHAPE_BYTES_BEHIND: usize = 8;

/// Picks the best candidate among the groups `first..=last`, then looks to both sides of it.
fn choose(evidence: &Evidence<'_>, first: usize, last: usize, found: &mut impl FnMut(Candidate)) {
    let mut best: Option<(i16, usize, usize, Score)> = None;
    for start in first..=last {
        let mut base = None;
        for end in start..=last {
            let digits = evidence.run.digits(start, end);
            if digits.len() > DIGITS_MAX || evidence.run.groups[end].blocked {
                break;
            }
            // Digits written one by one are one number or none: their parts are not tried.
            let is_sparse = digits.len() < 2 * (end - start + 1);
            if digits.len() < DIGITS_MIN || is_sparse && (start, end) != (first, last) {
                continue;
            }
            let before = *base.get_or_insert_with(|| evidence.before(start));
            let score = evidence.score(before, start, end);
            // Among equals the longer one: nothing of a number may stay behind.
            let rank = score.total.saturating_add(i16::try_from(digits.len()).unwrap_or(0));
            if best.is_none_or(|(other, ..)| rank > other) {
                best = Some((rank, start, end, score));
            }
        }
    }
    let Some((_, start, end, score)) = best else { return };
    let score = evidence.with_surroundings(score, start, end);
    let emit = |found: &mut dyn FnMut(Candidate)| found(evidence.candidate(start, end, score));
    if score.total < THRESHOLD_STRICT {
        return emit(found);
    }
    if start > first {
        choose(evidence, first, start - 1, found);
    }
    emit(found);
    if end < last {
        choose(evidence, end + 1, last, found);
    }
}

#[cfg(test)]
mod tests;

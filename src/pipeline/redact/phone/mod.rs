//! Telephone numbers in text: runs of digit groups, weighed by numbering plan, shape and context.
//!
//! That digits are a valid number is weak evidence (two of three random ten-digit strings are, in
//! India): the field, the words and the neighbours decide, the plan refines.

mod evidence;
mod marks;
mod run;
mod shape;

use super::context::FieldClass;
use super::finding::StrictReason;
use super::plan::Region;
use super::rules::{Rule, Score, THRESHOLD_BALANCED, THRESHOLD_STRICT};
use evidence::{Before, Evidence, Source};
pub(super) use run::Run;

/// Fewest and most digits of a number (E.164: at most 15; with an exit code before them 18).
pub(super) const DIGITS_MIN: usize = 7;
const DIGITS_MAX: usize = 18;
/// Shorter numbers of people are as often their ids as their mobile numbers.
pub(super) const PERSON_DIGITS_MIN: usize = 9;
/// Digits that two spellings of one number have in common at their ends.
pub(super) const CONFIRMING_DIGITS: usize = 9;
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
    /// The text names somebody or something.
    pub(super) is_identity: bool,
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
    weighed: Vec<Scored>,
}

impl PhoneFinder {
    /// Hands every candidate in `text`, in order, to `found`: those below every threshold too.
    /// `budget` shrinks with what was weighed; once it is spent the text holds too many. Ends at the
    /// first error.
    pub(super) fn find(
        &mut self,
        text: &[u8],
        place: &Place<'_>,
        budget: &mut usize,
        mut found: impl FnMut(&Candidate) -> Result<(), StrictReason>,
    ) -> Result<(), StrictReason> {
        let source = Source::new(text, place);
        let mut previous = None;
        let mut found = |mut candidate: Candidate| {
            if previous.is_some_and(|previous| goes_on(text, &previous, &candidate)) {
                candidate.score.add(Rule::RowNeighbour);
            }
            found(previous.insert(candidate))
        };
        let mut at = 0;
        while let Some(next) = self.run.read(text, at) {
            at = next;
            if self.run.digit_count() < DIGITS_MIN {
                continue;
            }
            shape::block_other_shapes(text, &mut self.run);
            let last = self.run.groups.len() - 1;
            let evidence = Evidence::new(&source, &self.run);
            weigh(&evidence, &mut self.weighed);
            let is_sparse = self.weighed.is_empty() && is_sparse(&evidence, 0, last);
            let cost = match is_sparse {
                true => SPARSE_COST,
                false => self.weighed.iter().map(Scored::cost).sum(),
            };
            *budget = budget.checked_sub(cost).ok_or(StrictReason::TooMany)?;
            choose(&evidence, &self.weighed, 0, last, &mut found)?;
        }
        Ok(())
    }
}

/// Whether `next` is one more number behind `previous`: `98765 43210 or 98765 43211`.
fn goes_on(text: &[u8], previous: &Candidate, next: &Candidate) -> bool {
    const LINKS: [&[u8]; 16] = [
        b"", b"/", b"&", b",", b";", b"and", b"or", b"und", b"oder", b"et", b"ou", b"y", b"o",
        b"e", b"ya", b"aur",
    ];
    let is_valid = [Rule::NationalGrouped, Rule::NationalValid, Rule::BareHome];
    previous.score.total >= THRESHOLD_BALANCED
        && previous.len == next.len
        // The extension of a number may reach into the next candidate.
        && text
            .get(previous.end..next.start)
            .is_some_and(|gap| gap.len() <= LINK_BYTES_MAX && LINKS.contains(&gap.trim_ascii()))
        && is_valid.iter().any(|rule| next.score.has(*rule))
}

const LINK_BYTES_MAX: usize = 6;

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

/// Groups that may be a number, and the evidence on them.
#[derive(Clone, Copy)]
struct Scored {
    start: usize,
    end: usize,
    rank: i16,
    score: Score,
}

impl Scored {
    /// What it takes of the budget: the ways in which groups are written are looked up too.
    fn cost(&self) -> usize {
        if self.start == self.end { 1 } else { 2 }
    }
}

/// What a run written digit by digit takes of the budget: no word around it is passed over.
const SPARSE_COST: usize = 6;

/// Weighs all stretches of the groups of a run that have the digits of a number, but those written
/// digit by digit: they are one number or none, and their parts are not tried.
fn weigh(evidence: &Evidence<'_>, weighed: &mut Vec<Scored>) {
    weighed.clear();
    let groups = &evidence.run.groups;
    // Digits written one by one, as far as this run goes: no stretch has twice as many as groups.
    if groups.iter().all(|group| group.len() == 1) {
        return;
    }
    for (start, first) in groups.iter().enumerate() {
        let mut base = None;
        for (end, last) in groups.iter().enumerate().skip(start) {
            let digits = last.first + last.len() - first.first;
            if digits > DIGITS_MAX || last.blocked {
                break;
            }
            if digits >= DIGITS_MIN && digits >= 2 * (end - start + 1) {
                let before = *base.get_or_insert_with(|| evidence.before(start));
                weighed.push(scored(evidence, before, start, end));
            }
        }
    }
}

fn scored(evidence: &Evidence<'_>, before: Before, start: usize, end: usize) -> Scored {
    let score = evidence.score(before, start, end);
    let digits = evidence.run.digits(start, end).len();
    // Among equals the longer one: nothing of a number may stay behind.
    let rank = score.total.saturating_add(i16::try_from(digits).unwrap_or(0));
    Scored { start, end, rank, score }
}

/// Picks the best candidate among the groups `first..=last`, then looks to both sides of it.
fn choose<E>(
    evidence: &Evidence<'_>,
    weighed: &[Scored],
    first: usize,
    last: usize,
    found: &mut impl FnMut(Candidate) -> Result<(), E>,
) -> Result<(), E> {
    let inside = weighed.iter().filter(|one| first <= one.start && one.end <= last);
    let mut best =
        inside.copied().reduce(|best, one| if one.rank > best.rank { one } else { best });
    if let Some(sparse) = sparse(evidence, first, last)
        && best.is_none_or(|best| sparse.rank >= best.rank)
    {
        best = Some(sparse);
    }
    let Some(Scored { start, end, score, .. }) = best else { return Ok(()) };
    let score = evidence.with_surroundings(score, start, end);
    if score.total < THRESHOLD_STRICT {
        return found(evidence.candidate(start, end, score));
    }
    if start > first {
        choose(evidence, weighed, first, start - 1, found)?;
    }
    found(evidence.candidate(start, end, score))?;
    if end < last {
        choose(evidence, weighed, end + 1, last, found)?;
    }
    Ok(())
}

/// The groups `first..=last` as one number, written digit by digit.
fn sparse(evidence: &Evidence<'_>, first: usize, last: usize) -> Option<Scored> {
    is_sparse(evidence, first, last).then(|| scored(evidence, evidence.before(first), first, last))
}

fn is_sparse(evidence: &Evidence<'_>, first: usize, last: usize) -> bool {
    let digits = evidence.run.digits(first, last).len();
    (DIGITS_MIN..=DIGITS_MAX).contains(&digits)
        && digits < 2 * (last - first + 1)
        && evidence.run.groups[first..=last].iter().all(|group| !group.blocked)
}

#[cfg(test)]
mod tests;

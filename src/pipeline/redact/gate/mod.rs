//! Where a record needs a closer look. Every record passes here; most leave at once, for the price of
//! one pass of masks and a glance at each run of digits. The rules are those of the slow path, and
//! only the ones by which it would certainly find nothing.

mod glance;

use super::context::{FieldClass, local_name};
use super::email;
use super::name_cache::NameCache;
use super::phone::{CONFIRMING_DIGITS, DIGITS_MIN, PERSON_DIGITS_MIN, Run, has_open_digits};
use super::rules::Rule;
use super::scan::{Masks, masks_of};
use glance::{begins_with_date, hides, is_bare, is_inside_hex};

/// Reused between records.
#[derive(Default)]
pub(super) struct Gate {
    masks: Vec<Masks>,
    /// Offsets that need a closer look; not in order.
    spots: Vec<usize>,
    names: NameCache,
    run: Run,
}

/// What the gate says of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A scan would find nothing and refuse nothing.
    Clean,
    /// What there is to find lies around the spots.
    Spots,
    /// All of it has to be looked at.
    Whole,
}

/// What of the JSON structure has been seen.
#[derive(Default)]
struct Structure {
    in_string: bool,
    depth: i64,
    /// The next byte is escaped.
    escaped: bool,
}

impl Gate {
    /// Makes the masks of `record`; whether it holds printable ASCII only.
    pub(super) fn read(&mut self, record: &[u8]) -> bool {
        if self.masks.capacity() > KEPT_BLOCKS_MAX {
            self.masks = Vec::new();
        }
        masks_of(record, &mut self.masks);
        self.masks.iter().fold(0, |odd, masks| odd | masks.odd) == 0
    }

    /// What a scan of `record`, which was read last, has to look at with this threshold.
    pub(super) fn judge(&mut self, record: &[u8], threshold: i16) -> Verdict {
        self.spots.clear();
        let mut structure = Structure::default();
        for index in 0..self.masks.len() {
            let found = self.masks[index];
            if found.trigger != 0 || structure.escaped {
                self.add_triggers(record, index, &mut structure);
            }
            structure.add(&self.masks[index]);
            let next = self.masks.get(index + 1).map_or(0, |next| next.t);
            let at_word = found.a & (found.t >> 1 | next << 63);
            if at_word != 0 {
                self.add_written_signs(record, index * 64, at_word);
            }
        }
        let begins_as_json = record.trim_ascii_start().first() == Some(&b'{');
        let is_broken = structure.in_string || structure.depth != 0;
        if begins_as_json && is_broken {
            return Verdict::Whole;
        }
        self.add_suspicious_numbers(record, threshold);
        if self.spots.is_empty() { Verdict::Clean } else { Verdict::Spots }
    }

    /// Whether the digits `tail` stand in `record`, which was read last, at an offset that `counts`.
    pub(super) fn has_digits(
        &self,
        record: &[u8],
        tail: &[u8; CONFIRMING_DIGITS],
        counts: impl Fn(usize) -> bool,
    ) -> bool {
        const { assert!(CONFIRMING_DIGITS == 9) }
        (0..self.masks.len()).any(|index| {
            let (word, next) = (self.masks[index].digit, self.digits_of(index + 1));
            // Bit n of each: so many digits in a row from n on; `next` is the same for the next block.
            let step = |(word, next): (u64, u64), count: usize| {
                (word & ((word >> count) | (next << (64 - count))), next & (next >> count))
            };
            let eight = [1, 2, 4].into_iter().fold((word, next), step);
            let mut starts = eight.0 & ((word >> 8) | (next << 56));
            std::iter::from_fn(|| {
                let at = index * 64 + starts.trailing_zeros() as usize;
                (starts != 0).then(|| starts &= starts - 1).map(|()| at)
            })
            .any(|at| record[at..].starts_with(tail) && counts(at))
        })
    }

    fn digits_of(&self, index: usize) -> u64 {
        self.masks.get(index).map_or(0, |masks| masks.digit)
    }

    /// The quotation marks of the record judged last that no backslash escapes.
    pub(super) fn quotes(&self) -> Quotes<'_> {
        Quotes(&self.masks)
    }

    /// Whether every spot lies in one of these spans, which are sorted, as are the spots.
    pub(super) fn is_covered_by(&self, mut spans: impl Iterator<Item = (usize, usize)>) -> bool {
        let mut span = spans.next();
        self.spots.iter().all(|spot| {
            while span.is_some_and(|(_, end)| end <= *spot) {
                span = spans.next();
            }
            span.is_some_and(|(start, _)| start <= *spot)
        })
    }

    /// Sorts the spots, so that [`Gate::next_spot`] can be asked.
    pub(super) fn sort_spots(&mut self) {
        self.spots.sort_unstable();
    }

    /// The classes of names seen lately.
    pub(super) fn names(&mut self) -> &mut NameCache {
        &mut self.names
    }

    /// The spots of the record judged last, sorted if [`Gate::sort_spots`] was called since.
    pub(super) fn spots(&self) -> &[usize] {
        &self.spots
    }

    /// The first spot at or behind `from`.
    pub(super) fn next_spot(&self, from: usize) -> Option<usize> {
        self.spots.get(self.spots.partition_point(|spot| *spot < from)).copied()
    }

    /// Marks the words `at` that are a sign written out.
    fn add_written_signs(&mut self, record: &[u8], offset: usize, mut at_word: u64) {
        while at_word != 0 {
            let at = offset + at_word.trailing_zeros() as usize;
            at_word &= at_word - 1;
            let Some(before) = at.checked_sub(1) else { continue };
            let opens = matches!(record[before], b'(' | b'[' | b'{' | b'<' | b' ' | b'_');
            if opens && email::is_written_sign(record, before) {
                self.spots.push(at);
            }
        }
    }

    /// Marks the runs of digits that may be phone numbers.
    fn add_suspicious_numbers(&mut self, record: &[u8], threshold: i16) {
        let mut before = 0;
        for index in 0..self.masks.len() {
            let word = self.masks[index].number;
            let next = self.masks.get(index + 1).map_or(0, |next| next.number);
            let behind = |count: u32| (word >> count) | (next << (64 - count));
            // Positions at which seven bytes of a number begin.
            let twos = word & behind(1);
            let twos_next = next & (next >> 1);
            let twos_behind = |count: u32| (twos >> count) | (twos_next << (64 - count));
            let sevens = twos & twos_behind(2) & twos_behind(4) & behind(6);
            // Only where a run begins, or goes on from the block before.
            let mut starts = sevens & !((word << 1) | before);
            before = word >> 63;
            while starts != 0 {
                let start = index * 64 + starts.trailing_zeros() as usize;
                starts &= starts - 1;
                let end = self.run_end(start);
                // A run may begin or end in the signs around a value: its digits count.
                let Some(digits) = self.digits(start, end) else { continue };
                if self.is_suspicious(record, (start, end), digits, threshold) {
                    self.add_groups(digits);
                }
            }
        }
    }

    /// Marks the first digit of each group in `start..end`, and the last of all.
    fn add_groups(&mut self, (start, end): (usize, usize)) {
        let mut before = 0;
        for index in start / 64..end.div_ceil(64) {
            let word = self.masks[index].digit;
            let mut groups = word & !((word << 1) | before);
            before = word >> 63;
            while groups != 0 {
                let at = index * 64 + groups.trailing_zeros() as usize;
                groups &= groups - 1;
                if (start..end).contains(&at) {
                    self.spots.push(at);
                }
            }
        }
        self.spots.push(end - 1);
    }

    fn run_end(&self, start: usize) -> usize {
        let other = self.ahead(start, |masks| !masks.number);
        if other != 0 {
            return start + other.trailing_zeros() as usize;
        }
        let mut index = start / 64;
        let mut word = !self.masks[index].number & (u64::MAX << (start % 64));
        while word == 0 && index + 1 < self.masks.len() {
            index += 1;
            word = !self.masks[index].number;
        }
        if word == 0 { self.masks.len() * 64 } else { index * 64 + word.trailing_zeros() as usize }
    }

    /// The bits of `mask` for the 64 bytes from `at` on, that of `at` lowest.
    fn ahead(&self, at: usize, mask: impl Fn(&Masks) -> u64) -> u64 {
        let (index, shift) = (at / 64, at % 64);
        let next = self.masks.get(index + 1).map_or(0, &mask);
        self.masks.get(index).map_or(0, &mask) >> shift | next << 1 << (63 - shift)
    }

    /// The bits of `mask` for the 64 bytes before `at`, the nearest highest.
    fn before(&self, at: usize, mask: impl Fn(&Masks) -> u64) -> u64 {
        match at.checked_sub(64) {
            Some(from) => self.ahead(from, mask),
            None if at == 0 => 0,
            None => mask(&self.masks[0]) << (64 - at),
        }
    }

    /// The bits of `mask` in `start..end`, block by block, each with the offset of its block.
    fn words(
        &self,
        start: usize,
        end: usize,
        mask: impl Fn(&Masks) -> u64,
    ) -> impl DoubleEndedIterator<Item = (usize, u64)> {
        (start / 64..end.div_ceil(64)).map(move |index| {
            let mut word = mask(&self.masks[index]);
            if index == start / 64 {
                word &= u64::MAX << (start % 64);
            }
            if index == end / 64 {
                word &= !(u64::MAX << (end % 64));
            }
            (index * 64, word)
        })
    }

    /// Where the digits in `start..end` begin and end, when they are enough for a number.
    fn digits(&self, start: usize, end: usize) -> Option<(usize, usize)> {
        if (1..=64).contains(&(end - start)) {
            let found = self.ahead(start, |masks| masks.digit) & (u64::MAX >> (64 - (end - start)));
            let first = start + found.trailing_zeros() as usize;
            let end = start + 64 - found.leading_zeros() as usize;
            return (found.count_ones() as usize >= DIGITS_MIN).then_some((first, end));
        }
        let mut count = 0;
        let mut span = None;
        for (offset, word) in self.words(start, end, |masks| masks.digit) {
            if word != 0 {
                let first = offset + word.trailing_zeros() as usize;
                let end = offset + 64 - word.leading_zeros() as usize;
                span = Some((span.map_or(first, |(first, _)| first), end));
                count += word.count_ones() as usize;
            }
        }
        span.filter(|_| count >= DIGITS_MIN)
    }

    /// Whether the digits `first..last` of the run `start..end` may be a phone number.
    fn is_suspicious(
        &mut self,
        record: &[u8],
        (start, end): (usize, usize),
        (first, last): (usize, usize),
        threshold: i16,
    ) -> bool {
        let is_sign = |byte: &u8| matches!(byte, b'\\' | b'+');
        let is_one = self.is_token(first, last);
        if record[start..first].iter().any(is_sign)
            || record[last..end.min(record.len())].iter().any(is_sign)
            || !is_one && record[first..last].iter().any(is_sign)
        {
            return true;
        }
        if begins_with_date(record, first, last) || is_inside_hex(record, first, last) {
            return false;
        }
        if is_one && self.is_of_other_field(record, first, last, threshold) {
            return false;
        }
        has_open_digits(record, first, last, &mut self.run)
    }

    /// Whether the token around the digits `first..last` (an id with letters and hyphens, a decimal
    /// number) is the whole value of a field that holds something else.
    fn is_of_other_field(
        &mut self,
        record: &[u8],
        first: usize,
        last: usize,
        threshold: i16,
    ) -> bool {
        let Some((start, end)) = self.token_around(first, last, record.len()) else { return false };
        let opening = start.checked_sub(1).map(|index| record[index]);
        let closing = record.get(end).copied().unwrap_or(b' ');
        let is_whole = match opening {
            Some(b'"') => matches!(closing, b'"' | b'\\'),
            Some(b':' | b' ') => matches!(closing, b',' | b'}'),
            Some(b'=') => matches!(closing, b' ' | b'"' | b'&' | b'\\'),
            _ => false,
        };
        if !is_whole {
            return false;
        }
        let name = self.member_name(record, start).map(|name| (name, true));
        let Some((name, is_field)) = name.or_else(|| local_name(record, start)) else {
            return false;
        };
        match self.names.class(name) {
            FieldClass::Negative | FieldClass::MessageId => true,
            // Nothing but the numbering plan can speak for bare digits here, and its word alone is
            // never enough. (An exit code is another matter, and so are words behind.)
            FieldClass::Other if is_field => {
                BARE_MAX + Rule::FieldUnknown.weight() < threshold
                    && is_bare(record, first, last)
                    && closing != b' '
            }
            FieldClass::Person => {
                BARE_MAX < threshold
                    && is_bare(record, first, last)
                    && last - first < PERSON_DIGITS_MIN
                    && closing != b' '
            }
            _ => false,
        }
    }

    /// Whether `start..end`, which is not empty, holds bytes of a token only.
    fn is_token(&self, start: usize, end: usize) -> bool {
        if end - start <= 64 {
            return !self.ahead(start, |masks| masks.token) << (64 - (end - start)) == 0;
        }
        self.words(start, end, |masks| !masks.token).all(|(_, word)| word == 0)
    }

    /// Where the token around `first..last` begins and ends; `None` when it is long.
    fn token_around(&self, first: usize, last: usize, len: usize) -> Option<(usize, usize)> {
        // What lies outside the record is of no class.
        let before = !self.before(first, |masks| masks.token);
        let behind = !self.ahead(last, |masks| masks.token);
        if before != 0 && behind != 0 {
            let start = first - before.leading_zeros() as usize;
            return Some((start, (last + behind.trailing_zeros() as usize).min(len)));
        }
        let floor = first.saturating_sub(TOKEN_BYTES_MAX);
        let other = |masks: &Masks| !masks.token;
        let before = self.words(floor, first, other).rfind(|(_, word)| *word != 0);
        let start = match before {
            Some((offset, word)) => offset + 64 - word.leading_zeros() as usize,
            None if floor == 0 => 0,
            None => return None,
        };
        let ceiling = (last + TOKEN_BYTES_MAX).min(self.masks.len() * 64);
        let behind = self.words(last, ceiling, other).find(|(_, word)| *word != 0);
        let end = behind.map(|(offset, word)| offset + word.trailing_zeros() as usize);
        match end {
            Some(end) => Some((start, end.min(len))),
            None if ceiling >= len => Some((start, len)),
            None => None,
        }
    }

    /// The plain name of the JSON member whose value begins at `start`: what [`local_name`] finds,
    /// for the most frequent spelling only.
    fn member_name<'r>(&self, record: &'r [u8], start: usize) -> Option<&'r [u8]> {
        let before = &record[..start];
        let before = before.strip_suffix(b"\"").unwrap_or(before);
        let before = before.strip_suffix(b" ").unwrap_or(before);
        let before = before.strip_suffix(b"\":")?;
        let end = before.len();
        let len = self.before(end, |masks| masks.quote).leading_zeros() as usize;
        let is_name = (1..NAME_BYTES_MAX).contains(&len)
            && before[end - 1] != b'.'
            && self.is_token(end - len, end);
        is_name.then(|| &before[end - len..])
    }

    /// Marks the triggers of a block behind which something may hide; takes escaped quotes out of
    /// its mask.
    fn add_triggers(&mut self, record: &[u8], index: usize, structure: &mut Structure) {
        let (offset, found) = (index * 64, &mut self.masks[index]);
        let mut triggers = found.trigger;
        if structure.escaped {
            structure.escaped = false;
            found.quote &= !1;
            triggers &= !1;
        }
        while triggers != 0 {
            let bit = triggers.trailing_zeros();
            triggers &= triggers - 1;
            let at = offset + bit as usize;
            if hides(record, at) {
                self.spots.push(at);
            }
            if record[at] == b'\\' {
                if bit == 63 {
                    structure.escaped = true;
                } else {
                    found.quote &= !(2 << bit);
                    triggers &= !(2 << bit);
                }
            }
        }
    }
}

/// Where quotation marks stand that no backslash escapes.
#[derive(Clone, Copy)]
pub(super) struct Quotes<'a>(&'a [Masks]);

impl Quotes<'_> {
    /// The first one at or behind `at`.
    pub(super) fn next(self, at: usize) -> Option<usize> {
        let mut index = at / 64;
        let mut word = self.0.get(index)?.quote & (u64::MAX << (at % 64));
        while word == 0 {
            index += 1;
            word = self.0.get(index)?.quote;
        }
        Some(index * 64 + word.trailing_zeros() as usize)
    }
}

impl Structure {
    fn add(&mut self, found: &Masks) {
        // Prefix XOR: bit n is set when an odd number of quotes lies at or before it.
        let mut inside = found.quote;
        for shift in [1, 2, 4, 8, 16, 32] {
            inside ^= inside << shift;
        }
        if self.in_string {
            inside = !inside;
        }
        self.in_string = inside >> 63 == 1;
        let (open, close) = (found.open & !inside, found.close & !inside);
        if open | close != 0 {
            self.depth += i64::from(open.count_ones()) - i64::from(close.count_ones());
        }
    }
}

/// The most that the numbering plans can say for bare digits without an exit code.
const BARE_MAX: i16 = {
    let valid = Rule::NationalValid.weight() + Rule::NationalTrunk.weight();
    let bare = Rule::NationalPossible.weight() + Rule::BareInternational.weight();
    Rule::BareHome.weight() + if valid > bare { valid } else { bare }
};

/// Masks of a megabyte: what a longer record needed is given back.
const KEPT_BLOCKS_MAX: usize = 1 << 14;
/// Longer tokens are looked at closely.
const TOKEN_BYTES_MAX: usize = 80;
/// Longer names are found by [`local_name`].
const NAME_BYTES_MAX: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::redact::rules::THRESHOLD_BALANCED;

    fn judge(line: &str) -> Verdict {
        let mut gate = Gate::default();
        gate.read(line.as_bytes());
        gate.judge(line.as_bytes(), THRESHOLD_BALANCED)
    }

    #[test]
    fn ordinary_lines_leave_at_once() {
        let head = r#"{"ts":"2026-11-05T10:12:13.123Z","level":"info","service":"booking-api","tenant":"salon-17","trace_id":"42c4bd103b428ea8c6d49daaa4f15033","span_id":"0123456789012345","request_id":"18381323-5844-4942-8188-795312590847","at":1763600000123,"order_id":"9543109277","ip":"10.20.130.140","amount":4321.12,"version":"v1.2.3","duration_ms":899.123,"#;
        for rest in [
            r#""msg":"slots, 12 of 40 staff free","path":"/api/v1/slots?from=2026-11-20&staff=74271857","status":200}"#,
            r#""msg":"bot.turn","session":"01RKWE6012345678","text":"do you have a slot at half past ten?"}"#,
            r#""msg":"rebalanced","offset":3993370178,"lag":7776657,"thread":"http-nio-8080-exec-169"}"#,
            r#""msg":"line one\nline \"two\"","node":"ip-10-17-194-102.ap-south-1.compute.internal"}"#,
            r#""msg":"café für Größe, mañana","uid":"be793e89-2cc3-4f99-9884-9c6a624a84bc"}"#,
        ] {
            let line = format!("{head}{rest}");
            assert_eq!(judge(&line), Verdict::Clean, "{rest}");
        }
    }

    #[test]
    fn what_may_hold_something_is_looked_at() {
        for line in [
            r#"{"phone":"9876543210"}"#,
            r#"{"phone":9876543210}"#,
            r#"{"x":"asha\u0040x.in"}"#,
            r#"{"a":1"#,
            "call 98765 43210",
            "x %40 y",
            "\u{ff11}",
            "name at gmail dot com",
            "+4915112345678",
            r#"{"id":"9876543210 is my number"}"#,
        ] {
            assert_ne!(judge(line), Verdict::Clean, "{line}");
        }
    }
}

//! Where a record needs a closer look. Every record passes here; most leave at once, for the price of
//! one pass of masks and a glance at each run of digits. The rules are those of the slow path, and
//! only the ones by which it would certainly find nothing.

use super::context::{FieldClass, class_of_key, local_name};
use super::email;
use super::phone::{DIGITS_MIN, has_open_digits};
use super::rules::Rule;
use super::scan::{Masks, masks};
use super::views::{folds, hides_quoted_printable};

/// Reused between records.
#[derive(Default)]
pub(super) struct Gate {
    digits: Vec<u64>,
    numbers: Vec<u64>,
    /// Offsets that need a closer look; not in order.
    spots: Vec<usize>,
    names: NameCache,
}

/// Classes of names seen lately: services repeat theirs in every record. A name is compared whole,
/// so that no other can take its class.
#[derive(Default)]
struct NameCache(Vec<CachedName>);

#[derive(Clone, Copy)]
struct CachedName {
    name: [u8; CACHED_NAME_BYTES],
    len: usize,
    class: FieldClass,
}

const CACHED_NAME_BYTES: usize = 24;
const CACHED_NAMES: usize = 512;

impl NameCache {
    fn class(&mut self, name: &[u8]) -> FieldClass {
        if name.is_empty() || name.len() > CACHED_NAME_BYTES {
            return class_of_key(name);
        }
        if self.0.is_empty() {
            let empty =
                CachedName { name: [0; CACHED_NAME_BYTES], len: 0, class: FieldClass::None };
            self.0.resize(CACHED_NAMES, empty);
        }
        let hash = name
            .iter()
            .fold(name.len(), |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(*byte)));
        let cached = &mut self.0[(hash ^ (hash >> 9)) % CACHED_NAMES];
        if cached.len != name.len() || cached.name[..cached.len] != *name {
            cached.len = name.len();
            cached.name[..name.len()].copy_from_slice(name);
            cached.class = class_of_key(name);
        }
        cached.class
    }
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
    /// What a scan of `record` with this threshold has to look at.
    pub(super) fn judge(&mut self, record: &[u8], threshold: i16) -> Verdict {
        self.digits.clear();
        self.numbers.clear();
        self.spots.clear();
        let mut structure = Structure::default();
        let mut at_word = false;
        let mut previous_last = 0;
        let (blocks, rest) = record.as_chunks::<64>();
        let mut tail = [0; 64];
        tail[..rest.len()].copy_from_slice(rest);
        for (index, block) in blocks.iter().chain(std::iter::once(&tail)).enumerate() {
            let mut found = masks(block);
            if found.trigger != 0 || structure.escaped {
                self.add_triggers(record, index * 64, &mut found, &mut structure);
            }
            structure.add(&found);
            // A word `at` across two blocks.
            let splits = previous_last | 0x20 == b'a' && block[0] | 0x20 == b't';
            at_word |=
                splits || found.at_word != 0 && has_at_sign(record, index * 64, found.at_word);
            previous_last = block[63];
            self.digits.push(found.digit);
            self.numbers.push(found.number);
        }
        let begins_as_json = record.trim_ascii_start().first() == Some(&b'{');
        let is_broken = structure.in_string || structure.depth != 0;
        if begins_as_json && is_broken || at_word && email::may_be_obfuscated(record) {
            return Verdict::Whole;
        }
        self.add_suspicious_numbers(record, threshold);
        if self.spots.is_empty() { Verdict::Clean } else { Verdict::Spots }
    }

    /// Sorts the spots, so that [`Gate::has_spot`] can be asked.
    pub(super) fn sort_spots(&mut self) {
        self.spots.sort_unstable();
    }

    /// Whether one of the spots lies in `start..end`.
    pub(super) fn has_spot(&self, start: usize, end: usize) -> bool {
        let first = self.spots.partition_point(|spot| *spot < start);
        self.spots.get(first).is_some_and(|spot| *spot < end)
    }

    /// Marks the runs of digits that may be phone numbers.
    fn add_suspicious_numbers(&mut self, record: &[u8], threshold: i16) {
        for index in 0..self.numbers.len() {
            let word = self.numbers[index];
            let next = self.numbers.get(index + 1).copied().unwrap_or(0);
            let behind = |count: u32| (word >> count) | (next << (64 - count));
            // Positions at which seven bytes of a number begin.
            let twos = word & behind(1);
            let twos_next = next & (next >> 1);
            let twos_behind = |count: u32| (twos >> count) | (twos_next << (64 - count));
            let sevens = twos & twos_behind(2) & twos_behind(4) & behind(6);
            if sevens == 0 {
                continue;
            }
            // Only where a run begins, or goes on from the block before.
            let before = index.checked_sub(1).map_or(0, |before| self.numbers[before] >> 63);
            let mut starts = sevens & !((word << 1) | before);
            while starts != 0 {
                let start = index * 64 + starts.trailing_zeros() as usize;
                starts &= starts - 1;
                let end = self.run_end(start);
                if self.digit_count(start, end) >= DIGITS_MIN {
                    if is_suspicious(record, start, end, threshold, &mut self.names) {
                        // A run may begin or end in the signs around a value: its digits count.
                        let digits = (start..end).filter(|at| record[*at].is_ascii_digit());
                        self.spots.extend(digits);
                    }
                }
            }
        }
    }

    fn run_end(&self, start: usize) -> usize {
        let mut index = start / 64;
        let mut word = !self.numbers[index] & (u64::MAX << (start % 64));
        while word == 0 && index + 1 < self.numbers.len() {
            index += 1;
            word = !self.numbers[index];
        }
        if word == 0 {
            self.numbers.len() * 64
        } else {
            index * 64 + word.trailing_zeros() as usize
        }
    }

    fn digit_count(&self, start: usize, end: usize) -> usize {
        let (first, last) = (start / 64, (end - 1) / 64);
        let count: u32 = (first..=last)
            .map(|index| {
                let mut word = self.digits[index];
                if index == first {
                    word &= u64::MAX << (start % 64);
                }
                if index == last && !end.is_multiple_of(64) {
                    word &= u64::MAX >> (64 - end % 64);
                }
                word.count_ones()
            })
            .sum();
        count as usize
    }

    /// Marks the triggers of a block behind which something may hide; takes escaped quotes out of
    /// `found`.
    fn add_triggers(
        &mut self,
        record: &[u8],
        offset: usize,
        found: &mut Masks,
        structure: &mut Structure,
    ) {
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
        let outside = !inside;
        self.depth += i64::from((found.open & outside).count_ones());
        self.depth -= i64::from((found.close & outside).count_ones());
    }
}

/// Whether something may hide behind the trigger at `at`.
fn hides(record: &[u8], at: usize) -> bool {
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

/// Whether one of the words at `at_word` is a sign written out: `(at)`, ` at `, `_at_`.
fn has_at_sign(record: &[u8], offset: usize, mut at_word: u64) -> bool {
    while at_word != 0 {
        let at = offset + at_word.trailing_zeros() as usize;
        at_word &= at_word - 1;
        let before = at.checked_sub(1).map(|index| record[index]);
        let behind = record.get(at + 2);
        let opens = matches!(before, Some(b'(' | b'[' | b'{' | b'<' | b' ' | b'_'));
        if opens && matches!(behind, Some(b')' | b']' | b'}' | b'>' | b' ' | b'_')) {
            return true;
        }
    }
    false
}

/// Whether the run of digits and signs `start..end` may be a phone number.
fn is_suspicious(
    record: &[u8],
    start: usize,
    end: usize,
    threshold: i16,
    names: &mut NameCache,
) -> bool {
    let run = &record[start..end];
    if memchr::memchr2(b'\\', b'+', run).is_some() {
        return true;
    }
    let first = start + run.iter().take_while(|byte| !byte.is_ascii_digit()).count();
    let last = end - run.iter().rev().take_while(|byte| !byte.is_ascii_digit()).count();
    if begins_with_date(record, first, last) {
        return false;
    }
    let is_one = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    if record[first..last].iter().all(is_one)
        && is_of_other_field(record, first, last, threshold, names)
    {
        return false;
    }
    has_open_digits(record, first, last)
}

/// `2026-11-20` with fewer digits behind it than a number has.
fn begins_with_date(record: &[u8], first: usize, last: usize) -> bool {
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

/// Whether the token around the digits `first..last` (an id with letters and hyphens, a decimal
/// number) is the whole value of a field that holds something else.
fn is_of_other_field(
    record: &[u8],
    first: usize,
    last: usize,
    threshold: i16,
    names: &mut NameCache,
) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let before = record[..first].iter().rev().take(TOKEN_BYTES_MAX);
    let start = first - before.take_while(|byte| is_token(**byte)).count();
    let behind = record[last..].iter().take(TOKEN_BYTES_MAX);
    let end = last + behind.take_while(|byte| is_token(**byte)).count();
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
    let Some((name, is_field)) = local_name(record, start) else { return false };
    match names.class(name) {
        FieldClass::Negative | FieldClass::MessageId => true,
        // Nothing but the numbering plan can speak for bare digits here, and its word alone is
        // never enough. (An exit code is another matter, and so are words behind.)
        FieldClass::Other if is_field => {
            BARE_MAX + Rule::FieldUnknown.weight() < threshold
                && is_bare(record, first, last)
                && closing != b' '
        }
        FieldClass::Person => {
            BARE_MAX < threshold && is_bare(record, first, last) && closing != b' '
        }
        _ => false,
    }
}

/// Digits alone, without an exit code.
fn is_bare(record: &[u8], first: usize, last: usize) -> bool {
    let digits = &record[first..last];
    digits.iter().all(u8::is_ascii_digit) && digits[0] != b'0'
}

/// The most that the numbering plans can say for bare digits without an exit code.
const BARE_MAX: i16 = {
    let valid = Rule::NationalValid.weight() + Rule::NationalTrunk.weight();
    let bare = Rule::NationalPossible.weight() + Rule::BareInternational.weight();
    Rule::BareHome.weight() + if valid > bare { valid } else { bare }
};

/// Longer tokens are looked at closely.
const TOKEN_BYTES_MAX: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::redact::rules::THRESHOLD_BALANCED;

    fn judge(line: &str) -> Verdict {
        Gate::default().judge(line.as_bytes(), THRESHOLD_BALANCED)
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

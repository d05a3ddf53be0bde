//! What digit groups are when they are certainly no phone number: dates, times, network addresses,
//! card numbers, UUIDs, hex dumps.

use super::run::{Group, Link, Run};

/// Marks the groups of `run` that are part of something else.
pub(super) fn block_other_shapes(text: &[u8], run: &mut Run) {
    let count = run.groups.len();
    // A plus makes its groups a number: `+31.6.2038.1234` is no day in June.
    let has_plus = text[..run.groups[0].start].ends_with(b"+");
    for at in usize::from(has_plus)..count {
        let next = run.groups.get(at + 1).map(|next| next.link);
        // The length of a group and the sign behind it leave few shapes to be tried.
        let known = match (run.groups[at].len(), next) {
            (4, Some(_)) => date(run, at).max(fours(run, at)),
            (1..=3, Some(Link::Sign(b'.'))) => {
                let address = if has_plus { None } else { ipv4(run, at) };
                date(run, at).max(clock_range(run, at)).max(address)
            }
            (1..=2, Some(Link::Sign(_))) => date(run, at),
            (8, Some(Link::Sign(b'-'))) => uuid(run, at),
            _ => None,
        };
        block(run, at, known.unwrap_or(0));
    }
    if is_hex_dump(text, run) {
        block(run, 0, count);
    }
    for group in &mut run.groups {
        group.blocked |= is_clock_part(text, group) || group.len() > super::run::GROUP_DIGITS_MAX;
    }
}

fn block(run: &mut Run, at: usize, len: usize) {
    for group in run.groups.iter_mut().skip(at).take(len) {
        group.blocked = true;
    }
}

fn value(run: &Run, at: usize) -> u64 {
    let digits = run.digits(at, at);
    digits.iter().take(18).fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))
}

fn lengths<const N: usize>(run: &Run, at: usize) -> Option<[usize; N]> {
    let groups = run.groups.get(at..at + N)?;
    Some(std::array::from_fn(|index| groups[index].len()))
}

/// Whether the `n` groups behind `at` hang on by the same sign; the sign.
fn same_sign(run: &Run, at: usize, n: usize) -> Option<u8> {
    let links = run.groups.get(at + 1..at + n)?;
    let Link::Sign(sign) = links.first()?.link else { return None };
    links.iter().all(|group| group.link == Link::Sign(sign)).then_some(sign)
}

/// Year-month-day, day-month-year, month-day-year.
fn date(run: &Run, at: usize) -> Option<usize> {
    let parts: [usize; 3] = lengths(run, at)?;
    if !matches!(parts, [4, 1..=2, 1..=2] | [1..=2, 1..=2, 4]) {
        return None;
    }
    same_sign(run, at, 3)?;
    let values = [value(run, at), value(run, at + 1), value(run, at + 2)];
    let year = |value: u64| (1900..2200).contains(&value);
    let day_month = |a: u64, b: u64| a >= 1 && b >= 1 && a <= 31 && b <= 31 && (a <= 12 || b <= 12);
    let is_date = match parts {
        [4, 1..=2, 1..=2] => year(values[0]) && day_month(values[2], values[1]),
        // The year may run straight into an hour: "13/01/2024".
        [1..=2, 1..=2, 4] => year(values[2]) && day_month(values[0], values[1]),
        _ => false,
    };
    is_date.then_some(3)
}

/// `09.00-09.45`, as opening hours are written.
fn clock_range(run: &Run, at: usize) -> Option<usize> {
    let parts: [usize; 4] = lengths(run, at)?;
    if parts != [2; 4] {
        return None;
    }
    let dot = Link::Sign(b'.');
    let groups = &run.groups[at..at + 4];
    let is_range = groups[1].link == dot
        && groups[3].link == dot
        && groups[2].link != dot
        && value(run, at) < 25
        && value(run, at + 1) < 60
        && value(run, at + 2) < 25
        && value(run, at + 3) < 60;
    is_range.then_some(4)
}

fn ipv4(run: &Run, at: usize) -> Option<usize> {
    let is_part = |index: usize| {
        let digits = run.digits(index, index);
        digits.len() <= 3 && value(run, index) <= 255 && (digits.len() == 1 || digits[0] != b'0')
    };
    let alone = run.groups.get(at + 4).is_none_or(|next| next.link != Link::Sign(b'.'));
    let first = at == 0 || run.groups[at].link != Link::Sign(b'.');
    let is_address = same_sign(run, at, 4)? == b'.' && first && alone && (at..at + 4).all(is_part);
    is_address.then_some(4)
}

fn uuid(run: &Run, at: usize) -> Option<usize> {
    let is_uuid = same_sign(run, at, 5)? == b'-' && lengths(run, at)? == [8, 4, 4, 4, 12];
    is_uuid.then_some(5)
}

/// Card, IBAN and licence numbers: four or more groups of four.
fn fours(run: &Run, at: usize) -> Option<usize> {
    let first = run.groups.get(at)?;
    let link = run.groups.get(at + 1)?.link;
    if first.len() != 4 {
        return None;
    }
    let behind = run.groups[at + 1..]
        .iter()
        .take_while(|group| group.len() == 4 && group.link == link)
        .count();
    // A shorter last group belongs to it.
    let rest = run.groups.get(at + 1 + behind).is_some_and(|g| g.link == link && g.len() < 4);
    (behind >= 3).then_some(1 + behind + usize::from(rest))
}

/// Pairs between other bytes in hexadecimal: `e9 2b 39 38 37`.
fn is_hex_dump(text: &[u8], run: &Run) -> bool {
    let pairs = run.groups.iter().skip(1).filter(|g| g.len() <= 2 && g.link == Link::Space).count();
    if pairs < 3 || pairs + 1 < run.groups.len() {
        return false;
    }
    let first = run.groups[0].start;
    let last = run.groups[run.groups.len() - 1];
    let is_hex_pair = |pair: &[u8]| {
        pair.len() == 2
            && pair.iter().all(u8::is_ascii_hexdigit)
            && pair.iter().any(u8::is_ascii_alphabetic)
    };
    let before = text[..first].trim_ascii_end();
    let before = &before[before.len().saturating_sub(2)..];
    let behind = &text[last.end..];
    is_hex_pair(before)
        || behind.first().is_some_and(u8::is_ascii_hexdigit)
        || behind.len() > 2 && behind[0] == b' ' && is_hex_pair(&behind[1..3])
}

/// Hours, minutes, ports: a group next to a colon next to a digit.
fn is_clock_part(text: &[u8], group: &Group) -> bool {
    group.len() <= 2
        && (matches!(text[..group.start], [.., b'0'..=b'9', b':'])
            || matches!(text[group.end..], [b':', b'0'..=b'9', ..]))
}

/// `YYYYMMDD`, with `hhmm` or `hhmmss` behind it.
pub(super) fn is_compact_stamp(digits: &[u8]) -> bool {
    let number = |start: usize, len: usize| {
        digits[start..start + len].iter().fold(0_u32, |sum, d| sum * 10 + u32::from(d - b'0'))
    };
    if !matches!(digits.len(), 8 | 12 | 14 | 17) {
        return false;
    }
    let date = (1970..2100).contains(&number(0, 4))
        && (1..=12).contains(&number(4, 2))
        && (1..=31).contains(&number(6, 2));
    let minute = digits.len() == 8 || number(8, 2) < 24 && number(10, 2) < 60;
    date && minute && (digits.len() < 14 || number(12, 2) < 61)
}

/// Seconds, milli- or microseconds since 1970, for times from 2001 to 2033.
pub(super) fn is_epoch(digits: &[u8]) -> bool {
    matches!(digits.len(), 10 | 13 | 16) && digits[0] == b'1'
}

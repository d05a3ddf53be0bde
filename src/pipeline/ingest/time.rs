//! Event times: numbers by their magnitude, RFC 3339 and its relatives by hand (the common case),
//! RFC 2822 and access-log times through jiff. A time without a zone is one only where a setting says
//! which zone is meant: taken for UTC it would be hours late or early, and late records alert nobody.

use jiff::tz::{Offset, TimeZone};

use crate::pipeline::record::Timestamp;

/// The time `text` means, if it means one; `zone` is that of times that name none.
pub(super) fn time_of(text: &str, zone: Option<&TimeZone>) -> Option<Timestamp> {
    let text = text.trim();
    if let Some((local, rest)) = local_millis(text.as_bytes()) {
        if rest.is_empty() {
            return in_zone(local, zone?);
        }
        if let Some(offset) = offset_minutes(rest) {
            return Some(Timestamp::from_millis(local - offset * 60_000));
        }
    }
    let first = text.bytes().next()?;
    if first.is_ascii_digit()
        && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+'))
    {
        return time_of_number(text);
    }
    time_of_rare_form(text)
}

/// The time that `text` begins with, and its length. What follows without being an offset is no
/// part of it.
pub(super) fn leading_time(text: &str, zone: Option<&TimeZone>) -> Option<(Timestamp, usize)> {
    let (local, rest) = local_millis(text.as_bytes())?;
    if let [b' ', b'U', b'T', b'C', ..] | [b' ', b'G', b'M', b'T', ..] = rest {
        return Some((Timestamp::from_millis(local), text.len() - rest.len() + 4));
    }
    let is_spaced = matches!(rest, [b' ', b'+' | b'-', b'0'..=b'9', ..]);
    let offset = &rest[usize::from(is_spaced)..];
    let offset_len =
        offset.iter().take_while(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b':' | b'Z')).count();
    let offset = offset[..offset_len].strip_suffix(b":").unwrap_or(&offset[..offset_len]);
    let len = text.len() - rest.len();
    match offset_minutes(offset) {
        Some(minutes) => {
            let time = Timestamp::from_millis(local - minutes * 60_000);
            Some((time, len + usize::from(is_spaced) + offset.len()))
        }
        None => Some((in_zone(local, zone?)?, len)),
    }
}

/// A local time, given as if it were UTC. What a change of the clocks repeats is taken for the first
/// of the two.
fn in_zone(local_millis: i64, zone: &TimeZone) -> Option<Timestamp> {
    let as_utc = jiff::Timestamp::from_millisecond(local_millis).ok()?;
    let time = zone.to_timestamp(Offset::UTC.to_datetime(as_utc)).ok()?;
    Some(Timestamp::from_millis(time.as_millisecond()))
}

/// Seconds, milliseconds, microseconds or nanoseconds: magnitudes of our times do not overlap.
/// Numbers before 1973 (in any unit) are no times: durations, dates and counters look like that.
fn time_of_number(text: &str) -> Option<Timestamp> {
    if let Ok(whole) = text.parse::<i64>() {
        let millis = match whole {
            SECONDS_MIN..SECONDS_END => whole * 1_000,
            SECONDS_END..MILLIS_END => whole,
            MILLIS_END..MICROS_END => whole / 1_000,
            MICROS_END.. => whole / 1_000_000,
            _ => return None,
        };
        return Some(Timestamp::from_millis(millis));
    }
    let number = text.parse::<f64>().ok()?;
    let millis = match number {
        _ if number < SECONDS_MIN as f64 => return None,
        _ if number < SECONDS_END as f64 => number * 1e3,
        _ if number < MILLIS_END as f64 => number,
        _ if number < MICROS_END as f64 => number / 1e3,
        _ if number < i64::MAX as f64 => number / 1e6,
        _ => return None,
    };
    #[expect(clippy::cast_possible_truncation, reason = "the branches above bound it")]
    Some(Timestamp::from_millis(millis.round() as i64))
}

const SECONDS_MIN: i64 = 100_000_000;
const SECONDS_END: i64 = 100_000_000_000;
const MILLIS_END: i64 = 100_000_000_000_000;
const MICROS_END: i64 = 100_000_000_000_000_000;

/// `2026-11-23T09:41:07.123`, with `/` or a space or a comma in the usual places, as if it were UTC;
/// and what follows.
fn local_millis(text: &[u8]) -> Option<(i64, &[u8])> {
    let year = number(text.get(..4)?)?;
    let month = number(text.get(5..7)?)?;
    let day = number(text.get(8..10)?)?;
    let separator = *text.get(4)?;
    if !matches!(separator, b'-' | b'/') || text.get(7) != Some(&separator) {
        return None;
    }
    if !(1..=12).contains(&month) || !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }
    if !matches!(text.get(10)?, b'T' | b't' | b' ' | b'_') {
        return None;
    }
    let (hour, minute) = (number(text.get(11..13)?)?, number(text.get(14..16)?)?);
    let second = number(text.get(17..19)?)?;
    if text[13] != b':' || text[16] != b':' || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction_millis, rest) = fraction(&text[19..]);
    let days = days_from_civil(year, month, day);
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second.min(59);
    Some((seconds * 1_000 + fraction_millis, rest))
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0'))
    })
}

fn fraction(text: &[u8]) -> (i64, &[u8]) {
    let Some((b'.' | b',', digits)) = text.split_first() else { return (0, text) };
    let len = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let millis = (0..3).fold(0, |millis, at| {
        let digit = if at < len { i64::from(digits[at] - b'0') } else { 0 };
        millis * 10 + digit
    });
    (millis, &digits[len..])
}

/// `Z`, `+05:30`, `+0530`, ` +0530` or ` UTC`.
fn offset_minutes(text: &[u8]) -> Option<i64> {
    let text = text.strip_prefix(b" ").unwrap_or(text);
    let (sign, digits) = match text.split_first() {
        Some((b'Z' | b'z', [])) => return Some(0),
        Some((b'+', digits)) => (1, digits),
        Some((b'-', digits)) => (-1, digits),
        _ if matches!(text, b"UTC" | b"GMT") => return Some(0),
        _ => return None,
    };
    let (hours, minutes) = match digits.len() {
        2 => (number(digits)?, 0),
        4 => (number(&digits[..2])?, number(&digits[2..])?),
        5 if digits[2] == b':' => (number(&digits[..2])?, number(&digits[3..])?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar (Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms").
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Forms that are rare in logs of services: RFC 2822, access logs, RFC 3339 with odd widths.
fn time_of_rare_form(text: &str) -> Option<Timestamp> {
    const BYTES_MAX: usize = 64;
    const FORMS: [&str; 2] = ["%d/%b/%Y:%H:%M:%S %z", "%a %b %e %H:%M:%S %Y %z"];
    if text.len() > BYTES_MAX || !text.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let parsed = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let zoned = jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp());
        zoned.or_else(|| FORMS.iter().find_map(|form| jiff::Timestamp::strptime(form, text).ok()))
    })?;
    Some(Timestamp::from_millis(parsed.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time_of(text: &str) -> Option<Timestamp> {
        super::time_of(text, None)
    }

    #[test]
    fn a_time_without_a_zone_is_one_where_the_zone_is_known() {
        let millis = |text, zone: &TimeZone| {
            let time = super::time_of(text, Some(zone));
            assert_eq!(leading_time(text, Some(zone)).map(|(time, _)| time), time, "{text}");
            time.map(Timestamp::millis)
        };
        let new_york = TimeZone::get("America/New_York").unwrap();
        for (text, zone, expected) in [
            ("2023-11-14 22:13:20,123", &TimeZone::UTC, 1_700_000_000_123),
            ("2023-11-14 17:13:20,123", &new_york, 1_700_000_000_123),
            ("2023-11-14 22:13:20.123 UTC", &new_york, 1_700_000_000_123),
            ("2023-11-14 22:13:20.123Z", &new_york, 1_700_000_000_123),
            // Repeated and skipped by the clocks.
            ("2023-11-05 01:30:00", &new_york, 1_699_162_200_000),
            ("2023-03-12 02:30:00", &new_york, 1_678_606_200_000),
        ] {
            assert_eq!(millis(text, zone), Some(expected), "{text}");
        }
        for text in ["2023-11-14 22:13:20,123", "2023-11-14T22:13:20"] {
            assert_eq!((time_of(text), leading_time(text, None)), (None, None), "{text}");
        }
        let of_postgres = "2023-11-14 22:13:20.123 UTC [7] ERROR:  x";
        let at = Timestamp::from_millis(1_700_000_000_123);
        assert_eq!(leading_time(of_postgres, None), Some((at, 27)));
    }

    #[test]
    fn numbers_are_read_by_magnitude() {
        let at = Some(Timestamp::from_millis(1_700_000_000_123));
        for text in [
            "1700000000123",
            "1700000000.123",
            "1700000000123456",
            "1700000000123456789",
            "1.700000000123e9",
        ] {
            assert_eq!(time_of(text), at, "{text}");
        }
        assert_eq!(time_of("1700000000"), Some(Timestamp::from_millis(1_700_000_000_000)));
        for text in ["12", "20240101", "-5", "", "1e999", "99999999999999999999999999", "."] {
            assert_eq!(time_of(text), None, "{text}");
        }
    }

    #[test]
    fn written_times_are_read() {
        let at = Some(Timestamp::from_millis(1_700_000_000_123));
        for text in [
            "2023-11-14T22:13:20.123Z",
            "2023-11-14T22:13:20.123456789Z",
            "2023-11-15T03:43:20.123+05:30",
            "2023-11-15 03:43:20,123 +0530",
            "2023/11/14 22:13:20.123 UTC",
        ] {
            assert_eq!(time_of(text), at, "{text}");
        }
        let at = Some(Timestamp::from_millis(1_700_000_000_000));
        for text in [
            "Tue, 14 Nov 2023 22:13:20 +0000",
            "14/Nov/2023:22:13:20 +0000",
            "2023-11-14T22:13:20Z",
        ] {
            assert_eq!(time_of(text), at, "{text}");
        }
        for text in [
            "2023-02-30T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "2023-11-14",
            "yesterday",
            "2023-11-14T25:00:00Z",
        ] {
            assert_eq!(time_of(text), None, "{text}");
        }
        assert_eq!(time_of("1970-01-01T00:00:00Z"), Some(Timestamp::EPOCH));
        assert_eq!(
            time_of("0000-01-01T00:00:00Z").map(Timestamp::millis),
            Some(-62_167_219_200_000)
        );
    }

    #[test]
    fn the_calendar_agrees_with_jiff() {
        for day in (-800_000..900_000).step_by(97) {
            let written = Timestamp::from_millis(day * 86_400_000).to_rfc3339();
            if let Ok(time) = written.parse::<jiff::Timestamp>() {
                assert_eq!(time_of(&written).map(Timestamp::millis), Some(time.as_millisecond()));
            }
        }
    }
}

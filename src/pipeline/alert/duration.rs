//! Durations as people write them in rules: `30s`, `5m`, `1h30m`, `1d`.

/// Milliseconds of `text`: whole numbers with the units `ms`, `s`, `m`, `h` and `d`, largest first
/// or not; `None` when it is anything else or over a year.
#[must_use]
pub fn parse_duration(text: &str) -> Option<i64> {
    const YEAR_MS: i64 = 366 * 86_400_000;
    let mut rest = text.trim();
    let mut total = 0_i64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        rest = &rest[end..];
        total = total.checked_add(number.checked_mul(unit)?)?;
    }
    (total <= YEAR_MS).then_some(total)
}

/// `millis` in the largest units that fit: `90000` is `1m30s`.
#[must_use]
pub fn format_duration(millis: i64) -> String {
    let mut rest = millis.max(0);
    let mut text = String::new();
    for (unit, name) in
        [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")]
    {
        if rest >= unit {
            text.push_str(&format!("{}{name}", rest / unit));
            rest %= unit;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(millis in 0i64..31_000_000_000) {
            prop_assert_eq!(parse_duration(&format_duration(millis)), Some(millis));
        }
    }

    #[test]
    fn only_whole_numbers_with_units_are_durations() {
        assert_eq!(parse_duration("1h30m"), Some(5_400_000));
        for text in ["", "5", "m", "5 m", "-5m", "1.5h", "5x", "99999999999999999999s", "9999d"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}

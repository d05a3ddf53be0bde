//! The world's numbering plans: which digits make a telephone number, where, and of what type.
//!
//! The data is libphonenumber's (Apache-2.0; version in [`SOURCE`]), turned by
//! `tools/numbering_plan.py` into one acyclic automaton over all calling codes. A look-up walks one
//! table row per digit; no pattern is compiled or interpreted at run time. That a number is valid is
//! weak evidence on its own: two of three random ten-digit strings are valid in India.

use std::fmt;

#[rustfmt::skip]
mod tables;

/// Name and version of the data behind the tables; part of the policy's identity.
pub const SOURCE: &str = tables::SOURCE;

/// A country or territory with its own numbering, named by ISO 3166-1 alpha-2; `001` stands for
/// codes of no country (international freephone, satellite).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region(u8);

impl Region {
    /// The code of numbers that belong to no country.
    pub const WORLD: Self = Self(0);

    /// From a two-letter code in any case, or `001`. `None` when libphonenumber has no such region.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::all().find(|region| region.code().eq_ignore_ascii_case(text))
    }

    /// The two-letter code, or `001`.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.row().code
    }

    /// The calling code, 1 to 999; 0 for [`Region::WORLD`], whose numbers have several.
    #[must_use]
    pub fn calling_code(self) -> u16 {
        self.plan().map_or(0, |plan| plan.calling_code)
    }

    /// Every region, [`Region::WORLD`] first, then by code.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).take(tables::REGIONS.len()).map(Self)
    }

    fn row(self) -> &'static RegionRow {
        &tables::REGIONS[usize::from(self.0)]
    }

    fn plan(self) -> Option<&'static CallingCodeRow> {
        tables::CALLING_CODES.get(usize::from(self.row().calling_code_index))
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

impl fmt::Display for Region {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

/// What a number is used for, as far as its digits tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NumberType {
    /// Mobile.
    Mobile,
    /// Fixed line.
    FixedLine,
    /// Either: the plan (North America for one) does not tell them apart.
    FixedOrMobile,
    /// Freephone, premium rate, shared cost, voice over IP, personal, pager, company, voicemail.
    Other,
}

/// A complete, valid number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberMatch {
    /// Where the number belongs.
    pub region: Region,
    /// Its calling code.
    pub calling_code: u16,
    /// Its type.
    pub number_type: NumberType,
    /// Index into the digits given where the national number starts (behind calling code and trunk
    /// prefix).
    pub national_start: usize,
    /// For Argentine mobile numbers in domestic form (area code, 15, subscriber): digits of the area
    /// code. The international form has a 9 before the area code and no 15.
    pub(super) argentine_area_digits: Option<usize>,
}

/// Matches the ASCII `digits` that follow `+` or `00`: calling code, then a valid national number
/// (a trunk prefix in between, as in `+44 (0)20`, is stepped over).
#[must_use]
pub fn match_international(digits: &[u8]) -> Option<NumberMatch> {
    let plan = plan_of(digits)?;
    let code_digits = usize::from(plan.digits);
    let national = &digits[code_digits..];
    let main_region = Region(plan.main_region).row();
    match_in(plan, main_region.trunk_prefixes, national).map(|mut found| {
        found.national_start += code_digits;
        found
    })
}

/// The calling code, when the ASCII `digits` that follow `+` or `00` have a length that numbers
/// under it can have. Says nothing about the digits behind the code, but that a `0` there may be the
/// trunk prefix of `+34 (0) 617 133 706`, which people write even where there is none.
#[must_use]
pub fn possible_international(digits: &[u8]) -> Option<u16> {
    let plan = plan_of(digits)?;
    let national = &digits[usize::from(plan.digits)..];
    let without_zero = national.strip_prefix(b"0".as_slice()).unwrap_or(national);
    (has_length(plan.lengths, national.len()) || has_length(plan.lengths, without_zero.len()))
        .then_some(plan.calling_code)
}

/// Matches ASCII `digits` as dialled inside `region`, with or without the trunk prefix. Regions that
/// share a calling code share a plan, so the match may lie in a neighbour (Canada for the US).
#[must_use]
pub fn match_national(region: Region, digits: &[u8]) -> Option<NumberMatch> {
    let plan = region.plan()?;
    match_in(plan, region.row().trunk_prefixes, digits)
}

/// Whether ASCII `digits` have a length that national numbers of `region` can have, with or without
/// the trunk prefix.
#[must_use]
pub fn possible_national(region: Region, digits: &[u8]) -> bool {
    let row = region.row();
    has_length(row.lengths, digits.len())
        || row
            .trunk_prefixes
            .iter()
            .filter(|prefix| digits.starts_with(prefix))
            .any(|prefix| has_length(row.lengths, digits.len() - prefix.len()))
}

/// Whether a national number of `region` is written in groups of these lengths, with the trunk
/// prefix before the first group, apart from it, or absent. Fewer than two groups never fit:
/// undivided digits are no evidence.
#[must_use]
pub fn grouping_fits(region: Region, groups: &[usize]) -> bool {
    let (Some(plan), [first, rest @ ..]) = (region.plan(), groups) else {
        return false;
    };
    if rest.is_empty() {
        return false;
    }
    let prefix_digits = region.row().trunk_prefixes.first().map_or(0, |prefix| prefix.len());
    let follows = |groups: &[usize], shape: &[u8]| {
        groups.iter().zip(shape).all(|(digits, bounds)| within(*bounds, *digits))
    };
    let glued = first.wrapping_sub(prefix_digits);
    let is_apart = prefix_digits > 0 && *first == prefix_digits;
    plan.groupings.iter().any(|shape| match shape {
        [opening, behind @ ..] if behind.len() == rest.len() => {
            (within(*opening, *first) || within(*opening, glued)) && follows(rest, behind)
        }
        _ => is_apart && shape.len() == rest.len() && follows(rest, shape),
    })
}

struct RegionRow {
    code: &'static str,
    calling_code_index: u8,
    /// Bit n: numbers of n digits exist.
    lengths: u32,
    trunk_prefixes: &'static [&'static [u8]],
}

struct CallingCodeRow {
    calling_code: u16,
    digits: u8,
    main_region: u8,
    root: u16,
    lengths: u32,
    /// Per written form, per group: least and most digits, a nibble each.
    groupings: &'static [&'static [u8]],
}

const ARGENTINA_CALLING_CODE: u16 = 54;
const ARGENTINE_NATIONAL_DIGITS: usize = 10;

fn plan_of(digits: &[u8]) -> Option<&'static CallingCodeRow> {
    let [first, second, third, ..] = digits else {
        return None;
    };
    let slot = [first, second, third].iter().try_fold(0, |number, digit| {
        let value = digit.wrapping_sub(b'0');
        (value < 10).then(|| number * 10 + usize::from(value))
    })?;
    tables::CALLING_CODES.get(usize::from(tables::CODE_BY_PREFIX[slot]))
}

fn match_in(plan: &CallingCodeRow, trunk_prefixes: &[&[u8]], digits: &[u8]) -> Option<NumberMatch> {
    let found = |label: u16, national_start, argentine_area_digits| {
        let (region, number_type) = read_label(label);
        NumberMatch {
            region,
            calling_code: plan.calling_code,
            number_type,
            national_start,
            argentine_area_digits,
        }
    };
    let read = |national: &[u8]| {
        has_length(plan.lengths, national.len()).then(|| walk(plan.root, national)).flatten()
    };
    if let Some(label) = read(digits) {
        return Some(found(label, 0, None));
    }
    for prefix in trunk_prefixes {
        let Some(national) = digits.strip_prefix(*prefix) else { continue };
        if let Some(label) = read(national) {
            return Some(found(label, prefix.len(), None));
        }
    }
    if plan.calling_code != ARGENTINA_CALLING_CODE {
        return None;
    }
    let start = usize::from(digits.first() == Some(&b'0'));
    argentine_mobile(plan.root, &digits[start..])
        .map(|(label, area_digits)| found(label, start, Some(area_digits)))
}

/// Area code of two to four digits, 15, subscriber: ten digits without the 15.
fn argentine_mobile(root: u16, digits: &[u8]) -> Option<(u16, usize)> {
    if digits.len() != ARGENTINE_NATIONAL_DIGITS + 2 {
        return None;
    }
    (2..=4).filter(|&area| &digits[area..area + 2] == b"15").find_map(|area| {
        let mut international = [b'9'; ARGENTINE_NATIONAL_DIGITS + 1];
        international[1..=area].copy_from_slice(&digits[..area]);
        international[area + 1..].copy_from_slice(&digits[area + 2..]);
        walk(root, &international).map(|label| (label, area))
    })
}

/// The label of the state after all digits; `None` where no number ends there.
fn walk(root: u16, digits: &[u8]) -> Option<u16> {
    let mut state = root;
    for digit in digits {
        let column = usize::from(digit.wrapping_sub(b'0'));
        state = *tables::NEXT[usize::from(state)].get(column)?;
        if state == 0 {
            return None;
        }
    }
    let label = tables::LABEL[usize::from(state)];
    (label != 0).then_some(label)
}

fn read_label(label: u16) -> (Region, NumberType) {
    let number_type = match (label - 1) & 3 {
        0 => NumberType::Mobile,
        1 => NumberType::FixedLine,
        2 => NumberType::FixedOrMobile,
        _ => NumberType::Other,
    };
    let region = u8::try_from((label - 1) >> 2).expect("regions are numbered in a byte");
    (Region(region), number_type)
}

fn has_length(lengths: u32, digits: usize) -> bool {
    digits < 32 && lengths & (1 << digits) != 0
}

fn within(bounds: u8, digits: usize) -> bool {
    (usize::from(bounds >> 4)..=usize::from(bounds & 15)).contains(&digits)
}

#[cfg(test)]
mod tests;

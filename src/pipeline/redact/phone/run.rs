//! Runs of digit groups: the raw material of phone candidates.

/// Longest run looked at in one piece; a longer one is looked at piece by piece.
pub(super) const GROUPS_MAX: usize = 12;
/// Digits kept of one run.
const DIGITS_MAX: usize = 64;
/// A single group of more digits is no phone number (E.164: 15, and an exit code before them).
pub(super) const GROUP_DIGITS_MAX: usize = 17;

/// Longest area code, its trunk prefix included.
const AREA_DIGITS_MAX: usize = 6;

/// How a group hangs on the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// It is the first.
    None,
    /// One `-`, `.` or `/`.
    Sign(u8),
    /// One space.
    Space,
    /// Brackets, or a sign with spaces.
    Loose,
}

/// Digits without anything between them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Index of its first digit in [`Run::digits`].
    pub(super) first: usize,
    pub(super) link: Link,
    /// Certainly part of something else (a date, an address, a card number).
    pub(super) blocked: bool,
}

impl Group {
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }
}

/// Groups that hang together.
#[derive(Default)]
pub(in crate::pipeline::redact) struct Run {
    pub(super) groups: Vec<Group>,
    digits: Vec<u8>,
}

impl Run {
    /// Reads the next run at or behind `from`; returns where to go on, `None` at the end.
    pub(super) fn read(&mut self, text: &[u8], from: usize) -> Option<usize> {
        self.groups.clear();
        self.digits.clear();
        let mut at = from + text[from..].iter().position(u8::is_ascii_digit)?;
        let plus_is_space = begins_form_value(text, at);
        let mut link = Link::None;
        loop {
            let first = self.digits.len();
            let mut end = at;
            while let Some(digit) = text.get(end).filter(|byte| byte.is_ascii_digit()) {
                if self.digits.len() < DIGITS_MAX {
                    self.digits.push(*digit);
                }
                end += 1;
            }
            // Of an overlong group only the length matters.
            let blocked = self.digits.len() - first < end - at;
            self.groups.push(Group { start: at, end, first, link, blocked });
            if self.groups.len() == GROUPS_MAX {
                return Some(end);
            }
            // `0171 / 123 45 67`: what is before the slash is an area code, no number of its own.
            let is_area = || {
                end - at <= AREA_DIGITS_MAX
                    && (text[at] == b'0'
                        || text[..at].ends_with(b")")
                        || text[end..].starts_with(b")"))
            };
            match read_link(&text[end..], plus_is_space, is_area) {
                Some((gap, next)) => {
                    link = next;
                    at = end + gap;
                }
                None => return Some(end),
            }
        }
    }

    /// The digits of the groups `first..=last`.
    pub(super) fn digits(&self, first: usize, last: usize) -> &[u8] {
        let end = self.groups.get(last + 1).map_or(self.digits.len(), |next| next.first);
        &self.digits[self.groups[first].first..end]
    }

    /// All digits.
    pub(super) fn digit_count(&self) -> usize {
        self.digits.len()
    }
}

/// Whether the number at `at` is the value of a form field, where `+` is a space.
fn begins_form_value(text: &[u8], at: usize) -> bool {
    let before = text[..at].strip_suffix(b"+").unwrap_or(&text[..at]);
    before.strip_suffix(b"(").unwrap_or(before).last() == Some(&b'=')
}

/// The length and kind of the gap at the start of `rest`, if a digit follows it.
fn read_link(
    rest: &[u8],
    plus_is_space: bool,
    is_area: impl Fn() -> bool,
) -> Option<(usize, Link)> {
    if let [sign, b'0'..=b'9', ..] = rest {
        let link = match sign {
            b' ' => Link::Space,
            b'+' if plus_is_space => Link::Space,
            b'-' | b'.' | b'/' => Link::Sign(*sign),
            b'(' | b')' => Link::Loose,
            _ => return None,
        };
        return Some((1, link));
    }
    let len = rest
        .iter()
        .take(4)
        .take_while(|byte| {
            matches!(byte, b' ' | b'-' | b'.' | b'/' | b'(' | b')')
                || plus_is_space && **byte == b'+'
        })
        .count();
    if !rest.get(len)?.is_ascii_digit() {
        return None;
    }
    let link = match &rest[..len] {
        b" / " | b") / " if is_area() => Link::Loose,
        gap if is_loose(gap) => Link::Loose,
        _ => return None,
    };
    Some((len, link))
}

/// Brackets, at most one sign, spaces; but no end of a sentence and no ` / ` between two numbers.
fn is_loose(gap: &[u8]) -> bool {
    let count = |matches: fn(u8) -> bool| gap.iter().filter(|byte| matches(**byte)).count();
    let signs = count(|byte| matches!(byte, b'-' | b'.' | b'/' | b'+'));
    let spaces = count(|byte| byte == b' ');
    let brackets = count(|byte| matches!(byte, b'(' | b')'));
    let separates = spaces > 0 && (gap.contains(&b'/') || brackets == 0 && gap.contains(&b'.'));
    !gap.is_empty() && signs <= 1 + usize::from(gap == b"--") && spaces <= 2 && !separates
}

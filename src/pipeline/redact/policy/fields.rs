//! Field names as people write them, matched against paths as services write them.

use std::collections::HashMap;

/// What the policy says about a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldRule {
    /// The whole value is redacted.
    AlwaysRedact,
    /// The value is passed on unseen.
    NeverScan,
    /// Any 7 to 15 digits are a phone number.
    TreatAsPhone,
    /// Anything with an at sign is an e-mail address.
    TreatAsEmail,
    /// The value is base64.
    Base64,
}

/// Values by field name or tail of a path.
#[derive(Clone, Debug)]
pub(super) struct FieldTable<T> {
    /// By the normalised last segment; the entry with most outer segments first.
    by_last: HashMap<Vec<u8>, Vec<Entry<T>>>,
}

#[derive(Clone, Debug)]
struct Entry<T> {
    /// Normalised segments before the last one, innermost first.
    outer: Vec<Vec<u8>>,
    value: T,
}

impl<T> Default for FieldTable<T> {
    fn default() -> Self {
        Self { by_last: HashMap::new() }
    }
}

impl<T> FieldTable<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.by_last.is_empty()
    }

    /// Adds `name`. `false` when it has no letter or digit, or is there already.
    pub(super) fn add(&mut self, name: &str, value: T) -> bool {
        let mut segments: Vec<Vec<u8>> =
            name.split('.').map(|segment| normalised(segment.as_bytes()).collect()).collect();
        segments.reverse();
        let Some((last, outer)) = segments.split_first() else { return false };
        if last.is_empty() || outer.iter().any(Vec::is_empty) {
            return false;
        }
        let entries = self.by_last.entry(last.clone()).or_default();
        if entries.iter().any(|entry| entry.outer == outer) {
            return false;
        }
        entries.push(Entry { outer: outer.to_vec(), value });
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.outer.len()));
        true
    }

    /// The value of the longest name that is the tail of `path`.
    pub(super) fn find(&self, path: &[&[u8]]) -> Option<&T> {
        if self.by_last.is_empty() {
            return None;
        }
        let (last, outer) = path.split_last()?;
        let last: Vec<u8> = normalised(last).collect();
        let entries = self.by_last.get(&last)?;
        entries.iter().find(|entry| is_tail(&entry.outer, outer)).map(|entry| &entry.value)
    }

    /// Every entry, its normalised name with dots.
    pub(super) fn entries(&self) -> impl Iterator<Item = (String, &T)> {
        self.by_last.iter().flat_map(|(last, entries)| {
            entries.iter().map(move |entry| {
                let segments: Vec<_> = entry
                    .outer
                    .iter()
                    .rev()
                    .chain(std::iter::once(last))
                    .map(|segment| String::from_utf8_lossy(segment).into_owned())
                    .collect();
                (segments.join("."), &entry.value)
            })
        })
    }
}

fn is_tail(segments: &[Vec<u8>], outer: &[&[u8]]) -> bool {
    segments.len() <= outer.len()
        && segments
            .iter()
            .zip(outer.iter().rev())
            .all(|(segment, key)| segment.iter().copied().eq(normalised(key)))
}

/// Lower case, without `_`, `-` and spaces: `customerPhone` and `CUSTOMER_PHONE` are one name.
fn normalised(segment: &[u8]) -> impl Iterator<Item = u8> {
    segment.iter().filter(|byte| !matches!(byte, b'_' | b'-' | b' ')).map(u8::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_tails_of_paths_in_any_spelling() {
        let mut table = FieldTable::default();
        assert!(table.add("customer_phone", 1));
        assert!(table.add("customer.phone", 2));
        assert!(table.add("phone", 3));
        assert!(!table.add("PHONE", 4), "twice");
        assert!(!table.add("a..b", 4));
        assert!(!table.add("--", 4));
        assert_eq!(table.find(&[b"x", b"customerPhone"]), Some(&1));
        assert_eq!(table.find(&[b"Customer", b"phone"]), Some(&2));
        assert_eq!(table.find(&[b"guest", b"phone"]), Some(&3));
        assert_eq!(table.find(&[b"phone", b"guest"]), None);
        assert_eq!(table.find(&[]), None);
    }
}

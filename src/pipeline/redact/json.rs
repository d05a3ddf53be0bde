//! Where the strings and numbers of a JSON text lie, and under which names. No tree, no values:
//! a flat list of leaves that point into the text, and of the containers around them.
//!
//! Strict about structure (RFC 8259), lenient about what is inside strings and about number
//! spelling: a log line that balances is scanned leaf by leaf, whatever its escapes say.

use super::context::{FieldClass, class_of_key};
use super::gate::Quotes;
use super::name_cache::NameCache;
use crate::pipeline::limits::JSON_DEPTH_MAX;

/// A span of the text.
type Span = (usize, usize);

/// Index of a container in [`Document::containers`].
type ContainerId = u32;

/// A string or number that is not a key, or a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    /// First byte (inside the quotes).
    pub(super) start: usize,
    /// One past the last byte (inside the quotes).
    pub(super) end: usize,
    /// What it is.
    pub(super) kind: LeafKind,
    container: ContainerId,
    /// Its own key; empty in arrays and for keys.
    key: Span,
}

/// What a leaf is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeafKind {
    /// The key of an object.
    Key,
    /// A string value.
    String,
    /// A number.
    Number,
}

#[derive(Clone, Copy, Debug)]
struct Container {
    is_object: bool,
    /// What a sibling says of a member named `value`: the `key` of OTLP attributes, the `type` of
    /// vCard-like entries.
    selector: Option<FieldClass>,
    parent: ContainerId,
    /// The key that leads here; empty in arrays and at the top.
    key: Span,
}

/// Why a text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonError {
    /// Not well formed.
    Syntax,
    /// Nested deeper than [`JSON_DEPTH_MAX`].
    Depth,
}

/// What was seen of a text before it is read.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    /// Its quotation marks.
    pub(super) quotes: Quotes<'a>,
    /// Offsets in order: only leaves that hold one of them are kept.
    pub(super) spots: Option<&'a [usize]>,
}

/// The leaves of one JSON text; reused from one to the next.
#[derive(Default)]
pub(super) struct Document {
    /// In the order of the text.
    pub(super) leaves: Vec<Leaf>,
    containers: Vec<Container>,
    open: Vec<ContainerId>,
}

impl Document {
    /// Reads the object or array that begins at `start`, at most `depth_max` deep, and returns where
    /// it ends.
    pub(super) fn read(
        &mut self,
        text: &[u8],
        seen: Option<Seen<'_>>,
        start: usize,
        depth_max: usize,
    ) -> Result<usize, JsonError> {
        self.leaves.clear();
        self.containers.clear();
        self.open.clear();
        let reader = Reader {
            text,
            quotes: seen.map(|seen| seen.quotes),
            spots: seen.and_then(|seen| seen.spots),
            next_spot: 0,
            at: start,
            document: self,
            depth_max: depth_max.min(JSON_DEPTH_MAX),
            is_object: false,
            key: (start, start),
        };
        reader.run()
    }

    /// The keys that lead to `leaf`, from the outside in.
    pub(super) fn path<'t>(&self, leaf: &Leaf, text: &'t [u8]) -> Vec<&'t [u8]> {
        let mut path = vec![&text[leaf.key.0..leaf.key.1]];
        let mut id = leaf.container;
        for _ in 0..=JSON_DEPTH_MAX {
            let container = &self.containers[id as usize];
            path.push(&text[container.key.0..container.key.1]);
            if container.parent == id {
                break;
            }
            id = container.parent;
        }
        path.retain(|key| !key.is_empty());
        path.reverse();
        path
    }

    /// What the names around `leaf` say it holds.
    pub(super) fn class(&self, leaf: &Leaf, text: &[u8], names: &mut NameCache) -> FieldClass {
        let container = &self.containers[leaf.container as usize];
        match class_of(leaf.key, text, names) {
            FieldClass::Generic => container
                .selector
                .filter(|_| leaf.kind != LeafKind::Key)
                .unwrap_or_else(|| self.inherited(container, text, names)),
            class => class,
        }
    }

    /// The class that the nearest telling container passes on.
    fn inherited(&self, container: &Container, text: &[u8], names: &mut NameCache) -> FieldClass {
        let mut current = container;
        for _ in 0..JSON_DEPTH_MAX {
            let parent = &self.containers[current.parent as usize];
            let is_top = std::ptr::eq(parent, current);
            match class_of(current.key, text, names) {
                FieldClass::Generic if is_top => break,
                FieldClass::Generic => match parent.selector {
                    Some(selector) => return selector,
                    None => current = parent,
                },
                FieldClass::Other => break,
                class => return class,
            }
        }
        FieldClass::None
    }
}

/// The class of a key; what has none is what the names around it say.
fn class_of((start, end): Span, text: &[u8], names: &mut NameCache) -> FieldClass {
    if start == end { FieldClass::Generic } else { names.class(&text[start..end]) }
}

/// Keys whose value names the member beside them.
fn is_selector(key: &[u8]) -> bool {
    key.len() <= b"attribute".len()
        && matches!(
            key,
            b"key"
                | b"k"
                | b"name"
                | b"type"
                | b"kind"
                | b"label"
                | b"field"
                | b"attribute"
                | b"property"
                | b"param"
                | b"column"
        )
}

/// Longer values name nothing.
const SELECTOR_BYTES_MAX: usize = 64;

struct Reader<'t, 'd> {
    text: &'t [u8],
    quotes: Option<Quotes<'t>>,
    /// Those behind the next one; `None` keeps every leaf.
    spots: Option<&'t [usize]>,
    /// The first one that is not before the last leaf.
    next_spot: usize,
    at: usize,
    document: &'d mut Document,
    depth_max: usize,
    /// The innermost container is an object.
    is_object: bool,
    /// The key just read.
    key: Span,
}

impl Reader<'_, '_> {
    fn run(mut self) -> Result<usize, JsonError> {
        self.value()?;
        while !self.document.open.is_empty() {
            self.skip_space();
            match self.peek()? {
                b',' => {
                    self.at += 1;
                    self.plain_members();
                    self.member()?;
                }
                b'}' if self.is_object => self.close(),
                b']' if !self.is_object => self.close(),
                _ if self.is_first() => self.member()?,
                _ => return Err(JsonError::Syntax),
            }
        }
        Ok(self.at)
    }

    /// Reads members as most are written, `"name":"value",` and `"name":123,`, up to the first one that
    /// is not.
    fn plain_members(&mut self) {
        let (Some(quotes), true) = (self.quotes, self.is_object) else { return };
        while self.text.get(self.at) == Some(&b'"') {
            let start = self.at + 1;
            let Some(end) = quotes.next(start) else { return };
            let Some([b':', first, ..]) = self.text.get(end + 1..) else { return };
            let value = end + 2;
            let (kind, value_start, value_end, behind) = match first {
                b'"' => {
                    let Some(close) = quotes.next(value + 1) else { return };
                    (LeafKind::String, value + 1, close, close + 1)
                }
                b'0'..=b'9' => {
                    let digits = self.text[value..].iter().position(|byte| !byte.is_ascii_digit());
                    let close = value + digits.unwrap_or(0);
                    (LeafKind::Number, value, close, close)
                }
                _ => return,
            };
            if self.text.get(behind) != Some(&b',') {
                return;
            }
            self.key = (start, start);
            self.leaf(start, end, LeafKind::Key);
            self.key = (start, end);
            if kind == LeafKind::String {
                self.select(value_start, value_end);
            }
            self.leaf(value_start, value_end, kind);
            self.at = behind + 1;
        }
    }

    /// Whether nothing but space lies between the opening bracket and here.
    fn is_first(&self) -> bool {
        let before = self.text[..self.at].trim_ascii_end();
        before.last() == Some(if self.is_object { &b'{' } else { &b'[' })
    }

    #[inline]
    fn member(&mut self) -> Result<(), JsonError> {
        self.skip_space();
        if !self.is_object {
            self.key = (self.at, self.at);
            return self.value();
        }
        if self.peek()? != b'"' {
            return Err(JsonError::Syntax);
        }
        let (start, end) = self.string()?;
        self.key = (start, start);
        self.leaf(start, end, LeafKind::Key);
        self.key = (start, end);
        self.skip_space();
        if self.peek()? != b':' {
            return Err(JsonError::Syntax);
        }
        self.at += 1;
        self.skip_space();
        self.value()
    }

    #[inline]
    fn value(&mut self) -> Result<(), JsonError> {
        match self.peek()? {
            b'"' => {
                let (start, end) = self.string()?;
                self.select(start, end);
                self.leaf(start, end, LeafKind::String);
                Ok(())
            }
            b'{' => self.enter(true),
            b'[' => self.enter(false),
            b'-' | b'+' | b'0'..=b'9' | b'.' => {
                let start = self.at;
                self.take_while(|byte| {
                    byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E')
                });
                self.leaf(start, self.at, LeafKind::Number);
                Ok(())
            }
            b't' | b'f' | b'n' | b'N' | b'I' => {
                self.take_while(|byte| byte.is_ascii_alphabetic());
                Ok(())
            }
            _ => Err(JsonError::Syntax),
        }
    }

    fn enter(&mut self, is_object: bool) -> Result<(), JsonError> {
        if self.document.open.len() >= self.depth_max {
            return Err(JsonError::Depth);
        }
        let id = u32::try_from(self.document.containers.len()).map_err(|_| JsonError::Depth)?;
        let parent = self.document.open.last().copied().unwrap_or(id);
        self.document.containers.push(Container {
            is_object,
            selector: None,
            parent,
            key: self.key,
        });
        self.document.open.push(id);
        self.is_object = is_object;
        self.at += 1;
        Ok(())
    }

    fn close(&mut self) {
        self.document.open.pop();
        let outer = self.document.open.last();
        self.is_object = outer.is_some_and(|id| self.document.containers[*id as usize].is_object);
        self.at += 1;
    }

    /// Reads the string at the opening quote; returns the span inside its quotes.
    #[inline]
    fn string(&mut self) -> Result<(usize, usize), JsonError> {
        let start = self.at + 1;
        if let Some(quotes) = self.quotes {
            let end = quotes.next(start).ok_or(JsonError::Syntax)?;
            self.at = end + 1;
            return Ok((start, end));
        }
        self.string_by_byte(start)
    }

    fn string_by_byte(&mut self, start: usize) -> Result<(usize, usize), JsonError> {
        let mut at = start;
        loop {
            let rest = self.text.get(at..).ok_or(JsonError::Syntax)?;
            let found = memchr::memchr2(b'"', b'\\', rest).ok_or(JsonError::Syntax)?;
            if rest[found] == b'"' {
                self.at = at + found + 1;
                return Ok((start, at + found));
            }
            at += found + 2;
        }
    }

    /// Lets a string member named `key`, `type` or the like speak for its sibling `value`.
    #[inline]
    fn select(&mut self, start: usize, end: usize) {
        if !is_selector(&self.text[self.key.0..self.key.1]) || end - start > SELECTOR_BYTES_MAX {
            return;
        }
        let Some(&open) = self.document.open.last() else { return };
        let container = &mut self.document.containers[open as usize];
        if container.selector.is_none() {
            let class = class_of_key(&self.text[start..end]);
            let is_telling =
                !matches!(class, FieldClass::Other | FieldClass::Generic | FieldClass::Selector);
            container.selector = is_telling.then_some(class);
        }
    }

    #[inline]
    fn leaf(&mut self, start: usize, end: usize, kind: LeafKind) {
        if end <= self.next_spot || self.next_spot < start && !self.holds_spot(start, end) {
            return;
        }
        let Some(&container) = self.document.open.last() else { return };
        self.document.leaves.push(Leaf { start, end, kind, container, key: self.key });
    }

    /// Whether a spot lies in `start..end`, behind the leaves before; any does where none is given.
    fn holds_spot(&mut self, start: usize, end: usize) -> bool {
        let Some(spots) = &mut self.spots else { return true };
        while self.next_spot < start {
            let (next, behind) = spots.split_first().unwrap_or((&usize::MAX, &[]));
            (self.next_spot, *spots) = (*next, behind);
        }
        self.next_spot < end
    }

    fn peek(&self) -> Result<u8, JsonError> {
        self.text.get(self.at).copied().ok_or(JsonError::Syntax)
    }

    #[inline]
    fn skip_space(&mut self) {
        if self.text.get(self.at).is_none_or(|byte| *byte <= b' ') {
            self.take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
        }
    }

    fn take_while(&mut self, matches: impl Fn(u8) -> bool) {
        while self.text.get(self.at).is_some_and(|byte| matches(*byte)) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(text: &str) -> Vec<(String, LeafKind, FieldClass)> {
        let mut document = Document::default();
        let mut names = NameCache::default();
        assert_eq!(
            document.read(text.as_bytes(), None, 0, JSON_DEPTH_MAX),
            Ok(text.len()),
            "{text}"
        );
        document
            .leaves
            .iter()
            .filter(|leaf| leaf.kind != LeafKind::Key)
            .map(|leaf| {
                (
                    text[leaf.start..leaf.end].to_owned(),
                    leaf.kind,
                    document.class(leaf, text.as_bytes(), &mut names),
                )
            })
            .collect()
    }

    #[test]
    fn the_sibling_key_names_a_value() {
        for text in [
            r#"[{"key":"user.phone","value":{"stringValue":"x"}}]"#,
            r#"{"a":[{"type":"mobile","value":"x"}]}"#,
            r#"{"value":"x","type":"mobile"}"#,
            r#"{"phones":["x"]}"#,
            r#"{"phone":{"raw":"x"}}"#,
        ] {
            let found = leaves(text);
            let last = found.iter().find(|(value, ..)| value == "x").unwrap();
            assert_eq!(last.2, FieldClass::Phone, "{text}");
        }
    }

    #[test]
    fn what_does_not_balance_is_refused() {
        let mut document = Document::default();
        for text in ["{", r#"{"a":1"#, r#"{"a":1]"#, r#"{"a" 1}"#, r#"["a" "b"]"#, r#"{"a":"x}"#] {
            assert_eq!(
                document.read(text.as_bytes(), None, 0, JSON_DEPTH_MAX),
                Err(JsonError::Syntax),
                "{text}"
            );
        }
        let deep = "[".repeat(JSON_DEPTH_MAX + 1);
        assert_eq!(document.read(deep.as_bytes(), None, 0, JSON_DEPTH_MAX), Err(JsonError::Depth));
    }
}

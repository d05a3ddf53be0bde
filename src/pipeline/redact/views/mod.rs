//! Decoded views of text, each byte mapped back to the raw bytes it came from.
//!
//! Every decoder strictly shrinks the text, so decoding until nothing is left to decode ends.
//! A map holds the raw offset at which each decoded byte begins; it ends where the next one begins,
//! so raw bytes that decode to nothing (a zero-width space) belong to the byte before them.

mod entity;
mod escape;
mod fold;
mod percent;
mod quoted_printable;

/// Bytes to look at, and where each of them stands in the raw record.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    /// The (decoded) bytes.
    pub(super) bytes: &'a [u8],
    map: Map<'a>,
}

#[derive(Clone, Copy)]
enum Map<'a> {
    /// Not decoded: the raw offset of the first byte.
    Offset(usize),
    /// The raw offset of each byte, and of the end.
    Table(&'a [u32]),
}

impl<'a> Text<'a> {
    /// The raw record itself.
    pub(super) fn raw(bytes: &'a [u8]) -> Self {
        Self { bytes, map: Map::Offset(0) }
    }

    /// Whether it begins where the raw record begins and nothing was decoded.
    pub(super) fn is_raw(&self) -> bool {
        matches!(self.map, Map::Offset(0))
    }

    /// The raw offset at which byte `index` begins (or the text ends).
    pub(super) fn raw_offset(&self, index: usize) -> usize {
        match self.map {
            Map::Offset(offset) => offset + index,
            Map::Table(table) => table[index] as usize,
        }
    }

    /// The part `start..end`.
    pub(super) fn slice(&self, start: usize, end: usize) -> Self {
        let map = match self.map {
            Map::Offset(offset) => Map::Offset(offset + start),
            Map::Table(table) => Map::Table(&table[start..=end]),
        };
        Self { bytes: &self.bytes[start..end], map }
    }

    /// Whether escapes or foreign digits lie between the raw bytes of `start..end`.
    pub(super) fn is_escaped(&self, start: usize, end: usize) -> bool {
        self.raw_offset(end) - self.raw_offset(start) != end - start
    }
}

/// The output of a decoder; reused from one string to the next.
#[derive(Default)]
pub(super) struct Decoded {
    bytes: Vec<u8>,
    raw: Vec<u32>,
}

impl Decoded {
    /// The decoded text.
    pub(super) fn text(&self) -> Text<'_> {
        Text { bytes: &self.bytes, map: Map::Table(&self.raw) }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.raw.clear();
    }

    /// Appends `byte`, which begins at index `from` of `source`.
    fn push(&mut self, source: &Text<'_>, from: usize, byte: u8) {
        self.bytes.push(byte);
        self.raw.push(raw_u32(source.raw_offset(from)));
    }

    /// Appends the bytes `start..end` of `source` as they are.
    fn copy(&mut self, source: &Text<'_>, start: usize, end: usize) {
        self.bytes.extend_from_slice(&source.bytes[start..end]);
        match source.map {
            Map::Offset(offset) => self.raw.extend(raw_u32(offset + start)..raw_u32(offset + end)),
            Map::Table(table) => self.raw.extend_from_slice(&table[start..end]),
        }
    }

    /// Appends `character`, which begins at index `from` of `source`.
    fn push_char(&mut self, source: &Text<'_>, from: usize, character: char) {
        let mut buffer = [0; 4];
        for byte in character.encode_utf8(&mut buffer).bytes() {
            self.push(source, from, byte);
        }
    }

    fn finish(&mut self, source: &Text<'_>) {
        self.raw.push(raw_u32(source.raw_offset(source.bytes.len())));
    }
}

fn raw_u32(offset: usize) -> u32 {
    u32::try_from(offset).expect("records are shorter than RECORD_BYTES_MAX")
}

/// One way in which text is wrapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Layer {
    /// Backslash escapes of JSON and of most programming languages.
    Escape,
    /// Percent-encoding (RFC 3986).
    Percent,
    /// HTML character references.
    Entity,
    /// Quoted-printable (RFC 2045, 6.7).
    QuotedPrintable,
    /// Digits, signs and spaces outside ASCII; characters that show nothing.
    Fold,
}

/// Decodes the outermost layer of `text` that hides anything; `None` when nothing is left.
///
/// A string of a JSON document has to be unescaped as a whole ([`Layer::Escape`]) first.
pub(super) fn decode_next(text: Text<'_>, into: &mut Decoded) -> Option<Layer> {
    type Decode = fn(Text<'_>, &mut Decoded) -> bool;
    const ORDER: [(Layer, Decode); 5] = [
        (Layer::Escape, escape::decode),
        (Layer::Percent, percent::decode),
        (Layer::Entity, entity::decode),
        (Layer::QuotedPrintable, quoted_printable::decode),
        (Layer::Fold, fold::decode),
    ];
    ORDER.iter().find(|(_, decode)| decode(text, into)).map(|(layer, _)| *layer)
}

/// Undoes the escapes of a JSON string; `false` when it has none.
pub(super) fn unescape(text: Text<'_>, into: &mut Decoded) -> bool {
    escape::decode(text, into)
}

pub(super) use fold::folds;
pub(super) use quoted_printable::hides as hides_quoted_printable;

fn hex_value(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

fn hex_pair(bytes: &[u8], at: usize) -> Option<u8> {
    let high = hex_value(*bytes.get(at)?)?;
    let low = hex_value(*bytes.get(at + 1)?)?;
    Some(high << 4 | low)
}

#[cfg(test)]
mod tests;

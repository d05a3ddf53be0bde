//! One pass over JSON text: no tree, no allocation, lenient. It finds values at named paths and
//! leaves validation to nobody: what breaks off keeps what was found before the break.

use memchr::memchr2;

use super::collect::{Collector, Raw, RawKind};
use super::names::{Folded, NameTable, Position};
use crate::pipeline::limits::JSON_DEPTH_MAX;

/// The text is not JSON from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// Offers every named value of `text` to `out`: an object or an array of objects, and nothing behind
/// it. Linear in `text`; work per byte is bounded by the depth limit even for hostile pairs.
pub(super) fn scan<'x>(
    text: &'x str,
    table: &NameTable,
    out: &mut Collector<'x>,
) -> Result<(), Broken> {
    let mut scanner = Scanner { text, bytes: text.as_bytes(), at: 0, table, out, path: Vec::new() };
    match scanner.token()? {
        b'{' => scanner.object(Position::TOP, 0)?,
        b'[' => scanner.list()?,
        _ => return Err(Broken),
    }
    // Behind the end there is white space or this is no document.
    scanner.token().map_or(Ok(()), |_| Err(Broken))
}

struct Scanner<'x, 's> {
    text: &'x str,
    bytes: &'x [u8],
    at: usize,
    table: &'s NameTable,
    out: &'s mut Collector<'x>,
    /// Keys from the top to here, when they are asked for.
    path: Vec<&'x str>,
}

/// Where a string stands, without its quotes.
#[derive(Clone, Copy)]
struct Quoted {
    start: usize,
    end: usize,
    escaped: bool,
}

impl<'x> Scanner<'x, '_> {
    /// At `{`. Leaves behind `}`.
    fn object(&mut self, position: Position, depth: usize) -> Result<(), Broken> {
        self.at += 1;
        self.members(position, depth)
    }

    fn members(&mut self, position: Position, depth: usize) -> Result<(), Broken> {
        loop {
            if let Some((folded, key)) = self.compact_key() {
                self.at = key.end + 2;
                if self.table.may_hold(folded) {
                    let text = &self.bytes[key.start..key.end];
                    let child = self.table.step_folded(position, text, folded);
                    self.child(child, key, depth)?;
                } else {
                    self.skip_value()?;
                }
                continue;
            }
            match self.token()? {
                b'"' => {
                    let key = self.string()?;
                    self.colon()?;
                    self.member(position, key, depth)?;
                }
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Broken),
            }
        }
    }

    #[inline(always)]
    fn member(&mut self, position: Position, key: Quoted, depth: usize) -> Result<(), Broken> {
        let child = if key.escaped {
            self.table.step(position, unescape(self.text_of(key)).as_bytes())
        } else {
            self.table.step(position, &self.bytes[key.start..key.end])
        };
        self.child(child, key, depth)
    }

    /// The value of `key`, which leads to `child`.
    #[inline(always)]
    fn child(&mut self, child: Position, key: Quoted, depth: usize) -> Result<(), Broken> {
        if child.is_dead() {
            return self.skip_value();
        }
        if !self.out.wants_paths() {
            return self.value(child, depth + 1);
        }
        self.path.push(self.text_of(key));
        let outcome = self.value(child, depth + 1);
        self.path.pop();
        outcome
    }

    fn value(&mut self, position: Position, depth: usize) -> Result<(), Broken> {
        let raw = match self.token()? {
            b'"' => {
                let string = self.string()?;
                let kind = RawKind::String { escaped: string.escaped };
                Raw { text: self.text_of(string), kind }
            }
            b'{' if self.is_open(position, depth) => return self.object(position, depth),
            b'[' if self.is_open(position, depth) => return self.array(position, depth),
            b'{' | b'[' => return self.skip_nested(),
            _ => {
                let start = self.at;
                let kind = self.scalar()?;
                Raw { text: &self.text[start..self.at], kind }
            }
        };
        self.offer(position, raw);
        Ok(())
    }

    /// Steps over a value that means nothing.
    #[inline]
    fn skip_value(&mut self) -> Result<(), Broken> {
        match self.token()? {
            b'"' => self.string().map(drop),
            b'{' | b'[' => self.skip_nested(),
            _ => self.scalar().map(drop),
        }
    }

    /// At the `[` of a whole text, which is a list of records or the beginning of a plain line
    /// (`[1234] ..`, `[2026-11-23 ..`).
    fn list(&mut self) -> Result<(), Broken> {
        let start = self.at;
        self.at += 1;
        let is_of_records = self.token()? == b'{';
        self.at = start;
        if is_of_records { self.array(Position::TOP, 0) } else { Err(Broken) }
    }

    /// At `[`. Leaves behind `]`. Only objects inside an array can hold fields.
    fn array(&mut self, position: Position, depth: usize) -> Result<(), Broken> {
        self.at += 1;
        loop {
            match self.token()? {
                b']' => {
                    self.at += 1;
                    return Ok(());
                }
                b',' => self.at += 1,
                b'{' if self.is_open(position, depth + 1) => self.element(position, depth + 1)?,
                _ => self.skip_value()?,
            }
        }
    }

    /// An object in an array: a pair `{"key": K, "value": V}` stands for the member `K: V`.
    fn element(&mut self, position: Position, depth: usize) -> Result<(), Broken> {
        let start = self.at;
        self.at += 1;
        if self.token()? != b'"' {
            self.at = start;
            return self.object(position, depth);
        }
        let name = self.string()?;
        match self.text_of(name) {
            "key" => {
                self.colon()?;
                if self.token()? == b'"' {
                    let key = self.string()?;
                    if self.next_key_is("value")? {
                        self.member(position, key, depth)?;
                        return self.members(Position::DEAD, depth);
                    }
                }
            }
            "value" => {
                self.colon()?;
                let value_at = self.at;
                self.skip_value()?;
                if self.next_key_is("key")? && self.token()? == b'"' {
                    let key = self.string()?;
                    let end = std::mem::replace(&mut self.at, value_at);
                    self.member(position, key, depth)?;
                    self.at = end;
                    return self.members(Position::DEAD, depth);
                }
            }
            _ => {}
        }
        self.at = start;
        self.object(position, depth)
    }

    /// Behind a value: steps over `, "key" :` if that is what follows.
    fn next_key_is(&mut self, key: &str) -> Result<bool, Broken> {
        if self.token()? != b',' {
            return Ok(false);
        }
        self.at += 1;
        if self.token()? != b'"' {
            return Ok(false);
        }
        let name = self.string()?;
        if self.text_of(name) != key {
            return Ok(false);
        }
        self.colon()?;
        Ok(true)
    }

    fn is_open(&self, position: Position, depth: usize) -> bool {
        depth < JSON_DEPTH_MAX && self.table.is_live(position)
    }

    #[inline]
    fn offer(&mut self, position: Position, raw: Raw<'x>) {
        for id in self.table.names_at(position) {
            let name = self.table.name(*id);
            if !(name.weak && position.among_attributes) {
                self.out.offer(*id, name, position.depth, raw, &self.path);
            }
        }
    }

    /// A short key with its colon as most writers write it behind another member. Stays.
    #[inline(always)]
    fn compact_key(&self) -> Option<(Folded, Quoted)> {
        let [b',', b'"', rest @ ..] = self.bytes.get(self.at..)?.first_chunk::<20>()? else {
            return None;
        };
        let (folded, len) = Folded::before_quote(rest.first_chunk()?)?;
        let start = self.at + 2;
        let key = Quoted { start, end: start + len, escaped: false };
        (rest[len + 1] == b':').then_some((folded, key))
    }

    /// The next byte that is no white space.
    #[inline]
    fn token(&mut self) -> Result<u8, Broken> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(byte) => return Ok(*byte),
                None => return Err(Broken),
            }
        }
    }

    #[inline]
    fn colon(&mut self) -> Result<(), Broken> {
        if self.token()? != b':' {
            return Err(Broken);
        }
        self.at += 1;
        Ok(())
    }

    /// At the opening quote. Leaves behind the closing one.
    #[inline(always)]
    fn string(&mut self) -> Result<Quoted, Broken> {
        let start = self.at + 1;
        let mut at = start;
        let mut escaped = false;
        loop {
            at = quote_or_backslash(self.bytes, at).ok_or(Broken)?;
            if self.bytes[at] == b'"' {
                break;
            }
            escaped = true;
            at += 2;
        }
        self.at = at + 1;
        Ok(Quoted { start, end: at, escaped })
    }

    #[inline]
    fn text_of(&self, string: Quoted) -> &'x str {
        &self.text[string.start..string.end]
    }

    /// Steps over a number, `true`, `false` or `null`, or whatever stands in their place.
    #[inline]
    fn scalar(&mut self) -> Result<RawKind, Broken> {
        let rest = &self.bytes[self.at..];
        let ends = |byte: &u8| ENDS_SCALAR[usize::from(*byte)];
        let text = &rest[..rest.iter().position(ends).ok_or(Broken)?];
        self.at += text.len();
        match text {
            [b'-' | b'0'..=b'9', ..] => Ok(RawKind::Number),
            b"true" | b"false" => Ok(RawKind::Bool),
            b"null" => Ok(RawKind::Null),
            _ => Err(Broken),
        }
    }

    /// At `{` or `[`: steps over everything up to its end, however deep, without recursion.
    fn skip_nested(&mut self) -> Result<(), Broken> {
        let mut open = 0_usize;
        loop {
            match self.bytes.get(self.at).ok_or(Broken)? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => open += 1,
                b'}' | b']' => open -= 1,
                _ => {}
            }
            self.at += 1;
            if open == 0 {
                return Ok(());
            }
        }
    }
}

/// What a number or a word ends with.
const ENDS_SCALAR: [bool; 256] = {
    let ends = b",}] \t\n\r";
    let mut table = [false; 256];
    let mut at = 0;
    while at < ends.len() {
        table[ends[at] as usize] = true;
        at += 1;
    }
    table
};

/// Keys and most values are short: eight bytes a step beat a call into a vector routine, which takes
/// over for the long ones.
#[inline(always)]
pub(super) fn quote_or_backslash(bytes: &[u8], from: usize) -> Option<usize> {
    const SHORT_BYTES: usize = 48;
    let mut rest = bytes.get(from..)?;
    let mut at = from;
    while let Some((word, behind)) = rest.split_first_chunk() {
        let word = u64::from_le_bytes(*word);
        let found = bytes_equal(word, b'"') | bytes_equal(word, b'\\');
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        rest = behind;
        at += 8;
        if at - from >= SHORT_BYTES {
            break;
        }
    }
    far_quote_or_backslash(rest).map(|found| at + found)
}

#[inline(never)]
fn far_quote_or_backslash(bytes: &[u8]) -> Option<usize> {
    memchr2(b'"', b'\\', bytes)
}

/// The high bit of each byte of `word` that is `byte`; exact up to the first one.
pub(super) const fn bytes_equal(word: u64, byte: u8) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let difference = word ^ (ONES * byte as u64);
    difference.wrapping_sub(ONES) & !difference & (ONES << 7)
}

/// Decodes JSON escapes. A lone surrogate or an unknown escape becomes U+FFFD.
pub(super) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        let mut chars = rest[at + 1..].chars();
        let decoded = match chars.next() {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some(same @ ('"' | '\\' | '/')) => same,
            Some('u') => unescape_unicode(&mut chars),
            _ => char::REPLACEMENT_CHARACTER,
        };
        out.push(decoded);
        rest = chars.as_str();
    }
    out.push_str(rest);
    out
}

/// Behind `\u`. Takes the second half of a surrogate pair too.
fn unescape_unicode(chars: &mut std::str::Chars<'_>) -> char {
    let Some(high) = take_hex4(chars) else { return char::REPLACEMENT_CHARACTER };
    if !(0xd800..0xdc00).contains(&high) {
        return char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER);
    }
    let mut ahead = chars.clone();
    if ahead.next() == Some('\\')
        && ahead.next() == Some('u')
        && let Some(low @ 0xdc00..0xe000) = take_hex4(&mut ahead)
    {
        *chars = ahead;
        let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        return char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    }
    char::REPLACEMENT_CHARACTER
}

fn take_hex4(chars: &mut std::str::Chars<'_>) -> Option<u32> {
    let digits = chars.as_str().get(..4)?;
    let value =
        digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16))?;
    *chars = chars.as_str()[4..].chars();
    value.ok()
}

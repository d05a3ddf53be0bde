//! Pairs of names and values in text: logfmt, query strings, `key=value` in prose.

/// A name and where its value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair<'t> {
    pub(super) name: &'t [u8],
    /// First byte of the value, inside its quotes.
    pub(super) start: usize,
    /// One past its last byte.
    pub(super) end: usize,
}

/// The pairs in `text`, in order.
pub(super) fn pairs(text: &[u8]) -> impl Iterator<Item = Pair<'_>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let sign = from + memchr::memchr(b'=', text.get(from..)?)?;
            let name = name_before(&text[from..sign]);
            from = sign + 1;
            if !name.is_empty() {
                let (start, end) = value_at(text, from);
                from = end;
                return Some(Pair { name, start, end });
            }
        }
    })
}

fn name_before(text: &[u8]) -> &[u8] {
    let is_name = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_.-[]".contains(byte);
    let len = text.iter().rev().take(NAME_BYTES_MAX).take_while(is_name).count();
    &text[text.len() - len..]
}

/// Longer names are none.
const NAME_BYTES_MAX: usize = 128;

fn value_at(text: &[u8], start: usize) -> (usize, usize) {
    let quote = text.get(start).copied().filter(|byte| matches!(byte, b'"' | b'\''));
    let Some(quote) = quote else {
        let ends = |byte: &u8| byte.is_ascii_whitespace() || b"&;,)]}|\"".contains(byte);
        let len = text[start..].iter().position(ends);
        return (start, len.map_or(text.len(), |len| start + len));
    };
    let mut at = start + 1;
    while let Some(found) = memchr::memchr2(quote, b'\\', &text[at.min(text.len())..]) {
        if text[at + found] == quote {
            return (start + 1, at + found);
        }
        at += found + 2;
    }
    (start + 1, text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_parted() {
        let text = br#"level=info msg="a \"b\" c" url=/x?tel=1&b=2 d='e f' ="x" user.id=7"#;
        let found: Vec<(&str, &str)> = pairs(text)
            .map(|pair| (pair.name, &text[pair.start..pair.end]))
            .map(|(name, value)| {
                (std::str::from_utf8(name).unwrap(), std::str::from_utf8(value).unwrap())
            })
            .collect();
        let expected = [
            ("level", "info"),
            ("msg", r#"a \"b\" c"#),
            ("url", "/x?tel=1"),
            ("b", "2"),
            ("d", "e f"),
            ("user.id", "7"),
        ];
        assert_eq!(found, expected);
        assert_eq!(pairs(b"a=\"open \\").next().map(|pair| pair.end), Some(9));
    }
}

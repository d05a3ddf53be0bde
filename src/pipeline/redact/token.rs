//! The text that replaces a finding, and how to recognise it.
//!
//! ```text
//! placeholder = "[" name "]"
//! token       = "[" name ":" epoch ":" payload "]"
//! kept        = "[" name ":" "******" 1*4kept-char "]"
//! name        = 1*32( "a".."z" / "_" )          ; email, phone, or the name of a pattern
//! epoch       = 1*4( "a".."z" )                 ; id of the key epoch
//! payload     = 24( "a".."p" )                  ; 96 bits of HMAC-SHA256, four per letter
//! kept-char   = "a".."z" / "A".."Z" / "0".."9"
//! ```
//! None of them holds an at sign, a quote, a backslash or more than four digits, and none can: so
//! they are safe inside every encoding, are no candidates when redacted again, and a forged one
//! hides nothing.

use std::fmt;

use super::finding::EntityKind;
use super::policy::Policy;
use crate::pipeline::limits;

/// Letters of a token's payload: 96 bits, as in RFC 2404. A billion values collide with a
/// probability of one in 10^11.
pub const PAYLOAD_LETTERS: usize = 24;

/// A key epoch: counted from 0, written in letters (`a`, `b`, ... `z`, `aa`, ...).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochId(u32);

impl EpochId {
    /// The first epoch, `a`.
    pub const FIRST: Self = Self(0);

    /// The epoch after this one; `None` after the last that four letters can name (475,254).
    #[must_use]
    pub fn next(self) -> Option<Self> {
        (self.0 + 1 < EPOCHS_MAX).then(|| Self(self.0 + 1))
    }

    /// From its letters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if !(1..=EPOCH_LETTERS_MAX).contains(&text.len()) {
            return None;
        }
        let number = text.bytes().try_fold(0, |number: u32, byte| {
            byte.is_ascii_lowercase().then(|| number * 26 + u32::from(byte - b'a') + 1)
        })?;
        Some(Self(number - 1))
    }

    /// Appends its letters.
    fn write(self, out: &mut Vec<u8>) {
        let mut letters = [0_u8; EPOCH_LETTERS_MAX];
        let (mut number, mut start) = (self.0 + 1, EPOCH_LETTERS_MAX);
        while number > 0 {
            number -= 1;
            start -= 1;
            letters[start] = ALPHABET[(number % 26) as usize];
            number /= 26;
        }
        out.extend_from_slice(&letters[start..]);
    }
}

impl fmt::Display for EpochId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut letters = Vec::new();
        self.write(&mut letters);
        formatter.write_str(std::str::from_utf8(&letters).expect("letters are ASCII"))
    }
}

/// The name of a kind as it stands in replacements.
#[must_use]
pub fn kind_name(kind: EntityKind, policy: &Policy) -> &str {
    match kind {
        EntityKind::Email => "email",
        EntityKind::Phone => "phone",
        EntityKind::Custom(index) => policy.pattern_name(index).unwrap_or("pattern"),
        EntityKind::Opaque => "redacted",
    }
}

/// Appends `[name]`.
pub fn write_placeholder(name: &str, out: &mut Vec<u8>) {
    out.push(b'[');
    out.extend_from_slice(name.as_bytes());
    out.push(b']');
}

/// Appends a token; `mac` is the HMAC of the canonical value.
pub fn write_token(name: &str, epoch: EpochId, mac: &[u8; 32], out: &mut Vec<u8>) {
    out.push(b'[');
    out.extend_from_slice(name.as_bytes());
    out.push(b':');
    epoch.write(out);
    out.push(b':');
    let mut payload = [0; PAYLOAD_LETTERS];
    for (pair, byte) in payload.as_chunks_mut::<2>().0.iter_mut().zip(mac) {
        *pair = [byte >> 4, byte & 15].map(|nibble| b'a' + nibble);
    }
    out.extend_from_slice(&payload);
    out.push(b']');
}

/// Appends a kept tail of at most four ASCII letters or digits.
pub fn write_kept(name: &str, tail: &[u8], out: &mut Vec<u8>) {
    debug_assert!(tail.len() <= usize::from(limits::REDACT_KEPT_CHARACTERS_MAX));
    out.push(b'[');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(KEPT_MARK);
    out.extend_from_slice(tail);
    out.push(b']');
}

/// Length of the placeholder, token or kept tail that `bytes` begin with. By shape alone: a forged
/// one is recognised too, but its alphabet has no room for an address or a number.
#[must_use]
pub fn token_at(bytes: &[u8]) -> Option<usize> {
    let after_name = 1 + run(bytes.strip_prefix(b"[")?, NAME_BYTES_MAX, |byte| {
        byte.is_ascii_lowercase() || byte == b'_'
    });
    if after_name == 1 {
        return None;
    }
    let rest = &bytes[after_name..];
    if rest.first() == Some(&b']') {
        return Some(after_name + 1);
    }
    if let Some(tail) = rest.strip_prefix(KEPT_MARK) {
        let most = usize::from(limits::REDACT_KEPT_CHARACTERS_MAX);
        let kept = run(tail, most, |byte| byte.is_ascii_alphanumeric());
        return (kept > 0 && tail.get(kept) == Some(&b']'))
            .then_some(after_name + KEPT_MARK.len() + kept + 1);
    }
    let epoch = rest.strip_prefix(b":")?;
    let epoch_letters = run(epoch, EPOCH_LETTERS_MAX, |byte| byte.is_ascii_lowercase());
    let payload = epoch.get(epoch_letters..)?.strip_prefix(b":")?;
    let letters = run(payload, PAYLOAD_LETTERS, |byte| (b'a'..=b'p').contains(&byte));
    let is_token =
        epoch_letters > 0 && letters == PAYLOAD_LETTERS && payload.get(letters) == Some(&b']');
    is_token.then_some(after_name + 1 + epoch_letters + 1 + letters + 1)
}

/// Whether `bytes` are a replacement and nothing else: what is left of a value after any action.
#[must_use]
pub fn is_replacement(bytes: &[u8]) -> bool {
    bytes.is_empty() || bytes == MASK || token_at(bytes) == Some(bytes.len())
}

/// Stands for a value by its kind of action alone; a fixed width, so that no length shows.
pub const MASK: &[u8] = b"********";

const ALPHABET: &[u8; 26] = b"abcdefghijklmnopqrstuvwxyz";
const KEPT_MARK: &[u8] = b":******";
const NAME_BYTES_MAX: usize = 32;
const EPOCH_LETTERS_MAX: usize = 4;
/// 26 + 26^2 + 26^3 + 26^4.
const EPOCHS_MAX: u32 = 475_254;

fn run(bytes: &[u8], most: usize, is_part: impl Fn(u8) -> bool) -> usize {
    let bytes = &bytes[..bytes.len().min(most)];
    bytes.iter().position(|byte| !is_part(*byte)).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_recognised() {
        let mut out = Vec::new();
        let lengths: Vec<usize> = [
            |out: &mut Vec<u8>| write_placeholder("phone", out),
            |out: &mut Vec<u8>| write_token("email", EpochId(27), &[0xE7; 32], out),
            |out: &mut Vec<u8>| write_kept("phone", b"3210", out),
        ]
        .iter()
        .map(|write| {
            let start = out.len();
            write(&mut out);
            assert_eq!(token_at(&out[start..]), Some(out.len() - start));
            out.len() - start
        })
        .collect();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "[phone][email:ab:ohohohohohohohohohohohoh][phone:******3210]"
        );
        assert_eq!(lengths.len(), 3);
    }

    #[test]
    fn forgeries_with_room_for_a_value_are_not_recognised() {
        for text in [
            "[9876543210]",
            "[phone:a:987654321098765432109876]",
            "[phone:a:abcdefghijklmnopabcdefgh",
            "[phone:a:abcdefghijklmnopabcdefghi]",
            "[phone:******32101]",
            "[phone:******]",
            "[phone::abcdefghijklmnopabcdefgh]",
            "[a@b.de]",
            "[]",
            "[",
            "",
            "phone",
        ] {
            assert_eq!(token_at(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn epochs_are_letters() {
        for (number, text) in [(0, "a"), (25, "z"), (26, "aa"), (701, "zz"), (702, "aaa")] {
            assert_eq!(EpochId(number).to_string(), text);
            assert_eq!(EpochId::parse(text), Some(EpochId(number)));
        }
        let last = EpochId(EPOCHS_MAX - 1);
        assert_eq!((last.to_string().as_str(), last.next()), ("zzzz", None));
        assert_eq!(EpochId::parse("A"), None);
        assert_eq!(EpochId::parse(""), None);
        assert_eq!(EpochId::parse("aaaaa"), None);
    }
}

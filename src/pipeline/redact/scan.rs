//! The fast path: one pass of byte masks over a record that finds out, for most records, that
//! nothing in it needs a closer look. It may say "look closer" too often, never too seldom.
//!
//! 64 bytes become one bit each per class. On x86-64 the masks are made with SSE2, which is
//! part of the architecture, elsewhere byte by byte; a property test holds the two equal.

/// One bit per byte of a block, lowest bit first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Masks {
    /// `0`-`9`.
    pub(super) digit: u64,
    /// What a written number may consist of: digits, space, `( ) * + - . /` and backslash.
    pub(super) number: u64,
    /// What may hide or begin something: `@ % & = \` and everything outside ASCII.
    pub(super) trigger: u64,
    pub(super) quote: u64,
    /// `{` and `[`.
    pub(super) open: u64,
    /// `}` and `]`.
    pub(super) close: u64,
    /// `a` or `A` with `t` or `T` behind it in the same block.
    pub(super) at_word: u64,
}

/// The masks of one block.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "the one call into functions compiled for SSE2")]
pub(super) fn masks(block: &[u8; 64]) -> Masks {
    // SAFETY: SSE2 is part of x86-64 itself, so every processor that runs this has it.
    unsafe { sse2::masks(block) }
}

/// The masks of one block.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn masks(block: &[u8; 64]) -> Masks {
    masks_by_byte(block)
}

/// The definition of the masks.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn masks_by_byte(block: &[u8; 64]) -> Masks {
    let mut masks = Masks::default();
    let mut t = 0;
    let mut a = 0;
    for (index, &byte) in block.iter().enumerate() {
        let bit = 1_u64 << index;
        let set = |mask: &mut u64, is_member: bool| *mask |= if is_member { bit } else { 0 };
        set(&mut masks.digit, byte.is_ascii_digit());
        let is_sign = (b'('..=b'/').contains(&byte) && byte != b',';
        set(&mut masks.number, is_sign || byte.is_ascii_digit() || matches!(byte, b' ' | b'\\'));
        set(&mut masks.trigger, matches!(byte, b'@' | b'%' | b'&' | b'=' | b'\\') || byte >= 0x80);
        set(&mut masks.quote, byte == b'"');
        set(&mut masks.open, matches!(byte, b'{' | b'['));
        set(&mut masks.close, matches!(byte, b'}' | b']'));
        set(&mut a, byte | 0x20 == b'a');
        set(&mut t, byte | 0x20 == b't');
    }
    masks.at_word = a & (t >> 1);
    masks
}

#[cfg(target_arch = "x86_64")]
mod sse2 {
    use std::arch::x86_64::{
        __m128i, _mm_andnot_si128, _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128,
        _mm_set_epi64x, _mm_set1_epi8, _mm_sub_epi8,
    };

    use super::Masks;

    #[target_feature(enable = "sse2")]
    pub(super) fn masks(block: &[u8; 64]) -> Masks {
        let mut masks = Masks::default();
        let (mut a, mut t) = (0, 0);
        for (lane, bytes) in block.as_chunks::<16>().0.iter().enumerate() {
            let x = load(bytes);
            let shift = 16 * lane;
            let digit = in_range(x, b'0', 9);
            let backslash = equal(x, b'\\');
            let signs = _mm_andnot_si128(equal(x, b','), in_range(x, b'(', 17));
            let number = _mm_or_si128(_mm_or_si128(signs, equal(x, b' ')), backslash);
            let trigger = _mm_or_si128(
                _mm_or_si128(equal(x, b'@'), equal(x, b'=')),
                // `%` and `&` are neighbours; bytes from 0x80 keep their own highest bit.
                _mm_or_si128(_mm_or_si128(in_range(x, b'%', 1), backslash), x),
            );
            let folded = _mm_or_si128(x, _mm_set1_epi8(0x20));
            masks.digit |= bits(digit) << shift;
            masks.number |= bits(number) << shift;
            masks.trigger |= bits(trigger) << shift;
            masks.quote |= bits(equal(x, b'"')) << shift;
            masks.open |= bits(equal(folded, b'{')) << shift;
            masks.close |= bits(equal(folded, b'}')) << shift;
            a |= bits(equal(folded, b'a')) << shift;
            t |= bits(equal(folded, b't')) << shift;
        }
        masks.at_word = a & (t >> 1);
        masks
    }

    #[target_feature(enable = "sse2")]
    fn load(bytes: &[u8; 16]) -> __m128i {
        let (low, high) = bytes.split_at(8);
        let word = |half: &[u8]| i64::from_le_bytes(half.try_into().expect("eight bytes"));
        _mm_set_epi64x(word(high), word(low))
    }

    #[expect(clippy::cast_possible_wrap, reason = "a byte is a byte")]
    #[target_feature(enable = "sse2")]
    fn equal(x: __m128i, byte: u8) -> __m128i {
        _mm_cmpeq_epi8(x, _mm_set1_epi8(byte as i8))
    }

    /// Bytes from `first` to `first + span`.
    #[expect(clippy::cast_possible_wrap, reason = "a byte is a byte")]
    #[target_feature(enable = "sse2")]
    fn in_range(x: __m128i, first: u8, span: u8) -> __m128i {
        let offset = _mm_sub_epi8(x, _mm_set1_epi8(first as i8));
        _mm_cmpeq_epi8(_mm_min_epu8(offset, _mm_set1_epi8(span as i8)), offset)
    }

    /// The highest bit of each byte.
    #[target_feature(enable = "sse2")]
    fn bits(x: __m128i) -> u64 {
        #[expect(clippy::cast_sign_loss, reason = "sixteen bits of a mask")]
        let bits = _mm_movemask_epi8(x) as u32;
        u64::from(bits)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_ways_make_the_same_masks(bytes in proptest::collection::vec(any::<u8>(), 64)) {
            let block: [u8; 64] = bytes.try_into().expect("64 bytes");
            prop_assert_eq!(masks(&block), masks_by_byte(&block));
        }
    }

    #[test]
    fn every_byte_has_the_same_masks() {
        for byte in 0..=u8::MAX {
            assert_eq!(masks(&[byte; 64]), masks_by_byte(&[byte; 64]), "{byte}");
        }
    }
}

//! The fast path: one pass of byte masks over a record that finds out, for most records, that
//! nothing in it needs a closer look. It may say "look closer" too often, never too seldom.
//!
//! 64 bytes become one bit each per class. Where the processor has AVX-512 or AVX2 the masks are made
//! with it, elsewhere byte by byte; a property test holds the ways equal.

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
    /// `a` or `A`.
    pub(super) a: u64,
    /// `t` or `T`.
    pub(super) t: u64,
    /// Letters, digits, `-`, `.` and `_`.
    pub(super) token: u64,
    /// Control characters and everything outside ASCII.
    pub(super) odd: u64,
}

/// Stands behind the end of a text: a printable byte of no other class.
const PADDING: u8 = b'!';

/// Fills `found` with the masks of `text`, block by block; behind its end all bits are 0. There is
/// always a block that reaches past the end.
pub(super) fn masks_of(text: &[u8], found: &mut Vec<Masks>) {
    found.clear();
    let (blocks, rest) = text.as_chunks();
    let mut last = [PADDING; 64];
    last[..rest.len()].copy_from_slice(rest);
    for blocks in [blocks, &[last]] {
        add_masks(blocks, found);
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "the calls into functions compiled for AVX")]
fn add_masks(blocks: &[[u8; 64]], found: &mut Vec<Masks>) {
    use std::arch::is_x86_feature_detected;

    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
        // SAFETY: the processor has just said that it has both.
        unsafe { avx512::add_masks(blocks, found) }
    } else if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has just said that it has AVX2.
        unsafe { avx2::add_masks(blocks, found) }
    } else {
        found.extend(blocks.iter().map(masks_by_byte));
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn add_masks(blocks: &[[u8; 64]], found: &mut Vec<Masks>) {
    found.extend(blocks.iter().map(masks_by_byte));
}

/// The definition of the masks.
fn masks_by_byte(block: &[u8; 64]) -> Masks {
    let mut masks = Masks::default();
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
        set(&mut masks.a, byte | 0x20 == b'a');
        set(&mut masks.t, byte | 0x20 == b't');
        set(&mut masks.odd, !(b' '..0x7f).contains(&byte));
        set(&mut masks.token, byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    }
    masks
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512i, _mm512_cmpeq_epi8_mask, _mm512_cmple_epu8_mask, _mm512_loadu_si512,
        _mm512_movepi8_mask, _mm512_or_si512, _mm512_set1_epi8, _mm512_sub_epi8,
    };

    use super::Masks;

    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn add_masks(blocks: &[[u8; 64]], found: &mut Vec<Masks>) {
        found.reserve(blocks.len());
        for block in blocks {
            let x = load(block);
            let folded = _mm512_or_si512(x, _mm512_set1_epi8(0x20));
            let (digit, backslash) = (in_range(x, b'0', 9), equal(x, b'\\'));
            let signs = in_range(x, b'(', 7) & !equal(x, b',');
            let glued = equal(x, b'@') | equal(x, b'=') | in_range(x, b'%', 1);
            found.push(Masks {
                digit,
                number: digit | signs | equal(x, b' ') | backslash,
                trigger: glued | backslash | _mm512_movepi8_mask(x),
                quote: equal(x, b'"'),
                open: equal(folded, b'{'),
                close: equal(folded, b'}'),
                a: equal(folded, b'a'),
                t: equal(folded, b't'),
                token: digit | in_range(folded, b'a', 25) | in_range(x, b'-', 1) | equal(x, b'_'),
                odd: !in_range(x, b' ', 0x5e),
            });
        }
    }

    #[expect(unsafe_code, reason = "the load of 64 bytes")]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn load(bytes: &[u8; 64]) -> __m512i {
        // SAFETY: 64 bytes are readable, and this load asks for no alignment.
        unsafe { _mm512_loadu_si512(std::ptr::from_ref(bytes).cast()) }
    }

    #[expect(clippy::cast_possible_wrap, reason = "a byte is a byte")]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn equal(x: __m512i, byte: u8) -> u64 {
        _mm512_cmpeq_epi8_mask(x, _mm512_set1_epi8(byte as i8))
    }

    /// Bytes from `first` to `first + span`.
    #[expect(clippy::cast_possible_wrap, reason = "a byte is a byte")]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn in_range(x: __m512i, first: u8, span: u8) -> u64 {
        let offset = _mm512_sub_epi8(x, _mm512_set1_epi8(first as i8));
        _mm512_cmple_epu8_mask(offset, _mm512_set1_epi8(span as i8))
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256i, _mm256_andnot_si256, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8,
        _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8, _mm256_sub_epi8,
    };

    use super::Masks;

    #[target_feature(enable = "avx2")]
    pub(super) fn add_masks(blocks: &[[u8; 64]], found: &mut Vec<Masks>) {
        found.reserve(blocks.len());
        for block in blocks {
            let [low, high] = block.as_chunks::<32>().0 else { return };
            let (low, high) = (half(low), half(high));
            let whole = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
            found.push(Masks {
                digit: whole(low.digit, high.digit),
                number: whole(low.number, high.number),
                trigger: whole(low.trigger, high.trigger),
                quote: whole(low.quote, high.quote),
                open: whole(low.open, high.open),
                close: whole(low.close, high.close),
                a: whole(low.a, high.a),
                t: whole(low.t, high.t),
                token: whole(low.token, high.token),
                odd: whole(low.odd, high.odd),
            });
        }
    }

    /// As [`Masks`], for 32 bytes.
    struct Half {
        digit: u32,
        number: u32,
        trigger: u32,
        quote: u32,
        open: u32,
        close: u32,
        a: u32,
        t: u32,
        token: u32,
        odd: u32,
    }

    /// Inlined, two of these are joined to 64 lanes, which no register holds, and fall apart to bytes.
    #[inline(never)]
    #[target_feature(enable = "avx2")]
    fn half(bytes: &[u8; 32]) -> Half {
        let x = load(bytes);
        let digit = in_range(x, b'0', 9);
        let backslash = equal(x, b'\\');
        let signs = _mm256_andnot_si256(equal(x, b','), in_range(x, b'(', 7));
        let trigger = _mm256_or_si256(
            _mm256_or_si256(equal(x, b'@'), equal(x, b'=')),
            // `%` and `&` are neighbours; bytes from 0x80 keep their own highest bit.
            _mm256_or_si256(_mm256_or_si256(in_range(x, b'%', 1), backslash), x),
        );
        let number = _mm256_or_si256(
            _mm256_or_si256(digit, signs),
            _mm256_or_si256(equal(x, b' '), backslash),
        );
        let folded = _mm256_or_si256(x, _mm256_set1_epi8(0x20));
        let signs_of_token = _mm256_or_si256(in_range(x, b'-', 1), equal(x, b'_'));
        let letter = in_range(folded, b'a', 25);
        let token = _mm256_or_si256(_mm256_or_si256(letter, digit), signs_of_token);
        Half {
            digit: bits(digit),
            number: bits(number),
            trigger: bits(trigger),
            quote: bits(equal(x, b'"')),
            open: bits(equal(folded, b'{')),
            close: bits(equal(folded, b'}')),
            a: bits(equal(folded, b'a')),
            t: bits(equal(folded, b't')),
            token: bits(token),
            odd: !bits(in_range(x, b' ', 0x5e)),
        }
    }

    #[expect(unsafe_code, reason = "the load of 32 bytes")]
    #[target_feature(enable = "avx2")]
    fn load(bytes: &[u8; 32]) -> __m256i {
        // SAFETY: 32 bytes are readable, and this load asks for no alignment.
        unsafe { _mm256_loadu_si256(std::ptr::from_ref(bytes).cast()) }
    }

    #[expect(clippy::cast_possible_wrap, reason = "a byte is a byte")]
    #[target_feature(enable = "avx2")]
    fn equal(x: __m256i, byte: u8) -> __m256i {
        _mm256_cmpeq_epi8(x, _mm256_set1_epi8(byte as i8))
    }

    /// Bytes from `first` to `first + span`.
    #[expect(clippy::cast_possible_wrap, reason = "a byte is a byte")]
    #[target_feature(enable = "avx2")]
    fn in_range(x: __m256i, first: u8, span: u8) -> __m256i {
        let offset = _mm256_sub_epi8(x, _mm256_set1_epi8(first as i8));
        _mm256_cmpeq_epi8(_mm256_min_epu8(offset, _mm256_set1_epi8(span as i8)), offset)
    }

    /// The highest bit of each byte.
    #[expect(clippy::cast_sign_loss, reason = "32 bits of a mask")]
    #[target_feature(enable = "avx2")]
    fn bits(x: __m256i) -> u32 {
        _mm256_movemask_epi8(x) as u32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every way that this processor has.
    #[expect(unsafe_code, reason = "the ways that are not taken here are tested too")]
    fn ways(blocks: &[[u8; 64]]) -> Vec<Vec<Masks>> {
        let mut ways = vec![Vec::new()];
        add_masks(blocks, &mut ways[0]);
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            let mut found = Vec::new();
            // SAFETY: the processor has just said that it has AVX2.
            unsafe { avx2::add_masks(blocks, &mut found) }
            ways.push(found);
        }
        ways
    }

    proptest! {
        #[test]
        fn all_ways_make_the_same_masks(bytes in proptest::collection::vec(any::<u8>(), 64..256)) {
            let blocks = bytes.as_chunks().0;
            let expected: Vec<Masks> = blocks.iter().map(masks_by_byte).collect();
            for found in ways(blocks) {
                prop_assert_eq!(&found, &expected);
            }
        }
    }

    #[test]
    fn every_byte_has_the_same_masks() {
        for byte in 0..=u8::MAX {
            for found in ways(&[[byte; 64]]) {
                assert_eq!(found, [masks_by_byte(&[byte; 64])], "{byte}");
            }
        }
    }

    #[test]
    fn nothing_lies_behind_the_end() {
        for len in [0, 1, 63, 64, 65] {
            let mut found = Vec::new();
            masks_of(&vec![b'1'; len], &mut found);
            let digits: u32 = found.iter().map(|masks| masks.digit.count_ones()).sum();
            assert_eq!((found.len(), digits as usize), (len / 64 + 1, len));
            assert!(found.iter().all(|masks| masks.odd == 0));
        }
    }
}

//! Recognises records that are no text: masking digits inside them would break them and still leak
//! what is compressed. They go to the dead letters by coordinates, with the name of their format.

use super::token::token_at;

/// The name of the binary format `bytes` are in; `None` for what may be text, in UTF-8 or nearly.
#[must_use]
pub fn not_text(bytes: &[u8]) -> Option<&'static str> {
    let by_magic = MAGIC.iter().find(|(_, magic)| bytes.starts_with(magic));
    if let Some((name, _)) = by_magic {
        return Some(name);
    }
    let sample = &bytes[..bytes.len().min(SAMPLE_BYTES)];
    if let Some(name) = utf_16(sample) {
        return Some(name);
    }
    // Text needs neither NUL nor other control characters; all of these formats have them early.
    let control = sample.iter().filter(|&&byte| is_control(byte)).count();
    if control == 0 && std::str::from_utf8(trim_cut(sample)).is_ok() {
        return None;
    }
    schema_registry(bytes)
        .or_else(|| is_otlp(bytes).then_some("otlp-protobuf"))
        .or_else(|| is_binary(sample, control).then_some("binary"))
}

/// Well-known first bytes: RFC 1952, RFC 8878, the LZ4 frame format, the framing format of Snappy
/// and its Java variant, RFC 1950 (usual levels), Avro containers, xz.
const MAGIC: [(&str, &[u8]); 12] = [
    ("gzip", b"\x1F\x8B"),
    ("zstd", b"\x28\xB5\x2F\xFD"),
    ("lz4", b"\x04\x22\x4D\x18"),
    ("snappy", b"\xFF\x06\x00\x00sNaPpY"),
    ("snappy", b"\x82SNAPPY\x00"),
    ("zlib", b"\x78\x01"),
    ("zlib", b"\x78\x9C"),
    ("zlib", b"\x78\xDA"),
    ("avro", b"Obj\x01"),
    ("xz", b"\xFD7zXZ\x00"),
    ("utf-16", b"\xFF\xFE"),
    ("utf-16", b"\xFE\xFF"),
];

const SAMPLE_BYTES: usize = 512;
const PROTOBUF_FIELDS_MIN: usize = 1;

/// UTF-16 without a byte order mark: in Latin text every other byte is NUL.
fn utf_16(sample: &[u8]) -> Option<&'static str> {
    let pairs = sample.len() / 2;
    if pairs < 4 || !sample.contains(&0) {
        return None;
    }
    let zeros_at = |side: usize| sample.chunks_exact(2).filter(|pair| pair[side] == 0).count();
    let (even, odd) = (zeros_at(0), zeros_at(1));
    let mostly = |count: usize| count * 10 >= pairs * 7;
    let rarely = |count: usize| count * 10 <= pairs;
    (mostly(even) && rarely(odd) || mostly(odd) && rarely(even)).then_some("utf-16")
}

/// The wire format of Confluent's schema registry: NUL, schema id in four bytes, then Avro, JSON or
/// Protobuf. Ids are counted from 1, so their first byte is almost always NUL too.
fn schema_registry(bytes: &[u8]) -> Option<&'static str> {
    let [0, 0, ids @ ..] = bytes.get(..5)? else { return None };
    (ids != [0, 0, 0] && bytes.len() > 5).then_some("schema-registry")
}

/// A list of `ResourceLogs`, `ResourceSpans` or `ResourceMetrics`: field 1, length-delimited, filling
/// the record, each beginning with field 1 (the resource) or 2 (the scope) of the same type.
fn is_otlp(bytes: &[u8]) -> bool {
    let (mut rest, mut fields) = (bytes, 0);
    while let Some((&b'\x0A', after_tag)) = rest.split_first() {
        let Some((length, after_length)) = varint(after_tag) else { return false };
        let Some((field, after_field)) = after_length.split_at_checked(length) else {
            return false;
        };
        if !matches!(field.first(), None | Some(b'\x0A' | b'\x12')) {
            return false;
        }
        fields += 1;
        rest = after_field;
    }
    rest.is_empty() && fields >= PROTOBUF_FIELDS_MIN
}

fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_usize;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

/// More than one byte in ten is no part of any text, and none of it was written here: what is left of
/// a text must not become binary by what was taken out.
fn is_binary(sample: &[u8], control: usize) -> bool {
    let mut brackets = memchr::memchr_iter(b'[', sample);
    if brackets.any(|at| token_at(&sample[at..]).is_some()) {
        return false;
    }
    let broken: usize = sample.utf8_chunks().map(|chunk| chunk.invalid().len()).sum();
    (control + broken) * 10 > sample.len()
}

/// Control characters that text does not hold; tab, line ends, form feed and escape it may.
fn is_control(byte: u8) -> bool {
    byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0B | 0x0C | 0x1B)
}

/// Without the start of a character that the sample's end cut in two.
fn trim_cut(sample: &[u8]) -> &[u8] {
    let last = sample.utf8_chunks().last();
    let invalid = last.map_or(0, |chunk| chunk.invalid().len());
    if sample.len() == SAMPLE_BYTES { &sample[..sample.len() - invalid] } else { sample }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_text_is_text() {
        assert_eq!(not_text(b"\x14[email]"), None);
        assert_eq!(not_text(b"\x14[mail"), Some("binary"));
    }

    #[test]
    fn text_is_text() {
        let long = "é".repeat(400);
        let shifted = format!("x{long}");
        for text in [
            "",
            "x",
            "{\"a\":1}",
            "level=info msg=\"done\"\n",
            "\u{1B}[31mred\u{1B}[0m",
            "नमस्ते",
            "xNNN",
            &long,
            &shifted,
        ] {
            assert_eq!(not_text(text.as_bytes()), None, "{text}");
        }
        assert_eq!(not_text(b"mostly text with one bad \xFF byte"), None);
        assert_eq!(not_text(b"a line with a NUL\0 in it, as C programs write"), None);
    }

    #[test]
    fn formats_are_named() {
        let utf_16 =
            |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        let utf_16_big =
            |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>();
        let mut otlp = vec![0x0A, 0x06, 0x0A, 0x04, 0x0A, 0x02, b'a', b'b'];
        otlp.extend_from_within(..);
        let cases: [(&str, Vec<u8>); 10] = [
            ("gzip", b"\x1F\x8B\x08\x00".to_vec()),
            ("zstd", b"\x28\xB5\x2F\xFDxx".to_vec()),
            ("avro", b"Obj\x01\x04".to_vec()),
            ("schema-registry", b"\0\0\0\0\x07\x0Cfoobar".to_vec()),
            ("utf-16", utf_16("{\"phone\":\"9876543210\"}")),
            ("utf-16", utf_16_big("call 9876543210")),
            ("utf-16", b"\xFF\xFEa\0".to_vec()),
            ("otlp-protobuf", otlp),
            ("binary", vec![1, 2, 3, 200, 201, 202, 0, 0, 7]),
            ("binary", vec![0; 40]),
        ];
        for (name, bytes) in cases {
            assert_eq!(not_text(&bytes), Some(name), "{bytes:?}");
        }
    }
}

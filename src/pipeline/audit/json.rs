//! Appends JSON to a byte vector with no tree in between: field order and bytes are ours to freeze.

use super::super::limits::AUDIT_TEXT_BYTES_MAX;

/// Appends `text` as a JSON string, cut to [`AUDIT_TEXT_BYTES_MAX`] at a character boundary (a cut
/// text ends in `…`). Escapes what RFC 8259 demands, and U+007F, nothing else.
pub(super) fn push_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    if text.len() <= AUDIT_TEXT_BYTES_MAX {
        push_escaped(out, text);
    } else {
        let cut = text.floor_char_boundary(AUDIT_TEXT_BYTES_MAX);
        push_escaped(out, text.get(..cut).expect("the cut is a character boundary"));
        out.extend_from_slice("…".as_bytes());
    }
    out.push(b'"');
}

/// Appends `text` whole, as a JSON string.
pub(super) fn push_name(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_escaped(out, text);
    out.push(b'"');
}

/// Appends a decimal number.
pub(super) fn push_number(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    push_unsigned(out, number.unsigned_abs());
}

/// Appends a decimal number.
pub(super) fn push_unsigned(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = digit(number % 10);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(start..).expect("start is inside the digits"));
}

/// Appends exactly 20 decimal digits, zeros in front.
pub(super) fn push_fixed(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; 20];
    for slot in digits.iter_mut().rev() {
        *slot = digit(number % 10);
        number /= 10;
    }
    out.extend_from_slice(&digits);
}

/// Appends lower-case hexadecimal.
pub(super) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// Appends base64url without padding (RFC 4648 section 5).
pub(super) fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + data_encoding::BASE64URL_NOPAD.encode_len(bytes.len()), 0);
    let slot = out.get_mut(start..).expect("the vector was just made longer");
    data_encoding::BASE64URL_NOPAD.encode_mut(bytes, slot);
}

/// Reads base64url without padding of exactly `N` bytes.
pub(super) fn read_base64<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bytes = data_encoding::BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
    bytes.try_into().ok()
}

/// Reads lower-case hexadecimal of exactly `N` bytes.
pub(super) fn read_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let bytes = data_encoding::HEXLOWER.decode(text).ok()?;
    bytes.try_into().ok()
}

/// Lower-case hexadecimal as a string, for messages.
pub(super) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn push_escaped(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' && byte != 0x7f {
            continue;
        }
        out.extend_from_slice(bytes.get(copied..index).expect("copied never passes index"));
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => {
                out.extend_from_slice(b"\\u00");
                push_hex(out, &[byte]);
            }
        }
        copied = index + 1;
    }
    out.extend_from_slice(bytes.get(copied..).expect("copied is at most the length"));
}

fn digit(value: u64) -> u8 {
    b'0' + u8::try_from(value).expect("a remainder of ten")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_reads_back(text in any::<String>()) {
            prop_assume!(text.len() <= AUDIT_TEXT_BYTES_MAX);
            let mut out = Vec::new();
            push_text(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
            prop_assert!(out.iter().all(|byte| *byte >= 0x20 && *byte != 0x7f));
        }

        #[test]
        fn numbers_read_back(number in any::<i64>()) {
            let mut out = Vec::new();
            push_number(&mut out, number);
            prop_assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let mut out = Vec::new();
        push_text(&mut out, &"ü".repeat(AUDIT_TEXT_BYTES_MAX));
        let text: String = serde_json::from_slice(&out).unwrap();
        assert_eq!(text.len(), AUDIT_TEXT_BYTES_MAX + "…".len());
        assert!(text.ends_with("ü…"));
    }

    #[test]
    fn fixed_width_covers_all_numbers() {
        let mut out = Vec::new();
        push_fixed(&mut out, u64::MAX);
        push_fixed(&mut out, 7);
        assert_eq!(out, b"1844674407370955161500000000000000000007");
    }
}

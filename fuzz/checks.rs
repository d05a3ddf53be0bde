// What must hold for any bytes. Shared by the fuzz targets and by the test that replays
// `regressions/`, through the public interface of the redactor only.

use blotter::pipeline::redact::Redactor;
use blotter::pipeline::redact::policy::{Policy, RawPolicy};

const EMAIL: &str = "wqxz.jjvqkz@example.com";
const LOCAL: &[u8] = b"jjvqkz";
const PHONE: &str = "+919876543210";
const NATIONAL: &[u8] = b"9876543210";

/// Arbitrary bytes: no panic, bounded growth, JSON stays JSON, nothing more to find.
pub(super) fn scan(data: &[u8]) {
    for strictness in ["balanced", "strict"] {
        let out = redact(strictness, data);
        assert!(out.len() <= data.len() * 8 + 64, "{} bytes became {}", data.len(), out.len());
        let again = redact(strictness, &out);
        assert_eq!(show(&again), show(&out), "redacted again it changes");
        // A number alone is a line of text as well, and is redacted as one.
        let is_number = data.trim_ascii().iter().all(|byte| b"0123456789+-.eE".contains(byte));
        if is_json(data) && !is_number {
            assert!(out.is_empty() || is_json(&out), "no JSON any more: {}", show(&out));
        }
    }
}

/// An address under its key, written through layers that the first bytes choose. A fuzzer may write
/// the address elsewhere too: no such line counts, here and below.
pub(super) fn views(data: &[u8]) {
    let Some((layers, rest)) = data.split_first_chunk::<3>() else { return };
    if contains(rest, LOCAL) {
        return;
    }
    let around = String::from_utf8_lossy(rest).replace(|c: char| c.is_control(), " ");
    let mut value = EMAIL.to_owned();
    for layer in layers {
        value = match layer % 6 {
            0 => percent(&value),
            1 => value.replace('@', "&#64;"),
            2 => value.replace('@', "\u{FF20}"),
            3 => value.replace('.', ".\u{200B}"),
            4 => value.replace('@', "=40"),
            _ => value,
        };
    }
    let mut line = serde_json::json!({ "note": around, "email": value }).to_string();
    for _ in 0..layers[0] / 64 {
        line = serde_json::json!({ "body": line }).to_string();
    }
    let out = redact("balanced", line.as_bytes());
    assert!(!contains(&out, LOCAL), "{line}\n{}", show(&out));
    assert!(is_json(&out), "{}", show(&out));
}

/// An address between spaces, whatever stands around it.
pub(super) fn email(data: &[u8]) {
    if contains(data, LOCAL) {
        return;
    }
    let (line, text) = surrounded(data, EMAIL);
    let out = redact("balanced", &line);
    assert!(!contains(&out, LOCAL), "{text}\n{}", show(&out));
}

/// An international number between spaces, whatever stands around it.
pub(super) fn phone(data: &[u8]) {
    if contains(data, NATIONAL) {
        return;
    }
    let (line, text) = surrounded(data, PHONE);
    let out = redact("balanced", &line);
    assert!(!contains(&out, NATIONAL), "{text}\n{}", show(&out));
}

fn redact(strictness: &str, input: &[u8]) -> Vec<u8> {
    let raw = RawPolicy {
        regions: Some(vec!["IN".to_owned(), "DE".to_owned(), "US".to_owned()]),
        strictness: Some(strictness.to_owned()),
        ..RawPolicy::default()
    };
    let mut out = Vec::new();
    Redactor::new(Policy::new(&raw).expect("the policy is sound")).redact(input, &mut out);
    out
}

/// `data` cut in two by its first byte, with `value` and spaces between.
fn surrounded(data: &[u8], value: &str) -> (Vec<u8>, String) {
    let (cut, rest) = data.split_first().map_or((0, data), |(first, rest)| (*first, rest));
    let at = usize::from(cut).min(rest.len());
    let line = [&rest[..at], b" ", value.as_bytes(), b" ", &rest[at..]].concat();
    let text = show(&line);
    (line, text)
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<&serde_json::value::RawValue>(bytes).is_ok()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

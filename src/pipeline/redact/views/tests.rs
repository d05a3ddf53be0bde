use super::*;

fn fixpoint(text: &str) -> String {
    let mut current = text.as_bytes().to_vec();
    let mut decoded = Decoded::default();
    while decode_next(Text::raw(&current), &mut decoded).is_some() {
        assert_eq!(decoded.bytes.len() + 1, decoded.raw.len());
        assert!(decoded.bytes.len() < current.len(), "each layer shrinks the text");
        current = decoded.bytes.clone();
    }
    String::from_utf8(current).unwrap()
}

#[test]
fn every_layer_is_undone_however_deep() {
    for (wrapped, plain) in [
        (r"asha\u0040x.in", "asha@x.in"),
        (r"asha\\u0040x.in", "asha@x.in"),
        (r"a\/b\n\u00e9\ud83d\ude00", "a/b\né😀"),
        ("asha%40x.in", "asha@x.in"),
        ("asha%2540x.in", "asha@x.in"),
        ("asha&#64;x.in &#x40; &commat;&amp;#64;", "asha@x.in @ @@"),
        ("asha=40x.in, =2B49 30=20901", "asha@x.in, +49 30 901"),
        ("id=4012345 key=40", "id=4012345 key=40"),
        ("asha\u{ff20}x.in ９８", "asha@x.in 98"),
        ("9\u{200b}8\u{ad}7\u{2011}6\u{a0}5 ०९ ٣", "987-6 5 09 3"),
        ("100% of 5%, a & b; c:\\dir", "100% of 5%, a & b; c:\\dir"),
    ] {
        assert_eq!(fixpoint(wrapped), plain, "{wrapped}");
    }
}

#[test]
fn a_span_maps_to_whole_escapes() {
    let raw = r"x asha\u0040x.in y";
    let mut decoded = Decoded::default();
    assert!(unescape(Text::raw(raw.as_bytes()), &mut decoded));
    let text = decoded.text();
    let start = text.bytes.iter().position(|b| *b == b'a').unwrap();
    let span = text.raw_offset(start)..text.raw_offset(start + "asha@x.in".len());
    assert_eq!(&raw[span], r"asha\u0040x.in");
    assert!(text.is_escaped(start, start + 9));
    assert!(!text.is_escaped(start, start + 4));
}

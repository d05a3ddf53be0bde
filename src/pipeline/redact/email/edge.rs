//! Where running text goes over into an address, or an address into text, without a space between:
//! many scripts have none, and people set quotes, dashes and emoji right beside an address.

use super::suffix::{self, Suffix};

/// Characters that are no letter, digit or mark of any script in daily use, outside ASCII; letters
/// among the signs (`℃`, `①`) count as signs. Source: UnicodeData.txt 17 (categories P, S, Z).
const SIGNS: [(u32, u32); 38] = [
    (0x00a0, 0x00a9),
    (0x00ab, 0x00b4),
    (0x00b6, 0x00b9),
    (0x00bb, 0x00bf),
    (0x00d7, 0x00d7),
    (0x00f7, 0x00f7),
    (0x055a, 0x055f),
    (0x0589, 0x058f),
    (0x05be, 0x05be),
    (0x05f3, 0x060f),
    (0x061b, 0x061f),
    (0x066a, 0x066d),
    (0x06d4, 0x06d4),
    (0x0700, 0x070d),
    (0x0964, 0x0965),
    (0x0970, 0x0970),
    (0x0df4, 0x0df4),
    (0x0e3f, 0x0e3f),
    (0x0e4f, 0x0e4f),
    (0x0e5a, 0x0e5b),
    (0x0f01, 0x0f17),
    (0x104a, 0x104f),
    (0x1360, 0x1368),
    (0x17d4, 0x17db),
    (0x1800, 0x180a),
    (0x2000, 0x200a),
    (0x2010, 0x205f),
    (0x207a, 0x207e),
    (0x208a, 0x208e),
    (0x20a0, 0x2bff),
    (0x2e00, 0x2e7f),
    (0x3000, 0x3004),
    (0x3008, 0x3020),
    (0x3030, 0x303f),
    (0x30fb, 0x30fb),
    (0xfe00, 0xfe6f),
    (0xffe0, 0xfffd),
    (0x1f000, 0x1faff),
];

/// Where, in a local part that takes in all outside ASCII, the text before the address ends: behind
/// the last sign, and where another script goes over into Latin letters.
pub(super) fn local_start(local: &[u8]) -> usize {
    let mut start = 0;
    let mut before = None;
    for (at, character) in characters(local) {
        let next = local.get(at + character.len_utf8());
        // `o’brien`: an apostrophe that a phone's keyboard made pretty.
        let is_apostrophe = character == '\u{2019}'
            && before.is_some_and(char::is_alphabetic)
            && next.is_some_and(u8::is_ascii_alphabetic);
        if is_sign(character) && !is_apostrophe {
            start = at + character.len_utf8();
        } else if character.is_ascii_alphabetic() && before.is_some_and(is_of_other_script) {
            start = at;
        }
        // `谢谢。asha@`: the full stop has become a dot.
        if !(matches!(character, '.' | '-') && before.is_some_and(is_east_asian)) {
            before = Some(character);
        }
    }
    start
}

/// The part of `domain`, which takes in all outside ASCII, that is a domain, and what it ends in: text
/// behind a known suffix is left out.
pub(super) fn domain_part(domain: &[u8]) -> (&[u8], Suffix) {
    let sign = characters(domain).find(|(_, character)| is_sign(*character));
    // Before all of it is tried: `x@gmail.com→y.in` would end well.
    if let Some((at, _)) = sign
        && let Some(found) = up_to_text(&domain[..at])
    {
        return found;
    }
    let suffix = suffix::of(domain);
    if !matches!(suffix, Suffix::Unknown | Suffix::None) {
        return (domain, suffix);
    }
    // `x@gmail.com.Next sentence`, `x@gmail.com.phone`.
    let before_dot = memchr::memrchr(b'.', domain).map(|dot| trim(&domain[..dot]));
    let parts = [Some(domain), before_dot].into_iter().flatten();
    parts.filter_map(up_to_text).next().unwrap_or((domain, suffix))
}

/// The longest part of `domain` with a known suffix that leaves out no more than the end of its last
/// label: `gmail.com谢谢`, `gmail.com-1790000000`.
fn up_to_text(domain: &[u8]) -> Option<(&[u8], Suffix)> {
    let domain = trim(domain);
    let label = memchr::memrchr(b'.', domain)? + 1;
    let first = |matches: fn(u8) -> bool| {
        domain[label..].iter().position(|byte| matches(*byte)).map(|len| label + len)
    };
    let hyphen = first(|byte| byte == b'-')
        .filter(|hyphen| ends_before_hyphen(&domain[label..*hyphen], &domain[hyphen + 1..]));
    let ends = [Some(domain.len()), first(|byte| byte >= 0x80), hyphen];
    ends.into_iter().flatten().map(|end| &domain[..end]).find_map(|part| {
        let suffix = suffix::of(part);
        (suffix == Suffix::Public || suffix == Suffix::Reserved && part.len() == domain.len())
            .then_some((part, suffix))
    })
}

/// Whether a domain ends in `ending` although a hyphen and `rest` follow. Hosts are called
/// `db.eu-prod` and `api.us-east-1`; none is called `db.com-prod`.
fn ends_before_hyphen(ending: &[u8], rest: &[u8]) -> bool {
    const NO_HOST: [&[u8]; 5] = [b"com", b"org", b"net", b"edu", b"gov"];
    NO_HOST.iter().any(|known| ending.eq_ignore_ascii_case(known))
        || rest.len() >= NUMBER_DIGITS_MIN && rest.iter().all(u8::is_ascii_digit)
}

/// Numbers of hosts are shorter.
const NUMBER_DIGITS_MIN: usize = 5;

/// Without the hyphens and dots at its end; empty if it begins with one.
pub(super) fn trim(domain: &[u8]) -> &[u8] {
    let sign = |byte: &&u8| matches!(**byte, b'-' | b'.');
    let trailing = domain.iter().rev().take_while(sign).count();
    let leading = domain.iter().take_while(sign).count();
    if leading > 0 { &[] } else { &domain[..domain.len() - trailing] }
}

/// The characters in `bytes` with their offsets; none where all of them are ASCII.
fn characters(bytes: &[u8]) -> impl Iterator<Item = (usize, char)> {
    let bytes = if bytes.is_ascii() { &[] } else { bytes };
    let mut offset = 0;
    bytes.utf8_chunks().flat_map(move |chunk| {
        let start = offset;
        offset += chunk.valid().len() + chunk.invalid().len();
        chunk.valid().char_indices().map(move |(at, character)| (start + at, character))
    })
}

fn is_sign(character: char) -> bool {
    let code = u32::from(character);
    let index = SIGNS.partition_point(|(first, _)| *first <= code);
    code >= 0x80 && index > 0 && code <= SIGNS[index - 1].1
}

/// Letters that no address mixes with Latin ones.
fn is_of_other_script(character: char) -> bool {
    let is_latin = matches!(u32::from(character), 0..0x370 | 0x1e00..0x1f00);
    character.is_alphabetic() && !is_latin
}

/// Scripts whose full stop folds to a dot.
fn is_east_asian(character: char) -> bool {
    u32::from(character) >= 0x2e80 && character.is_alphabetic()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signs_are_in_order() {
        assert!(SIGNS.is_sorted_by(|a, b| a.0 <= a.1 && a.1 < b.0));
        for sign in "…“”‘’—→।😊。、！，»·।؟".chars().filter(|sign| !('！'..='～').contains(sign))
        {
            assert!(is_sign(sign), "{sign}");
        }
        for letter in "aéßłشक谢ん김й".chars() {
            assert!(!is_sign(letter), "{letter}");
        }
    }

    #[test]
    fn a_local_part_begins_behind_the_text() {
        for (text, local) in [
            ("…asha", "asha"),
            ("请联系asha", "asha"),
            ("谢谢.asha", "asha"),
            ("“asha.k", "asha.k"),
            ("→ravi", "ravi"),
            ("है।asha", "asha"),
            ("o’brien", "o’brien"),
            ("françoise38", "françoise38"),
            ("rene\u{301}e", "rene\u{301}e"),
            ("संपर्क", "संपर्क"),
            ("иван.ivanov", "иван.ivanov"),
            ("王小明", "王小明"),
        ] {
            assert_eq!(&text[local_start(text.as_bytes())..], local);
        }
    }

    #[test]
    fn a_domain_ends_before_the_text() {
        for (text, domain) in [
            ("gmail.com😊", "gmail.com"),
            ("gmail.com…Thanks.See", "gmail.com"),
            ("gmail.com→ravi.in", "gmail.com"),
            ("gmail.com谢谢", "gmail.com"),
            ("gmail.comまで。田中", "gmail.com"),
            ("salon.example।", "salon.example"),
            ("gmail.com-1790000000", "gmail.com"),
            ("gmx.de-1790000000", "gmx.de"),
            ("yahoo.com-web", "yahoo.com"),
            ("x--y.com", "x--y.com"),
            ("müller-friseure.de", "müller-friseure.de"),
            ("डाटामेल.भारत", "डाटामेल.भारत"),
            ("i❤.ws", "i❤.ws"),
            ("api.us-east-1", "api.us-east-1"),
            ("db.eu-prod", "db.eu-prod"),
            ("unit.test-runner", "unit.test-runner"),
        ] {
            assert_eq!(domain_part(text.as_bytes()).0, domain.as_bytes(), "{text}");
        }
    }
}

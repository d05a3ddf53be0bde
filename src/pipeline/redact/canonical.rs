//! One spelling per value, so that all written forms of one number or address give one token.
//!
//! Phone numbers become E.164 with `+` (ITU-T E.164) where the numbering plan or a region tells the
//! calling code, else their digits. E-mail addresses get their domain in lower-case ASCII (UTS #46,
//! as IDNA 2008 is used in practice) and their local part in lower case: RFC 5321 lets hosts tell
//! cases apart, none that matters does.

use super::plan::{self, NumberMatch, NumberType, Region};

/// The canonical form of an address as written. `None` without an at sign or with an empty side.
#[must_use]
pub fn email(text: &str) -> Option<String> {
    let (local, domain) = text.trim().rsplit_once('@')?;
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    if local.is_empty() || domain.is_empty() {
        return None;
    }
    let mut address = String::with_capacity(text.len());
    push_lower(unquoted(local), &mut address);
    address.push('@');
    if is_plain_domain(domain) {
        push_lower(domain, &mut address);
    } else {
        let ascii = idna::domain_to_ascii(domain).unwrap_or_else(|_| domain.to_lowercase());
        address.push_str(&ascii);
    }
    Some(address)
}

fn push_lower(text: &str, out: &mut String) {
    if text.is_ascii() {
        out.extend(text.bytes().map(|byte| char::from(byte.to_ascii_lowercase())));
    } else {
        out.push_str(&text.to_lowercase());
    }
}

/// Letters, digits, hyphens and dots, no label in Punycode: only the case of it may change.
fn is_plain_domain(domain: &str) -> bool {
    let bytes = domain.as_bytes();
    bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
        && !bytes.windows(4).any(|four| four.eq_ignore_ascii_case(b"xn--"))
}

/// The canonical form of a number: `value` is its digits, with `+` in front when they begin with a
/// calling code; anything else in it is stepped over. Other numbers are looked up in `regions`: as a
/// national mobile number, as an international one of these regions without its `+`, as any national
/// number, as any international one.
#[must_use]
pub fn phone(value: &[u8], regions: &[Region]) -> String {
    let rest = value.strip_prefix(b"+").unwrap_or(value);
    let kept: Vec<u8>;
    let digits = if rest.iter().all(u8::is_ascii_digit) {
        rest
    } else {
        kept = rest.iter().copied().filter(u8::is_ascii_digit).collect();
        &kept
    };
    let found = if rest.len() < value.len() {
        international(digits)
            .or_else(|| plan::possible_international(digits).map(|_| with_plus(digits)))
    } else {
        without_plus(digits, regions)
    };
    found.unwrap_or_else(|| ascii(digits).to_owned())
}

fn international(digits: &[u8]) -> Option<String> {
    plan::match_international(digits).map(|found| e164(&found, digits))
}

fn without_plus(digits: &[u8], regions: &[Region]) -> Option<String> {
    if let Some(digits) = digits.strip_prefix(b"00".as_slice())
        && let Some(number) = international(digits)
    {
        return Some(number);
    }
    let national = || regions.iter().filter_map(|&region| plan::match_national(region, digits));
    let is_mobile = |found: &NumberMatch| {
        matches!(found.number_type, NumberType::Mobile | NumberType::FixedOrMobile)
    };
    if let Some(found) = national().find(is_mobile) {
        return Some(e164(&found, digits));
    }
    let abroad = plan::match_international(digits);
    let is_ours = |found: &NumberMatch| {
        regions.iter().any(|region| region.calling_code() == found.calling_code)
    };
    let found = abroad.filter(is_ours).or_else(|| national().next()).or(abroad)?;
    Some(e164(&found, digits))
}

fn e164(found: &NumberMatch, digits: &[u8]) -> String {
    let national = ascii(&digits[found.national_start..]);
    let mut number = String::with_capacity(digits.len() + 5);
    number.push('+');
    for unit in [100, 10, 1] {
        if found.calling_code >= unit {
            let digit = found.calling_code / unit % 10;
            number.push(char::from(b'0' + u8::try_from(digit).expect("below ten")));
        }
    }
    match found.argentine_area_digits {
        Some(area) => {
            number.push('9');
            number.push_str(&national[..area]);
            number.push_str(&national[area + 2..]);
        }
        None => number.push_str(national),
    }
    number
}

fn with_plus(digits: &[u8]) -> String {
    ["+", ascii(digits)].concat()
}

fn ascii(digits: &[u8]) -> &str {
    std::str::from_utf8(digits).expect("only ASCII digits were kept")
}

/// `"asha"` as `asha`: quotes around what needs none are only a spelling (RFC 5321, 4.1.2).
fn unquoted(local: &str) -> &str {
    let inner = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match inner {
        Some(inner) if !inner.is_empty() && inner.bytes().all(is_atom_or_dot) => inner,
        _ => local,
    }
}

/// RFC 5322, 3.2.3.
fn is_atom_or_dot(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_written_forms_of_a_number_join() {
        let regions = [Region::parse("IN").unwrap(), Region::parse("DE").unwrap()];
        let forms: [&[u8]; 6] = [
            b"+919876543210",
            b"+91 98765-43210",
            b"9876543210",
            b"09876543210",
            b"919876543210",
            b"00919876543210",
        ];
        for form in forms {
            assert_eq!(phone(form, &regions), "+919876543210");
        }
        assert_eq!(phone(b"015123456789", &regions[1..]), "+4915123456789");
        assert_eq!(phone(b"+4402079460958", &[]), "+442079460958");
        assert_eq!(phone(b"123456", &regions), "123456");
    }

    #[test]
    fn argentine_mobile_numbers_join() {
        let regions = [Region::parse("AR").unwrap()];
        for form in [b"+5491123456789".as_slice(), b"0111523456789", b"91123456789"] {
            assert_eq!(phone(form, &regions), "+5491123456789");
        }
    }

    #[test]
    fn all_written_forms_of_an_address_join() {
        for form in ["Asha@Example.COM", "\"asha\"@example.com.", " asha@example.com"] {
            assert_eq!(email(form).as_deref(), Some("asha@example.com"));
        }
        assert_eq!(email("jörg@müller.de").as_deref(), Some("jörg@xn--mller-kva.de"));
        assert_eq!(email("\"a b\"@x.de").as_deref(), Some("\"a b\"@x.de"));
        assert_eq!(email("a@[192.0.2.1]").as_deref(), Some("a@[192.0.2.1]"));
        assert_eq!(email("@x.de"), None);
        assert_eq!(email("x.de"), None);
    }
}

//! Whether a name ends in a public suffix.

/// What the end of a domain name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suffix {
    /// On the public suffix list (`psl`), with a label before it.
    Public,
    /// Reserved for examples and tests (RFC 2606, RFC 6761).
    Reserved,
    /// Neither: a file, a unit, a host of a private network.
    Unknown,
}

const RESERVED: [&[u8]; 4] = [b"example", b"test", b"invalid", b"localhost"];
const NAME_BYTES_MAX: usize = 255;

/// What `domain` ends in.
pub(super) fn of(domain: &[u8]) -> Suffix {
    let mut lower = [0; NAME_BYTES_MAX];
    let Some(lower) = lower.get_mut(..domain.len()) else { return Suffix::Unknown };
    lower.copy_from_slice(domain);
    lower.make_ascii_lowercase();
    let Some(dot) = memchr::memrchr(b'.', lower) else { return Suffix::Unknown };
    let last = &lower[dot + 1..];
    if last.iter().all(u8::is_ascii_digit) {
        return Suffix::Unknown;
    }
    if RESERVED.contains(&last) {
        return Suffix::Reserved;
    }
    let is_known = |name: &[u8]| {
        psl::suffix(name)
            .is_some_and(|suffix| suffix.is_known() && suffix.as_bytes().len() < name.len())
    };
    if is_known(lower) {
        return Suffix::Public;
    }
    // The list holds internationalised suffixes in their Unicode form.
    if last.starts_with(b"xn--") || !last.is_ascii() {
        let unicode = std::str::from_utf8(lower).ok().map(|name| idna::domain_to_unicode(name).0);
        if unicode.is_some_and(|name| is_known(name.as_bytes())) {
            return Suffix::Public;
        }
    }
    // A whole suffix that is a domain of its own: `x@blogspot.com`.
    let top = psl::suffix(last).is_some_and(|suffix| suffix.is_known());
    if top { Suffix::Public } else { Suffix::Unknown }
}

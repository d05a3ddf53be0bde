//! Whether a name ends in a public suffix.

/// What the end of a domain name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suffix {
    /// On the public suffix list (`psl`), with a label before it.
    Public,
    /// Reserved for examples and tests (RFC 2606, RFC 6761).
    Reserved,
    /// A word that is on no list.
    Unknown,
    /// None: a single label, a number, a file, a unit, a host of a private network.
    None,
}

/// Last labels of names that are no mail domains, in order: private networks, systemd units, files.
const NO_SUFFIX: [&[u8]; 62] = [
    b"automount",
    b"class",
    b"cluster",
    b"compute",
    b"conf",
    b"consul",
    b"corp",
    b"css",
    b"csv",
    b"device",
    b"dll",
    b"domain",
    b"exe",
    b"gif",
    b"go",
    b"home",
    b"htm",
    b"html",
    b"ico",
    b"intern",
    b"internal",
    b"intranet",
    b"jar",
    b"java",
    b"jpeg",
    b"jpg",
    b"js",
    b"json",
    b"jsx",
    b"ko",
    b"kt",
    b"lan",
    b"local",
    b"localdomain",
    b"lock",
    b"log",
    b"mjs",
    b"mount",
    b"path",
    b"pdf",
    b"png",
    b"private",
    b"prod",
    b"rb",
    b"scope",
    b"service",
    b"slice",
    b"socket",
    b"staging",
    b"svc",
    b"svg",
    b"swap",
    b"target",
    b"timer",
    b"toml",
    b"ts",
    b"tsx",
    b"txt",
    b"webp",
    b"xml",
    b"yaml",
    b"yml",
];

const RESERVED: [&[u8]; 4] = [b"example", b"test", b"invalid", b"localhost"];
const NAME_BYTES_MAX: usize = 255;

/// What `domain` ends in.
pub(super) fn of(domain: &[u8]) -> Suffix {
    let mut lower = [0; NAME_BYTES_MAX];
    let Some(lower) = lower.get_mut(..domain.len()) else { return Suffix::None };
    lower.copy_from_slice(domain);
    lower.make_ascii_lowercase();
    let Some(dot) = memchr::memrchr(b'.', lower) else { return Suffix::None };
    let last = &lower[dot + 1..];
    if !last.iter().all(|byte| byte.is_ascii_alphabetic() || *byte == b'-' || *byte >= 0x80)
        && !last.starts_with(b"xn--")
    {
        return Suffix::None;
    }
    if last.len() < 2 {
        return Suffix::None;
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
    if top {
        Suffix::Public
    } else if NO_SUFFIX.binary_search(&last).is_ok() {
        Suffix::None
    } else {
        Suffix::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_labels_are_in_order() {
        assert!(NO_SUFFIX.is_sorted());
        assert_eq!(of(b"host.yml"), Suffix::None);
        assert_eq!(of(b"x.example"), Suffix::Reserved);
        assert_eq!(of(b"b.c-d"), Suffix::Unknown);
    }
}

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

/// Last labels of names that are no mail domains: private networks, systemd units, files.
const NO_SUFFIX: [&[u8]; 62] = [
    b"local",
    b"internal",
    b"lan",
    b"intern",
    b"intranet",
    b"private",
    b"corp",
    b"home",
    b"localdomain",
    b"domain",
    b"svc",
    b"cluster",
    b"consul",
    b"compute",
    b"prod",
    b"staging",
    b"service",
    b"socket",
    b"target",
    b"timer",
    b"mount",
    b"slice",
    b"scope",
    b"path",
    b"device",
    b"swap",
    b"automount",
    b"png",
    b"jpg",
    b"jpeg",
    b"gif",
    b"webp",
    b"svg",
    b"ico",
    b"css",
    b"js",
    b"mjs",
    b"ts",
    b"tsx",
    b"jsx",
    b"json",
    b"xml",
    b"html",
    b"htm",
    b"yaml",
    b"yml",
    b"toml",
    b"jar",
    b"class",
    b"java",
    b"rb",
    b"go",
    b"dll",
    b"exe",
    b"log",
    b"txt",
    b"pdf",
    b"csv",
    b"conf",
    b"lock",
    b"kt",
    b"ko",
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
    } else if NO_SUFFIX.contains(&last) {
        Suffix::None
    } else {
        Suffix::Unknown
    }
}

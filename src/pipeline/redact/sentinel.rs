//! The leak sentinel: a second, much simpler look at what is about to leave, and canaries whose
//! survival proves a leak.
//!
//! It shares no table and no code with the engine, so that one mistake cannot blind both. It reads
//! raw bytes only and reports what is beyond doubt: a miss here proves nothing, a find is an alarm.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::pipeline::record::TenantId;

/// Which share of the output records is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    per_mille: u16,
}

impl Sampling {
    /// `per_mille` of a thousand records, at most all of them.
    #[must_use]
    pub fn new(per_mille: u16) -> Self {
        Self { per_mille: per_mille.min(1_000) }
    }

    /// Whether the record at these coordinates is in the share. A replay chooses the same ones.
    #[must_use]
    pub fn chooses(self, partition: i32, offset: i64) -> bool {
        let mixed = (offset.cast_unsigned() ^ u64::from(partition.cast_unsigned()) << 40)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 32) % 1_000 < u64::from(self.per_mille)
    }
}

/// What was found in output bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leaks {
    /// E-mail addresses.
    pub emails: u32,
    /// Phone numbers.
    pub phones: u32,
}

impl Leaks {
    /// Both together.
    #[must_use]
    pub fn total(self) -> u32 {
        self.emails + self.phones
    }
}

/// Counts the addresses and numbers that stand in `bytes` in the open. `is_allowed` is asked about
/// each (an address in lower case, a number as `+` and digits): allow-lists are no leaks.
#[must_use]
pub fn leaks(bytes: &[u8], is_allowed: impl Fn(&str) -> bool) -> Leaks {
    let mut leaks = Leaks::default();
    for at in memchr::memchr_iter(b'@', bytes) {
        if address_around(bytes, at).is_some_and(|address| !is_allowed(&address)) {
            leaks.emails += 1;
        }
    }
    for plus in memchr::memchr_iter(b'+', bytes) {
        if number_after(bytes, plus).is_some_and(|number| !is_allowed(&number)) {
            leaks.phones += 1;
        }
    }
    leaks
}

/// A made-up customer of one tenant, written into the source stream; nothing of it may come out.
#[derive(Clone, PartialEq, Eq)]
pub struct Canary {
    name: String,
    national: String,
}

impl Canary {
    /// The canary of `tenant` under the deployment's secret `seed`: always the same one.
    #[must_use]
    pub fn new(seed: &[u8], tenant: &TenantId) -> Self {
        let mut mac =
            <Hmac<Sha256> as KeyInit>::new_from_slice(seed).expect("HMAC takes keys of any length");
        mac.update(tenant.as_str().as_bytes());
        let bytes = mac.finalize().into_bytes();
        let name = bytes[..12].iter().map(|byte| char::from(b'a' + byte % 26)).collect();
        let area = AREAS[usize::from(bytes[12]) % AREAS.len()];
        let line = usize::from(bytes[13]) % 100;
        Self { name, national: format!("{area}55501{line:02}") }
    }

    /// The address: under a domain that RFC 2606 keeps free.
    #[must_use]
    pub fn email(&self) -> String {
        format!("{}@example.com", self.name)
    }

    /// The number: North American, from the block kept for fiction.
    #[must_use]
    pub fn phone(&self) -> String {
        format!("+1{}", self.national)
    }

    /// A log line that holds both, for the source topic.
    #[must_use]
    pub fn line(&self, tenant: &TenantId) -> String {
        let tenant = serde_json::to_string(tenant.as_str()).expect("text always serialises");
        format!(
            r#"{{"level":"info","service":"blotter-canary","tenant":{tenant},"msg":"canary","email":"{}","phone":"{}"}}"#,
            self.email(),
            self.phone(),
        )
    }

    /// Whether any of it stands in `bytes`, whatever stands between the digits.
    #[must_use]
    pub fn survives_in(&self, bytes: &[u8]) -> bool {
        let lower = bytes.to_ascii_lowercase();
        if memchr::memmem::find(&lower, self.name.as_bytes()).is_some() {
            return true;
        }
        let mut run = Vec::new();
        let mut gap = 0;
        for &byte in bytes {
            if byte.is_ascii_digit() {
                run.push(byte);
                gap = 0;
                if run.ends_with(self.national.as_bytes()) {
                    return true;
                }
            } else {
                gap += 1;
                if gap > GAP_BYTES_MAX {
                    run.clear();
                }
            }
        }
        false
    }
}

impl std::fmt::Debug for Canary {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Canary")
    }
}

/// Area codes of large cities: 555-0100 to 555-0199 is fiction in each.
const AREAS: [&str; 13] =
    ["202", "212", "303", "312", "404", "415", "503", "617", "702", "713", "801", "808", "916"];
const GAP_BYTES_MAX: usize = 3;
const LOCAL_BYTES_MAX: usize = 64;
const DOMAIN_BYTES_MAX: usize = 253;
const NUMBER_DIGITS: std::ops::RangeInclusive<usize> = 9..=15;

/// Top-level domains under which people have their mail; others are left to the engine.
const MAIL_ENDINGS: [&str; 28] = [
    "com", "org", "net", "edu", "gov", "info", "biz", "io", "co", "in", "de", "fr", "uk", "it",
    "es", "nl", "at", "ch", "pl", "se", "eu", "us", "ca", "au", "br", "jp", "ru", "example",
];

/// What stands before the at sign of things that are no addresses.
const SERVICE_NAMES: [&str; 4] = ["git", "ssh", "hg", "svn"];

fn address_around(bytes: &[u8], at: usize) -> Option<String> {
    let is_local = |byte: u8| byte.is_ascii_alphanumeric() || b"._%+-".contains(&byte);
    let is_domain = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    let before = &bytes[at.saturating_sub(LOCAL_BYTES_MAX)..at];
    let local_bytes = before.iter().rev().take_while(|&&byte| is_local(byte)).count();
    let local = &before[before.len() - local_bytes..];
    let before_local = &bytes[..at - local_bytes];
    let after = &bytes[at + 1..];
    let domain_bytes =
        after.iter().take(DOMAIN_BYTES_MAX).take_while(|&&byte| is_domain(byte)).count();
    let domain = std::str::from_utf8(&after[..domain_bytes]).ok()?.trim_end_matches(['.', '-']);
    let local = std::str::from_utf8(local).ok()?.to_ascii_lowercase();
    let (host, ending) = domain.rsplit_once('.')?;
    let ending = ending.to_ascii_lowercase();
    // `https://key@host` and `//user:secret@host` are credentials, `<digits@host>` is a message id.
    let is_credential = before_local.ends_with(b"/") || before_local.ends_with(b":");
    let is_address = !local.is_empty()
        && !host.is_empty()
        && local.bytes().any(|byte| byte.is_ascii_alphabetic())
        && !SERVICE_NAMES.contains(&local.as_str())
        && MAIL_ENDINGS.contains(&ending.as_str())
        && !is_credential
        && !(before_local.ends_with(b"<") && local.bytes().any(|byte| byte.is_ascii_digit()));
    is_address.then(|| format!("{local}@{}", domain.to_ascii_lowercase()))
}

/// `+` and nine to fifteen digits in at most five groups with single separators.
fn number_after(bytes: &[u8], plus: usize) -> Option<String> {
    let before = plus.checked_sub(1).map(|index| bytes[index]);
    if before.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+-/=_%".contains(&byte)) {
        return None;
    }
    let mut number = String::from("+");
    let mut gaps = 0;
    let mut after_digit = false;
    let mut end = None;
    for &byte in &bytes[plus + 1..] {
        if byte.is_ascii_digit() {
            number.push(char::from(byte));
            after_digit = true;
        } else if after_digit && matches!(byte, b' ' | b'-') && gaps < 4 {
            gaps += 1;
            after_digit = false;
        } else {
            end = Some(byte);
            break;
        }
    }
    // A letter, a point or a colon behind makes it an id, a decimal or a time.
    let ends_well = end.is_none_or(|byte| !byte.is_ascii_alphanumeric() && !b"._:".contains(&byte));
    let starts_well = bytes.get(plus + 1).is_some_and(|byte| (b'1'..=b'9').contains(byte));
    (ends_well && starts_well && NUMBER_DIGITS.contains(&(number.len() - 1))).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> (u32, u32) {
        let found = leaks(text.as_bytes(), |value| value == "support@salon.example");
        (found.emails, found.phones)
    }

    #[test]
    fn plain_leaks_are_found() {
        assert_eq!(count("mail asha.k@Gmail.com now, Asha <asha@gmail.com>"), (2, 0));
        assert_eq!(count(r#"{"to":"+91 98765 43210","cc":"x@y.co.in"}"#), (1, 1));
        assert_eq!(count("+4915123456789"), (0, 1));
        assert_eq!(count("a@b.com,c@d.org;e@f.net"), (3, 0));
    }

    #[test]
    fn what_is_beyond_doubt_alone_counts() {
        for text in [
            "",
            "@",
            "+",
            "[email] [phone:a:abcdefghijklmnopabcdefgh]",
            "git@github.com:x/y",
            "https://key@sentry.io/1",
            "react@18.2.0 logo@2x.png",
            "Message-ID: <20240101.abc@mail.example.com>",
            "getty@tty1.service",
            "2024-01-01T00:00:00+05:30",
            "1e+123456789",
            "a+919876543210b",
            "+1.234567890",
            "support@salon.example",
            "x=+0123456789",
        ] {
            assert_eq!(count(text), (0, 0), "{text}");
        }
    }

    #[test]
    fn a_canary_is_seen_in_any_grouping() {
        let tenant = TenantId::new("acme").unwrap();
        let canary = Canary::new(b"seed", &tenant);
        assert_eq!(canary, Canary::new(b"seed", &tenant));
        assert_ne!(canary, Canary::new(b"seed", &TenantId::new("other").unwrap()));
        let line = canary.line(&tenant);
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
        assert!(canary.survives_in(line.as_bytes()));
        let national = &canary.phone()[2..];
        let spaced = format!("({}) {}-{}", &national[..3], &national[3..6], &national[6..]);
        assert!(canary.survives_in(spaced.as_bytes()));
        assert!(canary.survives_in(canary.email().to_uppercase().as_bytes()));
        assert!(!canary.survives_in(b"[email] [phone] 202 and then 5550100"));
        assert_eq!(leaks(line.as_bytes(), |_| false), Leaks { emails: 1, phones: 1 });
        assert_eq!(format!("{canary:?}"), "Canary");
    }

    #[test]
    fn the_share_is_about_what_was_asked_for() {
        let sampling = Sampling::new(10);
        let chosen = (0..100_000).filter(|&offset| sampling.chooses(3, offset)).count();
        assert!((800..1_200).contains(&chosen), "{chosen}");
        assert!((0..1_000).all(|offset| Sampling::new(9_999).chooses(0, offset)));
        assert!((0..1_000).all(|offset| !Sampling::new(0).chooses(0, offset)));
    }
}

//! Watches everything that leaves for canaries: made-up customers planted in the source. One that
//! comes out proves a leak.

use std::collections::BTreeSet;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder};

use crate::pipeline::record::TenantId;
use crate::pipeline::redact::sentinel::Canary;
use crate::pipeline::step::{OutputRecord, Outputs};

/// Digits of a national number, and the longest gap between two of them.
const NATIONAL_DIGITS: usize = 10;
const GAP_BYTES_MAX: usize = 3;

/// The canaries of a deployment.
#[derive(Clone, Debug, Default)]
pub struct Canaries {
    /// The names in the addresses; `None` while there are no canaries.
    names: Option<AhoCorasick>,
    numbers: BTreeSet<u64>,
}

impl Canaries {
    /// The canaries of `tenants` under `seed`: the same ones in every process of a deployment.
    #[must_use]
    pub fn new(seed: &[u8], tenants: &[TenantId]) -> Self {
        if tenants.is_empty() {
            return Self::default();
        }
        let canaries: Vec<Canary> = tenants.iter().map(|one| Canary::new(seed, one)).collect();
        let name = |canary: &Canary| canary.email().split('@').next().map(str::to_owned);
        let names = AhoCorasickBuilder::new()
            .ascii_case_insensitive(true)
            .build(canaries.iter().filter_map(name))
            .expect("a few short names make a small automaton");
        let national = |canary: &Canary| canary.phone().strip_prefix("+1")?.parse().ok();
        Self { names: Some(names), numbers: canaries.iter().filter_map(national).collect() }
    }

    /// How many of the records from index `from` on hold one.
    pub(super) fn survivors(&self, outputs: &Outputs, from: usize) -> u64 {
        let mut found = 0;
        if self.names.is_some() {
            outputs.for_each_from(from, |record| {
                found += u64::from(self.stands_in(&record));
                true
            });
        }
        found
    }

    fn stands_in(&self, record: &OutputRecord<'_>) -> bool {
        let headers = record.headers.iter().flat_map(|h| [Some(h.name.as_bytes()), h.value]);
        let mut parts = [record.key, record.value].into_iter().chain(headers).flatten();
        parts.any(|bytes| self.survives_in(bytes))
    }

    fn survives_in(&self, bytes: &[u8]) -> bool {
        self.names.as_ref().is_some_and(|names| names.is_match(bytes)) || self.number_in(bytes)
    }

    /// Whether one of the numbers stands there, whatever stands between its digits.
    fn number_in(&self, bytes: &[u8]) -> bool {
        let (mut number, mut digits, mut gap) = (0_u64, 0, 0);
        for &byte in bytes {
            if !byte.is_ascii_digit() {
                gap += 1;
                if gap > GAP_BYTES_MAX {
                    (number, digits) = (0, 0);
                }
                continue;
            }
            gap = 0;
            digits += 1;
            number = number % 1_000_000_000 * 10 + u64::from(byte - b'0');
            if digits >= NATIONAL_DIGITS && self.numbers.contains(&number) {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_canary_itself_sees_is_seen() {
        let tenants = ["acme", "salon-7"].map(|id| TenantId::new(id).unwrap());
        let canaries = Canaries::new(b"seed", &tenants);
        for tenant in &tenants {
            let canary = Canary::new(b"seed", tenant);
            let phone = canary.phone();
            let spaced: String = phone.chars().flat_map(|c| [c, '-', ' ']).collect();
            for text in [canary.line(tenant), canary.email().to_uppercase(), phone, spaced] {
                assert!(canary.survives_in(text.as_bytes()), "{text}");
                assert!(canaries.survives_in(text.as_bytes()), "{text}");
            }
            let other = Canary::new(b"other", tenant);
            assert!(!canaries.survives_in(other.line(tenant).as_bytes()));
        }
        assert!(!canaries.survives_in(b"[email] [phone] 202 and then 5550100"));
        let none = Canaries::new(b"seed", &[]);
        assert!(!none.survives_in(Canary::new(b"seed", &tenants[0]).email().as_bytes()));
    }
}

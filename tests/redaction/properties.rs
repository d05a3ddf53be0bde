//! What must hold for every line, tried on generated ones. `BLOTTER_REDACTION_CASES` sets how many
//! (20,000 by default; 1,000,000 were run once, see the README).

use std::collections::BTreeMap;

use crate::generator::{Case, Random, beside_text, leaks, plain_and_dressed, structured};
use crate::subject::{Subject, Subjects};

#[test]
fn no_structured_value_leaks_and_only_its_span_changes() {
    let (mut balanced, mut strict) = (Subjects::new("balanced"), Subjects::new("strict"));
    let mut failures = Failures::default();
    for number in 0..cases() {
        let case = structured(number);
        let line = case.line();
        let out = balanced.of(case.region).redact(&line);
        failures.check(number, &case, &out, "leaks", !leaks(&case.secret, &out));
        failures.check(number, &case, &out, "changes what is around it", is_around(&case, &out));
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&out).is_ok();
        failures.check(number, &case, &out, "breaks the JSON", is_json || !case.is_json);
        let again = balanced.of(case.region).redact(&out);
        failures.check(number, &case, &again, "changes when redacted again", again == out);
        let out = strict.of(case.region).redact(&line);
        failures.check(number, &case, &out, "leaks under strict", !leaks(&case.secret, &out));
    }
    failures.report();
}

#[test]
fn text_beside_an_address_hides_nothing_and_stays() {
    let (mut balanced, mut strict) = (Subjects::new("balanced"), Subjects::new("strict"));
    let mut failures = Failures::default();
    for number in 0..cases() / 4 {
        let case = beside_text(number);
        for subjects in [&mut balanced, &mut strict] {
            let out = subjects.of(case.region).redact(&case.line());
            failures.check(number, &case, &out, "leaks", !leaks(&case.secret, &out));
            let is_around = is_around(&case, &out);
            failures.check(number, &case, &out, "changes what is around it", is_around);
            let again = subjects.of(case.region).redact(&out);
            failures.check(number, &case, &again, "changes when redacted again", again == out);
        }
    }
    failures.report();
}

#[test]
fn strict_finds_all_that_balanced_finds() {
    let (mut balanced, mut strict) = (Subjects::new("balanced"), Subjects::new("strict"));
    let mut failures = Failures::default();
    for number in 0..cases() / 4 {
        let case = free_text(number);
        let line = case.line();
        if leaks(&case.secret, &balanced.of(case.region).redact(&line)) {
            continue;
        }
        let out = strict.of(case.region).redact(&line);
        failures.check(number, &case, &out, "leaks under strict alone", !leaks(&case.secret, &out));
    }
    failures.report();
}

#[test]
fn one_more_layer_of_writing_hides_nothing() {
    let mut subjects = Subjects::new("balanced");
    let mut failures = Failures::default();
    for number in 0..cases() / 2 {
        let (plain, dressed) = plain_and_dressed(number);
        let subject = subjects.of(plain.region);
        if leaks(&plain.secret, &subject.redact(&plain.line())) {
            continue;
        }
        let out = subject.redact(&dressed.line());
        failures.check(
            number,
            &dressed,
            &out,
            "hides what was found",
            !leaks(&dressed.secret, &out),
        );
    }
    failures.report();
}

#[test]
fn a_line_comes_out_the_same_wherever_it_stands() {
    let lines: Vec<String> = (0..2_000).map(|number| structured(number).line()).collect();
    let mut one = Subject::new("IN", "balanced");
    let forwards: Vec<String> = lines.iter().map(|line| one.redact(line)).collect();
    let mut backwards: Vec<String> = lines.iter().rev().map(|line| one.redact(line)).collect();
    backwards.reverse();
    assert_eq!(forwards, backwards, "an earlier line changed a later one");
    for (line, out) in lines.iter().zip(&forwards).step_by(50) {
        assert_eq!(&Subject::new("IN", "balanced").redact(line), out);
    }
}

#[test]
fn damaged_lines_never_panic_and_stay_bounded() {
    let mut subjects = [Subject::new("DE", "balanced"), Subject::new("US", "strict")];
    for number in 0..cases() {
        let mut random = Random::new(number ^ 0xBAD);
        let mut bytes = structured(number).line().into_bytes();
        for _ in 0..=random.below(6) {
            damage(&mut bytes, &mut random);
        }
        for subject in &mut subjects {
            let (out, _) = subject.redact_bytes(&bytes);
            let most = bytes.len() * 8 + 64;
            assert!(out.len() <= most, "{number}: {} bytes became {}", bytes.len(), out.len());
        }
    }
}

/// Case 617,405 of the damaged lines.
#[test]
fn an_extension_may_reach_into_the_next_number() {
    let line = "phoneNumb\0er=tel%3A%2B65-9167-7635%3Bext%3D12-9167-7635%3Bext%3D12";
    for mut subject in [Subject::new("DE", "balanced"), Subject::new("US", "strict")] {
        assert!(!subject.redact(line).contains("65-9167"));
    }
}

pub(crate) fn cases() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a test's own switch")]
    let asked = std::env::var("BLOTTER_REDACTION_CASES").ok();
    asked.map_or(20_000, |text| text.parse().expect("BLOTTER_REDACTION_CASES is a number"))
}

/// The value of a structured case without its key: nothing but the value itself tells.
fn free_text(number: u64) -> Case {
    let mut case = structured(number);
    case.before = "2025-03-04 05:06:07 INFO worker finished ".to_owned();
    case.after = " in 12 ms".to_owned();
    case
}

fn is_around(case: &Case, out: &str) -> bool {
    out.len() >= case.before.len() + case.after.len()
        && out.starts_with(&case.before)
        && out.ends_with(&case.after)
}

fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    if bytes.is_empty() {
        return;
    }
    let at = random.below(bytes.len());
    match random.below(6) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes.truncate(at),
        2 => drop(bytes.drain(..at)),
        3 => bytes.insert(at, b"\\\"%&=@+{}[]\xFF\xE2\x00"[random.below(14)]),
        4 => bytes.extend_from_within(at..),
        _ => bytes.swap(at, 0),
    }
}

/// Failures by what failed and how the value was written, so that one fault reads as one line.
#[derive(Default)]
struct Failures {
    checks: u64,
    count: u64,
    by_kind: BTreeMap<(String, String), (u64, String)>,
}

impl Failures {
    fn check(&mut self, number: u64, case: &Case, out: &str, what: &str, holds: bool) {
        self.checks += 1;
        if holds {
            return;
        }
        self.count += 1;
        let example =
            || format!("case {number} ({}):\n    {}\n    {out}", case.region, case.line());
        let entry = self
            .by_kind
            .entry((what.to_owned(), case.label.clone()))
            .or_insert_with(|| (0, example()));
        entry.0 += 1;
    }

    fn report(&self) {
        if self.count == 0 {
            return;
        }
        let mut kinds: Vec<_> = self.by_kind.iter().collect();
        kinds.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        let shown: String = kinds
            .iter()
            .take(25)
            .map(|((what, label), (count, example))| {
                format!("\n{count} x {what}: {label}, {example}")
            })
            .collect();
        panic!("{} of {} checks failed, {} kinds{shown}", self.count, self.checks, kinds.len());
    }
}

//! The engine under test, through its public interface only.

use blotter::pipeline::redact::policy::{Policy, RawPolicy};
use blotter::pipeline::redact::{Redactor, Report};

/// A redactor for one region and strictness.
pub(crate) struct Subject(Redactor);

impl Subject {
    pub(crate) fn new(region: &str, strictness: &str) -> Self {
        let raw = RawPolicy {
            regions: Some(vec![region.to_owned()]),
            strictness: Some(strictness.to_owned()),
            ..RawPolicy::default()
        };
        Self(Redactor::new(Policy::new(&raw).expect("the policy is sound")))
    }

    pub(crate) fn redact_bytes(&mut self, input: &[u8]) -> (Vec<u8>, Report) {
        let mut out = Vec::new();
        let report = self.0.redact(input, &mut out);
        (out, report)
    }

    pub(crate) fn redact(&mut self, line: &str) -> String {
        String::from_utf8(self.redact_bytes(line.as_bytes()).0).expect("text stays text")
    }
}

/// Subjects by region, made once.
pub(crate) struct Subjects {
    strictness: &'static str,
    made: std::collections::HashMap<&'static str, Subject>,
}

impl Subjects {
    pub(crate) fn new(strictness: &'static str) -> Self {
        Self { strictness, made: [].into() }
    }

    pub(crate) fn of(&mut self, region: &'static str) -> &mut Subject {
        let strictness = self.strictness;
        self.made.entry(region).or_insert_with(|| Subject::new(region, strictness))
    }
}

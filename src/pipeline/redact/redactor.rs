//! The redactor: the one public door of the room.

use super::engine::{Engine, Settings};
use super::finding::{Disposition, Finding, Partial, Report, Scope, StrictReason};
use super::plan::Region;
use super::rewrite::{placeholder, rewrite};
use super::rules::{THRESHOLD_BALANCED, THRESHOLD_STRICT};
use crate::pipeline::limits::{RECORD_BYTES_MAX, REDACTION_ROUNDS_MAX};

/// How eagerly candidates are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strictness {
    /// Evidence has to outweigh doubt.
    #[default]
    Balanced,
    /// A little evidence is enough: takes a superset of what balanced takes.
    Strict,
}

/// Settings of a redactor.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// How eagerly candidates are taken.
    pub strictness: Strictness,
    regions: Vec<Region>,
}

impl Policy {
    /// The default policy for numbers as they are written in `regions`.
    #[must_use]
    pub fn for_regions(regions: &[Region]) -> Self {
        Self { regions: regions.to_vec(), ..Self::default() }
    }
}

/// Takes e-mail addresses and phone numbers out of bytes. Reuses its buffers: keep one per thread.
pub struct Redactor {
    policy: Policy,
    engine: Engine,
    scratch: Vec<u8>,
}

impl Redactor {
    /// A redactor that follows `policy`.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { policy, engine: Engine::default(), scratch: Vec::new() }
    }

    /// Appends the redacted `input` to `out`. `out` is cleared first.
    pub fn redact(&mut self, input: &[u8], out: &mut Vec<u8>) -> Report {
        self.redact_in(&Scope::default(), input, out)
    }

    /// The same for bytes that come from a known place.
    pub fn redact_in(&mut self, scope: &Scope<'_>, input: &[u8], out: &mut Vec<u8>) -> Report {
        out.clear();
        match self.try_redact(scope, input, out) {
            Ok(report) => report,
            Err(reason) => self.mask_strictly(input, reason, out),
        }
    }

    /// What the last call found, by raw spans of its input.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.engine.findings
    }

    fn settings(&self, scope: &Scope<'_>) -> Settings<'_> {
        Settings {
            threshold: match self.policy.strictness {
                Strictness::Balanced => THRESHOLD_BALANCED,
                Strictness::Strict => THRESHOLD_STRICT,
            },
            regions: &self.policy.regions,
            blind: false,
            is_fragment: scope.partial != Partial::Whole,
        }
    }

    fn try_redact(
        &mut self,
        scope: &Scope<'_>,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Report, StrictReason> {
        if input.len() > RECORD_BYTES_MAX {
            return Err(StrictReason::TooLong);
        }
        if std::str::from_utf8(input).is_err() {
            return Err(StrictReason::InvalidUtf8);
        }
        let mut report = Report::default();
        let mut engine = std::mem::take(&mut self.engine);
        let settings = self.settings(scope);
        let result = engine.scan(input, settings);
        self.engine = engine;
        result?;
        if self.engine.findings.is_empty() {
            out.extend_from_slice(input);
            return Ok(report);
        }
        for finding in &self.engine.findings {
            report.add(finding);
        }
        report.disposition = Disposition::Redacted;
        rewrite(input, &self.engine.findings, out, |finding, out| {
            out.extend_from_slice(placeholder(finding.kind));
        });
        Ok(report)
    }

    fn mask_strictly(&mut self, input: &[u8], reason: StrictReason, out: &mut Vec<u8>) -> Report {
        let _ = (REDACTION_ROUNDS_MAX, &self.scratch, input);
        out.clear();
        out.extend_from_slice(b"[REDACTED]");
        Report { disposition: Disposition::StrictMasked(reason), ..Report::default() }
    }
}

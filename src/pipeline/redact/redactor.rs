//! The redactor: the one public door of the room.

use std::sync::Arc;

use super::action::Replacer;
use super::engine::{Engine, Settings, merge};
use super::finding::{
    Disposition, EntityKind, Finding, Partial, Report, Scope, StrictReason, Surface,
};
use super::keyring::{Keyring, MissingEpoch};
use super::not_text::not_text;
use super::partial::add_fragments;
use super::phone::DIGITS_MIN;
use super::policy::{Policy, Rules};
use super::rewrite::{Edit, input_span, rewrite};
use super::token::{kind_name, write_placeholder};
use crate::pipeline::limits::REDACTION_ROUNDS_MAX;

/// Takes e-mail addresses and phone numbers out of bytes. Reuses its buffers: keep one per thread.
pub struct Redactor {
    policy: Arc<Policy>,
    work: Work,
}

/// Everything but the policy, whose rules are at hand while this changes.
#[derive(Default)]
struct Work {
    keyring: Option<Arc<Keyring>>,
    engine: Engine,
    findings: Vec<Finding>,
    edits: Vec<Edit>,
    lossy: Vec<u8>,
    missing_epoch: Option<MissingEpoch>,
}

/// Why a record could not be redacted in the ordinary way.
enum Failure {
    Strict(StrictReason),
    MissingEpoch(MissingEpoch),
}

impl From<StrictReason> for Failure {
    fn from(reason: StrictReason) -> Self {
        Self::Strict(reason)
    }
}

impl Redactor {
    /// A redactor that follows `policy`. Without keys, placeholders stand where tokens would.
    #[must_use]
    pub fn new(policy: impl Into<Arc<Policy>>) -> Self {
        Self { policy: policy.into(), work: Work::default() }
    }

    /// The same with keys for tokens.
    #[must_use]
    pub fn with_keyring(mut self, keyring: Arc<Keyring>) -> Self {
        self.work.keyring = Some(keyring);
        self
    }

    /// The keys in use.
    #[must_use]
    pub fn keyring(&self) -> Option<&Keyring> {
        self.work.keyring.as_deref()
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Writes the redacted `input` to `out`, whose content is lost.
    pub fn redact(&mut self, input: &[u8], out: &mut Vec<u8>) -> Report {
        self.redact_in(&Scope::default(), input, out)
    }

    /// Writes the redacted `input`, which comes from a known place, to `out`, whose content is lost.
    pub fn redact_in(&mut self, scope: &Scope<'_>, input: &[u8], out: &mut Vec<u8>) -> Report {
        let report = self.redact_changed(scope, input, out);
        if report.disposition == Disposition::Clean {
            out.extend_from_slice(input);
        }
        report
    }

    /// The same, but nothing is written when the report says [`Disposition::Clean`]: `input` itself
    /// may leave.
    pub(super) fn redact_changed(
        &mut self,
        scope: &Scope<'_>,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Report {
        out.clear();
        let rules = self.policy.rules(scope.topic, scope.tenant);
        self.work.redact(scope, rules, input, out)
    }

    /// What the last call found, by spans of its input, in order and not overlapping.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.work.findings
    }

    /// Which key the last call needed and did not find ([`Disposition::MissingKeyEpoch`]).
    #[must_use]
    pub fn missing_epoch(&self) -> Option<&MissingEpoch> {
        self.work.missing_epoch.as_ref()
    }

    /// Everything in `input` that any rule took for a candidate, whatever its score, in order and
    /// not overlapping. Nothing where the input can't be scanned whole.
    pub(super) fn candidates(&mut self, scope: &Scope<'_>, input: &[u8]) -> &[Finding] {
        let rules = self.policy.rules(scope.topic, scope.tenant);
        let settings = Settings {
            threshold: i16::MIN,
            may_pass_gate: false,
            ..Settings::new(rules, scope, false)
        };
        match self.work.engine.scan(input, settings) {
            Ok(()) => &self.work.engine.findings,
            Err(_) => &[],
        }
    }
}

impl Work {
    /// Writes the redacted `input` to `out`, which is empty and stays so when `input` is clean.
    fn redact(
        &mut self,
        scope: &Scope<'_>,
        rules: Rules<'_>,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Report {
        self.findings.clear();
        self.missing_epoch = None;
        if scope.partial == Partial::Whole && is_plain_word(input) && rules.is_built_in() {
            return Report::default();
        }
        let is_short = input.len() <= rules.policy().caps().record_bytes;
        let is_plain = is_short && self.engine.gate.read(input);
        if let Some(name) = (!is_plain).then(|| not_text(input)).flatten() {
            return self.replace_whole(scope, rules, input, Disposition::NotText(name), out);
        }
        let result = if !is_short {
            Err(StrictReason::TooLong.into())
        } else if !is_plain && std::str::from_utf8(input).is_err() {
            Err(StrictReason::InvalidUtf8.into())
        } else {
            self.redact_rounds(scope, rules, input, false, out)
        };
        let result = match result {
            Err(Failure::Strict(reason)) => self.mask_strictly(scope, rules, input, reason, out),
            result => result,
        };
        result.unwrap_or_else(|failure| {
            out.clear();
            self.findings.clear();
            match failure {
                Failure::Strict(reason) => {
                    let truncated = matches!(reason, StrictReason::TooLong);
                    let masked = Disposition::StrictMasked(reason);
                    let report = self.replace_whole(scope, rules, input, masked, out);
                    Report { truncated, ..report }
                }
                Failure::MissingEpoch(missing) => self.wait_for(missing),
            }
        })
    }

    /// Writes what stands for an `input` of which nothing may be left, for the reason that
    /// `disposition` gives. Keys tell records apart (a compacted topic keeps one of each), so theirs
    /// is a token of all their bytes; of a value that is no text there is nothing to write.
    fn replace_whole(
        &mut self,
        scope: &Scope<'_>,
        rules: Rules<'_>,
        input: &[u8],
        disposition: Disposition,
        out: &mut Vec<u8>,
    ) -> Report {
        let mut report = Report { disposition, ..Report::default() };
        match (scope.surface, disposition) {
            (Surface::Key, _) => {}
            (Surface::Value | Surface::Identity, Disposition::NotText(_)) => return report,
            (Surface::Header(_) | Surface::Value | Surface::Identity, _) => {
                write_placeholder(kind_name(EntityKind::Opaque, rules.policy()), out);
                return report;
            }
        }
        let replacer = Replacer { rules, keyring: self.keyring.as_deref(), scope: *scope };
        match replacer.write(&Finding::whole(input), &[], out) {
            Ok(used) => {
                used.count(&mut report);
                report
            }
            Err(missing) => self.wait_for(missing),
        }
    }

    fn wait_for(&mut self, missing: MissingEpoch) -> Report {
        self.missing_epoch = Some(missing);
        Report { disposition: Disposition::MissingKeyEpoch, ..Report::default() }
    }

    /// Scans and rewrites what the gate has read until a scan of the output finds nothing: what
    /// leaves is a fixpoint, so redacting twice is redacting once. Writes nothing for a clean input.
    fn redact_rounds(
        &mut self,
        scope: &Scope<'_>,
        rules: Rules<'_>,
        input: &[u8],
        blind: bool,
        out: &mut Vec<u8>,
    ) -> Result<Report, Failure> {
        let settings = Settings::new(rules, scope, blind);
        self.engine.scan_read(input, settings)?;
        self.findings.append(&mut self.engine.findings);
        add_fragments(input, scope.partial, &mut self.findings);
        merge(&mut self.findings);
        if self.findings.is_empty() {
            return Ok(Report::default());
        }
        let settings = Settings { is_output: true, ..settings };
        for round in 0..REDACTION_ROUNDS_MAX {
            let report = self.write(scope, rules, input, out)?;
            let written = self.edits.iter().map(|edit| &out[edit.written()]);
            if round == 0
                && scope.partial == Partial::Whole
                && self.engine.is_settled(input, &self.findings, written)
            {
                return Ok(report);
            }
            self.engine.scan(out, settings)?;
            if self.engine.findings.is_empty() {
                return Ok(report);
            }
            for mut finding in self.engine.findings.drain(..) {
                (finding.start, finding.end) = input_span(&self.edits, finding.start, finding.end);
                self.findings.push(finding);
            }
            merge(&mut self.findings);
        }
        Err(StrictReason::TooMany.into())
    }

    /// Writes `input` with the findings replaced.
    fn write(
        &mut self,
        scope: &Scope<'_>,
        rules: Rules<'_>,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Report, Failure> {
        out.clear();
        let mut report = Report { disposition: Disposition::Redacted, ..Report::default() };
        let replacer = Replacer { rules, keyring: self.keyring.as_deref(), scope: *scope };
        let paths = &self.engine.paths;
        rewrite(input, &self.findings, out, &mut self.edits, |finding, out| {
            report.add(finding);
            let path = paths.of(finding.start);
            replacer.write(finding, &path, out)?.count(&mut report);
            Ok(())
        })
        .map_err(Failure::MissingEpoch)?;
        Ok(report)
    }

    /// Masks every digit run and address-like piece, in every layer that can be undone.
    fn mask_strictly(
        &mut self,
        scope: &Scope<'_>,
        rules: Rules<'_>,
        input: &[u8],
        reason: StrictReason,
        out: &mut Vec<u8>,
    ) -> Result<Report, Failure> {
        if scope.surface == Surface::Key && matches!(reason, StrictReason::InvalidUtf8) {
            // Keys that differ in what is replaced here would become one.
            return Err(reason.into());
        }
        self.findings.clear();
        let mut lossy = std::mem::take(&mut self.lossy);
        lossy.clear();
        for chunk in input.utf8_chunks() {
            lossy.extend_from_slice(chunk.valid().as_bytes());
            if !chunk.invalid().is_empty() {
                lossy.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
        let result = if lossy.len() > rules.policy().caps().record_bytes {
            Err(StrictReason::TooLong.into())
        } else {
            out.clear();
            self.engine.gate.read(&lossy);
            let result = self.redact_rounds(scope, rules, &lossy, true, out);
            if matches!(&result, Ok(report) if report.disposition == Disposition::Clean) {
                out.extend_from_slice(&lossy);
            }
            result
        };
        self.lossy = lossy;
        result.map(|report| Report { disposition: Disposition::StrictMasked(reason), ..report })
    }
}

/// A name with fewer digits than a number, and no way to write an `@`: what services, events and
/// actions are called.
fn is_plain_word(input: &[u8]) -> bool {
    if input.len() > PLAIN_WORD_BYTES_MAX {
        return false;
    }
    let (mut digits, mut lines) = (0, 0);
    for byte in input {
        match byte {
            b'0'..=b'9' => digits += 1,
            b'_' => lines += 1,
            b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' => {}
            _ => return false,
        }
    }
    digits < DIGITS_MIN
        && (lines < 2 || !input.windows(4).any(|four| four.eq_ignore_ascii_case(b"_at_")))
}

/// Longer texts are scanned.
const PLAIN_WORD_BYTES_MAX: usize = 48;

#[cfg(test)]
mod tests {
    use super::super::policy::{RawFields, RawPolicy};
    use super::*;

    #[test]
    fn a_field_that_is_always_redacted_costs_the_record_nothing_else() {
        let always = vec!["note".to_owned()];
        let fields = RawFields { always, ..RawFields::default() };
        let raw = RawPolicy { fields, ..RawPolicy::default() };
        let mut redactor = Redactor::new(Policy::new(&raw).unwrap());
        let mut out = Vec::new();
        let report =
            redactor.redact(br#"{"id":"a","note":"hush now","to":"a@example.com"}"#, &mut out);
        assert_eq!(report.disposition, Disposition::Redacted);
        assert_eq!(out, br#"{"id":"a","note":"[redacted]","to":"[email]"}"#);
        let mut again = Vec::new();
        redactor.redact(&out, &mut again);
        assert_eq!(again, out);
    }
}

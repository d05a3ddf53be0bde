//! The redactor: the one public door of the room.

use std::sync::Arc;

use super::action::{KeyUse, Replacer};
use super::engine::{Engine, Settings};
use super::finding::{Disposition, Finding, Partial, Report, Scope, StrictReason};
use super::keyring::{Keyring, MissingEpoch};
use super::not_text::not_text;
use super::policy::{Policy, Strictness};
use super::rewrite::rewrite;
use super::rules::{THRESHOLD_BALANCED, THRESHOLD_STRICT};

/// What takes the place of bytes that could not be scanned whole.
const MASKED: &[u8] = b"[REDACTED]";

/// Takes e-mail addresses and phone numbers out of bytes. Reuses its buffers: keep one per thread.
pub struct Redactor {
    policy: Arc<Policy>,
    keyring: Option<Arc<Keyring>>,
    engine: Engine,
}

impl Redactor {
    /// A redactor that follows `policy` and has no keys: where a token is asked for it writes a
    /// placeholder.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { policy: Arc::new(policy), keyring: None, engine: Engine::default() }
    }

    /// A redactor that follows `policy` and makes tokens with `keyring`.
    #[must_use]
    pub fn with_keyring(policy: Arc<Policy>, keyring: Arc<Keyring>) -> Self {
        Self { policy, keyring: Some(keyring), engine: Engine::default() }
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The keys in use.
    #[must_use]
    pub fn keyring(&self) -> Option<&Keyring> {
        self.keyring.as_deref()
    }

    /// Writes the redacted `input` to `out`, which is cleared first. Never fails: what cannot be
    /// scanned whole is masked, and a token without a key is a placeholder.
    pub fn redact(&mut self, input: &[u8], out: &mut Vec<u8>) -> Report {
        let keyring = self.keyring.take();
        let report = self.redact_in(&Scope::default(), input, out);
        self.keyring = keyring;
        report.expect("without keys no epoch can be missing")
    }

    /// The same for bytes that come from a known place.
    ///
    /// # Errors
    /// A token is asked for and no key epoch covers the record's time; `out` must not be used.
    pub fn redact_in(
        &mut self,
        scope: &Scope<'_>,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Report, MissingEpoch> {
        out.clear();
        if let Some(name) = not_text(input) {
            return Ok(Report { disposition: Disposition::NotText(name), ..Report::default() });
        }
        match self.scan(scope, input) {
            Ok(()) => self.write(scope, input, out),
            Err(reason) => {
                out.extend_from_slice(MASKED);
                let disposition = Disposition::StrictMasked(reason);
                Ok(Report { disposition, ..Report::default() })
            }
        }
    }

    /// What the last call found, by raw spans of its input.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.engine.findings
    }

    fn scan(&mut self, scope: &Scope<'_>, input: &[u8]) -> Result<(), StrictReason> {
        if input.len() > self.policy.caps().record_bytes {
            return Err(StrictReason::TooLong);
        }
        if std::str::from_utf8(input).is_err() {
            return Err(StrictReason::InvalidUtf8);
        }
        let rules = self.policy.rules(scope.topic, scope.tenant);
        let settings = Settings {
            threshold: match rules.strictness() {
                Strictness::Balanced => THRESHOLD_BALANCED,
                Strictness::Strict => THRESHOLD_STRICT,
            },
            regions: rules.regions(),
            blind: false,
            is_fragment: scope.partial != Partial::Whole,
        };
        self.engine.scan(input, settings)
    }

    fn write(
        &self,
        scope: &Scope<'_>,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Report, MissingEpoch> {
        let mut report = Report::default();
        if self.engine.findings.is_empty() {
            out.extend_from_slice(input);
            return Ok(report);
        }
        report.disposition = Disposition::Redacted;
        let replacer = Replacer {
            rules: self.policy.rules(scope.topic, scope.tenant),
            keyring: self.keyring.as_deref(),
            scope: *scope,
        };
        rewrite(input, &self.engine.findings, out, |finding, out| {
            report.add(finding);
            if replacer.write(finding, &[], out)? == KeyUse::Default {
                report.default_key_tokens += 1;
            }
            Ok(())
        })?;
        Ok(report)
    }
}

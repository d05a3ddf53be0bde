//! What a scan of one record is told, what it finds, and what is decided once all of it was seen.

use super::finding::{EntityKind, Finding, Partial, Position, Scope, StrictReason, Surface};
use super::gate::{Gate, Verdict};
use super::identity::Identity;
use super::json::Document;
use super::phone::{CONFIRMING_DIGITS, PhoneFinder};
use super::policy::{Caps, FieldRule, MessageIds, Rules, Strictness};
use super::rules::{Rule, Score, THRESHOLD_BALANCED, THRESHOLD_STRICT};
use super::token::token_at;
use super::views::Decoded;
use super::walk::Walk;
use crate::pipeline::limits::{FINDING_BYTES, FINDINGS_FREE, WEIGHED_BYTES, WEIGHED_FREE};

/// Findings whose repetition is looked for; with more the whole record is looked at anyway.
const REPEATED_MAX: usize = 16;

/// What a scan is told.
#[derive(Clone, Copy)]
pub(super) struct Settings<'a> {
    /// What the policy says for the record's topic and tenant.
    pub(super) rules: Rules<'a>,
    pub(super) identities: &'a [Identity<'a>],
    pub(super) caps: Caps,
    /// Score from which a candidate is redacted.
    pub(super) threshold: i16,
    /// Take every digit run and address-like piece, whatever its score.
    pub(super) blind: bool,
    /// Begins as JSON and does not balance: read on as text instead of refusing.
    pub(super) is_fragment: bool,
    /// The bytes are what a first round wrote: fields that are always redacted are so already.
    pub(super) is_output: bool,
    /// The bytes name somebody or something.
    pub(super) is_identity: bool,
    pub(super) has_field_rules: bool,
    pub(super) has_allow_list: bool,
    pub(super) keeps_message_ids: bool,
    /// Only the built-in rules can find something.
    pub(super) may_pass_gate: bool,
}

impl<'a> Settings<'a> {
    pub(super) fn new(rules: Rules<'a>, scope: &Scope<'a>, blind: bool) -> Self {
        Self {
            rules,
            identities: scope.identities,
            caps: rules.policy().caps(),
            threshold: match rules.strictness() {
                Strictness::Balanced => THRESHOLD_BALANCED,
                Strictness::Strict => THRESHOLD_STRICT,
            },
            blind,
            is_fragment: scope.partial != Partial::Whole,
            is_output: false,
            is_identity: matches!(scope.surface, Surface::Key | Surface::Identity),
            has_field_rules: rules.has_field_rules(),
            has_allow_list: rules.has_allow_list(),
            may_pass_gate: !blind && rules.is_built_in(),
            keeps_message_ids: rules.message_ids() == MessageIds::Keep,
        }
    }

    /// The ends of numbers that are known to be phone numbers before anything is scanned.
    fn known(&self) -> impl Iterator<Item = [u8; CONFIRMING_DIGITS]> + use<'a> {
        self.identities.iter().filter(|identity| identity.is_number).filter_map(Identity::tail)
    }

    /// The rule for the field at `path`: the innermost field that has one.
    pub(super) fn field_rule(&self, path: &[&[u8]]) -> Option<FieldRule> {
        (1..=path.len()).rev().find_map(|len| self.rules.field_rule(&path[..len]))
    }
}

/// A candidate below the threshold: its digits may be confirmed elsewhere in the record.
pub(super) struct Rejected {
    pub(super) finding: Finding,
    pub(super) tail: [u8; CONFIRMING_DIGITS],
}

/// Where the fields of a record lie; kept only for a policy with rules for fields.
#[derive(Default)]
pub(super) struct Paths(Vec<(usize, usize, Vec<Vec<u8>>)>);

impl Paths {
    /// Notes that the field `path` lies at `start..end`; an inner field comes after an outer one.
    pub(super) fn add(&mut self, start: usize, end: usize, path: Vec<Vec<u8>>) {
        self.0.push((start, end, path));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// The path of the innermost field that `offset` lies in.
    pub(super) fn of(&self, offset: usize) -> Vec<&[u8]> {
        let field = self.0.iter().rev().find(|(start, end, _)| (*start..*end).contains(&offset));
        field.map_or_else(Vec::new, |(_, _, path)| path.iter().map(Vec::as_slice).collect())
    }
}

/// Buffers of a scan, reused from one record to the next, and what it found.
#[derive(Default)]
pub(super) struct Engine {
    /// In order and not overlapping, once [`Engine::scan`] is done.
    pub(super) findings: Vec<Finding>,
    pub(super) paths: Paths,
    pub(super) rejected: Vec<Rejected>,
    pub(super) finder: PhoneFinder,
    pub(super) decoded: Vec<Decoded>,
    pub(super) documents: Vec<Document>,
    pub(super) gate: Gate,
    /// Length of the record that the gate has judged.
    pub(super) judged: Option<usize>,
    /// Only what holds a spot of the gate is looked at.
    pub(super) only_spots: bool,
    /// How many stretches of digits may still be weighed.
    pub(super) budget: usize,
    pub(super) findings_max: usize,
}

impl Engine {
    /// Fills `findings`. On an error they are not complete.
    pub(super) fn scan(
        &mut self,
        input: &[u8],
        settings: Settings<'_>,
    ) -> Result<(), StrictReason> {
        self.gate.read(input);
        self.scan_read(input, settings)
    }

    /// The same for what the gate has read last.
    pub(super) fn scan_read(
        &mut self,
        input: &[u8],
        settings: Settings<'_>,
    ) -> Result<(), StrictReason> {
        self.findings.clear();
        self.rejected.clear();
        self.paths.0.clear();
        self.budget = WEIGHED_FREE + input.len() / WEIGHED_BYTES;
        self.findings_max = match settings.blind {
            true => settings.caps.findings,
            false => settings.caps.findings.min(FINDINGS_FREE + input.len() / FINDING_BYTES),
        };
        self.judged = settings.may_pass_gate.then_some(input.len());
        let verdict = match settings.may_pass_gate {
            true => self.gate.judge(input, settings.threshold),
            false => Verdict::Whole,
        };
        let is_known = settings.known().any(|tail| self.gate.has_digits(input, &tail, |_| true));
        self.only_spots = verdict == Verdict::Spots && !is_known;
        if verdict == Verdict::Clean && !is_known {
            return Ok(());
        }
        self.gate.sort_spots();
        Walk::new(self, settings).record(input)?;
        if self.only_spots && self.is_repeated(input) {
            self.only_spots = false;
            self.findings.clear();
            self.rejected.clear();
            self.budget = WEIGHED_FREE + input.len() / WEIGHED_BYTES;
            Walk::new(self, settings).record(input)?;
        }
        self.confirm(settings);
        merge(&mut self.findings);
        Ok(())
    }

    /// Whether a scan of what was written for `input` would find nothing: all that the gate saw lies
    /// in the findings, they are words in brackets now, and none of them is the name of a value.
    pub(super) fn is_settled(
        &self,
        input: &[u8],
        findings: &[Finding],
        mut written: impl Iterator<Item: AsRef<[u8]>>,
    ) -> bool {
        let names = |finding: &Finding| {
            let behind = &input[finding.end..input.len().min(finding.end + NAME_END_BYTES_MAX)];
            let sign = behind.iter().find(|byte| !b"\"'\\ ])>.".contains(byte));
            finding.position.object_key || matches!(sign, Some(b':' | b'='))
        };
        self.only_spots
            && self.gate.is_covered_by(findings.iter().map(|finding| (finding.start, finding.end)))
            && !findings.iter().any(names)
            && written.all(|text| is_bracketed(text.as_ref()))
    }

    /// Drops what was found or rejected in `start..end` since there were so many.
    pub(super) fn forget(&mut self, (found, rejected): (usize, usize), start: usize, end: usize) {
        let lies_outside = |finding: &Finding| finding.end <= start || end <= finding.start;
        let mut index = 0;
        self.findings.retain(|finding| {
            index += 1;
            index <= found || lies_outside(finding)
        });
        let mut index = 0;
        self.rejected.retain(|rejected_one| {
            index += 1;
            index <= rejected || lies_outside(&rejected_one.finding)
        });
    }

    /// Whether the end of a number that was found stands in the record once more.
    fn is_repeated(&self, input: &[u8]) -> bool {
        if self.findings.len() > REPEATED_MAX {
            return true;
        }
        let mut phones = self.findings.iter().filter(|finding| finding.kind == EntityKind::Phone);
        phones.any(|finding| {
            let Some(tail) = finding.value.last_chunk::<CONFIRMING_DIGITS>() else { return false };
            let is_elsewhere =
                |at: usize| self.findings.iter().all(|f| at < f.start || at >= f.end);
            self.gate.has_digits(input, tail, is_elsewhere)
        })
    }

    /// Takes what was rejected when its digits were found elsewhere in the record, or are known.
    fn confirm(&mut self, settings: Settings<'_>) {
        if self.rejected.is_empty() {
            return;
        }
        let phones = self.findings.iter().filter(|finding| finding.kind == EntityKind::Phone);
        let mut tails: Vec<[u8; CONFIRMING_DIGITS]> =
            phones.filter_map(|finding| finding.value.last_chunk().copied()).collect();
        tails.extend(settings.known());
        tails.sort_unstable();
        for mut rejected in self.rejected.drain(..) {
            if tails.binary_search(&rejected.tail).is_ok() {
                let mut score =
                    Score { total: rejected.finding.score, rules: rejected.finding.rules };
                score.add(Rule::ConfirmedElsewhere);
                (rejected.finding.score, rejected.finding.rules) = (score.total, score.rules);
                self.findings.push(rejected.finding);
            }
        }
    }
}

/// Signs between a name and its `:` or `=`.
const NAME_END_BYTES_MAX: usize = 8;

/// Whether `text` is a placeholder or token, in quotation marks where a JSON number was.
fn is_bracketed(text: &[u8]) -> bool {
    let is_quote = |byte: &u8| matches!(byte, b'"' | b'\\');
    let quotes = text.iter().take_while(|byte| is_quote(byte)).count();
    token_at(&text[quotes..]).is_some_and(|len| text[quotes + len..].iter().all(is_quote))
}

/// Sorts findings and joins those that overlap; the longer one names the whole.
pub(super) fn merge(findings: &mut Vec<Finding>) {
    if findings.len() < 2 {
        return;
    }
    findings.sort_by_key(|finding| (finding.start, std::cmp::Reverse(finding.end)));
    findings.dedup_by(|next, kept| {
        let overlaps = next.start < kept.end;
        if overlaps && next.end > kept.end {
            if next.end - next.start > kept.end - kept.start {
                let start = kept.start;
                std::mem::swap(next, kept);
                kept.start = start;
            } else {
                kept.end = next.end;
            }
        }
        overlaps
    });
}

/// A position at the top of a record.
pub(super) const TOP: Position =
    Position { json_number: false, object_key: false, nesting: 0, escaped: false };

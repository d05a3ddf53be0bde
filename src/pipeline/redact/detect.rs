//! Detection in one decoded text: e-mail addresses, phone numbers, extra patterns; what is found is
//! kept as a finding, or as rejected.

use super::blind;
use super::canonical;
use super::context::FieldClass;
use super::email;
use super::engine::{Engine, Rejected, Settings};
use super::finding::{EntityKind, Finding, StrictReason};
use super::phone::{self, Place};
use super::policy::FieldRule;
use super::rules::{Rule, Score};
use super::views::Text;
use super::walk::Context;

/// A candidate in a text.
struct Candidate<'v> {
    kind: EntityKind,
    span: (usize, usize),
    value: &'v [u8],
    score: Score,
}

/// Detects in texts of one record.
pub(super) struct Detector<'e, 's> {
    engine: &'e mut Engine,
    settings: Settings<'s>,
}

impl<'e, 's> Detector<'e, 's> {
    pub(super) fn new(engine: &'e mut Engine, settings: Settings<'s>) -> Self {
        Self { engine, settings }
    }

    /// Finds everything in `text` as it stands.
    pub(super) fn detect(
        &mut self,
        text: Text<'_>,
        context: &Context<'_>,
    ) -> Result<(), StrictReason> {
        let forced = match context.rule {
            Some(FieldRule::TreatAsPhone) => (true, false),
            Some(FieldRule::TreatAsEmail) => (false, true),
            _ => (self.settings.blind, self.settings.blind),
        };
        if forced != (false, false) {
            self.detect_blindly(text, forced, context)?;
        }
        self.patterns(text, context)?;
        self.addresses(text, context)?;
        // All digits are gone already.
        if self.settings.blind { Ok(()) } else { self.phones(text, context) }
    }

    /// Masks a whole text.
    pub(super) fn opaque(
        &mut self,
        text: Text<'_>,
        context: &Context<'_>,
    ) -> Result<(), StrictReason> {
        let span = (0, text.bytes.len());
        let kind = EntityKind::Opaque;
        self.take(text, Candidate { kind, span, value: &[], score: forced() }, context)
    }

    /// Finds a phone number in a JSON number; its exponent is worked out first.
    pub(super) fn number(
        &mut self,
        text: Text<'_>,
        context: &Context<'_>,
    ) -> Result<(), StrictReason> {
        if text.bytes.iter().all(u8::is_ascii_digit) || self.settings.blind {
            return self.detect(text, context);
        }
        let Some(digits) = integer_digits(text.bytes) else { return Ok(()) };
        let mut score = Score::default();
        if context.field == FieldClass::Phone {
            score.add(Rule::FieldPhone);
        }
        if context.rule == Some(FieldRule::TreatAsPhone) {
            score.add(Rule::Forced);
        }
        let span = (0, text.bytes.len());
        self.take(text, Candidate { kind: EntityKind::Phone, span, value: &digits, score }, context)
    }

    /// Takes every digit run, every address-like piece, or both.
    fn detect_blindly(
        &mut self,
        text: Text<'_>,
        (phones, emails): (bool, bool),
        context: &Context<'_>,
    ) -> Result<(), StrictReason> {
        let mut spans = Vec::new();
        if phones {
            blind::digit_runs(text.bytes, |start, end| spans.push((EntityKind::Phone, start, end)));
        }
        if emails {
            blind::at_signs(text.bytes, |start, end| spans.push((EntityKind::Email, start, end)));
        }
        for (kind, start, end) in spans {
            let piece = &text.bytes[start..end];
            let value: Vec<u8> = match kind {
                // What was not understood needs no token, but where it names somebody.
                _ if self.settings.blind && !self.settings.is_identity => Vec::new(),
                EntityKind::Phone => piece.iter().copied().filter(u8::is_ascii_digit).collect(),
                _ => piece.to_vec(),
            };
            let candidate = Candidate { kind, span: (start, end), value: &value, score: forced() };
            self.take(text, candidate, context)?;
        }
        Ok(())
    }

    fn patterns(&mut self, text: Text<'_>, context: &Context<'_>) -> Result<(), StrictReason> {
        let rules = self.settings.rules;
        for (index, pattern) in rules.patterns() {
            for found in pattern.find_iter(text.bytes).filter(|found| !found.is_empty()) {
                let kind = EntityKind::Custom(index);
                let span = (found.start(), found.end());
                let value = found.as_bytes();
                self.take(text, Candidate { kind, span, value, score: forced() }, context)?;
            }
        }
        Ok(())
    }

    fn addresses(&mut self, text: Text<'_>, context: &Context<'_>) -> Result<(), StrictReason> {
        let Settings { keeps_message_ids, blind, threshold, .. } = self.settings;
        let threshold = if blind { i16::MIN } else { threshold };
        let wanted = email::Wanted { field: context.field, threshold, is_glued_taken: blind };
        let mut take = |address: email::Address| {
            let mut score = address.score;
            if !keeps_message_ids && score.has(Rule::MessageId) {
                score.add(Rule::Forced);
            }
            let span = (address.start, address.end);
            let value = &text.bytes[address.start..address.end];
            let candidate = Candidate { kind: EntityKind::Email, span, value, score };
            self.take(text, candidate, context)
        };
        email::find(text.bytes, wanted, &mut take)?;
        email::find_obfuscated(text.bytes, &mut take)
    }

    fn phones(&mut self, text: Text<'_>, context: &Context<'_>) -> Result<(), StrictReason> {
        let place = Place {
            field: context.field,
            outer: context.outer,
            regions: self.settings.rules.regions(),
            is_identity: self.settings.is_identity,
        };
        let mut finder = std::mem::take(&mut self.engine.finder);
        let mut budget = self.engine.budget;
        let result = finder.find(text.bytes, &place, &mut budget, |candidate| {
            let mut value = [0; phone::VALUE_BYTES_MAX];
            let value = candidate.value(&mut value);
            let span = (candidate.start, candidate.end);
            let score = candidate.score;
            self.take(text, Candidate { kind: EntityKind::Phone, span, value, score }, context)
        });
        self.engine.budget = budget;
        self.engine.finder = finder;
        result
    }

    /// Keeps a candidate as a finding, or as rejected.
    fn take(
        &mut self,
        text: Text<'_>,
        candidate: Candidate<'_>,
        context: &Context<'_>,
    ) -> Result<(), StrictReason> {
        let Candidate { kind, span: (start, end), value, score } = candidate;
        let is_taken = score.total >= self.settings.threshold || self.settings.blind;
        let tail = value.last_chunk().copied().filter(|_| kind == EntityKind::Phone);
        if !is_taken && tail.is_none() || self.settings.has_allow_list && self.allows(kind, value) {
            return Ok(());
        }
        let mut position = context.position;
        position.escaped |= position.nesting == 0 && text.is_escaped(start, end);
        let finding = Finding {
            kind,
            start: text.raw_offset(start),
            end: text.raw_offset(end),
            value: value.to_vec(),
            position,
            quote: if position.json_number { context.quote() } else { Vec::new() },
            rules: score.rules,
            score: score.total,
        };
        match tail {
            Some(tail) if !is_taken => self.engine.rejected.push(Rejected { finding, tail }),
            _ if self.engine.findings.len() >= self.engine.findings_max => {
                return Err(StrictReason::TooMany);
            }
            _ => self.engine.findings.push(finding),
        }
        Ok(())
    }

    fn allows(&self, kind: EntityKind, value: &[u8]) -> bool {
        let rules = self.settings.rules;
        match kind {
            EntityKind::Email => std::str::from_utf8(value)
                .ok()
                .and_then(canonical::email)
                .is_some_and(|address| rules.allows_email(&address)),
            EntityKind::Phone => rules.allows_phone(&canonical::phone(value, rules.regions())),
            EntityKind::Custom(_) | EntityKind::Opaque => false,
        }
    }
}

fn forced() -> Score {
    let mut score = Score::default();
    score.add(Rule::Forced);
    score
}

/// The digits of a JSON number that is a whole one, its exponent worked out; seven to fifteen.
fn integer_digits(number: &[u8]) -> Option<Vec<u8>> {
    let number = number.strip_prefix(b"-").unwrap_or(number);
    let number = number.strip_prefix(b"+").unwrap_or(number);
    let mut parts = number.splitn(2, |byte| matches!(byte, b'e' | b'E'));
    let mantissa = parts.next()?;
    let exponent: i32 = match parts.next() {
        Some(text) => std::str::from_utf8(text).ok()?.parse().ok()?,
        None => 0,
    };
    let mut halves = mantissa.splitn(2, |byte| *byte == b'.');
    let whole = halves.next()?;
    let fraction = halves.next().unwrap_or_default();
    let len = i32::try_from(whole.len()).ok()?.checked_add(exponent)?;
    let len = usize::try_from(len).ok().filter(|len| *len <= 15)?;
    let mut digits = [whole, fraction].concat();
    digits.resize(digits.len().max(len), b'0');
    let rest_is_zero = digits[len..].iter().all(|digit| *digit == b'0');
    digits.truncate(len);
    (digits.len() >= phone::DIGITS_MIN && rest_is_zero).then_some(digits)
}

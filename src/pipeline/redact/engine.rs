//! The walk through a record: JSON leaf by leaf, text piece by piece, layer by layer, down to where
//! nothing is left to decode; what is found there is mapped back to raw bytes.

use super::context::FieldClass;
use super::email::{self, Address};
use super::finding::{EntityKind, Finding, Position, StrictReason};
use super::json::{Document, JsonError, Leaf, LeafKind};
use super::phone::{self, Candidate, PhoneFinder, Place};
use super::plan::Region;
use super::rules::{Rule, Score};
use super::views::{self, Decoded, Layer, Text};
use crate::pipeline::limits::{FINDINGS_MAX, LAYERS_MAX};

/// Pieces that look like JSON and are not, before the rest of a text is taken as prose.
const FAILED_DOCUMENTS_MAX: usize = 8;
/// Digits that two spellings of one number have in common at their ends.
const CONFIRMING_DIGITS: usize = 9;

/// What the walk is told.
#[derive(Clone, Copy)]
pub(super) struct Settings<'a> {
    /// Score from which a candidate is redacted.
    pub(super) threshold: i16,
    /// The regions whose national forms apply.
    pub(super) regions: &'a [Region],
    /// Take every digit run and address-like piece, whatever its score.
    pub(super) blind: bool,
    /// Begins as JSON and does not balance: read on as text instead of refusing.
    pub(super) is_fragment: bool,
}

/// Where a text stands: the layers undone around it and what its document says of it.
#[derive(Clone, Copy)]
struct Context<'a> {
    field: FieldClass,
    /// The text of the document around it, and where it lies there.
    outer: Option<(&'a [u8], usize, usize)>,
    position: Position,
    layers: [Layer; LAYERS_MAX],
    layer_count: usize,
}

impl<'a> Context<'a> {
    fn below(&self, layer: Layer) -> Option<Self> {
        let mut below = *self;
        *below.layers.get_mut(self.layer_count)? = layer;
        below.layer_count += 1;
        below.position.escaped |= layer != Layer::Escape;
        Some(below)
    }

    /// How a quotation mark is written in this text.
    fn quote(&self) -> Vec<u8> {
        let (mut quote, mut backslash) = (b"\"".to_vec(), b"\\".to_vec());
        for layer in &self.layers[..self.layer_count] {
            match layer {
                Layer::Escape => {
                    quote = [&backslash[..], &quote].concat();
                    backslash = [&backslash[..], &backslash].concat();
                }
                Layer::Percent => (quote, backslash) = (b"%22".to_vec(), b"%5C".to_vec()),
                Layer::Entity => quote = b"&quot;".to_vec(),
                Layer::QuotedPrintable | Layer::Fold => {}
            }
        }
        quote
    }
}

/// A candidate below the threshold: its digits may be confirmed elsewhere in the record.
struct Rejected {
    start: usize,
    end: usize,
    tail: [u8; CONFIRMING_DIGITS],
    score: Score,
    position: Position,
}

/// Buffers of the walk, reused from one record to the next, and what it found.
#[derive(Default)]
pub(super) struct Engine {
    /// Sorted by start, not overlapping, once [`Engine::scan`] is done.
    pub(super) findings: Vec<Finding>,
    finder: PhoneFinder,
    rejected: Vec<Rejected>,
    decoded: Vec<Decoded>,
    documents: Vec<Document>,
    candidates: Vec<Candidate>,
    /// Keep candidates below the threshold as well (for `explain`).
    pub(super) considered: Option<Vec<Finding>>,
}

impl Engine {
    /// Fills `findings`. On an error `findings` is not complete.
    pub(super) fn scan(
        &mut self,
        input: &[u8],
        settings: Settings<'_>,
    ) -> Result<(), StrictReason> {
        self.findings.clear();
        self.rejected.clear();
        let context = Context {
            field: FieldClass::None,
            outer: None,
            position: Position::default(),
            layers: [Layer::Fold; LAYERS_MAX],
            layer_count: 0,
        };
        Walk { engine: self, settings }.text(Text::raw(input), &context)?;
        self.confirm();
        merge(&mut self.findings);
        Ok(())
    }

    /// Takes what was rejected when its digits were found elsewhere in the record.
    fn confirm(&mut self) {
        if self.rejected.is_empty() {
            return;
        }
        let mut tails: Vec<[u8; CONFIRMING_DIGITS]> = self
            .findings
            .iter()
            .filter(|finding| finding.kind == EntityKind::Phone)
            .filter_map(|finding| finding.value.last_chunk().copied())
            .collect();
        tails.sort_unstable();
        for mut rejected in self.rejected.drain(..) {
            if tails.binary_search(&rejected.tail).is_err() {
                continue;
            }
            rejected.score.add(Rule::ConfirmedElsewhere);
            self.findings.push(Finding {
                kind: EntityKind::Phone,
                start: rejected.start,
                end: rejected.end,
                value: rejected.tail.to_vec(),
                position: rejected.position,
                quote: if rejected.position.json_number { b"\"".to_vec() } else { Vec::new() },
                rules: rejected.score.rules,
                score: rejected.score.total,
            });
        }
    }
}

struct Walk<'e, 's> {
    engine: &'e mut Engine,
    settings: Settings<'s>,
}

impl Walk<'_, '_> {
    /// Scans `text`: the JSON documents in it leaf by leaf, the rest as prose.
    fn text(&mut self, text: Text<'_>, context: &Context<'_>) -> Result<(), StrictReason> {
        let mut prose_start = 0;
        let mut at = 0;
        let mut failed = 0;
        while let Some(found) = memchr::memchr2(b'{', b'[', &text.bytes[at..]) {
            let start = at + found;
            at = start + 1;
            if failed == FAILED_DOCUMENTS_MAX || !looks_like_document(text.bytes, start) {
                continue;
            }
            let mut document = self.engine.documents.pop().unwrap_or_default();
            match document.read(text.bytes, start) {
                Ok(end) => {
                    self.prose(text.slice(prose_start, start), context)?;
                    self.document(text, &document, context)?;
                    prose_start = end;
                    at = end;
                }
                Err(error) => {
                    failed += 1;
                    self.refuse(text, start, error, context)?;
                }
            }
            self.engine.documents.push(document);
        }
        self.prose(text.slice(prose_start, text.bytes.len()), context)
    }

    /// What begins as JSON and is none: at the start of the record that is a reason to mask.
    fn refuse(
        &mut self,
        text: Text<'_>,
        start: usize,
        error: JsonError,
        context: &Context<'_>,
    ) -> Result<(), StrictReason> {
        if self.settings.blind || self.settings.is_fragment {
            return Ok(());
        }
        let is_record = context.layer_count == 0 && text.bytes[..start].trim_ascii().is_empty();
        match error {
            JsonError::Depth => Err(StrictReason::TooDeep),
            JsonError::Syntax if is_record && text.bytes[start] == b'{' => {
                Err(StrictReason::BrokenJson)
            }
            JsonError::Syntax => Ok(()),
        }
    }

    fn document(
        &mut self,
        text: Text<'_>,
        document: &Document,
        context: &Context<'_>,
    ) -> Result<(), StrictReason> {
        for leaf in &document.leaves {
            let bytes = &text.bytes[leaf.start..leaf.end];
            if !may_hide(bytes) {
                continue;
            }
            let mut inside = *context;
            inside.field = document.class(leaf);
            inside.outer = Some((text.bytes, leaf.start, leaf.end));
            inside.position.nesting = u8::from(context.layer_count > 0) + context.position.nesting;
            inside.position.object_key = leaf.kind == LeafKind::Key;
            if leaf.kind == LeafKind::Number {
                inside.position.json_number = true;
                self.number(text, leaf, &inside)?;
            } else {
                self.string(text.slice(leaf.start, leaf.end), &inside)?;
            }
        }
        Ok(())
    }

    /// Scans a JSON string: its escapes are undone as a whole.
    fn string(&mut self, text: Text<'_>, context: &Context<'_>) -> Result<(), StrictReason> {
        let mut decoded = self.engine.decoded.pop().unwrap_or_default();
        let result = if views::unescape(text, &mut decoded) {
            match context.below(Layer::Escape) {
                Some(below) => self.text(decoded.text(), &below),
                None => self.opaque(text, context),
            }
        } else {
            self.text(text, context)
        };
        self.engine.decoded.push(decoded);
        result
    }

    /// Scans text without JSON, then what one more layer of it hides.
    fn prose(&mut self, text: Text<'_>, context: &Context<'_>) -> Result<(), StrictReason> {
        if !may_hide(text.bytes) {
            return Ok(());
        }
        let mut decoded = self.engine.decoded.pop().unwrap_or_default();
        let layer = views::decode_next(text, &mut decoded);
        // These layers are unambiguous: what they hide is all there is.
        let is_whole = matches!(layer, Some(Layer::Percent | Layer::Entity | Layer::Fold));
        let mut result = Ok(());
        if !is_whole {
            result = self.detect(text, context);
        }
        if let (Some(layer), Ok(())) = (layer, result) {
            result = match context.below(layer) {
                Some(below) => self.text(decoded.text(), &below),
                None => self.opaque(text, context),
            };
        }
        self.engine.decoded.push(decoded);
        result
    }

    fn detect(&mut self, text: Text<'_>, context: &Context<'_>) -> Result<(), StrictReason> {
        let mut addresses = Vec::new();
        email::find(text.bytes, context.field, |address| addresses.push(address));
        email::find_obfuscated(text.bytes, |address| addresses.push(address));
        for address in addresses {
            self.take_address(text, address, context)?;
        }
        self.phones(text, context)
    }

    fn take_address(
        &mut self,
        text: Text<'_>,
        address: Address,
        context: &Context<'_>,
    ) -> Result<(), StrictReason> {
        let value = &text.bytes[address.start..address.end];
        self.take(
            EntityKind::Email,
            text,
            (address.start, address.end),
            value,
            address.score,
            context,
        )
    }

    fn phones(&mut self, text: Text<'_>, context: &Context<'_>) -> Result<(), StrictReason> {
        let place =
            Place { field: context.field, outer: context.outer, regions: self.settings.regions };
        let mut candidates = std::mem::take(&mut self.engine.candidates);
        candidates.clear();
        self.engine.finder.find(text.bytes, &place, |candidate| candidates.push(candidate));
        let mut result = Ok(());
        for candidate in &candidates {
            let mut value = Vec::with_capacity(candidate.digits().len() + 1);
            if candidate.international {
                value.push(b'+');
            }
            value.extend_from_slice(candidate.digits());
            let span = (candidate.start, candidate.end);
            result = self.take(EntityKind::Phone, text, span, &value, candidate.score, context);
            if result.is_err() {
                break;
            }
        }
        self.engine.candidates = candidates;
        result
    }

    /// Scans a JSON number; its exponent is worked out first.
    fn number(
        &mut self,
        text: Text<'_>,
        leaf: &Leaf,
        context: &Context<'_>,
    ) -> Result<(), StrictReason> {
        let bytes = &text.bytes[leaf.start..leaf.end];
        if bytes.iter().all(u8::is_ascii_digit) {
            return self.phones(text.slice(leaf.start, leaf.end), context);
        }
        let Some(digits) = integer_digits(bytes) else { return Ok(()) };
        let mut score = Score::default();
        if context.field == FieldClass::Phone {
            score.add(Rule::FieldPhone);
        }
        self.take(EntityKind::Phone, text, (leaf.start, leaf.end), &digits, score, context)
    }

    /// Keeps a candidate as a finding, or as rejected.
    fn take(
        &mut self,
        kind: EntityKind,
        text: Text<'_>,
        (start, end): (usize, usize),
        value: &[u8],
        score: Score,
        context: &Context<'_>,
    ) -> Result<(), StrictReason> {
        let mut position = context.position;
        position.escaped |= text.is_escaped(start, end) && position.nesting == 0;
        let raw = (text.raw_offset(start), text.raw_offset(end));
        if score.total < self.settings.threshold && !self.settings.blind {
            if let (EntityKind::Phone, Some(tail)) = (kind, value.last_chunk().copied()) {
                self.engine.rejected.push(Rejected {
                    start: raw.0,
                    end: raw.1,
                    tail,
                    score,
                    position,
                });
            }
        } else {
            if self.engine.findings.len() >= FINDINGS_MAX {
                return Err(StrictReason::TooMany);
            }
            let quote = if position.json_number { context.quote() } else { Vec::new() };
            self.engine.findings.push(Finding {
                kind,
                start: raw.0,
                end: raw.1,
                value: value.to_vec(),
                position,
                quote,
                rules: score.rules,
                score: score.total,
            });
        }
        Ok(())
    }

    /// Masks a whole string.
    fn opaque(&mut self, text: Text<'_>, context: &Context<'_>) -> Result<(), StrictReason> {
        let mut score = Score::default();
        score.add(Rule::Forced);
        let span = (0, text.bytes.len());
        self.take(EntityKind::Opaque, text, span, &[], score, context)
    }
}

/// Whether anything that is looked for can be in `bytes`, in any layer.
fn may_hide(bytes: &[u8]) -> bool {
    let mut digits = 0;
    for &byte in bytes {
        match byte {
            b'0'..=b'9' => digits += 1,
            b'@' | b'\\' | b'%' | b'&' | b'=' | b'(' | b'[' | b'{' | 0x80.. => return true,
            b' ' | b'_' => digits += 1,
            _ => {}
        }
    }
    digits >= 3
}

/// Whether a JSON object or array may begin with the bracket at `start`.
fn looks_like_document(bytes: &[u8], start: usize) -> bool {
    let rest = bytes[start + 1..].trim_ascii_start();
    match rest.first() {
        Some(b'"') => true,
        Some(b'{' | b'[') => bytes[start] == b'[',
        Some(b'0'..=b'9' | b'-') => bytes[start] == b'[' && bytes[..start].trim_ascii().is_empty(),
        _ => false,
    }
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

/// Sorts findings and joins those that overlap; the longer one names the whole.
pub(super) fn merge(findings: &mut Vec<Finding>) {
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

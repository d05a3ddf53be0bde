//! The walk through a record: JSON leaf by leaf, text piece by piece, layer by layer, down to where
//! nothing is left to decode; what is found there is mapped back to raw bytes.

use super::context::FieldClass;
use super::detect::Detector;
use super::engine::{Engine, Settings, TOP};
use super::finding::{Position, StrictReason};
use super::json::{Document, JsonError, Leaf, LeafKind, Seen};
use super::pairs::pairs;
use super::policy::FieldRule;
use super::token::is_replacement;
use super::views::{self, Decoded, Layer, Text};
use crate::pipeline::limits::LAYERS_MAX;

/// Pieces that look like JSON and are not, before the rest of a text is taken as prose.
const FAILED_DOCUMENTS_MAX: usize = 8;

/// Where a text stands: the layers undone around it and what its document says of it.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    /// What the names around it say.
    pub(super) field: FieldClass,
    /// What the policy says of its field.
    pub(super) rule: Option<FieldRule>,
    /// The text of the document around it, and where it lies there.
    pub(super) outer: Option<(&'a [u8], usize, usize)>,
    pub(super) position: Position,
    /// Names of the fields around it; kept only for a policy with rules for fields.
    pub(super) path: &'a [Vec<u8>],
    layers: [Layer; LAYERS_MAX],
    layer_count: usize,
}

impl Context<'_> {
    const TOP: Self = Self {
        field: FieldClass::None,
        rule: None,
        outer: None,
        position: TOP,
        path: &[],
        layers: [Layer::Fold; LAYERS_MAX],
        layer_count: 0,
    };

    fn below(&self, layer: Layer, layers_max: usize) -> Option<Self> {
        if self.layer_count >= layers_max {
            return None;
        }
        let mut below = *self;
        *below.layers.get_mut(self.layer_count)? = layer;
        below.layer_count += 1;
        below.position.escaped |= layer != Layer::Escape;
        Some(below)
    }

    /// How a quotation mark is written in this text.
    pub(super) fn quote(&self) -> Vec<u8> {
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

/// A walk through one record.
pub(super) struct Walk<'e, 's> {
    engine: &'e mut Engine,
    settings: Settings<'s>,
}

impl<'e, 's> Walk<'e, 's> {
    pub(super) fn new(engine: &'e mut Engine, settings: Settings<'s>) -> Self {
        Self { engine, settings }
    }

    /// Scans a whole record.
    pub(super) fn record(&mut self, input: &[u8]) -> Result<(), StrictReason> {
        self.text(Text::raw(input), &Context::TOP)
    }

    /// Scans `text`: the JSON documents in it leaf by leaf, the rest as prose.
    fn text(&mut self, text: Text<'_>, context: &Context<'_>) -> Result<(), StrictReason> {
        let mut prose_start = 0;
        let mut at = 0;
        let mut failed = 0;
        while let Some(found) = memchr::memchr2(b'{', b'[', &text.bytes[at..]) {
            let start = at + found;
            at = start + 1;
            if failed == FAILED_DOCUMENTS_MAX {
                break;
            }
            if !looks_like_document(text.bytes, start) {
                continue;
            }
            let mut document = self.engine.documents.pop().unwrap_or_default();
            // The gate has seen the record itself, and nothing else.
            let is_judged = self.engine.judged == Some(text.bytes.len()) && text.is_raw();
            let only_spots = self.engine.only_spots && is_judged;
            let gate = &self.engine.gate;
            let spots = only_spots.then(|| gate.spots());
            let seen = is_judged.then(|| Seen { quotes: gate.quotes(), spots });
            match document.read(text.bytes, seen, start, self.settings.caps.json_depth) {
                Ok(end) => {
                    self.prose(text.slice(prose_start, start), context)?;
                    self.document(text, &document, context, only_spots)?;
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

    /// Scans the leaves of `document`; `is_chosen`: it holds only those that need it.
    fn document(
        &mut self,
        text: Text<'_>,
        document: &Document,
        context: &Context<'_>,
        is_chosen: bool,
    ) -> Result<(), StrictReason> {
        if is_chosen {
            return document
                .leaves
                .iter()
                .try_for_each(|leaf| self.member(text, document, leaf, context));
        }
        if self.engine.only_spots && context.layer_count == 0 && !self.settings.has_field_rules {
            let mut from = 0;
            while let Some((leaf, end)) = self.next_leaf(text, document, from) {
                self.member(text, document, leaf, context)?;
                from = end;
            }
            return Ok(());
        }
        for leaf in &document.leaves {
            if self.settings.has_field_rules || may_hide(&text.bytes[leaf.start..leaf.end]) {
                self.member(text, document, leaf, context)?;
            }
        }
        Ok(())
    }

    /// The first leaf that holds a spot of the gate at or behind `from`, and where it ends.
    fn next_leaf<'d>(
        &self,
        text: Text<'_>,
        document: &'d Document,
        mut from: usize,
    ) -> Option<(&'d Leaf, usize)> {
        loop {
            let spot = self.engine.gate.next_spot(from)?;
            let next = document.leaves.partition_point(|leaf| text.raw_offset(leaf.end) <= spot);
            let leaf = document.leaves.get(next)?;
            let end = text.raw_offset(leaf.end);
            if text.raw_offset(leaf.start) <= spot {
                return Some((leaf, end));
            }
            from = spot + 1;
        }
    }

    /// Scans a key or a value.
    fn member(
        &mut self,
        text: Text<'_>,
        document: &Document,
        leaf: &Leaf,
        context: &Context<'_>,
    ) -> Result<(), StrictReason> {
        let mut inside = *context;
        inside.field = document.class(leaf, text.bytes, self.engine.gate.names());
        inside.outer = Some((text.bytes, leaf.start, leaf.end));
        inside.position.nesting = context.position.nesting + u8::from(context.layer_count > 0);
        inside.position.object_key = leaf.kind == LeafKind::Key;
        inside.position.json_number = leaf.kind == LeafKind::Number;
        if self.settings.has_field_rules {
            self.leaf_by_rule(text, document, leaf, &inside)
        } else {
            self.leaf(text, leaf, &inside)
        }
    }

    /// Scans a leaf as the policy says for its field.
    fn leaf_by_rule(
        &mut self,
        text: Text<'_>,
        document: &Document,
        leaf: &Leaf,
        context: &Context<'_>,
    ) -> Result<(), StrictReason> {
        let own = document.path(leaf, text.bytes);
        let path: Vec<Vec<u8>> =
            context.path.iter().cloned().chain(own.iter().map(|key| key.to_vec())).collect();
        let keys: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
        let rule = self.settings.field_rule(&keys).or(context.rule);
        let inside = Context { path: &path, rule, ..*context };
        let value = text.slice(leaf.start, leaf.end);
        match rule {
            // The names inside a value that is redacted are scanned like any other.
            Some(FieldRule::AlwaysRedact) if leaf.kind == LeafKind::Key => {
                self.leaf(text, leaf, &inside)
            }
            _ if self.by_rule(value, &inside)? => Ok(()),
            _ => self.leaf(text, leaf, &inside),
        }
    }

    /// Does with a value what the policy says for its field; `false` when it is to be scanned still.
    fn by_rule(&mut self, value: Text<'_>, context: &Context<'_>) -> Result<bool, StrictReason> {
        let (start, end) = (value.raw_offset(0), value.raw_offset(value.bytes.len()));
        self.engine.paths.add(start, end, context.path.to_vec());
        match context.rule {
            Some(FieldRule::NeverScan) => Ok(true),
            // What an earlier round has written stays, or the rounds would have no end.
            Some(FieldRule::AlwaysRedact) if is_replacement(value.bytes) => Ok(true),
            Some(FieldRule::AlwaysRedact) if !self.settings.is_output => {
                self.detector().opaque(value, context).map(|()| true)
            }
            Some(FieldRule::Base64) => self.base64(value, context).map(|()| true),
            _ => Ok(false),
        }
    }

    /// Does with the values of `name=value` in `text` what the policy says for their names. What was
    /// found in them since `before` is dropped where they are not to be scanned.
    fn pairs(
        &mut self,
        text: Text<'_>,
        context: &Context<'_>,
        before: (usize, usize),
    ) -> Result<(), StrictReason> {
        for pair in pairs(text.bytes) {
            let own = pair.name.split(|byte| *byte == b'.').map(<[u8]>::to_vec);
            let path: Vec<Vec<u8>> = context.path.iter().cloned().chain(own).collect();
            let keys: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
            let rule = self.settings.field_rule(&keys);
            let inside = Context { path: &path, rule, ..*context };
            let value = text.slice(pair.start, pair.end);
            if self.by_rule(value, &inside)? {
                if rule == Some(FieldRule::NeverScan) {
                    let (start, end) = (value.raw_offset(0), value.raw_offset(value.bytes.len()));
                    self.engine.forget(before, start, end);
                }
            } else if matches!(rule, Some(FieldRule::TreatAsPhone | FieldRule::TreatAsEmail)) {
                self.detector().detect(value, &inside)?;
            }
        }
        Ok(())
    }

    fn leaf(
        &mut self,
        text: Text<'_>,
        leaf: &Leaf,
        context: &Context<'_>,
    ) -> Result<(), StrictReason> {
        let value = text.slice(leaf.start, leaf.end);
        if leaf.kind == LeafKind::Number {
            self.detector().number(value, context)
        } else {
            self.string(value, context)
        }
    }

    /// Scans a JSON string: its escapes are undone as a whole.
    fn string(&mut self, text: Text<'_>, context: &Context<'_>) -> Result<(), StrictReason> {
        let mut decoded = self.engine.decoded.pop().unwrap_or_default();
        let result = if views::unescape(text, &mut decoded) {
            match context.below(Layer::Escape, self.settings.caps.layers) {
                Some(below) => self.text(decoded.text(), &below),
                None => self.detector().opaque(text, context),
            }
        } else {
            self.text(text, context)
        };
        self.engine.decoded.push(decoded);
        result
    }

    /// Scans text without JSON, then what one more layer of it hides.
    fn prose(&mut self, text: Text<'_>, context: &Context<'_>) -> Result<(), StrictReason> {
        if !self.settings.has_field_rules && !may_hide(text.bytes) {
            return Ok(());
        }
        let before = (self.engine.findings.len(), self.engine.rejected.len());
        let mut decoded = self.engine.decoded.pop().unwrap_or_default();
        let layer = views::decode_next(text, &mut decoded);
        // These layers are unambiguous: what they hide is all there is.
        let is_whole = matches!(layer, Some(Layer::Percent | Layer::Entity | Layer::Fold));
        let mut result = Ok(());
        if !is_whole {
            result = self.detector().detect(text, context);
        }
        if let (Some(layer), Ok(())) = (layer, result) {
            result = match context.below(layer, self.settings.caps.layers) {
                Some(below) => self.text(decoded.text(), &below),
                None => self.detector().opaque(text, context),
            };
        }
        self.engine.decoded.push(decoded);
        result?;
        if self.settings.has_field_rules { self.pairs(text, context, before) } else { Ok(()) }
    }

    /// Scans what base64 hides; anything found there takes the whole value with it.
    fn base64(&mut self, text: Text<'_>, context: &Context<'_>) -> Result<(), StrictReason> {
        let mut plain = Decoded::default();
        let bare = if views::unescape(text, &mut plain) { plain.text().bytes } else { text.bytes };
        let Some(bytes) = decode_base64(bare) else { return self.string(text, context) };
        let before = (self.engine.findings.len(), self.engine.rejected.len());
        let paths = self.engine.paths.len();
        // What it hides is no base64 once more.
        let inside = Context { rule: None, ..*context };
        self.text(Text::raw(&bytes), &inside)?;
        let has_findings = self.engine.findings.len() > before.0;
        self.engine.findings.truncate(before.0);
        self.engine.rejected.truncate(before.1);
        self.engine.paths.truncate(paths);
        if has_findings { self.detector().opaque(text, context) } else { Ok(()) }
    }

    fn detector(&mut self) -> Detector<'_, 's> {
        Detector::new(self.engine, self.settings)
    }
}

/// Whether anything that is looked for can be in `bytes`, in any layer.
fn may_hide(bytes: &[u8]) -> bool {
    let mut digits = 0;
    for &byte in bytes {
        match byte {
            b'0'..=b'9' | b' ' | b'_' => digits += 1,
            b'@' | b'\\' | b'%' | b'&' | b'=' | b'(' | b'[' | b'{' | 0x80.. => return true,
            _ => {}
        }
        if digits == 3 {
            return true;
        }
    }
    false
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

/// Base64 in either alphabet, padded or not (RFC 4648).
fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let bare = text.trim_ascii();
    let bare = bare.strip_suffix(b"==").or_else(|| bare.strip_suffix(b"=")).unwrap_or(bare);
    data_encoding::BASE64_NOPAD
        .decode(bare)
        .or_else(|_| data_encoding::BASE64URL_NOPAD.decode(bare))
        .ok()
}

//! Candidates for each kind of field: the best by the table's order is kept, wherever it stands in
//! the record; among equals the one outside, then the first. Of who did what, the one outside is kept
//! whatever its name: deeper down stands what others sent.

use std::borrow::Cow;

use super::json::unescape;
use super::kind::FieldKind;
use super::names::{Name, NameId};
use super::rules::TopicRules;
use super::severity::{of_syslog, severity_of};
use super::time::{leading_time, time_of};
use crate::pipeline::limits::FIELD_BYTES_MAX;
use crate::pipeline::record::{Severity, Timestamp};

/// A value as it stands in the record.
#[derive(Clone, Copy)]
pub(super) struct Raw<'x> {
    pub(super) text: &'x str,
    pub(super) kind: RawKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RawKind {
    /// Between quotes; `escaped` when it holds a backslash.
    String {
        escaped: bool,
    },
    Number,
    Bool,
    Null,
    /// A value of logfmt without quotes: no type is given.
    Bare,
}

impl<'x> Raw<'x> {
    pub(super) fn decoded(self) -> Cow<'x, str> {
        match self.kind {
            RawKind::String { escaped: true } => Cow::Owned(unescape(self.text)),
            _ => Cow::Borrowed(self.text),
        }
    }
}

/// The best value so far of one kind.
#[derive(Clone, Debug)]
pub(super) struct Candidate<'x> {
    pub(super) text: Cow<'x, str>,
    pub(super) source: Source,
    rank: u16,
}

/// Which rule gave a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Name(NameId),
    Text,
    LineHeader,
}

pub(super) struct Collector<'x> {
    rules: &'x TopicRules,
    found: [Option<Candidate<'x>>; FieldKind::COUNT],
    pub(super) severity: Severity,
    /// A number as severity that means nothing under its name alone.
    bare_level: Option<u32>,
    pub(super) event_time: Option<Timestamp>,
    /// The message as it stands in the record, for a look inside.
    pub(super) message: Option<Raw<'x>>,
    /// Key paths of what was kept, when they are asked for.
    paths: Option<Vec<(FieldKind, String)>>,
    /// What the paths of what is offered stand below.
    root: &'static str,
}

impl<'x> Collector<'x> {
    pub(super) fn new(rules: &'x TopicRules, with_paths: bool) -> Self {
        Self {
            rules,
            found: [const { None }; FieldKind::COUNT],
            severity: Severity::Unknown,
            bare_level: None,
            event_time: None,
            message: None,
            paths: with_paths.then(Vec::new),
            root: "",
        }
    }

    /// Takes `raw` as the value of `name` if it beats what is there and means something.
    pub(super) fn offer(
        &mut self,
        id: NameId,
        name: &Name,
        depth: u8,
        raw: Raw<'x>,
        path: &[&str],
    ) {
        let rank = rank(name, depth);
        let slot = &self.found[name.kind as usize];
        if slot.as_ref().is_some_and(|best| best.rank <= rank) {
            return;
        }
        if name.kind == FieldKind::Message {
            let RawKind::String { .. } = raw.kind else { return };
            self.message = Some(raw);
        }
        let Some(text) = self.accept(name, raw) else { return };
        let root = self.root;
        self.put(name.kind, Candidate { text, source: Source::Name(id), rank }, || {
            format!("{root}{}", path.join("."))
        });
    }

    /// What is offered from now on stands below the path `root` and replaces nothing.
    pub(super) fn add_below(&mut self, root: &'static str) {
        self.root = root;
        for candidate in self.found.iter_mut().flatten() {
            candidate.rank = 0;
        }
    }

    /// Sets what a line header or the text itself says, unless a named field says so already or the
    /// rules switch the field off.
    pub(super) fn offer_text(&mut self, kind: FieldKind, text: &'x str, source: Source) {
        let is_text = !text.is_empty() && text.len() <= FIELD_BYTES_MAX;
        if is_text && self.lacks(kind) {
            let candidate = Candidate { text: Cow::Borrowed(text), source, rank: u16::MAX };
            self.put(kind, candidate, String::new);
        }
    }

    /// As [`Collector::offer_text`], for a severity.
    pub(super) fn offer_severity(&mut self, severity: Severity, text: &'x str, source: Source) {
        if severity != Severity::Unknown && self.lacks(FieldKind::Severity) {
            self.severity = severity;
            self.offer_text(FieldKind::Severity, text, source);
        }
    }

    /// As [`Collector::offer_text`], for a time.
    pub(super) fn offer_time(&mut self, text: &'x str, source: Source) {
        if self.lacks(FieldKind::EventTime)
            && let Some(time) = time_of(text, self.rules.zone())
        {
            self.event_time = Some(time);
            self.offer_text(FieldKind::EventTime, text, source);
        }
    }

    /// As [`Collector::offer_time`], for one that `line` begins with.
    pub(super) fn offer_leading_time(&mut self, line: &'x str, source: Source) {
        if self.lacks(FieldKind::EventTime)
            && let Some((time, len)) = leading_time(line, self.rules.zone())
        {
            self.event_time = Some(time);
            self.offer_text(FieldKind::EventTime, &line[..len], source);
        }
    }

    /// Whether text may say it.
    fn lacks(&self, kind: FieldKind) -> bool {
        self.found[kind as usize].is_none() && !self.rules.is_off(kind)
    }

    pub(super) fn text_of(&self, kind: FieldKind) -> Option<&str> {
        self.found[kind as usize].as_ref().map(|candidate| candidate.text.as_ref())
    }

    pub(super) fn has(&self, kind: FieldKind) -> bool {
        self.found[kind as usize].is_some()
    }

    pub(super) fn take(&mut self, kind: FieldKind) -> Option<Candidate<'x>> {
        self.found[kind as usize].take()
    }

    pub(super) fn candidate(&self, kind: FieldKind) -> Option<&Candidate<'x>> {
        self.found[kind as usize].as_ref()
    }

    pub(super) fn path_of(&self, kind: FieldKind) -> Option<&str> {
        let paths = self.paths.as_ref()?;
        paths.iter().rev().find(|(of, _)| *of == kind).map(|(_, path)| path.as_str())
    }

    pub(super) fn wants_paths(&self) -> bool {
        self.paths.is_some()
    }

    /// Whether this is what a container runtime or its shipper makes of a line of a container.
    pub(super) fn is_container_line(&self) -> bool {
        (self.has(FieldKind::Stream) || self.has(FieldKind::Container))
            && self.message_name() == Some("log")
    }

    /// GELF 1.1 is known by its `short_message`; its `level` is on syslog's scale.
    pub(super) fn offer_gelf_level(&mut self) {
        if let Some(level) = self.bare_level
            && self.message_name() == Some("short_message")
        {
            let severity = of_syslog(level);
            self.offer_severity(severity, severity.name(), Source::Text);
        }
    }

    fn message_name(&self) -> Option<&str> {
        match self.candidate(FieldKind::Message)?.source {
            Source::Name(id) => Some(&self.rules.table.name(id).path),
            _ => None,
        }
    }

    /// Takes what a record nested in this one's message says and this one does not.
    pub(super) fn fill_from(&mut self, inner: Collector<'_>) {
        self.absorb(inner, |_, _, _| true);
    }

    /// Takes over what a container's line says: it is the log, this record its wrapping. The service
    /// alone is told by the table's order, since inner `logger` and `name` are weaker than the
    /// wrapper's `service.name`.
    pub(super) fn take_over(&mut self, inner: Collector<'_>) {
        self.absorb(inner, |kind, outer, inner| {
            kind == FieldKind::Service && outer.rank < inner.rank
        });
    }

    fn absorb(
        &mut self,
        inner: Collector<'_>,
        keeps: impl Fn(FieldKind, &Candidate<'_>, &Candidate<'_>) -> bool,
    ) {
        let wrapper = self.path_of(FieldKind::Message).unwrap_or_default().to_owned();
        for kind in FieldKind::ALL {
            let Some(candidate) = &inner.found[kind as usize] else { continue };
            let outer = self.found[kind as usize].as_ref();
            let keeps_outer = kind == FieldKind::Message
                || outer.is_some_and(|outer| keeps(kind, outer, candidate));
            if !keeps_outer {
                match kind {
                    FieldKind::Severity => self.severity = inner.severity,
                    FieldKind::EventTime => self.event_time = inner.event_time,
                    _ => {}
                }
                let candidate = Candidate {
                    text: Cow::Owned(candidate.text.as_ref().to_owned()),
                    ..*candidate
                };
                let path = inner.path_of(kind).unwrap_or_default();
                self.put(kind, candidate, || format!("{wrapper}.{path}"));
            }
        }
    }

    fn put(&mut self, kind: FieldKind, candidate: Candidate<'x>, path: impl FnOnce() -> String) {
        self.found[kind as usize] = Some(candidate);
        if let Some(paths) = &mut self.paths {
            paths.push((kind, path()));
        }
    }

    /// The decoded value when it can be a value of this kind at all.
    fn accept(&mut self, name: &Name, raw: Raw<'x>) -> Option<Cow<'x, str>> {
        if name.kind == FieldKind::Message {
            return Some(Cow::Borrowed(""));
        }
        if raw.text.is_empty() || raw.text.len() > FIELD_BYTES_MAX || raw.kind == RawKind::Null {
            return None;
        }
        let is_string = matches!(raw.kind, RawKind::String { .. } | RawKind::Bare);
        let fits = match name.kind {
            FieldKind::Severity => raw.kind != RawKind::Bool,
            FieldKind::EventTime => raw.kind != RawKind::Bool,
            FieldKind::Event | FieldKind::StepName | FieldKind::Role => is_string,
            FieldKind::Stream => matches!(raw.text, "stdout" | "stderr"),
            FieldKind::Session => is_string || &*name.path != "thread_id",
            FieldKind::Handover
            | FieldKind::Fallback
            | FieldKind::Outcome
            | FieldKind::PartialFlag
            | FieldKind::PartialLast => true,
            _ => raw.kind != RawKind::Bool,
        };
        let text = fits.then(|| raw.decoded())?;
        match name.kind {
            FieldKind::Severity => {
                let severity = severity_of(&text, name.unit);
                if severity == Severity::Unknown {
                    self.bare_level = self.bare_level.or_else(|| text.parse().ok());
                    return None;
                }
                self.severity = severity;
            }
            FieldKind::EventTime => self.event_time = Some(time_of(&text, self.rules.zone())?),
            FieldKind::Event if !is_identifier(&text) => return None,
            // Loggers name themselves there, but so do people.
            FieldKind::Service if &*name.path == "name" && !is_identifier(&text) => return None,
            _ => {}
        }
        Some(text)
    }
}

/// Lower is better.
fn rank(name: &Name, depth: u8) -> u16 {
    let is_nearest_first = matches!(
        name.kind,
        FieldKind::Tenant
            | FieldKind::Event
            | FieldKind::Action
            | FieldKind::Actor
            | FieldKind::ActorType
            | FieldKind::Object
            | FieldKind::ObjectType
            | FieldKind::Session
            | FieldKind::Role
    );
    let (first, second) = if is_nearest_first { (depth, name.order) } else { (name.order, depth) };
    u16::from(first) << 8 | u16::from(second)
}

/// Event names are identifiers; a sentence under `event` (structlog) is a message.
fn is_identifier(text: &str) -> bool {
    const BYTES_MAX: usize = 128;
    text.len() <= BYTES_MAX
        && text.bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'/' | b'-')
        })
}

//! [`RedactedRecord`]: the only form in which a record reaches the rooms behind this one.

use std::fmt;

use super::identity::{Identities, Identity};
use super::keyring::MissingEpoch;
use super::parts::{FIELDS, RecordFacts, RecordReport, RedactedFields};
use super::{Disposition, Partial, Redactor, Report, Scope, Surface};
use crate::pipeline::ingest::{Assurance, Field, LogRecord, SplitLine};
use crate::pipeline::record::{Header, SourceRecord, TenantId, Timestamp, TopicPartition};

/// Buffers that records are redacted into, one after another. Keep one per thread.
#[derive(Default)]
pub struct RecordBuffer {
    value: Vec<u8>,
    bytes: Vec<u8>,
    text: String,
    piece: Vec<u8>,
    headers: Vec<HeaderSpans>,
}

#[derive(Clone, Copy)]
struct HeaderSpans {
    name: Span,
    value: Option<Span>,
}

#[derive(Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
}

/// A record after redaction. Later rooms accept nothing else, and only this room makes one:
///
/// ```compile_fail
/// use blotter::pipeline::redact::RedactedRecord;
///
/// fn forge(record: RedactedRecord<'_>) -> RedactedRecord<'_> {
///     RedactedRecord { value: Some(b"asha@example.com"), ..record }
/// }
/// ```
///
/// A null key or value stays null, an empty one stays empty.
pub struct RedactedRecord<'a> {
    topic_partition: &'a TopicPartition,
    offset: i64,
    timestamp: Timestamp,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    bytes: &'a [u8],
    headers: &'a [HeaderSpans],
    tenant: Option<(TenantId, Assurance)>,
    fields: RedactedFields<'a>,
    facts: RecordFacts,
    report: RecordReport,
}

impl<'a> RedactedRecord<'a> {
    /// Redacts `source` and the fields that ingest found in it (`log`) into `buffer`, whose former
    /// content is lost.
    ///
    /// # Errors
    /// A token is asked for and no key epoch covers the record's time: the partition waits.
    pub fn new(
        source: &SourceRecord<'a>,
        log: &LogRecord<'_>,
        redactor: &mut Redactor,
        buffer: &'a mut RecordBuffer,
    ) -> Result<Self, MissingEpoch> {
        let redact = |scope: &Scope<'_>, input: &[u8], out: &mut Vec<u8>| {
            let report = redactor.redact_changed(scope, input, out);
            if report.disposition == Disposition::MissingKeyEpoch {
                let missing = redactor.missing_epoch().cloned();
                return Err(missing.expect("the disposition says which epoch is missing"));
            }
            Ok(report)
        };
        Self::made_by(redact, source, log, buffer)
    }

    fn made_by(
        redact: impl FnMut(&Scope<'_>, &[u8], &mut Vec<u8>) -> Result<Report, MissingEpoch>,
        source: &SourceRecord<'a>,
        log: &LogRecord<'_>,
        buffer: &'a mut RecordBuffer,
    ) -> Result<Self, MissingEpoch> {
        let mut passage = Passage::new(redact, source, log, buffer);
        let tenant = passage.tenant(log)?;
        let tenant_id = tenant.as_ref().map(|(id, _)| id);
        let mut report = RecordReport::default();
        let mut identities = Identities::of(source, log);
        passage.find_numbers(tenant_id, &mut identities)?;
        passage.value(tenant_id, identities.as_slice(), source.value, &mut report.value)?;
        passage.confirm_numbers(&mut identities, source.value, &report.value);
        let identities = identities.as_slice();
        let key = passage.key(tenant_id, identities, source.key, &mut report.key)?;
        passage.headers(tenant_id, identities, source.headers, &mut report.headers)?;
        let texts = passage.texts(tenant_id, identities, log)?;
        let is_own = report.value.disposition == Disposition::Clean;
        let RecordBuffer { value, bytes, text, headers, .. } = buffer;
        let (value, bytes, text): (&'a Vec<u8>, &'a Vec<u8>, &'a String) = (value, bytes, text);
        let slice = |span: Option<Span>| span.map(|span| &text[span.start..span.end]);
        Ok(Self {
            topic_partition: source.topic_partition,
            offset: source.offset,
            timestamp: source.timestamp,
            key: key.map(|span| &bytes[span.start..span.end]),
            value: source.value.map(|own| if is_own { own } else { value }),
            bytes,
            headers,
            tenant,
            fields: texts.map(slice).into(),
            facts: RecordFacts::of(log),
            report,
        })
    }

    /// Topic and partition it was read from.
    #[must_use]
    pub const fn topic_partition(&self) -> &'a TopicPartition {
        self.topic_partition
    }

    /// Offset it was read from.
    #[must_use]
    pub const fn offset(&self) -> i64 {
        self.offset
    }

    /// The Kafka timestamp.
    #[must_use]
    pub const fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// The redacted key.
    #[must_use]
    pub const fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The redacted value.
    #[must_use]
    pub const fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// The redacted headers in order.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = Header<'a>> + use<'a> {
        let bytes = self.bytes;
        self.headers.iter().map(move |spans| Header {
            name: std::str::from_utf8(&bytes[spans.name.start..spans.name.end])
                .expect("header names are stored as text"),
            value: spans.value.map(|span| &bytes[span.start..span.end]),
        })
    }

    /// The redacted tenant.
    #[must_use]
    pub fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref().map(|(id, _)| id)
    }

    /// Whether the tenant is more than the record's own word.
    #[must_use]
    pub fn tenant_assurance(&self) -> Option<Assurance> {
        self.tenant.as_ref().map(|(_, assurance)| *assurance)
    }

    /// The redacted texts.
    #[must_use]
    pub const fn fields(&self) -> &RedactedFields<'a> {
        &self.fields
    }

    /// What was found that is no text.
    #[must_use]
    pub const fn facts(&self) -> &RecordFacts {
        &self.facts
    }

    /// What redaction did.
    #[must_use]
    pub const fn report(&self) -> &RecordReport {
        &self.report
    }

    /// Bytes of redacted key, value and headers.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let headers: usize =
            self.headers().map(|h| h.name.len() + h.value.map_or(0, <[u8]>::len)).sum();
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + headers
    }
}

impl fmt::Debug for RedactedRecord<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, offset, size) = (self.topic_partition, self.offset, self.size_bytes());
        write!(formatter, "RedactedRecord({at}/{offset}, {size} bytes)")
    }
}

impl From<SplitLine> for Partial {
    fn from(line: SplitLine) -> Self {
        match (line.cut_at_start, line.cut_at_end) {
            (false, false) => Self::Whole,
            (true, false) => Self::CutAtStart,
            (false, true) => Self::CutAtEnd,
            (true, true) => Self::CutBoth,
        }
    }
}

/// One record on its way into a buffer.
struct Passage<'w, F> {
    /// As [`Redactor::redact_changed`].
    redact: F,
    topic: &'w str,
    timestamp: Timestamp,
    partial: Partial,
    buffer: &'w mut RecordBuffer,
}

impl<'w, F: FnMut(&Scope<'_>, &[u8], &mut Vec<u8>) -> Result<Report, MissingEpoch>> Passage<'w, F> {
    fn new(
        redact: F,
        source: &SourceRecord<'w>,
        log: &LogRecord<'_>,
        buffer: &'w mut RecordBuffer,
    ) -> Self {
        buffer.value.clear();
        buffer.bytes.clear();
        buffer.text.clear();
        buffer.headers.clear();
        let partial = log.partial.into();
        let topic = &source.topic_partition.topic;
        Self { redact, topic, timestamp: source.timestamp, partial, buffer }
    }

    fn scope<'s>(
        &self,
        tenant: Option<&'s TenantId>,
        surface: Surface<'s>,
        identities: &'s [Identity<'s>],
    ) -> Scope<'s>
    where
        'w: 's,
    {
        let (topic, timestamp) = (self.topic, self.timestamp);
        Scope { topic, tenant, timestamp, surface, partial: Partial::Whole, identities }
    }

    /// Marks the identities that are numbers by themselves: where they stand in the value they are
    /// too, whatever the names around them say.
    fn find_numbers(
        &mut self,
        tenant: Option<&TenantId>,
        identities: &mut Identities<'_>,
    ) -> Result<(), MissingEpoch> {
        for (identity, _) in identities.undecided() {
            let tenant = tenant.filter(|_| !identity.is_tenant);
            let scope = self.scope(tenant, Surface::Identity, &[]);
            let text = identity.text.as_bytes();
            identity.is_number = (self.redact)(&scope, text, &mut self.buffer.piece)?.total() > 0;
        }
        Ok(())
    }

    /// Marks the identities that the value no longer holds after redaction.
    fn confirm_numbers(
        &self,
        identities: &mut Identities<'_>,
        value: Option<&[u8]>,
        found: &Report,
    ) {
        let Some(value) = value else { return };
        let is_clean = found.disposition == Disposition::Clean;
        let left = if is_clean { value } else { &self.buffer.value };
        for (identity, tail) in identities.undecided() {
            let had = memchr::memmem::find(value, &tail).is_some();
            identity.is_number = had && memchr::memmem::find(left, &tail).is_none();
        }
    }

    /// The tenant's own keys cannot be chosen before the tenant is known: its id is redacted under
    /// the deployment's default key.
    fn tenant(
        &mut self,
        log: &LogRecord<'_>,
    ) -> Result<Option<(TenantId, Assurance)>, MissingEpoch> {
        let Some(claim) = &log.tenant else { return Ok(None) };
        let scope = self.scope(None, Surface::Identity, &[]);
        let span = self.text(&scope, &claim.id)?;
        let id = span.and_then(|span| TenantId::new(&self.buffer.text[span.start..span.end]));
        Ok(id.map(|id| (id, claim.assurance)))
    }

    fn key(
        &mut self,
        tenant: Option<&TenantId>,
        identities: &[Identity<'_>],
        key: Option<&[u8]>,
        report: &mut Report,
    ) -> Result<Option<Span>, MissingEpoch> {
        let Some(key) = key else { return Ok(None) };
        let scope = self.scope(tenant, Surface::Key, identities);
        let (span, found) = self.piece(&scope, key)?;
        *report = found;
        Ok(Some(span))
    }

    fn value(
        &mut self,
        tenant: Option<&TenantId>,
        identities: &[Identity<'_>],
        value: Option<&[u8]>,
        report: &mut Report,
    ) -> Result<(), MissingEpoch> {
        let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(()) };
        let scope = self.scope(tenant, Surface::Value, identities);
        let scope = Scope { partial: self.partial, ..scope };
        *report = (self.redact)(&scope, value, &mut self.buffer.value)?;
        Ok(())
    }

    fn headers(
        &mut self,
        tenant: Option<&TenantId>,
        identities: &[Identity<'_>],
        headers: &[Header<'_>],
        report: &mut Report,
    ) -> Result<(), MissingEpoch> {
        for header in headers {
            let scope = self.scope(tenant, Surface::Header(""), identities);
            let (name, found) = self.piece(&scope, header.name.as_bytes())?;
            report.absorb(&found);
            let name = self.text_or_nothing(name);
            let value = match header.value {
                None => None,
                Some(value) => {
                    let surface = Surface::Header(header.name);
                    let scope = self.scope(tenant, surface, identities);
                    let (span, found) = self.piece(&scope, value)?;
                    report.absorb(&found);
                    Some(span)
                }
            };
            self.buffer.headers.push(HeaderSpans { name, value });
        }
        Ok(())
    }

    /// A header name that is no text any more after redaction is nothing.
    fn text_or_nothing(&self, span: Span) -> Span {
        let is_text = std::str::from_utf8(&self.buffer.bytes[span.start..span.end]).is_ok();
        if is_text { span } else { Span { start: span.start, end: span.start } }
    }

    /// Redacts `input` to the end of the arena. Empty stays empty.
    fn piece(&mut self, scope: &Scope<'_>, input: &[u8]) -> Result<(Span, Report), MissingEpoch> {
        let start = self.buffer.bytes.len();
        if input.is_empty() {
            return Ok((Span { start, end: start }, Report::default()));
        }
        let report = (self.redact)(scope, input, &mut self.buffer.piece)?;
        let is_clean = report.disposition == Disposition::Clean;
        self.buffer.bytes.extend_from_slice(if is_clean { input } else { &self.buffer.piece });
        Ok((Span { start, end: self.buffer.bytes.len() }, report))
    }

    fn texts(
        &mut self,
        tenant: Option<&TenantId>,
        identities: &[Identity<'_>],
        log: &LogRecord<'_>,
    ) -> Result<[Option<Span>; FIELDS], MissingEpoch> {
        let fields = [
            (Surface::Value, &log.service),
            (Surface::Value, &log.event),
            (Surface::Value, &log.action),
            (Surface::Identity, &log.actor),
            (Surface::Value, &log.actor_type),
            (Surface::Identity, &log.object),
            (Surface::Value, &log.object_type),
            (Surface::Value, &log.outcome),
            (Surface::Value, &log.reason),
            (Surface::Identity, &log.session),
        ];
        let mut spans = [None; FIELDS];
        for (span, (surface, field)) in spans.iter_mut().zip(fields) {
            if let Some(field) = field {
                *span = self.text(&self.scope(tenant, surface, identities), field)?;
            }
        }
        Ok(spans)
    }

    /// The redacted text of a field. Nothing is left of one that could not be scanned whole: a
    /// constant in its place would make one identity of many.
    fn text(&mut self, scope: &Scope<'_>, field: &Field<'_>) -> Result<Option<Span>, MissingEpoch> {
        let piece = &mut self.buffer.piece;
        let text = match (self.redact)(scope, field.as_str().as_bytes(), piece)?.disposition {
            Disposition::Clean => Some(field.as_str()),
            Disposition::Redacted => std::str::from_utf8(piece).ok(),
            _ => None,
        };
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
        let start = self.buffer.text.len();
        self.buffer.text.push_str(text);
        Ok(Some(Span { start, end: self.buffer.text.len() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::ingest::{Ingest, IngestRules};
    use crate::pipeline::record::Severity;
    use crate::pipeline::redact::policy::Policy;

    /// Stands in for the engine: `@` becomes `#`, and every call is written down.
    fn made<'a>(
        source: &SourceRecord<'a>,
        buffer: &'a mut RecordBuffer,
        calls: &mut Vec<String>,
    ) -> RedactedRecord<'a> {
        let ingest = Ingest::new(IngestRules::default());
        let log = ingest.parse(source);
        RedactedRecord::made_by(
            |scope, input, out| {
                calls.push(format!("{:?} {:?}", scope.surface, scope.tenant.map(TenantId::as_str)));
                out.clear();
                let mut report = Report::default();
                if input.contains(&b'@') {
                    out.extend(input.iter().map(|byte| if *byte == b'@' { b'#' } else { *byte }));
                    report.disposition = Disposition::Redacted;
                    report.found[0][0] = 1;
                }
                Ok(report)
            },
            source,
            &log,
            buffer,
        )
        .unwrap()
    }

    fn source<'a>(at: &'a TopicPartition, value: Option<&'a [u8]>) -> SourceRecord<'a> {
        SourceRecord {
            topic_partition: at,
            offset: 5,
            timestamp: Timestamp::from_millis(9),
            key: None,
            value,
            headers: &[],
        }
    }

    #[test]
    fn every_part_and_every_field_passes_the_redactor() {
        let at = TopicPartition::new("t", 1);
        let headers = [
            Header { name: "a@b", value: Some(b"c@d") },
            Header { name: "null", value: None },
            Header { name: "empty", value: Some(b"") },
        ];
        let value = br#"{"level":"error","tenant":"t@1","service":"s@","actor":"x@y","action":"go","session_id":"q@"}"#;
        let record =
            SourceRecord { key: Some(b"k@"), headers: &headers, ..source(&at, Some(value)) };
        let (mut buffer, mut calls) = (RecordBuffer::default(), Vec::new());
        let redacted = made(&record, &mut buffer, &mut calls);
        assert_eq!(redacted.tenant().map(TenantId::as_str), Some("t#1"));
        assert_eq!(redacted.tenant_assurance(), Some(Assurance::Claimed));
        assert_eq!(redacted.key(), Some(b"k#".as_slice()));
        assert!(!redacted.value().unwrap().contains(&b'@'));
        assert_eq!(redacted.fields().service, Some("s#"));
        assert_eq!((redacted.fields().actor, redacted.fields().action), (Some("x#y"), Some("go")));
        assert_eq!(redacted.fields().session, Some("q#"));
        assert_eq!((redacted.facts().severity, redacted.offset()), (Severity::Error, 5));
        let headers: Vec<_> = redacted.headers().map(|h| (h.name, h.value)).collect();
        let expected =
            [("a#b", Some(b"c#d".as_slice())), ("null", None), ("empty", Some(b"".as_slice()))];
        assert_eq!(headers, expected);
        assert_eq!(redacted.report().total(), 4);
        assert!(!redacted.report().is_clean());
        assert_eq!(calls[0], "Identity None");
        assert!(calls[1..].iter().all(|call| call.ends_with(r#"Some("t#1")"#)), "{calls:?}");
        assert!(calls.contains(&r#"Header("a@b") Some("t#1")"#.to_owned()));
    }

    #[test]
    fn null_stays_null_and_empty_stays_empty() {
        let at = TopicPartition::new("t", 1);
        let (mut buffer, mut calls) = (RecordBuffer::default(), Vec::new());
        buffer.value.extend_from_slice(b"left over");
        let record = source(&at, None);
        let redacted = made(&record, &mut buffer, &mut calls);
        assert_eq!((redacted.key(), redacted.value()), (None, None));
        let record = SourceRecord { key: Some(b""), ..source(&at, Some(b"")) };
        let redacted = made(&record, &mut buffer, &mut calls);
        assert_eq!(
            (redacted.key(), redacted.value()),
            (Some(b"".as_slice()), Some(b"".as_slice()))
        );
        assert!(redacted.report().is_clean());
        assert_eq!(format!("{redacted:?}"), "RedactedRecord(t/1/5, 0 bytes)");
    }

    #[test]
    fn the_engine_leaves_nothing_in_any_part() {
        let at = TopicPartition::new("t", 1);
        let address = "asha@example.com";
        let headers = [Header { name: "asha@example.com", value: Some(address.as_bytes()) }];
        let value = format!(
            r#"{{"tenant":"{address}","service":"{address}","event":"a","action":"mail {address}","actor":"{address}","actor_type":"{address}","object":"{address}","object_type":"{address}","outcome":"{address}","reason":"{address}","session_id":"{address}","level":"warn"}}"#
        );
        let key = Some(address.as_bytes());
        let record = SourceRecord { key, headers: &headers, ..source(&at, Some(value.as_bytes())) };
        let (ingest, mut buffer) = (Ingest::new(IngestRules::default()), RecordBuffer::default());
        let mut redactor = Redactor::new(Policy::for_regions(&[]));
        let redacted =
            RedactedRecord::new(&record, &ingest.parse(&record), &mut redactor, &mut buffer)
                .unwrap();
        let texts = [
            redacted.tenant().map(TenantId::as_str),
            redacted.fields().service,
            redacted.fields().action,
            redacted.fields().actor,
            redacted.fields().actor_type,
            redacted.fields().object,
            redacted.fields().object_type,
            redacted.fields().outcome,
            redacted.fields().reason,
            redacted.fields().session,
        ];
        for text in texts {
            assert!(!text.unwrap().contains("asha"), "{text:?}");
        }
        let parts = redacted.headers().flat_map(|h| [Some(h.name.as_bytes()), h.value]);
        for part in parts.chain([redacted.key(), redacted.value()]) {
            assert!(memchr::memmem::find(part.unwrap(), b"asha").is_none());
        }
        assert_eq!(redacted.facts().severity, Severity::Warn);
        assert!(redacted.report().total() >= 13);
    }
}

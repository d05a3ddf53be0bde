//! What `redact`, `explain` and `preview` share: a record seen as the daemon sees it, and lines.

use std::fmt;
use std::io::{self, BufRead};
use std::sync::Arc;

use super::exit::{Exit, Failure};
use super::field_path::field_paths;
use crate::pipeline::ingest::Ingest;
use crate::pipeline::record::{SourceRecord, TenantId};
use crate::pipeline::redact::token::kind_name;
use crate::pipeline::redact::{
    Identity, Partial, Policy, Redactor, Report, Scope, Surface, SurfaceClass,
};
use crate::settings::Settings;

/// Ingest and redaction with the settings' rules. Tokens need keys, which no command but the daemon
/// uses: placeholders stand in their place.
pub(super) struct Lens {
    ingest: Ingest,
    redactor: Redactor,
    tenant: Option<TenantId>,
    piece: Vec<u8>,
}

/// What chooses the rules for a record.
pub(super) struct Facts {
    pub(super) tenant: Option<TenantId>,
    pub(super) partial: Partial,
    /// Redacted.
    pub(super) service: Option<String>,
    names: Vec<Name>,
}

/// A name that a record is known by.
struct Name {
    text: Value,
    is_tenant: bool,
    is_number: bool,
}

/// A finding of the last call, as far as it may be told.
pub(super) struct Found {
    pub(super) kind: String,
    pub(super) class: SurfaceClass,
    pub(super) path: String,
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) value: Value,
}

/// What was found: shown only where the user asked for it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Value(String);

impl Value {
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

/// How a finding differs between two policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    OnlyA,
    OnlyB,
    /// Found by both, another replacement.
    Replacement,
}

/// What differs between the findings of two policies in a text whose redacted forms differ.
pub(super) fn differing<'f>(a: &'f [Found], b: &'f [Found]) -> Vec<(Change, &'f Found)> {
    let same = |one: &Found, other: &Found| {
        (one.start, one.end) == (other.start, other.end) && one.kind == other.kind
    };
    // Findings are in order and do not overlap.
    let only = |these: &'f [Found], those: &[Found], change| -> Vec<(Change, &'f Found)> {
        let known = |one: &Found| {
            let at = those.partition_point(|other| other.start < one.start);
            those.get(at).is_some_and(|other| same(one, other))
        };
        these.iter().filter(|one| !known(one)).map(|one| (change, one)).collect()
    };
    let mut all = only(a, b, Change::OnlyA);
    all.extend(only(b, a, Change::OnlyB));
    if all.is_empty() {
        all.extend(b.iter().map(|one| (Change::Replacement, one)));
    }
    all
}

impl fmt::Debug for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Value({} bytes)", self.0.len())
    }
}

impl Lens {
    /// With the rules of `settings`; `tenant` instead of what records say.
    pub(super) fn new(settings: &Settings, policy: Arc<Policy>, tenant: Option<TenantId>) -> Self {
        Self {
            ingest: Ingest::new(settings.ingest.clone()),
            redactor: Redactor::new(policy),
            tenant,
            piece: Vec::new(),
        }
    }

    pub(super) fn ingest(&self) -> &Ingest {
        &self.ingest
    }

    pub(super) fn redactor(&mut self) -> &mut Redactor {
        &mut self.redactor
    }

    /// Tenant and service as the daemon would see them.
    pub(super) fn facts(&mut self, record: &SourceRecord<'_>) -> Facts {
        let log = self.ingest.parse(record);
        let (redactor, piece) = (&mut self.redactor, &mut self.piece);
        let mut text = |text: &str, surface| {
            let scope = Scope { surface, ..scope_of(record) };
            redactor.redact_in(&scope, text.as_bytes(), piece);
            std::str::from_utf8(piece).ok().filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let own = log.tenant.as_ref().filter(|_| self.tenant.is_none());
        let own = own.and_then(|claim| text(claim.id.as_str(), Surface::Identity));
        let tenant = self.tenant.clone().or_else(|| TenantId::new(&own?));
        let service = log.service.as_ref().and_then(|name| text(name.as_str(), Surface::Value));
        let scope = Scope { tenant: tenant.as_ref(), ..scope_of(record) };
        let names = self.redactor.identities(&scope, record, &log).into_iter().map(|name| Name {
            text: Value(name.text.to_owned()),
            is_tenant: name.is_tenant,
            is_number: name.is_number,
        });
        let names = names.collect();
        Facts { tenant, partial: log.partial.into(), service, names }
    }

    /// Redacts the value of `record` into `out`.
    pub(super) fn redact(
        &mut self,
        record: &SourceRecord<'_>,
        facts: &Facts,
        out: &mut Vec<u8>,
    ) -> Report {
        let identities = facts.identities();
        let scope = Scope { identities: &identities, ..facts.scope(record) };
        self.redactor.redact_in(&scope, record.value.unwrap_or_default(), out)
    }

    /// What the last call found in `input`.
    pub(super) fn found(&self, input: &[u8]) -> Vec<Found> {
        let findings = self.redactor.findings();
        if findings.is_empty() {
            return Vec::new();
        }
        // Spans of a record that is not UTF-8 are spans of this.
        let text = String::from_utf8_lossy(input);
        let policy = self.redactor.policy();
        findings
            .iter()
            .zip(field_paths(text.as_bytes(), findings))
            .map(|(finding, path)| Found {
                kind: kind_name(finding.kind, policy).to_owned(),
                class: SurfaceClass::of(finding.position),
                path,
                start: finding.start,
                end: finding.end,
                value: Value(text.get(finding.start..finding.end).unwrap_or_default().to_owned()),
            })
            .collect()
    }
}

impl Facts {
    /// The names that the record is known by.
    pub(super) fn identities<'n>(&'n self) -> Vec<Identity<'n>> {
        let identity = |name: &'n Name| Identity {
            text: name.text.reveal(),
            is_tenant: name.is_tenant,
            is_number: name.is_number,
        };
        self.names.iter().map(identity).collect()
    }

    /// Where the record's value stands, but for the record's own names.
    pub(super) fn scope<'a>(&'a self, record: &SourceRecord<'a>) -> Scope<'a> {
        Scope { tenant: self.tenant.as_ref(), partial: self.partial, ..scope_of(record) }
    }
}

fn scope_of<'a>(record: &SourceRecord<'a>) -> Scope<'a> {
    Scope { topic: &record.topic_partition.topic, timestamp: record.timestamp, ..Scope::default() }
}

/// A tenant from the command line.
pub(super) fn tenant_argument(text: Option<&str>) -> Result<Option<TenantId>, Failure> {
    let parse = |text: &str| {
        let message = || format!("--tenant: `{text}` is no tenant id");
        TenantId::new(text).ok_or_else(|| Failure::new(Exit::Usage, message()))
    };
    text.map(parse).transpose()
}

/// Reads the next line, its end included; `false` behind the last one. Of a line longer than
/// `bytes_max` one byte more than that is kept, so that it is seen to be too long.
pub(super) fn read_line(
    reader: &mut impl BufRead,
    line: &mut Vec<u8>,
    bytes_max: usize,
) -> io::Result<bool> {
    line.clear();
    loop {
        let available = match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            available => available?,
        };
        let found = memchr::memchr(b'\n', available);
        let taken = found.map_or(available.len(), |at| at + 1);
        if taken == 0 {
            return Ok(!line.is_empty());
        }
        let room = (bytes_max + 1).saturating_sub(line.len());
        let kept = found.unwrap_or(taken).min(room);
        line.extend_from_slice(&available[..kept]);
        if found.is_some() {
            line.push(b'\n');
        }
        reader.consume(taken);
        if found.is_some() {
            return Ok(true);
        }
    }
}

/// A line and its end: `\n`, `\r\n` or nothing.
pub(super) fn split_end(line: &[u8]) -> (&[u8], &[u8]) {
    let body =
        line.strip_suffix(b"\n").map_or(line, |body| body.strip_suffix(b"\r").unwrap_or(body));
    line.split_at(body.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_ends_and_long_ones_are_cut() {
        let mut reader = io::BufReader::with_capacity(3, &b"ab\r\n\nabcdefgh\nx"[..]);
        let mut line = Vec::new();
        let mut lines = Vec::new();
        while read_line(&mut reader, &mut line, 4).unwrap() {
            lines.push(line.clone());
        }
        assert_eq!(lines, [&b"ab\r\n"[..], b"\n", b"abcde\n", b"x"]);
        assert_eq!(split_end(b"ab\r\n"), (&b"ab"[..], &b"\r\n"[..]));
        assert_eq!(split_end(b"ab\n"), (&b"ab"[..], &b"\n"[..]));
        assert_eq!(split_end(b"ab\r"), (&b"ab\r"[..], &b""[..]));
    }
}

//! What one Kafka record counts: itself, or each resource of a batch of log records.

use std::borrow::Cow;

use crate::pipeline::ingest::{LogRecord, ResourceLogs, SeverityCounts};
use crate::pipeline::record::{Severity, TenantId, Timestamp};
use crate::pipeline::redact::{Disposition, RedactedRecord, Redactor, Scope, Surface};

/// Log records of one tenant and service, redacted.
pub(super) struct Part<'r> {
    pub(super) tenant: Option<Cow<'r, TenantId>>,
    pub(super) service: Option<Cow<'r, str>>,
    pub(super) event_time: Timestamp,
    pub(super) severities: SeverityCounts,
}

impl<'r> Part<'r> {
    /// A record that is one log record.
    pub(super) fn whole(redacted: &'r RedactedRecord<'_>) -> Self {
        let mut severities = [0; _];
        severities[redacted.facts().severity as usize] = 1;
        Self {
            tenant: redacted.tenant().map(Cow::Borrowed),
            service: redacted.fields().service.map(Cow::Borrowed),
            event_time: redacted.facts().event_time.unwrap_or_else(|| redacted.timestamp()),
            severities,
        }
    }

    /// The resources of a batch, `log` being its first log record. A tenant or service that could not
    /// be scanned is none.
    pub(super) fn of_batch(
        log: &LogRecord<'_>,
        redacted: &'r RedactedRecord<'_>,
        redactor: &mut Redactor,
    ) -> Vec<Self> {
        let whole = Self::whole(redacted);
        let part = |logs: &ResourceLogs<'_>| {
            let tenant = if logs.tenant == log.tenant {
                whole.tenant.clone()
            } else {
                let claim = logs.tenant.as_ref().map(|claim| claim.id.as_str());
                let id = claim.and_then(|id| text(redacted, redactor, Surface::Identity, None, id));
                id.and_then(|id| TenantId::new(&id)).map(Cow::Owned)
            };
            let service = if logs.service == log.service && tenant == whole.tenant {
                whole.service.clone()
            } else {
                let name = logs.service.as_ref().map(|name| name.as_str());
                let of = tenant.as_deref();
                name.and_then(|name| text(redacted, redactor, Surface::Value, of, name))
                    .map(Cow::Owned)
            };
            let event_time = logs.event_time.unwrap_or(whole.event_time);
            Self { tenant, service, event_time, severities: logs.severities }
        };
        log.batch.iter().map(part).collect()
    }

    pub(super) fn records(&self) -> u32 {
        self.severities.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    pub(super) fn errors(&self) -> u32 {
        let all = Severity::ALL.iter().zip(self.severities);
        let errors = all.filter(|(severity, _)| severity.is_error());
        errors.fold(0, |sum, (_, count)| sum.saturating_add(count))
    }
}

/// `text` redacted as a field of the record.
fn text(
    redacted: &RedactedRecord<'_>,
    redactor: &mut Redactor,
    surface: Surface<'_>,
    tenant: Option<&TenantId>,
    text: &str,
) -> Option<String> {
    let (topic, timestamp) = (&*redacted.topic_partition().topic, redacted.timestamp());
    let scope = Scope { topic, tenant, timestamp, surface, ..Scope::default() };
    let mut out = Vec::new();
    let disposition = redactor.redact_in(&scope, text.as_bytes(), &mut out).disposition;
    let whole = matches!(disposition, Disposition::Clean | Disposition::Redacted);
    String::from_utf8(out).ok().filter(|text| whole && !text.is_empty())
}

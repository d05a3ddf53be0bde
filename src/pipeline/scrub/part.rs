//! What one Kafka record counts: itself, or each resource of a batch of log records.

use std::borrow::Cow;

use crate::pipeline::ingest::{LogRecord, ResourceLogs, SeverityCounts};
use crate::pipeline::measure::{Place, Places};
use crate::pipeline::record::{Severity, TenantId, Timestamp};
use crate::pipeline::redact::{Disposition, RedactedRecord, Redactor, Scope, Surface};

/// Log records of one tenant and service, redacted.
pub(super) struct Part {
    pub(super) place: Place,
    pub(super) event_time: Timestamp,
    pub(super) severities: SeverityCounts,
}

impl Part {
    /// A record that is one log record.
    pub(super) fn whole(redacted: &RedactedRecord<'_>, places: &mut Places) -> Self {
        let mut severities = [0; _];
        severities[redacted.facts().severity as usize] = 1;
        Self {
            place: places.of(redacted.tenant(), redacted.fields().service),
            event_time: event_time(redacted),
            severities,
        }
    }

    /// The resources of a batch, `log` being its first log record. A tenant or service that could not
    /// be scanned is none.
    pub(super) fn of_batch(
        log: &LogRecord<'_>,
        redacted: &RedactedRecord<'_>,
        redactor: &mut Redactor,
        places: &mut Places,
    ) -> Vec<Self> {
        let part = |logs: &ResourceLogs<'_>| {
            let tenant = if logs.tenant == log.tenant {
                redacted.tenant().map(Cow::Borrowed)
            } else {
                let claim = logs.tenant.as_ref().map(|claim| claim.id.as_str());
                let id = claim.and_then(|id| text(redacted, redactor, Surface::Identity, None, id));
                id.and_then(|id| TenantId::new(&id)).map(Cow::Owned)
            };
            let tenant = tenant.as_deref();
            let service = if logs.service == log.service && tenant == redacted.tenant() {
                redacted.fields().service.map(Cow::Borrowed)
            } else {
                let name = logs.service.as_ref().map(|name| name.as_str());
                name.and_then(|name| text(redacted, redactor, Surface::Value, tenant, name))
                    .map(Cow::Owned)
            };
            Self {
                place: places.of(tenant, service.as_deref()),
                event_time: logs.event_time.unwrap_or_else(|| event_time(redacted)),
                severities: logs.severities,
            }
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

fn event_time(redacted: &RedactedRecord<'_>) -> Timestamp {
    redacted.facts().event_time.unwrap_or_else(|| redacted.timestamp())
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

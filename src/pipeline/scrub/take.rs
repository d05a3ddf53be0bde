//! One source record through the rooms: find, redact, forward, receipt, measure.

use crate::pipeline::audit::{
    Action, ActorFact, Assurance, Commitment, Count, Disposition as Receipt, Fate, Redaction,
    TenantFact,
};
use crate::pipeline::emit::DeadLetter;
use crate::pipeline::ingest::{self, StaffAction};
use crate::pipeline::measure::{BotFacts, DeltaBook, Fact, Places, Scope, SessionTag, Signal};
use crate::pipeline::metric::Metric;
use crate::pipeline::record::{Header, SourceRecord, Timestamp, TopicPartition};
use crate::pipeline::redact::keyring::{KeyKind, Keyring, MissingEpoch};
use crate::pipeline::redact::sentinel::leaks;
use crate::pipeline::redact::{
    Disposition, EntityKind, Policy, RecordReport, RedactedRecord, Report, SurfaceClass,
};
use crate::pipeline::step::{Outputs, PartitionStop, RecordFailure};

use super::part::Part;
use super::partition::State;
use super::tally::Tally;
use super::{AuditConfig, Scrub};

/// Why a record that is too large after redaction goes to the dead letters.
const TOO_LARGE: &str = "too_large";

impl Scrub {
    /// Takes one record into the open transaction.
    pub(super) fn take(
        &mut self,
        record: &SourceRecord<'_>,
        now: Timestamp,
        outputs: &mut Outputs,
    ) -> Result<(), RecordFailure> {
        let source = record.topic_partition;
        let Some(partition) = self.partitions.get_mut(source) else { return Ok(()) };
        let log = self.ingest.parse(record);
        let redacted = match RedactedRecord::new(record, &log, &mut self.redactor, &mut self.buffer)
        {
            Ok(redacted) => redacted,
            Err(missing) => return Err(self.pause_for_key(record, &missing)),
        };
        if let Disposition::NotText(name) = redacted.report().value.disposition {
            self.not_text(source, record.offset, name);
            self.dead_letter(record, name, now, outputs);
            return Ok(());
        }
        if !self.emitter.fits(&redacted) {
            self.dead_letter(record, TOO_LARGE, now, outputs);
            return Ok(());
        }
        partition.sample_text(true);
        let Some(state) = partition.join(&self.config, &mut self.emitter, outputs) else {
            return Ok(());
        };
        self.emitter.forward(&redacted, outputs);
        if let Some(audit) = &self.config.audit {
            let key = self.config.commitment_keys.at(record.timestamp);
            let raw = key.commit_raw(record);
            let twin = || {
                let headers: Vec<_> = redacted.headers().collect();
                key.commit_redacted(&twin_of(&redacted, &headers))
            };
            self.entry.clear();
            entries(state, audit, record, &redacted, &raw, twin, &mut self.entry, |kind, entry| {
                self.emitter.audit_entry(source, entry, false, outputs);
                self.tally.add(Metric::AuditEntries, &[kind], 1);
            });
            state.record(record.offset, Fate::Forwarded, &raw, key.id());
        }
        advance(state, record.offset);
        let (whole, batch);
        let parts = if log.batch.is_empty() {
            whole = Part::whole(&redacted, &mut self.places);
            std::slice::from_ref(&whole)
        } else {
            batch = Part::of_batch(&log, &redacted, &mut self.redactor, &mut self.places);
            &batch
        };
        count(&mut self.tally, record, &redacted, parts);
        let looks = self.config.sentinel.chooses(source.partition, record.offset);
        let leaks = if looks {
            look_for_leaks(&mut self.tally, self.redactor.policy(), &redacted)
        } else {
            0
        };
        if let (Some(book), [first, ..]) = (&mut self.book, parts) {
            measure(book, &self.places, self.redactor.keyring(), &redacted, parts, now);
            book.notice(&self.places, first.place, Signal::Leaks, leaks, now);
            let tokens = redacted.report().default_keys();
            book.notice(&self.places, first.place, Signal::DefaultKeyTokens, tokens, now);
        }
        self.seal_if_full(source, now, outputs);
        Ok(())
    }

    /// Sends a record to the dead letters by its coordinates, with a stub in its place.
    pub(super) fn dead_letter(
        &mut self,
        record: &SourceRecord<'_>,
        reason: &str,
        now: Timestamp,
        outputs: &mut Outputs,
    ) {
        let source = record.topic_partition;
        let Some(partition) = self.partitions.get_mut(source) else { return };
        let Some(state) = partition.join(&self.config, &mut self.emitter, outputs) else { return };
        let letter = DeadLetter {
            topic_partition: source,
            offset: record.offset,
            timestamp: record.timestamp,
            size_bytes: record.size_bytes(),
            reason,
            key: None,
        };
        self.emitter.dead_letter(&letter, outputs);
        if self.config.audit.is_some() {
            let key = self.config.commitment_keys.at(record.timestamp);
            let raw = key.commit_raw(record);
            state.record(record.offset, Fate::DeadLettered, &raw, key.id());
        }
        advance(state, record.offset);
        self.tally.add(Metric::RecordsRejected, &[reason], 1);
        self.tally.bytes(record.size_bytes(), 0);
        self.seal_if_full(source, now, outputs);
    }

    fn seal_if_full(&mut self, source: &TopicPartition, now: Timestamp, outputs: &mut Outputs) {
        let (Some(audit), Some(partition)) = (&self.config.audit, self.partitions.get_mut(source))
        else {
            return;
        };
        let Some(state) = partition.pending() else { return };
        if state.ledger().is_some_and(|ledger| ledger.is_full()) {
            state.seal(audit, source, now, &mut self.emitter, outputs);
        }
    }

    /// A token needs a key epoch that the keyring does not hold: the partition waits for it.
    fn pause_for_key(
        &mut self,
        record: &SourceRecord<'_>,
        missing: &MissingEpoch,
    ) -> RecordFailure {
        let reason = "key_epoch_missing";
        let stop = PartitionStop {
            reason,
            detail: format!("record {}: {missing}", record.offset),
            command:
                "add the epoch to the keyring and restart; `blotter keys rotate` makes new ones"
                    .to_owned(),
        };
        self.pauses.push((record.topic_partition.clone(), stop));
        RecordFailure {
            topic_partition: record.topic_partition.clone(),
            offset: record.offset,
            reason,
        }
    }

    /// A topic that is mostly not text is not for us: its partition pauses.
    fn not_text(&mut self, source: &TopicPartition, offset: i64, name: &str) {
        let partition = self.partitions.get_mut(source);
        if !partition.is_some_and(|partition| partition.sample_text(false)) {
            return;
        }
        let stop = PartitionStop {
            reason: "not_text",
            detail: format!(
                "over half of the first records are {name}; the newest at offset {offset}"
            ),
            command: "leave the topic out of input.topics, or have it written as text".to_owned(),
        };
        self.pauses.push((source.clone(), stop));
    }
}

fn advance(state: &mut State, offset: i64) {
    state.position = offset + 1;
}

/// The redacted record in the form of a source record, to be committed to: with the source's own
/// headers, redacted, and without those that forwarding adds.
fn twin_of<'a>(redacted: &RedactedRecord<'a>, headers: &'a [Header<'a>]) -> SourceRecord<'a> {
    SourceRecord {
        topic_partition: redacted.topic_partition(),
        offset: redacted.offset(),
        timestamp: redacted.timestamp(),
        key: redacted.key(),
        value: redacted.value(),
        headers,
    }
}

/// Writes the action and the receipt of one record, where there are any.
#[expect(clippy::too_many_arguments, reason = "one record's facts, used once")]
fn entries(
    state: &mut State,
    audit: &AuditConfig,
    record: &SourceRecord<'_>,
    redacted: &RedactedRecord<'_>,
    raw: &Commitment,
    twin: impl FnOnce() -> Commitment,
    out: &mut Vec<u8>,
    mut emit: impl FnMut(&'static str, &[u8]),
) {
    let Some(ledger) = state.ledger() else { return };
    let has_receipt = audit.receipts && !redacted.report().is_clean();
    let is_staff_action = redacted.facts().staff_action == Some(StaffAction::Explicit);
    if !has_receipt && !is_staff_action {
        return;
    }
    let counts = counts(redacted.report());
    let tenant = redacted
        .tenant()
        .zip(redacted.tenant_assurance())
        .map(|(id, assurance)| TenantFact { id: id.as_str(), assurance: assurance_of(assurance) });
    if let (true, Some(action)) =
        (is_staff_action, redacted.fields().action.or_else(|| redacted.fields().event))
    {
        let body = Action {
            offset: record.offset,
            timestamp: record.timestamp,
            event_time: redacted.facts().event_time,
            tenant,
            actor: redacted.fields().actor.map(|id| ActorFact {
                id,
                kind: redacted.fields().actor_type,
                assurance: Assurance::Claimed,
            }),
            action,
            object: redacted.fields().object,
            outcome: redacted.fields().outcome,
            reason: redacted.fields().reason,
            service: redacted.fields().service,
            raw,
            redactions: &counts,
        };
        let range = ledger.append(&body, out);
        emit("act", out.get(range).expect("the ledger tells where the entry lies"));
    }
    if has_receipt {
        let masked = matches!(redacted.report().value.disposition, Disposition::StrictMasked(_));
        let body = Redaction {
            offset: record.offset,
            timestamp: record.timestamp,
            tenant,
            policy: audit.policy.hash(),
            counts: &counts,
            disposition: if masked { Receipt::Masked } else { Receipt::Redacted },
            raw,
            redacted: &twin(),
        };
        let range = ledger.append(&body, out);
        emit("red", out.get(range).expect("the ledger tells where the entry lies"));
    }
}

const fn assurance_of(assurance: ingest::Assurance) -> Assurance {
    match assurance {
        ingest::Assurance::Claimed => Assurance::Claimed,
        ingest::Assurance::Verified => Assurance::Verified,
    }
}

const KINDS: [(EntityKind, &str); 3] = [
    (EntityKind::Email, "email"),
    (EntityKind::Phone, "phone"),
    (EntityKind::Custom(0), "pattern"),
];

/// What was found where: the value by class, key and headers as wholes.
fn counts(report: &RecordReport) -> Vec<Count> {
    let mut counts = Vec::new();
    for (kind, name) in KINDS {
        for class in SurfaceClass::ALL {
            let count = report.value.count(kind, class);
            if count > 0 {
                counts.push(Count { surface: class.name(), kind: name, count });
            }
        }
        for (surface, part) in [("record_key", &report.key), ("header", &report.headers)] {
            let count = total(part, kind);
            if count > 0 {
                counts.push(Count { surface, kind: name, count });
            }
        }
    }
    counts
}

fn total(report: &Report, kind: EntityKind) -> u32 {
    SurfaceClass::ALL.iter().map(|&class| report.count(kind, class)).sum()
}

fn count(
    tally: &mut Tally,
    record: &SourceRecord<'_>,
    redacted: &RedactedRecord<'_>,
    parts: &[Part],
) {
    for part in parts {
        tally.records(part.place, &part.severities);
    }
    tally.bytes(record.size_bytes(), redacted.size_bytes());
    let (report, bot) = (redacted.report(), bot_facts(redacted));
    if report.is_clean() && !bot.any() {
        return;
    }
    let scope = Scope::of(redacted.tenant());
    let tenant = scope.label();
    tally.add(Metric::BotTurns, &[&tenant], u64::from(bot.is_turn()));
    tally.add(Metric::BotFallbacks, &[&tenant], u64::from(bot.fallback));
    if report.is_clean() {
        return;
    }
    for found in counts(report) {
        let labels = [found.kind, found.surface, &tenant];
        tally.add(Metric::Redactions, &labels, u64::from(found.count));
    }
    tally.add(Metric::DefaultKeyTokens, &[], u64::from(report.default_keys()));
    for (part, name) in [(&report.key, "key"), (&report.headers, "headers")] {
        let is_no_text = matches!(part.disposition, Disposition::NotText(_));
        tally.add(Metric::PartsNotText, &[name], u64::from(is_no_text));
    }
    for part in report.parts() {
        if let Disposition::StrictMasked(reason) = part.disposition {
            tally.add(Metric::RecordsMasked, &[reason.name()], 1);
        }
        tally.add(Metric::RecordsTruncated, &[], u64::from(part.truncated));
        tally.add(Metric::UnavailableKeyTokens, &[], u64::from(part.unavailable_keys));
        tally.rules(part.rules);
    }
}

/// A second, independent look at what is about to leave.
fn look_for_leaks(tally: &mut Tally, policy: &Policy, redacted: &RedactedRecord<'_>) -> u32 {
    let mut all = 0_u32;
    let rules = policy.rules(&redacted.topic_partition().topic, redacted.tenant());
    let is_allowed = |value: &str| rules.allows_email(value) || rules.allows_phone(value);
    let headers =
        redacted.headers().flat_map(|header| [Some(header.name.as_bytes()), header.value]);
    for part in headers.chain([redacted.key(), redacted.value()]).flatten() {
        let found = leaks(part, is_allowed);
        tally.add(Metric::LeaksFound, &["email"], found.emails.into());
        tally.add(Metric::LeaksFound, &["phone"], found.phones.into());
        all = all.saturating_add(found.emails).saturating_add(found.phones);
    }
    all
}

fn measure(
    book: &mut DeltaBook,
    places: &Places,
    keyring: Option<&Keyring>,
    redacted: &RedactedRecord<'_>,
    parts: &[Part],
    now: Timestamp,
) {
    let mut bot = bot_facts(redacted);
    let session = if bot.any() { session_tag(redacted, keyring) } else { None };
    for part in parts {
        let fact = Fact {
            place: part.place,
            records: part.records(),
            errors: part.errors(),
            event_time: part.event_time,
            session,
            // What a bot reported is the first log record's.
            bot: std::mem::take(&mut bot),
        };
        book.record(redacted.topic_partition(), places, &fact, now);
    }
}

fn bot_facts(redacted: &RedactedRecord<'_>) -> BotFacts {
    let bot = redacted.facts().bot.unwrap_or_default();
    BotFacts {
        session_started: bot.session_started,
        turn: bot.turn.is_some_and(|turn| turn.has_bot()),
        fallback: bot.fallback,
        handover: bot.handover.is_some(),
    }
}

fn session_tag(redacted: &RedactedRecord<'_>, keyring: Option<&Keyring>) -> Option<SessionTag> {
    let session = redacted.fields().session?;
    let key = keyring?.key(redacted.tenant(), KeyKind::Session, redacted.timestamp()).ok()?;
    let mac = key.mac(session.as_bytes());
    Some(SessionTag(mac.first_chunk().copied().expect("a MAC has 32 bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::ingest::{Ingest, IngestRules};
    use crate::pipeline::record::Header;
    use crate::pipeline::redact::{RawPolicy, RecordBuffer, Redactor};

    #[test]
    fn the_sentinel_looks_at_headers_too() {
        let allowed = r#"{"allow":{"emails":["asha@gmail.com"]}}"#;
        let raw: RawPolicy = serde_json::from_str(allowed).unwrap();
        let mut redactor = Redactor::new(Policy::new(&raw).unwrap());
        let at = TopicPartition::new("t", 0);
        let headers = [Header { name: "from", value: Some(b"asha@gmail.com") }];
        let record = SourceRecord {
            topic_partition: &at,
            offset: 0,
            timestamp: Timestamp::EPOCH,
            key: None,
            value: Some(b"done"),
            headers: &headers,
        };
        let (ingest, mut buffer) = (Ingest::new(IngestRules::default()), RecordBuffer::default());
        let log = ingest.parse(&record);
        let redacted = RedactedRecord::new(&record, &log, &mut redactor, &mut buffer).unwrap();
        let mut tally = Tally::default();
        let mut look = |policy: &Policy| look_for_leaks(&mut tally, policy, &redacted);
        assert_eq!(look(&Policy::default()), 1, "as if it had got past the engine");
        assert_eq!(look(redactor.policy()), 0);
    }
}

//! The names of somebody or something that a record is known by: what stands for them in its value
//! is the token that stands for them everywhere else.

use std::fmt;

use super::finding::{EntityKind, Finding, Scope, Surface};
use super::phone::{CONFIRMING_DIGITS, DIGITS_MIN};
use super::redactor::Redactor;
use crate::pipeline::ingest::{Field, LogRecord};
use crate::pipeline::record::SourceRecord;

/// A name that a record gives: its tenant, actor, object or session, or its key.
#[derive(Clone, Copy)]
pub struct Identity<'a> {
    /// As the record has it, decoded.
    pub text: &'a str,
    /// It names the tenant: its token is made with the deployment's default key.
    pub is_tenant: bool,
    /// It is known to be a phone number, whatever the names around it say.
    pub is_number: bool,
}

impl fmt::Debug for Identity<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Identity({} bytes)", self.text.len())
    }
}

/// The names of one record that may be addresses or numbers.
pub(super) struct Identities<'a> {
    all: [Identity<'a>; IDENTITIES_MAX],
    len: usize,
}

/// Tenant, actor, object, session and record key.
const IDENTITIES_MAX: usize = 5;

impl<'a> Identities<'a> {
    /// Those that `source` has and that ingest found in it.
    pub(super) fn of(source: &SourceRecord<'a>, log: &'a LogRecord<'_>) -> Self {
        let none = Identity { text: "", is_tenant: false, is_number: false };
        let mut found = Self { all: [none; IDENTITIES_MAX], len: 0 };
        let tenant = log.tenant.as_ref().map(|claim| claim.id.as_str());
        let fields = [&log.actor, &log.object, &log.session];
        let fields = fields.map(|field| field.as_ref().map(Field::as_str));
        let key = source.key.and_then(|key| std::str::from_utf8(key).ok());
        let texts = [(tenant, true)].into_iter();
        for (text, is_tenant) in texts.chain(fields.into_iter().chain([key]).map(|f| (f, false))) {
            if let Some(text) = text.filter(|text| Identity::may_be_personal(text)) {
                found.all[found.len] = Identity { text, is_tenant, is_number: false };
                found.len += 1;
            }
        }
        found
    }

    pub(super) fn as_slice(&self) -> &[Identity<'a>] {
        &self.all[..self.len]
    }

    /// Each that is not known to be a number yet, with its last digits.
    pub(super) fn undecided(
        &mut self,
    ) -> impl Iterator<Item = (&mut Identity<'a>, [u8; CONFIRMING_DIGITS])> {
        let undecided = self.all[..self.len].iter_mut().filter(|identity| !identity.is_number);
        undecided.filter_map(|identity| identity.tail().map(|tail| (identity, tail)))
    }
}

impl Redactor {
    /// The names that the record `source` is known by and that may be addresses or numbers, for
    /// [`Scope::identities`]. ([`super::RedactedRecord`] sees to them itself.)
    pub fn identities<'a>(
        &mut self,
        scope: &Scope<'_>,
        source: &SourceRecord<'a>,
        log: &'a LogRecord<'_>,
    ) -> Vec<Identity<'a>> {
        let mut identities = Identities::of(source, log);
        let scope = Scope { surface: Surface::Identity, identities: &[], ..*scope };
        let mut out = Vec::new();
        for (identity, _) in identities.undecided() {
            let report = self.redact_in(&scope, identity.text.as_bytes(), &mut out);
            identity.is_number = report.total() > 0;
        }
        identities.as_slice().to_vec()
    }
}

impl Identity<'_> {
    /// Whether this may be an address or a number at all.
    pub(super) fn may_be_personal(text: &str) -> bool {
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        text.len() <= TEXT_BYTES_MAX
            && (text.contains('@') || (DIGITS_MIN..=DIGITS_MAX).contains(&digits))
    }

    /// Its last digits, by which a number is known in all its written forms.
    pub(super) fn tail(&self) -> Option<[u8; CONFIRMING_DIGITS]> {
        tail(self.text.as_bytes())
    }

    /// Whether `finding` is what this name consists of.
    pub(super) fn is(&self, finding: &Finding) -> bool {
        match finding.kind {
            EntityKind::Phone => {
                let end = tail(&finding.value);
                let extra = self.text.len().abs_diff(finding.value.len());
                end.is_some() && end == self.tail() && extra <= DRESS_BYTES_MAX
            }
            EntityKind::Email => std::str::from_utf8(&finding.value).is_ok_and(|value| {
                let extra = self.text.len().abs_diff(value.len());
                extra <= DRESS_BYTES_MAX && self.text.contains(value)
            }),
            EntityKind::Custom(_) | EntityKind::Opaque => false,
        }
    }
}

/// Longer texts are no names.
const TEXT_BYTES_MAX: usize = 96;
const DIGITS_MAX: usize = 18;
/// What may stand around an address or a number in a name: `whatsapp:`, `mailto:`, a messenger's host.
const DRESS_BYTES_MAX: usize = 20;

fn tail(text: &[u8]) -> Option<[u8; CONFIRMING_DIGITS]> {
    let mut tail = [0; CONFIRMING_DIGITS];
    let mut digits = text.iter().rev().filter(|byte| byte.is_ascii_digit());
    for place in tail.iter_mut().rev() {
        *place = *digits.next()?;
    }
    Some(tail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::ingest::{Ingest, IngestRules};
    use crate::pipeline::record::{Timestamp, TopicPartition};
    use crate::pipeline::redact::finding::Position;
    use crate::pipeline::redact::plan::Region;
    use crate::pipeline::redact::policy::Policy;

    #[test]
    fn a_session_of_digits_is_known_for_a_number() {
        let at = TopicPartition::new("t", 0);
        let source = |value: &'static str| SourceRecord {
            topic_partition: &at,
            offset: 0,
            timestamp: Timestamp::EPOCH,
            key: None,
            value: Some(value.as_bytes()),
            headers: &[],
        };
        let mut redactor = Redactor::new(Policy::for_regions(&[Region::parse("IN").unwrap()]));
        let ingest = Ingest::new(IngestRules::default());
        let mut is_number = |value| {
            let source = source(value);
            let log = ingest.parse(&source);
            let found = redactor.identities(&Scope::default(), &source, &log);
            found.iter().map(|identity| identity.is_number).collect::<Vec<_>>()
        };
        assert_eq!(is_number(r#"{"session_id":"919876543210"}"#), [true]);
        assert_eq!(is_number(r#"{"session_id":"9876543210"}"#), [false]);
        let none: [bool; 0] = [];
        assert_eq!(is_number(r#"{"session_id":"be793e89-2cc3-4f99-9884-9c6a624a84bc"}"#), none);
    }

    #[test]
    fn a_name_is_what_it_consists_of() {
        let is = |kind, value: &str, text| {
            let finding = Finding {
                kind,
                start: 0,
                end: 1,
                value: value.into(),
                position: Position::default(),
                quote: Vec::new(),
                rules: 0,
                score: 0,
            };
            Identity { text, is_tenant: false, is_number: false }.is(&finding)
        };
        assert!(is(EntityKind::Phone, "+919876543210", "919876543210@s.whatsapp.net"));
        assert!(is(EntityKind::Phone, "9876543210", "whatsapp:+91 98765 43210"));
        assert!(!is(EntityKind::Phone, "+919876543210", "919876543211"));
        assert!(!is(EntityKind::Phone, "+919876543210", "the guest at 919876543210 wrote again"));
        assert!(is(EntityKind::Email, "asha@x.in", "mailto:asha@x.in"));
        assert!(!is(EntityKind::Email, "asha@x.in", "usha@x.in"));
    }
}

//! What goes to the alert topic: an Alertmanager v2 alert (`labels`, `annotations`, `startsAt`,
//! `endsAt`) with our fields beside it, CloudEvents 1.0 headers in binary mode, keyed by
//! Alertmanager's own fingerprint.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::duration::format_duration;
use super::rule::{Group, Measure, Reading, Rule};
use super::system::SystemAlert;
use crate::pipeline::measure::Scope;
use crate::pipeline::record::Timestamp;

/// An alert's labels, sorted by name; none is empty.
pub type Labels = BTreeMap<String, String>;

/// Alertmanager's identity of an alert: FNV-1a of its labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u64);

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// FNV-1a-64 over the sorted labels, each `name 0xFF value 0xFF`
/// (`LabelSet.Fingerprint` of github.com/prometheus/common/model).
#[must_use]
pub fn fingerprint(labels: &Labels) -> Fingerprint {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let bytes = labels
        .iter()
        .flat_map(|(name, value)| name.bytes().chain([0xff]).chain(value.bytes()).chain([0xff]));
    Fingerprint(bytes.fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME)))
}

/// The record being applied: everything that happens because of it carries its place and time.
#[derive(Clone, Debug)]
pub struct Moment {
    /// WATCH's `now`.
    pub now: Timestamp,
    /// The event time W; an alert that fired after it can't clear yet.
    pub watermark: Option<Timestamp>,
    /// Measures topic.
    pub topic: Arc<str>,
    /// Measures partition.
    pub partition: i32,
    /// Offset of the record.
    pub offset: i64,
    /// No source partition counts: rules make no transitions.
    pub held: bool,
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EmissionKind {
    /// The alert fires.
    Firing,
    /// It still fires: its lease is extended.
    Refreshed,
    /// It is over.
    Resolved,
    /// It has been over for a day: its key leaves the compacted topic.
    Forgotten,
}

impl EmissionKind {
    /// The word in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Refreshed => "refreshed",
            Self::Resolved => "resolved",
            Self::Forgotten => "forgotten",
        }
    }

    const fn event_type(self) -> &'static str {
        match self {
            Self::Firing => "blotter.alert.firing",
            Self::Refreshed => "blotter.alert.refreshed",
            Self::Resolved | Self::Forgotten => "blotter.alert.resolved",
        }
    }
}

/// One record for the alert topic; its key is the fingerprint's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emission {
    /// Whose alert.
    pub fingerprint: Fingerprint,
    /// What it says.
    pub kind: EmissionKind,
    /// JSON; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Vec<(&'static str, String)>,
}

/// What an alert is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Definition<'a> {
    /// A rule.
    Rule(&'a Rule),
    /// The daemon itself.
    System(&'static SystemAlert),
    /// A rule that is no longer there.
    Gone,
}

/// Everything a message is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) name: &'a str,
    pub(super) definition: Definition<'a>,
    pub(super) labels: &'a Labels,
    pub(super) reading: Option<Reading>,
    pub(super) kind: EmissionKind,
    pub(super) first: bool,
    pub(super) starts: Timestamp,
    pub(super) ends: Timestamp,
    pub(super) episode: &'a str,
    pub(super) seq: u32,
}

/// The labels of an alert. Names are fixed; values are UTF-8 with control characters written as
/// escapes, one-to-one, so that no two tenants share an alert.
pub(super) fn labels_of(
    definition: Definition<'_>,
    name: &str,
    group: &Group,
    partition: i32,
) -> Labels {
    let mut labels = Labels::new();
    let mut put = |name: &str, value: String| {
        if !value.is_empty() {
            labels.insert(name.to_owned(), value);
        }
    };
    put("alertname", name.to_owned());
    put("source", "blotter".to_owned());
    let severity = match definition {
        Definition::Rule(rule) => Some(rule.severity),
        Definition::System(alert) => alert.severity,
        Definition::Gone => None,
    };
    put("severity", severity.map_or("none", |severity| severity.label()).to_owned());
    put("sev", severity.map_or("", |severity| severity.name()).to_owned());
    if let Definition::System(_) = definition {
        put("partition", partition.to_string());
    }
    if !matches!(group.scope, Scope::All | Scope::None) {
        put("tenant", label_value(&group.scope.text()));
    }
    put("service", label_value(group.service.as_deref().unwrap_or_default()));
    labels
}

/// The id of one firing period.
pub(super) fn episode_of(fingerprint: Fingerprint, partition: i32, offset: i64) -> String {
    let mut hash = Sha256::new();
    hash.update(b"blotter.episode/1");
    hash.update(fingerprint.0.to_be_bytes());
    hash.update(partition.to_be_bytes());
    hash.update(offset.to_be_bytes());
    HEXLOWER.encode(&hash.finalize()[..16])
}

/// A tombstone for the alert's key.
pub(super) fn tombstone(labels: &Labels) -> Emission {
    Emission {
        fingerprint: fingerprint(labels),
        kind: EmissionKind::Forgotten,
        value: None,
        headers: Vec::new(),
    }
}

/// Writes a message.
pub(super) fn emit(message: &Message<'_>, moment: &Moment) -> Emission {
    let fingerprint = fingerprint(message.labels);
    let rule = match message.definition {
        Definition::Rule(rule) => Some(rule),
        _ => None,
    };
    let resolved = message.kind == EmissionKind::Resolved;
    let wire = WireAlert {
        labels: message.labels,
        annotations: annotations(message),
        starts_at: message.starts.to_rfc3339(),
        ends_at: message.ends.to_rfc3339(),
        status: if resolved { "resolved" } else { "firing" },
        schema: "blotter.alert/1",
        fingerprint: fingerprint.to_string(),
        episode: message.episode,
        seq: message.seq,
        reason: if message.first { "transition" } else { "refresh" },
        rule: message.name,
        window_seconds: rule.map(|rule| rule.window_ms / 1_000),
        value: message.reading.map(|reading| reading.value),
        threshold: rule.map(|rule| rule.threshold),
        numerator: message.reading.map(|reading| reading.numerator),
        samples: message.reading.map(|reading| reading.samples),
        kafka: WirePlace {
            topic: &moment.topic,
            partition: moment.partition,
            offset: moment.offset,
        },
    };
    let value = serde_json::to_vec(&wire).expect("strings and finite numbers always serialise");
    let label = |name: &str| message.labels.get(name).map_or("", String::as_str);
    let headers = vec![
        ("ce_specversion", "1.0".to_owned()),
        ("ce_type", message.kind.event_type().to_owned()),
        ("ce_source", "/blotter".to_owned()),
        ("ce_id", format!("{}-{}", message.episode, message.seq)),
        ("ce_time", moment.now.to_rfc3339()),
        ("ce_subject", format!("{}/{}", label("tenant"), label("service"))),
        ("content-type", "application/json".to_owned()),
    ];
    Emission { fingerprint, kind: message.kind, value: Some(value), headers }
}

#[derive(Serialize)]
struct WireAlert<'a> {
    labels: &'a Labels,
    annotations: BTreeMap<&'static str, String>,
    #[serde(rename = "startsAt")]
    starts_at: String,
    #[serde(rename = "endsAt")]
    ends_at: String,
    status: &'static str,
    schema: &'static str,
    fingerprint: String,
    episode: &'a str,
    seq: u32,
    reason: &'static str,
    rule: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    numerator: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    samples: Option<u32>,
    kafka: WirePlace<'a>,
}

#[derive(Serialize)]
struct WirePlace<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
}

fn annotations(message: &Message<'_>) -> BTreeMap<&'static str, String> {
    let mut annotations = BTreeMap::new();
    match message.definition {
        Definition::Rule(rule) => {
            let reading = message.reading.unwrap_or_default();
            annotations.insert("summary", summary(rule, &reading));
            if let Some(runbook) = &rule.runbook {
                annotations.insert("runbook_url", runbook.clone());
            }
            if let Some(channel) = &rule.channel {
                annotations.insert("channel", channel.clone());
            }
        }
        Definition::System(alert) => drop(annotations.insert("summary", alert.summary.to_owned())),
        Definition::Gone => {
            annotations.insert("summary", "The rule of this alert is no longer there".to_owned());
        }
    }
    annotations
}

/// One sentence such as `12.0% of records are errors over 5m (limit 5.0%): 120 of 1000`.
fn summary(rule: &Rule, reading: &Reading) -> String {
    let window = format_duration(rule.window_ms);
    let words = |name: &str| name.replace('_', " ");
    match rule.measure {
        Measure::Ratio { of, per } => format!(
            "{:.1}% of {} are {} over {window} (limit {:.1}%): {} of {}",
            reading.value * 100.0,
            words(per.name()),
            words(of.name()),
            rule.threshold * 100.0,
            reading.numerator,
            reading.samples,
        ),
        Measure::Rate(signal) => format!(
            "{:.2} {} per second over {window} (limit {}): {} in all",
            reading.value,
            words(signal.name()),
            rule.threshold,
            reading.numerator,
        ),
    }
}

/// `text` with control characters as `\u{..}` and the backslash doubled.
fn label_value(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => value.push_str("\\\\"),
            c if c.is_control() => value.extend(c.escape_unicode()),
            c => value.push(c),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::pipeline::alert::Rules;
    use crate::pipeline::record::TenantId;

    #[test]
    fn the_fingerprint_is_alertmanagers() {
        let print = |labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
            fingerprint(&labels.collect()).to_string()
        };
        let labels = [
            ("severity", "critical"),
            ("sev", "SEV-1"),
            ("tenant", "salon-0001"),
            ("service", "booking-api"),
            ("source", "blotter"),
            ("alertname", "ErrorRateHigh"),
        ];
        // What Alertmanager 0.25 answered on /api/v2/alerts for these labels.
        assert_eq!(print(&labels), "10e7ddbdd6753847");
        let tenant = label_value("\u{e9}\u{1}\\");
        let hostile = [("alertname", "X"), ("tenant", tenant.as_str()), ("source", "blotter")];
        assert_eq!(print(&hostile), "a4f6951c700172c5");
    }

    proptest! {
        #[test]
        fn labels_are_valid_whatever_the_tenant_is_called(
            tenant in "\\PC{0,8}[\\x00-\\x1f\\\\\\u{85}]{0,4}.{1,8}",
            service in ".{0,8}",
        ) {
            let rules = Rules::default();
            let rule = rules.by_name("ErrorRateHigh").unwrap();
            let scope = Scope::Tenant(TenantId::new(&tenant).unwrap());
            let group = Group { scope, service: Some(Arc::from(service.as_str())) };
            let labels = labels_of(Definition::Rule(rule), &rule.name, &group, 0);
            for (name, value) in &labels {
                prop_assert!(name.bytes().all(|b| b.is_ascii_lowercase()));
                prop_assert!(!value.is_empty() && !value.chars().any(char::is_control));
            }
        }
    }

    #[test]
    fn hostile_tenants_get_labels_of_their_own() {
        let values = ["\u{1}", "\\u{1}", "\\\u{1}", "\u{2}", "\\"].map(label_value);
        assert_eq!(values.iter().collect::<HashSet<_>>().len(), values.len());
    }

    #[test]
    fn the_message_is_an_alertmanager_alert_with_our_fields_beside_it() {
        let rules = Rules::default();
        let rule = rules.by_name("ErrorRateHigh").unwrap();
        let scope = Scope::Tenant(TenantId::new("salon-0001").unwrap());
        let group = Group { scope, service: Some(Arc::from("booking-api")) };
        let definition = Definition::Rule(rule);
        let labels = labels_of(definition, &rule.name, &group, 3);
        let moment = Moment {
            now: Timestamp::from_millis(1_763_661_780_000),
            watermark: None,
            topic: Arc::from("blotter.measures"),
            partition: 3,
            offset: 42,
            held: false,
        };
        let message = Message {
            name: &rule.name,
            definition,
            labels: &labels,
            reading: Some(Reading { value: 0.12, numerator: 120, samples: 1_000 }),
            kind: EmissionKind::Firing,
            first: true,
            starts: moment.now,
            ends: moment.now.plus_millis(240_000),
            episode: "e",
            seq: 1,
        };
        let emission = emit(&message, &moment);
        assert_eq!(
            String::from_utf8(emission.value.unwrap()).unwrap(),
            concat!(
                r#"{"labels":{"alertname":"ErrorRateHigh","service":"booking-api","sev":"SEV-2","#,
                r#""severity":"warning","source":"blotter","tenant":"salon-0001"},"#,
                r#""annotations":{"summary":"12.0% of records are errors over 5m (limit 5.0%): 120 of 1000"},"#,
                r#""startsAt":"2025-11-20T18:03:00.000Z","endsAt":"2025-11-20T18:07:00.000Z","#,
                r#""status":"firing","schema":"blotter.alert/1","fingerprint":"30bc80281654bd9b","#,
                r#""episode":"e","seq":1,"reason":"transition","rule":"ErrorRateHigh","#,
                r#""window_seconds":300,"value":0.12,"threshold":0.05,"numerator":120,"samples":1000,"#,
                r#""kafka":{"topic":"blotter.measures","partition":3,"offset":42}}"#
            )
        );
        let header = |name| emission.headers.iter().find(|h| h.0 == name).unwrap().1.as_str();
        assert_eq!(header("ce_id"), "e-1");
        assert_eq!(header("ce_type"), "blotter.alert.firing");
        assert_eq!(header("ce_subject"), "salon-0001/booking-api");
    }
}

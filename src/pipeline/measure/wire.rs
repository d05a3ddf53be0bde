//! The records of the measures topic: encoding and decoding. FORMAT.md describes them.

use std::borrow::Cow;
use std::fmt;

use data_encoding::HEXLOWER;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::series::{Scope, Series};
use super::signal::{Bucket, Counts, SIGNALS, SessionTag, Signal};
use crate::pipeline::record::{Timestamp, TopicPartition};

/// Version of every record written here.
const MEASURE_VERSION: u32 = 1;

/// One record of the measures topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MeasureRecord {
    /// What a SCRUB transaction counted for the tenants of this partition.
    Deltas {
        /// Additive counts.
        deltas: Vec<Delta>,
        /// Sessions seen.
        sessions: Vec<SessionFact>,
    },
    /// How far source partitions have been read.
    Marks(Vec<Mark>),
    /// The partition's owner says what its clock shows.
    Tick {
        /// The owner's clock.
        clock: Timestamp,
    },
}

/// Counts of one series in one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// Whose.
    pub series: Series,
    /// When; `None` for what a cap left without a time (counted as late).
    pub bucket: Option<Bucket>,
    /// How many.
    pub counts: Counts,
}

/// A session seen in a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFact {
    /// Whose.
    pub scope: Scope,
    /// The session's keyed tag.
    pub tag: SessionTag,
    /// Event time of its earliest record in the transaction.
    pub seen: Timestamp,
    /// Event time of its earliest handover in the transaction.
    pub handed_over: Option<Timestamp>,
}

/// How far a source partition has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The source partition.
    pub source: TopicPartition,
    /// The highest event time read, if any was.
    pub watermark: Option<Timestamp>,
    /// Whether it has been read to its end.
    pub caught_up: bool,
}

/// A record of the measures topic that can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeasureError {
    /// Not the JSON this version writes.
    #[error("measure record is malformed")]
    Malformed,
    /// Written by another version.
    #[error("measure record has a version or kind this build does not know")]
    Unknown,
}

impl MeasureError {
    /// A bounded word for labels.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unknown => "unknown_version",
        }
    }
}

impl MeasureRecord {
    /// The record as compact JSON.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut wire = Wire { v: MEASURE_VERSION, ..Wire::default() };
        match self {
            Self::Deltas { deltas, sessions } => {
                wire.k = Cow::Borrowed("delta");
                wire.d = deltas.iter().map(encode_delta).collect();
                wire.s = sessions.iter().map(encode_session).collect();
            }
            Self::Marks(marks) => {
                wire.k = Cow::Borrowed("mark");
                wire.m = marks.iter().map(encode_mark).collect();
            }
            Self::Tick { clock } => {
                wire.k = Cow::Borrowed("tick");
                wire.c = Some(clock.millis());
            }
        }
        serde_json::to_vec(&wire).expect("strings, numbers and lists always serialise")
    }

    /// The record in `value`.
    ///
    /// # Errors
    /// When it is malformed, or of a version or kind this build doesn't know.
    pub fn decode(value: &[u8]) -> Result<Self, MeasureError> {
        let wire: Wire<'_> =
            serde_json::from_slice(value).map_err(|_ignored| MeasureError::Malformed)?;
        if wire.v != MEASURE_VERSION {
            return Err(MeasureError::Unknown);
        }
        match wire.k.as_ref() {
            "delta" => {
                let deltas = wire.d.iter().map(decode_delta).collect::<Option<_>>();
                let sessions = wire.s.iter().map(decode_session).collect::<Option<_>>();
                deltas
                    .zip(sessions)
                    .map(|(deltas, sessions)| Self::Deltas { deltas, sessions })
                    .ok_or(MeasureError::Malformed)
            }
            "mark" => Ok(Self::Marks(wire.m.into_iter().map(decode_mark).collect())),
            "tick" => {
                let clock = wire.c.ok_or(MeasureError::Malformed)?;
                Ok(Self::Tick { clock: Timestamp::from_millis(clock) })
            }
            _ => Err(MeasureError::Unknown),
        }
    }
}

/// Every kind in one shape: absent lists are empty, unknown fields are passed over.
#[derive(Default, Serialize, Deserialize)]
struct Wire<'a> {
    v: u32,
    #[serde(borrow)]
    k: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    d: Vec<WireDelta<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    s: Vec<WireSession<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    m: Vec<WireMark<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    c: Option<i64>,
}

/// Scope, service, bucket, counts by signal.
#[derive(Serialize, Deserialize)]
struct WireDelta<'a>(
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    Option<i64>,
    Counts,
);

/// Scope, tag, seen, handed over.
#[derive(Serialize, Deserialize)]
struct WireSession<'a>(
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    i64,
    Option<i64>,
);

/// Topic, partition, watermark, caught up.
#[derive(Serialize, Deserialize)]
struct WireMark<'a>(#[serde(borrow)] Cow<'a, str>, i32, Option<i64>, bool);

fn encode_delta(delta: &Delta) -> WireDelta<'_> {
    WireDelta(
        delta.series.scope.text(),
        Cow::Borrowed(&delta.series.service),
        delta.bucket.map(|bucket| bucket.0),
        delta.counts,
    )
}

fn decode_delta(wire: &WireDelta<'_>) -> Option<Delta> {
    let series = Series::new(Scope::parse(&wire.0)?, wire.1.as_ref());
    Some(Delta { series, bucket: wire.2.map(Bucket), counts: wire.3 })
}

fn encode_session(fact: &SessionFact) -> WireSession<'_> {
    WireSession(
        fact.scope.text(),
        Cow::Owned(fact.tag.to_hex()),
        fact.seen.millis(),
        fact.handed_over.map(Timestamp::millis),
    )
}

fn decode_session(wire: &WireSession<'_>) -> Option<SessionFact> {
    Some(SessionFact {
        scope: Scope::parse(&wire.0)?,
        tag: SessionTag::from_hex(&wire.1)?,
        seen: Timestamp::from_millis(wire.2),
        handed_over: wire.3.map(Timestamp::from_millis),
    })
}

fn encode_mark(mark: &Mark) -> WireMark<'_> {
    WireMark(
        Cow::Borrowed(&mark.source.topic),
        mark.source.partition,
        mark.watermark.map(Timestamp::millis),
        mark.caught_up,
    )
}

fn decode_mark(wire: WireMark<'_>) -> Mark {
    Mark {
        source: TopicPartition::new(wire.0.as_ref(), wire.1),
        watermark: wire.2.map(Timestamp::from_millis),
        caught_up: wire.3,
    }
}

impl SessionTag {
    /// The tag as 32 hexadecimal digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// The tag [`SessionTag::to_hex`] wrote.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

/// The counts above zero, in the order of the signals' names.
impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut named: Vec<_> = self.iter().map(|(signal, count)| (signal.name(), count)).collect();
        named.sort_unstable();
        serializer.collect_map(named)
    }
}

/// The counts of the signals this build knows; a newer writer's others are passed over. Of a name
/// that stands twice the last counts.
impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(CountsVisitor)
    }
}

struct CountsVisitor;

impl<'de> Visitor<'de> for CountsVisitor {
    type Value = Counts;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("counts by signal")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Counts, A::Error> {
        let mut read = [0; SIGNALS.len()];
        while let Some((Name(signal), count)) = map.next_entry::<_, u32>()? {
            if let Some(signal) = signal {
                read[signal as usize] = count;
            }
        }
        let mut counts = Counts::default();
        SIGNALS.iter().zip(read).for_each(|(row, count)| counts.add(row.signal, count));
        Ok(counts)
    }
}

/// The signal of a name, if this build knows it.
struct Name(Option<Signal>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl Visitor<'_> for NameVisitor {
    type Value = Name;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a signal's name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Name, E> {
        Ok(Name(Signal::by_name(name)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pipeline::record::TenantId;

    fn scope() -> impl Strategy<Value = Scope> {
        prop_oneof![
            Just(Scope::All),
            Just(Scope::None),
            Just(Scope::Other),
            "[_ab\u{0}\u{e9}\"]{1,20}".prop_map(|id| Scope::Tenant(TenantId::new(&id).unwrap())),
        ]
    }

    fn counts() -> impl Strategy<Value = Counts> {
        prop::collection::vec((0..SIGNALS.len(), any::<u32>()), 0..4).prop_map(|pairs| {
            let mut counts = Counts::default();
            for (index, count) in pairs {
                counts.add(SIGNALS[index].signal, count);
            }
            counts
        })
    }

    fn delta() -> impl Strategy<Value = Delta> {
        (scope(), ".{0,12}", proptest::option::of(any::<i64>()), counts()).prop_map(
            |(scope, service, bucket, counts)| Delta {
                series: Series::new(scope, service),
                bucket: bucket.map(Bucket),
                counts,
            },
        )
    }

    fn session() -> impl Strategy<Value = SessionFact> {
        (scope(), any::<[u8; 16]>(), any::<i64>(), proptest::option::of(any::<i64>())).prop_map(
            |(scope, tag, seen, handed_over)| SessionFact {
                scope,
                tag: SessionTag(tag),
                seen: Timestamp::from_millis(seen),
                handed_over: handed_over.map(Timestamp::from_millis),
            },
        )
    }

    fn mark() -> impl Strategy<Value = Mark> {
        (".{0,12}", any::<i32>(), proptest::option::of(any::<i64>()), any::<bool>()).prop_map(
            |(topic, partition, watermark, caught_up)| Mark {
                source: TopicPartition::new(topic, partition),
                watermark: watermark.map(Timestamp::from_millis),
                caught_up,
            },
        )
    }

    fn record() -> impl Strategy<Value = MeasureRecord> {
        prop_oneof![
            (prop::collection::vec(delta(), 0..4), prop::collection::vec(session(), 0..4))
                .prop_map(|(deltas, sessions)| MeasureRecord::Deltas { deltas, sessions }),
            prop::collection::vec(mark(), 0..4).prop_map(MeasureRecord::Marks),
            any::<i64>()
                .prop_map(|clock| MeasureRecord::Tick { clock: Timestamp::from_millis(clock) }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(record in record()) {
            prop_assert_eq!(MeasureRecord::decode(&record.encode()), Ok(record));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ignored = MeasureRecord::decode(&bytes);
        }
    }

    #[test]
    fn the_form_is_the_documented_one() {
        let mut counts = Counts::default();
        counts.add(Signal::Records, 12);
        counts.add(Signal::Errors, 3);
        let tenant = Scope::Tenant(TenantId::new("salon-1").unwrap());
        let record = MeasureRecord::Deltas {
            deltas: vec![Delta {
                series: Series::new(tenant.clone(), "booking"),
                bucket: Some(Bucket(176_000_000)),
                counts,
            }],
            sessions: vec![SessionFact {
                scope: tenant,
                tag: SessionTag([0xab; 16]),
                seen: Timestamp::from_millis(1_760_000_000_123),
                handed_over: None,
            }],
        };
        assert_eq!(
            String::from_utf8(record.encode()).unwrap(),
            concat!(
                r#"{"v":1,"k":"delta","d":[["salon-1","booking",176000000,{"errors":3,"records":12}]],"#,
                r#""s":[["salon-1","abababababababababababababababab",1760000000123,null]]}"#
            )
        );
        let mark = br#"{"v":1,"k":"mark","m":[["app.logs",3,null,true]]}"#;
        assert_eq!(MeasureRecord::decode(mark).unwrap().encode(), mark);
        let tick = br#"{"v":1,"k":"tick","c":5}"#;
        assert_eq!(MeasureRecord::decode(tick).unwrap().encode(), tick);
    }

    #[test]
    fn other_versions_and_kinds_are_told_from_damage() {
        let unknown = Err(MeasureError::Unknown);
        assert_eq!(MeasureRecord::decode(br#"{"v":2,"k":"delta"}"#), unknown);
        assert_eq!(MeasureRecord::decode(br#"{"v":1,"k":"later","x":[1]}"#), unknown);
        let malformed = Err(MeasureError::Malformed);
        assert_eq!(MeasureRecord::decode(b"{}"), malformed);
        assert_eq!(MeasureRecord::decode(br#"{"v":1,"k":"tick"}"#), malformed);
        let newer = br#"{"v":1,"k":"delta","d":[["t","s",1,{"later":4,"turns":1}]],"z":0}"#;
        let MeasureRecord::Deltas { deltas, .. } = MeasureRecord::decode(newer).unwrap() else {
            panic!("a delta record");
        };
        assert_eq!(deltas[0].counts.of(Signal::Turns), 1);
        let twice = br#"{"v":1,"k":"delta","d":[["t","s",1,{"turns":1,"turns":2}]]}"#;
        let MeasureRecord::Deltas { deltas, .. } = MeasureRecord::decode(twice).unwrap() else {
            panic!("a delta record");
        };
        assert_eq!(deltas[0].counts.of(Signal::Turns), 2);
    }
}

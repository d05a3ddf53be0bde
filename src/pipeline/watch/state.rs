//! The records of the state topic: everything a measures partition remembers, one small record per
//! thing, so that a transaction writes only what it changed. FORMAT.md describes them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::board::Board;
use crate::pipeline::alert::{Group, Instance, InstanceKey, StormState};
use crate::pipeline::measure::{
    Bucket, Clock, Counts, Scope, Series, Session, SessionTag, SourceMark,
};
use crate::pipeline::record::{Timestamp, TopicPartition};

const STATE_VERSION: u32 = 1;

/// Which thing a state record is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StateKey {
    /// One series in one bucket.
    Bucket(Series, Bucket),
    /// One session.
    Session(Scope, SessionTag),
    /// One alert.
    Alert(InstanceKey),
    /// What one source partition last said.
    Source(TopicPartition),
    /// The position in the measures partition, and what there is only one of.
    Position,
}

/// What there is only one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Offset of the next measure record.
    pub(super) position: i64,
    /// `now` and what it is held against.
    pub(super) clock: Clock,
    /// The event time W.
    pub(super) watermark_ms: Option<i64>,
    /// Whether transitions were held.
    pub(super) held: bool,
    /// The buckets of `now` and W at the last sweep.
    pub(super) swept: Option<(i64, Option<i64>)>,
    /// The storm cap.
    pub(super) storm: StormState,
    /// An operator set it: the group's offset need not agree with it, this once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) reset: bool,
}

/// A state record this build can't read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("state record is malformed or of an unknown version")]
pub(super) struct StateError;

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    v: u32,
    #[serde(rename = "x")]
    content: T,
}

#[derive(Serialize, Deserialize)]
struct WireSession {
    #[serde(rename = "t")]
    known_since_ms: i64,
    #[serde(rename = "h")]
    handed_over: bool,
}

impl StateKey {
    /// The key as a JSON array: kind first.
    pub(super) fn encode(&self) -> Vec<u8> {
        let json = match self {
            Self::Bucket(series, bucket) => {
                serde_json::to_vec(&("b", series.scope.text(), &*series.service, bucket.0))
            }
            Self::Session(scope, tag) => serde_json::to_vec(&("s", scope.text(), tag.to_hex())),
            Self::Alert(InstanceKey { rule, group }) => {
                let service = group.service.as_deref();
                serde_json::to_vec(&("a", &**rule, group.scope.text(), service))
            }
            Self::Source(source) => serde_json::to_vec(&("m", &*source.topic, source.partition)),
            Self::Position => serde_json::to_vec(&("p",)),
        };
        json.expect("strings and numbers always serialise")
    }

    /// The key in `bytes`.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let parts: Vec<serde_json::Value> =
            serde_json::from_slice(bytes).map_err(|_ignored| StateError)?;
        let text = |index: usize| parts.get(index).and_then(|part| part.as_str());
        let number = |index: usize| parts.get(index).and_then(serde_json::Value::as_i64);
        let key = || {
            Some(match (text(0)?, parts.len()) {
                ("b", 4) => {
                    Self::Bucket(Series::new(Scope::parse(text(1)?)?, text(2)?), Bucket(number(3)?))
                }
                ("s", 3) => Self::Session(Scope::parse(text(1)?)?, SessionTag::from_hex(text(2)?)?),
                ("a", 4) => Self::Alert(InstanceKey {
                    rule: Arc::from(text(1)?),
                    group: Group {
                        scope: Scope::parse(text(2)?)?,
                        service: if parts.get(3)?.is_null() {
                            None
                        } else {
                            Some(Arc::from(text(3)?))
                        },
                    },
                }),
                ("m", 3) => {
                    Self::Source(TopicPartition::new(text(1)?, i32::try_from(number(2)?).ok()?))
                }
                ("p", 1) => Self::Position,
                _ => return None,
            })
        };
        key().ok_or(StateError)
    }
}

/// What `board` holds under `key`, encoded; `None` is a tombstone.
pub(super) fn value_of(board: &Board, key: &StateKey) -> Option<Vec<u8>> {
    match key {
        StateKey::Bucket(series, bucket) => board.table.bucket(series, *bucket).map(encode),
        StateKey::Session(scope, tag) => board.sessions.session(scope, *tag).map(|session| {
            encode(WireSession {
                known_since_ms: session.known_since.millis(),
                handed_over: session.handed_over,
            })
        }),
        StateKey::Alert(key) => board.alerts.instance(key).map(encode),
        StateKey::Source(source) => board.event_time.source(source).map(encode),
        StateKey::Position => Some(encode(board.position_record())),
    }
}

/// Puts one state record back; gives the position when it is that.
pub(super) fn restore_into(
    board: &mut Board,
    key: &[u8],
    value: Option<&[u8]>,
) -> Result<Option<Position>, StateError> {
    match StateKey::decode(key)? {
        StateKey::Bucket(series, bucket) => {
            let counts = value.map(decode::<Counts>).transpose()?;
            board.table.restore(&series, bucket, counts);
        }
        StateKey::Session(scope, tag) => {
            let session = value.map(decode::<WireSession>).transpose()?.map(|wire| Session {
                known_since: Timestamp::from_millis(wire.known_since_ms),
                handed_over: wire.handed_over,
            });
            board.sessions.restore(&scope, tag, session);
        }
        StateKey::Alert(key) => {
            let instance = value.map(decode::<Instance>).transpose()?;
            board.alerts.restore(key, instance);
        }
        StateKey::Source(source) => {
            let mark = value.map(decode::<SourceMark>).transpose()?;
            board.event_time.restore_source(source, mark);
        }
        StateKey::Position => return value.map(decode).transpose(),
    }
    Ok(None)
}

/// A position, stored by hand.
pub(super) fn encode_position(position: Position) -> Vec<u8> {
    encode(position)
}

fn encode(content: impl Serialize) -> Vec<u8> {
    serde_json::to_vec(&Versioned { v: STATE_VERSION, content })
        .expect("strings, numbers and lists always serialise")
}

fn decode<T: serde::de::DeserializeOwned>(value: &[u8]) -> Result<T, StateError> {
    let versioned: Versioned<T> = serde_json::from_slice(value).map_err(|_ignored| StateError)?;
    if versioned.v == STATE_VERSION { Ok(versioned.content) } else { Err(StateError) }
}

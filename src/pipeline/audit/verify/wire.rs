//! The bodies the verifier looks into, read strictly: a field more, less or twice is an error.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::super::chain::ChainHead;
use super::super::commitment::ShortCommitment;
use super::super::entry::{
    Assurance, Disposition, GapReason, RecoveryReason, ShortPolicyHash, StartKind, Word, is_count,
};
use super::super::json::{read_base64, read_hex};
use super::super::keys::{Certificate, KeyringId, PublicKey, Signature};
use super::super::merkle::Hash;
use super::super::seal::Fates;
use super::GenesisFacts;

/// A seal, decoded.
pub(super) struct Seal<'a> {
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) fates: Fates,
    pub(super) actions: u64,
    pub(super) redactions: u64,
    pub(super) root: Hash,
    pub(super) last: Option<ShortCommitment>,
    pub(super) policy: ShortPolicyHash,
    pub(super) at: i64,
    pub(super) key: &'a str,
    pub(super) signature: Signature,
}

impl<'a> Seal<'a> {
    pub(super) fn read(entry: &'a [u8]) -> Option<Self> {
        let wire: SealWire<'_> = serde_json::from_slice(entry).ok()?;
        let [forwarded, dead_lettered, commands] = wire.fates;
        let last = match wire.last {
            "" => None,
            text => Some(ShortCommitment(read_base64(text)?)),
        };
        Some(Self {
            from: wire.from,
            to: wire.to,
            fates: Fates { forwarded, dead_lettered, commands },
            actions: wire.entries[0],
            redactions: wire.entries[1],
            root: read_base64(wire.root)?,
            last,
            policy: ShortPolicyHash::parse(wire.policy)?,
            at: wire.at,
            key: wire.key,
            signature: read_base64(wire.sig)?,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "chain fields and names are read, to refuse anything else, not used")]
struct SealWire<'a> {
    v: u8,
    k: &'a str,
    seq: &'a str,
    prev: &'a str,
    from: i64,
    to: i64,
    fates: [u64; 3],
    entries: [u64; 2],
    root: &'a str,
    last: &'a str,
    policy: &'a str,
    at: i64,
    inst: &'a str,
    key: &'a str,
    sig: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "all fields are read, to refuse anything else, not all are used")]
pub(super) struct GenesisWire<'a> {
    v: u8,
    k: &'a str,
    seq: &'a str,
    prev: &'a str,
    pub(super) origin: &'a str,
    #[serde(deserialize_with = "word")]
    start: StartKind,
    #[serde(default, deserialize_with = "present")]
    start_time: Option<i64>,
    pub(super) offset: i64,
    partitions: i32,
    keyring: &'a str,
    pub(super) key: &'a str,
    pub(super) cert: &'a str,
    pub(super) policy: &'a str,
    #[serde(default, borrow, deserialize_with = "present")]
    after: Option<AfterWire<'a>>,
}

impl<'a> GenesisWire<'a> {
    pub(super) fn read(entry: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(entry).ok()
    }

    pub(super) fn facts(&self) -> Option<GenesisFacts> {
        let (_, incarnation) = self.origin.rsplit_once('/')?;
        if matches!(self.start, StartKind::Time(_)) != self.start_time.is_some() {
            return None;
        }
        let after = match &self.after {
            None => None,
            Some(after) => Some(ChainHead {
                seq: after.seq.parse().ok()?,
                leaf: read_hex(after.leaf.as_bytes())?,
            }),
        };
        Some(GenesisFacts {
            incarnation: incarnation.parse().ok()?,
            offset: self.offset,
            after,
            keyring: KeyringId::parse(self.keyring)?,
            partitions: self.partitions,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AfterWire<'a> {
    seq: &'a str,
    leaf: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "all fields are read, to refuse anything else, not all are used")]
pub(super) struct GapWire<'a> {
    v: u8,
    k: &'a str,
    seq: &'a str,
    prev: &'a str,
    pub(super) from: i64,
    pub(super) to: i64,
    #[serde(deserialize_with = "word")]
    reason: GapReason,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "all fields are read, to refuse anything else, not all are used")]
pub(super) struct RecoveryWire<'a> {
    v: u8,
    k: &'a str,
    seq: &'a str,
    prev: &'a str,
    #[serde(deserialize_with = "word")]
    reason: RecoveryReason,
    pub(super) position: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "all fields are read, to refuse anything else, not all are used")]
pub(super) struct RotateWire<'a> {
    v: u8,
    k: &'a str,
    seq: &'a str,
    prev: &'a str,
    pub(super) key: &'a str,
    pub(super) cert: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "all fields are read, to refuse anything else, not all are used")]
pub(super) struct PolicyWire<'a> {
    v: u8,
    k: &'a str,
    seq: &'a str,
    prev: &'a str,
    pub(super) hash: &'a str,
    /// Null is a value, absence is a fault.
    #[serde(deserialize_with = "Option::deserialize")]
    loosened: Option<bool>,
    #[serde(borrow)]
    pub(super) policy: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "all fields are read, to refuse anything else, not all are used")]
pub(super) struct ShredWire<'a> {
    v: u8,
    k: &'a str,
    seq: &'a str,
    prev: &'a str,
    // Owned, as every text is that may hold escapes.
    key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "all fields are read, to refuse anything else, not all are used")]
pub(super) struct EndWire<'a> {
    v: u8,
    k: &'a str,
    seq: &'a str,
    prev: &'a str,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "all fields are read, to refuse anything else, not all are used")]
pub(super) struct ActionWire<'a> {
    v: u8,
    k: &'a str,
    seq: &'a str,
    prev: &'a str,
    pub(super) src: SourceWire,
    src_ts: i64,
    #[serde(default, deserialize_with = "present")]
    time: Option<i64>,
    #[serde(default, deserialize_with = "present")]
    tenant: Option<TenantWire>,
    #[serde(default, deserialize_with = "present")]
    actor: Option<ActorWire>,
    action: String,
    #[serde(default, deserialize_with = "present")]
    object: Option<String>,
    #[serde(default, deserialize_with = "present")]
    outcome: Option<String>,
    #[serde(default, deserialize_with = "present")]
    reason: Option<String>,
    #[serde(default, deserialize_with = "present")]
    service: Option<String>,
    #[serde(deserialize_with = "commitment")]
    raw: Hash,
    #[serde(deserialize_with = "counts")]
    counts: (),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "all fields are read, to refuse anything else, not all are used")]
pub(super) struct RedactionWire<'a> {
    v: u8,
    k: &'a str,
    seq: &'a str,
    prev: &'a str,
    pub(super) src: SourceWire,
    src_ts: i64,
    #[serde(default, deserialize_with = "present")]
    tenant: Option<TenantWire>,
    pub(super) policy: &'a str,
    #[serde(deserialize_with = "word")]
    disposition: Disposition,
    #[serde(deserialize_with = "commitment")]
    raw: Hash,
    #[serde(deserialize_with = "commitment")]
    redacted: Hash,
    #[serde(deserialize_with = "counts")]
    counts: (),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "all fields are read, to refuse anything else, not all are used")]
pub(super) struct SourceWire {
    topic: String,
    partition: i32,
    pub(super) offset: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read to refuse anything else")]
struct TenantWire {
    id: String,
    #[serde(deserialize_with = "word")]
    is: Assurance,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read to refuse anything else")]
struct ActorWire {
    id: String,
    #[serde(rename = "type", default, deserialize_with = "present")]
    kind: Option<String>,
    #[serde(deserialize_with = "word")]
    is: Assurance,
}

/// Surface, kind and number of each line; only the words are of interest.
fn counts<'de, D: Deserializer<'de>>(from: D) -> Result<(), D::Error> {
    let lines: Vec<(&str, &str, u64)> = Vec::deserialize(from)?;
    let is_known = lines.iter().all(|(surface, kind, _)| is_count(surface, kind));
    is_known.then_some(()).ok_or_else(|| D::Error::custom("another surface or kind"))
}

/// A field that may be absent, but not null.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

fn word<'de, D: Deserializer<'de>, T: Word>(from: D) -> Result<T, D::Error> {
    T::of(<&str>::deserialize(from)?).ok_or_else(|| D::Error::custom("another word"))
}

fn commitment<'de, D: Deserializer<'de>>(from: D) -> Result<Hash, D::Error> {
    read_base64(<&str>::deserialize(from)?).ok_or_else(|| D::Error::custom("not 32 bytes"))
}

/// The key and certificate of a genesis or rotate entry.
pub(super) fn certificate(key: &str, cert: &str) -> Option<Certificate> {
    Some(Certificate { key: PublicKey::parse(key)?, signature: read_base64(cert)? })
}

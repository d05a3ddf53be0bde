//! The bodies the verifier looks into, read strictly: a field more, less or twice is an error.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::chain::ChainHead;
use super::super::commitment::ShortCommitment;
use super::super::entry::ShortPolicyHash;
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
    start: &'a str,
    start_time: Option<i64>,
    pub(super) offset: i64,
    partitions: i32,
    keyring: &'a str,
    pub(super) key: &'a str,
    pub(super) cert: &'a str,
    pub(super) policy: &'a str,
    after: Option<AfterWire<'a>>,
}

impl<'a> GenesisWire<'a> {
    pub(super) fn read(entry: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(entry).ok()
    }

    pub(super) fn facts(&self) -> Option<GenesisFacts> {
        let (_, incarnation) = self.origin.rsplit_once('/')?;
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
    reason: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "all fields are read, to refuse anything else, not all are used")]
pub(super) struct RecoveryWire<'a> {
    v: u8,
    k: &'a str,
    seq: &'a str,
    prev: &'a str,
    reason: &'a str,
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

/// The key and certificate of a genesis or rotate entry.
pub(super) fn certificate(key: &str, cert: &str) -> Option<Certificate> {
    Some(Certificate { key: PublicKey::parse(key)?, signature: read_base64(cert)? })
}

//! The metadata string of a committed source offset: committed in the same transaction as the
//! entries, it tells the next owner of the partition which entry is the head.

use serde::{Deserialize, Serialize};

use super::super::limits::OFFSET_METADATA_BYTES_MAX;
use super::chain::ChainHead;
use super::json::{hex, read_base64, read_hex};
use super::keys::{Certificate, KeyId, KeyringId, PublicKey};

const VERSION: u32 = 1;

/// What is known about the audit offset at which the head was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredAt {
    /// There.
    Exact(i64),
    /// There or later (the delivery report came without an offset).
    AtLeast(i64),
}

impl StoredAt {
    /// Where to begin reading.
    #[must_use]
    pub fn offset(self) -> i64 {
        match self {
            Self::Exact(offset) | Self::AtLeast(offset) => offset,
        }
    }
}

/// The head of a chain (always a seal) and what is needed to check it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadRef {
    /// Which of the partition's chains.
    pub incarnation: u32,
    /// The seal.
    pub head: ChainHead,
    /// Where it is stored in the audit partition.
    pub stored: StoredAt,
    /// The key that signed it.
    pub signer: Certificate,
}

impl HeadRef {
    /// As one line of JSON, to go on verifying from later (the same fields as in the metadata).
    #[must_use]
    pub fn encode(&self) -> String {
        serde_json::to_string(&WireHead::of(self)).expect("plain fields serialise")
    }

    /// Reads what [`Self::encode`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str::<WireHead>(text).ok()?.read()
    }
}

/// Whether the transaction was audited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditState {
    /// It was; its last entry is the head.
    On(HeadRef),
    /// It was not; the head is of the last one that was, if any.
    Off(Option<HeadRef>),
}

/// All that a committed offset's metadata says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetMetadata {
    /// Transactions committed for this partition so far.
    pub transactions: u64,
    /// Partitions of the source topic when it was first read.
    pub partitions: i32,
    /// The keyring in use.
    pub keyring: KeyringId,
    /// The key of the commitments in the head.
    pub commitment_key: KeyId,
    /// The audit's state.
    pub audit: AuditState,
}

/// Why a metadata string can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// None was committed: a tool set the offset.
    #[error("the committed offset has no metadata")]
    Absent,
    /// Written by another version of blotter.
    #[error("the metadata has version {0}, this blotter knows {VERSION}")]
    UnknownVersion(u32),
    /// Anything else.
    #[error("the metadata is malformed: {0}")]
    Malformed(String),
}

impl OffsetMetadata {
    /// The string to commit; always below the limit, whatever the values.
    #[must_use]
    pub fn encode(&self) -> String {
        let (audit, head) = match self.audit {
            AuditState::On(head) => (Switch::On, Some(head)),
            AuditState::Off(head) => (Switch::Off, head),
        };
        let wire = Wire {
            v: VERSION,
            n: self.transactions,
            partitions: self.partitions,
            keyring: self.keyring.to_string(),
            commit: self.commitment_key.to_string(),
            audit,
            head: head.map(|head| WireHead::of(&head)),
        };
        let text = serde_json::to_string(&wire).expect("plain fields serialise");
        debug_assert!(text.len() <= OFFSET_METADATA_BYTES_MAX);
        text
    }

    /// Reads a committed string.
    ///
    /// # Errors
    /// Absent, of another version or malformed metadata; nothing is guessed.
    pub fn parse(text: &str) -> Result<Self, MetadataError> {
        if text.is_empty() {
            return Err(MetadataError::Absent);
        }
        let malformed = |error: serde_json::Error| MetadataError::Malformed(error.to_string());
        let version: WireVersion = serde_json::from_str(text).map_err(malformed)?;
        if version.v != VERSION {
            return Err(MetadataError::UnknownVersion(version.v));
        }
        let wire: Wire = serde_json::from_str(text).map_err(malformed)?;
        let field = |name: &str| MetadataError::Malformed(name.to_owned());
        let head = match &wire.head {
            None => None,
            Some(head) => Some(head.read().ok_or_else(|| field("head"))?),
        };
        let audit = match (wire.audit, head) {
            (Switch::On, Some(head)) => AuditState::On(head),
            (Switch::On, None) => return Err(field("head")),
            (Switch::Off, head) => AuditState::Off(head),
        };
        Ok(Self {
            transactions: wire.n,
            partitions: wire.partitions,
            keyring: KeyringId::parse(&wire.keyring).ok_or_else(|| field("keyring"))?,
            commitment_key: KeyId::parse(&wire.commit).ok_or_else(|| field("commit"))?,
            audit,
        })
    }
}

#[derive(Deserialize)]
struct WireVersion {
    v: u32,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Switch {
    On,
    Off,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    v: u32,
    n: u64,
    partitions: i32,
    keyring: String,
    commit: String,
    audit: Switch,
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<WireHead>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireHead {
    incarnation: u32,
    seq: u64,
    leaf: String,
    at: i64,
    exact: bool,
    key: String,
    cert: String,
}

impl WireHead {
    fn of(head: &HeadRef) -> Self {
        Self {
            incarnation: head.incarnation,
            seq: head.head.seq,
            leaf: hex(&head.head.leaf),
            at: head.stored.offset(),
            exact: matches!(head.stored, StoredAt::Exact(_)),
            key: head.signer.key.to_string(),
            cert: data_encoding::BASE64URL_NOPAD.encode(&head.signer.signature),
        }
    }

    fn read(&self) -> Option<HeadRef> {
        let stored = if self.exact { StoredAt::Exact(self.at) } else { StoredAt::AtLeast(self.at) };
        Some(HeadRef {
            incarnation: self.incarnation,
            head: ChainHead { seq: self.seq, leaf: read_hex(self.leaf.as_bytes())? },
            stored,
            signer: Certificate {
                key: PublicKey::parse(&self.key)?,
                signature: read_base64(&self.cert)?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Scene;
    use super::*;
    use proptest::prelude::*;

    fn metadata() -> impl Strategy<Value = OffsetMetadata> {
        let head = (any::<u32>(), any::<u64>(), any::<[u8; 32]>(), any::<i64>(), any::<bool>())
            .prop_map(|(incarnation, seq, leaf, offset, exact)| HeadRef {
                incarnation,
                head: ChainHead { seq, leaf },
                stored: if exact { StoredAt::Exact(offset) } else { StoredAt::AtLeast(offset) },
                signer: *Scene::new().sealer().key.certificate(),
            });
        let audit = prop_oneof![
            head.clone().prop_map(AuditState::On),
            proptest::option::of(head).prop_map(AuditState::Off),
        ];
        (any::<u64>(), any::<i32>(), any::<[u8; 8]>(), any::<[u8; 4]>(), audit).prop_map(
            |(transactions, partitions, keyring, commitment_key, audit)| OffsetMetadata {
                transactions,
                partitions,
                keyring: KeyringId::from_bytes(keyring),
                commitment_key: KeyId::from_bytes(commitment_key),
                audit,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(metadata in metadata()) {
            let text = metadata.encode();
            prop_assert!(text.len() <= OFFSET_METADATA_BYTES_MAX / 4, "{} bytes", text.len());
            prop_assert_eq!(OffsetMetadata::parse(&text), Ok(metadata));
            if let AuditState::On(head) = metadata.audit {
                prop_assert_eq!(HeadRef::parse(&head.encode()), Some(head));
            }
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = OffsetMetadata::parse(&text);
        }

        #[test]
        fn a_cut_text_is_refused(metadata in metadata(), cut in any::<prop::sample::Index>()) {
            let text = metadata.encode();
            let cut = cut.index(text.len());
            prop_assert!(OffsetMetadata::parse(&text[..cut]).is_err());
        }
    }

    #[test]
    fn absent_foreign_and_newer_metadata_are_told_apart() {
        assert_eq!(OffsetMetadata::parse(""), Err(MetadataError::Absent));
        assert_eq!(
            OffsetMetadata::parse("{\"v\":2,\"new\":1}"),
            Err(MetadataError::UnknownVersion(2))
        );
        let foreign = OffsetMetadata::parse("consumed by another tool");
        assert!(matches!(foreign, Err(MetadataError::Malformed(_))));
    }
}

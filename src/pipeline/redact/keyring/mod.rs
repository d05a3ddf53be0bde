//! Secret keys by tenant, kind and epoch: for tokens in the redacted stream, for tags of sessions
//! and for the commitments in seals.
//!
//! Keys are random, never derived: destroying one makes what was made with it unlinkable for good.
//! In a file ([`KeyringFile`]) they are wrapped; a [`Keyring`] holds them ready for use. An epoch
//! holds from its `not_before` to that of the next one, by the timestamp of the record.

mod file;

use std::collections::HashMap;
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::finding::EntityKind;
use super::token::EpochId;
use crate::pipeline::record::{TenantId, Timestamp};

pub use file::{KeyEncryptionKey, KeyringError, KeyringFile};

/// What a key is for. A key serves one kind only, so that an address and a number (or a token and
/// a commitment) can never be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// Tokens of e-mail addresses.
    Email,
    /// Tokens of phone numbers.
    Phone,
    /// Tokens of matches of extra patterns.
    Pattern,
    /// Tags of sessions in measures.
    Session,
    /// Commitments to the records a seal covers.
    Commit,
}

impl KeyKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Email, Self::Phone, Self::Pattern, Self::Session, Self::Commit];

    /// The lower-case name used in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Pattern => "pattern",
            Self::Session => "session",
            Self::Commit => "commit",
        }
    }

    /// From its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == text)
    }
}

impl From<EntityKind> for KeyKind {
    fn from(kind: EntityKind) -> Self {
        match kind {
            EntityKind::Email => Self::Email,
            EntityKind::Phone => Self::Phone,
            EntityKind::Custom(_) | EntityKind::Opaque => Self::Pattern,
        }
    }
}

/// The keys of one deployment, unwrapped.
pub struct Keyring {
    id: String,
    default: TenantKeys,
    tenants: HashMap<TenantId, TenantKeys>,
}

impl Keyring {
    /// The keyring's own id, as it stands in genesis entries: 16 hex digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key for a record of `tenant` with timestamp `at`. A tenant without keys of its own at that
    /// time gets the default key with its name in the MAC; [`Key::is_default`] tells, to be counted.
    ///
    /// # Errors
    /// [`KeyUnavailable::MissingEpoch`] when no epoch covers `at`, [`KeyUnavailable::Shredded`] when
    /// the one that does was destroyed.
    pub fn key<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        kind: KeyKind,
        at: Timestamp,
    ) -> Result<Key<'a>, KeyUnavailable> {
        let own = tenant.map_or(&[][..], |_| self.epochs(tenant, kind));
        let is_before_own =
            own.first().is_none_or(|first| first.id == EpochId::FIRST && at < first.not_before);
        let epochs = if is_before_own { self.epochs(None, kind) } else { own };
        let epoch = epochs.iter().rev().find(|epoch| epoch.not_before <= at);
        let missing = || MissingEpoch { tenant: tenant.cloned(), kind, at };
        let epoch = epoch.ok_or_else(|| KeyUnavailable::MissingEpoch(missing()))?;
        let mac = epoch.mac.as_ref().ok_or(KeyUnavailable::Shredded(epoch.id))?;
        let tenant_in_mac = if is_before_own { tenant } else { None };
        Ok(Key { epoch: epoch.id, mac, tenant_in_mac })
    }

    /// The default keys of `kind` that were not destroyed, each with the time from which it counts.
    pub fn default_keys(&self, kind: KeyKind) -> impl Iterator<Item = (Timestamp, Key<'_>)> {
        self.epochs(None, kind).iter().filter_map(|epoch| {
            let mac = epoch.mac.as_ref()?;
            Some((epoch.not_before, Key { epoch: epoch.id, mac, tenant_in_mac: None }))
        })
    }

    /// Whether `tenant` has keys of its own.
    #[must_use]
    pub fn has_tenant(&self, tenant: &TenantId) -> bool {
        self.tenants.contains_key(tenant)
    }

    fn epochs(&self, tenant: Option<&TenantId>, kind: KeyKind) -> &[Epoch] {
        let keys = match tenant {
            None => Some(&self.default),
            Some(tenant) => self.tenants.get(tenant),
        };
        keys.map_or(&[], |keys| &keys.by_kind[kind as usize])
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Keyring({}, {} tenants)", self.id, self.tenants.len())
    }
}

/// One key, ready for use.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    epoch: EpochId,
    mac: &'a Hmac<Sha256>,
    tenant_in_mac: Option<&'a TenantId>,
}

impl Key<'_> {
    /// The epoch the key belongs to.
    #[must_use]
    pub fn epoch(&self) -> EpochId {
        self.epoch
    }

    /// Whether a tenant without keys of its own was given the default one.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.tenant_in_mac.is_some()
    }

    /// HMAC-SHA256 (RFC 2104) over the tenant's name where the key is shared, and `bytes`.
    #[must_use]
    pub fn mac(&self, bytes: &[u8]) -> [u8; 32] {
        let mut mac = self.mac.clone();
        match self.tenant_in_mac {
            None => mac.update(&[0]),
            Some(tenant) => {
                let name = tenant.as_str().as_bytes();
                let length = u8::try_from(name.len()).expect("tenant ids have at most 128 bytes");
                mac.update(&[1, length]);
                mac.update(name);
            }
        }
        mac.update(bytes);
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for Key<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key(epoch {})", self.epoch)
    }
}

/// Why there is no key for a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyUnavailable {
    /// The partition must wait for the key file: any other answer would change at a replay.
    #[error(transparent)]
    MissingEpoch(#[from] MissingEpoch),
    /// Gone for good and on purpose: a placeholder takes the token's place.
    #[error("the key of epoch {0} was destroyed")]
    Shredded(EpochId),
}

/// No epoch covers a record's time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the keyring has no {} key {} for records of {}: restore the key file that covers it, or \
     create a keyring whose first epoch begins earlier",
    kind.name(),
    tenant.as_ref().map_or_else(|| "by default".to_owned(), |tenant| format!("of tenant {tenant}")),
    at.to_rfc3339()
)]
pub struct MissingEpoch {
    /// The record's tenant.
    pub tenant: Option<TenantId>,
    /// What the key would be for.
    pub kind: KeyKind,
    /// The record's timestamp.
    pub at: Timestamp,
}

#[derive(Default)]
struct TenantKeys {
    /// By kind, in rising order of `not_before`.
    by_kind: [Vec<Epoch>; KeyKind::ALL.len()],
}

struct Epoch {
    id: EpochId,
    not_before: Timestamp,
    /// `None` after shredding. The cached state of HMAC saves two of four compressions per token.
    mac: Option<Hmac<Sha256>>,
}

impl Epoch {
    fn new(id: EpochId, not_before: Timestamp, key: Option<&[u8; 32]>) -> Self {
        let mac = key.map(|key| {
            Hmac::new_from_slice(key.as_slice()).expect("HMAC takes keys of any length")
        });
        Self { id, not_before, mac }
    }
}

#[cfg(test)]
mod tests;

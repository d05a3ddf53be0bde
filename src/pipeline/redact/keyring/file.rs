//! The keyring as a file: JSON lines, keys wrapped with XChaCha20-Poly1305 (RFC 8439 with the
//! extended nonce of draft-irtf-cfrg-xchacha) under a key-encryption key that is kept elsewhere.
//!
//! ```text
//! {"blotter_keyring":1,"id":"5f0c...","check":"<base64>"}
//! {"tenant":null,"kind":"email","epoch":"a","not_before_ms":-9223372036854775808,"wrapped":"<base64>"}
//! {"tenant":"acme","kind":"phone","epoch":"b","not_before_ms":1790000000000,"wrapped":null,"shredded_at_ms":1800000000000}
//! ```
//! `wrapped` is nonce (24 bytes), ciphertext and tag; everything else on the line, and the id, is
//! authenticated with it, so keys cannot change places. `check` wraps nothing: it tells a wrong
//! key-encryption key from a damaged line.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Epoch, KeyKind, Keyring, TenantKeys};
use crate::pipeline::limits;
use crate::pipeline::record::{TenantId, Timestamp};
use crate::pipeline::redact::token::EpochId;

/// The key that wraps the keys: 32 random bytes from a file or secret store of its own.
pub struct KeyEncryptionKey(Zeroizing<[u8; 32]>);

impl KeyEncryptionKey {
    /// From 32 random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// From 64 hex digits, with white space around them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(HEXLOWER.decode(text.trim().to_lowercase().as_bytes()).ok()?);
        Some(Self::new(bytes.as_slice().try_into().ok()?))
    }

    /// 64 hex digits and a newline, to be written to a file with mode 0600.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{}\n", HEXLOWER.encode(self.0.as_slice())))
    }

    fn wrap(&self, plain: &[u8], bound: &str, nonce: [u8; NONCE_BYTES]) -> String {
        let payload = Payload { msg: plain, aad: bound.as_bytes() };
        let sealed = self
            .cipher()
            .encrypt(&XNonce::from(nonce), payload)
            .expect("32 bytes are within the cipher's limit");
        BASE64.encode(&[nonce.as_slice(), &sealed].concat())
    }

    fn unwrap(&self, wrapped: &str, bound: &str) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = BASE64.decode(wrapped.as_bytes()).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload { msg: sealed, aad: bound.as_bytes() };
        self.cipher().decrypt(&XNonce::from(*nonce), payload).ok().map(Zeroizing::new)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new_from_slice(self.0.as_slice()).expect("the key has 32 bytes")
    }
}

impl fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KeyEncryptionKey")
    }
}

/// A keyring file that cannot be used or changed as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// Not our header.
    #[error("line 1 is no header of a keyring of version {VERSION}")]
    Header,
    /// Not one of our lines, or one out of order.
    #[error("line {0} is no keyring entry, or does not follow the epoch before it")]
    Line(usize),
    /// Another key-encryption key.
    #[error("the key-encryption key does not belong to this keyring")]
    WrongKey,
    /// Changed after it was written.
    #[error("the entry of line {0} was changed or damaged after it was written")]
    Damaged(usize),
    /// Larger than the limit.
    #[error("a keyring has at most {} entries", limits::KEYRING_ENTRIES_MAX)]
    TooLarge,
    /// There already.
    #[error("the tenant has keys already: rotate them")]
    TenantExists,
    /// Not there.
    #[error("there are no such keys")]
    NoSuchKeys,
    /// An epoch must begin after the one before it.
    #[error("the new epoch must begin after {0}, when the present one begins")]
    NotAfter(String),
}

/// A keyring as it lies on disk. Changing it needs the key-encryption key for new keys only.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyringFile {
    header: Header,
    entries: Vec<Entry>,
}

impl KeyringFile {
    /// A keyring with default keys of every kind that cover all times. `random` fills a buffer with
    /// random bytes.
    pub fn create(kek: &KeyEncryptionKey, random: &mut dyn FnMut(&mut [u8])) -> Self {
        let id = HEXLOWER.encode(&draw::<8>(random));
        let check = kek.wrap(&[], &id, draw(random));
        let header = Header { blotter_keyring: VERSION, id, check };
        let mut file = Self { header, entries: Vec::new() };
        file.add_epoch(kek, None, EpochId::FIRST, BEGINNING, random);
        file
    }

    /// Gives `tenant` keys of its own for records from `not_before` on; earlier ones keep the default
    /// key, so that a replay gives the same tokens.
    ///
    /// # Errors
    /// When it has some, the file is full, or `kek` is another one.
    pub fn add_tenant(
        &mut self,
        kek: &KeyEncryptionKey,
        tenant: &TenantId,
        not_before: Timestamp,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), KeyringError> {
        self.check_key(kek)?;
        if self.last_epoch(Some(tenant)).is_some() {
            return Err(KeyringError::TenantExists);
        }
        self.has_room()?;
        self.add_epoch(kek, Some(tenant), EpochId::FIRST, not_before, random);
        Ok(())
    }

    /// Starts a new epoch of all kinds for `tenant` (`None`: the default keys).
    ///
    /// # Errors
    /// When there are no keys to rotate, `not_before` is not after the present epoch's, the file is
    /// full, or `kek` is another one.
    pub fn rotate(
        &mut self,
        kek: &KeyEncryptionKey,
        tenant: Option<&TenantId>,
        not_before: Timestamp,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<EpochId, KeyringError> {
        self.check_key(kek)?;
        let (last, began) = self.last_epoch(tenant).ok_or(KeyringError::NoSuchKeys)?;
        if not_before <= began {
            return Err(KeyringError::NotAfter(began.to_rfc3339()));
        }
        self.has_room()?;
        let epoch = last.next().ok_or(KeyringError::TooLarge)?;
        self.add_epoch(kek, tenant, epoch, not_before, random);
        Ok(epoch)
    }

    /// Destroys the keys of `tenant`, of one epoch or of all. The lines stay, without their keys:
    /// the epoch is known to be gone and not merely missing. Copies of the file made earlier still
    /// hold them, wrapped: change the key-encryption key ([`KeyringFile::rewrap`]) and destroy the
    /// old one too. Returns how many keys were destroyed.
    ///
    /// # Errors
    /// When there are none left to destroy.
    pub fn shred(
        &mut self,
        tenant: Option<&TenantId>,
        epoch: Option<EpochId>,
        at: Timestamp,
    ) -> Result<usize, KeyringError> {
        let name = tenant.map(TenantId::as_str);
        let epoch = epoch.map(|epoch| epoch.to_string());
        let mut destroyed = 0;
        for entry in &mut self.entries {
            let meant = entry.tenant.as_deref() == name
                && epoch.as_ref().is_none_or(|epoch| *epoch == entry.epoch);
            if meant && entry.wrapped.take().is_some() {
                entry.shredded_at_ms = Some(at.millis());
                destroyed += 1;
            }
        }
        if destroyed == 0 { Err(KeyringError::NoSuchKeys) } else { Ok(destroyed) }
    }

    /// The same keys under another key-encryption key.
    ///
    /// # Errors
    /// When `old` is not the present one, or a line is damaged.
    pub fn rewrap(
        &self,
        old: &KeyEncryptionKey,
        new: &KeyEncryptionKey,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Self, KeyringError> {
        self.check_key(old)?;
        let mut file = self.clone();
        file.header.check = new.wrap(&[], &self.header.id, draw(random));
        for (index, entry) in file.entries.iter_mut().enumerate() {
            if let Some(wrapped) = &entry.wrapped {
                let bound = entry.bound(&self.header.id);
                let key = old.unwrap(wrapped, &bound).ok_or(KeyringError::Damaged(index + 2))?;
                entry.wrapped = Some(new.wrap(&key, &bound, draw(random)));
            }
        }
        Ok(file)
    }

    /// Unwraps all keys.
    ///
    /// # Errors
    /// When `kek` is another one, or a line is damaged.
    pub fn open(&self, kek: &KeyEncryptionKey) -> Result<Keyring, KeyringError> {
        self.check_key(kek)?;
        let (mut default, mut tenants) = (TenantKeys::default(), HashMap::new());
        for (index, entry) in self.entries.iter().enumerate() {
            let line = index + 2;
            let key = match &entry.wrapped {
                None => None,
                Some(wrapped) => {
                    let key = kek.unwrap(wrapped, &entry.bound(&self.header.id));
                    let key = key.and_then(|key| <[u8; 32]>::try_from(key.as_slice()).ok());
                    Some(Zeroizing::new(key.ok_or(KeyringError::Damaged(line))?))
                }
            };
            let (tenant, kind, id) = entry.parts().ok_or(KeyringError::Line(line))?;
            let keys: &mut TenantKeys = match tenant {
                None => &mut default,
                Some(tenant) => tenants.entry(tenant).or_default(),
            };
            let not_before = Timestamp::from_millis(entry.not_before_ms);
            keys.by_kind[kind as usize].push(Epoch::new(id, not_before, key.as_deref()));
        }
        Ok(Keyring { id: self.header.id.clone(), default, tenants })
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// Names the line that is not understood.
    pub fn parse(text: &str) -> Result<Self, KeyringError> {
        let mut lines = text.lines();
        let header: Header = lines
            .next()
            .and_then(|line| serde_json::from_str(line).ok())
            .filter(|header: &Header| header.blotter_keyring == VERSION)
            .ok_or(KeyringError::Header)?;
        let mut entries = Vec::new();
        let mut newest = BTreeMap::new();
        for (index, line) in lines.enumerate() {
            if index >= limits::KEYRING_ENTRIES_MAX {
                return Err(KeyringError::TooLarge);
            }
            let refused = KeyringError::Line(index + 2);
            let entry: Entry = serde_json::from_str(line).map_err(|_| refused.clone())?;
            let (tenant, kind, epoch) = entry.parts().ok_or_else(|| refused.clone())?;
            let here = (epoch, entry.not_before_ms);
            let before = newest.insert((tenant, kind), here);
            let follows = |(id, began): (EpochId, i64)| {
                id.next() == Some(epoch) && began < entry.not_before_ms
            };
            if before.is_some_and(|before| !follows(before)) {
                return Err(refused);
            }
            entries.push(entry);
        }
        Ok(Self { header, entries })
    }

    /// The text of the file, to be written with mode 0600 and moved into place.
    #[must_use]
    pub fn to_text(&self) -> String {
        let line = "plain structures always serialise";
        let mut text = serde_json::to_string(&self.header).expect(line);
        for entry in &self.entries {
            text.push('\n');
            text.push_str(&serde_json::to_string(entry).expect(line));
        }
        text.push('\n');
        text
    }

    /// The keyring's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.header.id
    }

    /// Whether the keys are wrapped with `kek`.
    ///
    /// # Errors
    /// They are wrapped with another one.
    pub fn check_key(&self, kek: &KeyEncryptionKey) -> Result<(), KeyringError> {
        let opened = kek.unwrap(&self.header.check, &self.header.id);
        opened.map(|_| ()).ok_or(KeyringError::WrongKey)
    }

    fn has_room(&self) -> Result<(), KeyringError> {
        let fits = self.entries.len() + KeyKind::ALL.len() <= limits::KEYRING_ENTRIES_MAX;
        if fits { Ok(()) } else { Err(KeyringError::TooLarge) }
    }

    fn last_epoch(&self, tenant: Option<&TenantId>) -> Option<(EpochId, Timestamp)> {
        let name = tenant.map(TenantId::as_str);
        let last = self.entries.iter().rfind(|entry| entry.tenant.as_deref() == name)?;
        Some((EpochId::parse(&last.epoch)?, Timestamp::from_millis(last.not_before_ms)))
    }

    fn add_epoch(
        &mut self,
        kek: &KeyEncryptionKey,
        tenant: Option<&TenantId>,
        epoch: EpochId,
        not_before: Timestamp,
        random: &mut dyn FnMut(&mut [u8]),
    ) {
        for kind in KeyKind::ALL {
            let mut entry = Entry {
                tenant: tenant.map(|tenant| tenant.as_str().to_owned()),
                kind: kind.name().to_owned(),
                epoch: epoch.to_string(),
                not_before_ms: not_before.millis(),
                wrapped: None,
                shredded_at_ms: None,
            };
            let key = Zeroizing::new(draw::<32>(random));
            let bound = entry.bound(&self.header.id);
            entry.wrapped = Some(kek.wrap(key.as_slice(), &bound, draw(random)));
            self.entries.push(entry);
        }
    }
}

impl fmt::Debug for KeyringFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeyringFile({}, {} entries)", self.header.id, self.entries.len())
    }
}

const VERSION: u32 = 1;
const NONCE_BYTES: usize = 24;
/// Before every record.
const BEGINNING: Timestamp = Timestamp::from_millis(i64::MIN);

#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Header {
    blotter_keyring: u32,
    id: String,
    check: String,
}

#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    tenant: Option<String>,
    kind: String,
    epoch: String,
    not_before_ms: i64,
    wrapped: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shredded_at_ms: Option<i64>,
}

impl Entry {
    /// What the wrapping authenticates beside the key.
    fn bound(&self, id: &str) -> String {
        let tenant = self.tenant.as_deref();
        serde_json::to_string(&(VERSION, id, tenant, &self.kind, &self.epoch, self.not_before_ms))
            .expect("plain values always serialise")
    }

    fn parts(&self) -> Option<(Option<TenantId>, KeyKind, EpochId)> {
        let tenant = match &self.tenant {
            None => None,
            Some(name) => Some(TenantId::new(name)?),
        };
        Some((tenant, KeyKind::parse(&self.kind)?, EpochId::parse(&self.epoch)?))
    }
}

fn draw<const N: usize>(random: &mut dyn FnMut(&mut [u8])) -> [u8; N] {
    let mut bytes = [0; N];
    random(&mut bytes);
    bytes
}

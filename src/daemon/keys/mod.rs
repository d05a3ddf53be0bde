//! Keys on disk: one folder, files of mode 0600. What is missing is made, each file once, however
//! many daemons start at the same time; a file that others can read is refused.

mod rewrap;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use zeroize::Zeroizing;

use crate::pipeline::audit::{
    Certificate, CommitmentKey, CommitmentKeys, Deployment, DeploymentKey, InstanceKey, KeyringId,
    PublicKey,
};
use crate::pipeline::redact::keyring::{
    KeyEncryptionKey, KeyKind, Keyring, KeyringError, KeyringFile,
};

pub use rewrap::{rewrap, rewrap_to};

/// Held while keys are made or changed: of two who change them none undoes what the other did.
const LOCK_FILE: &str = ".lock";
const ENCRYPTION_KEY_FILE: &str = "encryption.key";
const ENCRYPTION_KEY_SETTING: &str = "keys.encryption_key";
const KEYRING_FILE: &str = "keyring.jsonl";
/// Of a file while it is being written; random digits follow.
const DRAFT_EXTENSION: &str = "draft-";
const INSTANCE_KEY_FILE: &str = "instance.key";
const CERTIFICATE_FILE: &str = "instance.cert";
const DEPLOYMENT_KEY_FILE: &str = "deployment.key";
const DEPLOYMENT_PUBLIC_FILE: &str = "deployment.pub";

/// Everything secret that a daemon works with.
pub struct KeyMaterial {
    /// Token, session and commitment keys.
    pub keyring: Arc<Keyring>,
    /// The keyring's id.
    pub keyring_id: KeyringId,
    /// The keys of commitments.
    pub commitment_keys: CommitmentKeys,
    /// The key that signs seals.
    pub instance_key: Arc<InstanceKey>,
    /// The public key that certifies instances.
    pub deployment_key: PublicKey,
    /// Files that were made now.
    pub created: Vec<PathBuf>,
}

impl KeyMaterial {
    /// What canaries are made from: the same in every process that shares the keyring, whatever
    /// epoch is in force. A canary is no secret, it only must not be guessed by chance.
    #[must_use]
    pub fn canary_seed(&self) -> Vec<u8> {
        format!("blotter/canary/v1/{}", self.keyring_id).into_bytes()
    }
}

/// Keys that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file can't be read or written.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What failed.
        error: io::Error,
    },
    /// Others can read the file.
    #[error("{0}: other users can read this file; chmod 600 it, and rotate the keys if they did")]
    Exposed(PathBuf),
    /// The content is not what it must be.
    #[error("{path}: {reason}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What was expected.
        reason: String,
    },
    /// The keyring is wrapped with another key-encryption key.
    #[error(
        "{keyring}: is not wrapped with the key of {key}: the two belong together: take both from \
         the same copy, or set the key that the last `blotter keys rewrap` took"
    )]
    WrongKey {
        /// The keyring.
        keyring: PathBuf,
        /// The file or setting that gave the key.
        key: PathBuf,
    },
    /// The folder has been in use, and a file that can't be made again is gone from it.
    #[error(
        "{0}: is missing beside keys that are in use; another one would not fit what was written \
         with it: restore it from its copy (every instance needs the same keyring, encryption key \
         and deployment.pub)"
    )]
    Missing(PathBuf),
    /// The deployment key is kept elsewhere and has not certified this instance's key.
    #[error(
        "{path}: is missing, and the deployment key is not here: where it is, run `blotter keys \
         certify {key}`, and copy the instance.cert that it writes to this folder"
    )]
    Uncertified {
        /// Where the certificate belongs.
        path: PathBuf,
        /// The instance's public key.
        key: PublicKey,
    },
}

/// Opens the keys in `folder`, making what is missing.
///
/// # Errors
/// See [`KeysError`].
pub fn open_or_create(
    folder: &Path,
    encryption_key: Option<&str>,
    deployment: &Deployment,
) -> Result<KeyMaterial, KeysError> {
    let mut files = Files::lock(folder)?;
    let kek = files.encryption_key(encryption_key)?;
    // Before the keyring: a keyring without it counts as a loss.
    let deployment_key = files.deployment_public()?;
    let (_, keyring) = files.keyring(&kek)?;
    let invalid = |reason: String| KeysError::Invalid { path: files.path(KEYRING_FILE), reason };
    let keyring_id = KeyringId::parse(keyring.id())
        .ok_or_else(|| invalid("the keyring's id is not 16 hex digits".to_owned()))?;
    let epochs = keyring
        .default_keys(KeyKind::Commit)
        .map(|(from, key)| (from, CommitmentKey::from_bytes(&key.mac(CommitmentKey::DERIVATION))));
    let commitment_keys = CommitmentKeys::new(epochs.collect()).ok_or_else(|| {
        invalid("every commitment key was destroyed: `blotter keys rotate` makes one".to_owned())
    })?;
    let instance_key = files.instance_key(deployment, &deployment_key)?;
    Ok(KeyMaterial {
        keyring: Arc::new(keyring),
        keyring_id,
        commitment_keys,
        instance_key: Arc::new(instance_key),
        deployment_key,
        created: files.created,
    })
}

/// Opens the keyring's file for a change by `change` and writes it back.
///
/// # Errors
/// See [`KeysError`]; `change` refuses with a reason.
pub fn change_keyring<T>(
    folder: &Path,
    encryption_key: Option<&str>,
    change: impl FnOnce(&mut KeyringFile, &KeyEncryptionKey) -> Result<T, String>,
) -> Result<T, KeysError> {
    let mut files = Files::lock(folder)?;
    let kek = files.encryption_key(encryption_key)?;
    files.deployment_public()?;
    let (mut file, _) = files.keyring(&kek)?;
    let path = files.path(KEYRING_FILE);
    let outcome = change(&mut file, &kek.key)
        .map_err(|reason| KeysError::Invalid { path: path.clone(), reason })?;
    replace_private(&path, &file.to_text())?;
    Ok(outcome)
}

/// The deployment's public key in `folder`, or `text` itself when it is one.
///
/// # Errors
/// Neither a key nor a readable file.
pub fn deployment_public(folder: &Path, text: Option<&str>) -> Result<PublicKey, KeysError> {
    if let Some(key) = text.and_then(PublicKey::parse) {
        return Ok(key);
    }
    let path = text.map_or_else(|| folder.join(DEPLOYMENT_PUBLIC_FILE), PathBuf::from);
    let written = fs::read_to_string(&path).map_err(|error| io_error(&path, error))?;
    PublicKey::parse(written.trim()).ok_or_else(|| KeysError::Invalid {
        path,
        reason: "expected an Ed25519 public key as 43 characters of base64url".to_owned(),
    })
}

/// Certifies an instance's public key with the deployment key in `folder`.
///
/// # Errors
/// The folder holds no deployment key, see [`KeysError`].
pub fn certify(
    folder: &Path,
    deployment: &Deployment,
    key: PublicKey,
) -> Result<Certificate, KeysError> {
    let path = folder.join(DEPLOYMENT_KEY_FILE);
    let seed = parse_seed(&path, &read_private(&path)?)?;
    Ok(DeploymentKey::from_seed(&seed).certify(deployment.as_str(), key))
}

/// The certificate of the instance whose keys `folder` holds, if it is there or can be made of them.
/// Makes no file.
#[must_use]
pub fn instance_certificate(folder: &Path, deployment: &Deployment) -> Option<Certificate> {
    let written = fs::read_to_string(folder.join(CERTIFICATE_FILE)).ok();
    if let Some(certificate) = written.and_then(|text| parse_certificate(text.trim())) {
        return Some(certificate);
    }
    let path = folder.join(INSTANCE_KEY_FILE);
    let seed = parse_seed(&path, &read_private(&path).ok()?).ok()?;
    certify(folder, deployment, InstanceKey::public_of_seed(&seed)).ok()
}

/// Fills `buffer` from the operating system's generator.
pub fn random(buffer: &mut [u8]) {
    getrandom::fill(buffer).expect("the operating system gives random bytes");
}

/// The folder, locked until this is dropped.
struct Files {
    folder: PathBuf,
    created: Vec<PathBuf>,
    /// `None` where the folder can't be written to, and so by nobody else either.
    _lock: Option<File>,
}

impl Files {
    /// Makes the folder and waits until nobody else changes it.
    fn lock(folder: &Path) -> Result<Self, KeysError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| io_error(folder, error))?;
        let path = folder.join(LOCK_FILE);
        let mut opening = OpenOptions::new();
        opening.write(true).create(true).truncate(false).mode(0o600);
        let lock = match opening.open(&path).and_then(|file| file.lock().map(|()| file)) {
            Ok(file) => Some(file),
            Err(error) if is_read_only(&error) => None,
            Err(error) => return Err(io_error(&path, error)),
        };
        Ok(Self { folder: folder.to_owned(), created: Vec::new(), _lock: lock })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Keys are made for a folder that was never used; what is lost is not replaced in silence. (A
    /// lost instance key is: a new one enters every chain by its certificate.)
    fn refuse_loss(&self, has_encryption_key: bool) -> Result<(), KeysError> {
        let has = |name: &str| self.path(name).exists();
        let has_deployment = has(DEPLOYMENT_PUBLIC_FILE) || has(DEPLOYMENT_KEY_FILE);
        let lost = [
            (has(KEYRING_FILE) && !has_encryption_key, ENCRYPTION_KEY_FILE),
            (has(INSTANCE_KEY_FILE), KEYRING_FILE),
            (has(KEYRING_FILE) && !has_deployment, DEPLOYMENT_PUBLIC_FILE),
        ];
        let lost = lost.into_iter().find(|(is_needed, name)| *is_needed && !has(name));
        lost.map_or(Ok(()), |(_, name)| Err(KeysError::Missing(self.path(name))))
    }

    /// The key that `given`, the setting, or the folder holds.
    fn encryption_key(&mut self, given: Option<&str>) -> Result<PlacedKey, KeysError> {
        let held = match given {
            Some(text) => Some(PlacedKey::parse(PathBuf::from(ENCRYPTION_KEY_SETTING), text)?),
            None => self.interrupted_rewrap()?,
        };
        self.refuse_loss(held.is_some())?;
        match held {
            Some(key) => Ok(key),
            None => {
                let text = self.read_or_make(ENCRYPTION_KEY_FILE, || Ok(seed_text()))?;
                PlacedKey::parse(self.path(ENCRYPTION_KEY_FILE), &text)
            }
        }
    }

    fn keyring(&mut self, kek: &PlacedKey) -> Result<(KeyringFile, Keyring), KeysError> {
        let path = self.path(KEYRING_FILE);
        let text = self.read_or_make(KEYRING_FILE, || {
            Ok(Zeroizing::new(KeyringFile::create(&kek.key, &mut random).to_text()))
        })?;
        let opened = KeyringFile::parse(&text)
            .and_then(|file| file.open(&kek.key).map(|keyring| (file, keyring)));
        opened.map_err(|error| match error {
            KeyringError::WrongKey => KeysError::WrongKey { keyring: path, key: kek.place.clone() },
            other => KeysError::Invalid { path, reason: other.to_string() },
        })
    }

    /// The public key alone where the deployment key is kept elsewhere; else of the one here.
    fn deployment_public(&mut self) -> Result<PublicKey, KeysError> {
        if self.path(DEPLOYMENT_PUBLIC_FILE).exists() {
            return deployment_public(&self.folder, None);
        }
        let key = self.deployment_key()?;
        let public = key.public();
        make_once(&self.path(DEPLOYMENT_PUBLIC_FILE), &format!("{public}\n"))?;
        Ok(public)
    }

    fn deployment_key(&mut self) -> Result<DeploymentKey, KeysError> {
        let text = self.read_or_make(DEPLOYMENT_KEY_FILE, || Ok(seed_text()))?;
        let seed = parse_seed(&self.path(DEPLOYMENT_KEY_FILE), &text)?;
        Ok(DeploymentKey::from_seed(&seed))
    }

    fn instance_key(
        &mut self,
        deployment: &Deployment,
        deployment_key: &PublicKey,
    ) -> Result<InstanceKey, KeysError> {
        let text = self.read_or_make(INSTANCE_KEY_FILE, || Ok(seed_text()))?;
        let seed = parse_seed(&self.path(INSTANCE_KEY_FILE), &text)?;
        let certificate = self.certificate(&seed, deployment, deployment_key)?;
        InstanceKey::from_seed(&seed, certificate).ok_or_else(|| KeysError::Invalid {
            path: self.path(CERTIFICATE_FILE),
            reason: format!("the certificate is not for the key in {INSTANCE_KEY_FILE}"),
        })
    }

    fn certificate(
        &mut self,
        seed: &[u8; 32],
        deployment: &Deployment,
        deployment_key: &PublicKey,
    ) -> Result<Certificate, KeysError> {
        let path = self.path(CERTIFICATE_FILE);
        let invalid =
            |reason: &str| KeysError::Invalid { path: path.clone(), reason: reason.to_owned() };
        let key = InstanceKey::public_of_seed(seed);
        if self.path(DEPLOYMENT_KEY_FILE).exists() {
            let certificate = self.deployment_key()?.certify(deployment.as_str(), key);
            keep_certificate(&path, &certificate)?;
            return Ok(certificate);
        }
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(KeysError::Uncertified { path, key });
            }
            Err(error) => return Err(io_error(&path, error)),
        };
        let certificate = parse_certificate(text.trim()).ok_or_else(|| {
            invalid("expected a public key and a signature, as `keys certify` writes them")
        })?;
        if !certificate.is_valid(deployment_key, deployment.as_str()) {
            return Err(invalid(
                "the deployment key did not sign this certificate for this deployment",
            ));
        }
        Ok(certificate)
    }

    fn read_or_make(
        &mut self,
        name: &str,
        make: impl FnOnce() -> Result<Zeroizing<String>, KeysError>,
    ) -> Result<Zeroizing<String>, KeysError> {
        let path = self.path(name);
        if !path.exists() && make_once(&path, &make()?)? {
            self.created.push(path.clone());
        }
        read_private(&path)
    }
}

/// A key-encryption key, and the file or setting that it is from.
struct PlacedKey {
    key: KeyEncryptionKey,
    place: PathBuf,
}

impl PlacedKey {
    fn parse(place: PathBuf, text: &str) -> Result<Self, KeysError> {
        match KeyEncryptionKey::parse(text) {
            Some(key) => Ok(Self { key, place }),
            None => Err(KeysError::Invalid {
                path: place,
                reason: "the key-encryption key must be 64 hex digits".to_owned(),
            }),
        }
    }
}

/// Leaves the certificate beside the key, so that the deployment key can be taken away.
fn keep_certificate(path: &Path, certificate: &Certificate) -> Result<(), KeysError> {
    let text = format!("{}\n", certificate_text(certificate));
    if fs::read_to_string(path).is_ok_and(|written| written == text) {
        return Ok(());
    }
    match replace_private(path, &text) {
        Err(KeysError::Io { error, .. }) if is_read_only(&error) => Ok(()),
        kept => kept,
    }
}

fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

/// A certificate as text: public key and signature in base64url, one space between.
#[must_use]
pub fn certificate_text(certificate: &Certificate) -> String {
    format!("{} {}", certificate.key, BASE64URL_NOPAD.encode(&certificate.signature))
}

fn parse_certificate(text: &str) -> Option<Certificate> {
    let (key, signature) = text.split_once(' ')?;
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).ok()?;
    Some(Certificate { key: PublicKey::parse(key)?, signature: signature.try_into().ok()? })
}

fn seed_text() -> Zeroizing<String> {
    let mut seed = Zeroizing::new([0; 32]);
    random(&mut *seed);
    Zeroizing::new(format!("{}\n", HEXLOWER.encode(&*seed)))
}

fn parse_seed(path: &Path, text: &str) -> Result<Zeroizing<[u8; 32]>, KeysError> {
    let bytes = HEXLOWER.decode(text.trim().as_bytes()).ok().map(Zeroizing::new);
    let seed = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
    seed.map(Zeroizing::new).ok_or_else(|| KeysError::Invalid {
        path: path.to_owned(),
        reason: "expected 64 lower-case hex digits".to_owned(),
    })
}

/// Writes a file that does not exist yet, whole or not at all; `false` when another process was
/// faster.
fn make_once(path: &Path, text: &str) -> Result<bool, KeysError> {
    let draft = write_draft(path, text)?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft).map_err(|error| io_error(&draft, error))?;
    match linked {
        Ok(()) => sync_folder_of(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(io_error(path, error)),
    }
}

fn replace_private(path: &Path, text: &str) -> Result<(), KeysError> {
    let draft = write_draft(path, text)?;
    fs::rename(&draft, path).map_err(|error| io_error(path, error))?;
    sync_folder_of(path)
}

/// With a power cut a key that was destroyed must not come back, nor one go that was used.
fn sync_folder_of(path: &Path) -> Result<(), KeysError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or_else(|| Path::new("."))).ok();
    folder.map_or(Ok(()), |folder| folder.sync_all()).map_err(|error| io_error(path, error))
}

fn write_draft(path: &Path, text: &str) -> Result<PathBuf, KeysError> {
    let mut suffix = [0; 8];
    random(&mut suffix);
    let draft = path.with_extension(format!("{DRAFT_EXTENSION}{}", HEXLOWER.encode(&suffix)));
    let at = |error| io_error(&draft, error);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(at)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at)?;
    Ok(draft)
}

fn read_private(path: &Path) -> Result<Zeroizing<String>, KeysError> {
    let at = |error| io_error(path, error);
    let mode = fs::metadata(path).map_err(at)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(KeysError::Exposed(path.to_owned()));
    }
    fs::read_to_string(path).map(Zeroizing::new).map_err(at)
}

fn io_error(path: &Path, error: io::Error) -> KeysError {
    KeysError::Io { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::record::{TenantId, Timestamp};

    fn deployment() -> Deployment {
        Deployment::parse("salon").unwrap()
    }

    #[test]
    fn keys_are_made_once_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("state");
        let first = open_or_create(&folder, None, &deployment()).unwrap();
        assert_eq!(first.created.len(), 4);
        let second = open_or_create(&folder, None, &deployment()).unwrap();
        assert!(second.created.is_empty());
        assert_eq!(first.keyring_id, second.keyring_id);
        assert_eq!(first.commitment_keys.newest().id(), second.commitment_keys.newest().id());
        assert_eq!(first.instance_key.id(), second.instance_key.id());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        open_or_create(folder.path(), None, &deployment()).unwrap();
        let keyring = folder.path().join(KEYRING_FILE);
        fs::set_permissions(&keyring, fs::Permissions::from_mode(0o644)).unwrap();
        let error = open_or_create(folder.path(), None, &deployment()).err();
        assert!(matches!(error, Some(KeysError::Exposed(path)) if path == keyring));
    }

    #[test]
    fn the_deployment_key_can_be_taken_away_and_certifies_from_elsewhere() {
        let offline = tempfile::tempdir().unwrap();
        let folder = offline.path();
        let first = open_or_create(folder, None, &deployment()).unwrap();
        let kept = tempfile::tempdir().unwrap();
        fs::rename(folder.join(DEPLOYMENT_KEY_FILE), kept.path().join(DEPLOYMENT_KEY_FILE))
            .unwrap();
        // What certified it before is still there.
        let second = open_or_create(folder, None, &deployment()).unwrap();
        assert_eq!(first.instance_key.id(), second.instance_key.id());
        let other = Deployment::parse("other").unwrap();
        assert!(open_or_create(folder, None, &other).is_err());
        // Another instance, which shares the keyring.
        let instance = tempfile::tempdir().unwrap();
        for name in [ENCRYPTION_KEY_FILE, KEYRING_FILE, DEPLOYMENT_PUBLIC_FILE] {
            fs::copy(folder.join(name), instance.path().join(name)).unwrap();
        }
        let open = || open_or_create(instance.path(), None, &deployment());
        let Some(KeysError::Uncertified { path, key }) = open().err() else {
            panic!("an instance nobody certified was let in")
        };
        let certificate = certify(kept.path(), &deployment(), key).unwrap();
        fs::write(path, certificate_text(&certificate)).unwrap();
        assert_eq!(open().unwrap().deployment_key, first.deployment_key);
    }

    #[test]
    fn what_is_lost_is_not_replaced_in_silence() {
        for (lost, named) in [
            (vec![ENCRYPTION_KEY_FILE], Some(ENCRYPTION_KEY_FILE)),
            (vec![KEYRING_FILE], Some(KEYRING_FILE)),
            (vec![DEPLOYMENT_KEY_FILE, DEPLOYMENT_PUBLIC_FILE], Some(DEPLOYMENT_PUBLIC_FILE)),
            (vec![INSTANCE_KEY_FILE], None),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let open = || open_or_create(folder.path(), None, &deployment());
            open().unwrap();
            lost.iter().for_each(|name| fs::remove_file(folder.path().join(name)).unwrap());
            let missing = match open() {
                Err(KeysError::Missing(path)) => path.file_name().map(std::ffi::OsStr::to_owned),
                other => other.map(|_| None).unwrap(),
            };
            assert_eq!(missing.as_deref(), named.map(std::ffi::OsStr::new), "{lost:?}");
        }
    }

    #[test]
    fn a_keyring_and_a_key_of_two_folders_are_both_named() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        open_or_create(folder.path(), None, &deployment()).unwrap();
        open_or_create(other.path(), None, &deployment()).unwrap();
        let encryption_key = folder.path().join(ENCRYPTION_KEY_FILE);
        fs::copy(other.path().join(ENCRYPTION_KEY_FILE), &encryption_key).unwrap();
        let told = |given| open_or_create(folder.path(), given, &deployment()).err().unwrap();
        let message = told(None).to_string();
        assert!(message.contains("keyring.jsonl: ") && message.contains("encryption.key"));
        let zeros = "0".repeat(64);
        let message = told(Some(zeros.as_str())).to_string();
        assert!(message.contains("the key of keys.encryption_key: "), "{message}");
    }

    #[test]
    fn changes_at_the_same_time_lose_none_of_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        std::thread::scope(|scope| {
            for number in 0..6 {
                scope.spawn(move || {
                    let tenant = TenantId::new(&format!("salon-{number}")).unwrap();
                    change_keyring(folder, None, |file, kek| {
                        let added = file.add_tenant(kek, &tenant, Timestamp::EPOCH, &mut random);
                        added.map_err(|error| error.to_string())
                    })
                    .unwrap();
                });
            }
        });
        let keys = open_or_create(folder, None, &deployment());
        let keyring = keys.unwrap().keyring;
        for number in 0..6 {
            let tenant = TenantId::new(&format!("salon-{number}")).unwrap();
            let key = keyring.key(Some(&tenant), KeyKind::Session, Timestamp::EPOCH).unwrap();
            let default = keyring.key(None, KeyKind::Session, Timestamp::EPOCH).unwrap();
            assert_ne!(key.mac(b"x"), default.mac(b"x"), "{tenant}");
        }
    }
}

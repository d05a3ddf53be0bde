//! Keys on disk: one folder, files of mode 0600. What is missing is made, each file once, however
//! many daemons start at the same time; a file that others can read is refused.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use zeroize::Zeroizing;

use crate::pipeline::audit::{
    Certificate, CommitmentKey, Deployment, DeploymentKey, InstanceKey, KeyringId, PublicKey,
};
use crate::pipeline::record::Timestamp;
use crate::pipeline::redact::keyring::{KeyEncryptionKey, KeyKind, Keyring, KeyringFile};

const ENCRYPTION_KEY_FILE: &str = "encryption.key";
const KEYRING_FILE: &str = "keyring.jsonl";
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
    /// The key of commitments.
    pub commitment_key: CommitmentKey,
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
}

/// Opens the keys in `folder`, making what is missing. `now` chooses the epoch of the commitment
/// key.
///
/// # Errors
/// See [`KeysError`].
pub fn open_or_create(
    folder: &Path,
    encryption_key: Option<&str>,
    deployment: &Deployment,
    now: Timestamp,
) -> Result<KeyMaterial, KeysError> {
    let mut files = Files { folder: folder.to_owned(), created: Vec::new() };
    files.make_folder()?;
    let kek = files.encryption_key(encryption_key)?;
    let (keyring, keyring_path) = files.keyring(&kek)?;
    let invalid = |reason: String| KeysError::Invalid { path: keyring_path.clone(), reason };
    let keyring_id = KeyringId::parse(keyring.id())
        .ok_or_else(|| invalid("the keyring's id is not 16 hex digits".to_owned()))?;
    let commitment_seed = keyring
        .key(None, KeyKind::Commit, now)
        .map_err(|error| invalid(error.to_string()))?
        .mac(CommitmentKey::DERIVATION);
    let deployment_key = files.deployment_public()?;
    let instance_key = files.instance_key(deployment, &deployment_key)?;
    Ok(KeyMaterial {
        keyring: Arc::new(keyring),
        keyring_id,
        commitment_key: CommitmentKey::from_bytes(&commitment_seed),
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
    let mut files = Files { folder: folder.to_owned(), created: Vec::new() };
    files.make_folder()?;
    let kek = files.encryption_key(encryption_key)?;
    files.keyring(&kek)?;
    let path = folder.join(KEYRING_FILE);
    let text = read_private(&path)?;
    let invalid = |reason: String| KeysError::Invalid { path: path.clone(), reason };
    let mut file = KeyringFile::parse(&text).map_err(|error| invalid(error.to_string()))?;
    let outcome = change(&mut file, &kek).map_err(invalid)?;
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

struct Files {
    folder: PathBuf,
    created: Vec<PathBuf>,
}

impl Files {
    fn make_folder(&self) -> Result<(), KeysError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(|error| io_error(&self.folder, error))
    }

    fn encryption_key(&mut self, given: Option<&str>) -> Result<KeyEncryptionKey, KeysError> {
        let path = self.folder.join(ENCRYPTION_KEY_FILE);
        let text = match given {
            Some(text) => Zeroizing::new(text.to_owned()),
            None => self.read_or_make(ENCRYPTION_KEY_FILE, || Ok(seed_text()))?,
        };
        KeyEncryptionKey::parse(text.trim()).ok_or_else(|| KeysError::Invalid {
            path,
            reason: "the key-encryption key must be 64 hex digits".to_owned(),
        })
    }

    fn keyring(&mut self, kek: &KeyEncryptionKey) -> Result<(Keyring, PathBuf), KeysError> {
        let path = self.folder.join(KEYRING_FILE);
        let text = self.read_or_make(KEYRING_FILE, || {
            Ok(Zeroizing::new(KeyringFile::create(kek, &mut random).to_text()))
        })?;
        let keyring = KeyringFile::parse(&text).and_then(|file| file.open(kek));
        let keyring = keyring.map_err(|error| KeysError::Invalid {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        Ok((keyring, path))
    }

    /// The public key alone where the deployment key is kept elsewhere; else of the one here.
    fn deployment_public(&mut self) -> Result<PublicKey, KeysError> {
        if self.folder.join(DEPLOYMENT_PUBLIC_FILE).exists() {
            return deployment_public(&self.folder, None);
        }
        let key = self.deployment_key()?;
        let public = key.public();
        make_once(&self.folder.join(DEPLOYMENT_PUBLIC_FILE), &format!("{public}\n"))?;
        Ok(public)
    }

    fn deployment_key(&mut self) -> Result<DeploymentKey, KeysError> {
        let text = self.read_or_make(DEPLOYMENT_KEY_FILE, || Ok(seed_text()))?;
        let seed = parse_seed(&self.folder.join(DEPLOYMENT_KEY_FILE), &text)?;
        Ok(DeploymentKey::from_seed(&seed))
    }

    fn instance_key(
        &mut self,
        deployment: &Deployment,
        deployment_key: &PublicKey,
    ) -> Result<InstanceKey, KeysError> {
        let text = self.read_or_make(INSTANCE_KEY_FILE, || Ok(seed_text()))?;
        let seed = parse_seed(&self.folder.join(INSTANCE_KEY_FILE), &text)?;
        let certificate = self.certificate(&seed, deployment, deployment_key)?;
        InstanceKey::from_seed(&seed, certificate).ok_or_else(|| KeysError::Invalid {
            path: self.folder.join(CERTIFICATE_FILE),
            reason: format!("the certificate is not for the key in {INSTANCE_KEY_FILE}"),
        })
    }

    fn certificate(
        &mut self,
        seed: &[u8; 32],
        deployment: &Deployment,
        deployment_key: &PublicKey,
    ) -> Result<Certificate, KeysError> {
        let path = self.folder.join(CERTIFICATE_FILE);
        let invalid =
            |reason: &str| KeysError::Invalid { path: path.clone(), reason: reason.to_owned() };
        if self.folder.join(DEPLOYMENT_KEY_FILE).exists() {
            let key = InstanceKey::public_of_seed(seed);
            return Ok(self.deployment_key()?.certify(deployment.as_str(), key));
        }
        let text = fs::read_to_string(&path).map_err(|error| io_error(&path, error))?;
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
        let path = self.folder.join(name);
        if !path.exists() && make_once(&path, &make()?)? {
            self.created.push(path.clone());
        }
        read_private(&path)
    }
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
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(io_error(path, error)),
    }
}

fn replace_private(path: &Path, text: &str) -> Result<(), KeysError> {
    let draft = write_draft(path, text)?;
    fs::rename(&draft, path).map_err(|error| io_error(path, error))
}

fn write_draft(path: &Path, text: &str) -> Result<PathBuf, KeysError> {
    let mut suffix = [0; 8];
    random(&mut suffix);
    let draft = path.with_extension(format!("draft-{}", HEXLOWER.encode(&suffix)));
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

    fn deployment() -> Deployment {
        Deployment::parse("salon").unwrap()
    }

    #[test]
    fn keys_are_made_once_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("state");
        let first = open_or_create(&folder, None, &deployment(), Timestamp::EPOCH).unwrap();
        assert_eq!(first.created.len(), 4);
        let second = open_or_create(&folder, None, &deployment(), Timestamp::EPOCH).unwrap();
        assert!(second.created.is_empty());
        assert_eq!(first.keyring_id, second.keyring_id);
        assert_eq!(first.commitment_key.id(), second.commitment_key.id());
        assert_eq!(first.instance_key.id(), second.instance_key.id());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        open_or_create(folder.path(), None, &deployment(), Timestamp::EPOCH).unwrap();
        let keyring = folder.path().join(KEYRING_FILE);
        fs::set_permissions(&keyring, fs::Permissions::from_mode(0o644)).unwrap();
        let error = open_or_create(folder.path(), None, &deployment(), Timestamp::EPOCH).err();
        assert!(matches!(error, Some(KeysError::Exposed(path)) if path == keyring));
    }

    #[test]
    fn without_the_deployment_key_a_certificate_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let first = open_or_create(folder.path(), None, &deployment(), Timestamp::EPOCH).unwrap();
        fs::remove_file(folder.path().join(DEPLOYMENT_KEY_FILE)).unwrap();
        assert!(open_or_create(folder.path(), None, &deployment(), Timestamp::EPOCH).is_err());
        let text = certificate_text(first.instance_key.certificate());
        fs::write(folder.path().join(CERTIFICATE_FILE), text).unwrap();
        let second = open_or_create(folder.path(), None, &deployment(), Timestamp::EPOCH).unwrap();
        assert_eq!(first.instance_key.id(), second.instance_key.id());
        let other = Deployment::parse("other").unwrap();
        assert!(open_or_create(folder.path(), None, &other, Timestamp::EPOCH).is_err());
    }
}

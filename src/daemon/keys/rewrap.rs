//! The keyring under another key-encryption key. Keyring and key can't change in one step: the new
//! key is on disk before the keyring needs it, and the old one goes after.

use std::fs;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{
    DRAFT_EXTENSION, ENCRYPTION_KEY_FILE, ENCRYPTION_KEY_SETTING, Files, KEYRING_FILE, KeysError,
    PlacedKey, io_error, is_read_only, make_once, random, read_private, replace_private, seed_text,
    sync_folder_of,
};
use crate::pipeline::redact::keyring::KeyringFile;

/// The new key, until it takes the place of the old one.
const NEXT_KEY_FILE: &str = "encryption.new";

/// Wraps the keyring in `folder` with a new key, which takes the place of the folder's old one.
/// Wherever this is interrupted, the folder opens, and to do it again does all of it.
///
/// # Errors
/// There is no keyring, or see [`KeysError`].
pub fn rewrap(folder: &Path) -> Result<(), KeysError> {
    let mut files = Files::lock_used(folder)?;
    let old = files.encryption_key(None)?;
    let (keyring, _) = files.keyring(&old)?;
    let text = seed_text();
    let new = PlacedKey::parse(files.path(NEXT_KEY_FILE), &text)?;
    replace_private(&new.place, &text)?;
    files.write_rewrapped(&keyring, &old, &new)?;
    files.take_next_key()
}

/// Wraps the keyring in `folder`, whose key `old` is kept elsewhere, with the key in the file `to`,
/// which is made when it is missing. Wherever this is interrupted, the keyring opens with one of the
/// two, and to do it again does the rest.
///
/// # Errors
/// There is no keyring, `to` holds no key or the old one, or see [`KeysError`].
pub fn rewrap_to(folder: &Path, old: &str, to: &Path) -> Result<(), KeysError> {
    let mut files = Files::lock_used(folder)?;
    let old = files.encryption_key(Some(old))?;
    if to.exists() {
        let new = read_elsewhere(to)?;
        match (files.is_wrapped_with(&old), files.is_wrapped_with(&new)) {
            (true, true) => {
                let reason = format!(
                    "holds the key of {ENCRYPTION_KEY_SETTING} itself: name a file with another \
                     key, or one that is not there and is made"
                );
                return Err(KeysError::Invalid { path: new.place, reason });
            }
            (false, true) => return Ok(()),
            (_, false) => {}
        }
    }
    let (keyring, _) = files.keyring(&old)?;
    make_once(to, &seed_text())?;
    files.write_rewrapped(&keyring, &old, &read_elsewhere(to)?)
}

impl Files {
    /// A new key that the keyring is wrapped with already, because a rewrapping was interrupted; if
    /// the folder can be written to, it takes the old one's place now.
    pub(super) fn interrupted_rewrap(&self) -> Result<Option<PlacedKey>, KeysError> {
        let path = self.path(NEXT_KEY_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let new = PlacedKey::parse(path.clone(), &read_private(&path)?)?;
        if !self.is_wrapped_with(&new) {
            return Ok(None);
        }
        match self.take_next_key() {
            Err(KeysError::Io { error, .. }) if is_read_only(&error) => Ok(Some(new)),
            taken => taken.map(|()| Some(new)),
        }
    }

    fn lock_used(folder: &Path) -> Result<Self, KeysError> {
        let path = folder.join(KEYRING_FILE);
        if path.exists() {
            return Self::lock(folder);
        }
        let reason = "is missing, so there is nothing to wrap anew: see that keys.folder is right";
        Err(KeysError::Invalid { path, reason: reason.to_owned() })
    }

    /// What is wrong with a keyring that can't be read is told where it is opened.
    fn is_wrapped_with(&self, key: &PlacedKey) -> bool {
        let text = read_private(&self.path(KEYRING_FILE)).ok();
        let keyring = text.and_then(|text| KeyringFile::parse(&text).ok());
        keyring.is_some_and(|keyring| keyring.check_key(&key.key).is_ok())
    }

    fn write_rewrapped(
        &self,
        keyring: &KeyringFile,
        old: &PlacedKey,
        new: &PlacedKey,
    ) -> Result<(), KeysError> {
        let path = self.path(KEYRING_FILE);
        let rewrapped = keyring.rewrap(&old.key, &new.key, &mut random);
        let rewrapped = rewrapped.map_err(|error| KeysError::Invalid {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        replace_private(&path, &rewrapped.to_text())
    }

    /// The old key goes, and with it what writing it may have left when it was interrupted.
    fn take_next_key(&self) -> Result<(), KeysError> {
        let (next, path) = (self.path(NEXT_KEY_FILE), self.path(ENCRYPTION_KEY_FILE));
        // A keyring that was replaced just before a crash may not be on disk yet.
        sync_folder_of(&path)?;
        for draft in self.key_drafts()? {
            fs::remove_file(&draft).map_err(|error| io_error(&draft, error))?;
        }
        fs::rename(&next, &path).map_err(|error| io_error(&path, error))?;
        sync_folder_of(&path)
    }

    fn key_drafts(&self) -> Result<Vec<PathBuf>, KeysError> {
        let at = |error| io_error(&self.folder, error);
        let draft = Path::new(ENCRYPTION_KEY_FILE).with_extension(DRAFT_EXTENSION);
        let draft = draft.to_string_lossy();
        let mut drafts = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(at)? {
            let path = entry.map_err(at)?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            if name.is_some_and(|name| name.starts_with(&*draft)) {
                drafts.push(path);
            }
        }
        Ok(drafts)
    }
}

/// Its rights are not looked at, as little as those of the file that the settings name.
fn read_elsewhere(path: &Path) -> Result<PlacedKey, KeysError> {
    let text = fs::read_to_string(path).map(Zeroizing::new);
    PlacedKey::parse(path.to_owned(), &text.map_err(|error| io_error(path, error))?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::daemon::keys::open_or_create;
    use crate::pipeline::audit::Deployment;
    use crate::pipeline::record::Timestamp;
    use crate::pipeline::redact::keyring::KeyKind;

    fn mac(folder: &Path, given: Option<&str>) -> Result<[u8; 32], KeysError> {
        let keys = open_or_create(folder, given, &Deployment::parse("salon").unwrap())?;
        Ok(keys.keyring.key(None, KeyKind::Phone, Timestamp::EPOCH).unwrap().mac(b"x"))
    }

    fn files(folder: &Path) -> BTreeMap<String, String> {
        let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
        let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
        named.map(|(name, path)| (name, fs::read_to_string(path).unwrap())).collect()
    }

    #[test]
    fn a_folder_opens_wherever_rewrapping_it_was_interrupted() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let first = mac(folder, None).unwrap();
        let old = files(folder);
        rewrap(folder).unwrap();
        let new = files(folder);
        assert!(new.keys().eq(old.keys()), "{:?}", new.keys());
        assert!(new[KEYRING_FILE] != old[KEYRING_FILE]);
        assert_eq!(mac(folder, None).unwrap(), first);
        let put = |name: &str, text: &str| replace_private(&folder.join(name), text).unwrap();
        for (keyring, is_taken) in [(&old[KEYRING_FILE], false), (&new[KEYRING_FILE], true)] {
            for is_done_again in [false, true] {
                put(KEYRING_FILE, keyring);
                put(ENCRYPTION_KEY_FILE, &old[ENCRYPTION_KEY_FILE]);
                put(NEXT_KEY_FILE, &new[ENCRYPTION_KEY_FILE]);
                put("encryption.draft-0123456789abcdef", &old[ENCRYPTION_KEY_FILE]);
                if is_done_again {
                    rewrap(folder).unwrap();
                }
                assert_eq!(mac(folder, None).unwrap(), first);
                let left = files(folder);
                let is_clean = left.keys().eq(old.keys());
                assert_eq!(is_clean, is_taken || is_done_again, "{:?}", left.keys());
                let is_old = left[ENCRYPTION_KEY_FILE] == old[ENCRYPTION_KEY_FILE];
                assert_eq!(is_old, !is_clean);
                fs::remove_file(folder.join(NEXT_KEY_FILE)).ok();
            }
        }
    }

    #[test]
    fn a_key_kept_elsewhere_is_replaced_by_one_that_is_found_or_made() {
        let folder = tempfile::tempdir().unwrap();
        let (folder, to) = (folder.path().join("keys"), folder.path().join("next"));
        let old = "1".repeat(64);
        let first = mac(&folder, Some(&old)).unwrap();
        let wrong = rewrap_to(&folder, &"2".repeat(64), &to).err();
        assert!(matches!(wrong, Some(KeysError::WrongKey { .. })), "{wrong:?}");
        assert!(!to.exists(), "a key for nothing");
        fs::write(&to, &old).unwrap();
        assert!(matches!(rewrap_to(&folder, &old, &to), Err(KeysError::Invalid { .. })));
        fs::write(&to, "no key").unwrap();
        assert!(matches!(rewrap_to(&folder, &old, &to), Err(KeysError::Invalid { .. })));
        fs::remove_file(&to).unwrap();
        rewrap_to(&folder, &old, &to).unwrap();
        let made = read_private(&to).unwrap();
        let wrapped = files(&folder);
        rewrap_to(&folder, &old, &to).unwrap();
        assert_eq!(files(&folder), wrapped, "done already");
        assert_eq!(mac(&folder, Some(&made)).unwrap(), first);
        assert!(matches!(mac(&folder, Some(&old)), Err(KeysError::WrongKey { .. })));
        let found = "3".repeat(64);
        fs::write(&to, &found).unwrap();
        rewrap_to(&folder, &made, &to).unwrap();
        assert_eq!(mac(&folder, Some(&found)).unwrap(), first);
        assert!(!wrapped.contains_key(ENCRYPTION_KEY_FILE));
    }
}

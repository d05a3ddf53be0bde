//! Signing keys. An offline *deployment key* certifies *instance keys*; an instance key signs
//! seals. Ed25519 (RFC 8032), checked with the strict rules (no small-order keys, no malleability).
//!
//! Every signed message begins with an ASCII tag and a zero byte, and every part of variable
//! length is preceded by its length (u32, big endian), so no message can be read as another.

use std::fmt;

use ed25519_dalek::{Signature as DalekSignature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use super::json;

const CERTIFICATE_TAG: &[u8] = b"blotter/instance-cert/v1\0";
const SEAL_TAG: &[u8] = b"blotter/seal-sig/v1\0";
const KEY_ID_TAG: &[u8] = b"blotter/key-id/v1\0";

/// An Ed25519 signature.
pub type Signature = [u8; 64];

/// The first four bytes of a tagged SHA-256 of a public key: names the key, proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 4]);

impl KeyId {
    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(bytes)
    }

    /// From eight lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        json::read_hex(text.as_bytes()).map(Self)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 4] {
        &self.0
    }

    /// The id of some public or secret-derived bytes under a tag of its kind.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(KEY_ID_TAG);
        hasher.update(bytes);
        let hash: [u8; 32] = hasher.finalize().into();
        Self([hash[0], hash[1], hash[2], hash[3]])
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&json::hex(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeyId({self})")
    }
}

/// Names a set of keys (deployment, token and commitment keys): two keyrings never share one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyringId([u8; 8]);

impl KeyringId {
    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// From sixteen lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        json::read_hex(text.as_bytes()).map(Self)
    }
}

impl fmt::Display for KeyringId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&json::hex(&self.0))
    }
}

impl fmt::Debug for KeyringId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeyringId({self})")
    }
}

/// An Ed25519 public key, known to be a valid point that is not of small order. Kept as its bytes:
/// it is carried about more often than used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// From its 32 bytes (RFC 8032); `None` when they are no valid key or a weak one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let key = VerifyingKey::from_bytes(bytes).ok()?;
        (!key.is_weak()).then_some(Self(*bytes))
    }

    /// From 43 characters of base64url.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_bytes(&json::read_base64(text)?)
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId::of(self.as_bytes())
    }

    fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        let key = VerifyingKey::from_bytes(&self.0).expect("only valid keys are held");
        key.verify_strict(message, &DalekSignature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&data_encoding::BASE64URL_NOPAD.encode(self.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PublicKey({self})")
    }
}

/// An instance's public key with the deployment key's signature over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The instance's key.
    pub key: PublicKey,
    /// By the deployment key, over tag, deployment name and key.
    pub signature: Signature,
}

impl Certificate {
    /// Whether `deployment_key` certified this key for the deployment named `deployment`.
    #[must_use]
    pub fn is_valid(&self, deployment_key: &PublicKey, deployment: &str) -> bool {
        let message = certificate_message(deployment, &self.key);
        deployment_key.verifies(&message, &self.signature)
    }

    /// Whether `signature` is the instance's over the seal bytes `unsigned` of the chain `origin`.
    #[must_use]
    pub fn verifies_seal(&self, origin: &str, unsigned: &[u8], signature: &Signature) -> bool {
        self.key.verifies(&seal_message(origin, unsigned), signature)
    }
}

/// The offline key that certifies instance keys. Its seed is wiped when it is dropped.
pub struct DeploymentKey(SigningKey);

impl DeploymentKey {
    /// From 32 random bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Certifies `key` for the deployment named `deployment`.
    #[must_use]
    pub fn certify(&self, deployment: &str, key: PublicKey) -> Certificate {
        let signature = self.0.sign(&certificate_message(deployment, &key)).to_bytes();
        Certificate { key, signature }
    }
}

impl fmt::Debug for DeploymentKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DeploymentKey({})", self.public().id())
    }
}

/// The key an instance signs seals with. Its seed is wiped when it is dropped.
pub struct InstanceKey {
    key: SigningKey,
    certificate: Certificate,
    id: KeyId,
}

impl InstanceKey {
    /// From 32 random bytes and the certificate; `None` when the certificate is another key's.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32], certificate: Certificate) -> Option<Self> {
        let key = SigningKey::from_bytes(seed);
        let id = certificate.key.id();
        (key.verifying_key().as_bytes() == &certificate.key.0).then_some(Self {
            key,
            certificate,
            id,
        })
    }

    /// The public key of `seed`, to have it certified.
    #[must_use]
    pub fn public_of_seed(seed: &[u8; 32]) -> PublicKey {
        PublicKey(SigningKey::from_bytes(seed).verifying_key().to_bytes())
    }

    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The id of the public key.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Signs the seal bytes `unsigned` of the chain `origin`.
    pub(super) fn sign_seal(&self, origin: &str, unsigned: &[u8]) -> Signature {
        self.key.sign(&seal_message(origin, unsigned)).to_bytes()
    }
}

impl fmt::Debug for InstanceKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "InstanceKey({})", self.id)
    }
}

fn certificate_message(deployment: &str, key: &PublicKey) -> Vec<u8> {
    let mut message = CERTIFICATE_TAG.to_vec();
    push_with_length(&mut message, deployment.as_bytes());
    message.extend_from_slice(key.as_bytes());
    message
}

fn seal_message(origin: &str, unsigned: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(SEAL_TAG.len() + 8 + origin.len() + unsigned.len());
    message.extend_from_slice(SEAL_TAG);
    push_with_length(&mut message, origin.as_bytes());
    push_with_length(&mut message, unsigned);
    message
}

fn push_with_length(message: &mut Vec<u8>, part: &[u8]) {
    let length = u32::try_from(part.len()).expect("names and entries are far below 4 GiB");
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_binds_key_deployment_and_issuer() {
        let deployment = DeploymentKey::from_seed(&[1; 32]);
        let public = InstanceKey::public_of_seed(&[2; 32]);
        let certificate = deployment.certify("salon", public);
        assert!(certificate.is_valid(&deployment.public(), "salon"));
        assert!(!certificate.is_valid(&deployment.public(), "saloon"));
        assert!(!certificate.is_valid(&public, "salon"));
        let other = Certificate { key: deployment.public(), ..certificate };
        assert!(!other.is_valid(&deployment.public(), "salon"));
        assert!(InstanceKey::from_seed(&[3; 32], certificate).is_none());
    }

    #[test]
    fn a_seal_signature_binds_the_chain_and_the_bytes() {
        let deployment = DeploymentKey::from_seed(&[1; 32]);
        let certificate = deployment.certify("d", InstanceKey::public_of_seed(&[2; 32]));
        let key = InstanceKey::from_seed(&[2; 32], certificate).unwrap();
        let signature = key.sign_seal("d/audit/t/0/0", b"bytes");
        assert!(certificate.verifies_seal("d/audit/t/0/0", b"bytes", &signature));
        assert!(!certificate.verifies_seal("d/audit/t/1/0", b"bytes", &signature));
        assert!(!certificate.verifies_seal("d/audit/t/0/0b", b"ytes", &signature));
        assert!(!certificate.verifies_seal("d/audit/t/0/0", b"bytez", &signature));
    }

    #[test]
    fn weak_keys_are_refused_and_secrets_do_not_print() {
        assert!(PublicKey::from_bytes(&[0; 32]).is_none());
        assert!(PublicKey::parse("short").is_none());
        let key = DeploymentKey::from_seed(&[9; 32]);
        assert!(format!("{key:?}").len() < 32);
        assert_eq!(PublicKey::parse(&key.public().to_string()), Some(key.public()));
    }
}

//! Whose numbers: scope (tenant, or one of the reserved ones) and service, their text on the wire,
//! and the measures partition they belong to.

use std::borrow::Cow;
use std::sync::Arc;

use crate::pipeline::limits::SERVICE_BYTES_MAX;
use crate::pipeline::record::TenantId;

/// The name of what a cap pushed out.
pub const OVERFLOW: &str = "_other";

const ALL: &str = "_all";
const NONE: &str = "_none";

/// Whose series it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everybody's, whatever the tenant.
    All,
    /// That of records without a tenant.
    None,
    /// That of tenants a cap pushed out.
    Other,
    /// One tenant's.
    Tenant(TenantId),
}

impl Scope {
    /// The scope of a record with this tenant.
    #[must_use]
    pub fn of(tenant: Option<&TenantId>) -> Self {
        tenant.map_or(Self::None, |tenant| Self::Tenant(tenant.clone()))
    }

    /// The text on the wire. Reserved scopes start with one underscore; a tenant id
    /// that starts with one gets another, so that no tenant can pose as `_all`.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::All => Cow::Borrowed(ALL),
            Self::None => Cow::Borrowed(NONE),
            Self::Other => Cow::Borrowed(OVERFLOW),
            Self::Tenant(tenant) => escaped(tenant.as_str()),
        }
    }

    /// The tenant label: its text, but empty for records without a tenant.
    #[must_use]
    pub fn label(&self) -> Cow<'_, str> {
        if *self == Self::None { Cow::Borrowed("") } else { self.text() }
    }

    /// The scope [`Scope::text`] wrote as `text`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            ALL => Some(Self::All),
            NONE => Some(Self::None),
            OVERFLOW => Some(Self::Other),
            _ => {
                let id = match text.strip_prefix('_') {
                    Some(rest) => rest.starts_with('_').then_some(rest)?,
                    None => text,
                };
                TenantId::new(id).map(Self::Tenant)
            }
        }
    }

    /// The measures partition of this scope, of `count`. What has no tenant goes where everybody's
    /// numbers are.
    #[must_use]
    pub fn partition(&self, count: i32) -> i32 {
        match self {
            Self::None => partition_of(ALL.as_bytes(), count),
            _ => partition_of(self.text().as_bytes(), count),
        }
    }
}

/// A service's text in series: escaped as tenants are, empty when the record names none, the
/// overflow name when it is too long to be one.
#[must_use]
pub fn service_text(service: Option<&str>) -> Cow<'_, str> {
    match service {
        None => Cow::Borrowed(""),
        Some(text) if text.len() > SERVICE_BYTES_MAX => Cow::Borrowed(OVERFLOW),
        Some(text) => escaped(text),
    }
}

fn escaped(text: &str) -> Cow<'_, str> {
    if text.starts_with('_') { Cow::Owned(format!("_{text}")) } else { Cow::Borrowed(text) }
}

/// One line of numbers: scope and service ([`service_text`]).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    /// Whose.
    pub scope: Scope,
    /// Service, empty for none.
    pub service: Arc<str>,
}

impl Series {
    /// The series of `scope` and `service`, which is text made by [`service_text`].
    pub fn new(scope: Scope, service: impl Into<Arc<str>>) -> Self {
        Self { scope, service: service.into() }
    }
}

/// The partition of `count` that Kafka's default partitioner picks for `key`.
///
/// # Panics
/// When `count` is not positive.
#[must_use]
pub fn partition_of(key: &[u8], count: i32) -> i32 {
    assert!(count > 0, "a topic has at least one partition");
    (murmur2(key) & i32::MAX) % count
}

/// MurmurHash2 as Kafka's Java client computes it (`org.apache.kafka.common.utils.Utils`).
#[must_use]
pub fn murmur2(data: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len() & 0xffff_ffff).expect("masked to 32 bits");
    let (words, rest) = data.as_chunks::<4>();
    let mut hash = words.iter().fold(SEED ^ length, |hash, word| {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash.wrapping_mul(M) ^ k
    });
    if !rest.is_empty() {
        for (index, &byte) in rest.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    (hash ^ (hash >> 15)).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_agrees_with_kafkas_own_vectors() {
        // org.apache.kafka.common.utils.UtilsTest.testMurmur2
        for (text, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()), hash, "{text}");
        }
    }

    #[test]
    fn no_tenant_poses_as_a_reserved_scope() {
        for id in ["_all", "_none", "_other", "__x", "_", "salon-1", "\u{0}\u{7f}"] {
            let scope = Scope::Tenant(TenantId::new(id).unwrap());
            assert_eq!(Scope::parse(&scope.text()), Some(scope.clone()));
            assert_ne!(Scope::parse(id), Some(scope).filter(|_| id.starts_with('_')));
        }
        for scope in [Scope::All, Scope::None, Scope::Other] {
            assert_eq!(Scope::parse(&scope.text()), Some(scope));
        }
        assert_eq!(Scope::parse("_unknown"), None);
        assert_eq!(Scope::parse(""), None);
    }

    #[test]
    fn records_without_a_tenant_go_to_the_partition_of_all() {
        assert_eq!(Scope::None.partition(12), Scope::All.partition(12));
    }
}

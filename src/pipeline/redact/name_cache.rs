//! What names of fields say, remembered.

use super::context::{FieldClass, class_of_key};

/// Classes of names seen lately: services repeat theirs in every record. A name is compared whole,
/// so that no other can take its class.
#[derive(Default)]
pub(super) struct NameCache(Vec<CachedName>);

#[derive(Clone, Copy)]
struct CachedName {
    /// Padded with zeros, which no name holds.
    name: [u64; CACHED_NAME_BYTES / 8],
    class: FieldClass,
}

const CACHED_NAME_BYTES: usize = 24;
const CACHED_NAMES: usize = 512;

impl NameCache {
    /// What `name` says of its value.
    pub(super) fn class(&mut self, name: &[u8]) -> FieldClass {
        if name.is_empty() || name.len() > CACHED_NAME_BYTES {
            return class_of_key(name);
        }
        if self.0.is_empty() {
            self.0.resize(CACHED_NAMES, CachedName { name: [0; 3], class: FieldClass::None });
        }
        let mut padded = [0; CACHED_NAME_BYTES];
        padded[..name.len()].copy_from_slice(name);
        let mut words = [0; 3];
        for (word, eight) in words.iter_mut().zip(padded.as_chunks().0) {
            *word = u64::from_le_bytes(*eight);
        }
        let mix = |hash: u64, word: &u64| (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let hash = words.iter().fold(0, mix) >> (u64::BITS - CACHED_NAMES.ilog2());
        let cached = &mut self.0[usize::try_from(hash).expect("a few bits") % CACHED_NAMES];
        if cached.name != words {
            *cached = CachedName { name: words, class: class_of_key(name) };
        }
        cached.class
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_class() {
        let mut names = NameCache::default();
        for _ in 0..2 {
            for (name, class) in [
                ("phone", FieldClass::Phone),
                ("order_id", FieldClass::Negative),
                ("", FieldClass::Other),
                ("the_phone_number_of_a_customer", FieldClass::Phone),
            ] {
                assert_eq!(names.class(name.as_bytes()), class, "{name}");
            }
        }
    }
}

//! RFC 6962 section 2.1 hashes: leaf `SHA-256(0x00 || data)`, node `SHA-256(0x01 || left || right)`.

use sha2::{Digest, Sha256};

/// A SHA-256 value of a leaf, node or root.
pub type Hash = [u8; 32];

/// The leaf hash of `data`.
#[must_use]
pub fn leaf_hash(data: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(data);
    hasher.finalize().into()
}

/// The root of the tree over `leaves` (leaf hashes) in order; the empty tree's is `SHA-256("")`.
#[must_use]
pub fn root_of(leaves: impl IntoIterator<Item = Hash>) -> Hash {
    let mut range = CompactRange::default();
    for leaf in leaves {
        range.push(leaf);
    }
    range.root()
}

/// The right edge of a growing tree: one hash per set bit of its size, so at most 64.
#[derive(Clone, Debug, Default)]
pub struct CompactRange {
    size: u64,
    peaks: Vec<Hash>,
}

impl CompactRange {
    /// Appends a leaf hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        let mut size = self.size;
        while size & 1 == 1 {
            let left = self.peaks.pop().expect("one peak per set bit of the size");
            hash = node_hash(&left, &hash);
            size >>= 1;
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root over all leaves so far.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else {
            return Sha256::digest([]).into();
        };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }

    /// Empties the tree and keeps its memory.
    pub fn clear(&mut self) {
        self.size = 0;
        self.peaks.clear();
    }
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([1]);
    hasher.update(left);
    hasher.update(right);
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of RFC 6962 section 2.1, word for word.
    fn root_by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => *leaf,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                let (left, right) = leaves.split_at(split);
                node_hash(&root_by_definition(left), &root_by_definition(right))
            }
        }
    }

    #[test]
    fn roots_equal_the_definition_at_every_size() {
        let leaves: Vec<Hash> = (0_u32..1026).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let mut range = CompactRange::default();
        for size in 0..leaves.len() {
            assert_eq!(range.root(), root_by_definition(&leaves[..size]), "size {size}");
            assert_eq!(range.size(), size as u64);
            range.push(leaves[size]);
        }
        assert_eq!(root_of(leaves.iter().copied()), range.root());
    }

    #[test]
    fn known_answers_of_certificate_transparency() {
        // The reference tree of the certificate-transparency code: 1 and 2 leaves.
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let one = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
        let two = "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125";
        let hex = |hash: Hash| data_encoding::HEXLOWER.encode(&hash);
        assert_eq!(hex(root_of([])), empty);
        assert_eq!(hex(root_of([leaf_hash(b"")])), one);
        assert_eq!(hex(root_of([leaf_hash(b""), leaf_hash(b"\0")])), two);
    }
}

//! A word list looked up by hash; built at compile time.

/// Words (lower case) and what they mean.
pub(super) struct Lexicon<M: 'static> {
    groups: &'static [(M, &'static [&'static str])],
    slots: [(u8, u16); SLOTS],
}

const SLOTS: usize = 2048;
const EMPTY: u8 = u8::MAX;
/// Longer words mean nothing.
pub(super) const WORD_BYTES_MAX: usize = 32;

impl<M: Copy> Lexicon<M> {
    /// Words by meaning. A word that stands twice keeps its first meaning.
    pub(super) const fn new(groups: &'static [(M, &'static [&'static str])]) -> Self {
        let mut slots = [(EMPTY, 0); SLOTS];
        let mut group = 0;
        while group < groups.len() {
            let words = groups[group].1;
            let mut word = 0;
            while word < words.len() {
                let mut slot = hash(words[word].as_bytes());
                while slots[slot].0 != EMPTY {
                    slot = (slot + 1) % SLOTS;
                }
                #[expect(clippy::cast_possible_truncation, reason = "lists are far shorter")]
                let entry = (group as u8, word as u16);
                slots[slot] = entry;
                word += 1;
            }
            group += 1;
        }
        Self { groups, slots }
    }

    /// What `word` (lower case) means.
    pub(super) fn meaning(&self, word: &[u8]) -> Option<M> {
        let mut slot = hash(word);
        loop {
            let (group, index) = self.slots[slot];
            let (meaning, words) = self.groups.get(usize::from(group))?;
            if words[usize::from(index)].as_bytes() == word {
                return Some(*meaning);
            }
            slot = (slot + 1) % SLOTS;
        }
    }
}

/// FNV-1a, folded to a slot.
const fn hash(word: &[u8]) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    let mut at = 0;
    while at < word.len() {
        hash = (hash ^ word[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    ((hash ^ (hash >> 15)) as usize) % SLOTS
}

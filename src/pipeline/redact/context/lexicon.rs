//! A word list looked up by hash; built at compile time.

/// Words (lower case) and what they mean.
pub(super) struct Lexicon<M: 'static> {
    groups: &'static [(M, &'static str)],
    slots: [Slot; SLOTS],
}

/// Where a word stands: its group, and its place in the group's text.
#[derive(Clone, Copy)]
struct Slot {
    group: u8,
    len: u8,
    start: u16,
}

const SLOTS: usize = 2048;
const EMPTY: Slot = Slot { group: u8::MAX, len: 0, start: 0 };
/// Longer words mean nothing.
pub(super) const WORD_BYTES_MAX: usize = 32;

impl<M: Copy> Lexicon<M> {
    /// Words, separated by one space, by meaning. No word may stand twice.
    #[expect(clippy::cast_possible_truncation, reason = "asserted just before")]
    pub(super) const fn new(groups: &'static [(M, &'static str)]) -> Self {
        let mut slots = [EMPTY; SLOTS];
        let mut group = 0;
        while group < groups.len() {
            let text = groups[group].1.as_bytes();
            assert!(text.len() < u16::MAX as usize && group < EMPTY.group as usize);
            let mut start = 0;
            while start < text.len() {
                let mut end = start;
                while end < text.len() && text[end] != b' ' {
                    end += 1;
                }
                assert!(end - start <= WORD_BYTES_MAX && end > start);
                let mut slot = hash(text, start, end);
                while slots[slot].len != 0 {
                    slot = (slot + 1) % SLOTS;
                }
                slots[slot] =
                    Slot { group: group as u8, len: (end - start) as u8, start: start as u16 };
                start = end + 1;
            }
            group += 1;
        }
        Self { groups, slots }
    }

    /// What `word` (lower case) means.
    pub(super) fn meaning(&self, word: &[u8]) -> Option<M> {
        let mut slot = hash(word, 0, word.len());
        loop {
            let entry = self.slots[slot];
            if entry.len == 0 {
                return None;
            }
            let (meaning, text) = self.groups[usize::from(entry.group)];
            let start = usize::from(entry.start);
            if text.as_bytes()[start..start + usize::from(entry.len)] == *word {
                return Some(meaning);
            }
            slot = (slot + 1) % SLOTS;
        }
    }
}

/// Whether one of `stems` (lower case, not empty) is part of `word`.
pub(super) fn has_stem(word: &[u8], stems: &[&str]) -> bool {
    (0..word.len()).any(|at| {
        let rest = &word[at..];
        let begins =
            |stem: &&str| stem.as_bytes()[0] == rest[0] && rest.starts_with(stem.as_bytes());
        stems.iter().any(begins)
    })
}

/// FNV-1a of `text[start..end]`, folded to a slot.
const fn hash(text: &[u8], start: usize, end: usize) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    let mut at = start;
    while at < end {
        hash = (hash ^ text[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    ((hash ^ (hash >> 15)) as usize) % SLOTS
}

//! A fast keyed hash, and an index from token text to id that copies no text.
//!
//! The key is random per process, so a crafted vocabulary cannot choose collisions. No result depends on it: tables are only
//! looked up, never walked.
use base::TokenId;
use base::vocab::StrTable;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// Key of the hash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    start: u64,
    factor: u64,
}

impl Key {
    pub(crate) fn random() -> Key {
        let random = || RandomState::new().build_hasher().finish();
        Key { start: random(), factor: random() | 1 }
    }
}

/// Multiply, then fold the high half of the product onto the low half.
pub(crate) struct Folding {
    state: u64,
    factor: u64,
}

impl Folding {
    #[inline]
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.factor);
        self.state = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for Folding {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let mut last = [0u8; 8];
        last[..tail.len()].copy_from_slice(tail);
        self.mix(u64::from_le_bytes(last));
        self.mix(bytes.len() as u64);
    }
    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }
    #[inline]
    fn finish(&self) -> u64 {
        // The multiplication leaves the entropy in the middle; hash tables use both ends.
        self.state ^ self.state.rotate_left(32)
    }
}

impl BuildHasher for Key {
    type Hasher = Folding;
    #[inline]
    fn build_hasher(&self) -> Folding {
        Folding { state: self.start, factor: self.factor }
    }
}

/// Token text -> id. The first of equal texts wins; empty texts are not found.
#[derive(Clone, Debug)]
pub(crate) struct TextIndex {
    key: Key,
    /// (high half of the hash, id + 1); id + 1 = 0: free. Length is a power of two, at most half full.
    slots: Vec<(u32, u32)>,
}

impl TextIndex {
    pub(crate) fn new(texts: &StrTable, key: Key) -> TextIndex {
        let capacity = texts.len().saturating_mul(2).next_power_of_two().max(2);
        let mut index = TextIndex { key, slots: vec![(0, 0); capacity] };
        for (id, text) in texts.iter().enumerate().filter(|(_, t)| !t.is_empty()) {
            index.insert(texts, text, id as u32);
        }
        index
    }

    #[inline]
    fn place(&self, text: &str) -> (usize, u32) {
        let mut hasher = self.key.build_hasher();
        hasher.write(text.as_bytes());
        let hash = hasher.finish();
        (hash as usize & (self.slots.len() - 1), (hash >> 32) as u32)
    }

    fn insert(&mut self, texts: &StrTable, text: &str, id: u32) {
        let (mut slot, tag) = self.place(text);
        loop {
            let (found_tag, found) = self.slots[slot];
            if found == 0 {
                self.slots[slot] = (tag, id + 1);
                return;
            }
            if found_tag == tag && texts.get(found as usize - 1) == Some(text) {
                return;
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }

    /// The id of a text in `texts`, the table the index was made from.
    #[inline]
    pub(crate) fn get(&self, texts: &StrTable, text: &str) -> Option<TokenId> {
        let (mut slot, tag) = self.place(text);
        loop {
            let (found_tag, found) = self.slots[slot];
            if found == 0 {
                return None;
            }
            if found_tag == tag && texts.get(found as usize - 1) == Some(text) {
                return Some(found - 1);
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_text_and_nothing_else() {
        let texts: Vec<String> = (0..5000).map(|i| format!("t{i}")).collect();
        let table: StrTable = texts.iter().map(String::as_str).collect();
        let index = TextIndex::new(&table, Key::random());
        for (id, text) in texts.iter().enumerate() {
            assert_eq!(index.get(&table, text), Some(id as u32));
        }
        assert_eq!(index.get(&table, "t5000"), None);
        assert_eq!(index.get(&table, ""), None);
    }

    #[test]
    fn first_of_equal_texts_wins() {
        let table: StrTable = ["a", "", "a", "b"].into_iter().collect();
        let index = TextIndex::new(&table, Key::random());
        assert_eq!(index.get(&table, "a"), Some(0));
        assert_eq!(index.get(&table, "b"), Some(3));
        assert_eq!(TextIndex::new(&StrTable::new(), Key::random()).get(&StrTable::new(), "a"), None);
    }
}

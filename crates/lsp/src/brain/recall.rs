//! Suggestions that were given before: the least recently used one goes first. A look-back finds one that was made up to
//! `RECALL_BACK_BYTES_MAX` bytes earlier and that agrees with what was typed since.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use base::limits::{RECALL_BACK_BYTES_MAX, RECALL_MAX};

/// Bytes before and after the cursor that must be equal.
const TAIL_BYTES: usize = 512;
const HEAD_BYTES: usize = 64;

/// An earlier answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the model wrote at that place.
    pub raw: String,
    /// It wrote no more.
    pub is_done: bool,
    used: u64,
}

/// The store.
#[derive(Debug, Default)]
pub struct Recall {
    entries: HashMap<u64, Entry>,
    clock: u64,
}

fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(TAIL_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

fn head(text: &str) -> &str {
    let mut to = text.len().min(HEAD_BYTES);
    while !text.is_char_boundary(to) {
        to -= 1;
    }
    &text[..to]
}

fn place(path: &str, before: &str, after: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (path, tail(before), head(after)).hash(&mut hasher);
    hasher.finish()
}

impl Recall {
    /// Keeps what the model wrote at a place; a longer text about the same place stays.
    pub fn keep(&mut self, path: &str, before: &str, after: &str, raw: &str, is_done: bool) {
        let (key, used) = (place(path, before, after), self.tick());
        match self.entries.get_mut(&key) {
            Some(e) if e.raw.starts_with(raw) && (e.is_done || e.raw.len() > raw.len()) => e.used = used,
            _ => {
                self.entries.insert(key, Entry { raw: raw.to_owned(), is_done, used });
            }
        }
        if self.entries.len() > RECALL_MAX
            && let Some(oldest) = self.entries.iter().min_by_key(|(_, e)| e.used).map(|(k, _)| *k)
        {
            self.entries.remove(&oldest);
        }
    }

    /// What is left of an earlier answer at this place, and whether the model had ended there. The nearest counts.
    pub fn find(&mut self, path: &str, before: &str, after: &str) -> Option<(String, bool)> {
        let lowest = before.len().saturating_sub(RECALL_BACK_BYTES_MAX);
        for at in (lowest..=before.len()).rev().filter(|at| before.is_char_boundary(*at)) {
            let (earlier, typed) = before.split_at(at);
            let key = place(path, earlier, after);
            let used = self.clock + 1;
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            if let Some(left) = entry.raw.strip_prefix(typed).filter(|left| !left.is_empty()) {
                entry.used = used;
                self.clock = used;
                return Some((left.to_owned(), entry.is_done));
            }
        }
        None
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_along_finds_what_is_left_of_an_earlier_answer() {
        let mut recall = Recall::default();
        recall.keep("a", "let x", ";", " = foo()", true);
        assert_eq!(recall.find("a", "let x", ";"), Some((" = foo()".into(), true)));
        assert_eq!(recall.find("a", "let x = f", ";"), Some(("oo()".into(), true)));
        assert_eq!(recall.find("a", "let x = g", ";"), None);
        assert_eq!(recall.find("a", "let x = foo()", ";"), None, "nothing left");
        assert_eq!(recall.find("b", "let x", ";"), None, "another file");
        assert_eq!(recall.find("a", "let x", ")"), None, "another text after");
    }

    #[test]
    fn the_store_is_bounded_and_forgets_the_least_recently_used() {
        let mut recall = Recall::default();
        recall.keep("a", "keep", "", "x", true);
        for i in 0..RECALL_MAX * 3 {
            recall.keep("a", &format!("place {i}!"), "", "y", true);
            assert!(recall.find("a", "keep", "").is_some());
            assert!(recall.entries.len() <= RECALL_MAX);
        }
        assert_eq!(recall.find("a", "place 1!", ""), None);
    }

    #[test]
    fn look_back_is_bounded() {
        let mut recall = Recall::default();
        let long = "é".repeat(RECALL_BACK_BYTES_MAX);
        recall.keep("a", "", "", &long, true);
        let half = "é".repeat(RECALL_BACK_BYTES_MAX / 2);
        assert!(recall.find("a", &half, "").is_some());
        assert_eq!(recall.find("a", &"é".repeat(RECALL_BACK_BYTES_MAX / 2 + 1), ""), None);
    }
}

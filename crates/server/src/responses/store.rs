//! Answers that can be continued: `previous_response_id` on HTTP, and on a WebSocket after its connection was lost.
//! Bounded in number, for each key, and in bytes; the longest unused goes first. In memory only.

use protocol::responses::Item;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base::limits;

/// Something that is kept, and counts what it weighs as long as anybody holds it.
#[derive(Debug)]
pub(crate) struct Weighed<T> {
    value: T,
    bytes: usize,
    sum: Arc<AtomicUsize>,
}

impl<T> std::ops::Deref for Weighed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Drop for Weighed<T> {
    fn drop(&mut self) {
        self.sum.fetch_sub(self.bytes, Relaxed);
    }
}

/// What was said, turn by turn. Conversations that share their beginning share its turns.
pub(crate) type Thread = Vec<Arc<Weighed<Vec<Item>>>>;

/// An answer that is kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// Up to and with this answer.
    pub(crate) thread: Thread,
    /// The answer, if it may be fetched; otherwise it is here to be continued only.
    pub(crate) json: Option<Arc<Weighed<Vec<u8>>>>,
}

#[derive(Debug)]
struct Entry {
    key: u64,
    kept: Kept,
    used: u64,
    until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<String, Entry>,
    clock: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Responses {
    inner: Mutex<Inner>,
    sum: Arc<AtomicUsize>,
}

impl Responses {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts this value as long as it lives.
    fn weighed<T>(&self, value: T, bytes: usize) -> Arc<Weighed<T>> {
        self.sum.fetch_add(bytes, Relaxed);
        Arc::new(Weighed { value, bytes, sum: Arc::clone(&self.sum) })
    }

    /// A conversation with one more turn.
    pub(crate) fn grown(&self, before: &Thread, items: Vec<Item>) -> Thread {
        let bytes = items.iter().map(Item::bytes).sum::<usize>() + (before.len() + 1) * size_of::<usize>();
        let turn = self.weighed(items, bytes);
        before.iter().cloned().chain([turn]).collect()
    }

    /// Keeps an answer under its id: with its JSON until it is pushed out, without for some minutes.
    pub(crate) fn keep(&self, id: &str, key: u64, thread: Thread, json: Option<Vec<u8>>) {
        let json = json.map(|json| {
            let bytes = json.len();
            self.weighed(json, bytes)
        });
        let now = Instant::now();
        let until = json.is_none().then(|| now + Duration::from_secs(limits::RESPONSE_RESUME_S_MAX));
        let mut inner = self.lock();
        inner.clock += 1;
        let used = inner.clock;
        inner.entries.retain(|_, e| e.until.is_none_or(|until| until > now));
        inner.entries.insert(id.to_owned(), Entry { key, kept: Kept { thread, json }, used, until });
        let of_key = inner.entries.values().filter(|e| e.key == key).count();
        if of_key > limits::RESPONSES_PER_KEY_MAX {
            inner.drop_oldest(|e| e.key == key);
        }
        while inner.entries.len() > limits::RESPONSES_MAX
            || self.sum.load(Relaxed) > limits::RESPONSES_BYTES_MAX && !inner.entries.is_empty()
        {
            inner.drop_oldest(|_| true);
        }
    }

    /// The answer of this id, if this key has asked for it.
    pub(crate) fn find(&self, id: &str, key: u64) -> Option<Kept> {
        let mut inner = self.lock();
        inner.clock += 1;
        let used = inner.clock;
        let entry = inner.entries.get_mut(id).filter(|e| e.key == key)?;
        if entry.until.is_some_and(|until| until <= Instant::now()) {
            return None;
        }
        entry.used = used;
        Some(entry.kept.clone())
    }

    /// Forgets it; false if it was not there.
    pub(crate) fn remove(&self, id: &str, key: u64) -> bool {
        let mut inner = self.lock();
        let is_there = inner.entries.get(id).is_some_and(|e| e.key == key && e.kept.json.is_some());
        if is_there {
            inner.entries.remove(id);
        }
        is_there
    }

    /// An item that this key was given, or has sent.
    pub(crate) fn item(&self, id: &str, key: u64) -> Option<Item> {
        let inner = self.lock();
        let of_key = inner.entries.values().filter(|e| e.key == key);
        // Each answer's own turn is its last one; turns before it belong to answers that are kept as well, or were dropped.
        let mut items = of_key.filter_map(|e| e.kept.thread.last()).flat_map(|turn| turn.iter());
        items.find(|i| i.id() == Some(id) && !matches!(i, Item::Reference { .. })).cloned()
    }
}

impl Inner {
    fn drop_oldest(&mut self, of: impl Fn(&Entry) -> bool) {
        let oldest = self.entries.iter().filter(|(_, e)| of(e)).min_by_key(|(_, e)| e.used).map(|(id, _)| id.clone());
        if let Some(id) = oldest {
            self.entries.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Role;

    fn item(text: &str) -> Item {
        Item::Message { id: Some(format!("msg_{}", text.len())), role: Role::User, text: text.to_owned() }
    }

    fn keep(all: &Responses, id: &str, key: u64, text: &str) {
        all.keep(id, key, all.grown(&Vec::new(), vec![item(text)]), Some(b"{}".to_vec()));
    }

    #[test]
    fn keys_do_not_see_each_other_and_the_longest_unused_goes_first() {
        let all = Responses::default();
        for n in 0..=limits::RESPONSES_PER_KEY_MAX {
            keep(&all, &format!("a{n}"), 1, "x");
            assert!(all.find("a1", 1).is_some() || n == 0);
            keep(&all, "b", 2, "x");
        }
        assert!(all.find("a0", 1).is_none(), "pushed out");
        assert!(all.find("a2", 1).is_some() && all.find("a1", 1).is_some());
        assert!(all.find("b", 1).is_none() && all.find("b", 2).is_some());
        assert!(!all.remove("b", 1) && all.remove("b", 2) && !all.remove("b", 2));
    }

    #[test]
    fn bytes_are_bounded_and_come_back() {
        let all = Responses::default();
        let text = "y".repeat(1 << 20);
        for n in 0..200 {
            keep(&all, &format!("r{n}"), n, &text);
            assert!(all.sum.load(Relaxed) <= limits::RESPONSES_BYTES_MAX);
        }
        assert!(all.find("r0", 0).is_none() && all.find("r199", 199).is_some());
        let held = all.find("r199", 199).unwrap();
        let grown = all.grown(&held.thread, vec![item("more")]);
        assert_eq!(grown.len(), 2);
        all.lock().entries.clear();
        assert!(all.sum.load(Relaxed) > 1 << 20, "somebody still holds it");
        drop((held, grown));
        assert_eq!(all.sum.load(Relaxed), 0);
    }

    #[test]
    fn items_are_found_by_their_id() {
        let all = Responses::default();
        keep(&all, "r", 1, "four");
        assert_eq!(all.item("msg_4", 1), Some(item("four")));
        assert_eq!(all.item("msg_4", 2), None);
    }
}

//! The pages that may be evicted, least valuable first: a binary heap that knows where each page is, so that a page leaves
//! it in `log2(n_pages)` steps when it is used again.

/// Rank, last use, page: in this order of importance. The page makes the order total, so replays are equal.
pub(super) type Leaf = (u64, u64, u32);

const ABSENT: u32 = u32::MAX;

pub(super) struct Leaves {
    heap: Vec<Leaf>,
    /// Index in `heap` of each page.
    at: Vec<u32>,
}

impl Leaves {
    pub fn new(n_pages: usize) -> Self {
        Self { heap: Vec::with_capacity(n_pages), at: vec![ABSENT; n_pages] }
    }

    pub fn has(&self, page: u32) -> bool {
        self.at.get(page as usize).is_some_and(|at| *at != ABSENT)
    }

    pub fn heap(&self) -> &[Leaf] {
        &self.heap
    }

    pub fn least(&self) -> Option<u32> {
        self.heap.first().map(|leaf| leaf.2)
    }

    pub fn push(&mut self, leaf: Leaf) {
        self.remove(leaf.2);
        self.heap.push(leaf);
        self.at[leaf.2 as usize] = self.heap.len() as u32 - 1;
        self.rise(self.heap.len() - 1);
    }

    /// Does nothing for a page that is not here.
    pub fn remove(&mut self, page: u32) {
        if !self.has(page) {
            return;
        }
        let i = self.at[page as usize] as usize;
        self.swap(i, self.heap.len() - 1);
        self.heap.pop();
        self.at[page as usize] = ABSENT;
        if i < self.heap.len() {
            self.sink(i);
            self.rise(i);
        }
    }

    pub fn clear(&mut self) {
        self.heap.clear();
        self.at.fill(ABSENT);
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.at[self.heap[a].2 as usize] = a as u32;
        self.at[self.heap[b].2 as usize] = b as u32;
    }

    fn rise(&mut self, mut i: usize) {
        while i > 0 && self.heap[i] < self.heap[(i - 1) / 2] {
            self.swap(i, (i - 1) / 2);
            i = (i - 1) / 2;
        }
    }

    fn sink(&mut self, mut i: usize) {
        loop {
            let below = (2 * i + 1..self.heap.len().min(2 * i + 3)).min_by_key(|c| self.heap[*c]);
            match below {
                Some(c) if self.heap[c] < self.heap[i] => self.swap(i, c),
                _ => return,
            }
            i = below.unwrap_or(i);
        }
    }
}

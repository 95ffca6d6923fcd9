//! Who owns which page of keys and values: the free list, the sequences, and a radix tree of prefixes that sequences share.
//! Plain data: no clock (recency counts operations), no IO, no allocation after `new`. See docs/kv-cache.md. Where the time
//! goes: `Tree::nearest`, once for each page of a prompt.
//!
//! The owner of the keys and values moves them; this module only says where they are. Three promises are asked of it:
//! 1. A page is written at positions that are not published yet, never again after that.
//! 2. A [`PageCopy`] is done at once, before the next call of anything here: nothing holds `from` after `start` returns.
//! 3. A page from [`Pages::adopt`] is filled at once, for the same reason.

mod check;
mod leaves;
mod save;
mod tree;

pub use save::{Adopted, CachedPage, Handle};

use base::TokenId;
use leaves::Leaves;
use ops::PAGE_LEN;
use tree::{NONE, Place, Tree};

/// A position this deep costs twice as much to compute as the first one: for a model of half a billion weights, attention
/// over 8,192 positions is about as many operations as all projections. Deeper ones count no more than that, so that no
/// page of a one-off prompt, however long, outranks one that was reused.
const DEPTH_TWICE: u64 = 8192;
/// A page that was used again after its first use is worth this many that were not. It keeps a long one-off prompt from
/// washing out open files (`one_off_prompts_do_not_wash_out_open_files`); more would keep closed files for longer.
const REUSED: u64 = 4;
/// Clock of operations at start; pages that were read from disk count down from here, so they are older than all others.
const FIRST_OPERATION: u64 = 1 << 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// Belongs to one sequence: it is in one table, and not in the tree.
    Private,
    /// In the tree, and in the tables of the sequences that pin it.
    Cached,
}

/// Pages of one cache: each is free, private to one sequence, or cached in the tree.
pub struct Pages {
    tree: Tree,
    /// Cached pages that may be evicted now: nothing below them, pinned by nobody.
    leaves: Leaves,
    state: Vec<State>,
    free: Vec<u32>,
    n_pinned: usize,
    /// Counts operations.
    now: u64,
    /// Rank of the most valuable page evicted so far: the clock by which unused pages lose their value.
    floor: u64,
    restored: u64,
    order: Vec<u32>,
    best: Vec<u64>,
}

/// A running sequence's hold on the tree. It must end through [`Pages::end`], so it cannot be copied.
#[derive(Debug)]
pub struct Lease {
    salt: u64,
    /// Deepest page of the path that this sequence pins.
    node: u32,
    /// Length of that path: so many pages at the start of the table are in the tree, the others are private.
    n_pages: u32,
}

impl Default for Lease {
    fn default() -> Self {
        Self { salt: 0, node: NONE, n_pages: 0 }
    }
}

impl Lease {
    /// Pages at the start of the table that are in the tree. They must not be written.
    pub fn n_shared(&self) -> usize {
        self.n_pages as usize
    }
}

/// All layers of page `from` must be copied to page `to`, at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageCopy {
    /// A cached page whose first positions fit.
    pub from: u32,
    /// A private page, already in the table.
    pub to: u32,
}

/// What a sequence starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Tokens that need not be computed, always fewer than there are. The table holds `n_cached.div_ceil(PAGE_LEN)` pages.
    pub n_cached: usize,
    /// To be done before anything else.
    pub copy: Option<PageCopy>,
}

/// What a sequence would start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peek {
    /// Tokens that would not be computed.
    pub n_cached: usize,
    /// Pages of the hit that other sequences hold already: these cost nothing.
    pub n_pinned: usize,
}

impl Peek {
    /// By how much `available` falls when a sequence starts and grows to `n_table` pages. Shared pages count too unless
    /// somebody pins them already: they can no longer be evicted.
    pub fn cost(&self, n_table: usize) -> usize {
        n_table.saturating_sub(self.n_pinned)
    }
}

/// The longest cached prefix.
struct Found {
    /// Deepest whole page.
    node: u32,
    /// Whole pages.
    n_pages: usize,
    /// A page below `node`, and how many of its first positions fit (0: none).
    partial: u32,
    n_partial: usize,
}

impl Pages {
    /// All pages free. About 370 bytes a page.
    pub fn new(n_pages: usize) -> Self {
        Self {
            tree: Tree::new(n_pages),
            leaves: Leaves::new(n_pages),
            state: vec![State::Free; n_pages],
            free: (0..n_pages as u32).rev().collect(),
            n_pinned: 0,
            now: FIRST_OPERATION,
            floor: 0,
            restored: FIRST_OPERATION,
            order: Vec::with_capacity(n_pages),
            best: vec![0; n_pages],
        }
    }

    /// Pages in all.
    pub fn total(&self) -> usize {
        self.state.len()
    }

    /// Pages that hold nothing.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Pages in the tree, pinned or not.
    pub fn cached(&self) -> usize {
        self.tree.len()
    }

    /// Pages in the tree that running sequences hold.
    pub fn pinned(&self) -> usize {
        self.n_pinned
    }

    /// Calls of [`Self::take`] that would succeed now.
    pub fn available(&self) -> usize {
        self.free() + self.cached() - self.pinned()
    }

    /// What [`Self::start`] would find. Changes nothing.
    pub fn peek(&self, salt: u64, tokens: &[TokenId]) -> Peek {
        let found = self.find(salt, tokens, usize::MAX);
        let n_pinned = self.tree.path(found.node).filter(|p| self.tree.node(*p).refs > 0).count();
        Peek { n_cached: found.n_pages * PAGE_LEN + found.n_partial, n_pinned }
    }

    /// Starts a sequence with the longest cached prefix of all its tokens but the last, whose logits are needed. Whole
    /// pages are pinned and written to `table`; where the next page fits in part, a private copy of it follows.
    ///
    /// Where `available` is below `peek(..).cost(..)`, the copy may be left out.
    pub fn start(&mut self, salt: u64, tokens: &[TokenId], table: &mut [u32], lease: &mut Lease) -> Hit {
        debug_assert!(lease.n_pages == 0, "the lease is in use");
        self.now += 1;
        let found = self.find(salt, tokens, table.len());
        *lease = Lease { salt, node: found.node, n_pages: found.n_pages as u32 };
        let mut page = found.node;
        for i in (0..found.n_pages).rev() {
            table[i] = page;
            self.reuse(page);
            page = self.tree.node(page).parent;
        }
        let n_whole = found.n_pages * PAGE_LEN;
        if found.n_partial == 0 {
            return Hit { n_cached: n_whole, copy: None };
        }
        match self.take_copy_of(found.partial) {
            None => Hit { n_cached: n_whole, copy: None },
            Some(to) => {
                table[found.n_pages] = to;
                let copy = (to != found.partial).then_some(PageCopy { from: found.partial, to });
                Hit { n_cached: n_whole + found.n_partial, copy }
            }
        }
    }

    /// One more private page, for the caller to put into its table. If none is free, the least valuable page of the cache
    /// goes. `None`: running sequences hold everything.
    pub fn take(&mut self) -> Option<u32> {
        if self.free.is_empty() {
            let page = self.leaves.least()?;
            self.floor = self.floor.max(self.tree.node(page).rank);
            self.forget(page);
        }
        let page = self.free.pop()?;
        self.state[page as usize] = State::Private;
        Some(page)
    }

    /// The sequence's keys and values are right for its first `n_valid` tokens: pages that became full are shared from
    /// now on. Where an equal page is there already, `table` gets that one and the private one is free.
    pub fn publish(&mut self, lease: &mut Lease, tokens: &[TokenId], n_valid: usize, table: &mut [u32]) {
        let n_full = (n_valid.min(tokens.len()) / PAGE_LEN).min(table.len());
        if lease.n_shared() < n_full {
            self.now += 1;
        }
        for i in lease.n_shared()..n_full {
            let want = &tokens[i * PAGE_LEN..(i + 1) * PAGE_LEN];
            let place = self.tree.nearest(lease.salt, lease.node, want);
            if place.n_common == PAGE_LEN {
                self.release(table[i]);
                table[i] = place.page;
                self.reuse(place.page);
            } else {
                self.insert(lease.salt, lease.node, want, table[i], place);
                self.pin(table[i]);
            }
            *lease = Lease { salt: lease.salt, node: table[i], n_pages: i as u32 + 1 };
        }
    }

    /// The sequence ends, is cancelled or is preempted, with `table` cut to the pages that it has. What is valid is
    /// published, the last page in part; what is left is free. The lease can be used again.
    pub fn end(&mut self, lease: &mut Lease, tokens: &[TokenId], n_valid: usize, table: &mut [u32]) {
        self.publish(lease, tokens, n_valid, table);
        self.now += 1;
        let n_valid = n_valid.min(tokens.len()).min(table.len() * PAGE_LEN);
        let n_shared = lease.n_shared();
        let tail = &tokens[(n_shared * PAGE_LEN).min(n_valid)..n_valid];
        let place = self.tree.nearest(lease.salt, lease.node, tail);
        let is_new = place.n_common < tail.len();
        if is_new {
            self.insert(lease.salt, lease.node, tail, table[n_shared], place);
            self.lay_open(table[n_shared]);
        }
        for page in &table[n_shared + usize::from(is_new)..] {
            self.release(*page);
        }
        let mut page = lease.node;
        while page != NONE {
            self.touch(page);
            self.unpin(page);
            page = self.tree.node(page).parent;
        }
        *lease = Lease::default();
    }

    /// Forgets everything that no running sequence holds.
    pub fn clear(&mut self) {
        self.leaves.clear();
        self.tree.retain_pinned();
        for page in 0..self.state.len() as u32 {
            let node = self.tree.node(page);
            if self.state[page as usize] == State::Cached && node.refs == 0 {
                self.state[page as usize] = State::Free;
                self.free.push(page);
            }
        }
    }

    fn find(&self, salt: u64, tokens: &[TokenId], n_table: usize) -> Found {
        let tokens = &tokens[..tokens.len().saturating_sub(1)];
        let mut found = Found { node: NONE, n_pages: 0, partial: NONE, n_partial: 0 };
        for want in tokens.chunks(PAGE_LEN).take(n_table) {
            let place = self.tree.nearest(salt, found.node, want);
            if place.n_common < PAGE_LEN {
                (found.partial, found.n_partial) = (place.page, place.n_common);
                break;
            }
            (found.node, found.n_pages) = (place.page, found.n_pages + 1);
        }
        found
    }

    /// A private page to copy `from` to; `from` itself, out of the tree, if no other can be had.
    fn take_copy_of(&mut self, from: u32) -> Option<u32> {
        self.reuse(from);
        let to = self.take();
        self.unpin(from);
        if to.is_none() && self.leaves.has(from) {
            self.forget(from);
            return self.take();
        }
        to
    }

    /// Puts a private page into the tree, below `parent`, at its place. A page that holds the beginning of the same goes.
    fn insert(&mut self, salt: u64, parent: u32, tokens: &[TokenId], page: u32, mut place: Place) {
        debug_assert!(self.state[page as usize] == State::Private);
        let mut is_reused = false;
        if place.n_common > 0 && place.n_common == self.tree.node(place.page).len() {
            is_reused = self.tree.node(place.page).is_reused;
            self.forget(place.page);
            place = self.tree.nearest(salt, parent, tokens);
        }
        self.tree.insert(salt, parent, tokens, page, &place, self.now);
        self.tree.node_mut(page).is_reused = is_reused;
        self.leaves.remove(parent);
        self.state[page as usize] = State::Cached;
        self.touch(page);
    }

    /// Takes a page that nobody pins, with nothing below it, out of the tree.
    fn forget(&mut self, page: u32) {
        debug_assert!(self.tree.node(page).refs == 0 && self.tree.node(page).n_children == 0);
        let parent = self.tree.node(page).parent;
        self.leaves.remove(page);
        self.tree.remove(page);
        if parent != NONE {
            self.lay_open(parent);
        }
        self.state[page as usize] = State::Free;
        self.free.push(page);
    }

    fn release(&mut self, page: u32) {
        debug_assert!(self.state[page as usize] == State::Private);
        self.state[page as usize] = State::Free;
        self.free.push(page);
    }

    /// One more sequence has a use for a page: it counts as reused, and is pinned.
    fn reuse(&mut self, page: u32) {
        self.pin(page);
        self.tree.node_mut(page).is_reused = true;
        self.touch(page);
    }

    fn pin(&mut self, page: u32) {
        let node = self.tree.node_mut(page);
        node.refs += 1;
        if node.refs == 1 {
            self.n_pinned += 1;
            self.leaves.remove(page);
        }
    }

    fn unpin(&mut self, page: u32) {
        let node = self.tree.node_mut(page);
        node.refs -= 1;
        if node.refs == 0 {
            self.n_pinned -= 1;
            self.lay_open(page);
        }
    }

    /// Lets a page be evicted if nothing holds it.
    fn lay_open(&mut self, page: u32) {
        let node = self.tree.node(page);
        if node.refs == 0 && node.n_children == 0 {
            self.leaves.push((node.rank, node.used, page));
        }
    }

    /// A page was used: its rank is its whole value again. Greedy-Dual (Young 1994): what is evicted raises the floor that
    /// ranks start from, so the value of what is not used again melts away. The page must not be among the leaves.
    fn touch(&mut self, page: u32) {
        let node = self.tree.node_mut(page);
        let cost = DEPTH_TWICE + DEPTH_TWICE.min(u64::from(node.depth) * PAGE_LEN as u64);
        let value = node.len() as u64 * cost * if node.is_reused { REUSED } else { 1 };
        (node.rank, node.used) = (self.floor + value, self.now);
    }
}

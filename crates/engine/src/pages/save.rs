//! Pages that go to disk and come back. The order is decided here; bytes and files are somebody else's.

use super::tree::NONE;
use super::{Pages, State};
use base::TokenId;
use ops::PAGE_LEN;
use std::ops::ControlFlow;

/// One page of the cache and its place.
#[derive(Clone, Copy, Debug)]
pub struct CachedPage<'a> {
    /// Where its keys and values are.
    pub page: u32,
    /// How many pages came before its parent in this walk; `None` at the start of a sequence.
    pub parent: Option<usize>,
    /// Of the tree that it is in.
    pub salt: u64,
    /// Its tokens: `PAGE_LEN` of them, or fewer, then nothing hangs below it. So many positions are valid.
    pub tokens: &'a [TokenId],
    /// Position of its first token.
    pub start: usize,
}

/// A page that was adopted. Goes stale when the page is evicted; `adopt` knows.
#[derive(Clone, Copy, Debug)]
pub struct Handle {
    page: u32,
    born: u64,
}

/// Answer of `adopt`.
#[derive(Clone, Copy, Debug)]
pub struct Adopted {
    /// To adopt what hangs below.
    pub handle: Handle,
    /// To be filled at once; `None` if the cache has these positions already.
    pub page: Option<u32>,
}

impl Pages {
    /// Shows every cached page: parents before children, and otherwise the most valuable first, where a page is worth as
    /// much as the best page below it. So whoever stops early has kept the best.
    pub fn walk(&mut self, mut show: impl FnMut(CachedPage<'_>) -> ControlFlow<()>) {
        let Self { tree, order, best, .. } = self;
        order.clear();
        order.extend_from_slice(tree.sorted());
        order.sort_unstable_by_key(|p| std::cmp::Reverse(tree.node(*p).depth));
        for page in order.iter() {
            best[*page as usize] = tree.node(*page).rank;
        }
        for page in order.iter() {
            let parent = tree.node(*page).parent;
            if parent != NONE {
                best[parent as usize] = best[parent as usize].max(best[*page as usize]);
            }
        }
        let worth = |p: &u32| (std::cmp::Reverse(best[*p as usize]), tree.node(*p).depth, *p);
        order.sort_unstable_by_key(worth);
        // From here on `best` is the index in the walk.
        for (i, page) in order.iter().enumerate() {
            let node = tree.node(*page);
            best[*page as usize] = i as u64;
            let parent = (node.parent != NONE).then(|| best[node.parent as usize] as usize);
            let start = node.depth as usize * PAGE_LEN;
            let (page, salt, tokens) = (*page, node.salt, tree.tokens(*page));
            if show(CachedPage { page, parent, salt, tokens, start }).is_break() {
                return;
            }
        }
    }

    /// Makes room for a page that was saved, below `parent`. Pages are to be offered in the order of the walk. Nothing is
    /// evicted for it. `None`: no page is free, the parent is gone or not whole, the cache has a longer one, or
    /// `tokens` are not a page.
    pub fn adopt(&mut self, parent: Option<Handle>, salt: u64, tokens: &[TokenId]) -> Option<Adopted> {
        let above = match parent {
            None => NONE,
            Some(h) => self.whole(h, salt)?,
        };
        if !(1..=PAGE_LEN).contains(&tokens.len()) {
            return None;
        }
        self.now += 1;
        let place = self.tree.nearest(salt, above, tokens);
        if place.n_common == tokens.len() {
            let born = self.tree.node(place.page).born;
            let is_equal = self.tree.node(place.page).len() == tokens.len();
            return is_equal.then_some(Adopted { handle: Handle { page: place.page, born }, page: None });
        }
        let page = self.free.pop()?;
        self.state[page as usize] = State::Private;
        self.insert(salt, above, tokens, page, place);
        // The best comes first, and is to look like the last used.
        self.restored -= 1;
        self.tree.node_mut(page).used = self.restored;
        self.lay_open(page);
        Some(Adopted { handle: Handle { page, born: self.tree.node(page).born }, page: Some(page) })
    }

    fn whole(&self, handle: Handle, salt: u64) -> Option<u32> {
        let is_cached = *self.state.get(handle.page as usize)? == State::Cached;
        let node = self.tree.node(handle.page);
        let is_same = is_cached && node.born == handle.born && node.salt == salt;
        (is_same && node.len() == PAGE_LEN).then_some(handle.page)
    }
}

//! What must always be true, for tests and the simulator. Allocates.

use super::tree::NONE;
use super::{Lease, Pages, State};
use ops::PAGE_LEN;

impl Pages {
    /// Compares the books with the sequences that run, each with its table cut to the pages that it has: every page is
    /// free, cached, or private in one table; pins add up; parents, children, order and leaves agree.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check<'a>(&self, running: impl IntoIterator<Item = (&'a Lease, &'a [u32])>) -> Result<(), String> {
        let (mut n_private, mut refs) = (vec![0; self.total()], vec![0; self.total()]);
        for (lease, table) in running {
            let path: Vec<u32> = self.tree.path(lease.node).collect();
            rule(path.iter().rev().eq(&table[..lease.n_shared()]), || format!("table {table:?} is not path {path:?}"))?;
            path.iter().for_each(|p| refs[*p as usize] += 1);
            table[lease.n_shared()..].iter().for_each(|p| n_private[*p as usize] += 1);
        }
        let mut n_free = vec![0; self.total()];
        self.free.iter().for_each(|p| n_free[*p as usize] += 1);
        let mut n_cached = vec![0; self.total()];
        self.tree.sorted().iter().for_each(|p| n_cached[*p as usize] += 1);
        for page in 0..self.total() {
            let counts = (n_free[page], n_private[page], n_cached[page]);
            let want = match self.state[page] {
                State::Free => (1, 0, 0),
                State::Private => (0, 1, 0),
                State::Cached => (0, 0, 1),
            };
            rule(counts == want, || format!("page {page} is {:?} but {counts:?}", self.state[page]))?;
            let is_cached = self.state[page] == State::Cached;
            rule(is_cached || !self.leaves.has(page as u32), || format!("{page} is a leaf but not cached"))?;
            rule(!is_cached || self.tree.node(page as u32).refs == refs[page], || format!("pins of page {page}"))?;
        }
        let n_pinned = refs.iter().filter(|n| **n > 0).count();
        rule(n_pinned == self.n_pinned, || format!("{n_pinned} pages are pinned, not {}", self.n_pinned))?;
        self.check_tree()?;
        self.check_leaves()
    }

    fn check_tree(&self) -> Result<(), String> {
        let mut n_children = vec![0; self.total()];
        for page in self.tree.sorted() {
            let node = self.tree.node(*page);
            rule((1..=PAGE_LEN).contains(&node.len()), || format!("length of page {page}"))?;
            if node.parent == NONE {
                rule(node.depth == 0, || format!("depth of root {page}"))?;
                continue;
            }
            n_children[node.parent as usize] += 1;
            let above = self.tree.node(node.parent);
            let is_below = above.len() == PAGE_LEN && above.salt == node.salt && above.depth + 1 == node.depth;
            rule(self.state[node.parent as usize] == State::Cached && is_below, || format!("parent of page {page}"))?;
        }
        for page in self.tree.sorted() {
            let n = self.tree.node(*page).n_children;
            rule(n == n_children[*page as usize], || format!("{n} children of page {page}"))?;
        }
        for pair in self.tree.sorted().windows(2) {
            let (a, b) = (self.tree.key(pair[0]), self.tree.key(pair[1]));
            rule(a < b, || format!("order of pages {pair:?}"))?;
            let is_covered = (a.0, a.1) == (b.0, b.1) && b.2.starts_with(a.2);
            rule(!is_covered, || format!("of pages {pair:?} one is the beginning of the other"))?;
        }
        Ok(())
    }

    fn check_leaves(&self) -> Result<(), String> {
        let heap = self.leaves.heap();
        for page in self.tree.sorted() {
            let node = self.tree.node(*page);
            let is_open = node.refs == 0 && node.n_children == 0;
            rule(is_open == self.leaves.has(*page), || format!("page {page} among the leaves"))?;
        }
        let n_open = self.tree.sorted().iter().filter(|p| self.leaves.has(**p)).count();
        rule(n_open == heap.len(), || format!("{} leaves, not {n_open}", heap.len()))?;
        for (i, leaf) in heap.iter().enumerate() {
            let node = self.tree.node(leaf.2);
            rule((node.rank, node.used) == (leaf.0, leaf.1), || format!("leaf {leaf:?} has an old rank"))?;
            rule(i == 0 || heap[(i - 1) / 2] < *leaf, || format!("leaf {leaf:?} is under a better one"))?;
        }
        Ok(())
    }
}

fn rule(holds: bool, broken: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(broken()) }
}

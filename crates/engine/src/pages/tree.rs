//! The radix tree: one node for each cached page, at the page's own index. All nodes lie in one sorted array, by (parent,
//! salt, tokens), so the children of a node are neighbours, and the child that agrees longest with given tokens is beside
//! the place where they would stand. A look-up costs `log2(n_pages) + 1` comparisons whatever the tokens are, with no hash
//! to collide; an insertion moves at most `4 * n_pages` bytes.

use base::TokenId;
use ops::PAGE_LEN;

/// No page: above the roots.
pub(super) const NONE: u32 = u32::MAX;

/// One cached page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub salt: u64,
    pub parent: u32,
    /// Pages before this one in a sequence.
    pub depth: u32,
    /// Positions that are valid. Fewer than `PAGE_LEN`: always a leaf, never pinned.
    len: u32,
    pub n_children: u32,
    /// Sequences whose path goes through here.
    pub refs: u32,
    pub is_reused: bool,
    /// When it came into the tree: tells it from what was at this index before.
    pub born: u64,
    pub used: u64,
    /// The lowest goes first.
    pub rank: u64,
}

impl Node {
    pub fn len(&self) -> usize {
        self.len as usize
    }
}

/// Where tokens stand among the children of a node.
pub(super) struct Place {
    /// The child that agrees longest, and on how many tokens; `NONE` and 0 without any.
    pub page: u32,
    pub n_common: usize,
    /// Index in the sorted array.
    at: usize,
}

pub(super) struct Tree {
    nodes: Vec<Node>,
    /// `[n_pages][PAGE_LEN]`
    tokens: Vec<TokenId>,
    /// Cached pages by (parent, salt, tokens). No page is the beginning of a sibling.
    sorted: Vec<u32>,
}

impl Tree {
    pub fn new(n_pages: usize) -> Self {
        let node = Node {
            salt: 0,
            parent: NONE,
            depth: 0,
            len: 0,
            n_children: 0,
            refs: 0,
            is_reused: false,
            born: 0,
            used: 0,
            rank: 0,
        };
        Self { nodes: vec![node; n_pages], tokens: vec![0; n_pages * PAGE_LEN], sorted: Vec::with_capacity(n_pages) }
    }

    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    pub fn sorted(&self) -> &[u32] {
        &self.sorted
    }

    pub fn node(&self, page: u32) -> &Node {
        &self.nodes[page as usize]
    }

    pub fn node_mut(&mut self, page: u32) -> &mut Node {
        &mut self.nodes[page as usize]
    }

    pub fn tokens(&self, page: u32) -> &[TokenId] {
        &self.tokens[page as usize * PAGE_LEN..][..self.node(page).len()]
    }

    /// A page and everything above it.
    pub fn path(&self, page: u32) -> impl Iterator<Item = u32> {
        let known = |p: u32| (p != NONE).then_some(p);
        std::iter::successors(known(page), move |p| known(self.node(*p).parent))
    }

    pub fn key(&self, page: u32) -> (u32, u64, &[TokenId]) {
        (self.node(page).parent, self.node(page).salt, self.tokens(page))
    }

    /// The child of `parent` that agrees longest with `want`. In sorted order the longest agreement is with a neighbour.
    /// A child that begins with all of `want` comes right after its place; one that `want` begins with right before it,
    /// because whatever stands between the two would begin with it as well, and no sibling does.
    pub fn nearest(&self, salt: u64, parent: u32, want: &[TokenId]) -> Place {
        let at = self.sorted.partition_point(|p| self.key(*p) < (parent, salt, want));
        let mut place = Place { page: NONE, n_common: 0, at };
        for i in [Some(at), at.checked_sub(1)].into_iter().flatten() {
            let Some(page) = self.sorted.get(i).copied() else { continue };
            let (its_parent, its_salt, tokens) = self.key(page);
            let n_common = tokens.iter().zip(want).take_while(|(a, b)| a == b).count();
            if (its_parent, its_salt) == (parent, salt) && n_common > place.n_common {
                (place.page, place.n_common) = (page, n_common);
            }
        }
        place
    }

    /// At the place that `nearest` has just found.
    pub fn insert(&mut self, salt: u64, parent: u32, tokens: &[TokenId], page: u32, place: &Place, born: u64) {
        let mut depth = 0;
        if parent != NONE {
            let above = self.node_mut(parent);
            above.n_children += 1;
            depth = above.depth + 1;
        }
        let len = tokens.len() as u32;
        let (n_children, refs, is_reused, used, rank) = (0, 0, false, 0, 0);
        *self.node_mut(page) = Node { salt, parent, depth, len, n_children, refs, is_reused, born, used, rank };
        self.tokens[page as usize * PAGE_LEN..][..tokens.len()].copy_from_slice(tokens);
        self.sorted.insert(place.at, page);
    }

    pub fn remove(&mut self, page: u32) {
        let Ok(at) = self.sorted.binary_search_by(|p| self.key(*p).cmp(&self.key(page))) else { return };
        self.sorted.remove(at);
        let parent = self.node(page).parent;
        if parent != NONE {
            self.node_mut(parent).n_children -= 1;
        }
    }

    /// Removes all that nobody pins. What is above a pinned node is pinned too, so no node loses its parent.
    pub fn retain_pinned(&mut self) {
        let Self { nodes, sorted, .. } = self;
        sorted.retain(|p| nodes[*p as usize].refs > 0);
        for page in sorted.iter() {
            nodes[*page as usize].n_children = 0;
        }
        for page in sorted.iter() {
            let parent = nodes[*page as usize].parent;
            if parent != NONE {
                nodes[parent as usize].n_children += 1;
            }
        }
    }
}

//! Longest repeated suffix, online: a suffix automaton (Blumer et al. 1985, "The smallest automaton recognizing the subwords of a
//! text") over tokens. Appending is O(1) amortised whatever the text; all memory is taken in `new`.
//!
//! For a text of n tokens there are at most 2n states and 3n edges. Edges lie in one vector; a hash table finds the edge of
//! (state, token), a list through the edges of a state serves cloning.

use base::TokenId;

const NONE: u32 = u32::MAX;
/// Longer chains of suffix links are not walked: what lies beyond is short, and only its `latest` grows stale.
const LINKS_MAX: usize = 16;

#[derive(Clone, Copy)]
struct State {
    /// Length of the longest string in this state.
    len: u32,
    /// State of its longest suffix that lies in another state.
    link: u32,
    /// Newest edge of this state.
    edges: u32,
    /// Where the first occurrence ends.
    first: u32,
    /// Where a late earlier occurrence ends.
    latest: u32,
}

#[derive(Clone, Copy)]
struct Edge {
    state: u32,
    token: TokenId,
    to: u32,
    /// The state's next older edge.
    older: u32,
}

/// A repeated suffix of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// Its length in tokens.
    pub len: usize,
    /// Where its first occurrence ends: the position of the token that followed.
    pub first: usize,
    /// The same of a late occurrence, before the one at the end of the text.
    pub latest: usize,
}

/// The text and its automaton.
pub struct Suffixes {
    text: Vec<TokenId>,
    states: Vec<State>,
    edges: Vec<Edge>,
    /// Open addressing with linear probing: edge + 1, 0 is free.
    table: Vec<u32>,
    last: u32,
    len_max: usize,
}

impl Suffixes {
    /// For at most `len_max` tokens.
    pub fn new(len_max: usize) -> Self {
        let len_max = len_max.min(base::limits::CTX_MAX * 2 + 1);
        let mut suffixes = Self {
            text: Vec::with_capacity(len_max),
            states: Vec::with_capacity(2 * len_max + 2),
            edges: Vec::with_capacity(3 * len_max + 2),
            table: vec![0; (4 * len_max + 8).next_power_of_two()],
            last: 0,
            len_max,
        };
        suffixes.clear();
        suffixes
    }

    /// Forgets the text.
    pub fn clear(&mut self) {
        self.text.clear();
        self.states.clear();
        self.edges.clear();
        self.table.fill(0);
        self.states.push(State { len: 0, link: NONE, edges: NONE, first: 0, latest: 0 });
        self.last = 0;
    }

    /// The text.
    pub fn text(&self) -> &[TokenId] {
        &self.text
    }

    /// Appends a token; false once the text is full.
    pub fn push(&mut self, token: TokenId) -> bool {
        if self.text.len() == self.len_max {
            return false;
        }
        self.mark_latest();
        self.text.push(token);
        let end = self.text.len() as u32;
        let new = self.add(State { len: end, link: 0, edges: NONE, first: end, latest: end });
        let mut p = self.last;
        self.last = new;
        // Every suffix of the text gains `token`, from the longest down to the first that had it already.
        let found = loop {
            match self.find(p, token) {
                Ok(edge) => break Some(edge),
                Err(slot) => self.connect(slot, p, token, new),
            }
            p = self.states[p as usize].link;
            if p == NONE {
                break None;
            }
        };
        if let Some(edge) = found {
            self.states[new as usize].link = self.split(p, edge);
        }
        true
    }

    /// The longest suffix of the text that also ends earlier. `latest` is late, not always the last.
    pub fn longest(&self) -> Option<Repeat> {
        self.repeats().next()
    }

    /// Repeated suffixes, the longest first: one for each set of places, `LINKS_MAX` at most.
    pub fn repeats(&self) -> impl Iterator<Item = Repeat> {
        let link = |s: u32| self.states.get(s as usize).map(|s| s.link).filter(|l| *l != NONE);
        std::iter::successors(link(self.last), move |s| link(*s)).take(LINKS_MAX).filter_map(|s| {
            let s = self.states[s as usize];
            (s.len > 0).then_some(Repeat { len: s.len as usize, first: s.first as usize, latest: s.latest as usize })
        })
    }

    /// Every suffix of the text as it is now has an occurrence here: noted before the next token, so that `repeats` is about
    /// earlier ones.
    fn mark_latest(&mut self) {
        let mut s = self.states[self.last as usize].link;
        for _ in 0..LINKS_MAX {
            let Some(state) = self.states.get_mut(s as usize) else { return };
            state.latest = self.text.len() as u32;
            s = state.link;
        }
    }

    /// The state of exactly the string (longest of `p`) + token: the edge's target, or its clone if that holds longer strings.
    fn split(&mut self, mut p: u32, edge: u32) -> u32 {
        let token = self.edges[edge as usize].token;
        let to = self.edges[edge as usize].to;
        let old = self.states[to as usize];
        let len = self.states[p as usize].len + 1;
        if old.len == len {
            return to;
        }
        let clone = self.add(State { len, edges: NONE, ..old });
        let mut e = old.edges;
        while e != NONE {
            let Edge { token, to, older, .. } = self.edges[e as usize];
            if let Err(slot) = self.find(clone, token) {
                self.connect(slot, clone, token, to);
            }
            e = older;
        }
        self.states[to as usize].link = clone;
        while let Ok(e) = self.find(p, token) {
            if self.edges[e as usize].to != to {
                break;
            }
            self.edges[e as usize].to = clone;
            p = self.states[p as usize].link;
            if p == NONE {
                break;
            }
        }
        clone
    }

    fn add(&mut self, state: State) -> u32 {
        self.states.push(state);
        self.states.len() as u32 - 1
    }

    /// The edge of (state, token), or the free slot of the table where it belongs.
    fn find(&self, state: u32, token: TokenId) -> Result<u32, usize> {
        let key = (u64::from(state) << 32 | u64::from(token)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mask = self.table.len() - 1;
        let mut slot = (key >> 24) as usize & mask;
        loop {
            let Some(edge) = self.table[slot].checked_sub(1) else { return Err(slot) };
            let e = self.edges[edge as usize];
            if e.state == state && e.token == token {
                return Ok(edge);
            }
            slot = (slot + 1) & mask;
        }
    }

    fn connect(&mut self, slot: usize, state: u32, token: TokenId, to: u32) {
        let older = self.states[state as usize].edges;
        self.edges.push(Edge { state, token, to, older });
        self.states[state as usize].edges = self.edges.len() as u32 - 1;
        self.table[slot] = self.edges.len() as u32;
    }
}

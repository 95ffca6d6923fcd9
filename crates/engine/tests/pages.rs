//! The books of pages against naive ones. A shadow cache holds, for every position of every page, a hash of the salt and
//! all tokens up to there; sequences write and copy it as the engine would, and must always read what they should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use engine::pages::{Handle, Lease, Pages};
use ops::PAGE_LEN;
use std::collections::HashSet;
use std::ops::ControlFlow;

/// Seeded draws.
struct Dice(u64, u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.1 += 1;
        (base::rng::bits(self.0, self.1, 0) % n as u64) as usize
    }
}

/// What stands in the cache for each position.
fn contents(salt: u64, tokens: &[u32]) -> Vec<u64> {
    let mut hash = base::rng::bits(salt, 0, 1);
    let next = |t: &u32| {
        hash = base::rng::bits(hash, u64::from(*t), 2);
        hash
    };
    tokens.iter().map(next).collect()
}

fn n_common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// A running sequence, as a slot of the engine would keep it.
struct Sequence {
    salt: u64,
    tokens: Vec<u32>,
    n_valid: usize,
    table: Vec<u32>,
    n_table: usize,
    lease: Lease,
}

/// The engine's part: tables, and what is in the cache.
struct World {
    pages: Pages,
    cache: Vec<[u64; PAGE_LEN]>,
    running: Vec<Sequence>,
    /// Everything that was ever valid: what could hit if memory had no end.
    known: Vec<(u64, Vec<u32>)>,
    dice: Dice,
}

const TABLE_LEN: usize = 6;

impl World {
    fn new(n_pages: usize, seed: u64) -> Self {
        let (pages, cache) = (Pages::new(n_pages), vec![[0; PAGE_LEN]; n_pages]);
        Self { pages, cache, running: vec![], known: vec![], dice: Dice(seed, 0) }
    }

    /// Cached prefixes, from what `walk` shows alone.
    fn cached(&mut self) -> Vec<(u64, Vec<u32>)> {
        let mut all: Vec<(u64, Vec<u32>)> = vec![];
        let cache = &self.cache;
        self.pages.walk(|c| {
            let mut tokens = c.parent.map_or(vec![], |p| all[p].1.clone());
            assert_eq!(tokens.len(), c.start);
            assert!(c.parent.is_none_or(|p| all[p].0 == c.salt), "salts do not mix");
            tokens.extend_from_slice(c.tokens);
            let (there, want) = (&cache[c.page as usize][..c.tokens.len()], contents(c.salt, &tokens));
            assert_eq!(there, &want[c.start..], "content of cached page {}", c.page);
            all.push((c.salt, tokens));
            ControlFlow::Continue(())
        });
        all
    }

    /// The books are right, and every sequence reads what it should.
    fn check(&mut self) {
        let running = self.running.iter().map(|s| (&s.lease, &s.table[..s.n_table]));
        self.pages.check(running).unwrap();
        let n_private: usize = self.running.iter().map(|s| s.n_table - s.lease.n_shared()).sum();
        assert_eq!(self.pages.free() + self.pages.cached() + n_private, self.pages.total(), "no page is lost");
        for s in &self.running {
            let there = |i: usize| self.cache[s.table[i / PAGE_LEN] as usize][i % PAGE_LEN];
            let want = contents(s.salt, &s.tokens[..s.n_valid]);
            assert!((0..s.n_valid).map(there).eq(want), "what a sequence reads is what it would have computed");
        }
        self.cached();
    }

    /// Often a known sequence, cut somewhere and continued with tokens of a small alphabet.
    fn prompt(&mut self) -> (u64, Vec<u32>) {
        let (mut salt, mut tokens) = (self.dice.below(3) as u64, vec![]);
        if !self.known.is_empty() && self.dice.below(8) > 0 {
            let i = self.dice.below(self.known.len());
            let n = self.dice.below(self.known[i].1.len() + 1);
            tokens.extend_from_slice(&self.known[i].1[..n]);
            salt = if self.dice.below(6) > 0 { self.known[i].0 } else { salt };
        }
        for _ in 0..1 + self.dice.below(150) {
            tokens.push(self.dice.below(2) as u32);
        }
        tokens.truncate(TABLE_LEN * PAGE_LEN);
        (salt, tokens)
    }

    fn longest(known: &[(u64, Vec<u32>)], salt: u64, tokens: &[u32]) -> usize {
        let fits = known.iter().filter(|(s, _)| *s == salt).map(|(_, t)| n_common(t, &tokens[..tokens.len() - 1]));
        fits.max().unwrap_or(0)
    }

    fn start(&mut self) {
        let (salt, tokens) = self.prompt();
        let peek = self.pages.peek(salt, &tokens);
        let expected = Self::longest(&self.cached(), salt, &tokens);
        assert_eq!(peek.n_cached, expected, "the longest of what is cached");
        let most = Self::longest(&self.known, salt, &tokens);
        assert!(expected <= most);
        // A world with room for everything forgets nothing.
        assert!(self.pages.total() < 1000 || expected == most, "{expected} of {most} tokens");
        let n_pages = tokens.len().div_ceil(PAGE_LEN);
        let available = self.pages.available();
        if peek.cost(n_pages) > available {
            return;
        }
        let (mut table, mut lease) = (vec![u32::MAX; TABLE_LEN], Lease::default());
        let hit = self.pages.start(salt, &tokens, &mut table, &mut lease);
        assert_eq!(hit.n_cached, expected, "what peek said");
        if let Some(copy) = hit.copy {
            assert_eq!(table[hit.n_cached / PAGE_LEN], copy.to);
            self.cache[copy.to as usize] = self.cache[copy.from as usize];
        }
        for entry in &mut table[hit.n_cached.div_ceil(PAGE_LEN)..n_pages] {
            *entry = self.pages.take().expect("peek said that it fits");
        }
        assert_eq!(self.pages.available(), available - peek.cost(n_pages), "what peek said it costs");
        self.running.push(Sequence { salt, tokens, n_valid: hit.n_cached, table, n_table: n_pages, lease });
    }

    /// Computes some rows of one sequence, as a step would, and now and then makes it longer.
    fn step(&mut self, i: usize) {
        let s = &mut self.running[i];
        let is_done = s.n_valid == s.tokens.len();
        if is_done && s.tokens.len().is_multiple_of(PAGE_LEN) {
            if s.n_table == TABLE_LEN {
                return self.end(i);
            }
            match self.pages.take() {
                Some(page) => s.table[s.n_table] = page,
                // Preempted: nothing can be evicted.
                None => return self.end(i),
            }
            s.n_table += 1;
        }
        if is_done {
            s.tokens.push(self.dice.below(2) as u32);
        }
        let n = 1 + self.dice.below(s.tokens.len() - s.n_valid);
        let computed = contents(s.salt, &s.tokens[..s.n_valid + n]);
        for at in s.n_valid..s.n_valid + n {
            assert!(at / PAGE_LEN >= s.lease.n_shared(), "a shared page is never written");
            self.cache[s.table[at / PAGE_LEN] as usize][at % PAGE_LEN] = computed[at];
        }
        s.n_valid += n;
        self.pages.publish(&mut s.lease, &s.tokens, s.n_valid, &mut s.table[..s.n_table]);
        assert_eq!(s.lease.n_shared(), s.n_valid / PAGE_LEN, "full pages are shared at once");
        let n_full = s.n_valid / PAGE_LEN * PAGE_LEN;
        self.known.push((s.salt, s.tokens[..n_full].to_vec()));
    }

    fn end(&mut self, i: usize) {
        let mut s = self.running.swap_remove(i);
        self.pages.end(&mut s.lease, &s.tokens, s.n_valid, &mut s.table[..s.n_table]);
        assert_eq!(s.lease.n_shared(), 0);
        self.known.push((s.salt, s.tokens[..s.n_valid].to_vec()));
    }

    fn operation(&mut self) {
        let n = self.running.len();
        match self.dice.below(20) {
            0..=4 if n < 4 => self.start(),
            5..=6 if n > 0 => {
                let i = self.dice.below(n);
                self.end(i);
            }
            7 if self.dice.below(15) == 0 => {
                self.pages.clear();
                assert_eq!(self.pages.cached(), self.pages.pinned());
                let mut kept = self.cached();
                std::mem::swap(&mut self.known, &mut kept);
            }
            _ if n > 0 => {
                let i = self.dice.below(n);
                self.step(i);
            }
            _ => {}
        }
        self.check();
    }
}

#[test]
fn random_lives_agree_with_naive_books() {
    let mut hits = [0; 3];
    for seed in 0..60 {
        // Tight, comfortable, endless.
        let kind = seed as usize % 3;
        let mut world = World::new([9, 40, 1000][kind], seed);
        for _ in 0..250 {
            world.operation();
            world.known.sort();
            world.known.dedup();
        }
        hits[kind] += world.pages.cached();
        while !world.running.is_empty() {
            world.end(0);
            world.check();
        }
        assert_eq!(world.pages.available(), world.pages.total());
        assert_eq!(world.pages.pinned(), 0);
        world.pages.clear();
        assert_eq!(world.pages.free(), world.pages.total());
    }
    assert!(hits.iter().all(|n| *n > 50), "the cache was used: {hits:?}");
}

#[test]
fn what_is_walked_can_be_adopted_by_others() {
    for seed in 0..30 {
        let mut world = World::new(30, seed);
        (0..300).for_each(|_| world.operation());
        let cached = world.cached();
        let mut saved = vec![];
        world.pages.walk(|c| {
            saved.push((c.page, c.parent, c.salt, c.tokens.to_vec()));
            ControlFlow::Continue(())
        });
        // As large, and too small.
        for n_pages in [30, 7] {
            let mut other = World::new(n_pages, seed + 1000);
            let mut handles: Vec<Option<Handle>> = vec![];
            for (page, parent, salt, tokens) in &saved {
                let above = parent.map(|p| handles[p]);
                let adopted = match above {
                    Some(None) => None,
                    above => other.pages.adopt(above.flatten(), *salt, tokens),
                };
                if let Some(to) = adopted.and_then(|a| a.page) {
                    other.cache[to as usize] = world.cache[*page as usize];
                }
                handles.push(adopted.map(|a| a.handle));
                other.check();
            }
            let n = cached.len().min(n_pages);
            let (mut before, mut after) = (cached[..n].to_vec(), other.cached());
            before.sort();
            after.sort();
            assert_eq!(before, after, "a limit keeps the first of the walk");
            other.known = after;
            (0..100).for_each(|_| other.operation());
        }
    }
}

/// Runs one prompt to its end with some tokens of answer. Returns the prefix hit.
fn serve(pages: &mut Pages, salt: u64, prompt: &[u32], answer: &[u32]) -> usize {
    let (mut table, mut lease) = (vec![0; 4096], Lease::default());
    let n_pages = (prompt.len() + answer.len()).div_ceil(PAGE_LEN);
    assert!(pages.peek(salt, prompt).cost(n_pages) <= pages.available());
    let hit = pages.start(salt, prompt, &mut table, &mut lease);
    for entry in &mut table[hit.n_cached.div_ceil(PAGE_LEN)..n_pages] {
        *entry = pages.take().unwrap();
    }
    let mut tokens = prompt.to_vec();
    pages.publish(&mut lease, &tokens, prompt.len(), &mut table[..n_pages]);
    tokens.extend_from_slice(answer);
    pages.end(&mut lease, &tokens, tokens.len(), &mut table[..n_pages]);
    pages.check([]).unwrap();
    hit.n_cached
}

fn text(seed: u64, n: usize) -> Vec<u32> {
    (0..n as u64).map(|i| base::rng::bits(seed, i, 3) as u32 % 50_000).collect()
}

#[test]
fn the_last_token_is_always_computed() {
    let mut pages = Pages::new(8);
    for n in [1, 2, 63, 64, 65, 128, 129] {
        let prompt = text(n as u64, n);
        assert_eq!(serve(&mut pages, 0, &prompt, &[]), 0);
        assert_eq!(serve(&mut pages, 0, &prompt, &[]), n - 1, "prompt of {n}");
    }
}

#[test]
fn an_edit_in_the_middle_reuses_exactly_what_is_before_it() {
    let mut pages = Pages::new(64);
    let mut prompt = text(1, 1000);
    serve(&mut pages, 0, &prompt, &[]);
    prompt[500] ^= 1;
    assert_eq!(serve(&mut pages, 0, &prompt, &[]), 500);
    prompt.insert(100, 7);
    assert_eq!(serve(&mut pages, 0, &prompt, &[]), 100);
}

#[test]
fn another_salt_sees_nothing() {
    let mut pages = Pages::new(64);
    let prompt = text(1, 300);
    serve(&mut pages, 1, &prompt, &[]);
    assert_eq!(pages.peek(2, &prompt).n_cached, 0);
    assert_eq!(serve(&mut pages, 2, &prompt, &[]), 0);
    assert_eq!(serve(&mut pages, 2, &prompt, &[]), 299);
}

#[test]
fn two_that_compute_the_same_at_once_end_up_with_one_copy() {
    let mut pages = Pages::new(8);
    let prompt = text(1, 200);
    let mut both: Vec<(Vec<u32>, Lease)> = (0..2).map(|_| (vec![0; 4], Lease::default())).collect();
    for (table, lease) in &mut both {
        assert_eq!(pages.start(0, &prompt, table, lease).n_cached, 0);
        table.fill_with(|| pages.take().unwrap());
    }
    assert_eq!(pages.available(), 0);
    for (table, lease) in &mut both {
        pages.publish(lease, &prompt, 200, table);
    }
    assert_eq!(both[0].0[..3], both[1].0[..3]);
    assert_ne!(both[0].0[3], both[1].0[3]);
    assert_eq!((pages.free(), pages.cached(), pages.pinned()), (3, 3, 3));
    pages.check(both.iter().map(|(table, lease)| (lease, &table[..]))).unwrap();
    for (table, lease) in &mut both {
        pages.end(lease, &prompt, 200, table);
    }
    assert_eq!((pages.free(), pages.cached(), pages.pinned()), (4, 4, 0), "the second partial page was not needed");
}

#[test]
fn a_longer_partial_page_takes_the_place_of_a_shorter_one() {
    let mut pages = Pages::new(8);
    let prompt = text(1, 100);
    serve(&mut pages, 0, &prompt[..70], &[]);
    assert_eq!(pages.cached(), 2);
    serve(&mut pages, 0, &prompt, &[]);
    assert_eq!(pages.cached(), 2);
    serve(&mut pages, 0, &prompt[..80], &[]);
    assert_eq!(pages.cached(), 2, "a shorter one is not kept beside it");
    assert_eq!(pages.peek(0, &prompt).n_cached, 99);
}

#[test]
fn without_another_page_the_partial_one_itself_is_taken() {
    let mut pages = Pages::new(2);
    let prompt = text(1, 100);
    serve(&mut pages, 0, &prompt, &[]);
    assert_eq!(pages.free(), 0);
    let (mut table, mut lease) = (vec![0; 2], Lease::default());
    let hit = pages.start(0, &prompt[..90], &mut table, &mut lease);
    assert_eq!((hit.n_cached, hit.copy), (89, None));
    assert_eq!((pages.available(), pages.cached()), (0, 1));
    pages.check([(&lease, &table[..])]).unwrap();
    assert!(pages.take().is_none());
}

#[test]
fn an_evicted_parent_is_not_adopted_to() {
    let mut pages = Pages::new(2);
    let (a, b) = (text(1, 64), text(2, 128));
    let root = pages.adopt(None, 0, &a).unwrap();
    assert!(root.page.is_some());
    let again = pages.adopt(None, 0, &a).unwrap();
    assert!(again.page.is_none(), "it is there already");
    assert!(pages.adopt(Some(root.handle), 1, &b[..64]).is_none(), "another salt");
    assert!(pages.adopt(Some(root.handle), 0, &[]).is_none());
    assert!(pages.adopt(Some(root.handle), 0, &b[..65]).is_none());
    serve(&mut pages, 0, &b, &[]);
    assert!(pages.adopt(Some(root.handle), 0, &b[..64]).is_none(), "its page holds something else now");
    assert!(pages.adopt(None, 0, &a).is_none(), "nothing is evicted for what was saved");
}

#[test]
fn a_handle_does_not_survive_its_page() {
    let mut pages = Pages::new(3);
    let (a, b) = (text(1, 64), text(2, 128));
    let root = pages.adopt(None, 0, &a).unwrap();
    pages.clear();
    assert_eq!(pages.adopt(None, 0, &b[..64]).unwrap().page, root.page, "its page holds something else now");
    assert!(pages.adopt(Some(root.handle), 0, &b[64..]).is_none());
    assert_eq!(pages.free(), 2);
}

/// Of two prompts, which is still there after a third needed a page?
fn evicts(pages: &mut Pages, goes: &[u32], stays: &[u32]) {
    assert_eq!(pages.free(), 0);
    serve(pages, 0, &text(99, 50), &[]);
    assert_eq!(pages.peek(0, goes).n_cached, 0);
    assert_eq!(pages.peek(0, stays).n_cached, stays.len() - 1);
}

#[test]
fn a_hit_on_a_part_of_a_page_makes_it_worth_more() {
    let mut pages = Pages::new(3);
    let (a, b) = (text(1, 40), text(2, 40));
    serve(&mut pages, 0, &a, &[]);
    serve(&mut pages, 0, &b, &[]);
    serve(&mut pages, 0, &[&a[..20], &b[..40]].concat(), &[]);
    evicts(&mut pages, &b, &a);
}

#[test]
fn a_page_that_grew_keeps_what_it_was_worth() {
    let mut pages = Pages::new(2);
    let (a, b) = (text(1, 60), text(2, 60));
    serve(&mut pages, 0, &a[..40], &[]);
    serve(&mut pages, 0, &a, &[]);
    serve(&mut pages, 0, &b, &[]);
    evicts(&mut pages, &b, &a);
}

#[test]
fn pages_are_used_until_their_sequence_ends() {
    let mut pages = Pages::new(2);
    let (a, b) = (text(1, 64), text(2, 64));
    let (mut table, mut lease) = ([0], Lease::default());
    assert_eq!(pages.start(0, &a, &mut table, &mut lease).n_cached, 0);
    table[0] = pages.take().unwrap();
    pages.publish(&mut lease, &a, 64, &mut table);
    serve_quietly(&mut pages, &b);
    pages.end(&mut lease, &a, 64, &mut table);
    evicts(&mut pages, &b, &a);
}

#[test]
fn of_adopted_pages_the_first_stay_longest() {
    let mut pages = Pages::new(2);
    let (a, b) = (text(1, 64), text(2, 64));
    assert!(pages.adopt(None, 0, &a).is_some());
    assert!(pages.adopt(None, 0, &b).is_some());
    evicts(&mut pages, &b, &a);
}

#[test]
fn what_is_not_valid_is_not_published() {
    let mut pages = Pages::new(4);
    let prompt = text(1, 200);
    let (mut table, mut lease) = ([0; 4], Lease::default());
    assert_eq!(pages.start(0, &prompt, &mut table, &mut lease).n_cached, 0);
    table.fill_with(|| pages.take().unwrap());
    pages.publish(&mut lease, &prompt, 100, &mut table);
    pages.end(&mut lease, &prompt, 0, &mut table);
    assert_eq!((pages.free(), pages.cached()), (3, 1), "nothing but what was published before");
    assert_eq!(pages.peek(0, &prompt).n_cached, 64);
}

/// Cached prefixes of files under plain LRU, without its limits to whole pages: the yardstick.
struct Lru {
    len: usize,
    used: Vec<Vec<u32>>,
}

impl Lru {
    fn serve(&mut self, tokens: &[u32]) -> usize {
        let prefixes: Vec<&[u32]> = (1..=tokens.len() / PAGE_LEN).map(|n| &tokens[..n * PAGE_LEN]).collect();
        let n_hit = prefixes.iter().take_while(|p| self.used.iter().any(|u| u == *p)).count();
        self.used.retain(|u| !prefixes.contains(&&u[..]));
        // Deeper pages go first.
        self.used.extend(prefixes.iter().rev().map(|p| p.to_vec()));
        self.used.drain(..self.used.len().saturating_sub(self.len));
        n_hit * PAGE_LEN
    }
}

/// An editor: five open files, completions asked at their ends, which grow and shrink, in turn; between the rounds two
/// prompts that never come again. Files and one-off prompts together are more than the cache holds.
#[test]
fn one_off_prompts_do_not_wash_out_open_files() {
    const ROUNDS: usize = 30;
    let mut pages = Pages::new(150);
    let mut lru = Lru { len: 150, used: vec![] };
    let (mut asked, mut hit, mut hit_lru) = (0, 0, 0);
    let mut dice = Dice(5, 0);
    for round in 0..ROUNDS {
        for file in 0..5 {
            // 15 to 20 pages, 3 requests on each visit.
            for _ in 0..3 {
                let prompt = text(file, 960 + dice.below(320));
                let answer = text(dice.below(1 << 30) as u64, dice.below(40));
                let n_cached = serve(&mut pages, 0, &prompt, &answer);
                let n_lru = lru.serve(&prompt);
                if round > 1 {
                    (asked, hit, hit_lru) = (asked + prompt.len(), hit + n_cached, hit_lru + n_lru);
                }
            }
        }
        for i in 0..2 {
            let prompt = text(1000 + (2 * round + i) as u64, 40 * PAGE_LEN);
            serve(&mut pages, 0, &prompt, &[]);
            lru.serve(&prompt);
        }
    }
    println!("prefix hits of {asked} tokens: {hit}, plain LRU {hit_lru}");
    assert!(hit * 100 > asked * 90, "{hit} of {asked}");
    assert!(hit > hit_lru, "{hit} against {hit_lru}");
}

/// Edits in the middle of files leave tails behind that nobody asks for again, though they were asked for before.
#[test]
fn tails_of_old_versions_do_not_stay() {
    for n_pages in [70, 90, 120, 200] {
        let mut pages = Pages::new(n_pages);
        let mut lru = Lru { len: n_pages, used: vec![] };
        let (mut asked, mut hit, mut hit_lru) = (0, 0, 0);
        let mut dice = Dice(5, 0);
        let mut files: Vec<Vec<u32>> = (0..4).map(|f| text(f, 20 * PAGE_LEN)).collect();
        for round in 0..200 {
            // A few edits in one file, then in another.
            let file = dice.below(4);
            for _ in 0..3 {
                let at = dice.below(20 * PAGE_LEN);
                files[file][at] = 60_000 + round;
                let n_cached = serve(&mut pages, 0, &files[file], &[]);
                let n_lru = lru.serve(&files[file]);
                (asked, hit, hit_lru) = (asked + 20 * PAGE_LEN, hit + n_cached, hit_lru + n_lru);
            }
        }
        println!("{n_pages} pages: prefix hits of {asked} tokens: {hit}, plain LRU {hit_lru}");
        assert!(hit * 100 > hit_lru * 95, "{hit} against {hit_lru}");
    }
}

/// Files that were open, however often they were used, make room for those that are.
#[test]
fn closed_files_go_in_the_end() {
    const TOKENS: usize = 20 * PAGE_LEN;
    let mut pages = Pages::new(100);
    let mut visit = |files: std::ops::Range<u64>| -> usize {
        files.map(|file| serve(&mut pages, 0, &text(file, TOKENS), &[])).sum()
    };
    for _ in 0..50 {
        visit(0..4);
    }
    let rounds = (1..).take_while(|n| *n < 100 && visit(10..14) < 4 * (TOKENS - 1)).count();
    println!("{rounds} rounds until the open files are all there");
    assert!(rounds < 5);
}

/// The best come first: what was reused before what was not.
#[test]
fn the_walk_shows_the_best_first() {
    let mut pages = Pages::new(64);
    let (hot, cold) = (text(1, 640), text(2, 640));
    serve(&mut pages, 0, &hot, &[]);
    serve(&mut pages, 0, &hot, &[]);
    serve(&mut pages, 0, &cold, &[]);
    let mut first = vec![];
    pages.walk(|c| {
        first.extend_from_slice(c.tokens);
        if first.len() < 640 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    assert_eq!(first, hot);
}

#[test]
fn hostile_tokens_cost_no_more_than_others() {
    // Thousands of siblings that agree on all but their last tokens.
    let mut pages = Pages::new(4096);
    let mut seen = HashSet::new();
    for i in 0..4096 {
        let mut prompt = vec![7; 64];
        (prompt[62], prompt[63]) = (i / 64, i % 64);
        assert!(seen.insert(prompt.clone()));
        serve_quietly(&mut pages, &prompt);
    }
    pages.check([]).unwrap();
    assert_eq!(pages.cached(), 4096);
    assert!(seen.iter().all(|p| pages.peek(0, p).n_cached == 63));
}

fn serve_quietly(pages: &mut Pages, prompt: &[u32]) {
    let (mut table, mut lease) = ([0], Lease::default());
    let hit = pages.start(0, prompt, &mut table, &mut lease);
    if hit.n_cached == 0 {
        table[0] = pages.take().unwrap();
    }
    pages.end(&mut lease, prompt, prompt.len(), &mut table);
}

/// Printed, not asserted: `cargo test -p engine --release --test pages speed -- --nocapture`.
#[test]
fn speed_of_a_long_prompt() {
    for n_pages in [2048, 16_384] {
        let mut pages = Pages::new(n_pages);
        // A full cache, so that every page has to be evicted.
        (0..n_pages / 64).for_each(|i| {
            serve(&mut pages, 0, &text(100 + i as u64, 64 * PAGE_LEN), &[]);
        });
        for what in ["miss", "hit"] {
            let (mut lap, mut total) = ([0.0; 4], 0.0);
            for round in 0..20 {
                let prompt = text(if what == "hit" { 0 } else { 10_000 + round }, 8192);
                let (mut table, mut lease) = (vec![0; 128], Lease::default());
                let t0 = std::time::Instant::now();
                let hit = pages.start(0, &prompt, &mut table, &mut lease);
                let t1 = std::time::Instant::now();
                table[hit.n_cached.div_ceil(PAGE_LEN)..].fill_with(|| pages.take().unwrap());
                let t2 = std::time::Instant::now();
                pages.publish(&mut lease, &prompt, 8191, &mut table);
                let t3 = std::time::Instant::now();
                pages.end(&mut lease, &prompt, 8191, &mut table);
                let t4 = std::time::Instant::now();
                if round > 0 {
                    let laps = [t1 - t0, t2 - t1, t3 - t2, t4 - t3];
                    (0..4).for_each(|i| lap[i] += laps[i].as_secs_f64() * 1e6 / 19.0);
                    total += (t4 - t0).as_secs_f64() * 1e6 / 19.0;
                }
            }
            let [start, take, publish, end] = lap;
            println!(
                "{n_pages} pages, 8192 tokens, {what}: start {start:.1} us, take {take:.1} us, publish {publish:.1} us, \
                 end {end:.1} us, in all {total:.1} us"
            );
        }
    }
}

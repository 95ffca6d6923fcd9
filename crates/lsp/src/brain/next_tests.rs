//! What the trail proposes, on small files, and what it must never propose.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::document::{Document, Position, Range as Span};

/// A file that is edited by hand.
struct Hand {
    text: Document,
    trail: Trail,
    cursor: Position,
}

impl Hand {
    fn new(text: &str) -> Self {
        Self { text: Document::new(text).unwrap(), trail: Trail::default(), cursor: Position::default() }
    }

    fn change(&mut self, start: Position, end: Position, new: &str) {
        let range = Span { start, end };
        self.trail.changing("a", &self.text.touched(range), self.text.lines());
        let was = self.text.lines().len() as isize;
        self.text.change(range, new).unwrap();
        self.trail.changed(self.text.lines().len() as isize - was);
    }

    /// Replaces the `n`th occurrence of a text, as one does: it is deleted, then typed character by character.
    fn replace(&mut self, old: &str, n: usize, new: &str) {
        let all = self.text.text();
        let (at, _) = all.match_indices(old).nth(n).unwrap();
        let place = |at: usize| {
            let line = all[..at].matches('\n').count();
            self.text.position((line, at - all[..at].rfind('\n').map_or(0, |i| i + 1)))
        };
        let (start, end) = (place(at), place(at + old.len()));
        self.change(start, end, "");
        let mut here = start;
        for c in new.chars() {
            self.change(here, here, &c.to_string());
            here = match c {
                '\n' => Position { line: here.line + 1, character: 0 },
                _ => Position { character: here.character + c.len_utf16() as u32, ..here },
            };
        }
        self.cursor = here;
    }

    fn next(&self) -> Option<(u32, u32, String)> {
        let next = self.trail.next("a", self.text.lines(), self.text.place(self.cursor))?;
        let start = self.text.position(next.start);
        Some((start.line, start.character, next.text))
    }

    /// Takes what is proposed, until nothing is.
    fn take_all(&mut self) -> usize {
        let mut n = 0;
        while let Some(next) = self.trail.next("a", self.text.lines(), self.text.place(self.cursor)) {
            let (start, end) = (self.text.position(next.start), self.text.position(next.end));
            self.change(start, end, &next.text);
            self.cursor = self.text.position((next.start.0, next.start.1 + next.text.len()));
            n += 1;
            assert!(n < 100, "it does not end");
        }
        n
    }
}

#[test]
fn a_function_that_was_renamed_is_renamed_where_it_is_called() {
    let mut hand = Hand::new(
        "fn old_name(x: u32) {}\n\nfn f() {\n    é.old_name(1);\n    old_names();\n    \"old_name\";\n}\n// old_name\n",
    );
    hand.replace("old_name", 0, "better");
    assert_eq!(hand.next(), Some((3, 6, "better".into())));
    assert_eq!(hand.take_all(), 2);
    let want =
        "fn better(x: u32) {}\n\nfn f() {\n    é.better(1);\n    old_names();\n    \"old_name\";\n}\n// better\n";
    assert_eq!(hand.text.text(), want);
}

#[test]
fn the_nearest_place_after_the_cursor_comes_first_and_then_the_top() {
    let mut hand = Hand::new("go(count);\ngo(count);\nlet x = 1;\nfn count() {}\ngo(count);\n");
    hand.replace("count", 2, "total");
    assert_eq!(hand.next().unwrap().0, 4);
    hand.cursor = Position { line: 1, character: 10 };
    assert_eq!(hand.next().unwrap().0, 4);
    hand.cursor = Position { line: 1, character: 0 };
    assert_eq!(hand.next().unwrap(), (1, 3, "total".into()));
    assert_eq!(hand.take_all(), 3);
}

#[test]
fn a_local_name_ends_with_its_block_and_is_no_member_and_no_label() {
    let text = "fn f() {\n    let list = vec![];\n    g(list, o.list, Some { list: 1 });\n}\n\nfn g() {\n    let list = 2;\n}\n";
    let mut hand = Hand::new(text);
    hand.replace("list", 0, "all");
    assert_eq!(hand.take_all(), 1);
    assert_eq!(hand.text.text(), text.replacen("list", "all", 2));
    let mut hand = Hand::new("def f(size):\n    return size\n\ndef g(size):\n    return size\n");
    hand.replace("size", 0, "width");
    assert_eq!(hand.next(), None, "a parameter without a type looks like anything else that is used");
    let mut hand = Hand::new("fn f(\n    size: u8,\n) -> u8 {\n    size\n}\nfn g(size: u8) {}\n");
    hand.replace("fn f(\n    size: u8,", 0, "fn f(\n    len: u8,");
    assert_eq!(hand.next(), None);
    let mut hand = Hand::new("fn f(size: u8) -> u8 {\n    size\n}\nfn g(size: u8) {}\n");
    hand.replace("size", 0, "len");
    assert_eq!(hand.take_all(), 1);
}

#[test]
fn a_field_is_renamed_behind_points_and_in_literals() {
    let mut hand = Hand::new("struct A {\n    pub size: u8,\n}\nfn f(size: A) {\n    size.size = A { size: 1 };\n}\n");
    hand.replace("size", 0, "len");
    hand.take_all();
    assert_eq!(hand.text.lines()[4], "    size.len = A { len: 1 };\n");
}

#[test]
fn another_name_in_one_call_says_nothing_and_in_two_calls_it_does() {
    let mut hand = Hand::new("a(x);\nb(x);\na(y);\na(z);\n");
    hand.replace("a", 0, "c");
    assert_eq!(hand.next(), None);
    hand.replace("a", 0, "c");
    assert_eq!(hand.next(), Some((3, 0, "c".into())));
}

#[test]
fn a_phrase_that_was_replaced_twice_goes_on_and_once_only_in_equal_lines() {
    let mut hand = Hand::new("a.unwrap();\nb.unwrap();\nc.unwrap();\n");
    hand.replace(".unwrap()", 0, "?");
    assert_eq!(hand.next(), None);
    hand.replace(".unwrap()", 0, "?");
    assert_eq!(hand.next(), Some((2, 1, "?".into())));
    let mut hand =
        Hand::new("let connection = open(path).unwrap();\nelse_where();\n    let connection = open(path).unwrap();\n");
    hand.replace(".unwrap()", 0, "?");
    assert_eq!(hand.next(), Some((2, 31, "?".into())));
}

#[test]
fn equal_lines_are_replaced_as_deep_as_they_stand() {
    let text =
        "fn f() {\n    let guard = lock.lock();\n    work();\n}\nfn g() {\n        let guard = lock.lock();\n}\n";
    let mut hand = Hand::new(text);
    hand.replace(
        "    let guard = lock.lock();\n",
        0,
        "    if let Ok(guard) = lock.lock() {\n        use_it();\n    }\n",
    );
    assert_eq!(hand.take_all(), 1);
    let below = "        if let Ok(guard) = lock.lock() {\n            use_it();\n        }\n}\n";
    assert!(hand.text.text().ends_with(below), "{}", hand.text.text());
    let mut hand = Hand::new("x\n#include <something.h>\ny\n#include <something.h>");
    hand.replace("#include <something.h>\n", 0, "");
    assert_eq!(hand.take_all(), 1);
    assert_eq!(hand.text.text(), "x\ny\n");
}

#[test]
fn a_name_that_is_being_deleted_and_a_change_that_was_undone_have_no_next() {
    let mut hand = Hand::new("fn connection() {}\nconnection();\n");
    hand.replace("tion()", 0, "()");
    hand.cursor.character -= 2;
    assert_eq!(hand.next(), None, "`connec` may become anything");
    hand.replace("connec()", 0, "connection()");
    assert_eq!(hand.next(), None, "it is as it was");
    hand.replace("connection", 0, "link");
    assert!(hand.next().is_some());
    hand.trail.forget("a");
    assert_eq!(hand.next(), None);
}

proptest! {
    #[test]
    fn text_that_was_only_added_has_no_next(
        text in "(let [ab]{2,3}|fn [ab]{2,3}\\(\\)|[ab]{2,3};| |\n){0,20}", line in 0u32..6, character in 0u32..8, new in "( [ab]{1,3} |\n[ab]{1,3}\n){1,3}",
    ) {
        let mut hand = Hand::new(&text);
        // At a line's end: within a name, added letters make another name of it.
        let lines = hand.text.lines().len() as u32;
        let at = hand.text.position(hand.text.place(Position { line: line % lines, character: 99 }));
        hand.change(at, at, &new);
        hand.cursor = Position { line, character };
        prop_assert_eq!(hand.next(), None);
    }

    #[test]
    fn what_is_proposed_is_the_old_text_and_never_a_place_that_has_the_new_one(
        text in "(let |fn |é|😀)?([ab]{1,2}[ .();:=\n]{1,2}){1,12}", edits in proptest::collection::vec((0usize..20, "[abc]{1,3}|a\\.b|ab\n"), 1..4),
        line in 0u32..8, character in 0u32..12,
    ) {
        let mut hand = Hand::new(&text);
        for (n, new) in edits {
            let all = hand.text.text();
            let names: Vec<&str> = tokens(&all).into_iter().filter(|t| is_name(t)).collect();
            let Some(old) = names.get(n % names.len().max(1)).copied().map(str::to_owned) else { continue };
            hand.replace(&old, n % all.matches(&old).count(), &new);
            hand.cursor = Position { line, character };
            let Some(next) = hand.trail.next("a", hand.text.lines(), hand.text.place(hand.cursor)) else { continue };
            let before = hand.text.text();
            let (start, end) = (hand.text.position(next.start), hand.text.position(next.end));
            prop_assert_eq!(hand.text.place(start), next.start, "positions survive the way to the editor");
            prop_assert_eq!(hand.text.place(end), next.end);
            hand.text.clone().change(Span { start, end }, &next.text).unwrap();
            prop_assert!(next.start.0 < hand.text.lines().len());
            hand.change(start, end, &next.text);
            prop_assert_ne!(hand.text.text(), before, "a proposal changes something");
            let here = body(&hand.text.lines()[next.start.0]);
            if let Some(again) = hand.trail.next("a", hand.text.lines(), next.start) {
                let (from, to) = (next.start.1, next.start.1 + next.text.len());
                let is_inside = again.start.0 == next.start.0 && again.start.1 < to && again.end.1 > from;
                prop_assert!(!is_inside, "{:?} in {:?} after {:?}", again, here, next);
            }
        }
    }
}

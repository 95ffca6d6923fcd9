//! How often a proposed next edit is what the author of a real commit did next. Each commit's hunks are made in file order;
//! after each one the trail is asked. Order within a file is not the order of typing, so this is a yardstick and no more.
//! Needs `git-real-dev/edit.jsonl` under `VONK_DATA` or `../shared/data`; says so where it is not there.
//! `cargo test -p lsp --release --test next_edit_data -- --nocapture`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use edit::diff::parts;
use lsp::brain::next::Trail;
use lsp::document::{Document, Position, Range};

#[derive(Default, Debug)]
struct Tally {
    asked: usize,
    /// Something was proposed.
    proposed: usize,
    /// In lines that the author went on to change.
    in_place: usize,
    /// And it makes them more like what the author made of them.
    right: usize,
}

fn at(line: usize) -> Position {
    Position { line: line as u32, character: 0 }
}

fn likeness(a: &str, b: &str) -> usize {
    let head = a.chars().zip(b.chars()).take_while(|(x, y)| x == y).count();
    let rest = a.chars().count().min(b.chars().count()) - head;
    head + a.chars().rev().zip(b.chars().rev()).take(rest).take_while(|(x, y)| x == y).count()
}

fn commit(old: &str, new: &str, tally: &mut Tally, show: bool) {
    let (a, b): (Vec<&str>, Vec<&str>) = (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let all = parts(&a, &b, false);
    let (mut text, mut trail, mut moved) = (Document::new(old).unwrap(), Trail::default(), 0isize);
    for (i, part) in all.iter().enumerate().take(all.len().saturating_sub(1)) {
        let first = part.old.start.saturating_add_signed(moved);
        let range = Range { start: at(first), end: at(first + part.old.len()) };
        trail.changing("a", &text.touched(range), text.lines());
        text.change(range, &b[part.new.clone()].concat()).unwrap();
        let more = part.new.len() as isize - part.old.len() as isize;
        trail.changed(more);
        moved += more;
        tally.asked += 1;
        let Some(next) = trail.next("a", text.lines(), (first + part.new.len(), 0)) else { continue };
        tally.proposed += 1;
        let line = next.start.0.saturating_add_signed(-moved);
        let later = all[i + 1..].iter().find(|p| p.old.contains(&line) && next.start.0 >= first);
        let was = text.lines()[next.start.0].clone();
        let is = format!("{}{}", &was[..next.start.1], next.text)
            + if next.end.0 == next.start.0 { &was[next.end.1..] } else { "" };
        let best =
            |line: &str| later.map_or(0, |p| b[p.new.clone()].iter().map(|l| likeness(l, line)).max().unwrap_or(0));
        // Lines that go are right where the author's go, too.
        let is_right = later
            .is_some_and(|p| if next.text.is_empty() { p.new.len() < p.old.len() } else { best(&is) > best(&was) });
        tally.in_place += usize::from(later.is_some());
        tally.right += usize::from(is_right);
        if show && !is_right {
            eprintln!(
                "{} | after {:?} -> {:?}\n   {was:?} -> {is:?}",
                if later.is_some() { "PLACE" } else { "WRONG" },
                &a[part.old.clone()].iter().take(3).collect::<Vec<_>>(),
                &b[part.new.clone()].iter().take(3).collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn proposals_on_real_commits() {
    let folder = std::env::var_os("VONK_DATA").map_or_else(|| "../../../shared/data".into(), std::path::PathBuf::from);
    let Ok(data) = std::fs::read_to_string(folder.join("git-real-dev/edit.jsonl")) else {
        return eprintln!("left out: git-real-dev/edit.jsonl is not here (VONK_DATA)");
    };
    let mut tally = Tally::default();
    for line in data.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        commit(
            row["before"].as_str().unwrap(),
            row["after"].as_str().unwrap(),
            &mut tally,
            std::env::var_os("VONK_SHOW").is_some(),
        );
    }
    println!("{tally:?}");
    assert!(tally.asked > 100 && tally.right * 2 >= tally.proposed, "more wrong than right: {tally:?}");
}

//! The next edit: where the last change goes on. A replacement is learned from the lines that were changed (a name for a name,
//! a phrase for a phrase, lines for lines) and looked for elsewhere, nearest after the cursor first. By rules, without a
//! model: a change that says nothing about other places (a text that was only added, one other name in one call) has no
//! next one, and a hint that is wrong is worse than none.

use std::collections::VecDeque;
use std::ops::Range;

use base::limits::{NEXT_EDIT_LINES_MAX, NEXT_EDIT_SCAN_BYTES_MAX, NEXT_EDIT_TRAIL_MAX};

use super::scope::{Site, site, within_string};

/// Characters, blanks apart, from which on a phrase or a line is peculiar enough to be replaced elsewhere after one time.
const PECULIAR_CHARS: usize = 12;

/// Text to replace: from byte to byte, in lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// Line and byte.
    pub start: (usize, usize),
    /// Behind it.
    pub end: (usize, usize),
    /// What stands there then.
    pub text: String,
}

/// One thing for another.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Swap {
    /// A name, at a place of a certain kind.
    Name { old: String, new: String, site: Site },
    /// Some tokens of a line that was `line` before.
    Phrase { old: String, new: String, line: String },
    /// Whole lines.
    Lines { old: Vec<String>, new: Vec<String> },
}

/// The lines that are being changed.
#[derive(Debug)]
struct Hunk {
    path: String,
    first: usize,
    n_new: usize,
    old: Vec<String>,
}

/// What was changed last.
#[derive(Debug, Default)]
pub struct Trail {
    hunk: Option<Hunk>,
    /// What earlier hunks taught, the newest last.
    learned: VecDeque<Swap>,
}

impl Trail {
    /// The lines `touched` of a file are about to change. Changes that touch each other are one.
    pub fn changing(&mut self, path: &str, touched: &Range<usize>, lines: &[String]) {
        let is_same = |h: &Hunk| h.path == path && touched.start < h.first + h.n_new && touched.end > h.first;
        let mut hunk = match self.hunk.take() {
            Some(hunk) if is_same(&hunk) => hunk,
            other => {
                self.learn(other, lines, path);
                Hunk { path: path.to_owned(), first: touched.start, n_new: 0, old: Vec::new() }
            }
        };
        let get = |range: Range<usize>| lines.get(range).unwrap_or_default().iter().cloned();
        let (end, until) = (hunk.first + hunk.n_new, touched.end.min(lines.len()));
        if touched.start < hunk.first {
            hunk.old.splice(0..0, get(touched.start..hunk.first));
            hunk.n_new += hunk.first - touched.start;
            hunk.first = touched.start;
        }
        if until > end {
            hunk.old.extend(get(end..until));
            hunk.n_new += until - end;
        }
        // What touches so many lines is another file's text, or a formatter: it teaches nothing.
        self.hunk = Some(hunk).filter(|h| h.old.len().max(h.n_new) <= NEXT_EDIT_LINES_MAX);
    }

    /// They have changed: the file has so many lines more.
    pub fn changed(&mut self, more: isize) {
        if let Some(hunk) = &mut self.hunk {
            hunk.n_new = hunk.n_new.saturating_add_signed(more);
        }
        self.hunk.take_if(|h| h.n_new > NEXT_EDIT_LINES_MAX);
    }

    /// The file whose lines are being changed.
    pub fn path(&self) -> Option<&str> {
        self.hunk.as_ref().map(|h| h.path.as_str())
    }

    /// Another file is changed now: what this one's last change taught is kept. `lines` are this one's.
    pub fn leave(&mut self, lines: &[String]) {
        if let Some(hunk) = self.hunk.take() {
            let path = hunk.path.clone();
            self.learn(Some(hunk), lines, &path);
        }
    }

    /// Where the last change, in `lines`, goes on in another file: only a name that was declared for all files, or is in the middle
    /// of being renamed as one.
    pub fn next_elsewhere(&self, lines: &[String], other: &[String]) -> Option<Next> {
        let hunk = self.hunk.as_ref()?;
        let own = hunk.first..hunk.first + hunk.n_new;
        let is_global = |s: &&Swap| matches!(s, Swap::Name { site: Site::Global, .. });
        swaps(hunk, lines).iter().find_map(|swap| {
            let learned = self.learned.iter().rev().filter(|s| s.is_like(swap)).find(is_global);
            let global = Some(swap).filter(is_global).or(learned)?;
            // Somebody is still writing the new name if it is only a beginning of the old one.
            let Swap::Name { old, new, .. } = global else { return None };
            let is_unfinished = old.starts_with(new.as_str()) && learned.is_none();
            let nowhere = other.len()..other.len();
            if is_unfinished || own.is_empty() { None } else { look(global, other, (0, 0), &nowhere, false) }
        })
    }

    /// A file has another text altogether, or is gone.
    pub fn forget(&mut self, path: &str) {
        self.hunk.take_if(|h| h.path == path);
    }

    fn learn(&mut self, hunk: Option<Hunk>, lines: &[String], path: &str) {
        // The text of another file is not at hand any more: what was learned there while it was asked about counts.
        if let Some(hunk) = hunk.filter(|h| h.path == path) {
            self.learned.extend(swaps(&hunk, lines));
            while self.learned.len() > NEXT_EDIT_TRAIL_MAX {
                self.learned.pop_front();
            }
        }
    }

    /// Where the last change goes on in this file, seen from the cursor (line and byte).
    pub fn next(&self, path: &str, lines: &[String], cursor: (usize, usize)) -> Option<Next> {
        let hunk = self.hunk.as_ref().filter(|h| h.path == path)?;
        let own = hunk.first..hunk.first + hunk.n_new;
        swaps(hunk, lines).iter().find_map(|swap| {
            let like = self.learned.iter().rev().filter(|s| s.is_like(swap));
            let is_repeated = like.clone().next().is_some();
            if !is_repeated && !swap.is_telling(lines, &own, cursor) {
                return None;
            }
            // The place that declared the name tells more of where it may stand than those where it is used.
            let best = if swap.is_declared() { None } else { like.clone().find(|s| s.is_declared()) };
            look(best.unwrap_or(swap), lines, cursor, &own, is_repeated)
        })
    }
}

impl Swap {
    fn is_like(&self, other: &Swap) -> bool {
        match (self, other) {
            (Self::Name { old, new, .. }, Self::Name { old: o, new: n, .. })
            | (Self::Phrase { old, new, .. }, Self::Phrase { old: o, new: n, .. }) => old == o && new == n,
            _ => self == other,
        }
    }

    fn is_declared(&self) -> bool {
        matches!(self, Self::Name { site, .. } if !matches!(site, Site::Use { .. }))
    }

    /// Whether having been done once says that it is to be done elsewhere.
    fn is_telling(&self, lines: &[String], own: &Range<usize>, (line, byte): (usize, usize)) -> bool {
        match self {
            Self::Name { old, new, .. } => {
                // Somebody deletes the end of a name, and will go on to write another one.
                let before = lines.get(line).and_then(|l| l.get(..byte)).unwrap_or_default();
                let is_unfinished =
                    own.contains(&line) && old.starts_with(new.as_str()) && before.ends_with(new.as_str());
                self.is_declared() && !is_unfinished
            }
            Self::Phrase { line, .. } => n_peculiar(line) >= PECULIAR_CHARS,
            Self::Lines { old, .. } => old.iter().map(|l| n_peculiar(l)).sum::<usize>() >= PECULIAR_CHARS,
        }
    }
}

fn n_peculiar(text: &str) -> usize {
    text.chars().filter(|c| is_word(*c)).count()
}

pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// A line without its end.
pub(super) fn body(line: &str) -> &str {
    line.trim_end_matches(['\n', '\r'])
}

/// Names, runs of blanks, and single other characters.
fn tokens(line: &str) -> Vec<&str> {
    let kind = |c: char| if is_word(c) { 1 } else { 2 * usize::from(c.is_whitespace()) };
    let (mut out, mut from, mut last) = (Vec::new(), 0, 0);
    for (at, c) in line.char_indices() {
        let now = kind(c);
        if at > from && (now != last || now == 0) {
            out.push(&line[from..at]);
            from = at;
        }
        last = now;
    }
    out.extend(line.get(from..).filter(|t| !t.is_empty()));
    out
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| is_word(c) && !c.is_numeric())
}

/// What a hunk replaced.
fn swaps(hunk: &Hunk, lines: &[String]) -> Vec<Swap> {
    let new = lines.get(hunk.first..hunk.first + hunk.n_new).unwrap_or_default();
    let (mut old, mut new): (Vec<&str>, Vec<&str>) =
        (hunk.old.iter().map(|l| body(l)).collect(), new.iter().map(|l| body(l)).collect());
    let mut out: Vec<Swap> = Vec::new();
    if old.len() == new.len() {
        let pairs = old.iter().zip(&new).enumerate().filter(|(_, (a, b))| a != b);
        for swap in pairs.flat_map(|(i, (a, b))| of_line(a, b, hunk.old.get(..i).unwrap_or_default())) {
            if !out.iter().any(|s| s.is_like(&swap)) {
                out.push(swap);
            }
        }
        return out;
    }
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    (old, new) = (old.split_off(same), new.split_off(same));
    let same = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    old.truncate(old.len() - same);
    new.truncate(new.len() - same);
    if !old.is_empty() {
        let owned = |all: Vec<&str>| all.into_iter().map(str::to_owned).collect();
        out.push(Swap::Lines { old: owned(old), new: owned(new) });
    }
    out
}

fn of_line(old: &str, new: &str, above: &[String]) -> Vec<Swap> {
    let (a, b) = (tokens(old), tokens(new));
    if a.len() == b.len() {
        let differ: Vec<usize> = (0..a.len()).filter(|i| a[*i] != b[*i]).collect();
        if differ.iter().all(|i| is_name(a[*i]) && is_name(b[*i])) {
            let name = |i: &usize| {
                let site = site(&a, *i, above);
                Swap::Name { old: a[*i].to_owned(), new: b[*i].to_owned(), site }
            };
            return differ.iter().map(name).collect();
        }
    }
    let head = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let tail = a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(|(x, y)| x == y).count();
    let (was, is) = (a[head..a.len() - tail].concat(), b[head..b.len() - tail].concat());
    match was.trim().is_empty() {
        true => Vec::new(), // only added: nothing to look for
        false => vec![Swap::Phrase { old: was, new: is, line: old.trim().to_owned() }],
    }
}

/// The lines in the order in which they are looked at: from the cursor's on to the end, then from the top; within a bound.
fn order(lines: &[String], cursor: usize) -> impl Iterator<Item = usize> {
    let mut bytes = 0usize;
    let all = (cursor.min(lines.len())..lines.len()).chain(0..cursor.min(lines.len()));
    all.take_while(move |i| {
        bytes += lines[*i].len();
        bytes <= NEXT_EDIT_SCAN_BYTES_MAX
    })
}

fn look(swap: &Swap, lines: &[String], cursor: (usize, usize), own: &Range<usize>, is_repeated: bool) -> Option<Next> {
    match swap {
        Swap::Name { old, new, site } => {
            let scope = site.scope(lines, own.start);
            let fits = |line: usize, at: Range<usize>| {
                scope.contains(&line) && site.admits(&lines[line], &at) && !within_string(&lines[line], at.start)
            };
            find(old, new, lines, cursor, fits)
        }
        Swap::Phrase { old, new, line } => {
            let fits = |i: usize, _: Range<usize>| is_repeated || body(&lines[i]).trim() == line;
            find(old, new, lines, cursor, fits)
        }
        Swap::Lines { old, new } => find_lines(old, new, lines, cursor.0, own),
    }
}

/// The first place of `old` as whole tokens that fits and does not read `new` already.
fn find(
    old: &str,
    new: &str,
    lines: &[String],
    cursor: (usize, usize),
    fits: impl Fn(usize, Range<usize>) -> bool,
) -> Option<Next> {
    let mut behind = None; // the part of the cursor's line before the cursor comes last
    for i in order(lines, cursor.0) {
        let line = body(&lines[i]);
        for (at, _) in line.match_indices(old) {
            let (before, after) = (&line[..at], &line[at + old.len()..]);
            let cuts =
                |inner: Option<char>, outer: Option<char>| inner.is_some_and(is_word) && outer.is_some_and(is_word);
            let is_cut = cuts(old.chars().next(), before.chars().next_back())
                || cuts(old.chars().next_back(), after.chars().next());
            if is_cut || reads_already(line, at, old, new) || !fits(i, at..at + old.len()) {
                continue;
            }
            let next = Next { start: (i, at), end: (i, at + old.len()), text: new.to_owned() };
            if i == cursor.0 && at < cursor.1 {
                behind.get_or_insert(next);
            } else {
                return Some(next);
            }
        }
    }
    behind
}

/// Whether the old text at this place is part of the new one.
fn reads_already(line: &str, at: usize, old: &str, new: &str) -> bool {
    new.match_indices(old).any(|(within, _)| {
        at.checked_sub(within).and_then(|from| line.get(from..)).is_some_and(|text| text.starts_with(new))
    })
}

/// The first place of the same lines, but for their indentation.
fn find_lines(old: &[String], new: &[String], lines: &[String], cursor: usize, own: &Range<usize>) -> Option<Next> {
    let same = |line: &str, want: &str| body(line).trim() == want.trim();
    let i = order(lines, cursor).find(|i| {
        let Some(here) = lines.get(*i..*i + old.len()) else { return false };
        let is_apart = i + old.len() <= own.start || *i >= own.end;
        let has_new = !new.is_empty() && lines[*i..].iter().zip(new).filter(|(a, b)| same(a, b)).count() == new.len();
        is_apart && !has_new && here.iter().zip(old).all(|(line, want)| same(line, want))
    })?;
    let indent = |line: &str| line.len() - line.trim_start().len();
    let (here, was) = (indent(&lines[i]), indent(&old[0]));
    let end = lines[i].get(body(&lines[i]).len()..).filter(|e| !e.is_empty()).unwrap_or("\n");
    let mut text = String::new();
    for line in new.iter().map(|l| l.as_str()) {
        // As deep against the first line as it was there.
        let own = line.get(..indent(line).min(was)).map_or(indent(line), str::len);
        if !line.trim().is_empty() {
            text.push_str(lines[i].get(..here).unwrap_or_default());
            text.push_str(line.get(own..).unwrap_or_default());
        }
        text.push_str(end);
    }
    let last = i + old.len();
    // The last line of a file may have no end.
    let to = if last < lines.len() { (last, 0) } else { (last - 1, body(&lines[last - 1]).len()) };
    if last >= lines.len() {
        text.truncate(text.len().saturating_sub(if text.is_empty() { 0 } else { end.len() }));
    }
    Some(Next { start: (i, 0), end: to, text })
}

#[cfg(test)]
#[path = "next_tests.rs"]
mod tests;

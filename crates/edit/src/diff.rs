//! Old lines against new lines: what is shown while an answer arrives, and the bytes that are written. Lines that did not
//! really change keep their own bytes, whatever a model did to their ends.

use std::ops::Range;
use std::time::{Duration, Instant};

use base::limits;
use similar::{Algorithm, DiffOp, capture_diff_slices_deadline};

use crate::source::Source;

/// Lines before and after a change that are shown with it.
const CONTEXT: usize = 3;

/// A line of a diff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// `@@ -old,n +new,n @@`.
    Head(String),
    /// Unchanged.
    Same(String),
    /// Gone.
    Removed(String),
    /// New.
    Added(String),
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Head(line) => write!(f, "{line}"),
            Self::Same(line) => write!(f, " {line}"),
            Self::Removed(line) => write!(f, "-{line}"),
            Self::Added(line) => write!(f, "+{line}"),
        }
    }
}

/// Old lines that are replaced by new ones; either may be empty, but not both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Lines of the old text.
    pub old: Range<usize>,
    /// Lines of the new one.
    pub new: Range<usize>,
}

/// The parts in which two texts differ, in order. With `is_open` the new text is not finished: what the old one has after the
/// last line that both have is not counted as gone.
pub fn parts(old: &[&str], new: &[&str], is_open: bool) -> Vec<Part> {
    let end = Instant::now() + Duration::from_millis(limits::EDIT_DIFF_MS_MAX); // then it is coarser, and still right
    let mut parts: Vec<Part> = Vec::new();
    for op in capture_diff_slices_deadline(Algorithm::Myers, old, new, Some(end)) {
        if matches!(op, DiffOp::Equal { .. }) {
            continue;
        }
        let (old, new) = (op.old_range(), op.new_range());
        match parts.last_mut() {
            // A deletion beside an insertion is one replacement.
            Some(last) if last.old.end == old.start && last.new.end == new.start => {
                (last.old.end, last.new.end) = (old.end, new.end);
            }
            _ => parts.push(Part { old, new }),
        }
    }
    if is_open && let Some(last) = parts.last_mut().filter(|p| p.old.end == old.len() && p.new.end == new.len()) {
        // As many lines as were written stand for as many as they replace.
        last.old.end = last.old.end.min(last.old.start + last.new.len());
        if last.new.is_empty() {
            parts.pop();
        }
    }
    parts
}

/// A unified diff of two texts.
pub fn unified(old: &str, new: &str, is_open: bool) -> Vec<Line> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let parts = parts(&old, &new, is_open);
    let mut out = Vec::new();
    let mut at = 0;
    while at < parts.len() {
        let mut end = at + 1;
        while end < parts.len() && parts[end].old.start - parts[end - 1].old.end <= 2 * CONTEXT {
            end += 1;
        }
        hunk(&old, &new, &parts[at..end], &mut out);
        at = end;
    }
    out
}

fn hunk(old: &[&str], new: &[&str], parts: &[Part], out: &mut Vec<Line>) {
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return };
    let before = first.old.start.min(CONTEXT);
    let after = (old.len() - last.old.end).min(CONTEXT);
    let (old_start, new_start) = (first.old.start - before, first.new.start - before);
    let (old_len, new_len) = (last.old.end + after - old_start, last.new.end + after - new_start);
    let place = |start: usize, len: usize| if len == 0 { format!("{start},0") } else { format!("{},{len}", start + 1) };
    out.push(Line::Head(format!("@@ -{} +{} @@", place(old_start, old_len), place(new_start, new_len))));
    let mut at = old_start;
    for part in parts {
        out.extend(old[at..part.old.start].iter().map(|l| Line::Same((*l).to_owned())));
        out.extend(old[part.old.clone()].iter().map(|l| Line::Removed((*l).to_owned())));
        out.extend(new[part.new.clone()].iter().map(|l| Line::Added((*l).to_owned())));
        at = part.old.end;
    }
    out.extend(old[at..last.old.end + after].iter().map(|l| Line::Same((*l).to_owned())));
}

/// Added and removed lines.
pub fn counts(lines: &[Line]) -> (usize, usize) {
    let count = |f: fn(&Line) -> bool| lines.iter().filter(|l| f(l)).count();
    (count(|l| matches!(l, Line::Added(_))), count(|l| matches!(l, Line::Removed(_))))
}

/// The new text without the parts that only add or remove blank lines, unless they are all there is: models lose and add such
/// lines in passing.
pub fn without_blank_parts(old: &str, new: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let parts = parts(&a, &b, false);
    let is_blank = |p: &Part| a[p.old.clone()].iter().chain(&b[p.new.clone()]).all(|l| l.trim().is_empty());
    if parts.iter().all(is_blank) || !parts.iter().any(is_blank) {
        return new.to_owned();
    }
    let (mut lines, mut at) = (Vec::with_capacity(b.len()), 0);
    for part in parts.iter().filter(|p| !is_blank(p)) {
        lines.extend_from_slice(&a[at..part.old.start]);
        lines.extend_from_slice(&b[part.new.clone()]);
        at = part.old.end;
    }
    lines.extend_from_slice(&a[at..]);
    lines.iter().flat_map(|l| [l, "\n"]).collect()
}

/// The bytes of the file with this new text: only lines that really changed are new. A change that is nothing but blanks at
/// the ends of lines counts only if it is all there is.
pub fn merged(source: &Source, new: &str) -> Vec<u8> {
    let tabbed;
    let new = match source.form.is_tabbed {
        true => {
            tabbed = with_tabs(new);
            tabbed.as_str()
        }
        false => new,
    };
    let old: Vec<&str> = source.raw().split_inclusive('\n').collect();
    let new: Vec<&str> = new.lines().collect();
    let end = |line: &&str| line.trim_end_matches('\n').strip_suffix('\r').unwrap_or(line.trim_end_matches('\n')).len();
    let content: Vec<&str> = old.iter().map(|l| &l[..end(l)]).collect();
    let (old_keys, new_keys) = (trimmed(&content), trimmed(&new));
    let changes = match old_keys == new_keys {
        true => parts(&content, &new, false), // blanks are all that changed
        false => parts(&old_keys, &new_keys, false),
    };
    // (a line's text, its own end if it has one)
    let mut lines: Vec<(&str, &str)> = Vec::with_capacity(new.len());
    let own = |at: usize| (content[at], &old[at][content[at].len()..]);
    let mut at = 0;
    for part in &changes {
        lines.extend((at..part.old.start).map(own));
        lines.extend(new[part.new.clone()].iter().map(|l| (*l, "")));
        at = part.old.end;
    }
    lines.extend((at..old.len()).map(own));
    let mut out = source.form.bom().as_bytes().to_vec();
    let last = lines.len().saturating_sub(1);
    for (i, (text, own_end)) in lines.iter().enumerate() {
        out.extend_from_slice(text.as_bytes());
        let has_end = i < last || source.form.ends_with_newline;
        let end = if own_end.is_empty() { source.form.newline() } else { own_end };
        out.extend_from_slice(if has_end { end.as_bytes() } else { b"" });
    }
    out
}

fn trimmed<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    lines.iter().map(|l| l.trim_end()).collect()
}

/// Leading spaces as tabs, for a file that has no other indentation.
fn with_tabs(text: &str) -> String {
    let spaces = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let indents = text.lines().filter(|l| !l.trim().is_empty()).map(spaces).filter(|n| *n > 1);
    let Some(width) = indents.min().map(|n| n.min(8)) else { return text.to_owned() };
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let n = spaces(line);
        out.extend(std::iter::repeat_n('\t', n / width));
        out.push_str(&line[n - n % width..]);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::source::Form;

    fn source(raw: &str) -> Source {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, raw).unwrap();
        Source::read(&path, true).unwrap()
    }

    fn after(raw: &str, new: &str) -> String {
        String::from_utf8(merged(&source(raw), new)).unwrap()
    }

    #[test]
    fn the_form_of_a_file_survives_every_change() {
        assert_eq!(after("a\r\nb\r\nc\r\n", "a\nB\nc\n"), "a\r\nB\r\nc\r\n");
        assert_eq!(
            after("\u{feff}a\nb", "a\nx\nb\n"),
            "\u{feff}a\nx\nb",
            "no newline at the end, and a mark at the start"
        );
        assert_eq!(after("a\nb\r\nc\n", "a\nb\nC\n"), "a\nb\r\nC\n", "mixed ends stay where nothing changed");
        assert_eq!(after("a", "a\nb"), "a\nb");
        assert_eq!(after("if x:\n\ty\n", "if x:\n    y\n    z\n        w\n"), "if x:\n\ty\n\tz\n\t\tw\n");
        assert_eq!(after("a  \nb\nc\n", "a\nb\nC\n"), "a  \nb\nC\n", "blanks that were not asked for");
        assert_eq!(after("a  \nb\n", "a\nb\n"), "a\nb\n", "blanks were all that was asked for");
        assert_eq!(after("a\nb\n", ""), "");
        assert_eq!(after("", "a\nb"), "a\nb\n");
    }

    #[test]
    fn blank_lines_that_come_and_go_in_passing_stay_as_they_were() {
        let keeps = |old: &str, new: &str| without_blank_parts(old, new);
        assert_eq!(keeps("a\n\n\nb\nc\n", "a\n\nb\nC\n"), "a\n\n\nb\nC\n");
        assert_eq!(keeps("a\nb\nc\n", "A\nb\n  \nc\n"), "A\nb\nc\n");
        assert_eq!(keeps("a\n\n\nb\n", "a\n\nb\n"), "a\n\nb\n", "all there is");
        assert_eq!(keeps("a\n\nb\n", "a\n\nx\n\nb\n"), "a\n\nx\n\nb\n", "they belong to what was put in");
    }

    #[test]
    fn a_diff_is_unified_and_an_open_end_is_not_gone() {
        let old: String = (0..20).map(|i| format!("{i}\n")).collect();
        let new = old.replace("3\n", "drei\n").replace("17\n", "");
        let shown: Vec<String> = unified(&old, &new, false).iter().map(ToString::to_string).collect();
        assert_eq!(shown[0], "@@ -1,7 +1,7 @@");
        assert_eq!(&shown[4..6], ["-3", "+drei"], "{shown:?}");
        assert!(shown.contains(&"-17".to_owned()), "{shown:?}");
        let half: String = old.lines().take(8).map(|l| format!("{}\n", l.replace('3', "drei"))).collect();
        assert_eq!(counts(&unified(&old, &half, true)), (1, 1));
        assert_eq!(counts(&unified(&old, "0\n1\n2\nx\n", true)), (1, 1), "the line that is being written replaces one");
        assert_eq!(counts(&unified(&old, "", true)), (0, 0));
        assert!(unified("", "a\n", false)[0].to_string().starts_with("@@ -0,0 +1,1 @@"));
    }

    proptest! {
        /// The naive definition: without blanks at line ends, tabs or mixed ends in play, the bytes are the new text in the old form.
        #[test]
        fn merging_is_the_new_text_in_the_old_form(
            old in prop::collection::vec("[a-c]{0,2}", 0..12), new in prop::collection::vec("[a-c]{0,2}", 0..12),
            is_crlf: bool, has_bom: bool, ends: bool
        ) {
            let join = |lines: &[String], end: &str, ends: bool| {
                let mut text = lines.join(end);
                if ends && !lines.is_empty() { text.push_str(end) }
                text
            };
            let (newline, bom) = (if is_crlf { "\r\n" } else { "\n" }, if has_bom { "\u{feff}" } else { "" });
            let raw = format!("{bom}{}", join(&old, newline, ends));
            let source = source(&raw);
            let Form { is_crlf: crlf, ends_with_newline, .. } = source.form.clone();
            let merged = String::from_utf8(merged(&source, &join(&new, "\n", true))).unwrap();
            let want = format!("{bom}{}", join(&new, if crlf { "\r\n" } else { "\n" }, ends_with_newline));
            prop_assert_eq!(merged, want);
        }

        /// A unified diff without its heads, read back, gives both texts around the changes.
        #[test]
        fn diffs_hold_every_change(old in prop::collection::vec("[a-c]", 0..30), new in prop::collection::vec("[a-c]", 0..30)) {
            let (a, b): (Vec<&str>, Vec<&str>) = (old.iter().map(String::as_str).collect(), new.iter().map(String::as_str).collect());
            let (mut rebuilt, mut at) = (Vec::new(), 0);
            for part in parts(&a, &b, false) {
                rebuilt.extend_from_slice(&a[at..part.old.start]);
                rebuilt.extend_from_slice(&b[part.new.clone()]);
                at = part.old.end;
            }
            rebuilt.extend_from_slice(&a[at..]);
            prop_assert_eq!(rebuilt, b);
        }
    }
}

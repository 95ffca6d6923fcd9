//! What a suggestion may be at a place, and which part of what the model wrote is one: by the text alone, without a parser.
//! Brackets in strings and comments are counted as well; that costs a line now and then, never a wrong edit.

use base::limits::{SUGGESTION_LINES_MAX, SUGGESTION_RIGHT_CHARS_MAX};

/// How much is suggested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The rest of this line; or the next one, if this one is done.
    Line,
    /// Lines until the block is balanced or left.
    Block,
}

/// What can be shown of a suggestion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visible {
    /// The text to put at the cursor; empty if there is none (yet).
    pub text: String,
    /// More of the model's text would not change it.
    pub is_whole: bool,
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_closer(c: char) -> bool {
    matches!(c, ')' | ']' | '}' | '"' | '\'' | '`' | ';' | ',' | ':' | '>') || c.is_whitespace()
}

/// The rest of the line on which a text begins.
pub fn first_line(text: &str) -> &str {
    text.split('\n').next().unwrap_or_default().trim_end_matches('\r')
}

fn last_line(text: &str) -> &str {
    text.rsplit('\n').next().unwrap_or_default()
}

fn indent(line: &str) -> usize {
    line.chars().take_while(|c| matches!(c, ' ' | '\t')).count()
}

fn next_filled(text: &str) -> Option<&str> {
    text.split('\n').skip(1).map(|l| l.trim_end_matches('\r')).find(|l| !l.trim().is_empty())
}

/// Whether a suggestion at this cursor would help rather than annoy, and of what kind. None within a word, and none where
/// much stands to the right.
pub fn mode(before: &str, after: &str) -> Option<Mode> {
    let (line, rest) = (last_line(before), first_line(after));
    let within_word = line.chars().next_back().is_some_and(is_word) && rest.chars().next().is_some_and(is_word);
    if within_word || rest.trim_end().chars().filter(|c| !is_closer(*c)).count() > SUGGESTION_RIGHT_CHARS_MAX {
        return None;
    }
    if !rest.trim().is_empty() {
        return Some(Mode::Line);
    }
    let has_body = next_filled(after).is_some_and(|next| indent(next) > indent(line));
    let is_blank = line.trim().is_empty() && indent(line) > 0;
    Some(if (is_blank || opens(line)) && !has_body { Mode::Block } else { Mode::Line })
}

/// A line after which a block follows.
fn opens(line: &str) -> bool {
    let line = line.trim_end();
    line.ends_with(['{', '(', '[', ':']) || line.ends_with("=>") || line.ends_with(" do") || line.ends_with(" then")
}

/// What to show of `raw`, which the model wrote for the gap. `is_done`: it wrote no more.
pub fn visible(mode: Mode, raw: &str, before: &str, after: &str, is_done: bool) -> Visible {
    let rest = first_line(after);
    let mut seen = match mode {
        Mode::Line => line(raw, rest, is_done),
        Mode::Block => block(raw, before, is_done),
    };
    if seen.is_whole || mode == Mode::Block {
        seen.text.truncate(trimmed(&seen.text, rest, after));
    }
    seen.text.truncate(seen.text.trim_end().len());
    seen
}

fn line(raw: &str, rest: &str, is_done: bool) -> Visible {
    let filled = raw.find(|c: char| !c.is_whitespace()).unwrap_or(raw.len());
    let begins_below = raw.get(..filled).is_some_and(|blank| blank.contains('\n'));
    if begins_below && !rest.trim().is_empty() {
        return Visible { text: String::new(), is_whole: true }; // The model says that the line is done, and it is not empty.
    }
    let end = raw.get(filled..).and_then(|text| text.find('\n')).map(|at| filled + at);
    let text = raw.get(..end.unwrap_or(raw.len())).unwrap_or_default().to_owned();
    Visible { text: if filled == raw.len() { String::new() } else { text }, is_whole: end.is_some() || is_done }
}

fn depth_change(line: &str) -> i32 {
    line.chars().map(|c| i32::from(matches!(c, '{' | '(' | '[')) - i32::from(matches!(c, '}' | ')' | ']'))).sum()
}

fn block(raw: &str, before: &str, is_done: bool) -> Visible {
    let head = last_line(before);
    let (base, has_opened) = (indent(head), opens(head));
    let mut depth = depth_change(head).max(0);
    let (mut end, mut n_filled) = (0, 0);
    for (i, piece) in raw.split_inclusive('\n').enumerate() {
        let (text, is_complete) = (piece.trim_end_matches(['\n', '\r']), piece.ends_with('\n') || is_done);
        let is_blank = text.trim().is_empty();
        if is_blank && n_filled > 0 && is_complete && !has_opened {
            return Visible { text: cut(raw, end), is_whole: true }; // A paragraph is enough.
        }
        let closes = text.trim_start().starts_with(['}', ')', ']']);
        let leaves = i > 0 && !is_blank && (indent(text) < base || (has_opened && indent(text) == base && !closes));
        let change = depth_change(text);
        if leaves || depth + change < 0 {
            // What is left of an unfinished line may open again what it closes.
            return Visible { text: cut(raw, end), is_whole: leaves || is_complete };
        }
        (depth, end, n_filled) = (depth + change, end + piece.len(), n_filled + usize::from(!is_blank));
        let is_balanced = has_opened && closes && depth <= 0 && i > 0;
        if is_complete && (is_balanced || n_filled >= SUGGESTION_LINES_MAX) {
            return Visible { text: cut(raw, end), is_whole: true };
        }
    }
    Visible { text: cut(raw, end), is_whole: is_done }
}

fn cut(raw: &str, end: usize) -> String {
    raw.get(..end).unwrap_or(raw).to_owned()
}

/// How much of a suggestion is not below or beside the cursor already.
fn trimmed(text: &str, rest: &str, after: &str) -> usize {
    if let Some(next) = next_filled(after) {
        let mut at = 0;
        for piece in text.split_inclusive('\n') {
            let (line, is_first) = (piece.trim_end_matches(['\n', '\r']), at == 0);
            let is_same = if is_first {
                line.trim() == next.trim() && rest.is_empty()
            } else {
                line.trim_end() == next.trim_end()
            };
            if is_same && (line.trim().len() >= 4 || (!is_first && depth_change(&text[..at + line.len()]) < 0)) {
                return at;
            }
            at += piece.len();
        }
    }
    let rest = rest.trim_end();
    if rest.is_empty() || text.contains('\n') {
        return text.len();
    }
    let stands = |n: &usize| text.is_char_boundary(*n) && rest.starts_with(&text[*n..]);
    let start = (0..text.len()).find(stands).unwrap_or(text.len());
    let overlap = &text[start..];
    // `f(x)` before `)` is what should be there, `x)` before `)` is one too many.
    let is_needed = overlap.chars().all(is_closer) && depth_change(text) >= 0 && depth_change(overlap) < 0;
    if is_needed { text.len() } else { start }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(before: &str, raw: &str, after: &str) -> Option<String> {
        mode(before, after).map(|m| visible(m, raw, before, after, true).text)
    }

    #[test]
    fn no_suggestion_within_a_word_or_before_much_text() {
        assert_eq!(mode("let na", "me = 1;"), None);
        assert_eq!(mode("foo(", "a_long_argument, x)"), None);
        assert_eq!(mode("foo(", ")"), Some(Mode::Line));
        assert_eq!(mode("foo(", "));\n}"), Some(Mode::Line));
        assert_eq!(mode("let name", " = 1;"), Some(Mode::Line));
    }

    #[test]
    fn blocks_only_where_one_begins_and_has_no_body() {
        assert_eq!(mode("fn f() {", "\n}\n"), Some(Mode::Block));
        assert_eq!(mode("fn f() {", "\n    body();\n}\n"), Some(Mode::Line));
        assert_eq!(mode("x = 1", ""), Some(Mode::Line));
        assert_eq!(mode("def f():\n    ", ""), Some(Mode::Block));
        assert_eq!(mode("", ""), Some(Mode::Line));
    }

    #[test]
    fn a_line_ends_at_its_end() {
        assert_eq!(shown("let x", " = 1;\nlet y = 2;\n", "").unwrap(), " = 1;");
        assert_eq!(shown("let x = 1;", "\n\n    let y = 2;\nlet", "").unwrap(), "\n\n    let y = 2;", "the next line");
        assert_eq!(shown("f(", "\nx", ")").unwrap(), "", "the line goes on: nothing below it");
        let part = visible(Mode::Line, " = ", "let x", "", false);
        assert_eq!(part, Visible { text: " =".into(), is_whole: false });
        assert!(visible(Mode::Line, " = 1;\n", "let x", "", false).is_whole);
    }

    #[test]
    fn what_stands_right_of_the_cursor_is_not_suggested_again() {
        assert_eq!(shown("call(", "a, b)", ")").unwrap(), "a, b");
        assert_eq!(shown("call(", "a, f(b)", ")").unwrap(), "a, f(b)");
        assert_eq!(shown("let x = [", "1, 2];", "];").unwrap(), "1, 2");
        assert_eq!(shown("x = \"", "abc\"", "\"").unwrap(), "abc");
    }

    #[test]
    fn what_stands_below_is_not_suggested_again() {
        assert_eq!(shown("", "let y = 2;\n", "\nlet y = 2;\n").unwrap(), "");
        assert_eq!(shown("fn f() {\n    ", "a();\n    b();\n}\n", "\n}\n").unwrap(), "a();\n    b();");
        assert_eq!(shown("if x {", "\n    a();\n}", "\n}\n").unwrap(), "\n    a();", "the editor closed it already");
        let inner = shown("fn f() {\n    if x {", "\n        a();\n    }\n}", "\n}\n").unwrap();
        assert_eq!(inner, "\n        a();\n    }", "the bracket below is another one's");
    }

    #[test]
    fn blocks_end_balanced_or_at_a_dedent() {
        assert_eq!(
            shown("fn f() {", "\n    if a {\n        b();\n    }\n}\n\nfn g() {}", "").unwrap(),
            "\n    if a {\n        b();\n    }\n}"
        );
        assert_eq!(shown("def f():", "\n    return 1\n\ndef g():\n    pass", "").unwrap(), "\n    return 1");
        assert_eq!(shown("def f():\n    ", "x = 1\n    return x\nprint(1)", "").unwrap(), "x = 1\n    return x");
        assert_eq!(shown("def f():\n    ", "x = 1\n\n    y = 2\n", "").unwrap(), "x = 1", "a paragraph");
        assert_eq!(shown("    ", "a()\n}\n", "").unwrap(), "a()", "more closed than opened");
    }

    proptest::proptest! {
        /// What is shown is a beginning of what the model wrote, and what is whole does not change when more arrives.
        #[test]
        fn shown_is_a_beginning_and_final(before in "[a{(:\n ]{0,12}", raw in "[ab(){}:\n ;]{0,40}", after in "[a)};\n ]{0,12}", cut in 0usize..40) {
            if let Some(mode) = mode(&before, &after) {
                let whole = visible(mode, &raw, &before, &after, true);
                proptest::prop_assert!(raw.starts_with(&whole.text));
                let early = visible(mode, &raw[..cut.min(raw.len())], &before, &after, false);
                if early.is_whole {
                    proptest::prop_assert_eq!(early.text, whole.text);
                }
            }
        }
    }
}

//! What a name in a line of code is, judged by the words beside it: where it is declared, and as what, or that it is used. And
//! how far that reaches, by indentation. No parser: in doubt a name is taken to be used, and that says nothing about others.

use std::ops::Range;

use super::next::{body, is_word};

/// Words that declare something for the whole file.
const GLOBAL: &[&str] = &[
    "fn",
    "struct",
    "enum",
    "trait",
    "type",
    "mod",
    "def",
    "class",
    "function",
    "func",
    "interface",
    "namespace",
    "union",
];
/// Words that declare something in a block.
const LOCAL: &[&str] = &["let", "mut", "var", "val", "const", "static", "for", "as", "final"];
/// Words that begin a head, in which a colon follows the name of a parameter.
const HEADS: &[&str] = &["fn", "def", "func", "function"];
/// Words that are no names.
const RESERVED: &[&str] = &[
    "self",
    "Self",
    "this",
    "super",
    "crate",
    "return",
    "if",
    "else",
    "while",
    "match",
    "in",
    "use",
    "import",
    "from",
    "pub",
    "async",
    "await",
    "true",
    "false",
    "None",
    "null",
    "nil",
    "new",
    "and",
    "or",
    "not",
    "is",
    "where",
    "dyn",
    "ref",
    "move",
    "i8",
    "i16",
    "i32",
    "i64",
    "u8",
    "u16",
    "u32",
    "u64",
    "usize",
    "isize",
    "f32",
    "f64",
    "bool",
    "int",
    "str",
    "String",
    "string",
    "float",
    "char",
    "void",
    "number",
    "boolean",
    "public",
    "private",
    "protected",
    "break",
    "continue",
    "switch",
    "case",
    "try",
    "catch",
];

/// What stands at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// It is declared, for all of the file.
    Global,
    /// It is declared, for the lines at this indentation or deeper; `is_head`: in the head of a block, so for deeper ones.
    Local {
        /// Of the line that declares it.
        indent: usize,
        /// See above.
        is_head: bool,
    },
    /// A field is declared: used behind a point, or before a colon.
    Field,
    /// It is used; behind a point or not.
    Use {
        /// See above.
        is_member: bool,
    },
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// What the `i`th token of a line is. `above`: lines before it that belong to the same change.
pub(super) fn site(tokens: &[&str], i: usize, above: &[String]) -> Site {
    let filled = |t: &&&str| !t.trim().is_empty();
    let before: Vec<&str> = tokens[..i].iter().filter(filled).copied().collect();
    let after: Vec<&str> = tokens[i + 1..].iter().filter(filled).copied().take(2).collect();
    let (last, next) = (before.last().copied().unwrap_or_default(), after.first().copied().unwrap_or_default());
    let is_member = last == "." || last == ">" && before.len() > 1 && before[before.len() - 2] == "-";
    let this = Site::Use { is_member };
    let is_path = next == ":" && after.get(1) == Some(&":") || last == ":" && before.iter().rev().nth(1) == Some(&":");
    let depth = tokens.first().filter(|t| t.trim().is_empty()).map_or(0, |t| t.len());
    if RESERVED.contains(&tokens[i]) || GLOBAL.contains(&tokens[i]) || LOCAL.contains(&tokens[i]) || is_member {
        return this;
    }
    if GLOBAL.contains(&last) {
        return Site::Global;
    }
    let is_bare = before.is_empty() && above.is_empty();
    match next {
        _ if last == "const" || last == "static" => Site::Local { indent: depth, is_head: false },
        _ if LOCAL.contains(&last) => {
            let in_pattern = before.iter().any(|t| *t == "for" || *t == "fn" || *t == "(");
            Site::Local { indent: depth, is_head: in_pattern }
        }
        ":" if !is_path => match before.iter().any(|t| HEADS.contains(t)) {
            true => Site::Local { indent: depth, is_head: true },
            false
                if before
                    .iter()
                    .all(|t| matches!(*t, "pub" | "(" | "crate" | ")" | "readonly" | "private" | "public")) =>
            {
                Site::Field
            }
            false => this,
        },
        "=" | ":" if is_bare && after.get(1) != Some(&"=") || next == ":" && after.get(1) == Some(&"=") => {
            Site::Local { indent: depth, is_head: false }
        }
        _ => this,
    }
}

impl Site {
    /// The lines in which the name may mean the same, where it was declared in `line`.
    pub(super) fn scope(self, lines: &[String], line: usize) -> Range<usize> {
        let Self::Local { indent: depth, is_head } = self else { return 0..lines.len() };
        if depth == 0 && !is_head {
            return 0..lines.len();
        }
        let ends = |text: &String| {
            let text = body(text);
            let closes_head = text.trim_start().starts_with(')');
            let limit = if is_head { depth + 1 } else { depth };
            !text.trim().is_empty() && indent(text) < limit && !(closes_head && indent(text) == depth)
        };
        let below = lines.get(line + 1..).unwrap_or_default();
        let n = below.iter().position(ends).unwrap_or(below.len());
        line..line + 1 + n
    }

    /// Whether the name at this place of a line can be the same thing.
    pub(super) fn admits(self, line: &str, at: &Range<usize>) -> bool {
        let (before, after) = (line[..at.start].trim_end(), line[at.end..].trim_start());
        let is_member = before.ends_with('.') && !before.ends_with("..") || before.ends_with("->");
        // `name: value` and `name=value` in a list of arguments name somebody else's parameter.
        let is_label = after.starts_with(':') && !after.starts_with("::");
        match self {
            Self::Global => true,
            Self::Local { .. } => !is_member && !is_label,
            Self::Field => is_member || is_label && !before.split(' ').any(|w| HEADS.contains(&w)),
            Self::Use { is_member: was } => is_member == was,
        }
    }
}

/// Whether a place in a line lies in a quoted text, as far as the line itself tells.
pub(super) fn within_string(line: &str, at: usize) -> bool {
    let (mut quoted, mut is_escaped) = (false, false);
    for c in line.get(..at).unwrap_or_default().chars() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = quoted,
            '"' => quoted = !quoted,
            _ => {}
        }
    }
    let (before, after) = (line.get(..at).unwrap_or_default(), line.get(at..).unwrap_or_default());
    let word = after.find(|c: char| !is_word(c)).unwrap_or(after.len());
    // A word alone in single quotes is one, too.
    let is_single = before.ends_with('\'') && after.get(word..).is_some_and(|rest| rest.starts_with('\''));
    quoted || is_single
}

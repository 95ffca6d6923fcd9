//! What a file defines, and where: read from its statements' beginnings, without a parser. `mask` takes strings and comments away;
//! then a definition is a keyword and a name (Rust, Python, Go, Lua), or the form that a statement has where it stands
//! (`outline_c`, `outline_script`). An independent check holds it against tree-sitter: tests/symbols/compare.py, figures in docs/editor.md.

use super::mask::masked;
use super::{outline_c, outline_script};

/// What is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// `.rs`
    Rust,
    /// `.py`, `.pyi`
    Python,
    /// `.js` and its like
    JavaScript,
    /// `.ts` and its like
    TypeScript,
    /// `.go`
    Go,
    /// `.c`
    C,
    /// `.cc` and its like; also `.h`, for C is mostly C++
    Cpp,
    /// `.lua`
    Lua,
}

impl Language {
    /// By the file's name; `None` for what is not read in its own way.
    pub fn of(path: &str) -> Option<Self> {
        let (_, extension) = path.rsplit_once('.')?;
        Some(match extension {
            "rs" => Self::Rust,
            "py" | "pyi" => Self::Python,
            "js" | "jsx" | "mjs" | "cjs" => Self::JavaScript,
            "ts" | "tsx" | "mts" | "cts" => Self::TypeScript,
            "go" => Self::Go,
            "c" => Self::C,
            "h" | "cc" | "cpp" | "cxx" | "hh" | "hpp" | "hxx" => Self::Cpp,
            "lua" => Self::Lua,
            _ => return None,
        })
    }
}

/// A name where it is defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Definition<'a> {
    /// From 0.
    pub line: usize,
    /// The name.
    pub name: &'a str,
}

/// Everything that a file defines, in order.
pub fn definitions<'a>(path: &str, text: &'a str) -> Vec<Definition<'a>> {
    let mut names: Vec<(usize, usize)> = Vec::new(); // from byte to byte
    let mut add = |from: usize, to: usize| {
        if from < to {
            names.push((from, to));
        }
    };
    match Language::of(path) {
        None => others(text, &mut add),
        Some(language) => {
            let code = masked(text, language);
            match language {
                Language::C | Language::Cpp => outline_c::names(&code, &mut add),
                Language::JavaScript | Language::TypeScript => outline_script::names(&code, &mut add),
                Language::Python => lines(&code).for_each(|at| python(&code, at, &mut add)),
                Language::Lua => lines(&code).for_each(|at| lua(&code, at, &mut add)),
                Language::Go => go(&code, &mut add),
                Language::Rust => starts(&code).for_each(|at| rust(&code, at, &mut add)),
            }
        }
    }
    names.sort_unstable();
    names.dedup();
    let (mut line, mut seen) = (0, 0);
    let mut out = Vec::with_capacity(names.len());
    for (from, to) in names {
        line += text.as_bytes()[seen..from].iter().filter(|b| **b == b'\n').count();
        seen = from;
        out.extend(text.get(from..to).map(|name| Definition { line, name }));
    }
    out
}

/// Where something is told about a name: its first byte, and the one behind it.
pub(super) type Add<'a> = dyn FnMut(usize, usize) + 'a;

/// Where lines begin.
fn lines(code: &str) -> impl Iterator<Item = usize> {
    std::iter::once(0).chain(code.match_indices('\n').map(|(at, _)| at + 1))
}

/// Where statements may begin: lines, and what follows braces and semicolons.
pub(super) fn starts(code: &str) -> impl Iterator<Item = usize> {
    std::iter::once(0).chain(code.match_indices(['\n', '{', '}', ';']).map(|(at, _)| at + 1))
}

pub(super) fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b'$' || b >= 0x80
}

/// The first byte at or behind this one that is no blank; line ends are blanks only if `over_lines`.
pub(super) fn skip_blanks(code: &str, at: usize, over_lines: bool) -> usize {
    let is_blank = |b: &u8| *b == b' ' || *b == b'\t' || *b == b'\r' || (over_lines && *b == b'\n');
    at + code.as_bytes()[at.min(code.len())..].iter().take_while(|b| is_blank(b)).count()
}

/// The word that begins here.
pub(super) fn word(code: &str, at: usize) -> &str {
    let bytes = &code.as_bytes()[at.min(code.len())..];
    let len = bytes.iter().take_while(|b| is_name_byte(**b)).count();
    code.get(at..at + len).unwrap_or_default()
}

/// Behind the bracket that closes the one here; `None` if none does within the bound.
pub(super) fn behind_bracket(code: &str, at: usize) -> Option<usize> {
    let bytes = code.as_bytes();
    let (open, close) = match bytes.get(at)? {
        b'(' => (b'(', b')'),
        b'[' => (b'[', b']'),
        b'{' => (b'{', b'}'),
        b'<' => (b'<', b'>'),
        _ => return None,
    };
    let end = bytes.len().min(at + base::limits::OUTLINE_HEAD_BYTES_MAX);
    // Within `<...>` a round bracket may hold a comparison.
    let (mut depth, mut round) = (0usize, 0usize);
    for i in at..end {
        let byte = bytes[i];
        if open == b'<' && matches!(byte, b'(' | b')') {
            round = if byte == b'(' { round + 1 } else { round.saturating_sub(1) };
        }
        let is_arrow = byte == b'>' && i > at && matches!(bytes[i - 1], b'-' | b'=');
        if byte == open && round == 0 {
            depth += 1;
        } else if byte == close && !is_arrow && round == 0 {
            depth -= 1;
            if depth == 0 {
                return Some(i + 1);
            }
        }
    }
    None
}

/// A keyword and, behind blanks, the name; where the name begins.
fn after_word(code: &str, at: usize, keyword: &str) -> Option<usize> {
    let end = at + keyword.len();
    let next = skip_blanks(code, end, false);
    (next > end && !word(code, next).is_empty()).then_some(next)
}

fn add_word(code: &str, at: usize, add: &mut Add<'_>) {
    let name = word(code, at);
    if !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) {
        add(at, at + name.len());
    }
}

fn rust(code: &str, mut at: usize, add: &mut Add<'_>) {
    // Attributes and modifiers, a few at most.
    for _ in 0..12 {
        at = skip_blanks(code, at, false);
        let rest = &code[at..];
        let first = word(code, at);
        if rest.starts_with("#[") {
            match behind_bracket(code, at + 1) {
                Some(end) => at = end,
                None => return,
            }
            continue;
        }
        if rest.starts_with('"') {
            at = skip_blanks(code, at + 1, false); // what `extern` names
            continue;
        }
        let after = at + first.len();
        match first {
            "pub" if code[after..].starts_with('(') => match behind_bracket(code, after) {
                Some(end) => at = end,
                None => return,
            },
            "pub" | "async" | "unsafe" | "extern" | "default" | "auto" | "safe" => at = after,
            "const" if ["fn", "unsafe", "async", "extern"].contains(&word(code, skip_blanks(code, after, false))) => {
                at = after;
            }
            "static" if word(code, skip_blanks(code, after, false)) == "mut" => at = skip_blanks(code, after, false),
            "fn" | "struct" | "enum" | "union" | "trait" | "type" | "const" | "static" | "mod" | "mut" => {
                if let Some(name) = after_word(code, at, first).filter(|n| word(code, *n) != "_") {
                    let is_raw = code[name..].starts_with("r#");
                    add_word(code, if is_raw { name + 2 } else { name }, add);
                }
                return;
            }
            "macro_rules" if code[after..].starts_with('!') => {
                return add_word(code, skip_blanks(code, after + 1, false), add);
            }
            _ => return,
        }
    }
}

fn python(code: &str, at: usize, add: &mut Add<'_>) {
    let mut at = skip_blanks(code, at, false);
    if word(code, at) == "async" {
        at = skip_blanks(code, at + 5, false);
    }
    let first = word(code, at);
    let Some(name) = after_word(code, at, first) else { return };
    let next = skip_blanks(code, name + word(code, name).len(), false);
    let is_alias = first == "type" && code[next..].starts_with(['=', '[']);
    if is_alias || ["def", "class"].contains(&first) {
        add_word(code, name, add);
    }
}

fn lua(code: &str, at: usize, add: &mut Add<'_>) {
    let mut at = skip_blanks(code, at, false);
    let is_local = word(code, at) == "local";
    if is_local {
        at = skip_blanks(code, at + 5, false);
    }
    let is_function = word(code, at) == "function";
    if is_function {
        at = skip_blanks(code, at + 8, false);
    }
    // A path of names; the last one is the name.
    let mut name = at;
    let mut end = at + word(code, at).len();
    while end > name && code[end..].starts_with(['.', ':']) {
        name = end + 1;
        end = name + word(code, name).len();
    }
    let next = skip_blanks(code, end, false);
    let is_assigned = code[next..].starts_with('=') && word(code, skip_blanks(code, next + 1, false)) == "function";
    if (is_function && code[next..].starts_with('(')) || (!is_function && is_assigned) {
        add_word(code, name, add);
    }
}

/// Go puts what is at the file's level at a line's beginning.
fn go(code: &str, add: &mut Add<'_>) {
    // In a group `type (` ... `)`: how many brackets are open in it.
    let mut group: Option<(&str, isize)> = None;
    for at in lines(code) {
        let line = code[at..].lines().next().unwrap_or_default();
        let begin = skip_blanks(code, at, false);
        let first = word(code, begin);
        let count = |c: &[u8]| line.bytes().filter(|b| c.contains(b)).count() as isize;
        if let Some((keyword, depth)) = &mut group {
            if *depth == 0 && line.starts_with(')') {
                group = None;
                continue;
            }
            if *depth == 0 && !first.is_empty() {
                go_names(code, begin, *keyword != "type", add);
            }
            *depth += count(b"({[") - count(b")}]");
            continue;
        }
        if !["func", "type", "const", "var"].contains(&first) {
            continue;
        }
        let next = skip_blanks(code, begin + first.len(), false);
        match (first, code.as_bytes().get(next)) {
            ("func", Some(b'(')) => {
                if let Some(end) = behind_bracket(code, next).filter(|_| at == begin) {
                    add_word(code, skip_blanks(code, end, false), add);
                }
            }
            ("func", _) if at == begin => add_word(code, next, add),
            (_, Some(b'(')) if at == begin => group = Some((first, 0)),
            ("type", _) => add_word(code, next, add),
            ("const" | "var", _) if at == begin => go_names(code, next, true, add),
            _ => {}
        }
    }
}

/// A name, or several with commas between them.
fn go_names(code: &str, mut at: usize, are_several: bool, add: &mut Add<'_>) {
    loop {
        let name = word(code, at);
        let next = skip_blanks(code, at + name.len(), false);
        if name != "_" && !code[next..].starts_with(['(', '.']) {
            add_word(code, at, add); // else a value goes on
        }
        if name.is_empty() || !are_several || !code[next..].starts_with(',') {
            return;
        }
        at = skip_blanks(code, next + 1, false);
    }
}

/// Languages that nobody has measured: a keyword at a line's beginning, and a name.
fn others(text: &str, add: &mut Add<'_>) {
    const KEYWORDS: &[&str] = &[
        "fn",
        "struct",
        "enum",
        "trait",
        "type",
        "const",
        "static",
        "def",
        "class",
        "function",
        "interface",
        "func",
        "fun",
        "namespace",
        "record",
        "object",
        "val",
        "module",
        "protocol",
        "extension",
        "defmodule",
        "sub",
    ];
    const MODIFIERS: &[&str] = &[
        "pub",
        "export",
        "default",
        "async",
        "unsafe",
        "public",
        "private",
        "protected",
        "internal",
        "final",
        "abstract",
        "declare",
        "readonly",
        "override",
        "extern",
        "inline",
        "data",
        "sealed",
        "static",
        "open",
        "partial",
        "case",
    ];
    for at in lines(text) {
        let mut at = skip_blanks(text, at, false);
        while MODIFIERS.contains(&word(text, at)) && !KEYWORDS.contains(&word(text, at)) {
            at = skip_blanks(text, at + word(text, at).len(), false);
        }
        if KEYWORDS.contains(&word(text, at))
            && let Some(name) = after_word(text, at, word(text, at))
        {
            add_word(text, name, add);
        }
    }
}

#[cfg(test)]
#[path = "outline_tests.rs"]
mod tests;

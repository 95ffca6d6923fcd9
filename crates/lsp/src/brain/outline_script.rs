//! JavaScript and TypeScript: declarations by keyword, methods by their form (`name(...) {` is nothing else, but for a few keywords),
//! and names that are given a function.

use super::outline::{Add, behind_bracket, is_name_byte, skip_blanks, starts, word};

const MODIFIERS: &[&str] = &[
    "export",
    "default",
    "declare",
    "async",
    "abstract",
    "public",
    "private",
    "protected",
    "readonly",
    "static",
    "override",
    "accessor",
    "get",
    "set",
];
/// What stands before a bracket and is no name.
const NO_NAMES: &[&str] =
    &["if", "for", "while", "switch", "catch", "with", "function", "case", "default", "super", "else", "extends"];

/// Tells the names that are defined in masked code.
pub(super) fn names(code: &str, add: &mut Add<'_>) {
    starts(code).for_each(|at| statement(code, at, add));
    // Members of an object within a line.
    code.match_indices(',').for_each(|(at, _)| member(code, skip_blanks(code, at + 1, false), false, add));
}

fn statement(code: &str, at: usize, add: &mut Add<'_>) {
    let at_line = at == 0 || code.as_bytes()[at - 1] == b'\n';
    let begin = at + code.as_bytes()[at..].iter().take_while(|b| b", \t)".contains(b)).count();
    let mut at = begin;
    for _ in 0..8 {
        let first = word(code, at);
        let next = skip_blanks(code, at + first.len(), false);
        // `get` alone may be a name: `get() {`, `static = 1`.
        let is_name_itself =
            first.is_empty() || code[next..].starts_with(['(', '=', ':', '<', ';', '?', '!', '.', ',']);
        if !MODIFIERS.contains(&first) || is_name_itself {
            break;
        }
        at = next;
    }
    at = skip_blanks(code, at, false);
    let first = word(code, at);
    let next = skip_blanks(code, at + first.len(), false);
    let is_spaced = next > at + first.len();
    match first {
        "function" => {
            let star = code[next..].starts_with('*');
            let name = if star { skip_blanks(code, next + 1, false) } else { next };
            tell(code, name, add);
        }
        "class" | "interface" | "enum" | "type"
            if is_spaced && !["extends", "implements"].contains(&word(code, next)) =>
        {
            // `type` may be a name, too.
            let after = skip_blanks(code, next + word(code, next).len(), true);
            if first != "type" || code[after..].starts_with(['=', '<']) {
                tell(code, next, add);
            }
        }
        "namespace" | "module" if is_spaced => tell(code, next, add),
        "const" | "let" | "var" if is_spaced => {
            if word(code, next) == "enum" && first == "const" {
                return tell(code, skip_blanks(code, next + 4, false), add);
            }
            let is_top = at_line && (begin == 0 || code.as_bytes()[begin - 1] == b'\n');
            declared(code, next, is_top, add);
        }
        _ => member(code, at, true, add),
    }
}

/// `const a = 1, b = () => 2`: at the file's level every name, elsewhere those that are functions.
fn declared(code: &str, mut at: usize, is_top: bool, add: &mut Add<'_>) {
    for _ in 0..64 {
        let name = word(code, at);
        if name.is_empty() {
            return;
        }
        let end = at + name.len();
        if is_top || value(code, end).is_some_and(|v| is_function(code, v)) {
            tell(code, at, add);
        }
        // The next name of the same statement, if this one has a plain end.
        let mut i = end;
        let bytes = code.as_bytes();
        while i < bytes.len() && i - end < 2048 {
            match bytes[i] {
                b'(' | b'[' | b'{' => match behind_bracket(code, i) {
                    Some(behind) => i = behind,
                    None => return,
                },
                b',' => break,
                b';' | b')' | b'}' | b']' => return,
                b'\n' => {
                    let next = skip_blanks(code, i, true);
                    let goes_on = bytes[..i].trim_ascii_end().ends_with(b",")
                        || bytes[..i].trim_ascii_end().ends_with(b"=")
                        || bytes.get(next).is_some_and(|b| b",.?:&|+=".contains(b));
                    if !goes_on {
                        return;
                    }
                    i = next;
                }
                _ => i += 1,
            }
        }
        if bytes.get(i) != Some(&b',') {
            return;
        }
        at = skip_blanks(code, i + 1, true);
    }
}

/// Where the value behind `=` begins, after a type if there is one.
fn value(code: &str, end: usize) -> Option<usize> {
    let at = skip_blanks(code, end, true);
    match code.as_bytes().get(at)? {
        b'=' if !code[at + 1..].starts_with(['=', '>']) => Some(skip_blanks(code, at + 1, true)),
        b':' => {
            // A type: up to the `=` that is no arrow's, within brackets of its own.
            let (bytes, mut i) = (code.as_bytes(), at + 1);
            while i < bytes.len() && i - at < 512 {
                match bytes[i] {
                    b'(' | b'{' | b'[' => i = behind_bracket(code, i)?,
                    b'=' if bytes.get(i + 1) == Some(&b'>') => i += 2,
                    b'=' => return Some(skip_blanks(code, i + 1, true)),
                    b';' | b')' | b'}' => return None,
                    _ => i += 1,
                }
            }
            None
        }
        _ => None,
    }
}

/// Whether a function or a class begins here.
fn is_function(code: &str, mut at: usize) -> bool {
    if word(code, at) == "async" {
        at = skip_blanks(code, at + 5, false);
    }
    if code[at..].starts_with('<') {
        match behind_bracket(code, at) {
            Some(end) => at = skip_blanks(code, end, true),
            None => return false,
        }
    }
    let first = word(code, at);
    let behind = match (first, code.as_bytes().get(at)) {
        ("function" | "class", _) => return true,
        ("", Some(b'(')) => behind_bracket(code, at),
        ("", _) => None,
        (name, _) => Some(at + name.len()),
    };
    let Some(end) = behind else { return false };
    let next = skip_blanks(code, end, true);
    if code[next..].starts_with("=>") {
        return true;
    }
    // `(a): T => ...`
    let line = code[next..].lines().next().unwrap_or_default();
    first.is_empty() && line.starts_with(':') && line.contains("=>")
}

/// `name(...) {`, `name(...): T`, `name = function`, `name: () =>`.
fn member(code: &str, at: usize, may_assign: bool, add: &mut Add<'_>) {
    let bytes = code.as_bytes();
    let mut name = at + usize::from(matches!(bytes.get(at), Some(b'*' | b'#')));
    name = skip_blanks(code, name, false);
    name += usize::from(bytes.get(name) == Some(&b'#'));
    let mut end = name + word(code, name).len();
    let is_path = code[end..].starts_with('.');
    while end > name && code[end..].starts_with('.') {
        name = end + 1 + usize::from(code[end + 1..].starts_with('#'));
        end = name + word(code, name).len();
    }
    if end == name || NO_NAMES.contains(&&code[name..end]) {
        return;
    }
    let end_of_name = end;
    let mut next = skip_blanks(code, end, false);
    next += usize::from(matches!(bytes.get(next), Some(b'?' | b'!')));
    if bytes.get(next) == Some(&b'<') && !is_path {
        match behind_bracket(code, next) {
            Some(end) => next = skip_blanks(code, end, false),
            None => return,
        }
    }
    match bytes.get(next) {
        Some(b'(') if !is_path => {
            let Some(end) = behind_bracket(code, next) else { return };
            let after = skip_blanks(code, end, true);
            let is_typed = bytes.get(skip_blanks(code, end, false)) == Some(&b':');
            // One of several forms of a constructor has neither a body nor a type.
            if bytes.get(after) == Some(&b'{') || is_typed && may_assign || &code[name..end_of_name] == "constructor" {
                tell(code, name, add);
            }
        }
        Some(b'=') | Some(b':') => {
            let is_pair = bytes[next] == b':' && is_function(code, skip_blanks(code, next + 1, true));
            if is_pair || may_assign && value(code, next).is_some_and(|v| is_function(code, v)) {
                tell(code, name, add);
            }
        }
        _ => {}
    }
}

fn tell(code: &str, at: usize, add: &mut Add<'_>) {
    let name = word(code, at);
    let is_name = code.as_bytes().get(at).is_some_and(|b| is_name_byte(*b) && !b.is_ascii_digit());
    if is_name && !NO_NAMES.contains(&name) {
        add(at, at + name.len());
    }
}

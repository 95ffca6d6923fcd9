//! C and C++: one pass over the braces of masked code. Where a statement may define something (a file, a namespace, a class; not
//! a function's body), the text up to its `{` or `;` says what it is: a type with a body, a function, a `typedef`, a `#define`.
//! Branches of `#if` begin with the same braces open.

use base::limits::{MASK_NESTING_MAX, OUTLINE_HEAD_BYTES_MAX};

use super::outline::{Add, behind_bracket, is_name_byte, skip_blanks, word};

/// What the braces around a place belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// A file, a namespace.
    Top,
    /// A class, a struct, a union.
    Class,
    /// The same after `typedef`: its name comes behind it.
    Named,
    /// A function, an initializer, an enumeration.
    Code,
}

/// Words before a bracket that are no function's name.
const NO_NAMES: &[&str] = &[
    "if",
    "for",
    "while",
    "switch",
    "return",
    "sizeof",
    "alignas",
    "alignof",
    "decltype",
    "noexcept",
    "__attribute__",
    "__declspec",
    "throw",
    "defined",
    "catch",
    "else",
    "do",
    "requires",
    "explicit",
    "static_assert",
    "_Static_assert",
    "typeof",
    "__typeof__",
    "__asm__",
    "asm",
    "operator",
    "using",
    "friend",
];

/// Tells the names that are defined in masked code.
pub(super) fn names(code: &str, add: &mut Add<'_>) {
    let mut outline = Outline { code, add, open: Vec::new(), branches: Vec::new(), at: 0, head: 0, brackets: 0 };
    while outline.at < code.len() {
        outline.step();
    }
}

struct Outline<'a, 'b> {
    code: &'a str,
    add: &'a mut Add<'b>,
    open: Vec<Scope>,
    /// What was open at each `#if`.
    branches: Vec<Vec<Scope>>,
    at: usize,
    /// Where the statement begins.
    head: usize,
    /// Round brackets that are open in it.
    brackets: usize,
}

impl Outline<'_, '_> {
    fn scope(&self) -> Scope {
        self.open.last().copied().unwrap_or(Scope::Top)
    }

    fn begin(&mut self) {
        (self.head, self.brackets) = (self.at, 0);
    }

    fn step(&mut self) {
        let bytes = self.code.as_bytes();
        let byte = bytes[self.at];
        self.at += 1;
        match byte {
            b'#' if begins_line(self.code, self.at - 1) => self.directive(),
            b'(' => self.brackets += 1,
            b')' => self.brackets = self.brackets.saturating_sub(1),
            b'{' => {
                let scope = if self.scope() == Scope::Code || self.brackets > 0 { Scope::Code } else { self.opened() };
                if self.open.len() < MASK_NESTING_MAX {
                    self.open.push(scope);
                }
                self.begin();
            }
            b'}' => {
                let closed = self.open.pop();
                self.begin();
                if closed == Some(Scope::Named) {
                    self.named();
                }
            }
            b';' if self.brackets == 0 || self.scope() == Scope::Code => {
                if self.scope() != Scope::Code {
                    self.ended();
                }
                self.begin();
            }
            _ => {}
        }
    }

    /// `#define`, `#if` and its like; the whole directive is passed over, and what stood before it goes on behind it.
    fn directive(&mut self) {
        let code = self.code;
        let at = skip_blanks(code, self.at, false);
        let what = word(code, at);
        if what == "define" {
            let name = skip_blanks(code, at + 6, false);
            (self.add)(name, name + word(code, name).len());
        }
        let mut begins = code[self.head..self.at - 1].trim_ascii().is_empty();
        match what {
            "if" | "ifdef" | "ifndef" if self.branches.len() < MASK_NESTING_MAX => {
                self.branches.push(self.open.clone())
            }
            "else" | "elif" => {
                if let Some(open) = self.branches.last() {
                    self.open.clone_from(open);
                    begins = true;
                }
            }
            "endif" => drop(self.branches.pop()),
            _ => {}
        }
        let mut end = self.at;
        while let Some(n) = code[end..].find('\n') {
            end += n + 1;
            if !code[..end].trim_ascii_end().ends_with('\\') {
                break;
            }
        }
        self.at = if end > self.at { end } else { code.len() };
        if begins {
            self.begin();
        }
    }

    /// The statement up to here without what may stand before it; where it begins and ends.
    fn trimmed(&self) -> Option<(usize, usize)> {
        let (code, end) = (self.code, self.at - 1);
        let mut at = skip_blanks(code, self.head, true);
        if end.saturating_sub(at) > OUTLINE_HEAD_BYTES_MAX {
            return None;
        }
        loop {
            let first = word(code, at);
            let next = skip_blanks(code, at + first.len(), true);
            match first {
                "public" | "private" | "protected" | "signals" | "slots" if code[next..].starts_with(':') => {
                    at = skip_blanks(code, next + 1, true);
                }
                "template" if code[next..].starts_with('<') => {
                    at = skip_blanks(code, behind_bracket(code, next)?, true)
                }
                "inline" | "static" | "export" | "constexpr" | "friend" | "virtual" | "explicit" | "consteval" => {
                    at = next
                }
                "extern" => at = skip_blanks(code, next + usize::from(code[next..].starts_with('"')), true),
                _ if self.is_macro_line(first, next, end) => {
                    let behind = behind_bracket(code, next).filter(|_| code[next..].starts_with('('));
                    at = skip_blanks(code, behind.unwrap_or(next), true);
                }
                "" if code[at..].starts_with("[[") => at = skip_blanks(code, behind_bracket(code, at)?, true),
                _ => break,
            }
        }
        (at < end).then_some((at, end))
    }

    /// `BEGIN_NAMESPACE` or `PRAGMA(x)` with a line of its own before something else.
    fn is_macro_line(&self, first: &str, next: usize, end: usize) -> bool {
        let is_loud =
            first.len() >= 3 && first.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        let bytes = self.code.as_bytes();
        let behind = if bytes.get(next) == Some(&b'(') { behind_bracket(self.code, next) } else { Some(next) };
        let Some(behind) = behind.filter(|_| is_loud) else { return false };
        let from = if behind == next {
            next - bytes[..next].iter().rev().take_while(|b| b.is_ascii_whitespace()).count()
        } else {
            behind
        };
        let then = skip_blanks(self.code, behind, true);
        then < end && is_name_byte(bytes[then]) && self.code[from..then].contains('\n')
    }

    /// `{`: what it belongs to.
    fn opened(&mut self) -> Scope {
        let is_extern = word(self.code, skip_blanks(self.code, self.head, true)) == "extern";
        let Some((mut at, end)) = self.trimmed() else { return if is_extern { Scope::Top } else { Scope::Code } };
        let head = &self.code[at..end];
        if head.starts_with("namespace") {
            let name = skip_blanks(self.code, at + 9, true);
            if name < end {
                self.last_of_path(name);
            }
            return Scope::Top;
        }
        let is_typedef = word(self.code, at) == "typedef";
        if is_typedef {
            at = skip_blanks(self.code, at + 7, true);
        }
        if ["class", "struct", "union", "enum"].contains(&word(self.code, at))
            && let Some(name) = self.type_name(at, end)
        {
            if name.1 > name.0 {
                (self.add)(name.0, name.1);
            }
            return match (word(self.code, at), is_typedef) {
                (_, true) => Scope::Named,
                ("enum", _) => Scope::Code,
                _ => Scope::Class,
            };
        }
        if is_extern && !head.contains('(') && !head.contains('=') {
            return Scope::Top;
        }
        self.function(at, end, true);
        Scope::Code
    }

    /// The name in `class A B : C`, perhaps empty; `None` if this is no type with a body but something that has one.
    fn type_name(&self, at: usize, end: usize) -> Option<(usize, usize)> {
        let (code, mut at) = (self.code, at + word(self.code, at).len());
        let mut name = (at, at);
        while at < end {
            at = skip_blanks(code, at, true);
            let this = word(code, at);
            match code.as_bytes().get(at).filter(|_| at < end) {
                None | Some(b':') if !code[at..].starts_with("::") => break,
                Some(b'(') | Some(b'[') | Some(b'<') => {
                    // An attribute's arguments, or a specialization's; a function that returns a struct is followed by nothing.
                    let is_function = code.as_bytes()[at] == b'(' && name.1 > name.0 && {
                        let before = &code[name.0..name.1];
                        !before.starts_with("__")
                            && !before.chars().all(|c| c.is_uppercase() || c == '_' || c.is_numeric())
                            && before != "alignas"
                    };
                    if is_function {
                        return None;
                    }
                    at = behind_bracket(code, at)?;
                }
                Some(b'=' | b'*' | b'&') => return None,
                Some(b':') => at += 2,
                _ if this.is_empty() => at += 1,
                _ => {
                    if !["final", "class", "struct", "alignas", "__attribute__"].contains(&this) {
                        name = (at, at + this.len());
                    }
                    at += this.len();
                }
            }
        }
        Some(name)
    }

    fn last_of_path(&mut self, mut name: usize) {
        let code = self.code;
        while code[name + word(code, name).len()..].starts_with("::") {
            name += word(code, name).len() + 2;
        }
        if !word(code, name).is_empty() {
            (self.add)(name, name + word(code, name).len());
        }
    }

    /// `;` where something may be declared.
    fn ended(&mut self) {
        let Some((at, end)) = self.trimmed() else { return };
        match word(self.code, at) {
            "typedef" => self.aliased(at, end),
            "using" => {
                let name = skip_blanks(self.code, at + 5, true);
                let next = skip_blanks(self.code, name + word(self.code, name).len(), true);
                if self.code[next..end].starts_with('=') {
                    (self.add)(name, name + word(self.code, name).len());
                }
            }
            _ => self.function(at, end, false),
        }
    }

    /// `typedef int (*name)(int)`, `typedef T name[3]`.
    fn aliased(&mut self, at: usize, end: usize) {
        let head = &self.code[at..end];
        let name = match head.find("(*") {
            Some(star) => {
                let from = skip_blanks(self.code, at + star + 2, true);
                Some((from, from + word(self.code, from).len()))
            }
            None => {
                // A function's type is named before its bracket.
                let until = head.find(['(', '[']).unwrap_or(head.len());
                last_word(head, until).map(|(from, to)| (at + from, at + to))
            }
        };
        if let Some((from, to)) = name.filter(|(from, to)| to > from) {
            (self.add)(from, to);
        }
    }

    /// What stands behind the body of a `typedef struct {}`.
    fn named(&mut self) {
        let end = self.at + self.code[self.at..].find([';', '{', '}']).unwrap_or(0);
        let head = &self.code[self.at..end];
        for part in head.split_inclusive(',') {
            let offset = part.as_ptr() as usize - head.as_ptr() as usize;
            let until = part.find(['[', ',']).unwrap_or(part.len());
            if let Some((from, to)) = last_word(part, until) {
                (self.add)(self.at + offset + from, self.at + offset + to);
            }
        }
    }

    /// A function's head, if it is one. One that has no body needs a type before its name.
    fn function(&mut self, mut at: usize, end: usize, has_body: bool) {
        let (code, bytes) = (self.code, self.code.as_bytes());
        if matches!(bytes[at], b',' | b')' | b'.' | b'=' | b']' | b'(' | b':') {
            return; // a statement goes on: `a{1}, b{2}`
        }
        let mut i = at;
        while i < end {
            match bytes[i] {
                b'=' => return,
                b'[' => i = behind_bracket(code, i).unwrap_or(end),
                b'<' => match behind_bracket(code, i).filter(|e| *e <= end) {
                    Some(behind) => i = behind,
                    None => i += 1,
                },
                b'(' => {
                    let Some(behind) = behind_bracket(code, i).filter(|e| *e <= end) else { return };
                    let Some((from, to)) = last_word(&code[at..i], i - at) else { return };
                    let (from, to) = (at + from, at + to);
                    let is_conversion = code[at..from].trim_ascii().ends_with("operator");
                    let is_name = code[to..i].trim_ascii().is_empty() && !NO_NAMES.contains(&&code[from..to]);
                    let has_type = !code[at..from].trim_ascii().is_empty();
                    if !is_name {
                        i = behind;
                        continue;
                    }
                    let next = skip_blanks(code, behind, true);
                    if !has_type && bytes[next..end.max(next)].first() == Some(&b'*') {
                        i = behind; // `STACK_OF(T) *name(...)`
                        continue;
                    }
                    let is_macro =
                        next < end && bytes[next] != b'(' && !has_type && is_name_byte(bytes[next]) && !has_body;
                    let goes_on = next < end && (bytes[next] == b'(' || (!has_type && is_name_byte(bytes[next])));
                    if goes_on && !is_macro {
                        // `EXPORT(int) name(...)`, or a macro alone in the line before: the head begins behind it.
                        (i, at) = (behind, behind);
                        continue;
                    }
                    let in_class = self.scope() == Scope::Class || self.scope() == Scope::Named;
                    if !is_conversion
                        && bytes[from - usize::from(from > 0)] != b'~'
                        && (has_body || has_type || in_class)
                    {
                        (self.add)(from, to);
                    }
                    return;
                }
                _ => i += 1,
            }
        }
    }
}

/// The last word that ends at or before `until`.
fn last_word(text: &str, until: usize) -> Option<(usize, usize)> {
    let bytes = &text.as_bytes()[..until];
    let to = bytes.iter().rposition(|b| is_name_byte(*b))? + 1;
    let from = bytes[..to].iter().rposition(|b| !is_name_byte(*b)).map_or(0, |n| n + 1);
    (!bytes[from].is_ascii_digit()).then_some((from, to))
}

/// Whether only blanks stand before this byte in its line.
fn begins_line(code: &str, at: usize) -> bool {
    let last = code.as_bytes()[..at].iter().rev().find(|b| !matches!(b, b' ' | b'\t'));
    last.is_none_or(|b| *b == b'\n')
}

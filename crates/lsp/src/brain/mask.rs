//! A source file without what only looks like code: strings and comments become blanks, and every line and column stays where
//! it is. One pass, no memory of more than the nesting; what is never closed ends with the file or, where the language says
//! so, with the line.

use base::limits::MASK_NESTING_MAX;

use super::outline::Language;

/// What a language calls comments and strings.
struct Marks {
    line: &'static [&'static str],
    block: Option<(&'static str, &'static str)>,
    /// Strings that go over several lines.
    long: &'static [(&'static str, &'static str)],
    /// Strings that end with their line.
    short: &'static [u8],
}

fn marks(language: Language) -> Marks {
    use Language::{C, Cpp, Go, JavaScript, Lua, Python, Rust, TypeScript};
    let slashes = Marks { line: &["//"], block: Some(("/*", "*/")), long: &[], short: b"\"'" };
    match language {
        Python => Marks { line: &["#"], block: None, long: &[("\"\"\"", "\"\"\""), ("'''", "'''")], short: b"\"'" },
        Lua => Marks { line: &["--"], block: Some(("--[[", "]]")), long: &[("[[", "]]")], short: b"\"'" },
        Go => Marks { long: &[("`", "`")], ..slashes },
        // A Rust string may go on; its characters and lifetimes are told apart below.
        Rust => Marks { long: &[("\"", "\"")], short: b"", ..slashes },
        C | Cpp | JavaScript | TypeScript => slashes,
    }
}

/// The text with blanks for strings and comments; of a string its first mark stays.
pub fn masked(text: &str, language: Language) -> String {
    let mut mask = Mask { text, out: Vec::with_capacity(text.len()), at: 0, templates: Vec::new() };
    let marks = marks(language);
    while mask.at < text.len() {
        mask.step(language, &marks);
    }
    // Blanks took the place of whole characters only.
    String::from_utf8(mask.out).unwrap_or_default()
}

struct Mask<'a> {
    text: &'a str,
    out: Vec<u8>,
    at: usize,
    /// For each template that code within `${` stands in: the braces that are open there.
    templates: Vec<usize>,
}

impl Mask<'_> {
    fn rest(&self) -> &[u8] {
        &self.text.as_bytes()[self.at..]
    }

    fn starts(&self, with: &str) -> bool {
        self.rest().starts_with(with.as_bytes())
    }

    /// So many bytes as they are.
    fn keep(&mut self, n: usize) {
        let end = (self.at + n).min(self.text.len());
        self.out.extend_from_slice(&self.text.as_bytes()[self.at..end]);
        self.at = end;
    }

    /// Blanks up to here, but for the ends of lines.
    fn blank_to(&mut self, end: usize) {
        let end = end.min(self.text.len());
        let blank = |b: &u8| if matches!(b, b'\n' | b'\r') { *b } else { b' ' };
        self.out.extend(self.text.as_bytes()[self.at..end].iter().map(blank));
        self.at = end;
    }

    /// The byte behind the next `close` that no backslash stands before; the text's end if there is none.
    fn behind(&self, from: usize, close: &str, has_escapes: bool) -> usize {
        let bytes = self.text.as_bytes();
        let mut at = from;
        while at < bytes.len() {
            if has_escapes && bytes[at] == b'\\' {
                at += 2;
            } else if bytes[at..].starts_with(close.as_bytes()) {
                return at + close.len();
            } else {
                at += 1;
            }
        }
        bytes.len()
    }

    /// A string: its first mark stays, so that it is seen that there is one.
    fn string(&mut self, end: usize) {
        self.keep(1);
        self.blank_to(end.max(self.at));
    }

    fn step(&mut self, language: Language, marks: &Marks) {
        let Some(&byte) = self.rest().first() else { return };
        let is_lua = language == Language::Lua;
        if let Some((open, close)) = marks.block.filter(|(open, _)| self.starts(open)) {
            let end = match language {
                Language::Rust => self.nested_comment(),
                _ => self.behind(self.at + open.len(), close, false),
            };
            return self.blank_to(end);
        }
        if marks.line.iter().any(|l| self.starts(l)) {
            let end = self.rest().iter().position(|b| *b == b'\n').map_or(self.text.len(), |n| self.at + n);
            return self.blank_to(end);
        }
        if let Some((open, close)) = marks.long.iter().find(|(open, _)| self.starts(open)) {
            let end = self.behind(self.at + open.len(), close, !is_lua && *open != "`");
            return self.string(end);
        }
        if marks.short.contains(&byte) && !self.is_digit_mark(language, byte) {
            return self.string(self.end_of_short(byte));
        }
        match (language, byte) {
            (Language::Rust, b'r' | b'b' | b'c') => self.rust_raw(),
            (Language::Rust, b'\'') => self.rust_character(),
            (Language::Cpp, b'R') if self.starts("R\"") => self.cpp_raw(),
            (Language::JavaScript | Language::TypeScript, b'`' | b'{' | b'}' | b'/') => self.script(byte),
            _ => self.keep(1),
        }
    }

    /// `1'000` in C++ is a number.
    fn is_digit_mark(&self, language: Language, byte: u8) -> bool {
        let before = self.out.last().is_some_and(u8::is_ascii_hexdigit);
        language == Language::Cpp
            && byte == b'\''
            && before
            && self.rest().get(1).is_some_and(u8::is_ascii_hexdigit)
            && self.rest().get(2) != Some(&b'\'')
    }

    /// Behind a string that ends with its line, unless a backslash carries it on.
    fn end_of_short(&self, mark: u8) -> usize {
        let bytes = self.text.as_bytes();
        let mut at = self.at + 1;
        while at < bytes.len() {
            match bytes[at] {
                b'\\' => at += 2,
                b'\n' => return at,
                b if b == mark => return at + 1,
                _ => at += 1,
            }
        }
        bytes.len()
    }

    /// Comments of Rust nest.
    fn nested_comment(&self) -> usize {
        let bytes = self.text.as_bytes();
        let (mut at, mut depth) = (self.at, 0usize);
        while at < bytes.len() {
            if bytes[at..].starts_with(b"/*") {
                (depth, at) = (depth + 1, at + 2);
            } else if bytes[at..].starts_with(b"*/") {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            } else {
                at += 1;
            }
        }
        bytes.len()
    }

    /// `r#"..."#`, also after `b` and `c`; else a letter.
    fn rust_raw(&mut self) {
        let is_in_word = self.out.last().is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        let rest = self.rest();
        let n = rest.iter().take_while(|b| matches!(b, b'r' | b'b' | b'c')).count().min(2);
        let hashes = rest[n..].iter().take_while(|b| **b == b'#').count();
        let is_raw = rest[..n].contains(&b'r') && rest.get(n + hashes) == Some(&b'"');
        if is_in_word || !is_raw {
            return self.keep(1);
        }
        let close = format!("\"{}", "#".repeat(hashes));
        self.string(self.behind(self.at + n + hashes + 1, &close, false));
    }

    /// A character, or the mark of a lifetime.
    fn rust_character(&mut self) {
        let rest = &self.text[self.at + 1..];
        let mut chars = rest.char_indices();
        let len = match chars.next() {
            Some((_, '\\')) => rest.as_bytes().get(2..).and_then(|b| b.iter().position(|b| *b == b'\'')).map(|n| n + 2),
            Some((_, c)) if rest[c.len_utf8()..].starts_with('\'') => Some(c.len_utf8()),
            _ => None,
        };
        match len.filter(|n| *n <= 12) {
            Some(n) => self.string(self.at + n + 2),
            None => self.keep(1),
        }
    }

    /// `R"x(...)x"`.
    fn cpp_raw(&mut self) {
        let name: Vec<u8> = self.rest()[2..].iter().take(17).copied().take_while(|b| *b != b'(').collect();
        if name.len() > 16 {
            return self.keep(2);
        }
        let close = format!("){}\"", String::from_utf8_lossy(&name));
        self.string(self.behind(self.at + 3 + name.len(), &close, false));
    }

    /// Templates with code in them, and regular expressions.
    fn script(&mut self, byte: u8) {
        match byte {
            b'`' => self.template(),
            b'{' => {
                if let Some(open) = self.templates.last_mut() {
                    *open += 1;
                }
                self.keep(1);
            }
            b'}' => match self.templates.last_mut() {
                Some(0) => {
                    self.templates.pop();
                    self.template();
                }
                Some(open) => {
                    *open -= 1;
                    self.keep(1);
                }
                None => self.keep(1),
            },
            _ => self.regex(),
        }
    }

    /// From a template's mark, or from the brace that ends its code, to its end or to the next code.
    fn template(&mut self) {
        let bytes = self.text.as_bytes();
        let mut at = self.at + 1;
        while at < bytes.len() {
            match bytes[at] {
                b'\\' => at += 2,
                b'`' => return self.blank_to(at + 1),
                b'$' if bytes.get(at + 1) == Some(&b'{') && self.templates.len() < MASK_NESTING_MAX => {
                    self.templates.push(0);
                    return self.blank_to(at + 2);
                }
                _ => at += 1,
            }
        }
        self.blank_to(bytes.len());
    }

    /// Where an operand is wanted, a slash begins a regular expression; else it divides.
    fn regex(&mut self) {
        let before = self.out.iter().rev().find(|b| !b.is_ascii_whitespace());
        let is_operand = before.is_none_or(|b| b"(,=:[!&|?{};+-*%<>~^".contains(b))
            || [&b"return"[..], b"typeof", b"case"].iter().any(|w| self.out.trim_ascii_end().ends_with(w));
        let (bytes, mut at, mut is_class) = (self.text.as_bytes(), self.at + 1, false);
        while is_operand && at < bytes.len() && bytes[at] != b'\n' {
            match bytes[at] {
                b'\\' => at += 1,
                b'[' => is_class = true,
                b']' => is_class = false,
                b'/' if !is_class => return self.string(at + 1),
                _ => {}
            }
            at += 1;
        }
        self.keep(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Without the blanks; where they stand is the next test's matter.
    fn seen(text: &str, language: Language) -> String {
        masked(text, language).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn strings_and_comments_are_blank_and_code_is_not() {
        use Language::*;
        assert_eq!(seen("a /* x /* y */ z */ b // c\nd", Rust), "a b d");
        assert_eq!(seen("r#\"fn a\"b\"# 'x' '\\'' <'a> br\"q\"", Rust), "r ' ' <'a> b");
        assert_eq!(seen("\"a\\\"b\nc\" d", Rust), "\" d");
        assert_eq!(seen("x = '''a\n'b''' # c\n'd", Python), "x = ' '");
        assert_eq!(seen("`a${f({b: `c`})}d` e", JavaScript), "f({b: }) e");
        assert_eq!(seen("a / b; x = /[/\"]\\//.test(q)", JavaScript), "a / b; x = / .test(q)");
        assert_eq!(seen("1'000 '\\'' \"x\" R\"a(\")a\" y", Cpp), "1'000 ' \" R y");
        assert_eq!(seen("--[[ a\n]] b [[c]] -- d", Lua), "b [");
        assert_eq!(seen("`a\n\"` b \"c\n\" d", Go), "` b \" \"");
    }

    proptest! {
        /// Whatever the text, its lines and columns stay.
        #[test]
        fn every_line_keeps_its_length(text in "[a-c\"'`/*#\\-\\[\\]{}$\\\\r(\né]{0,60}") {
            use Language::*;
            for language in [Rust, Python, JavaScript, TypeScript, Go, C, Cpp, Lua] {
                let lengths = |t: &str| t.split('\n').map(str::len).collect::<Vec<_>>();
                prop_assert_eq!(lengths(&masked(&text, language)), lengths(&text), "{:?}", language);
            }
        }
    }
}

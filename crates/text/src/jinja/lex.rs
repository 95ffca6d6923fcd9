//! Source to tokens, with jinja2's rules for white space around tags (`trim_blocks`, `lstrip_blocks`, `-` and `+` signs).

/// A token and its line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) line: u32,
    pub(super) kind: Tok,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tok {
    /// Template text between tags.
    Text(Box<str>),
    PrintBegin,
    PrintEnd,
    BlockBegin,
    BlockEnd,
    Name(Box<str>),
    Str(Box<str>),
    Int(i128),
    Float(f64),
    /// Operators and punctuation, longest first.
    Op(&'static str),
    End,
}

const OPERATORS: &[&str] = &[
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", "(", ")", "[", "]", "{", "}", ">", "<", "=", ".",
    ":", "|", ",", ";",
];

type Result<T> = std::result::Result<T, (u32, String)>;

/// What a tag begins with.
#[derive(Clone, Copy, PartialEq)]
enum Tag {
    Print,
    Block,
    Comment,
}

impl Tag {
    fn at(rest: &str) -> Option<Tag> {
        match rest.get(..2)? {
            "{{" => Some(Tag::Print),
            "{%" => Some(Tag::Block),
            "{#" => Some(Tag::Comment),
            _ => None,
        }
    }
}

struct Lexer<'a> {
    source: &'a str,
    pos: usize,
    line: u32,
    tokens: Vec<Token>,
    /// Does the next text begin a line?
    at_line_start: bool,
}

/// All tokens of a template, the last one `End`.
pub(super) fn lex(source: &str) -> Result<Vec<Token>> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = source.strip_suffix('\n').unwrap_or(&source);
    let mut lexer = Lexer { source, pos: 0, line: 1, tokens: Vec::new(), at_line_start: true };
    while lexer.pos < source.len() {
        lexer.text_and_tag()?;
    }
    lexer.push(Tok::End);
    Ok(lexer.tokens)
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.source.get(self.pos..).unwrap_or("")
    }

    fn push(&mut self, kind: Tok) {
        self.tokens.push(Token { line: self.line, kind });
    }

    fn error<T>(&self, reason: impl Into<String>) -> Result<T> {
        Err((self.line, reason.into()))
    }

    /// Moves on by `n` bytes and counts the lines in them.
    fn skip(&mut self, n: usize) {
        let passed = self.rest().get(..n).unwrap_or("");
        self.line += passed.bytes().filter(|&b| b == b'\n').count() as u32;
        self.pos += passed.len();
    }

    fn text_and_tag(&mut self) -> Result<()> {
        let rest = self.rest();
        let mut from = 0;
        let found = loop {
            let Some(at) = rest.get(from..).and_then(|r| r.find('{')).map(|i| i + from) else { break None };
            match Tag::at(&rest[at..]) {
                Some(tag) => break Some((at, tag)),
                None => from = at + 1,
            }
        };
        let Some((at, tag)) = found else {
            self.push(Tok::Text(rest.into()));
            self.skip(rest.len());
            return Ok(());
        };
        let sign = rest.as_bytes().get(at + 2).copied();
        let text = self.before_tag(&rest[..at], tag, sign);
        if !text.is_empty() {
            self.push(Tok::Text(text.into()));
        }
        self.skip(at + 2);
        if matches!(sign, Some(b'-' | b'+')) && !(sign == Some(b'+') && tag == Tag::Print) {
            self.skip(1);
        }
        match tag {
            Tag::Comment => self.comment(),
            Tag::Print => self.tag(Tok::PrintBegin, Tok::PrintEnd, "}}"),
            Tag::Block => match self.raw()? {
                true => Ok(()),
                false => self.tag(Tok::BlockBegin, Tok::BlockEnd, "%}"),
            },
        }
    }

    /// The text before a tag, less the white space that the tag takes away.
    fn before_tag<'t>(&self, text: &'t str, tag: Tag, sign: Option<u8>) -> &'t str {
        if sign == Some(b'-') {
            return text.trim_end();
        }
        if tag == Tag::Print || sign == Some(b'+') {
            return text;
        }
        let line_start = text.rfind('\n').map_or(0, |i| i + 1);
        let is_indent = text[line_start..].chars().all(char::is_whitespace);
        if is_indent && (line_start > 0 || self.at_line_start) { &text[..line_start] } else { text }
    }

    fn comment(&mut self) -> Result<()> {
        let Some(end) = self.rest().find("#}") else { return self.error("comment without an end, #} expected") };
        let sign = end.checked_sub(1).and_then(|i| self.rest().as_bytes().get(i)).copied();
        self.skip(end + 2);
        self.after_tag(sign, true);
        Ok(())
    }

    /// Takes away the white space that the end of a tag asks for.
    fn after_tag(&mut self, sign: Option<u8>, trims_line_end: bool) {
        let rest = self.rest();
        let n = match sign {
            Some(b'-') => rest.len() - rest.trim_start().len(),
            Some(b'+') => 0,
            _ => usize::from(trims_line_end && rest.starts_with('\n')),
        };
        self.at_line_start = rest.get(..n).unwrap_or("").ends_with('\n');
        self.skip(n);
    }

    /// Reads `{% raw %}...{% endraw %}`, if that is what stands here.
    fn raw(&mut self) -> Result<bool> {
        let rest = self.rest();
        let Some((open, sign)) = simple_tag_end(rest, "raw") else { return Ok(false) };
        self.skip(open);
        self.after_tag(sign, true);
        let body = self.rest();
        let mut from = 0;
        while let Some(at) = body.get(from..).and_then(|b| b.find("{%")).map(|i| i + from) {
            let lead = body.as_bytes().get(at + 2).copied().filter(|b| matches!(b, b'-' | b'+'));
            let inner = at + 2 + usize::from(lead.is_some());
            if let Some((end, sign)) = body.get(inner..).and_then(|b| simple_tag_end(b, "endraw")) {
                let text = self.before_tag(&body[..at], Tag::Block, lead);
                self.push(Tok::Text(text.into()));
                self.skip(inner + end);
                self.after_tag(sign, true);
                return Ok(true);
            }
            from = at + 2;
        }
        self.error("{% raw %} without {% endraw %}")
    }

    /// The tokens of one tag, its begin already passed.
    fn tag(&mut self, begin: Tok, end: Tok, end_text: &str) -> Result<()> {
        self.push(begin);
        let mut brackets: Vec<&'static str> = Vec::new();
        loop {
            let spaces = self.rest().len() - self.rest().trim_start().len();
            self.skip(spaces);
            let rest = self.rest();
            let Some(first) = rest.chars().next() else {
                return self.error(format!("tag without an end, {end_text} expected"));
            };
            let sign = matches!(first, '-' | '+').then_some(first as u8);
            let after_sign = rest.get(usize::from(sign.is_some())..).unwrap_or("");
            let may_end = brackets.is_empty() && after_sign.starts_with(end_text);
            if may_end && !(sign == Some(b'+') && end == Tok::PrintEnd) {
                self.push(end.clone());
                self.skip(end_text.len() + usize::from(sign.is_some()));
                self.after_tag(sign, end == Tok::BlockEnd);
                return Ok(());
            }
            self.token(first, &mut brackets)?;
        }
    }

    fn token(&mut self, first: char, brackets: &mut Vec<&'static str>) -> Result<()> {
        let rest = self.rest();
        if first == '"' || first == '\'' {
            return self.string(first);
        }
        if first.is_ascii_digit() {
            return self.number();
        }
        if first == '_' || first.is_alphabetic() {
            let len = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
            self.push(Tok::Name(rest[..len].into()));
            self.skip(len);
            return Ok(());
        }
        let Some(op) = OPERATORS.iter().find(|op| rest.starts_with(**op)) else {
            return self.error(format!("unexpected character {first:?}"));
        };
        match *op {
            "(" | "[" | "{" => brackets.push(op),
            ")" | "]" | "}" => {
                let opened = brackets.pop();
                if !matches!((opened, *op), (Some("("), ")") | (Some("["), "]") | (Some("{"), "}")) {
                    return self.error(format!("unexpected {op}"));
                }
            }
            _ => {}
        }
        self.push(Tok::Op(op));
        self.skip(op.len());
        Ok(())
    }

    fn number(&mut self) -> Result<()> {
        let rest = self.rest();
        let digits = |s: &str| s.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(s.len());
        let mut len = digits(rest);
        let mut is_float = false;
        let fraction = &rest[len..];
        if fraction.starts_with('.') && fraction[1..].starts_with(|c: char| c.is_ascii_digit()) {
            len += 1 + digits(&fraction[1..]);
            is_float = true;
        }
        let exponent = &rest[len..];
        if exponent.starts_with(['e', 'E']) {
            let sign = usize::from(exponent[1..].starts_with(['+', '-']));
            if exponent[1 + sign..].starts_with(|c: char| c.is_ascii_digit()) {
                len += 1 + sign + digits(&exponent[1 + sign..]);
                is_float = true;
            }
        }
        let text = rest[..len].replace('_', "");
        let number = if is_float { text.parse().ok().map(Tok::Float) } else { text.parse().ok().map(Tok::Int) };
        let Some(number) = number else { return self.error(format!("number {text} is out of range")) };
        self.push(number);
        self.skip(len);
        Ok(())
    }

    fn string(&mut self, quote: char) -> Result<()> {
        let rest = self.rest();
        let mut value = String::new();
        let mut chars = rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            if c == quote {
                self.push(Tok::Str(value.into()));
                self.skip(at + 1);
                return Ok(());
            }
            if c != '\\' {
                value.push(c);
                continue;
            }
            let Some((_, escaped)) = chars.next() else { break };
            let digits = match escaped {
                'x' => 2,
                'u' => 4,
                'U' => 8,
                _ => 0,
            };
            if digits > 0 {
                let code = rest.get(at + 2..at + 2 + digits).and_then(|h| u32::from_str_radix(h, 16).ok());
                let Some(code) = code else { return self.error(format!("bad escape \\{escaped} in a string")) };
                value.push(char::from_u32(code).unwrap_or('\u{fffd}'));
                let _ = chars.nth(digits - 1);
                continue;
            }
            match escaped {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                'b' => value.push('\u{8}'),
                'f' => value.push('\u{c}'),
                'v' => value.push('\u{b}'),
                'a' => value.push('\u{7}'),
                '0' => value.push('\0'),
                '\\' | '\'' | '"' => value.push(escaped),
                '\n' => {}
                other => value.extend(['\\', other]),
            }
        }
        self.error(format!("string without an end, {quote} expected"))
    }
}

/// For text right behind `{%` and its sign: where a tag of just this name ends, and the sign before its end.
fn simple_tag_end(rest: &str, name: &str) -> Option<(usize, Option<u8>)> {
    let inner = rest.trim_start().strip_prefix(name)?.trim_start();
    let sign = inner.as_bytes().first().copied().filter(|b| matches!(b, b'-' | b'+'));
    let end = inner.get(usize::from(sign.is_some())..)?.strip_prefix("%}")?;
    Some((rest.len() - end.len(), sign))
}

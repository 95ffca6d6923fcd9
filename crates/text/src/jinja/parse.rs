//! Tokens to a tree: statements, and what all parsing needs. Expressions are in `expressions`.
//!
//! Every recursion goes through `deeper`, which counts; chains are loops.
use super::ast::{Expr, For, Kind, Link, Macro, Node, Stmt, Target};
use super::lex::{Tok, Token};
use base::limits::TEMPLATE_DEPTH_MAX;

pub(super) type Result<T> = std::result::Result<T, (u32, String)>;

pub(super) struct Parser {
    pub(super) tokens: Vec<Token>,
    pub(super) pos: usize,
    depth: usize,
    loops: usize,
}

/// Parses the tokens of a whole template.
pub(super) fn parse(tokens: Vec<Token>) -> Result<Vec<Node>> {
    let mut parser = Parser { tokens, pos: 0, depth: 0, loops: 0 };
    let (body, end) = parser.body(&[])?;
    match end {
        None => Ok(body),
        Some(name) => parser.error(format!("{{% {name} %}} without its beginning")),
    }
}

impl Parser {
    pub(super) fn peek(&self) -> &Tok {
        self.tokens.get(self.pos).map_or(&Tok::End, |t| &t.kind)
    }

    pub(super) fn line(&self) -> u32 {
        self.tokens.get(self.pos).or(self.tokens.last()).map_or(1, |t| t.line)
    }

    pub(super) fn next(&mut self) -> Tok {
        let token = self.peek().clone();
        self.pos += 1;
        token
    }

    pub(super) fn error<T>(&self, reason: impl Into<String>) -> Result<T> {
        Err((self.line(), reason.into()))
    }

    pub(super) fn unexpected<T>(&self, expected: &str) -> Result<T> {
        let found = match self.peek() {
            Tok::Text(_) => "text".to_string(),
            Tok::PrintBegin => "{{".to_string(),
            Tok::PrintEnd => "}}".to_string(),
            Tok::BlockBegin => "{%".to_string(),
            Tok::BlockEnd => "%}".to_string(),
            Tok::Name(name) => name.to_string(),
            Tok::Str(_) => "a string".to_string(),
            Tok::Int(n) => n.to_string(),
            Tok::Float(n) => n.to_string(),
            Tok::Op(op) => op.to_string(),
            Tok::End => "the end of the template".to_string(),
        };
        self.error(format!("{expected} expected, found {found}"))
    }

    pub(super) fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Tok::Op(o) if *o == op)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Tok::Name(n) if **n == *name)
    }

    pub(super) fn take_op(&mut self, op: &str) -> bool {
        let found = self.is_op(op);
        self.pos += usize::from(found);
        found
    }

    pub(super) fn take_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.pos += usize::from(found);
        found
    }

    pub(super) fn expect_op(&mut self, op: &str) -> Result<()> {
        if self.take_op(op) { Ok(()) } else { self.unexpected(op) }
    }

    pub(super) fn any_name(&mut self) -> Result<Box<str>> {
        match self.peek().clone() {
            Tok::Name(name) => {
                self.pos += 1;
                Ok(name)
            }
            _ => self.unexpected("a name"),
        }
    }

    fn block_end(&mut self) -> Result<()> {
        if self.peek() == &Tok::BlockEnd {
            self.pos += 1;
            return Ok(());
        }
        self.unexpected("%}")
    }

    pub(super) fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == TEMPLATE_DEPTH_MAX {
            return self.error(format!("nested deeper than TEMPLATE_DEPTH_MAX = {TEMPLATE_DEPTH_MAX}"));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    /// Statements up to a tag with one of these names (the tag's name is passed) or to the end of the template.
    fn body(&mut self, ends: &[&str]) -> Result<(Vec<Node>, Option<Box<str>>)> {
        let mut nodes = Vec::new();
        loop {
            let line = self.line();
            match self.next() {
                Tok::End => {
                    self.pos -= 1;
                    return match ends.last() {
                        None => Ok((nodes, None)),
                        Some(end) => self.unexpected(&format!("{{% {end} %}}")),
                    };
                }
                Tok::Text(text) => nodes.push(Node { line, stmt: Stmt::Text(text) }),
                Tok::PrintBegin => {
                    let value = self.tuple_or_expr()?;
                    if self.next() != Tok::PrintEnd {
                        self.pos -= 1;
                        return self.unexpected("}}");
                    }
                    nodes.push(Node { line, stmt: Stmt::Print(value) });
                }
                Tok::BlockBegin => {
                    let name = self.any_name()?;
                    if ends.contains(&&*name) || (ends.is_empty() && name.starts_with("end")) {
                        return Ok((nodes, Some(name)));
                    }
                    let stmt = self.deeper(|p| p.statement(&name))?;
                    nodes.push(Node { line, stmt });
                }
                _ => {
                    self.pos -= 1;
                    return self.unexpected("text or a tag");
                }
            }
        }
    }

    /// A body whose end tag ends right away.
    fn body_to(&mut self, end: &str) -> Result<Vec<Node>> {
        let (body, _) = self.body(&[end])?;
        if matches!(end, "endmacro" | "endcall" | "endset") && matches!(self.peek(), Tok::Name(_)) {
            self.pos += 1; // {% endmacro name %}
        }
        self.block_end()?;
        Ok(body)
    }

    fn statement(&mut self, name: &str) -> Result<Stmt> {
        match name {
            "if" => self.if_statement(),
            "for" => self.for_statement(),
            "set" => self.set_statement(),
            "macro" => {
                let name = self.any_name()?;
                Ok(Stmt::Macro(Box::new(self.macro_rest(name, "endmacro")?)))
            }
            "call" => self.call_statement(),
            "filter" => {
                let filters = self.filters()?;
                self.block_end()?;
                Ok(Stmt::Filter { filters, body: self.body_to("endfilter")? })
            }
            "with" => self.with_statement(),
            "generation" => {
                self.block_end()?;
                Ok(Stmt::Group(self.body_to("endgeneration")?))
            }
            "break" | "continue" => {
                if self.loops == 0 {
                    return self.error(format!("{name} outside of a loop"));
                }
                self.block_end()?;
                Ok(if name == "break" { Stmt::Break } else { Stmt::Continue })
            }
            "elif" | "else" => self.error(format!("{{% {name} %}} without {{% if %}}")),
            _ => self.error(format!("unknown tag {name}")),
        }
    }

    fn if_statement(&mut self) -> Result<Stmt> {
        let mut branches = Vec::new();
        let mut otherwise = Vec::new();
        loop {
            let condition = self.tuple_or_expr()?;
            self.block_end()?;
            let (body, end) = self.body(&["elif", "else", "endif"])?;
            branches.push((condition, body));
            match end.as_deref() {
                Some("elif") => continue,
                Some("else") => {
                    self.block_end()?;
                    otherwise = self.body_to("endif")?;
                }
                _ => self.block_end()?,
            }
            return Ok(Stmt::If { branches, otherwise });
        }
    }

    fn for_statement(&mut self) -> Result<Stmt> {
        let target = self.target(false)?;
        if !self.take_name("in") {
            return self.unexpected("in");
        }
        let over = self.tuple_of(|p| p.or_expr())?;
        let condition = if self.take_name("if") { Some(self.expr()?) } else { None };
        let is_recursive = self.take_name("recursive");
        self.block_end()?;
        self.loops += 1;
        let ended = self.body(&["else", "endfor"]);
        self.loops -= 1;
        let (body, end) = ended?;
        self.block_end()?;
        let otherwise = if end.as_deref() == Some("else") { self.body_to("endfor")? } else { Vec::new() };
        Ok(Stmt::For(Box::new(For { target, over, condition, body, otherwise, is_recursive })))
    }

    fn set_statement(&mut self) -> Result<Stmt> {
        let target = self.target(true)?;
        if self.take_op("=") {
            let value = self.tuple_or_expr()?;
            self.block_end()?;
            return Ok(Stmt::Set { target, value });
        }
        let filters = if self.take_op("|") { self.filters()? } else { Vec::new() };
        self.block_end()?;
        Ok(Stmt::SetBlock { target, filters, body: self.body_to("endset")? })
    }

    fn with_statement(&mut self) -> Result<Stmt> {
        let mut bindings = Vec::new();
        while self.peek() != &Tok::BlockEnd {
            if !bindings.is_empty() {
                self.expect_op(",")?;
            }
            let target = Target::Name(self.any_name()?);
            self.expect_op("=")?;
            bindings.push((target, self.expr()?));
        }
        self.block_end()?;
        Ok(Stmt::With { bindings, body: self.body_to("endwith")? })
    }

    fn call_statement(&mut self) -> Result<Stmt> {
        let params = if self.is_op("(") { self.params()? } else { Vec::new() };
        let call = self.expr()?;
        if !matches!(&call.kind, Kind::Chain(_, links) if matches!(links.last(), Some(Link::Call(_)))) {
            return self.error("{% call %} needs a call");
        }
        self.block_end()?;
        let body = self.macro_body("endcall")?;
        Ok(Stmt::Call { call, caller: Box::new(Macro { name: "caller".into(), params, body }) })
    }

    fn macro_rest(&mut self, name: Box<str>, end: &str) -> Result<Macro> {
        let params = self.params()?;
        self.block_end()?;
        Ok(Macro { name, params, body: self.macro_body(end)? })
    }

    /// A macro's body; loops around the macro are not its own.
    fn macro_body(&mut self, end: &str) -> Result<Vec<Node>> {
        let loops = std::mem::take(&mut self.loops);
        let body = self.body_to(end);
        self.loops = loops;
        body
    }

    fn params(&mut self) -> Result<Vec<(Box<str>, Option<Expr>)>> {
        self.expect_op("(")?;
        let mut params = Vec::new();
        while !self.take_op(")") {
            if !params.is_empty() {
                self.expect_op(",")?;
                if self.take_op(")") {
                    break;
                }
            }
            let name = self.any_name()?;
            let default = if self.take_op("=") { Some(self.expr()?) } else { None };
            params.push((name, default));
        }
        Ok(params)
    }

    fn target(&mut self, with_attr: bool) -> Result<Target> {
        let mut targets = Vec::new();
        let mut is_tuple = false;
        loop {
            if self.is_op("(") {
                self.pos += 1;
                let inner = self.deeper(|p| p.target(with_attr))?;
                self.expect_op(")")?;
                targets.push(inner);
            } else {
                let name = self.any_name()?;
                let is_attr = with_attr && self.take_op(".");
                targets.push(if is_attr { Target::Attr(name, self.any_name()?) } else { Target::Name(name) });
            }
            if !self.take_op(",") {
                break;
            }
            is_tuple = true;
            if self.is_name("in") || self.is_op("=") || self.is_op(")") {
                break;
            }
        }
        match targets.pop() {
            Some(only) if targets.is_empty() && !is_tuple => Ok(only),
            Some(last) => {
                targets.push(last);
                Ok(Target::Tuple(targets))
            }
            None => self.unexpected("a name"),
        }
    }

    /// Filters of `{% filter %}` and `{% set x | f %}`, the first without its bar.
    fn filters(&mut self) -> Result<Vec<Link>> {
        let mut links = vec![self.filter()?];
        while self.take_op("|") {
            links.push(self.filter()?);
        }
        Ok(links)
    }
}

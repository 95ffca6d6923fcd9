//! Expressions: from `if`/`else` down to names and numbers, in jinja2's order of binding.
use super::ast::{Args, Compare, Expr, Kind, Link, Math};
use super::lex::Tok;
use super::parse::{Parser, Result};

impl Parser {
    pub(super) fn filter(&mut self) -> Result<Link> {
        let name = self.dotted_name()?;
        let args = if self.is_op("(") { self.args()? } else { Args::default() };
        Ok(Link::Filter(name, args))
    }

    fn dotted_name(&mut self) -> Result<Box<str>> {
        let mut name = self.any_name()?.into_string();
        while self.take_op(".") {
            name.push('.');
            name.push_str(&self.any_name()?);
        }
        Ok(name.into())
    }

    fn args(&mut self) -> Result<Args> {
        self.expect_op("(")?;
        let mut args = Args::default();
        let mut is_first = true;
        while !self.take_op(")") {
            if !is_first {
                self.expect_op(",")?;
                if self.take_op(")") {
                    break;
                }
            }
            is_first = false;
            let next_is_equals = matches!(self.tokens.get(self.pos + 1).map(|t| &t.kind), Some(Tok::Op("=")));
            if next_is_equals {
                let name = self.any_name()?;
                self.pos += 1;
                args.named.push((name, self.expr()?));
            } else if self.is_op("*") || self.is_op("**") {
                return self.error("arguments with * are not supported");
            } else if args.named.is_empty() {
                args.plain.push(self.expr()?);
            } else {
                return self.error("an argument without a name behind one with a name");
            }
        }
        Ok(args)
    }

    pub(super) fn tuple_or_expr(&mut self) -> Result<Expr> {
        self.tuple_of(|p| p.expr())
    }

    /// One expression, or a tuple without parentheses.
    pub(super) fn tuple_of(&mut self, item: impl Fn(&mut Self) -> Result<Expr>) -> Result<Expr> {
        let line = self.line();
        let first = item(self)?;
        if !self.is_op(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.take_op(",") {
            if matches!(self.peek(), Tok::PrintEnd | Tok::BlockEnd) || self.is_op(")") {
                break;
            }
            items.push(item(self)?);
        }
        Ok(Expr { line, kind: Kind::Tuple(items) })
    }

    pub(super) fn expr(&mut self) -> Result<Expr> {
        self.deeper(|p| p.condition())
    }

    fn condition(&mut self) -> Result<Expr> {
        let line = self.line();
        let mut value = self.or_expr()?;
        let mut choices = Vec::new();
        while self.take_name("if") {
            choices.push((value, self.or_expr()?));
            if !self.take_name("else") {
                return Ok(Expr { line, kind: Kind::Cond(choices, None) });
            }
            value = self.or_expr()?;
        }
        if choices.is_empty() {
            return Ok(value);
        }
        Ok(Expr { line, kind: Kind::Cond(choices, Some(Box::new(value))) })
    }

    /// Operands with one word between them.
    fn joined(
        &mut self,
        word: &str,
        operand: fn(&mut Self) -> Result<Expr>,
        make: fn(Vec<Expr>) -> Kind,
    ) -> Result<Expr> {
        let line = self.line();
        let first = operand(self)?;
        if !self.is_name(word) {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.take_name(word) {
            items.push(operand(self)?);
        }
        Ok(Expr { line, kind: make(items) })
    }

    pub(super) fn or_expr(&mut self) -> Result<Expr> {
        self.joined("or", |p| p.joined("and", Self::not_expr, Kind::And), Kind::Or)
    }

    fn not_expr(&mut self) -> Result<Expr> {
        let line = self.line();
        if self.take_name("not") {
            let inner = self.deeper(Self::not_expr)?;
            return Ok(Expr { line, kind: Kind::Not(Box::new(inner)) });
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Expr> {
        let line = self.line();
        let first = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let op = match self.peek() {
                Tok::Op("==") => Compare::Eq,
                Tok::Op("!=") => Compare::Ne,
                Tok::Op("<") => Compare::Lt,
                Tok::Op("<=") => Compare::Le,
                Tok::Op(">") => Compare::Gt,
                Tok::Op(">=") => Compare::Ge,
                Tok::Name(n) if &**n == "in" => Compare::In,
                Tok::Name(n) if &**n == "not" && self.next_is_in() => {
                    self.pos += 1;
                    Compare::NotIn
                }
                _ => break,
            };
            self.pos += 1;
            rest.push((op, self.sum()?));
        }
        Ok(if rest.is_empty() { first } else { Expr { line, kind: Kind::Compare(Box::new(first), rest) } })
    }

    fn next_is_in(&self) -> bool {
        matches!(self.tokens.get(self.pos + 1).map(|t| &t.kind), Some(Tok::Name(n)) if &**n == "in")
    }

    fn math(&mut self, operand: fn(&mut Self) -> Result<Expr>, ops: &[(&'static str, Math)]) -> Result<Expr> {
        let line = self.line();
        let first = operand(self)?;
        let mut rest = Vec::new();
        while let Some((_, op)) = ops.iter().find(|(text, _)| self.is_op(text)) {
            self.pos += 1;
            rest.push((*op, operand(self)?));
        }
        Ok(if rest.is_empty() { first } else { Expr { line, kind: Kind::Math(Box::new(first), rest) } })
    }

    fn sum(&mut self) -> Result<Expr> {
        self.math(Self::concat, &[("+", Math::Add), ("-", Math::Sub)])
    }

    fn concat(&mut self) -> Result<Expr> {
        let line = self.line();
        let first = self.product()?;
        if !self.is_op("~") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.take_op("~") {
            items.push(self.product()?);
        }
        Ok(Expr { line, kind: Kind::Concat(items) })
    }

    fn product(&mut self) -> Result<Expr> {
        let ops = [("*", Math::Mul), ("/", Math::Div), ("//", Math::FloorDiv), ("%", Math::Mod)];
        self.math(Self::power, &ops)
    }

    fn power(&mut self) -> Result<Expr> {
        self.math(|p| p.unary(true), &[("**", Math::Pow)])
    }

    fn unary(&mut self, with_filters: bool) -> Result<Expr> {
        let line = self.line();
        let signed = if self.take_op("-") {
            let inner = self.deeper(|p| p.unary(false))?;
            Some(Kind::Neg(Box::new(inner)))
        } else if self.take_op("+") {
            let inner = self.deeper(|p| p.unary(false))?;
            Some(Kind::Pos(Box::new(inner)))
        } else {
            None
        };
        let value = match signed {
            Some(kind) => Expr { line, kind },
            None => self.primary()?,
        };
        self.chain(value, with_filters)
    }

    fn primary(&mut self) -> Result<Expr> {
        let line = self.line();
        let kind = match self.next() {
            Tok::Name(name) => match &*name {
                "true" | "True" => Kind::Bool(true),
                "false" | "False" => Kind::Bool(false),
                "none" | "None" => Kind::None,
                _ => Kind::Name(name),
            },
            Tok::Str(first) => {
                let mut text = first.into_string();
                while let Tok::Str(more) = self.peek() {
                    text.push_str(more);
                    self.pos += 1;
                }
                Kind::Str(text.into())
            }
            Tok::Int(n) => Kind::Int(n),
            Tok::Float(n) => Kind::Float(n),
            Tok::Op("(") => self.parenthesis()?,
            Tok::Op("[") => Kind::List(self.items("]")?),
            Tok::Op("{") => self.dict()?,
            _ => {
                self.pos -= 1;
                return self.unexpected("an expression");
            }
        };
        Ok(Expr { line, kind })
    }

    fn parenthesis(&mut self) -> Result<Kind> {
        if self.take_op(")") {
            return Ok(Kind::Tuple(Vec::new()));
        }
        let inner = self.tuple_or_expr()?;
        self.expect_op(")")?;
        Ok(inner.kind)
    }

    fn items(&mut self, end: &str) -> Result<Vec<Expr>> {
        let mut items = Vec::new();
        while !self.take_op(end) {
            if !items.is_empty() {
                self.expect_op(",")?;
                if self.take_op(end) {
                    break;
                }
            }
            items.push(self.expr()?);
        }
        Ok(items)
    }

    fn dict(&mut self) -> Result<Kind> {
        let mut pairs = Vec::new();
        while !self.take_op("}") {
            if !pairs.is_empty() {
                self.expect_op(",")?;
                if self.take_op("}") {
                    break;
                }
            }
            let key = self.expr()?;
            self.expect_op(":")?;
            pairs.push((key, self.expr()?));
        }
        Ok(Kind::Dict(pairs))
    }

    /// What follows a value: attributes, indices, calls, and filters and tests where those bind here.
    fn chain(&mut self, value: Expr, with_filters: bool) -> Result<Expr> {
        let line = value.line;
        let mut links = Vec::new();
        loop {
            if self.take_op(".") {
                links.push(match self.next() {
                    Tok::Name(name) => Link::Attr(name),
                    Tok::Int(i) => Link::Index(Expr { line, kind: Kind::Int(i) }),
                    _ => {
                        self.pos -= 1;
                        return self.unexpected("an attribute's name");
                    }
                });
            } else if self.take_op("[") {
                links.push(self.subscript()?);
            } else if self.is_op("(") {
                links.push(Link::Call(self.args()?));
            } else if with_filters && self.take_op("|") {
                links.push(self.filter()?);
            } else if with_filters && self.take_name("is") {
                links.push(self.test()?);
            } else {
                break;
            }
        }
        Ok(if links.is_empty() { value } else { Expr { line, kind: Kind::Chain(Box::new(value), links) } })
    }

    fn subscript(&mut self) -> Result<Link> {
        let mut parts = [None, None, None];
        let mut n = 0;
        loop {
            if self.take_op("]") {
                break;
            }
            if self.take_op(":") {
                n += 1;
                if n > 2 {
                    return self.error("a slice has at most three parts");
                }
                continue;
            }
            if parts[n].is_some() {
                return self.unexpected("]");
            }
            parts[n] = Some(self.tuple_or_expr()?);
        }
        if n > 0 {
            return Ok(Link::Slice(Box::new(parts)));
        }
        let [index, ..] = parts;
        // jinja2 reads a[] as a[()], which is there in nothing.
        let nothing = Expr { line: self.line(), kind: Kind::Tuple(Vec::new()) };
        Ok(Link::Index(index.unwrap_or(nothing)))
    }

    fn test(&mut self) -> Result<Link> {
        let is_negated = self.take_name("not");
        let name = self.dotted_name()?;
        let args = match self.peek() {
            Tok::Op("(") => self.args()?,
            Tok::Str(_) | Tok::Int(_) | Tok::Float(_) | Tok::Op("[" | "{") => self.one_arg()?,
            Tok::Name(n) if !matches!(&**n, "else" | "or" | "and" | "is" | "if" | "in" | "not" | "recursive") => {
                self.one_arg()?
            }
            _ => Args::default(),
        };
        Ok(Link::Test { name, args, is_negated })
    }

    /// The argument of `is divisibleby 3`.
    fn one_arg(&mut self) -> Result<Args> {
        let value = self.deeper(|p| {
            let value = p.primary()?;
            p.chain(value, false)
        })?;
        Ok(Args { plain: vec![value], named: Vec::new() })
    }
}

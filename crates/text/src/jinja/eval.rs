//! The walk over a template's tree. Names live in frames: a loop body or a macro call has its own, the template the first.
use super::ast::{Expr, For, Kind, Link, Macro, Node, Stmt, Target};
use super::calls::Given;
use super::value::{Budget, Fail, Key, List, Loop, Result, Value, limit, wrong};
use super::{format, ops};
use base::limits::TEMPLATE_EVAL_DEPTH_MAX;
use indexmap::IndexMap;
use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

/// What a template is given, and what it may spend.
pub(crate) struct Inputs<'a> {
    /// Names and their values; later ones win.
    pub(crate) names: Vec<(&'a str, &'a serde_json::Value)>,
    /// Seconds since 1970 for `strftime_now`, which is not defined without them.
    pub(crate) now_s: Option<i64>,
    /// Interpreter steps.
    pub(crate) steps: u64,
    /// Bytes of output.
    pub(crate) output_bytes_max: usize,
}

/// Renders a parsed template.
pub(crate) fn render<'a>(template: &'a [Node], inputs: &Inputs<'a>) -> std::result::Result<String, Fail> {
    let mut walk = Walk::new(inputs);
    for (name, value) in &inputs.names {
        let value = Value::from_json(value)?;
        walk.frames[0].names.insert(name, value);
    }
    walk.body(template)?;
    Ok(walk.outputs.swap_remove(0))
}

/// Names of one scope, and the scope around it.
#[derive(Default)]
struct Frame<'a> {
    names: HashMap<&'a str, Value>,
    parent: usize,
}

/// A macro and the frame it was defined in.
pub(super) struct Defined<'a> {
    pub(super) code: &'a Macro,
    pub(super) frame: usize,
}

/// State of a `joiner` or `cycler`.
pub(super) struct Counter {
    pub(super) items: Rc<List>,
    pub(super) used: usize,
    pub(super) is_joiner: bool,
}

/// Where to go after a statement.
#[derive(Clone, Copy, PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

/// One rendering.
pub(super) struct Walk<'a> {
    frames: Vec<Frame<'a>>,
    current: usize,
    /// The output, and above it captures that are under way.
    outputs: Vec<String>,
    output_bytes_max: usize,
    pub(super) budget: Budget,
    depth: usize,
    pub(super) macros: Vec<Defined<'a>>,
    pub(super) namespaces: Vec<HashMap<Rc<str>, Value>>,
    pub(super) counters: Vec<Counter>,
    loops: Vec<&'a For>,
    pub(super) now_s: Option<i64>,
}

impl Fail {
    fn at(mut self, line: u32) -> Fail {
        if self.line == 0 {
            self.line = line;
        }
        self
    }
}

impl<'a> Walk<'a> {
    fn new(inputs: &Inputs<'_>) -> Walk<'a> {
        Walk {
            frames: vec![Frame::default()],
            current: 0,
            outputs: vec![String::new()],
            output_bytes_max: inputs.output_bytes_max,
            budget: Budget::new(inputs.steps),
            depth: 0,
            macros: Vec::new(),
            namespaces: Vec::new(),
            counters: Vec::new(),
            loops: Vec::new(),
            now_s: inputs.now_s,
        }
    }

    fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == TEMPLATE_EVAL_DEPTH_MAX {
            return limit("TEMPLATE_EVAL_DEPTH_MAX", TEMPLATE_EVAL_DEPTH_MAX as u64);
        }
        self.depth += 1;
        let result = work(self);
        self.depth -= 1;
        result
    }

    fn write(&mut self, text: &str) -> Result<()> {
        self.budget.pay_bytes(text.len() as u64)?;
        let is_output = self.outputs.len() == 1;
        let Some(out) = self.outputs.last_mut() else { return Ok(()) };
        if is_output && out.len() + text.len() > self.output_bytes_max {
            return limit("TEMPLATE_OUTPUT_BYTES", self.output_bytes_max as u64);
        }
        out.push_str(text);
        Ok(())
    }

    /// What `work` writes, instead of writing it.
    fn capture(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<Value> {
        self.outputs.push(String::new());
        work(self)?;
        Ok(Value::str(self.outputs.pop().unwrap_or_default()))
    }

    /// Runs `work` in a new frame inside of the frame `parent`.
    fn in_frame<T>(&mut self, parent: usize, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let outer = self.current;
        self.frames.push(Frame { names: HashMap::new(), parent });
        self.current = self.frames.len() - 1;
        let result = work(self);
        self.frames.pop();
        self.current = outer;
        result
    }

    fn define(&mut self, name: &'a str, value: Value) {
        if let Some(frame) = self.frames.get_mut(self.current) {
            frame.names.insert(name, value);
        }
    }

    fn lookup(&self, name: &str) -> Value {
        let mut at = self.current;
        while let Some(frame) = self.frames.get(at) {
            if let Some(value) = frame.names.get(name) {
                return value.clone();
            }
            if at == 0 {
                break;
            }
            at = if frame.parent < at { frame.parent } else { 0 };
        }
        super::functions::named(name, self.now_s.is_some()).map_or(Value::Undefined, Value::Function)
    }

    fn body(&mut self, nodes: &'a [Node]) -> Result<Flow> {
        self.deeper(|walk| {
            for node in nodes {
                let flow = walk.statement(&node.stmt).map_err(|fail| fail.at(node.line))?;
                if flow != Flow::Next {
                    return Ok(flow);
                }
            }
            Ok(Flow::Next)
        })
    }

    fn statement(&mut self, stmt: &'a Stmt) -> Result<Flow> {
        self.budget.pay(1)?;
        match stmt {
            Stmt::Text(text) => self.write(text)?,
            Stmt::Print(expr) => {
                let value = self.eval(expr)?;
                let text = format::to_text(&value, &self.budget)?;
                self.write(&text)?;
            }
            Stmt::If { branches, otherwise } => {
                for (condition, body) in branches {
                    if self.eval(condition)?.is_true() {
                        return self.body(body);
                    }
                }
                return self.body(otherwise);
            }
            Stmt::For(code) => {
                let items = self.eval(&code.over)?;
                self.for_loop(code, &items, 0)?;
            }
            Stmt::Set { target, value } => {
                let value = self.eval(value)?;
                self.assign(target, value)?;
            }
            Stmt::SetBlock { target, filters, body } => {
                let text = self.capture_in_frame(body)?;
                let value = self.pipe(text, filters)?;
                self.assign(target, value)?;
            }
            Stmt::Macro(code) => {
                self.macros.push(Defined { code, frame: self.current });
                self.define(&code.name, Value::Macro(self.macros.len() - 1));
            }
            Stmt::Call { call, caller } => {
                let text = self.call_block(call, caller)?;
                self.write(&text)?;
            }
            Stmt::Filter { filters, body } => {
                let text = self.capture_in_frame(body)?;
                let value = self.pipe(text, filters)?;
                let text = format::to_text(&value, &self.budget)?;
                self.write(&text)?;
            }
            Stmt::With { bindings, body } => {
                return self.in_frame(self.current, |walk| {
                    for (target, value) in bindings {
                        let value = walk.eval(value)?;
                        walk.assign(target, value)?;
                    }
                    walk.body(body)
                });
            }
            Stmt::Group(body) => return self.body(body),
            Stmt::Break => return Ok(Flow::Break),
            Stmt::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn capture_in_frame(&mut self, body: &'a [Node]) -> Result<Value> {
        self.in_frame(self.current, |walk| walk.capture(|w| w.body(body).map(|_| ())))
    }

    fn call_block(&mut self, call: &'a Expr, caller: &'a Macro) -> Result<Rc<str>> {
        self.macros.push(Defined { code: caller, frame: self.current });
        let caller = Value::Macro(self.macros.len() - 1);
        let Kind::Chain(base, links) = &call.kind else { return wrong("call needs a function") };
        let Some((Link::Call(args), before)) = links.split_last() else { return wrong("call needs a function") };
        let function = self.chain(base, before)?;
        let mut given = self.given(args)?;
        given.named.push(("caller", caller));
        let value = self.call(&function, given)?;
        format::to_text(&value, &self.budget)
    }

    fn assign(&mut self, target: &'a Target, value: Value) -> Result<()> {
        match target {
            Target::Name(name) => self.define(name, value),
            Target::Attr(name, attr) => {
                let Value::Namespace(n) = self.lookup(name) else {
                    return wrong(format!("{name} is not a namespace, so {name}.{attr} cannot be set"));
                };
                if let Some(namespace) = self.namespaces.get_mut(n) {
                    namespace.insert(Rc::from(&**attr), value);
                }
            }
            Target::Tuple(targets) => {
                let items = value.iter(&self.budget)?;
                if items.items.len() != targets.len() {
                    let reason = format!("cannot give {} values to {} names", items.items.len(), targets.len());
                    return wrong(reason);
                }
                for (target, item) in targets.iter().zip(&items.items) {
                    self.assign(target, item.clone())?;
                }
            }
        }
        Ok(())
    }

    fn for_loop(&mut self, code: &'a For, over: &Value, level: usize) -> Result<()> {
        let mut items = over.iter(&self.budget)?;
        if let Some(condition) = &code.condition {
            items = self.in_frame(self.current, |walk| walk.filtered(code, condition, &items))?;
        }
        if items.items.is_empty() {
            return self.body(&code.otherwise).map(|_| ());
        }
        let recursive = code.is_recursive.then(|| {
            self.loops.push(code);
            self.loops.len() - 1
        });
        let state = Rc::new(Loop { items: items.clone(), index: Cell::new(0), level, recursive });
        self.in_frame(self.current, |walk| {
            for (i, item) in items.items.iter().enumerate() {
                walk.budget.pay(1)?;
                state.index.set(i);
                if let Some(frame) = walk.frames.last_mut() {
                    frame.names.clear();
                }
                walk.define("loop", Value::Loop(state.clone()));
                walk.assign(&code.target, item.clone())?;
                if walk.body(&code.body)? == Flow::Break {
                    break;
                }
            }
            Ok(())
        })
    }

    /// The items for which a loop's `if` holds.
    fn filtered(&mut self, code: &'a For, condition: &'a Expr, items: &List) -> Result<Rc<List>> {
        let mut kept = Vec::new();
        for item in &items.items {
            self.budget.pay(1)?;
            self.assign(&code.target, item.clone())?;
            if self.eval(condition)?.is_true() {
                kept.push(item.clone());
            }
        }
        Value::list(kept)?.iter(&self.budget)
    }

    /// `loop(items)` in a recursive loop: what the loop writes for them.
    pub(super) fn recurse(&mut self, state: &Loop, items: &Value) -> Result<Value> {
        let Some(code) = state.recursive.and_then(|i| self.loops.get(i)).copied() else {
            return wrong("loop() in a loop that is not recursive");
        };
        self.deeper(|walk| walk.capture(|w| w.for_loop(code, items, state.level + 1)))
    }

    /// Calls a macro: its frame is inside of the one it was defined in, where that still exists.
    pub(super) fn call_macro(&mut self, index: usize, given: Given<'a>) -> Result<Value> {
        let Some(Defined { code, frame }) = self.macros.get(index) else { return wrong("unknown macro") };
        let (code, parent) = (*code, if *frame < self.frames.len() { *frame } else { 0 });
        self.deeper(|walk| {
            walk.in_frame(parent, |w| {
                w.bind(code, given)?;
                w.capture(|w| w.body(&code.body).map(|_| ()))
            })
        })
    }

    fn bind(&mut self, code: &'a Macro, given: Given<'a>) -> Result<()> {
        let mut plain = given.plain.into_iter();
        let mut named = given.named;
        for (name, default) in &code.params {
            let by_name = named.iter().position(|(n, _)| **n == **name).map(|i| named.swap_remove(i).1);
            let value = match (plain.next().or(by_name), default) {
                (Some(value), _) => value,
                (None, Some(default)) => self.eval(default)?,
                (None, None) => Value::Undefined,
            };
            self.define(name, value);
        }
        let rest: Vec<Value> = plain.collect();
        if !rest.is_empty() {
            let rest = Value::tuple(rest)?;
            self.define("varargs", rest);
        }
        if let Some(i) = named.iter().position(|(n, _)| *n == "caller") {
            let caller = named.swap_remove(i).1;
            self.define("caller", caller);
        }
        if !named.is_empty() {
            let named = Value::map(named.into_iter().map(|(n, v)| (Key::Str(n.into()), v)).collect())?;
            self.define("kwargs", named);
        }
        Ok(())
    }

    pub(super) fn eval(&mut self, expr: &'a Expr) -> Result<Value> {
        self.budget.pay(1)?;
        self.deeper(|walk| walk.expression(&expr.kind)).map_err(|fail| fail.at(expr.line))
    }

    fn expression(&mut self, kind: &'a Kind) -> Result<Value> {
        match kind {
            Kind::None => Ok(Value::None),
            Kind::Bool(b) => Ok(Value::Bool(*b)),
            Kind::Int(i) => Ok(Value::Int(*i)),
            Kind::Float(f) => Ok(Value::Float(*f)),
            Kind::Str(s) => {
                self.budget.pay_bytes(s.len() as u64)?;
                Ok(Value::str(&**s))
            }
            Kind::Name(name) => Ok(self.lookup(name)),
            Kind::List(items) => Value::list(self.all(items)?),
            Kind::Tuple(items) => Value::tuple(self.all(items)?),
            Kind::Dict(pairs) => self.dict(pairs),
            Kind::Chain(base, links) => self.chain(base, links),
            Kind::Math(first, rest) => {
                let mut value = self.eval(first)?;
                for (op, operand) in rest {
                    let operand = self.eval(operand)?;
                    value = ops::math(*op, &value, &operand, &self.budget)?;
                }
                Ok(value)
            }
            Kind::Concat(items) => {
                let mut text = String::new();
                for item in items {
                    let value = self.eval(item)?;
                    format::display(&value, &mut text, &self.budget)?;
                }
                self.budget.pay_bytes(text.len() as u64)?;
                Ok(Value::str(text))
            }
            Kind::Neg(inner) => ops::negate(&self.eval(inner)?),
            Kind::Pos(inner) => self.eval(inner),
            Kind::Not(inner) => Ok(Value::Bool(!self.eval(inner)?.is_true())),
            Kind::And(items) => self.until(items, false),
            Kind::Or(items) => self.until(items, true),
            Kind::Compare(first, rest) => self.compare(first, rest),
            Kind::Cond(choices, otherwise) => {
                for (value, condition) in choices {
                    if self.eval(condition)?.is_true() {
                        return self.eval(value);
                    }
                }
                otherwise.as_ref().map_or(Ok(Value::Undefined), |value| self.eval(value))
            }
        }
    }

    fn all(&mut self, items: &'a [Expr]) -> Result<Vec<Value>> {
        self.budget.pay_items(items.len())?;
        items.iter().map(|item| self.eval(item)).collect()
    }

    fn dict(&mut self, pairs: &'a [(Expr, Expr)]) -> Result<Value> {
        self.budget.pay_items(pairs.len() * 2)?;
        let mut entries = IndexMap::new();
        for (key, value) in pairs {
            let key = Key::of(&self.eval(key)?)?;
            let value = self.eval(value)?;
            entries.insert(key, value);
        }
        Value::map(entries)
    }

    /// The first value whose truth is `wanted`, else the last.
    fn until(&mut self, items: &'a [Expr], wanted: bool) -> Result<Value> {
        let mut value = Value::Undefined;
        for item in items {
            value = self.eval(item)?;
            if value.is_true() == wanted {
                break;
            }
        }
        Ok(value)
    }

    fn compare(&mut self, first: &'a Expr, rest: &'a [(super::ast::Compare, Expr)]) -> Result<Value> {
        let mut left = self.eval(first)?;
        for (op, right) in rest {
            let right = self.eval(right)?;
            if !ops::compare(*op, &left, &right, &self.budget)? {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    fn pipe(&mut self, value: Value, filters: &'a [Link]) -> Result<Value> {
        self.links(value, filters, None)
    }

    fn chain(&mut self, base: &'a Expr, links: &'a [Link]) -> Result<Value> {
        let value = self.eval(base)?;
        let name = if let Kind::Name(name) = &base.kind { Some(&**name) } else { None };
        self.links(value, links, name)
    }

    /// Follows the links of a chain; `name` is what the chain begins with, for messages.
    fn links(&mut self, mut value: Value, links: &'a [Link], name: Option<&str>) -> Result<Value> {
        let mut rest = links.iter();
        let mut is_first = true;
        while let Some(link) = rest.next() {
            self.budget.pay(1)?;
            if value.is_undefined() && is_first && !matches!(link, Link::Filter(..) | Link::Test { .. }) {
                return wrong(format!("{} is undefined", name.unwrap_or("a value")));
            }
            is_first = false;
            value = match link {
                Link::Attr(attr) => match rest.as_slice().first() {
                    Some(Link::Call(args)) => {
                        let _ = rest.next();
                        let given = self.given(args)?;
                        self.call_method(&value, attr, given)?
                    }
                    _ => self.attribute(&value, attr)?,
                },
                Link::Index(at) => {
                    let at = self.eval(at)?;
                    match (&value, at.as_str()) {
                        (Value::Loop(_) | Value::Namespace(_), Some(attr)) => self.attribute(&value, attr)?,
                        _ => ops::index(&value, &at, &self.budget)?,
                    }
                }
                Link::Slice(parts) => self.slice(&value, parts)?,
                Link::Call(args) => {
                    let given = self.given(args)?;
                    self.call(&value, given)?
                }
                Link::Filter(filter, args) => {
                    let given = self.given(args)?;
                    self.filter(filter, value, given)?
                }
                Link::Test { name, args, is_negated } => {
                    let given = self.given(args)?;
                    Value::Bool(self.test(name, &value, given)? != *is_negated)
                }
            };
        }
        Ok(value)
    }

    /// A filter that another filter applies (`map`): it may nest.
    pub(super) fn nested_filter(&mut self, name: &str, value: Value, given: Given<'a>) -> Result<Value> {
        self.deeper(|walk| walk.filter(name, value, given))
    }

    fn slice(&mut self, value: &Value, parts: &'a [Option<Expr>; 3]) -> Result<Value> {
        let mut bounds = [None; 3];
        for (bound, part) in bounds.iter_mut().zip(parts) {
            let Some(part) = part else { continue };
            *bound = match self.eval(part)? {
                Value::None => None,
                other => match other.as_int() {
                    Some(i) => Some(i),
                    None => return wrong(format!("a slice needs integers, not {}", other.kind())),
                },
            };
        }
        ops::slice(value, bounds, &self.budget)
    }

    pub(super) fn given(&mut self, args: &'a super::ast::Args) -> Result<Given<'a>> {
        let plain = self.all(&args.plain)?;
        let mut named = Vec::with_capacity(args.named.len());
        for (name, value) in &args.named {
            named.push((&**name, self.eval(value)?));
        }
        Ok(Given { plain, named })
    }
}

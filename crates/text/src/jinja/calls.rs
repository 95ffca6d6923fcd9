//! Calls, and the attributes of what is not data: loops, namespaces, methods.
use super::eval::Walk;
use super::ops;
use super::value::{Loop, Result, Value, wrong};

/// Arguments of a call.
#[derive(Debug, Default)]
pub(super) struct Given<'a> {
    pub(super) plain: Vec<Value>,
    pub(super) named: Vec<(&'a str, Value)>,
}

impl Given<'_> {
    /// The argument at this place or with this name.
    pub(super) fn get(&self, place: usize, name: &str) -> Option<&Value> {
        self.plain.get(place).or_else(|| self.named.iter().find(|(n, _)| *n == name).map(|(_, v)| v))
    }

    /// The same, where it must be there.
    pub(super) fn need(&self, place: usize, name: &str) -> Result<&Value> {
        self.get(place, name).map_or_else(|| wrong(format!("argument {name} is missing")), Ok)
    }

    /// A string argument.
    pub(super) fn text(&self, place: usize, name: &str) -> Result<Option<&str>> {
        match self.get(place, name) {
            None | Some(Value::None | Value::Undefined) => Ok(None),
            Some(Value::Str(s)) => Ok(Some(s)),
            Some(other) => wrong(format!("argument {name} must be a string, not {}", other.kind())),
        }
    }

    /// An integer argument.
    pub(super) fn int(&self, place: usize, name: &str) -> Result<Option<i128>> {
        match self.get(place, name) {
            None | Some(Value::None | Value::Undefined) => Ok(None),
            Some(value) => match value.as_int() {
                Some(i) => Ok(Some(i)),
                None => wrong(format!("argument {name} must be an integer, not {}", value.kind())),
            },
        }
    }

    /// A flag, false if it is not given.
    pub(super) fn flag(&self, place: usize, name: &str) -> bool {
        self.get(place, name).is_some_and(Value::is_true)
    }
}

impl<'a> Walk<'a> {
    /// `value(...)`
    pub(super) fn call(&mut self, function: &Value, given: Given<'a>) -> Result<Value> {
        match function {
            Value::Macro(index) => self.call_macro(*index, given),
            Value::Function(name) => self.call_function(name, given),
            Value::Loop(state) => {
                let items = given.need(0, "iterable")?;
                self.recurse(state, items)
            }
            Value::Counter(index) => self.next_of(*index),
            other => wrong(format!("{} cannot be called", other.kind())),
        }
    }

    /// `value.name(...)`
    pub(super) fn call_method(&mut self, value: &Value, name: &str, given: Given<'a>) -> Result<Value> {
        match value {
            Value::Str(s) => super::methods::of_string(s, name, &given, &self.budget),
            Value::List(list) => super::methods::of_list(list, name, &given, &self.budget),
            Value::Map(map) if super::methods::has_map(name) => super::methods::of_map(map, name, &given, &self.budget),
            Value::Loop(state) if name == "cycle" => {
                let n = given.plain.len();
                let at = state.index.get().checked_rem(n);
                at.and_then(|i| given.plain.get(i).cloned()).map_or_else(|| wrong("cycle needs values"), Ok)
            }
            Value::Counter(index) if name == "next" => self.next_of(*index),
            Value::Map(_) | Value::Namespace(_) => {
                let member = self.attribute(value, name)?;
                if member.is_undefined() {
                    return wrong(format!("{} has no method {name}", value.kind()));
                }
                self.call(&member, given)
            }
            Value::Undefined => wrong(format!("cannot call {name} of an undefined value")),
            other => wrong(format!("{} has no method {name}", other.kind())),
        }
    }

    /// `value.name`
    pub(super) fn attribute(&mut self, value: &Value, name: &str) -> Result<Value> {
        match value {
            Value::Loop(state) => Ok(of_loop(state, name)),
            Value::Namespace(n) => {
                let found = self.namespaces.get(*n).and_then(|names| names.get(name));
                Ok(found.cloned().unwrap_or(Value::Undefined))
            }
            Value::Macro(n) if name == "name" => {
                Ok(self.macros.get(*n).map_or(Value::Undefined, |m| Value::str(&*m.code.name)))
            }
            Value::Map(map) if super::methods::has_map(name) && map.get(name).is_none() => {
                Ok(Value::Function("method"))
            }
            Value::Str(_) if super::methods::has_string(name) => Ok(Value::Function("method")),
            _ => ops::member(value, name),
        }
    }

    fn next_of(&mut self, index: usize) -> Result<Value> {
        let Some(counter) = self.counters.get_mut(index) else { return Ok(Value::Undefined) };
        let used = counter.used;
        counter.used = used.saturating_add(1);
        let items = &counter.items.items;
        if counter.is_joiner {
            return Ok(if used == 0 { Value::str("") } else { items.first().cloned().unwrap_or(Value::Undefined) });
        }
        let at = used.checked_rem(items.len());
        Ok(at.and_then(|i| items.get(i).cloned()).unwrap_or(Value::Undefined))
    }
}

fn of_loop(state: &Loop, name: &str) -> Value {
    let (at, n) = (state.index.get(), state.items.items.len());
    let int = |i: usize| Value::Int(i as i128);
    let item = |i: Option<usize>| i.and_then(|i| state.items.items.get(i).cloned()).unwrap_or(Value::Undefined);
    match name {
        "index" => int(at + 1),
        "index0" => int(at),
        "revindex" => int(n - at),
        "revindex0" => int(n - at - 1),
        "first" => Value::Bool(at == 0),
        "last" => Value::Bool(at + 1 == n),
        "length" => int(n),
        "depth" => int(state.level + 1),
        "depth0" => int(state.level),
        "previtem" => item(at.checked_sub(1)),
        "nextitem" => item(at.checked_add(1)),
        _ => Value::Undefined,
    }
}

//! The functions that a template finds without importing anything.
use super::calls::Given;
use super::eval::{Counter, Walk};
use super::value::{Fail, FailKind, Key, Result, Value, wrong};
use super::{format, time};
use std::collections::HashMap;
use std::rc::Rc;

const NAMES: &[&str] = &["range", "namespace", "dict", "raise_exception", "joiner", "cycler"];

/// The function with this name.
pub(super) fn named(name: &str, has_clock: bool) -> Option<&'static str> {
    if has_clock && name == "strftime_now" {
        return Some("strftime_now");
    }
    NAMES.iter().copied().find(|n| *n == name)
}

impl<'a> Walk<'a> {
    pub(super) fn call_function(&mut self, name: &'static str, given: Given<'a>) -> Result<Value> {
        match name {
            "range" => self.range(&given),
            "namespace" => self.namespace(given),
            "dict" => {
                let mut entries = match given.plain.first() {
                    Some(start) => self.dict_of(start)?,
                    None => indexmap::IndexMap::new(),
                };
                entries.extend(given.named.into_iter().map(|(n, v)| (Key::Str(n.into()), v)));
                Value::map(entries)
            }
            "raise_exception" => {
                let message = given.get(0, "message").cloned().unwrap_or(Value::Undefined);
                let message = format::to_text(&message, &self.budget)?.to_string();
                Err(Fail { line: 0, kind: FailKind::Raised(message) })
            }
            "strftime_now" => {
                let format = given.text(0, "format")?.unwrap_or("%Y-%m-%d");
                self.budget.pay_bytes((format.len() as u64).saturating_mul(16))?;
                Ok(Value::str(time::strftime(self.now_s.unwrap_or(0), format)))
            }
            "joiner" => {
                let separator = given.get(0, "sep").cloned().unwrap_or(Value::str(", "));
                self.counter(vec![separator], true)
            }
            "cycler" => self.counter(given.plain, false),
            other => wrong(format!("{other} cannot be called on its own")),
        }
    }

    /// The entries of `dict(mapping)` or `dict(pairs)`.
    fn dict_of(&self, start: &Value) -> Result<indexmap::IndexMap<Key, Value>> {
        if let Value::Map(map) = start {
            self.budget.pay_items(map.entries.len() * 2)?;
            return Ok(map.entries.clone());
        }
        let mut entries = indexmap::IndexMap::new();
        for pair in &start.iter(&self.budget)?.items {
            self.budget.pay(2)?;
            match pair.iter(&self.budget)?.items.as_slice() {
                [key, value] => entries.insert(Key::of(key)?, value.clone()),
                _ => return wrong("dict needs pairs"),
            };
        }
        Ok(entries)
    }

    fn counter(&mut self, items: Vec<Value>, is_joiner: bool) -> Result<Value> {
        self.budget.pay_items(items.len() + 4)?;
        let items = Value::list(items)?.iter(&self.budget)?;
        self.counters.push(Counter { items, used: 0, is_joiner });
        Ok(Value::Counter(self.counters.len() - 1))
    }

    fn namespace(&mut self, given: Given<'a>) -> Result<Value> {
        self.budget.pay_items(given.named.len() + 4)?;
        let mut names: HashMap<Rc<str>, Value> = HashMap::new();
        if let Some(Value::Map(map)) = given.plain.first() {
            self.budget.pay_items(map.entries.len())?;
            for (key, value) in &map.entries {
                if let Key::Str(name) = key {
                    names.insert(name.clone(), value.clone());
                }
            }
        }
        names.extend(given.named.into_iter().map(|(n, v)| (Rc::from(n), v)));
        self.namespaces.push(names);
        Ok(Value::Namespace(self.namespaces.len() - 1))
    }

    fn range(&mut self, given: &Given<'a>) -> Result<Value> {
        let first = given.int(0, "start")?;
        let (start, stop) = match (first, given.int(1, "stop")?) {
            (Some(stop), None) => (0, stop),
            (Some(start), Some(stop)) => (start, stop),
            (None, _) => return wrong("range needs an end"),
        };
        let step = given.int(2, "step")?.unwrap_or(1);
        if step == 0 {
            return wrong("range cannot have step 0");
        }
        let mut items = Vec::new();
        let mut at = start;
        while if step > 0 { at < stop } else { at > stop } {
            self.budget.pay(1)?;
            items.push(Value::Int(at));
            let Some(next) = at.checked_add(step) else { break };
            at = next;
        }
        Value::list(items)
    }
}

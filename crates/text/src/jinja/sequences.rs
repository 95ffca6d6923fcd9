//! Jinja's filters of lists and mappings.
use super::calls::Given;
use super::eval::Walk;
use super::value::{Budget, Key, List, Result, Value, wrong};
use super::{methods, ops};
use std::cmp::Ordering;

pub(super) const NAMES: &[&str] = &[
    "join",
    "first",
    "last",
    "list",
    "items",
    "dictsort",
    "map",
    "select",
    "reject",
    "selectattr",
    "rejectattr",
    "sort",
    "reverse",
    "unique",
    "batch",
    "slice",
    "groupby",
    "sum",
    "min",
    "max",
];

impl<'a> Walk<'a> {
    pub(super) fn sequence_filter(&mut self, name: &str, value: &Value, mut given: Given<'a>) -> Result<Value> {
        match name {
            "items" => match value {
                Value::Map(map) => return methods::of_map(map, "items", &given, &self.budget),
                Value::Undefined => return Value::list(Vec::new()),
                other => return wrong(format!("items needs a mapping, not {}", other.kind())),
            },
            "dictsort" => return self.dictsort(value, &given),
            "join" => {
                let separator = given.text(0, "d")?.unwrap_or("").to_string();
                return match given.get(1, "attribute").cloned() {
                    None => methods::join(value, &separator, &self.budget),
                    Some(path) => {
                        let list = value.iter(&self.budget)?;
                        let items = self.attributes(&list, &path)?;
                        methods::join(&Value::list(items)?, &separator, &self.budget)
                    }
                };
            }
            "reverse" => {
                if let Value::Str(s) = value {
                    self.budget.pay_bytes(s.len() as u64)?;
                    return Ok(Value::str(s.chars().rev().collect::<String>()));
                }
            }
            _ => {}
        }
        // As in jinja2, these take anything that is false for an empty list.
        let takes_false = matches!(name, "map" | "select" | "reject" | "selectattr" | "rejectattr");
        let value = if takes_false && !value.is_true() { &Value::Undefined } else { value };
        let list = value.iter(&self.budget)?;
        self.budget.pay_items(list.items.len())?;
        match name {
            "first" => Ok(list.items.first().cloned().unwrap_or(Value::Undefined)),
            "last" => Ok(list.items.last().cloned().unwrap_or(Value::Undefined)),
            "list" => Value::list(list.items.clone()),
            "reverse" => Value::list(list.items.iter().rev().cloned().collect()),
            "map" => self.map_filter(&list, given),
            "select" | "reject" => {
                let test = if given.plain.is_empty() { None } else { Some(given.plain.remove(0)) };
                self.pick(&list, None, test, given, name == "select")
            }
            "selectattr" | "rejectattr" => {
                if given.plain.is_empty() {
                    return wrong(format!("{name} needs an attribute"));
                }
                let path = given.plain.remove(0);
                let test = if given.plain.is_empty() { None } else { Some(given.plain.remove(0)) };
                self.pick(&list, Some(path), test, given, name == "selectattr")
            }
            "sort" => self.sort(&list, &given),
            "unique" => self.unique(&list, &given),
            "min" | "max" => self.extreme(&list, &given, name == "max"),
            "sum" => self.sum(&list, &given),
            "batch" | "slice" => self.cut(&list, &given, name == "batch"),
            "groupby" => self.groupby(&list, &given),
            _ => wrong(format!("unknown filter {name}")),
        }
    }

    /// `item.a.b.0` for a path `"a.b.0"` or an index.
    fn path(&mut self, item: &Value, path: &Value) -> Result<Value> {
        let Some(text) = path.as_str() else { return ops::index(item, path, &self.budget) };
        let mut value = item.clone();
        for name in text.split('.') {
            self.budget.pay(1)?;
            value = match (value.is_undefined(), name.parse::<i128>()) {
                (true, _) => return Ok(Value::Undefined),
                (_, Ok(i)) => ops::index(&value, &Value::Int(i), &self.budget)?,
                _ => ops::member(&value, name)?,
            };
        }
        Ok(value)
    }

    fn attributes(&mut self, list: &List, path: &Value) -> Result<Vec<Value>> {
        list.items.iter().map(|item| self.path(item, path)).collect()
    }

    /// What to compare items by: an attribute of them, lower case unless case counts.
    fn sort_keys(&mut self, list: &List, given: &Given<'_>, case_at: usize, attr_at: usize) -> Result<Vec<Value>> {
        let case_counts = given.flag(case_at, "case_sensitive");
        let path = given.get(attr_at, "attribute").filter(|p| !matches!(p, Value::None)).cloned();
        let mut keys = Vec::with_capacity(list.items.len());
        for item in &list.items {
            let key = match &path {
                Some(path) => self.path(item, path)?,
                None => item.clone(),
            };
            keys.push(match &key {
                Value::Str(s) if !case_counts => {
                    self.budget.pay_bytes(s.len() as u64)?;
                    Value::str(s.to_lowercase())
                }
                _ => key,
            });
        }
        Ok(keys)
    }

    fn sort(&mut self, list: &List, given: &Given<'a>) -> Result<Value> {
        let keys = self.sort_keys(list, given, 1, 2)?;
        let mut order = sorted(&keys, &self.budget)?;
        if given.flag(0, "reverse") {
            // Equal items keep their order, as in Python.
            order = stable_reverse(&keys, order, &self.budget)?;
        }
        Value::list(order.into_iter().map(|i| list.items[i].clone()).collect())
    }

    fn dictsort(&mut self, value: &Value, given: &Given<'a>) -> Result<Value> {
        let Value::Map(map) = value else { return wrong(format!("dictsort needs a mapping, not {}", value.kind())) };
        let by_value = given.text(1, "by")? == Some("value");
        self.budget.pay_items(map.entries.len().saturating_mul(4))?;
        let part = |(k, v): (&Key, &Value)| if by_value { v.clone() } else { k.value() };
        let parts = Value::list(map.entries.iter().map(part).collect())?.iter(&self.budget)?;
        let keys = self.sort_keys(&parts, given, 0, usize::MAX)?;
        let mut order = sorted(&keys, &self.budget)?;
        if given.flag(2, "reverse") {
            order = stable_reverse(&keys, order, &self.budget)?;
        }
        let pair = |i: usize| match map.entries.get_index(i) {
            Some((k, v)) => Value::tuple(vec![k.value(), v.clone()]),
            None => Ok(Value::Undefined),
        };
        Value::list(order.into_iter().map(pair).collect::<Result<_>>()?)
    }

    #[allow(clippy::mutable_key_type)] // `Key::of` takes no loops, the only values with a cell
    fn unique(&mut self, list: &List, given: &Given<'a>) -> Result<Value> {
        let keys = self.sort_keys(list, given, 0, 1)?;
        let mut seen = std::collections::HashSet::new();
        let mut others: Vec<&Value> = Vec::new();
        let mut kept = Vec::new();
        for (item, key) in list.items.iter().zip(&keys) {
            let is_new = match Key::of(key) {
                Ok(key) => seen.insert(key),
                Err(_) => {
                    let mut is_new = true;
                    for other in &others {
                        is_new = is_new && !ops::equal(key, other, &self.budget)?;
                    }
                    others.push(key);
                    is_new
                }
            };
            if is_new {
                kept.push(item.clone());
            }
        }
        Value::list(kept)
    }

    fn extreme(&mut self, list: &List, given: &Given<'a>, wants_max: bool) -> Result<Value> {
        let keys = self.sort_keys(list, given, 0, 1)?;
        let mut best: Option<usize> = None;
        for (i, key) in keys.iter().enumerate() {
            let wins = match best {
                None => true,
                Some(b) => {
                    let wanted = if wants_max { Ordering::Greater } else { Ordering::Less };
                    ops::order(key, &keys[b], &self.budget)? == wanted
                }
            };
            best = if wins { Some(i) } else { best };
        }
        Ok(best.map_or(Value::Undefined, |i| list.items[i].clone()))
    }

    fn sum(&mut self, list: &List, given: &Given<'a>) -> Result<Value> {
        let items = match given.get(0, "attribute").cloned() {
            Some(path) => self.attributes(list, &path)?,
            None => list.items.clone(),
        };
        let mut total = given.get(1, "start").cloned().unwrap_or(Value::Int(0));
        for item in &items {
            total = ops::math(super::ast::Math::Add, &total, item, &self.budget)?;
        }
        Ok(total)
    }

    /// `batch(n)`: lists of n items. `slice(n)`: n lists.
    fn cut(&mut self, list: &List, given: &Given<'a>, is_batch: bool) -> Result<Value> {
        let n = given.int(0, "count")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        if n == 0 {
            return wrong("batch and slice need a count above 0");
        }
        let fill = given.get(1, "fill_with").cloned();
        let len = list.items.len();
        self.budget.pay_items(n.saturating_add(len))?;
        let mut parts = Vec::new();
        let mut rest = list.items.as_slice();
        let n_parts = if is_batch { len.div_ceil(n) } else { n };
        for i in 0..n_parts {
            let wanted = if is_batch { n } else { len / n + usize::from(i < len % n) };
            let (part, more) = rest.split_at(wanted.min(rest.len()));
            rest = more;
            let mut part = part.to_vec();
            let full = if is_batch { n } else { len.div_ceil(n) };
            if let Some(fill) = &fill {
                part.resize(full.max(part.len()), fill.clone());
            }
            parts.push(Value::list(part)?);
        }
        Value::list(parts)
    }

    fn groupby(&mut self, list: &List, given: &Given<'a>) -> Result<Value> {
        let path = given.need(0, "attribute")?.clone();
        let mut keys = self.attributes(list, &path)?;
        if let Some(default) = given.get(1, "default") {
            for key in keys.iter_mut().filter(|k| k.is_undefined()) {
                *key = default.clone();
            }
        }
        let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
        for i in sorted(&keys, &self.budget)? {
            self.budget.pay(4)?;
            let is_same = match groups.last() {
                Some((key, _)) => ops::equal(key, &keys[i], &self.budget)?,
                None => false,
            };
            match groups.last_mut().filter(|_| is_same) {
                Some((_, items)) => items.push(list.items[i].clone()),
                None => groups.push((keys[i].clone(), vec![list.items[i].clone()])),
            }
        }
        let pair = |(key, items): (Value, Vec<Value>)| Value::tuple(vec![key, Value::list(items)?]);
        Value::list(groups.into_iter().map(pair).collect::<Result<_>>()?)
    }

    fn map_filter(&mut self, list: &List, mut given: Given<'a>) -> Result<Value> {
        if let Some(path) = given.named.iter().find(|(n, _)| *n == "attribute").map(|(_, v)| v.clone()) {
            let mut items = self.attributes(list, &path)?;
            if let Some(default) = given.get(usize::MAX, "default") {
                for item in items.iter_mut().filter(|v| v.is_undefined()) {
                    *item = default.clone();
                }
            }
            return Value::list(items);
        }
        if given.plain.is_empty() {
            return wrong("map needs a filter or an attribute");
        }
        let filter = given.plain.remove(0);
        let Some(name) = filter.as_str() else { return wrong("map needs the name of a filter") };
        let mut items = Vec::with_capacity(list.items.len());
        for item in &list.items {
            self.budget.pay_items(given.plain.len() + given.named.len())?;
            let args = Given { plain: given.plain.clone(), named: given.named.clone() };
            items.push(self.nested_filter(name, item.clone(), args)?);
        }
        Value::list(items)
    }

    fn pick(
        &mut self,
        list: &List,
        path: Option<Value>,
        test: Option<Value>,
        given: Given<'a>,
        wanted: bool,
    ) -> Result<Value> {
        let test = match &test {
            None => None,
            Some(Value::Str(name)) => Some(name.clone()),
            Some(other) => return wrong(format!("a test's name must be a string, not {}", other.kind())),
        };
        let mut kept = Vec::new();
        for item in &list.items {
            self.budget.pay_items(given.plain.len() + given.named.len())?;
            let value = match &path {
                Some(path) => self.path(item, path)?,
                None => item.clone(),
            };
            let holds = match &test {
                None => value.is_true(),
                Some(name) => {
                    let args = Given { plain: given.plain.clone(), named: given.named.clone() };
                    self.test(name, &value, args)?
                }
            };
            if holds == wanted {
                kept.push(item.clone());
            }
        }
        Value::list(kept)
    }
}

/// The order of keys, first to last; equal ones stay in place.
fn sorted(keys: &[Value], budget: &Budget) -> Result<Vec<usize>> {
    let mut order: Vec<usize> = (0..keys.len()).collect();
    let mut failed = None;
    order.sort_by(|&a, &b| {
        if failed.is_some() {
            return Ordering::Equal;
        }
        ops::order(&keys[a], &keys[b], budget).unwrap_or_else(|fail| {
            failed = Some(fail);
            Ordering::Equal
        })
    });
    failed.map_or(Ok(order), Err)
}

fn stable_reverse(keys: &[Value], order: Vec<usize>, budget: &Budget) -> Result<Vec<usize>> {
    let mut runs: Vec<Vec<usize>> = Vec::new();
    for i in order {
        let is_same = match runs.last().and_then(|run| run.first()) {
            Some(&first) => ops::equal(&keys[first], &keys[i], budget)?,
            None => false,
        };
        match runs.last_mut().filter(|_| is_same) {
            Some(run) => run.push(i),
            None => runs.push(vec![i]),
        }
    }
    Ok(runs.into_iter().rev().flatten().collect())
}

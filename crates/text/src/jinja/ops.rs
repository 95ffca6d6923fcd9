//! Operators as Python defines them, with checked arithmetic.
use super::ast::{Compare, Math};
use super::value::{Budget, Key, Result, Value, wrong};
use std::cmp::Ordering;
use std::rc::Rc;

fn impossible<T>(op: &str, a: &Value, b: &Value) -> Result<T> {
    wrong(format!("cannot compute {} {op} {}", a.kind(), b.kind()))
}

fn too_large<T>(op: &str) -> Result<T> {
    wrong(format!("the result of {op} is out of range"))
}

pub(super) fn math(op: Math, a: &Value, b: &Value, budget: &Budget) -> Result<Value> {
    let text = match op {
        Math::Add => "+",
        Math::Sub => "-",
        Math::Mul => "*",
        Math::Div => "/",
        Math::FloorDiv => "//",
        Math::Mod => "%",
        Math::Pow => "**",
    };
    match (op, a, b) {
        (Math::Add, Value::Str(x), Value::Str(y)) => {
            budget.pay_bytes(x.len() as u64 + y.len() as u64)?;
            return Ok(Value::str([&**x, &**y].concat()));
        }
        (Math::Add, Value::List(x), Value::List(y)) if x.is_tuple == y.is_tuple => {
            budget.pay_items(x.items.len() + y.items.len())?;
            let items = [x.items.as_slice(), y.items.as_slice()].concat();
            return if x.is_tuple { Value::tuple(items) } else { Value::list(items) };
        }
        (Math::Mul, Value::Str(_) | Value::List(_), _) if b.as_int().is_some() => return repeat(a, b, budget),
        (Math::Mul, _, Value::Str(_) | Value::List(_)) if a.as_int().is_some() => return repeat(b, a, budget),
        (Math::Mod, Value::Str(format), _) => return super::format::percent(format, b, budget),
        _ => {}
    }
    if let (Some(x), Some(y)) = (a.as_int(), b.as_int()) {
        return int_math(op, text, x, y);
    }
    match (a.as_float(), b.as_float()) {
        (Some(x), Some(y)) => float_math(op, x, y),
        _ => impossible(text, a, b),
    }
}

fn int_math(op: Math, text: &str, a: i128, b: i128) -> Result<Value> {
    let floor_div = || a.checked_div_euclid(b).map(|q| if b < 0 && a.rem_euclid(b) != 0 { q - 1 } else { q });
    let result = match op {
        Math::Add => a.checked_add(b),
        Math::Sub => a.checked_sub(b),
        Math::Mul => a.checked_mul(b),
        Math::Div | Math::FloorDiv | Math::Mod if b == 0 => return wrong("division by zero"),
        Math::Div => return Ok(Value::Float(a as f64 / b as f64)),
        Math::FloorDiv => floor_div(),
        Math::Mod => a.checked_rem_euclid(b).map(|r| if b < 0 && r != 0 { r + b } else { r }),
        Math::Pow if b < 0 => return Ok(Value::Float((a as f64).powf(b as f64))),
        Math::Pow => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
    };
    result.map_or_else(|| too_large(text), |i| Ok(Value::Int(i)))
}

fn float_math(op: Math, a: f64, b: f64) -> Result<Value> {
    if b == 0.0 && matches!(op, Math::Div | Math::FloorDiv | Math::Mod) {
        return wrong("division by zero");
    }
    Ok(Value::Float(match op {
        Math::Add => a + b,
        Math::Sub => a - b,
        Math::Mul => a * b,
        Math::Div => a / b,
        Math::FloorDiv => (a / b).floor(),
        Math::Mod => a - b * (a / b).floor(),
        Math::Pow => a.powf(b),
    }))
}

fn repeat(what: &Value, times: &Value, budget: &Budget) -> Result<Value> {
    let times = usize::try_from(times.as_int().unwrap_or(0).max(0)).unwrap_or(usize::MAX);
    match what {
        Value::Str(s) => {
            budget.pay_bytes((s.len() as u64).saturating_mul(times as u64))?;
            Ok(Value::str(s.repeat(times)))
        }
        Value::List(list) => {
            budget.pay_items(list.items.len().saturating_mul(times))?;
            let times = if list.items.is_empty() { 0 } else { times };
            let items = (0..times).flat_map(|_| list.items.iter().cloned()).collect();
            if list.is_tuple { Value::tuple(items) } else { Value::list(items) }
        }
        other => wrong(format!("{} cannot be repeated", other.kind())),
    }
}

pub(super) fn negate(value: &Value) -> Result<Value> {
    match (value.as_int(), value) {
        (Some(i), _) => i.checked_neg().map_or_else(|| too_large("-"), |i| Ok(Value::Int(i))),
        (_, Value::Float(f)) => Ok(Value::Float(-f)),
        _ => wrong(format!("cannot negate {}", value.kind())),
    }
}

pub(super) fn compare(op: Compare, a: &Value, b: &Value, budget: &Budget) -> Result<bool> {
    Ok(match op {
        Compare::Eq => equal(a, b, budget)?,
        Compare::Ne => !equal(a, b, budget)?,
        Compare::Lt => order(a, b, budget)? == Ordering::Less,
        Compare::Le => order(a, b, budget)? != Ordering::Greater,
        Compare::Gt => order(a, b, budget)? == Ordering::Greater,
        Compare::Ge => order(a, b, budget)? != Ordering::Less,
        Compare::In => contains(b, a, budget)?,
        Compare::NotIn => !contains(b, a, budget)?,
    })
}

pub(super) fn equal(a: &Value, b: &Value, budget: &Budget) -> Result<bool> {
    budget.pay_bytes(a.size().bytes.min(b.size().bytes))?;
    Ok(same(a, b))
}

/// Equality; the caller has paid for the smaller of the two.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Str(x), Value::Str(y)) => x == y,
        (Value::Undefined, Value::Undefined) | (Value::None, Value::None) => true,
        (Value::List(x), Value::List(y)) => {
            x.is_tuple == y.is_tuple
                && x.items.len() == y.items.len()
                && x.items.iter().zip(&y.items).all(|(i, j)| same(i, j))
        }
        (Value::Map(x), Value::Map(y)) => {
            let is_same = |(key, value): (&Key, &Value)| y.entries.get(key).is_some_and(|other| same(value, other));
            x.entries.len() == y.entries.len() && x.entries.iter().all(is_same)
        }
        (Value::Namespace(x), Value::Namespace(y))
        | (Value::Macro(x), Value::Macro(y))
        | (Value::Counter(x), Value::Counter(y)) => x == y,
        (Value::Function(x), Value::Function(y)) => x == y,
        (Value::Loop(x), Value::Loop(y)) => Rc::ptr_eq(x, y),
        _ => match (a.as_int(), b.as_int()) {
            (Some(x), Some(y)) => x == y,
            _ => matches!((a.as_float(), b.as_float()), (Some(x), Some(y)) if x == y),
        },
    }
}

pub(super) fn order(a: &Value, b: &Value, budget: &Budget) -> Result<Ordering> {
    budget.pay_bytes(a.size().bytes.min(b.size().bytes))?;
    ordered(a, b)
}

fn ordered(a: &Value, b: &Value) -> Result<Ordering> {
    match (a, b) {
        (Value::Str(x), Value::Str(y)) => Ok(x.cmp(y)),
        (Value::List(x), Value::List(y)) if x.is_tuple == y.is_tuple => {
            for (i, j) in x.items.iter().zip(&y.items) {
                if !same(i, j) {
                    return ordered(i, j);
                }
            }
            Ok(x.items.len().cmp(&y.items.len()))
        }
        _ => match (a.as_int().zip(b.as_int()), a.as_float().zip(b.as_float())) {
            (Some((x, y)), _) => Ok(x.cmp(&y)),
            (_, Some((x, y))) => Ok(x.partial_cmp(&y).unwrap_or(Ordering::Equal)),
            _ => wrong(format!("cannot compare {} with {}", a.kind(), b.kind())),
        },
    }
}

pub(super) fn contains(container: &Value, item: &Value, budget: &Budget) -> Result<bool> {
    match (container, item) {
        (Value::Str(s), Value::Str(part)) => {
            budget.pay_bytes(s.len() as u64 + part.len() as u64)?;
            Ok(s.contains(&**part))
        }
        (Value::Map(map), Value::Str(name)) => Ok(map.get(name).is_some()),
        (Value::Map(map), _) => Ok(map.entries.contains_key(&Key::of(item)?)),
        (Value::List(list), _) => {
            for other in &list.items {
                if equal(item, other, budget)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        (Value::Undefined, _) => Ok(false),
        _ => wrong(format!("cannot look for {} in {}", item.kind(), container.kind())),
    }
}

/// `value.name` and `value["name"]` of data; `Undefined` where there is none.
pub(super) fn member(value: &Value, name: &str) -> Result<Value> {
    match value {
        Value::Map(map) => Ok(map.get(name).cloned().unwrap_or(Value::Undefined)),
        Value::Undefined => wrong(format!("cannot read {name} of an undefined value")),
        _ => Ok(Value::Undefined),
    }
}

pub(super) fn index(value: &Value, at: &Value, budget: &Budget) -> Result<Value> {
    if let (Value::Map(_) | Value::Undefined, Value::Str(name)) = (value, at) {
        return member(value, name);
    }
    let position = |len: usize| {
        let i = at.as_int()?;
        usize::try_from(if i < 0 { i.checked_add(len as i128)? } else { i }).ok()
    };
    Ok(match value {
        Value::Map(map) => Key::of(at).ok().and_then(|k| map.entries.get(&k).cloned()).unwrap_or(Value::Undefined),
        Value::List(list) => {
            position(list.items.len()).and_then(|i| list.items.get(i).cloned()).unwrap_or(Value::Undefined)
        }
        Value::Str(s) => {
            budget.pay_bytes(s.len() as u64)?;
            let c = position(s.chars().count()).and_then(|i| s.chars().nth(i));
            c.map_or(Value::Undefined, |c| Value::str(c.encode_utf8(&mut [0; 4]) as &str))
        }
        Value::Undefined => return wrong("cannot read an item of an undefined value"),
        _ => Value::Undefined,
    })
}

/// `value[start:stop:step]`.
pub(super) fn slice(value: &Value, parts: [Option<i128>; 3], budget: &Budget) -> Result<Value> {
    let [start, stop, step] = parts;
    let step = step.unwrap_or(1);
    if step == 0 {
        return wrong("a slice cannot have step 0");
    }
    match value {
        Value::Str(s) => {
            budget.pay_bytes((s.len() as u64).saturating_mul(4))?;
            let chars: Vec<char> = s.chars().collect();
            let picked: String = slice_indices(chars.len(), start, stop, step).map(|i| chars[i]).collect();
            Ok(Value::str(picked))
        }
        Value::List(list) => {
            budget.pay_items(list.items.len())?;
            let picked = slice_indices(list.items.len(), start, stop, step).map(|i| list.items[i].clone()).collect();
            if list.is_tuple { Value::tuple(picked) } else { Value::list(picked) }
        }
        Value::Undefined => wrong("cannot slice an undefined value"),
        other => wrong(format!("cannot slice {}", other.kind())),
    }
}

/// Python's indices of a slice of `len` items; all are below `len`.
fn slice_indices(len: usize, start: Option<i128>, stop: Option<i128>, step: i128) -> impl Iterator<Item = usize> {
    let n = len as i128;
    let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
    let place = |at: i128| (if at < 0 { at.saturating_add(n) } else { at }).clamp(low, high);
    let start = start.map_or(if step > 0 { low } else { high }, place);
    let stop = stop.map_or(if step > 0 { high } else { low }, place);
    let mut at = start;
    std::iter::from_fn(move || {
        let is_inside = if step > 0 { at < stop } else { at > stop };
        let here = usize::try_from(at).ok().filter(|_| is_inside)?;
        at = at.saturating_add(step);
        Some(here)
    })
}

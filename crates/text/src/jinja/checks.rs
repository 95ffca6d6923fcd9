//! The tests after `is`.
use super::ast::Compare;
use super::calls::Given;
use super::eval::Walk;
use super::ops;
use super::value::{Result, Value, wrong};

const NAMES: &[&str] = &[
    "eq",
    "equalto",
    "==",
    "ne",
    "!=",
    "lt",
    "lessthan",
    "<",
    "le",
    "<=",
    "gt",
    "greaterthan",
    ">",
    "ge",
    ">=",
    "in",
    "defined",
    "undefined",
    "none",
    "string",
    "mapping",
    "sequence",
    "iterable",
    "number",
    "integer",
    "float",
    "boolean",
    "true",
    "false",
    "callable",
    "odd",
    "even",
    "divisibleby",
    "sameas",
    "lower",
    "upper",
    "escaped",
    "filter",
    "test",
];

impl<'a> Walk<'a> {
    pub(super) fn test(&mut self, name: &str, value: &Value, given: Given<'a>) -> Result<bool> {
        let compare = match name {
            "eq" | "equalto" | "==" => Some(Compare::Eq),
            "ne" | "!=" => Some(Compare::Ne),
            "lt" | "lessthan" | "<" => Some(Compare::Lt),
            "le" | "<=" => Some(Compare::Le),
            "gt" | "greaterthan" | ">" => Some(Compare::Gt),
            "ge" | ">=" => Some(Compare::Ge),
            "in" => Some(Compare::In),
            _ => None,
        };
        if let Some(op) = compare {
            return ops::compare(op, value, given.need(0, "other")?, &self.budget);
        }
        let rest = |by: i128| match value.as_int() {
            Some(_) if by == 0 => wrong("division by zero"),
            Some(i) => Ok(i.wrapping_rem_euclid(by)),
            None => wrong(format!("{} is not an integer", value.kind())),
        };
        Ok(match name {
            "defined" => !value.is_undefined(),
            "undefined" => value.is_undefined(),
            "none" => matches!(value, Value::None),
            "string" => matches!(value, Value::Str(_)),
            "mapping" => matches!(value, Value::Map(_)),
            "sequence" => matches!(value, Value::List(_) | Value::Str(_) | Value::Map(_) | Value::Undefined),
            "iterable" => matches!(value, Value::List(_) | Value::Str(_) | Value::Map(_) | Value::Undefined),
            "number" => matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_)),
            "integer" => matches!(value, Value::Int(_)),
            "float" => matches!(value, Value::Float(_)),
            "boolean" => matches!(value, Value::Bool(_)),
            "true" => matches!(value, Value::Bool(true)),
            "false" => matches!(value, Value::Bool(false)),
            "callable" => matches!(value, Value::Macro(_) | Value::Function(_)),
            "odd" => rest(2)? == 1,
            "even" => rest(2)? == 0,
            "divisibleby" => rest(given.int(0, "num")?.unwrap_or(0))? == 0,
            "sameas" => same_object(value, given.need(0, "other")?),
            "lower" => value.as_str().is_some_and(is_lower),
            "upper" => value.as_str().is_some_and(is_upper),
            "escaped" => false,
            "test" => value.as_str().is_some_and(|name| NAMES.contains(&name)),
            "filter" => value.as_str().is_some_and(super::filters::is_known),
            other => return wrong(format!("unknown test {other}")),
        })
    }
}

/// Python's `is`, as far as it can be told: equal values of one type.
fn same_object(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::None, Value::None) => true,
        (Value::Bool(x), Value::Bool(y)) => x == y,
        (Value::Int(x), Value::Int(y)) => x == y,
        (Value::Str(x), Value::Str(y)) => x == y,
        (Value::List(x), Value::List(y)) => std::rc::Rc::ptr_eq(x, y),
        (Value::Map(x), Value::Map(y)) => std::rc::Rc::ptr_eq(x, y),
        _ => false,
    }
}

/// Python's `str.islower`.
pub(super) fn is_lower(s: &str) -> bool {
    s.chars().any(char::is_lowercase) && !s.chars().any(char::is_uppercase)
}

/// Python's `str.isupper`.
pub(super) fn is_upper(s: &str) -> bool {
    s.chars().any(char::is_uppercase) && !s.chars().any(char::is_lowercase)
}

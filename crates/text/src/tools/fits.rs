//! Does a value fit a JSON schema? For calls that no grammar has checked, so it must never say yes wrongly: what it does not know, it
//! takes as no. Bounded by `SCHEMA_FIT_STEPS_MAX` and `SCHEMA_FIT_DEPTH_MAX`, because alternatives multiply and references may go in
//! circles.

use base::limits::{SCHEMA_FIT_DEPTH_MAX, SCHEMA_FIT_STEPS_MAX};
use serde_json::Value;

/// Keywords that demand nothing.
const NOTES: [&str; 11] = [
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$comment",
    "$schema",
    "$defs",
    "definitions",
];

/// True only if the value fits for certain.
pub(super) fn fits(schema: &Value, value: &Value) -> bool {
    Fit { root: schema, steps: SCHEMA_FIT_STEPS_MAX, depth: 0 }.fits(schema, value)
}

struct Fit<'a> {
    root: &'a Value,
    steps: usize,
    depth: usize,
}

impl<'a> Fit<'a> {
    fn fits(&mut self, schema: &'a Value, value: &Value) -> bool {
        if self.steps == 0 || self.depth == SCHEMA_FIT_DEPTH_MAX {
            return false;
        }
        (self.steps, self.depth) = (self.steps - 1, self.depth + 1);
        let fits = match schema {
            Value::Bool(any) => *any,
            Value::Object(keywords) => keywords.iter().all(|(k, of)| self.keyword(schema, k, of, value)),
            _ => false,
        };
        self.depth -= 1;
        fits
    }

    fn keyword(&mut self, schema: &'a Value, keyword: &str, of: &'a Value, value: &Value) -> bool {
        let each = |of: &'a Value| of.as_array().map(Vec::as_slice).unwrap_or_default();
        let size = |of: &Value| of.as_u64().and_then(|n| usize::try_from(n).ok());
        match keyword {
            _ if NOTES.contains(&keyword) => true,
            "type" => match of {
                Value::Array(types) => types.iter().any(|t| is_of_type(t, value)),
                one => is_of_type(one, value),
            },
            "const" => of == value,
            "enum" => each(of).contains(value),
            "anyOf" => each(of).iter().any(|s| self.fits(s, value)),
            "allOf" => each(of).iter().all(|s| self.fits(s, value)),
            "$ref" => {
                let pointer = of.as_str().and_then(|r| r.strip_prefix('#'));
                let target = pointer.filter(|p| !p.contains('%')).and_then(|p| self.root.pointer(p));
                target.is_some_and(|s| self.fits(s, value))
            }
            "properties" => match (of, value) {
                (Value::Object(of), Value::Object(o)) => {
                    o.iter().all(|(k, v)| of.get(k).is_none_or(|s| self.fits(s, v)))
                }
                (of, value) => of.is_object() && !value.is_object(),
            },
            "required" => match (of, value) {
                (Value::Array(names), Value::Object(o)) => {
                    names.iter().all(|n| n.as_str().is_some_and(|n| o.contains_key(n)))
                }
                (of, value) => of.is_array() && !value.is_object(),
            },
            "additionalProperties" => {
                let named = schema.get("properties").and_then(Value::as_object);
                let is_other = |k: &str| named.is_none_or(|named| !named.contains_key(k));
                value.as_object().is_none_or(|o| o.iter().all(|(k, v)| !is_other(k) || self.fits(of, v)))
            }
            "items" => value.as_array().is_none_or(|a| a.iter().all(|v| self.fits(of, v))),
            "minItems" => size(of).is_some_and(|n| value.as_array().is_none_or(|a| a.len() >= n)),
            "maxItems" => size(of).is_some_and(|n| value.as_array().is_none_or(|a| a.len() <= n)),
            "minLength" => size(of).is_some_and(|n| value.as_str().is_none_or(|s| s.chars().count() >= n)),
            "maxLength" => size(of).is_some_and(|n| value.as_str().is_none_or(|s| s.chars().count() <= n)),
            "minimum" => compared(value, of, |v, of| v >= of),
            "maximum" => compared(value, of, |v, of| v <= of),
            "exclusiveMinimum" => compared(value, of, |v, of| v > of),
            "exclusiveMaximum" => compared(value, of, |v, of| v < of),
            _ => false,
        }
    }
}

fn is_of_type(name: &Value, value: &Value) -> bool {
    match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("number") => value.is_number(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        _ => false,
    }
}

/// Other values than numbers have no bounds. Above 2^53 floats are too coarse to tell.
fn compared(value: &Value, of: &Value, holds: fn(f64, f64) -> bool) -> bool {
    let exact = |v: &Value| v.as_f64().filter(|x| x.abs() < 9_007_199_254_740_992.0);
    !value.is_number() || exact(value).zip(exact(of)).is_some_and(|(v, of)| holds(v, of))
}

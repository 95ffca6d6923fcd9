//! What kinds of value a schema allows, as far as its keywords say so directly: a parameter that is written bare, without JSON's
//! quotes, is a text or a number by its schema alone.

use serde_json::Value;

/// References and alternatives that are followed.
const DEPTH_MAX: usize = 8;

/// Kinds of value, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kinds(u8);

impl Kinds {
    pub(super) const TEXT: Self = Self(1);
    const NUMBER: Self = Self(2);
    const BOOL: Self = Self(4);
    const NULL: Self = Self(8);
    const OBJECT: Self = Self(16);
    const LIST: Self = Self(32);
    /// Nothing is said.
    pub(super) const ANY: Self = Self(63);

    /// Those of a property's schema; references are looked up in `root`.
    pub(super) fn of(schema: &Value, root: &Value) -> Self {
        Self::within(schema, root, DEPTH_MAX)
    }

    fn within(schema: &Value, root: &Value, depth: usize) -> Self {
        let (Some(o), Some(depth)) = (schema.as_object(), depth.checked_sub(1)) else { return Self::ANY };
        let list = |key: &str| o.get(key).and_then(Value::as_array);
        let any = |kinds: &mut dyn Iterator<Item = Self>| Self(kinds.fold(0, |all, k| all | k.0));
        let all = |kinds: &mut dyn Iterator<Item = Self>| Self(kinds.fold(Self::ANY.0, |all, k| all & k.0));
        let named = match o.get("type") {
            Some(Value::String(name)) => Self::named(name),
            Some(Value::Array(names)) => any(&mut names.iter().filter_map(Value::as_str).map(Self::named)),
            _ => Self::ANY,
        };
        let target = o.get("$ref").and_then(Value::as_str).and_then(|r| root.pointer(r.strip_prefix('#')?));
        let below = |s: &Value| Self::within(s, root, depth);
        all(&mut [
            Some(named),
            list("enum").map(|values| any(&mut values.iter().map(Self::of_value))),
            o.get("const").map(Self::of_value),
            list("anyOf").map(|s| any(&mut s.iter().map(below))),
            list("oneOf").map(|s| any(&mut s.iter().map(below))),
            list("allOf").map(|s| all(&mut s.iter().map(below))),
            target.map(below),
        ]
        .into_iter()
        .flatten())
    }

    fn named(name: &str) -> Self {
        match name {
            "string" => Self::TEXT,
            "integer" | "number" => Self::NUMBER,
            "boolean" => Self::BOOL,
            "null" => Self::NULL,
            "object" => Self::OBJECT,
            "array" => Self::LIST,
            _ => Self::ANY,
        }
    }

    fn of_value(value: &Value) -> Self {
        match value {
            Value::String(_) => Self::TEXT,
            Value::Number(_) => Self::NUMBER,
            Value::Bool(_) => Self::BOOL,
            Value::Null => Self::NULL,
            Value::Object(_) => Self::OBJECT,
            Value::Array(_) => Self::LIST,
        }
    }

    pub(super) fn has_text(self) -> bool {
        self.0 & Self::TEXT.0 != 0
    }

    /// The JSON that a bare value stands for; `None` if it is text. Python's spelling of constants is put right. Where nothing is
    /// known a number may as well be a text of digits: only what has brackets counts as JSON.
    pub(super) fn json(self, bare: &str) -> Option<&str> {
        let json = match bare.trim() {
            "True" => "true",
            "False" => "false",
            "None" => "null",
            other => other,
        };
        let kind = Self::of_value(&serde_json::from_str(json).ok()?);
        let known = if self == Self::ANY { Self(Self::OBJECT.0 | Self::LIST.0) } else { self };
        // A text in quotes has its quotes, where texts are written bare.
        (kind != Self::TEXT && (kind.0 & known.0 != 0 || !self.has_text())).then_some(json)
    }
}

/// The kinds of a tool's parameters.
pub(super) fn of_parameters(schema: &Value) -> Vec<(String, Kinds)> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().map(|(key, s)| (key.clone(), Kinds::of(s, schema))).collect()
}

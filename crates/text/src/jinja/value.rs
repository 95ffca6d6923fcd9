//! What templates compute with. Containers cannot change once made, and know their depth and printed size.
use base::limits::{TEMPLATE_DEPTH_MAX, TEMPLATE_FUEL};
use indexmap::{Equivalent, IndexMap};
use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

/// Why rendering stopped.
#[derive(Clone, Debug)]
pub(crate) struct Fail {
    /// Line of the statement or expression, 0 until it is known.
    pub(crate) line: u32,
    pub(crate) kind: FailKind,
}

#[derive(Clone, Debug)]
pub(crate) enum FailKind {
    /// A limit, by name and value.
    Limit(&'static str, u64),
    /// `raise_exception(message)`.
    Raised(String),
    /// Anything else, in words.
    Wrong(String),
}

pub(super) type Result<T> = std::result::Result<T, Fail>;

/// An error in words.
pub(super) fn wrong<T>(reason: impl Into<String>) -> Result<T> {
    Err(Fail { line: 0, kind: FailKind::Wrong(reason.into()) })
}

pub(super) fn limit<T>(name: &'static str, max: u64) -> Result<T> {
    Err(Fail { line: 0, kind: FailKind::Limit(name, max) })
}

/// Bytes that one step pays for.
pub(super) const BYTES_PER_STEP: u64 = 64;

/// What a rendering may still spend. One step is one expression, or 64 bytes of text made or read.
#[derive(Debug)]
pub(super) struct Budget {
    steps: Cell<u64>,
}

impl Budget {
    pub(super) fn new(steps: u64) -> Budget {
        Budget { steps: Cell::new(steps) }
    }

    /// Pays for `steps`, before the work is done.
    pub(super) fn pay(&self, steps: u64) -> Result<()> {
        match self.steps.get().checked_sub(steps) {
            Some(left) => {
                self.steps.set(left);
                Ok(())
            }
            None => {
                self.steps.set(0);
                limit("TEMPLATE_FUEL", TEMPLATE_FUEL)
            }
        }
    }

    /// Pays for `n` bytes of text.
    pub(super) fn pay_bytes(&self, n: u64) -> Result<()> {
        self.pay(1 + n / BYTES_PER_STEP)
    }

    /// Pays for a container of `n` items.
    pub(super) fn pay_items(&self, n: usize) -> Result<()> {
        self.pay(1 + n as u64 / 2)
    }

    /// How many bytes could still be paid for.
    pub(super) fn bytes_left(&self) -> u64 {
        self.steps.get().saturating_mul(BYTES_PER_STEP)
    }
}

/// How deep a value nests, and about how many bytes it prints as (shared parts counted each time).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    pub(super) depth: usize,
    pub(super) bytes: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Undefined,
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Rc<str>),
    List(Rc<List>),
    Map(Rc<Map>),
    /// Index of a namespace of this rendering: what can change lives outside of values, so there are no cycles.
    Namespace(usize),
    /// Index of a macro of this rendering.
    Macro(usize),
    Loop(Rc<Loop>),
    /// A function by name.
    Function(&'static str),
    /// A `joiner` or `cycler`: index of its state.
    Counter(usize),
}

#[derive(Debug)]
pub(super) struct List {
    pub(super) items: Vec<Value>,
    pub(super) is_tuple: bool,
    size: Size,
}

#[derive(Debug)]
pub(super) struct Map {
    pub(super) entries: IndexMap<Key, Value>,
    size: Size,
}

/// State of a `for` loop.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) items: Rc<List>,
    pub(super) index: Cell<usize>,
    pub(super) level: usize,
    /// Which loop of the rendering, where it is recursive.
    pub(super) recursive: Option<usize>,
}

/// A key of a map: as in Python, `1`, `1.0` and `True` are one key.
#[derive(Clone, Debug)]
pub(super) enum Key {
    Str(Rc<str>),
    /// None, a number, or a small tuple of keys.
    Other(Value),
}

/// Tuples that print longer than this are no keys: hashing them is not paid for.
const KEY_BYTES_MAX: u64 = 1024;

fn hash_value<H: Hasher>(value: &Value, state: &mut H) {
    match value {
        Value::Str(s) => (**s).hash(state),
        Value::Float(f) if *f == f.trunc() && f.abs() < 1e18 => Some(*f as i128).hash(state),
        Value::Float(f) => f.to_bits().hash(state),
        Value::List(list) => list.items.iter().for_each(|item| hash_value(item, state)),
        other => other.as_int().hash(state),
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Key::Str(s) => (**s).hash(state),
            Key::Other(value) => hash_value(value, state),
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        match (self, other) {
            (Key::Str(a), Key::Str(b)) => a == b,
            (Key::Other(a), Key::Other(b)) => super::ops::same(a, b),
            _ => false,
        }
    }
}
impl Eq for Key {}

/// Looks a key up without making one.
#[derive(Hash)]
struct Name<'a>(&'a str);

impl Equivalent<Key> for Name<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        matches!(key, Key::Str(s) if **s == *self.0)
    }
}

impl Key {
    pub(super) fn of(value: &Value) -> Result<Key> {
        match value {
            Value::Str(s) => Ok(Key::Str(s.clone())),
            Value::Int(_) | Value::Bool(_) | Value::Float(_) | Value::None => Ok(Key::Other(value.clone())),
            Value::List(list) if list.is_tuple && list.size.bytes <= KEY_BYTES_MAX => {
                for item in &list.items {
                    Key::of(item)?;
                }
                Ok(Key::Other(value.clone()))
            }
            other => wrong(format!("{} cannot be a key", other.kind())),
        }
    }

    pub(super) fn value(&self) -> Value {
        match self {
            Key::Str(s) => Value::Str(s.clone()),
            Key::Other(value) => value.clone(),
        }
    }
}

fn sum_sizes<'a>(values: impl Iterator<Item = &'a Value>) -> Result<Size> {
    let mut total = Size { depth: 0, bytes: 2 };
    for value in values {
        let size = value.size();
        total.depth = total.depth.max(size.depth);
        total.bytes = total.bytes.saturating_add(size.bytes).saturating_add(2);
    }
    total.depth += 1;
    if total.depth > TEMPLATE_DEPTH_MAX {
        return limit("TEMPLATE_DEPTH_MAX", TEMPLATE_DEPTH_MAX as u64);
    }
    Ok(total)
}

impl Map {
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.entries.get(&Name(name))
    }
}

impl Value {
    pub(super) fn str(text: impl Into<Rc<str>>) -> Value {
        Value::Str(text.into())
    }

    /// A list. Its items' memory is paid for by the caller.
    pub(super) fn list(items: Vec<Value>) -> Result<Value> {
        Ok(Value::List(Rc::new(List { size: sum_sizes(items.iter())?, items, is_tuple: false })))
    }

    pub(super) fn tuple(items: Vec<Value>) -> Result<Value> {
        Ok(Value::List(Rc::new(List { size: sum_sizes(items.iter())?, items, is_tuple: true })))
    }

    pub(super) fn map(entries: IndexMap<Key, Value>) -> Result<Value> {
        let mut size = sum_sizes(entries.values())?;
        for key in entries.keys() {
            size.bytes = size.bytes.saturating_add(match key {
                Key::Str(s) => s.len() as u64 + 4,
                Key::Other(value) => value.size().bytes + 2,
            });
        }
        Ok(Value::Map(Rc::new(Map { entries, size })))
    }

    pub(super) fn size(&self) -> Size {
        match self {
            Value::Str(s) => Size { depth: 0, bytes: s.len() as u64 + 2 },
            Value::List(list) => list.size,
            Value::Map(map) => map.size,
            Value::Loop(l) => Size { depth: l.items.size.depth + 1, bytes: 16 },
            _ => Size { depth: 0, bytes: 8 },
        }
    }

    /// Copies request data, which is known to be no deeper than `JSON_DEPTH_MAX`.
    pub(super) fn from_json(json: &serde_json::Value) -> Result<Value> {
        Ok(match json {
            serde_json::Value::Null => Value::None,
            serde_json::Value::Bool(b) => Value::Bool(*b),
            serde_json::Value::Number(n) => match (n.as_i128(), n.as_f64()) {
                (Some(i), _) => Value::Int(i),
                (None, f) => Value::Float(f.unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(s) => Value::str(s.as_str()),
            serde_json::Value::Array(a) => Value::list(a.iter().map(Value::from_json).collect::<Result<_>>()?)?,
            serde_json::Value::Object(o) => {
                let entry =
                    |(k, v): (&String, &serde_json::Value)| Ok((Key::Str(k.as_str().into()), Value::from_json(v)?));
                Value::map(o.iter().map(entry).collect::<Result<_>>()?)?
            }
        })
    }

    /// What kind of value this is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Undefined => "an undefined value",
            Value::None => "none",
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Str(_) => "a string",
            Value::List(l) if l.is_tuple => "a tuple",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
            Value::Namespace(_) => "a namespace",
            Value::Macro(_) | Value::Function(_) => "a function",
            Value::Loop(_) => "a loop",
            Value::Counter(_) => "a counter",
        }
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::Undefined | Value::None => false,
            Value::Bool(b) => *b,
            Value::Int(i) => *i != 0,
            Value::Float(f) => *f != 0.0,
            Value::Str(s) => !s.is_empty(),
            Value::List(l) => !l.items.is_empty(),
            Value::Map(m) => !m.entries.is_empty(),
            _ => true,
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        if let Value::Str(s) = self { Some(s) } else { None }
    }

    /// Integers, and booleans as Python counts them.
    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Value::Int(i) => Some(*i),
            Value::Bool(b) => Some(i128::from(*b)),
            _ => None,
        }
    }

    pub(super) fn as_float(&self) -> Option<f64> {
        if let Value::Float(f) = self { Some(*f) } else { self.as_int().map(|i| i as f64) }
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Value::Undefined)
    }

    /// The items that a loop over this value visits: of a list its items, of a map its keys, of a string its characters.
    pub(super) fn iter(&self, budget: &Budget) -> Result<Rc<List>> {
        let items: Vec<Value> = match self {
            Value::List(list) => return Ok(list.clone()),
            Value::Undefined => Vec::new(),
            Value::Map(map) => {
                budget.pay_items(map.entries.len())?;
                map.entries.keys().map(Key::value).collect()
            }
            Value::Str(s) => {
                budget.pay_items(s.len())?;
                s.chars().map(|c| Value::str(c.encode_utf8(&mut [0; 4]) as &str)).collect()
            }
            other => return wrong(format!("{} cannot be looped over", other.kind())),
        };
        Ok(Rc::new(List { size: sum_sizes(items.iter())?, items, is_tuple: false }))
    }
}

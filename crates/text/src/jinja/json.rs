//! `tojson` as Hugging Face defines it: Python's `json.dumps` with `ensure_ascii=False`, keys in their order.
use super::value::{Budget, Key, Result, Value, wrong};
use std::fmt::Write;

/// How to write.
#[derive(Clone, Debug)]
pub(super) struct Style {
    pub(super) indent: Option<usize>,
    pub(super) item_separator: Option<String>,
    pub(super) key_separator: Option<String>,
    pub(super) sorts_keys: bool,
    pub(super) is_ascii: bool,
}

/// Larger indents would make little data print as much.
const INDENT_MAX: usize = 16;

struct Writer<'a> {
    style: &'a Style,
    out: String,
    bytes_max: u64,
    budget: &'a Budget,
}

/// The value as JSON.
pub(super) fn to_json(value: &Value, style: &Style, budget: &Budget) -> Result<String> {
    if style.indent.is_some_and(|n| n > INDENT_MAX) {
        return wrong(format!("tojson cannot indent by more than {INDENT_MAX}"));
    }
    budget.pay_bytes(value.size().bytes)?;
    let mut writer = Writer { style, out: String::new(), bytes_max: budget.bytes_left(), budget };
    writer.value(value, 0)?;
    budget.pay_bytes(writer.out.len() as u64)?;
    Ok(writer.out)
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<()> {
        if self.out.len() as u64 > self.bytes_max {
            return self.budget.pay(u64::MAX); // more than can be paid for: stop early
        }
        match value {
            Value::None => self.out.push_str("null"),
            Value::Bool(b) => self.out.push_str(if *b { "true" } else { "false" }),
            Value::Int(i) => {
                let _ = write!(self.out, "{i}");
            }
            Value::Float(f) => self.out.push_str(&number(*f)),
            Value::Str(s) => self.string(s),
            Value::List(list) => {
                self.out.push('[');
                for (i, item) in list.items.iter().enumerate() {
                    self.separate(i > 0, depth + 1);
                    self.value(item, depth + 1)?;
                }
                self.close(']', list.items.is_empty(), depth);
            }
            Value::Map(map) => {
                let mut entries: Vec<(&Key, &Value)> = map.entries.iter().collect();
                if self.style.sorts_keys {
                    entries.sort_by_cached_key(|entry| key_text(entry.0));
                }
                self.out.push('{');
                for (i, (key, item)) in entries.iter().enumerate() {
                    self.separate(i > 0, depth + 1);
                    self.string(&key_text(key));
                    self.out.push_str(self.style.key_separator.as_deref().unwrap_or(": "));
                    self.value(item, depth + 1)?;
                }
                self.close('}', entries.is_empty(), depth);
            }
            other => return wrong(format!("{} cannot be written as JSON", other.kind())),
        }
        Ok(())
    }

    fn separate(&mut self, is_later: bool, depth: usize) {
        if is_later {
            let plain = if self.style.indent.is_some() { "," } else { ", " };
            self.out.push_str(self.style.item_separator.as_deref().unwrap_or(plain));
        }
        self.new_line(depth);
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = self.style.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn close(&mut self, end: char, is_empty: bool, depth: usize) {
        if !is_empty {
            self.new_line(depth);
        }
        self.out.push(end);
    }

    fn string(&mut self, s: &str) {
        self.out.push('"');
        for c in s.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if (c as u32) < 0x20 || (self.style.is_ascii && !c.is_ascii()) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

fn key_text(key: &Key) -> std::rc::Rc<str> {
    match key {
        Key::Str(s) => s.clone(),
        Key::Other(Value::Bool(b)) => if *b { "true" } else { "false" }.into(),
        Key::Other(Value::Int(i)) => i.to_string().into(),
        Key::Other(Value::Float(f)) => number(*f).into(),
        Key::Other(_) => "null".into(),
    }
}

fn number(f: f64) -> String {
    if f.is_nan() {
        "NaN".to_string()
    } else if f.is_infinite() {
        if f > 0.0 { "Infinity" } else { "-Infinity" }.to_string()
    } else {
        super::format::float(f)
    }
}

//! Jinja's filters: those of text and numbers here, those of sequences in `sequences`.
use super::calls::Given;
use super::eval::Walk;
use super::json::{self, Style};
use super::value::{Result, Value, wrong};
use super::{format, methods};

const OF_TEXT: &[&str] = &[
    "trim",
    "upper",
    "lower",
    "title",
    "capitalize",
    "replace",
    "string",
    "safe",
    "escape",
    "e",
    "forceescape",
    "indent",
    "center",
    "format",
    "wordcount",
    "truncate",
    "tojson",
    "int",
    "float",
    "abs",
    "round",
    "default",
    "d",
    "length",
    "count",
    "pprint",
    "urlencode",
];

/// Is there a filter with this name?
pub(super) fn is_known(name: &str) -> bool {
    OF_TEXT.contains(&name) || super::sequences::NAMES.contains(&name)
}

impl<'a> Walk<'a> {
    pub(super) fn filter(&mut self, name: &str, value: Value, given: Given<'a>) -> Result<Value> {
        match name {
            "default" | "d" => {
                let is_missing = value.is_undefined() || (given.flag(1, "boolean") && !value.is_true());
                let other = || given.get(0, "default_value").cloned().unwrap_or(Value::str(""));
                Ok(if is_missing { other() } else { value })
            }
            "length" | "count" => self.length(&value),
            "tojson" => self.tojson(&value, &given),
            "int" => Ok(self.to_int(&value, &given)),
            "float" => {
                let parsed = value.as_str().and_then(|s| s.trim().parse().ok()).or(value.as_float());
                let other = given.get(0, "default").cloned().unwrap_or(Value::Float(0.0));
                Ok(parsed.map_or(other, Value::Float))
            }
            "abs" => match value {
                Value::Int(i) => i.checked_abs().map_or_else(|| wrong("abs is out of range"), |i| Ok(Value::Int(i))),
                Value::Float(f) => Ok(Value::Float(f.abs())),
                other => wrong(format!("abs needs a number, not {}", other.kind())),
            },
            "round" => round(&value, &given),
            _ if OF_TEXT.contains(&name) => {
                let text = format::to_text(&value, &self.budget)?;
                self.text_filter(name, &text, &given)
            }
            _ if super::sequences::NAMES.contains(&name) => self.sequence_filter(name, &value, given),
            _ => wrong(format!("unknown filter {name}")),
        }
    }

    fn length(&self, value: &Value) -> Result<Value> {
        let n = match value {
            Value::Str(s) => {
                self.budget.pay_bytes(s.len() as u64)?;
                s.chars().count()
            }
            Value::List(list) => list.items.len(),
            Value::Map(map) => map.entries.len(),
            Value::Undefined => 0,
            other => return wrong(format!("{} has no length", other.kind())),
        };
        Ok(Value::Int(n as i128))
    }

    fn tojson(&self, value: &Value, given: &Given<'_>) -> Result<Value> {
        let separators = match given.get(2, "separators") {
            Some(Value::List(list)) => list.items.iter().map(|s| s.as_str().map(str::to_string)).collect(),
            _ => Vec::new(),
        };
        let mut separators = separators.into_iter();
        // Hugging Face's own order of arguments: (ensure_ascii, indent, separators, sort_keys); jinja2 has indent first.
        let indent = match (given.plain.first(), given.get(1, "indent")) {
            (Some(Value::Int(i)), None) => Some(*i),
            (_, other) => other.and_then(Value::as_int),
        };
        let style = Style {
            indent: indent.map(|i| usize::try_from(i).unwrap_or(usize::MAX)),
            item_separator: separators.next().flatten(),
            key_separator: separators.next().flatten(),
            sorts_keys: given.flag(3, "sort_keys"),
            is_ascii: given.named.iter().any(|(n, v)| *n == "ensure_ascii" && v.is_true()),
        };
        json::to_json(value, &style, &self.budget).map(Value::str)
    }

    fn to_int(&self, value: &Value, given: &Given<'_>) -> Value {
        let of_float = |f: f64| f.is_finite().then_some(f.trunc() as i128);
        let base =
            given.int(1, "base").ok().flatten().and_then(|b| u32::try_from(b).ok()).filter(|b| (2..=36).contains(b));
        let parsed = match value {
            Value::Str(s) => {
                let digits = s.trim();
                let digits = if base == Some(16) { digits.trim_start_matches("0x") } else { digits };
                let whole = i128::from_str_radix(digits, base.unwrap_or(10)).ok();
                whole.or_else(|| digits.parse().ok().and_then(of_float))
            }
            Value::Float(f) => of_float(*f),
            other => other.as_int(),
        };
        let other = given.get(0, "default").cloned().unwrap_or(Value::Int(0));
        parsed.map_or(other, Value::Int)
    }

    fn text_filter(&mut self, name: &str, text: &str, given: &Given<'_>) -> Result<Value> {
        let budget = &self.budget;
        budget.pay_bytes((text.len() as u64).saturating_mul(2))?;
        match name {
            "string" | "safe" => Ok(Value::str(text)),
            "trim" => methods::of_string(text, "strip", given, budget),
            "upper" => Ok(Value::str(text.to_uppercase())),
            "lower" => Ok(Value::str(text.to_lowercase())),
            "title" => Ok(Value::str(jinja_title(text))),
            "capitalize" => Ok(Value::str(methods::capitalize(text))),
            "replace" | "center" => methods::of_string(text, name, given, budget),
            "format" => format::percent_args(text, &given.plain, None, budget),
            "indent" => indent(text, given, budget),
            "wordcount" => Ok(Value::Int(text.split_whitespace().count() as i128)),
            "truncate" => truncate(text, given),
            "escape" | "e" | "forceescape" => {
                budget.pay_bytes((text.len() as u64).saturating_mul(5))?;
                let html = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                Ok(Value::str(html.replace('\'', "&#39;").replace('"', "&#34;")))
            }
            _ => wrong(format!("filter {name} is not supported")),
        }
    }
}

/// Jinja's own `title`: a word begins after white space, a hyphen or an opening bracket.
fn jinja_title(s: &str) -> String {
    let mut starts = true;
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        if starts {
            out.extend(c.to_uppercase())
        } else {
            out.extend(c.to_lowercase())
        }
        starts = c.is_whitespace() || matches!(c, '-' | '(' | '{' | '[' | '<');
    }
    out
}

fn round(value: &Value, given: &Given<'_>) -> Result<Value> {
    let Some(number) = value.as_float() else { return wrong(format!("round needs a number, not {}", value.kind())) };
    let places = given.int(0, "precision")?.unwrap_or(0).clamp(-300, 300) as i32;
    let scale = 10f64.powi(places);
    let rounded = match given.text(1, "method")?.unwrap_or("common") {
        "common" => (number * scale).round_ties_even() / scale,
        "ceil" => (number * scale).ceil() / scale,
        "floor" => (number * scale).floor() / scale,
        other => return wrong(format!("round has no method {other}")),
    };
    Ok(Value::Float(if rounded.is_finite() { rounded } else { number }))
}

fn indent(text: &str, given: &Given<'_>, budget: &super::value::Budget) -> Result<Value> {
    let unit = match given.get(0, "width") {
        Some(Value::Str(s)) => s.to_string(),
        _ => {
            let width = given.int(0, "width")?.unwrap_or(4);
            let width = usize::try_from(width).unwrap_or(0);
            budget.pay_bytes(width as u64)?;
            " ".repeat(width)
        }
    };
    let (first, blank) = (given.flag(1, "first"), given.flag(2, "blank"));
    let lines = text.matches('\n').count() as u64 + 1;
    budget.pay_bytes((unit.len() as u64).saturating_mul(lines).saturating_add(text.len() as u64))?;
    let mut out = String::with_capacity(text.len());
    for (i, line) in text.split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
        }
        if (i > 0 || first) && (blank || !line.is_empty()) {
            out.push_str(&unit);
        }
        out.push_str(line);
    }
    Ok(Value::str(out))
}

fn truncate(text: &str, given: &Given<'_>) -> Result<Value> {
    let length = given.int(0, "length")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(255);
    let end = given.text(2, "end")?.unwrap_or("...");
    let leeway = given.int(3, "leeway")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(5);
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(Value::str(text));
    }
    let kept: String = text.chars().take(length.saturating_sub(end.chars().count())).collect();
    let whole_words = kept.rsplit_once(' ').map_or(kept.as_str(), |(words, _)| words);
    Ok(Value::str(if given.flag(1, "killwords") { kept + end } else { whole_words.to_string() + end }))
}

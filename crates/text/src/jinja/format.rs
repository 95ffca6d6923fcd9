//! Values as text, the way Python's `str`, `repr`, `%` and `str.format` write them.
use super::value::{Budget, Key, Result, Value, wrong};
use std::fmt::Write;

/// Appends `str(value)`.
pub(super) fn display(value: &Value, out: &mut String, budget: &Budget) -> Result<()> {
    budget.pay_bytes(value.size().bytes)?;
    match value {
        Value::Str(s) => out.push_str(s),
        other => repr(other, out),
    }
    Ok(())
}

/// `str(value)`.
pub(super) fn to_text(value: &Value, budget: &Budget) -> Result<std::rc::Rc<str>> {
    if let Value::Str(s) = value {
        return Ok(s.clone());
    }
    let mut out = String::new();
    display(value, &mut out, budget)?;
    Ok(out.into())
}

/// Appends `repr(value)`; the caller has paid for it. Undefined values are empty.
fn repr(value: &Value, out: &mut String) {
    match value {
        Value::Undefined => {}
        Value::None => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Int(i) => {
            let _ = write!(out, "{i}");
        }
        Value::Float(f) => out.push_str(&float(*f)),
        Value::Str(s) => quoted(s, out),
        Value::List(list) => {
            out.push(if list.is_tuple { '(' } else { '[' });
            for (i, item) in list.items.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                repr(item, out);
            }
            if list.is_tuple && list.items.len() == 1 {
                out.push(',');
            }
            out.push(if list.is_tuple { ')' } else { ']' });
        }
        Value::Map(map) => {
            out.push('{');
            for (i, (key, item)) in map.entries.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                match key {
                    Key::Str(s) => quoted(s, out),
                    Key::Other(value) => repr(value, out),
                }
                out.push_str(": ");
                repr(item, out);
            }
            out.push('}');
        }
        Value::Namespace(_) => out.push_str("<Namespace>"),
        Value::Macro(_) => out.push_str("<Macro>"),
        Value::Loop(_) => out.push_str("<LoopContext>"),
        Value::Function(name) => out.push_str(name),
        Value::Counter(_) => out.push_str("<Counter>"),
    }
}

/// A float as Python writes it: shortest digits that give it back, an exponent below 1e-4 and from 1e16.
pub(super) fn float(f: f64) -> String {
    if f.is_nan() {
        return "nan".to_string();
    }
    if f.is_infinite() {
        return if f > 0.0 { "inf" } else { "-inf" }.to_string();
    }
    let scientific = format!("{f:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if f != 0.0 && !(-4..16).contains(&exponent) {
        return format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.unsigned_abs());
    }
    let plain = f.to_string();
    if plain.contains('.') { plain } else { plain + ".0" }
}

fn quoted(s: &str, out: &mut String) {
    let quote = if s.contains('\'') && !s.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in s.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c if (c as u32) < 0x20 || (0x7f..0xa1).contains(&(c as u32)) || c == '\u{ad}' => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// How a value is padded: `>8.2f`.
#[derive(Default)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    plus: bool,
    comma: bool,
    width: usize,
    precision: Option<usize>,
    kind: Option<char>,
}

/// Widths and precisions are small; larger ones are an attack.
const WIDTH_MAX: usize = 1024;

fn number<'a>(rest: &mut std::iter::Peekable<std::str::Chars<'a>>) -> Result<Option<usize>> {
    let mut n = None;
    while let Some(digit) = rest.peek().and_then(|c| c.to_digit(10)) {
        let value = n.unwrap_or(0usize) * 10 + digit as usize;
        if value > WIDTH_MAX {
            return wrong(format!("a format width above {WIDTH_MAX}"));
        }
        n = Some(value);
        let _ = rest.next();
    }
    Ok(n)
}

fn apply(spec: &Spec, value: &Value, budget: &Budget) -> Result<String> {
    let is_number = value.as_float().is_some();
    let mut text = match (spec.kind, value.as_int(), value.as_float()) {
        (Some('f' | 'F'), _, Some(f)) => format!("{f:.*}", spec.precision.unwrap_or(6)),
        (Some('e'), _, Some(f)) => format!("{f:.*e}", spec.precision.unwrap_or(6)),
        (Some('%'), _, Some(f)) => format!("{:.*}%", spec.precision.unwrap_or(6), f * 100.0),
        (Some('d' | 'i' | 'u'), Some(i), _) => i.to_string(),
        (Some('d' | 'i' | 'u'), None, Some(f)) if f.is_finite() => (f.trunc() as i128).to_string(),
        (Some('x'), Some(i), _) => format!("{i:x}"),
        (Some('X'), Some(i), _) => format!("{i:X}"),
        (Some('o'), Some(i), _) => format!("{i:o}"),
        (Some('b'), Some(i), _) => format!("{i:b}"),
        (Some('r'), ..) => {
            budget.pay_bytes(value.size().bytes)?;
            let mut out = String::new();
            repr(value, &mut out);
            out
        }
        (None | Some('s' | 'g'), ..) => {
            let text = to_text(value, budget)?;
            match spec.precision {
                Some(n) if value.as_str().is_some() => text.chars().take(n).collect(),
                _ => text.to_string(),
            }
        }
        (Some(kind), ..) => return wrong(format!("cannot format {} with {kind}", value.kind())),
    };
    if spec.comma {
        text = with_commas(&text);
    }
    if spec.plus && is_number && !text.starts_with('-') {
        text.insert(0, '+');
    }
    let missing = spec.width.saturating_sub(text.chars().count());
    let fill = |n: usize| spec.fill.unwrap_or(' ').to_string().repeat(n);
    Ok(match spec.align.unwrap_or(if is_number { '>' } else { '<' }) {
        '<' => text + &fill(missing),
        '^' => fill(missing / 2) + &text + &fill(missing - missing / 2),
        '=' => {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+'])));
            format!("{sign}{}{digits}", fill(missing))
        }
        _ => fill(missing) + &text,
    })
}

fn with_commas(text: &str) -> String {
    let (sign, rest) = text.split_at(usize::from(text.starts_with('-')));
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (whole, fraction) = rest.split_at(digits);
    let mut out = sign.to_string();
    for (i, c) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    out + fraction
}

/// `format % value`.
pub(super) fn percent(format: &str, value: &Value, budget: &Budget) -> Result<Value> {
    budget.pay_bytes(format.len() as u64)?;
    let tuple: &[Value] = match value {
        Value::List(list) if list.is_tuple => &list.items,
        other => std::slice::from_ref(other),
    };
    percent_args(format, tuple, matches!(value, Value::Map(_)).then_some(value), budget)
}

/// `%` formatting with these arguments, or with the members of a map.
pub(super) fn percent_args(format: &str, args: &[Value], map: Option<&Value>, budget: &Budget) -> Result<Value> {
    let mut out = String::new();
    let mut next = args.iter();
    let mut rest = format.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec { align: Some('>'), ..Spec::default() };
        let mut named = None;
        if rest.next_if_eq(&'(').is_some() {
            named = Some(rest.by_ref().take_while(|&c| c != ')').collect::<String>());
        }
        while let Some(flag) = rest.next_if(|c| "-+0 #".contains(*c)) {
            match flag {
                '-' => spec.align = Some('<'),
                '0' => (spec.fill, spec.align) = (Some('0'), Some('=')),
                '+' => spec.plus = true,
                _ => {}
            }
        }
        spec.width = number(&mut rest)?.unwrap_or(0);
        if rest.next_if_eq(&'.').is_some() {
            spec.precision = Some(number(&mut rest)?.unwrap_or(0));
        }
        spec.kind = rest.next();
        if spec.kind == Some('%') {
            out.push('%');
            continue;
        }
        let value = match (named, map) {
            (Some(name), Some(map)) => super::ops::member(map, &name)?,
            _ => match next.next() {
                Some(value) => value.clone(),
                None => return wrong("more places in a format than values for them"),
            },
        };
        let text = apply(&spec, &value, budget)?;
        budget.pay_bytes(text.len() as u64)?;
        out.push_str(&text);
    }
    Ok(Value::str(out))
}

/// `format.format(*args, **named)`.
pub(super) fn braces(format: &str, args: &[Value], named: &[(&str, Value)], budget: &Budget) -> Result<Value> {
    budget.pay_bytes(format.len() as u64)?;
    let mut out = String::new();
    let mut auto = 0;
    let mut rest = format.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '{' if rest.next_if_eq(&'{').is_some() => out.push('{'),
            '}' if rest.next_if_eq(&'}').is_some() => out.push('}'),
            '{' => {
                let field: String = rest.by_ref().take_while(|&c| c != '}').collect();
                let (name, spec) = field.split_once(':').unwrap_or((&field, ""));
                let (name, as_repr) = name.strip_suffix("!r").map_or((name, false), |n| (n, true));
                let name = name.strip_suffix("!s").unwrap_or(name);
                let value = match (name, name.parse::<usize>()) {
                    ("", _) => {
                        auto += 1;
                        args.get(auto - 1)
                    }
                    (_, Ok(i)) => args.get(i),
                    _ => named.iter().find(|(n, _)| *n == name).map(|(_, v)| v),
                };
                let Some(value) = value else { return wrong(format!("no value for {{{field}}} in a format")) };
                let mut spec = brace_spec(spec)?;
                if as_repr {
                    spec.kind = Some('r');
                }
                let text = apply(&spec, value, budget)?;
                budget.pay_bytes(text.len() as u64)?;
                out.push_str(&text);
            }
            c => out.push(c),
        }
    }
    Ok(Value::str(out))
}

fn brace_spec(text: &str) -> Result<Spec> {
    let mut spec = Spec::default();
    let mut rest = text.chars().peekable();
    let is_align = |c: Option<char>| c.is_some_and(|c| "<>^=".contains(c));
    if is_align(text.chars().nth(1)) {
        spec.fill = rest.next();
    }
    if is_align(rest.peek().copied()) {
        spec.align = rest.next();
    }
    if let Some(sign) = rest.next_if(|c| "+- ".contains(*c)) {
        spec.plus = sign == '+';
    }
    if rest.next_if_eq(&'0').is_some() {
        spec.fill = Some('0');
        spec.align = Some('=');
    }
    spec.width = number(&mut rest)?.unwrap_or(0);
    spec.comma = rest.next_if_eq(&',').is_some();
    if rest.next_if_eq(&'.').is_some() {
        spec.precision = number(&mut rest)?;
    }
    spec.kind = rest.next();
    match rest.next() {
        None => Ok(spec),
        Some(_) => wrong(format!("format {text:?} is not understood")),
    }
}

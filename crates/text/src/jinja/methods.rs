//! Python's methods of strings, lists and dicts; those that change something in place are refused, as the sandbox does.
use super::calls::Given;
use super::checks::{is_lower, is_upper};
use super::value::{Budget, List, Map, Result, Value, wrong};
use super::{format, ops};

const OF_STRING: &[&str] = &[
    "strip",
    "lstrip",
    "rstrip",
    "split",
    "rsplit",
    "splitlines",
    "startswith",
    "endswith",
    "replace",
    "upper",
    "lower",
    "title",
    "capitalize",
    "find",
    "rfind",
    "index",
    "count",
    "join",
    "format",
    "isdigit",
    "isnumeric",
    "isdecimal",
    "isalpha",
    "isalnum",
    "isspace",
    "isascii",
    "isupper",
    "islower",
    "removeprefix",
    "removesuffix",
    "partition",
    "rpartition",
    "zfill",
    "ljust",
    "rjust",
    "center",
    "swapcase",
    "casefold",
    "encode",
];

/// Has a string this method?
pub(super) fn has_string(name: &str) -> bool {
    OF_STRING.contains(&name)
}

/// Has a dict this method?
pub(super) fn has_map(name: &str) -> bool {
    matches!(name, "get" | "items" | "keys" | "values" | "copy" | "pop" | "update" | "setdefault" | "clear" | "popitem")
}

fn strings<'s>(parts: impl Iterator<Item = &'s str>, budget: &Budget) -> Result<Value> {
    let mut items = Vec::new();
    for part in parts {
        budget.pay(1)?;
        items.push(Value::str(part));
    }
    Value::list(items)
}

pub(super) fn of_string(s: &str, name: &str, given: &Given<'_>, budget: &Budget) -> Result<Value> {
    budget.pay_bytes((s.len() as u64).saturating_mul(2))?;
    let is_all = |test: fn(char) -> bool| Ok(Value::Bool(!s.is_empty() && s.chars().all(test)));
    match name {
        "strip" | "lstrip" | "rstrip" => {
            let set = given.text(0, "chars")?;
            let inside = |c: char| set.map_or(c.is_whitespace(), |set| set.contains(c));
            budget.pay_bytes((s.len() as u64).saturating_mul(set.map_or(0, str::len) as u64))?;
            let s = if name == "rstrip" { s } else { s.trim_start_matches(inside) };
            Ok(Value::str(if name == "lstrip" { s } else { s.trim_end_matches(inside) }))
        }
        "split" | "rsplit" => split(s, given, name == "rsplit", budget),
        "splitlines" => {
            let keeps_ends = given.flag(0, "keepends");
            let lines = s.split_inclusive('\n');
            let bare = |l: &'_ str| l.strip_suffix('\n').map_or(l.len(), |l| l.strip_suffix('\r').unwrap_or(l).len());
            strings(lines.map(|l| if keeps_ends { l } else { &l[..bare(l)] }), budget)
        }
        "startswith" | "endswith" => {
            let fits = |part: &Value| match part.as_str() {
                Some(part) if name == "startswith" => Ok(s.starts_with(part)),
                Some(part) => Ok(s.ends_with(part)),
                None => wrong(format!("{name} needs strings, not {}", part.kind())),
            };
            match given.need(0, "prefix")? {
                Value::List(list) => {
                    budget.pay_items(list.items.len())?;
                    for part in &list.items {
                        if fits(part)? {
                            return Ok(Value::Bool(true));
                        }
                    }
                    Ok(Value::Bool(false))
                }
                part => fits(part).map(Value::Bool),
            }
        }
        "replace" => {
            let (old, new) = (needed(given, 0, "old")?, needed(given, 1, "new")?);
            replace(s, old, new, given.int(2, "count")?, budget)
        }
        "upper" => Ok(Value::str(s.to_uppercase())),
        "lower" | "casefold" => Ok(Value::str(s.to_lowercase())),
        "title" => Ok(Value::str(title(s))),
        "capitalize" => Ok(Value::str(capitalize(s))),
        "swapcase" => {
            let swap =
                |c: char| if c.is_uppercase() { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() };
            Ok(Value::str(s.chars().map(swap).collect::<String>()))
        }
        "find" | "rfind" | "index" => {
            let part = needed(given, 0, "sub")?;
            budget.pay_bytes(part.len() as u64)?;
            match if name == "rfind" { s.rfind(part) } else { s.find(part) } {
                Some(at) => Ok(Value::Int(s[..at].chars().count() as i128)),
                None if name == "index" => wrong("substring not found"),
                None => Ok(Value::Int(-1)),
            }
        }
        "count" => {
            let part = needed(given, 0, "sub")?;
            budget.pay_bytes(part.len() as u64)?;
            Ok(Value::Int(s.matches(part).count() as i128))
        }
        "join" => join(given.need(0, "iterable")?, s, budget),
        "format" => format::braces(s, &given.plain, &given.named, budget),
        "isdigit" | "isnumeric" | "isdecimal" => is_all(char::is_numeric),
        "isalpha" => is_all(char::is_alphabetic),
        "isalnum" => is_all(char::is_alphanumeric),
        "isspace" => is_all(char::is_whitespace),
        "isascii" => Ok(Value::Bool(s.is_ascii())),
        "isupper" => Ok(Value::Bool(is_upper(s))),
        "islower" => Ok(Value::Bool(is_lower(s))),
        "removeprefix" => Ok(Value::str(s.strip_prefix(needed(given, 0, "prefix")?).unwrap_or(s))),
        "removesuffix" => Ok(Value::str(s.strip_suffix(needed(given, 0, "suffix")?).unwrap_or(s))),
        "partition" | "rpartition" => {
            let sep = needed(given, 0, "sep")?;
            budget.pay_bytes(sep.len() as u64)?;
            let cut = if name == "partition" { s.split_once(sep) } else { s.rsplit_once(sep) };
            let parts = match cut {
                Some((before, after)) => [before, sep, after],
                None if name == "partition" => [s, "", ""],
                None => ["", "", s],
            };
            Value::tuple(parts.map(Value::str).to_vec())
        }
        "zfill" | "ljust" | "rjust" | "center" => pad(s, name, given, budget),
        _ => wrong(format!("a string has no method {name}")),
    }
}

fn needed<'g>(given: &'g Given<'_>, place: usize, name: &str) -> Result<&'g str> {
    given.text(place, name)?.map_or_else(|| wrong(format!("argument {name} is missing")), Ok)
}

fn split(s: &str, given: &Given<'_>, from_right: bool, budget: &Budget) -> Result<Value> {
    let max =
        given.int(1, "maxsplit")?.and_then(|n| usize::try_from(n).ok()).map_or(usize::MAX, |n| n.saturating_add(1));
    match (given.text(0, "sep")?, from_right) {
        (Some(""), _) => wrong("cannot split at an empty string"),
        (Some(sep), false) => {
            budget.pay_bytes(sep.len() as u64)?;
            strings(s.splitn(max, sep), budget)
        }
        (Some(sep), true) => {
            budget.pay_bytes(sep.len() as u64)?;
            let mut parts = Vec::new();
            for part in s.rsplitn(max, sep) {
                budget.pay(1)?;
                parts.push(Value::str(part));
            }
            parts.reverse();
            Value::list(parts)
        }
        (None, _) => {
            let mut parts = Vec::new();
            let mut rest = s.trim_start();
            while !rest.is_empty() {
                budget.pay(1)?;
                if parts.len() + 1 == max {
                    parts.push(Value::str(rest.trim_end()));
                    break;
                }
                let (word, more) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                parts.push(Value::str(word));
                rest = more.trim_start();
            }
            Value::list(parts)
        }
    }
}

/// `s.replace(old, new, count)`, paid for before it is made.
pub(super) fn replace(s: &str, old: &str, new: &str, count: Option<i128>, budget: &Budget) -> Result<Value> {
    budget.pay_bytes((s.len() as u64).saturating_add(old.len() as u64))?;
    let max = count.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    let n = s.matches(old).count().min(max) as u64;
    budget.pay_bytes(n.saturating_mul(new.len() as u64).saturating_add(s.len() as u64))?;
    Ok(Value::str(s.replacen(old, new, max)))
}

/// The items as text with a separator between them.
pub(super) fn join(items: &Value, separator: &str, budget: &Budget) -> Result<Value> {
    let mut out = String::new();
    for (i, item) in items.iter(budget)?.items.iter().enumerate() {
        if i > 0 {
            budget.pay_bytes(separator.len() as u64)?;
            out.push_str(separator);
        }
        format::display(item, &mut out, budget)?;
    }
    budget.pay_bytes(out.len() as u64)?;
    Ok(Value::str(out))
}

/// Python's `str.title`.
pub(super) fn title(s: &str) -> String {
    let mut in_word = false;
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        match (c.is_alphabetic(), in_word) {
            (true, false) => out.extend(c.to_uppercase()),
            (true, true) => out.extend(c.to_lowercase()),
            _ => out.push(c),
        }
        in_word = c.is_alphabetic();
    }
    out
}

/// Python's `str.capitalize`.
pub(super) fn capitalize(s: &str) -> String {
    let mut chars = s.chars();
    let first: String = chars.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
    first + &chars.as_str().to_lowercase()
}

fn pad(s: &str, name: &str, given: &Given<'_>, budget: &Budget) -> Result<Value> {
    let width = given.int(0, "width")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let missing = width.saturating_sub(s.chars().count());
    let fill = given.text(1, "fillchar")?.unwrap_or(if name == "zfill" { "0" } else { " " });
    budget.pay_bytes((missing as u64).saturating_mul(fill.len() as u64).saturating_add(s.len() as u64))?;
    let fill = |n: usize| fill.repeat(n);
    Ok(Value::str(match name {
        "ljust" => s.to_string() + &fill(missing),
        "center" => fill(missing / 2) + s + &fill(missing - missing / 2),
        "zfill" => {
            let (sign, digits) = s.split_at(usize::from(s.starts_with(['-', '+'])));
            format!("{sign}{}{digits}", fill(missing))
        }
        _ => fill(missing) + s,
    }))
}

pub(super) fn of_list(list: &List, name: &str, given: &Given<'_>, budget: &Budget) -> Result<Value> {
    match name {
        "count" => {
            let wanted = given.need(0, "value")?;
            let mut n = 0;
            for item in &list.items {
                n += i128::from(ops::equal(item, wanted, budget)?);
            }
            Ok(Value::Int(n))
        }
        "index" => {
            let wanted = given.need(0, "value")?;
            for (i, item) in list.items.iter().enumerate() {
                if ops::equal(item, wanted, budget)? {
                    return Ok(Value::Int(i as i128));
                }
            }
            wrong("value not found in the list")
        }
        "copy" => {
            budget.pay_items(list.items.len())?;
            Value::list(list.items.clone())
        }
        "append" | "extend" | "insert" | "pop" | "remove" | "clear" | "sort" | "reverse" => {
            wrong(format!("a template may not change a list in place ({name}); use list + [item]"))
        }
        _ => wrong(format!("a list has no method {name}")),
    }
}

pub(super) fn of_map(map: &Map, name: &str, given: &Given<'_>, budget: &Budget) -> Result<Value> {
    let n = map.entries.len();
    match name {
        "get" => {
            let key = given.need(0, "key")?;
            let found = match key {
                Value::Str(s) => map.get(s),
                other => super::value::Key::of(other).ok().and_then(|k| map.entries.get(&k)),
            };
            Ok(found.or(given.get(1, "default")).cloned().unwrap_or(Value::None))
        }
        "items" => {
            budget.pay_items(n.saturating_mul(4))?;
            let pair = |(k, v): (&super::value::Key, &Value)| Value::tuple(vec![k.value(), v.clone()]);
            Value::list(map.entries.iter().map(pair).collect::<Result<_>>()?)
        }
        "keys" => {
            budget.pay_items(n)?;
            Value::list(map.entries.keys().map(super::value::Key::value).collect())
        }
        "values" => {
            budget.pay_items(n)?;
            Value::list(map.entries.values().cloned().collect())
        }
        "copy" => {
            budget.pay_items(n.saturating_mul(2))?;
            Value::map(map.entries.clone())
        }
        _ => wrong(format!("a template may not change a mapping in place ({name})")),
    }
}

//! `vonk keys` and `vonk usage`, and what `vonk serve` needs of them. Keys, usage and `vonk.toml` lie in `$VONK_HOME`, else in
//! the user's configuration folder: not in the cache folder, which may be emptied.

use crate::args::Json;
use crate::args_keys::{Keys, KeysCreate, KeysRotate, KeysWhat, Usage};
use crate::fault::{Fault, print_json};
use keys::{Created, Db, KeyRow, Meter, NewKey, Settings, UsageFilter, UsageRow};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn folder() -> Result<PathBuf, Fault> {
    store::settings_dir().ok_or_else(|| Fault::input("there is no folder for keys: set VONK_HOME or HOME"))
}

fn db_path() -> Result<PathBuf, Fault> {
    Ok(folder()?.join("keys.db"))
}

fn settings(config: Option<&Path>) -> Result<Settings, Fault> {
    match config {
        Some(path) => {
            let missing = || Fault::input(format!("{}: there is no such file", path.display()));
            Settings::load(path)?.ok_or_else(missing)
        }
        None => Ok(Settings::load(&folder()?.join("vonk.toml"))?.unwrap_or_default()),
    }
}

fn now_s() -> u64 {
    keys::system_clock()() / 1000
}

/// Keys and quotas for a server. `is_needed`: it must not run without. Else, where no file of keys can be made, there are no
/// keys, and it is only a note.
pub fn meter(config: Option<&Path>, is_needed: bool) -> Result<Option<Arc<Meter>>, Fault> {
    let (settings, path) = (settings(config)?, db_path()?);
    let is_needed = is_needed || path.exists();
    let opened = Db::open(&path).and_then(|db| Meter::start(db, settings, keys::system_clock()));
    match opened {
        Ok(meter) => Ok(Some(Arc::new(meter))),
        Err(e) if is_needed => Err(e.into()),
        Err(e) => {
            eprintln!("note: this server works without keys: {e}");
            Ok(None)
        }
    }
}

/// `vonk keys`.
pub fn keys(args: Keys) -> Result<(), Fault> {
    match args.what {
        KeysWhat::Create(a) => create(&a),
        KeysWhat::List(a) => list(&a),
        KeysWhat::Revoke(a) => {
            Db::open(&db_path()?)?.revoke(&a.id, now_s())?;
            println!("{} is revoked", a.id);
            Ok(())
        }
        KeysWhat::Rotate(a) => rotate(&a),
    }
}

fn create(args: &KeysCreate) -> Result<(), Fault> {
    let settings = settings(args.config.as_deref())?;
    if settings.tier(&args.tier).is_none() {
        let tiers: Vec<&str> = settings.tier_names().collect();
        return Err(Fault::input(format!("there is no tier {:?}; there are {}", args.tier, tiers.join(", "))));
    }
    let expires_s = args.expires.as_deref().map(keys::parse_span_s).transpose()?;
    let new = NewKey { name: &args.name, tier: &args.tier, expires_s };
    let created = Db::open(&db_path()?)?.create(&new, now_s())?;
    show(&created, args.json)
}

fn rotate(args: &KeysRotate) -> Result<(), Fault> {
    let grace_s = keys::parse_span_s(&args.grace)?;
    let created = Db::open(&db_path()?)?.rotate(&args.id, grace_s, now_s())?;
    show(&created, args.json)
}

fn show(created: &Created, as_json: bool) -> Result<(), Fault> {
    let Created { id, key } = created;
    if as_json {
        return print_json(&json!({"id": id, "key": key}));
    }
    eprintln!("{id}: this is its key. It is not kept and cannot be shown again.");
    println!("{key}");
    Ok(())
}

fn list(args: &Json) -> Result<(), Fault> {
    let (rows, now) = (Db::open(&db_path()?)?.list()?, now_s());
    let time = |t: Option<u64>| t.map(keys::time_text);
    if args.json {
        let row = |k: &KeyRow| {
            json!({
                "id": k.id, "name": k.name, "tier": k.tier, "state": k.state(now), "created": keys::time_text(k.created),
                "expires": time(k.expires), "revoked": time(k.revoked), "last_used": time(k.last_used),
            })
        };
        return print_json(&rows.iter().map(row).collect::<Vec<Value>>());
    }
    let cells = |k: &KeyRow| {
        let dash = |t: Option<u64>| time(t).unwrap_or_else(|| "-".to_owned());
        let plain = [&k.id, &k.name, &k.tier, k.state(now)].map(str::to_owned);
        let times = [keys::time_text(k.created), dash(k.expires), dash(k.last_used)];
        plain.into_iter().chain(times).collect()
    };
    let head = ["id", "name", "tier", "state", "created", "expires", "last used"].map(str::to_owned).to_vec();
    print_table(std::iter::once(head).chain(rows.iter().map(cells)).collect());
    Ok(())
}

/// `vonk usage`.
pub fn usage(args: Usage) -> Result<(), Fault> {
    let since = args.since.as_deref().map(|text| keys::parse_date(text, now_s())).transpose()?;
    let path = db_path()?;
    let rows = if path.exists() { Db::open(&path)?.usage(&UsageFilter { key: args.key, since })? } else { Vec::new() };
    if args.json {
        return print_json(&json!({"usage": rows.iter().map(usage_json).collect::<Vec<_>>(), "total": total(&rows)}));
    }
    let table: Vec<Vec<String>> =
        std::iter::once(COLUMNS.map(str::to_owned).to_vec()).chain(rows.iter().map(cells)).collect();
    if args.csv {
        for row in table {
            println!("{}", row.iter().map(|cell| csv(cell)).collect::<Vec<_>>().join(","));
        }
        return Ok(());
    }
    print_table(table);
    Ok(())
}

const COLUMNS: [&str; 10] = [
    "day",
    "key",
    "name",
    "model",
    "requests",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "accepted_prediction_tokens",
    "cost",
];

/// In the currency of the config's prices.
fn cost(pico: u64) -> f64 {
    pico as f64 / 1e12
}

fn numbers(r: &UsageRow) -> [u64; 5] {
    let t = &r.tokens;
    [r.requests, t.input, t.cached_input, t.output, t.accepted_prediction]
}

fn cells(r: &UsageRow) -> Vec<String> {
    let names = [r.date(), r.key.clone(), r.name.clone(), r.model.clone()];
    let cost = format!("{:.6}", cost(r.cost_pico));
    names.into_iter().chain(numbers(r).map(|n| n.to_string())).chain([cost]).collect()
}

fn usage_json(r: &UsageRow) -> Value {
    let mut row = json!({"day": r.date(), "key": r.key, "name": r.name, "model": r.model, "cost": cost(r.cost_pico)});
    for (name, n) in COLUMNS[4..9].iter().zip(numbers(r)) {
        row[*name] = n.into();
    }
    row
}

fn total(rows: &[UsageRow]) -> Value {
    let pico = rows.iter().fold(0u64, |sum, r| sum.saturating_add(r.cost_pico));
    let mut total = json!({"cost": cost(pico)});
    for (i, name) in COLUMNS[4..9].iter().enumerate() {
        total[*name] = rows.iter().fold(0u64, |sum, r| sum.saturating_add(numbers(r)[i])).into();
    }
    total
}

/// Quoted where it must be (RFC 4180).
fn csv(cell: &str) -> String {
    let is_plain = !cell.contains(['"', ',', '\n', '\r']);
    if is_plain { cell.to_owned() } else { format!("\"{}\"", cell.replace('"', "\"\"")) }
}

/// In columns; numbers to the right.
fn print_table(rows: Vec<Vec<String>>) {
    let width = |i: usize| rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, w)| match cell.parse::<f64>() {
            Ok(_) => format!("{cell:>w$}"),
            Err(_) => format!("{cell:w$}"),
        });
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_is_quoted_where_it_must_be() {
        assert_eq!((csv("a b"), csv("a,b"), csv("a\"b")), ("a b".into(), "\"a,b\"".into(), "\"a\"\"b\"".into()));
    }
}

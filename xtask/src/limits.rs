//! LIMITS.md and `base::limits` say the same: one table, made from the constants and compared with the file.

use crate::run::root;

const CODE: &str = "crates/base/src/limits.rs";
const PAGE: &str = "LIMITS.md";
const HEAD: &str = "| limit | value | what it bounds |\n|---|---|---|\n";

/// A constant: name, value in decimal digits, doc comment.
#[derive(Debug, PartialEq, Eq)]
struct Limit {
    name: String,
    value: u64,
    meaning: String,
}

/// Every difference, one line each; with `bless`, the page's table is written again instead.
pub fn check(bless: bool) -> Result<Vec<String>, String> {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).map_err(|e| format!("{name}: {e}"));
    let limits = parse(&read(CODE)?)?;
    let page = read(PAGE)?;
    let Some((before, after)) = split(&page) else {
        return Ok(vec![format!("{PAGE} has no table that begins with `{}`", HEAD.lines().next().unwrap_or(""))]);
    };
    let table = table(&limits);
    if bless {
        let path = root().join(PAGE);
        std::fs::write(&path, format!("{before}{HEAD}{table}{after}")).map_err(|e| format!("{PAGE}: {e}"))?;
        return Ok(Vec::new());
    }
    let (_, found) = page.split_at(before.len() + HEAD.len());
    let found = &found[..found.len() - after.len()];
    let missing = table.lines().filter(|l| !found.lines().any(|f| f == *l)).map(|l| format!("{PAGE} lacks: {l}"));
    let stale =
        found.lines().filter(|f| !table.lines().any(|l| l == *f)).map(|f| format!("{PAGE} has, but {CODE} not: {f}"));
    let mut broken: Vec<String> = missing.chain(stale).collect();
    if broken.is_empty() && found != table {
        broken.push(format!("{PAGE} is in another order than {CODE}"));
    }
    if !broken.is_empty() {
        broken.push("to write the table again: cargo xtask tidy --bless".into());
    }
    Ok(broken)
}

/// What stands before the table's head and after its last row.
fn split(page: &str) -> Option<(&str, &str)> {
    let start = page.find(HEAD)?;
    let rows = &page[start + HEAD.len()..];
    let len: usize = rows.split_inclusive('\n').take_while(|l| l.starts_with('|')).map(str::len).sum();
    Some((&page[..start], &rows[len..]))
}

fn table(limits: &[Limit]) -> String {
    limits.iter().map(|l| format!("| `{}` | {} | {} |\n", l.name, grouped(l.value), l.meaning)).collect()
}

/// 1234567 -> 1,234,567
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

fn parse(code: &str) -> Result<Vec<Limit>, String> {
    let mut limits = Vec::new();
    let mut meaning = String::new();
    for line in code.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            meaning = format!("{meaning} {}", text.trim()).trim().to_string();
            continue;
        }
        if let Some(rest) = line.strip_prefix("pub const ") {
            let bad = || format!("{CODE}: cannot read `{line}` (one line: pub const NAME: TYPE = NUMBER * NUMBER;)");
            let (name, rest) = rest.split_once(':').ok_or_else(bad)?;
            let (_, expression) = rest.split_once('=').ok_or_else(bad)?;
            let value = value(expression.trim().trim_end_matches(';')).ok_or_else(bad)?;
            if meaning.is_empty() {
                return Err(format!("{CODE}: {name} has no doc comment"));
            }
            limits.push(Limit { name: name.to_string(), value, meaning: meaning.replace('|', "\\|") });
        }
        meaning.clear();
    }
    Ok(limits)
}

/// Numbers with `_`, joined by `*`, or `A << B`.
fn value(expression: &str) -> Option<u64> {
    let number = |text: &str| text.trim().replace('_', "").parse::<u64>().ok();
    if let Some((a, b)) = expression.split_once("<<") {
        return number(a)?.checked_shl(u32::try_from(number(b)?).ok()?);
    }
    expression.split('*').try_fold(1u64, |product, factor| product.checked_mul(number(factor)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_read_with_value_and_meaning() {
        let code = "//! x\n\n/// Two\n/// lines.\npub const A_MAX: u64 = 16 * 1_024;\n/// Shift.\npub const B: usize = 1 << 20;\n";
        let limits = parse(code).unwrap();
        assert_eq!(table(&limits), "| `A_MAX` | 16,384 | Two lines. |\n| `B` | 1,048,576 | Shift. |\n");
        assert!(parse("pub const A: u8 = 1;").is_err(), "no doc comment");
        assert!(parse("/// x\npub const A: u8 = f();").is_err(), "not a number");
    }

    #[test]
    fn the_table_is_found_between_other_text() {
        let page = format!("# T\n\n{HEAD}| a | 1 | x |\n| b | 2 | y |\n\nmore\n");
        assert_eq!(split(&page), Some(("# T\n\n", "\nmore\n")));
        assert_eq!(split("nothing"), None);
    }
}

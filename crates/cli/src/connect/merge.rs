//! Joins a client's configuration with ours: what is not ours stays as it is.

use serde_json::Value;
use toml_edit::{DocumentMut, Item, TableLike};

/// Our keys into a TOML text; comments and order stay.
///
/// # Errors
/// What is there is no TOML, or has a value where we need a table.
pub fn toml(old: &str, ours: &DocumentMut) -> Result<String, String> {
    let mut doc: DocumentMut = old.parse().map_err(|e| format!("it is no TOML: {e}"))?;
    join_tables(doc.as_table_mut(), ours.as_table(), "")?;
    Ok(doc.to_string())
}

fn join_tables(into: &mut dyn TableLike, from: &dyn TableLike, path: &str) -> Result<(), String> {
    for (key, ours) in from.iter() {
        let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match (into.get_mut(key), ours.as_table_like()) {
            (Some(old), Some(ours)) => {
                let old = old.as_table_like_mut().ok_or_else(|| format!("`{path}` in it is no table"))?;
                join_tables(old, ours, &path)?;
            }
            (Some(Item::Value(old)), None) => {
                if let Some(new) = ours.as_value() {
                    let decor = old.decor().clone(); // the comment behind it
                    *old = new.clone();
                    *old.decor_mut() = decor;
                }
            }
            (Some(_), None) => return Err(format!("`{path}` in it is a table")),
            (None, _) => {
                into.insert(key, ours.clone());
            }
        }
    }
    Ok(())
}

/// Our keys into a JSON text, which is written anew.
///
/// # Errors
/// What is there is no JSON (with comments it is none), or has a value where we need an object or array.
pub fn json(old: &str, ours: &Value) -> Result<String, String> {
    let mut value: Value =
        serde_json::from_str(old).map_err(|e| format!("it is no plain JSON ({e}); comments would be lost"))?;
    let before = value.clone();
    join_values(&mut value, ours, "")?;
    if value == before {
        return Ok(old.to_owned());
    }
    serde_json::to_string_pretty(&value).map(|text| text + "\n").map_err(|e| e.to_string())
}

fn join_values(into: &mut Value, from: &Value, path: &str) -> Result<(), String> {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, ours) in from {
                match into.get_mut(key) {
                    Some(old) => join_values(old, ours, &format!("{path}.{key}"))?,
                    None => _ = into.insert(key.clone(), ours.clone()),
                }
            }
        }
        (Value::Array(into), Value::Array(from)) => {
            for ours in from {
                match into.iter_mut().find(|old| is_same(old, ours)) {
                    Some(old) => *old = ours.clone(),
                    None => into.push(ours.clone()),
                }
            }
        }
        (into, Value::Object(_) | Value::Array(_)) if !into.is_null() => {
            return Err(format!(
                "`{}` in it is neither an object nor an array as needed",
                path.trim_start_matches('.')
            ));
        }
        (into, from) => *into = from.clone(),
    }
    Ok(())
}

/// Entries of a list with the same name are the same.
fn is_same(a: &Value, b: &Value) -> bool {
    let name = |v: &Value| v.get("id").or_else(|| v.get("name")).cloned();
    a == b || name(a).is_some_and(|n| name(b) == Some(n))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn toml_keeps_what_is_not_ours() {
        let old = "# mine\nmodel = \"gpt\" # the large one\napproval = \"never\"\n\n[model_providers.other]\nname = \"o\"\n\n[tui]\nx = 1\n";
        let ours: DocumentMut =
            "model = \"m\"\nmodel_provider = \"vonk\"\n[model_providers.vonk]\nname = \"vonk\"\n".parse().unwrap();
        let new = toml(old, &ours).unwrap();
        for part in ["# mine\n", "model = \"m\" # the large one\n", "approval = \"never\"\n", "[tui]\nx = 1\n"] {
            assert!(new.contains(part), "{part}: {new}");
        }
        let read: DocumentMut = new.parse().unwrap();
        assert_eq!(read["model_provider"].as_str(), Some("vonk"));
        assert_eq!(read["model_providers"]["vonk"]["name"].as_str(), Some("vonk"));
        assert_eq!(read["model_providers"]["other"]["name"].as_str(), Some("o"));
        assert_eq!(toml(&new, &ours).unwrap(), new, "the second time changes nothing");
        assert!(toml("model_providers = 1", &ours).unwrap_err().contains("model_providers"));
        assert!(toml("[model]\nx = 1", &ours).unwrap_err().contains("`model`"));
        assert!(toml("= broken", &ours).is_err());
    }

    #[test]
    fn json_keeps_what_is_not_ours() {
        let old = r#"{"z": 1, "provider": {"other": {}}, "models": [{"id": "a", "x": 1}, {"id": "b"}], "theme": null}"#;
        let ours =
            json!({"provider": {"vonk": {"u": 2}}, "models": [{"id": "b", "y": 2}, {"id": "c"}], "theme": {"t": 1}});
        let new = json(old, &ours).unwrap();
        let want = json!({"z": 1, "provider": {"other": {}, "vonk": {"u": 2}}, "theme": {"t": 1},
            "models": [{"id": "a", "x": 1}, {"id": "b", "y": 2}, {"id": "c"}]});
        assert_eq!(serde_json::from_str::<Value>(&new).unwrap(), want);
        assert_eq!(json(&new, &ours).unwrap(), new, "the second time changes nothing");
        assert!(json(r#"{"provider": 5}"#, &ours).unwrap_err().contains("`provider`"));
        assert!(json("{} // x", &ours).unwrap_err().contains("comments"));
    }
}

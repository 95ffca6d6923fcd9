//! Which room may know which: the table of ARCHITECTURE.md as data, compared with what `cargo metadata` says.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::run::{cargo, output};

/// A room's doors.
pub struct Room {
    /// The crate.
    pub name: &'static str,
    /// Rooms that it may depend on.
    pub doors: &'static [&'static str],
    /// The crate has `#![forbid(unsafe_code)]`; otherwise `UNSAFE_FILES` lists the files that may use it.
    pub forbids_unsafe: bool,
}

const fn room(name: &'static str, doors: &'static [&'static str]) -> Room {
    Room { name, doors, forbids_unsafe: true }
}

/// The table. A new room gets a line here and in ARCHITECTURE.md, in the same commit.
pub const ROOMS: &[Room] = &[
    room("base", &[]),
    room("quant", &["base"]),
    room("ops", &["base", "quant"]),
    room("formats", &["base", "quant"]),
    room("text", &["base"]),
    Room { forbids_unsafe: false, ..room("cpu", &["base", "quant", "ops"]) },
    room("model", &["base", "quant", "ops", "formats"]),
    room("engine", &["base", "ops", "text", "model"]),
    Room { forbids_unsafe: false, ..room("store", &["base", "formats"]) },
    room("protocol", &["base"]),
    room("server", &["base", "protocol", "engine", "store", "text", "route"]),
    room("client", &["base", "protocol"]),
    room("edit", &["base", "protocol", "client"]),
    room("bench", &["base", "quant", "ops", "protocol", "client", "engine"]),
    room("xtask", &[]),
    room(
        "cli",
        &[
            "base", "quant", "ops", "formats", "text", "cpu", "model", "engine", "store", "protocol", "server",
            "client", "edit", "bench",
        ],
    ),
];

/// Crates from outside that only some rooms may use: the network and threads of others stay where they belong.
const OUTSIDERS: &[(&str, &[&str])] = &[
    ("tokio", &["server", "bench", "cli"]),
    ("axum", &["server"]),
    ("hyper", &["server", "bench"]),
    ("hf-hub", &["store"]),
    ("ureq", &["store"]),
    ("zip", &["store"]),
    ("memmap2", &["store"]),
    ("libc", &["store", "cpu", "cli"]),
    ("clap", &["cli"]),
    ("indicatif", &["cli"]),
    ("ratatui", &["cli"]),
    ("similar", &["edit"]),
    ("minijinja", &[]),
    ("regex", &[]),
    ("fancy-regex", &[]),
];

/// Every broken rule, one line each.
pub fn check() -> Result<Vec<String>, String> {
    let text = output(&mut cargo(&["metadata", "--format-version", "1", "--no-deps", "--locked"]))?;
    let metadata: Value = serde_json::from_str(&text).map_err(|e| format!("cargo metadata: {e}"))?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata has no packages")?;
    let used: BTreeMap<&str, Vec<Dependency<'_>>> =
        packages.iter().map(|p| (p["name"].as_str().unwrap_or(""), dependencies(p))).collect();
    Ok(judge(&used))
}

/// A dependency as far as the table looks at it.
struct Dependency<'a> {
    name: &'a str,
    is_room: bool,
    is_dev: bool,
}

fn dependencies(package: &Value) -> Vec<Dependency<'_>> {
    let list = package["dependencies"].as_array().map_or(&[][..], Vec::as_slice);
    let read = |d: &'_ Value| -> (bool, bool) { (d["path"].is_string(), d["kind"] == "dev") };
    list.iter()
        .map(|d| {
            let (is_room, is_dev) = read(d);
            Dependency { name: d["name"].as_str().unwrap_or(""), is_room, is_dev }
        })
        .collect()
}

fn judge(used: &BTreeMap<&str, Vec<Dependency<'_>>>) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, dependencies) in used {
        let Some(room) = ROOMS.iter().find(|r| r.name == *name) else {
            broken.push(format!(
                "the crate {name} has no line in the table of doors (xtask/src/doors.rs, ARCHITECTURE.md)"
            ));
            continue;
        };
        // Tests may look through any door: they do not ship.
        for d in dependencies.iter().filter(|d| !d.is_dev) {
            if d.is_room && !room.doors.contains(&d.name) {
                broken.push(format!(
                    "{name} depends on {}, which its doors do not allow ({})",
                    d.name,
                    list(room.doors)
                ));
            }
            if let Some((_, rooms)) = OUTSIDERS.iter().find(|(o, _)| *o == d.name && !d.is_room)
                && !rooms.contains(name)
            {
                broken.push(format!("{name} depends on {}, which only {} may", d.name, list(rooms)));
            }
        }
    }
    broken
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "none".to_string() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dependency(name: &str, is_room: bool, is_dev: bool) -> Dependency<'_> {
        Dependency { name, is_room, is_dev }
    }

    #[test]
    fn the_table_has_no_circle() {
        // Every room comes after the rooms that it may look into; `route` is not built yet.
        let place = |name: &str| ROOMS.iter().position(|r| r.name == name);
        for (i, room) in ROOMS.iter().enumerate() {
            assert!(room.doors.iter().all(|d| place(d).is_none_or(|p| p < i)), "{}", room.name);
        }
    }

    #[test]
    fn each_kind_of_break_is_noticed() {
        let used = BTreeMap::from([
            ("quant", vec![dependency("base", true, false), dependency("ops", true, true)]),
            ("ops", vec![dependency("cpu", true, false)]),
            ("engine", vec![dependency("tokio", false, false)]),
            ("newcomer", vec![]),
        ]);
        let broken = judge(&used).join("\n");
        assert_eq!(broken.lines().count(), 3, "{broken}");
        for want in ["ops depends on cpu", "engine depends on tokio", "newcomer has no line"] {
            assert!(broken.contains(want), "{broken}");
        }
    }
}

//! Chat templates and Jinja semantics against llama.cpp's cases and what Python's jinja2 made of them.
#![allow(clippy::unwrap_used, clippy::panic)]
mod common;
use serde_json::{Map, Value, json};
use text::{ChatTemplate, TextError};

/// Renders a bare Jinja case: `vars` are the only names.
fn render_case(template: &str, vars: &Value) -> Result<String, TextError> {
    let empty = Map::new();
    let vars = vars.as_object().unwrap_or(&empty);
    ChatTemplate::new(template, "", "")?.render(&Value::Null, None, false, vars)
}

#[test]
fn jinja_cases_agree_with_python() {
    let Some(folder) = common::data("llamacpp-chat-templates") else { return };
    // Cases that differ on purpose, with the reason.
    let known = &[("is escaped", "there is no automatic escaping in chat templates, so no text counts as escaped")];
    let (mut n, mut failures) = (0, Vec::new());
    for row in common::rows(&folder.join("jinja_cases.jsonl")) {
        if row["jinja2_agrees"] != json!(true) {
            continue;
        }
        n += 1;
        let name = row["name"].as_str().unwrap();
        let template = row["template"].as_str().unwrap();
        let got = render_case(template, &row["vars"]);
        if got.as_deref().ok() != row["expected"].as_str() {
            let text = format!("{name}\n  {template}\n  want {}\n  got  {got:?}", row["expected"]);
            match known.iter().find(|(k, _)| *k == name) {
                Some((_, why)) => println!("known difference ({why}): {text}"),
                None => failures.push(text),
            }
        }
    }
    println!("{n} cases");
    assert!(failures.is_empty(), "{} of {n}:\n{}", failures.len(), failures.join("\n"));
    assert!(n >= 230);
}

#[test]
fn chat_template_cases_agree_with_python() {
    let Some(folder) = common::data("llamacpp-chat-templates") else { return };
    let (mut n, mut failures) = (0, Vec::new());
    for row in common::rows(&folder.join("chat_template_cases.jsonl")) {
        let name = row["name"].as_str().unwrap();
        let Some(want) = row["jinja2_output"].as_str() else {
            println!("left out, python's jinja2 has no output: {name}: {}", row["jinja2_vs_expected"]);
            continue;
        };
        n += 1;
        let text = |key: &str| row[key].as_str().unwrap_or("").to_string();
        let got = ChatTemplate::new(&text("template"), &text("bos_token"), &text("eos_token"))
            .and_then(|t| t.render(&row["messages"], None, row["add_generation_prompt"] == json!(true), &Map::new()));
        if got.as_deref().ok() != Some(want) {
            failures.push(format!("{name}\n  want {want:?}\n  got  {got:?}"));
        }
    }
    println!("{n} cases");
    assert!(failures.is_empty(), "{} of {n}:\n{}", failures.len(), failures.join("\n"));
    assert!(n >= 29);
}

#[test]
fn every_shipped_template_parses() {
    let Some(folder) = common::data("llamacpp-chat-templates") else { return };
    let mut failures = Vec::new();
    let mut n = 0;
    for entry in std::fs::read_dir(folder.join("templates")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "jinja") {
            n += 1;
            if let Err(e) = ChatTemplate::new(&std::fs::read_to_string(&path).unwrap(), "<s>", "</s>") {
                failures.push(format!("{}: {e}", path.display()));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {n}:\n{}", failures.len(), failures.join("\n"));
    assert!(n >= 60);
}

//! Grammars on a real vocabulary (152,000 tokens) and real schemas, with figures: `cargo test -p text --release --test grammar
//! -- --nocapture`. Without the data these tests say so and pass.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
#[path = "support/walk.rs"]
mod walk;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use serde_json::Value;
use text::{GrammarEngine, GrammarSpec, Tokenizer};
use walk::{Walker, quantile};

fn engine() -> Option<&'static (Arc<Tokenizer>, GrammarEngine)> {
    static ENGINE: OnceLock<Option<(Arc<Tokenizer>, GrammarEngine)>> = OnceLock::new();
    ENGINE
        .get_or_init(|| {
            let tokenizer = Arc::new(Tokenizer::new(&common::vocab("qwen2")?).unwrap());
            let start = Instant::now();
            let engine = GrammarEngine::new(Arc::clone(&tokenizer)).unwrap();
            println!("trees of {} tokens: {:.0} ms", tokenizer.n_vocab(), start.elapsed().as_secs_f64() * 1e3);
            Some((tokenizer, engine))
        })
        .as_ref()
}

/// Properties in the order in which the schema names them: grammars fix the order.
fn in_schema_order(data: &Value, schema: &Value) -> Value {
    match data {
        Value::Object(object) => {
            let named = schema.get("properties").and_then(Value::as_object);
            let mut out = serde_json::Map::new();
            for (key, sub) in named.into_iter().flatten() {
                if let Some(v) = object.get(key) {
                    out.insert(key.clone(), in_schema_order(v, sub));
                }
            }
            for (key, v) in object {
                out.entry(key.clone())
                    .or_insert_with(|| in_schema_order(v, schema.get("additionalProperties").unwrap_or(&Value::Null)));
            }
            Value::Object(out)
        }
        Value::Array(items) => {
            let sub = schema.get("items").unwrap_or(&Value::Null);
            items.iter().map(|v| in_schema_order(v, sub)).collect()
        }
        _ => data.clone(),
    }
}

/// Micro- or milliseconds at three quantiles.
fn spread(values: &mut [u64], per: f64) -> String {
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|q| quantile(values, q) as f64 / per);
    format!("p50 {p50:.1} p99 {p99:.1} max {max:.1}")
}

#[test]
fn real_schemas_allow_what_is_valid_and_nothing_else() {
    let (Some(dir), Some((tokenizer, engine))) = (common::data("jsonschemabench"), engine()) else { return };
    let mut w = Walker::new(tokenizer);
    let (mut compile_us, mut n_refused, mut n) = (Vec::new(), 0, [0, 0]);
    let mut otherwise = Vec::new();
    for row in common::rows(&dir.join("maskbench_dev.jsonl")) {
        let schema = row["schema"].to_string();
        let start = Instant::now();
        let Ok(grammar) = engine.compile(&GrammarSpec::JsonSchema(&schema)) else {
            n_refused += 1;
            continue;
        };
        compile_us.push(start.elapsed().as_micros() as u64);
        for (i, test) in row["tests"].as_array().unwrap().iter().enumerate() {
            let is_valid = test["valid"] == true;
            n[usize::from(is_valid)] += 1;
            let text = in_schema_order(&test["data"], &row["schema"]).to_string();
            let tokens = w.encode(&text);
            let took = w.accepts_with_jumps(&mut grammar.matcher(), &tokens);
            if took != is_valid {
                assert!(is_valid, "allowed: {text} under {schema}");
                otherwise.push(row["id"].clone());
            } else if i == 0 {
                let spelled = w.random_spelling(text.as_bytes(), 1);
                assert_eq!(w.accepts(&mut grammar.matcher(), &spelled), is_valid, "spelled by chance: {text}");
            }
        }
    }
    println!("schemas: {} compiled, {n_refused} refused", compile_us.len());
    println!("compile ms: {}", spread(&mut compile_us, 1e3));
    println!("masks: {}, us: {}", w.mask_ns.len(), spread(&mut w.mask_ns, 1e3));
    println!("forced {} of {} tokens; us: {}", w.n_forced, w.n_tokens, spread(&mut w.force_ns, 1e3));
    println!("instances: {} valid, {} invalid; judged otherwise: {otherwise:?}", n[1], n[0]);
    assert!(compile_us.len() > 500 && otherwise.len() <= 1, "valid instances were refused: {otherwise:?}");
    assert!(w.n_forced * 20 > w.n_tokens, "hardly any token was forced");
}

/// What the grammar judges otherwise than the test suite, by file: the order of properties and the spelling of numbers within
/// constants, formats, which it takes seriously, and a dialect without validation.
const KNOWN: [&str; 7] = ["allOf", "const", "enum", "format", "ref", "type", "vocabulary"];

#[test]
fn the_schema_test_suite_agrees() {
    let (Some(dir), Some((tokenizer, engine))) = (common::data("json-schema-test-suite"), engine()) else { return };
    let mut w = Walker::new(tokenizer);
    for (draft, uri) in [
        ("draft2020-12", "https://json-schema.org/draft/2020-12/schema"),
        ("draft7", "http://json-schema.org/draft-07/schema#"),
    ] {
        let (mut n, mut n_refused, mut n_otherwise) = ([0, 0], 0, [0, 0]);
        for row in common::rows(&dir.join(format!("{draft}.jsonl"))) {
            let mut schema = row["schema"].clone();
            if let Some(o) = schema.as_object_mut() {
                o.entry("$schema").or_insert(uri.into());
            }
            let Ok(grammar) = engine.compile(&GrammarSpec::JsonSchema(&schema.to_string())) else {
                n_refused += 1;
                continue;
            };
            let file = row["file"].as_str().unwrap();
            let is_optional = file.contains("optional");
            for test in row["tests"].as_array().unwrap() {
                n[usize::from(is_optional)] += 1;
                let text = in_schema_order(&test["data"], &row["schema"]).to_string();
                let tokens = w.encode(&text);
                let is_valid = test["valid"] == true;
                let took = w.accepts_with_jumps(&mut grammar.matcher(), &tokens);
                n_otherwise[usize::from(is_optional)] += usize::from(took != is_valid);
                let is_known = is_valid && KNOWN.iter().any(|f| file.ends_with(&format!("/{f}.json")));
                assert!(took == is_valid || is_optional || is_known, "{file}: {}: {text}", row["description"]);
            }
        }
        println!(
            "{draft}: {n_refused} groups refused; instances, otherwise: {n:?} {n_otherwise:?} (required, optional)"
        );
        assert!(n[0] > 500 && n_otherwise[0] < 30, "{n_otherwise:?}");
    }
}

/// llama.cpp's own cases. It refuses four texts that are valid: integers of more than 15 digits, a value that its schema says
/// nothing of, and a blank where its grammars write none.
#[test]
fn llamacpp_cases_agree() {
    let (Some(dir), Some((tokenizer, engine))) = (common::data("llamacpp-grammar"), engine()) else { return };
    let mut w = Walker::new(tokenizer);
    let (mut n, mut n_refused, mut otherwise) = (0, 0, Vec::new());
    for row in common::rows(&dir.join("json_schema_pass_fail.jsonl")) {
        let Ok(grammar) = engine.compile(&GrammarSpec::JsonSchema(row["schema_text"].as_str().unwrap())) else {
            n_refused += 1;
            continue;
        };
        for (kind, is_valid) in [("pass", true), ("fail", false)] {
            for text in row[kind].as_array().unwrap() {
                n += 1;
                let text = text.as_str().unwrap();
                let tokens = w.encode(text);
                if w.accepts(&mut grammar.matcher(), &tokens) != is_valid {
                    otherwise.push(format!("{}: {kind}: {text}", row["name"].as_str().unwrap()));
                }
            }
        }
    }
    println!("llama.cpp's cases: {n}, {n_refused} schemas refused; otherwise: {otherwise:#?}");
    assert!(n > 150 && n_refused <= 1 && otherwise.len() <= 4 && otherwise.iter().all(|o| o.contains(": fail: ")));
}

/// A model that knows nothing still answers with valid JSON. `VONK_ANSWERS` names a file for the answers, to be validated by
/// another program.
#[test]
fn what_comes_out_by_chance_parses() {
    let (Some(dir), Some((tokenizer, engine))) = (common::data("jsonschemabench"), engine()) else { return };
    let mut w = Walker::new(tokenizer);
    let (mut n, mut n_cut, mut out) = (0, 0, String::new());
    let every = if std::env::var_os("VONK_ANSWERS").is_some() { 1 } else { 2 };
    for (i, row) in common::rows(&dir.join("maskbench_dev.jsonl")).iter().enumerate().step_by(every) {
        let Ok(grammar) = engine.compile(&GrammarSpec::JsonSchema(&row["schema"].to_string())) else { continue };
        let Some(bytes) = w.babble(&mut grammar.matcher(), i as u64, 200) else {
            n_cut += 1;
            continue;
        };
        let text = String::from_utf8(bytes).unwrap();
        match serde_json::from_str::<Value>(&text) {
            Ok(value) => {
                n += 1;
                let line = serde_json::json!({ "id": row["id"], "schema": row["schema"], "data": value, "text": text });
                out += &format!("{line}\n");
            }
            // JSON bounds no exponent; this reader does.
            Err(e) => assert!(e.to_string().contains("number out of range"), "{e}: {text}"),
        }
    }
    println!("answers: {n} parse, {n_cut} were cut; masks us: {}", spread(&mut w.mask_ns, 1e3));
    assert!(n > 200, "{n}");
    if let Some(path) = std::env::var_os("VONK_ANSWERS") {
        std::fs::write(path, out).unwrap();
    }
}

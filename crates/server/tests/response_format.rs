//! `response_format` through the real server, scheduler and sampler, with a tiny model that has learnt nothing: what it says
//! is noise, and valid under the schema all the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod shell;
#[path = "shell/tiny.rs"]
mod tiny;

use std::net::SocketAddr;

use serde_json::Value;
use shell::*;

/// Everything in it is bounded, so that noise comes to an end.
const SCHEMA: &str = r#"{"type":"object","properties":{"name":{"type":"string","maxLength":6},
    "kind":{"enum":["left","right"]},"sizes":{"type":"array","items":{"type":"integer","minimum":0,"maximum":99},
    "minItems":1,"maxItems":3},"is_on":{"type":"boolean"}},"required":["name","kind","sizes","is_on"],
    "additionalProperties":false}"#;

fn format(schema: &str) -> String {
    format!(
        r#""response_format":{{"type":"json_schema","json_schema":{{"name":"n","strict":true,"schema":{schema}}}}}"#
    )
}

/// Texts and reasons of the choices.
fn chat(addr: SocketAddr, fields: &str) -> Vec<(String, String)> {
    let body = format!(r#"{{"model":"tiny","messages":[{{"role":"user","content":"say"}}],{fields}}}"#);
    let answer = post(addr, "/v1/chat/completions", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let choice = |c: &Value| (text(&c["message"]["content"]), text(&c["finish_reason"]));
    answer.json()["choices"].as_array().unwrap().iter().map(choice).collect()
}

fn is_valid(text: &str) -> bool {
    let Ok(v) = serde_json::from_str::<Value>(text) else { return false };
    let Some(o) = v.as_object() else { return false };
    let sizes = o["sizes"].as_array().unwrap();
    o.len() == 4
        && o["name"].as_str().is_some_and(|s| s.chars().count() <= 6)
        && matches!(o["kind"].as_str(), Some("left" | "right"))
        && (1..=3).contains(&sizes.len())
        && sizes.iter().all(|s| s.as_u64().is_some_and(|s| s < 100))
        && o["is_on"].is_boolean()
}

#[test]
fn answers_are_valid_whatever_the_model_thinks() {
    let running = tiny::serve("");
    let format = format(SCHEMA);
    let mut seen = std::collections::HashSet::new();
    for seed in 0..12 {
        // Two choices at once: each has a state of its own.
        let choices = chat(running.addr(), &format!(r#"{format},"n":2,"seed":{seed},"temperature":1.5"#));
        assert_eq!(choices.len(), 2);
        for (text, reason) in choices {
            assert!(is_valid(&text), "{text}");
            assert_eq!(reason, "stop");
            seen.insert(text);
        }
    }
    assert!(seen.len() > 6, "all alike: {seen:?}");
}

#[test]
fn drafts_change_nothing() {
    let running = tiny::serve("");
    let format = format(SCHEMA);
    for (seed, temperature) in [(1, 0.0), (2, 1.0), (3, 2.0)] {
        let sampled = format!(r#"{format},"seed":{seed},"temperature":{temperature}"#);
        let plain = chat(running.addr(), &format!(r#"{sampled},"speculation":"off""#));
        let drafted = chat(running.addr(), &format!(r#"{sampled},"speculation":"auto""#));
        // The answer itself as prediction: every draft is right.
        let predicted = serde_json::json!({ "type": "content", "content": plain[0].0 });
        let known = chat(running.addr(), &format!(r#"{sampled},"prediction":{predicted}"#));
        assert_eq!((&plain, &plain), (&drafted, &known));
        assert!(is_valid(&plain[0].0), "{}", plain[0].0);
    }
}

#[test]
fn a_cut_answer_says_so() {
    let running = tiny::serve("");
    let (text, reason) = chat(running.addr(), &format!(r#"{},"max_tokens":5"#, format(SCHEMA))).remove(0);
    assert_eq!(reason, "length");
    assert!(text.starts_with('{') && !is_valid(&text));
}

#[test]
fn a_json_object_is_an_object_on_both_endpoints() {
    let running = tiny::serve("");
    let bounded = r#""response_format":{"type":"json_object"},"max_tokens":200,"seed":"#;
    for seed in 0..4 {
        let (text, reason) = chat(running.addr(), &format!("{bounded}{seed}")).remove(0);
        let parsed = serde_json::from_str::<serde_json::Map<String, Value>>(&text);
        assert!(reason == "length" || parsed.is_ok(), "{text}");
    }
    let body = format!(r#"{{"model":"tiny","prompt":"say",{}}}"#, format(SCHEMA));
    let answer = post(running.addr(), "/v1/completions", &body);
    assert!(is_valid(answer.json()["choices"][0]["text"].as_str().unwrap()), "{}", answer.text());
}

#[test]
fn what_is_not_supported_is_refused_with_its_place() {
    let running = tiny::serve("");
    let refused = |fields: &str| {
        let body = format!(r#"{{"model":"tiny","messages":[{{"role":"user","content":"say"}}],{fields}}}"#);
        let answer = post(running.addr(), "/v1/chat/completions", &body);
        assert_eq!(answer.status, 400, "{}", answer.text());
        let error = answer.json()["error"].clone();
        (error["code"].as_str().unwrap().to_owned(), error["param"].as_str().unwrap().to_owned())
    };
    let schema = "response_format.json_schema.schema";
    let is = |code: &str, place: &str| (code.to_owned(), format!("{schema}{place}"));
    let not = r#"{"properties":{"a":{"not":{}}}}"#;
    assert_eq!(refused(&format(not)), is("invalid_schema", ".properties.a.not"));
    assert_eq!(refused(&format(r##"{"$ref":"#"}"##)), is("invalid_schema", ""));
    let replayed = format!(r#"{},"replay":"x""#, format(SCHEMA));
    assert_eq!(refused(&replayed), ("unsupported_value".to_owned(), "replay".to_owned()));
}

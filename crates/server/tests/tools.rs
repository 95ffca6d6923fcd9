//! Tool calls through the server: what the model says becomes calls, whole and streamed; forced calls are right even from a
//! model that knows nothing. The echo engine says what `replay` tells it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod shell;
#[path = "shell/tiny.rs"]
mod tiny;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use protocol::tools::CallKind;
use protocol::{ChatChunk, ChatCompletion, FinishReason, ReplyCall};
use serde_json::{Value, json};
use server::Config;
use shell::*;

const HERMES: &str = "{# <tool_call> #}";

fn weather() -> Value {
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string", "maxLength": 5 }, "days": { "enum": [1, 2, 3] } },
        "required": ["city", "days"], "additionalProperties": false });
    json!({ "type": "function", "function": { "name": "get_weather", "parameters": schema } })
}

fn patch() -> Value {
    let grammar = json!({ "syntax": "lark", "definition": "start: \"*** \" /[a-z]{1,5}/ \"\\n\"" });
    json!({ "type": "custom", "custom": { "name": "patch", "format": { "type": "grammar", "grammar": grammar } } })
}

fn is_weather(arguments: &str) -> bool {
    let Ok(Value::Object(o)) = serde_json::from_str(arguments) else { return false };
    o.len() == 2
        && o["city"].as_str().is_some_and(|c| c.chars().count() <= 5)
        && o["days"].as_i64().is_some_and(|d| (1..=3).contains(&d))
}

fn body(model: &str, fields: &Value) -> String {
    let mut body =
        json!({ "model": model, "messages": [{ "role": "user", "content": "say" }], "tools": [weather(), patch()] });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body.to_string()
}

fn ask(addr: SocketAddr, model: &str, fields: &Value) -> ChatCompletion {
    let answer = post(addr, "/v1/chat/completions", &body(model, fields));
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

/// A choice as it was streamed: content, calls, reason.
type Streamed = (String, Vec<ReplyCall>, Option<FinishReason>);

fn stream(addr: SocketAddr, model: &str, fields: &Value, n: usize) -> Vec<Streamed> {
    let mut fields = fields.clone();
    fields["stream"] = json!(true);
    let answer = post(addr, "/v1/chat/completions", &body(model, &fields));
    let events = answer.events();
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"), "{}", answer.text());
    let mut out: Vec<Streamed> = vec![Default::default(); n];
    for event in &events[..events.len() - 1] {
        let chunk: ChatChunk = serde_json::from_str(event).unwrap_or_else(|e| panic!("{e}: {event}"));
        for c in chunk.choices {
            let (text, calls, reason) = &mut out[c.index as usize];
            assert!(reason.is_none(), "more after the end");
            text.push_str(c.delta.content.as_deref().unwrap_or_default());
            for d in c.delta.tool_calls {
                let (name, piece) = match (d.function, d.custom) {
                    (Some(f), None) => (f.name, f.arguments),
                    (None, Some(c)) => (c.name, c.input),
                    both => panic!("{both:?}"),
                };
                assert_eq!((d.id.is_some(), d.kind.is_some()), (name.is_some(), name.is_some()));
                if let (Some(id), Some(kind), Some(name)) = (d.id, d.kind, name) {
                    assert_eq!(d.index as usize, calls.len(), "calls come in order");
                    calls.push(ReplyCall::new(id, kind, name));
                }
                calls[d.index as usize].push(&piece);
            }
            *reason = c.finish_reason;
        }
    }
    out
}

/// Content, and for each call its kind, name and what it is called with; ids are checked and left out.
type Seen = (Option<String>, Vec<(CallKind, String, String)>, Option<FinishReason>);

fn seen(content: Option<String>, calls: &[ReplyCall], reason: Option<FinishReason>) -> Seen {
    let call = |c: &ReplyCall| {
        let digits = c.id.strip_prefix("call_").unwrap();
        assert!(digits.len() == 24 && digits.bytes().all(|b| b.is_ascii_hexdigit()), "{}", c.id);
        let (name, input) = match (&c.function, &c.custom) {
            (Some(f), None) => (f.name.clone(), f.arguments.clone()),
            (None, Some(c)) => (c.name.clone(), c.input.clone()),
            both => panic!("{both:?}"),
        };
        (c.kind, name.unwrap(), input)
    };
    let ids: std::collections::HashSet<&str> = calls.iter().map(|c| c.id.as_str()).collect();
    assert_eq!(ids.len(), calls.len(), "ids differ");
    (content, calls.iter().map(call).collect(), reason)
}

fn whole_and_streamed(addr: SocketAddr, model: &str, fields: &Value) -> Vec<Seen> {
    let whole = ask(addr, model, fields).choices;
    let of_whole: Vec<Seen> =
        whole.into_iter().map(|c| seen(c.message.content, &c.message.tool_calls, c.finish_reason)).collect();
    for (c, (text, calls, reason)) in of_whole.iter().zip(stream(addr, model, fields, of_whole.len())) {
        let streamed = seen(c.0.as_ref().map(|_| text.clone()), &calls, reason);
        assert!(c.0.is_some() || text.is_empty());
        assert_eq!(*c, streamed, "streamed");
    }
    of_whole
}

fn echo() -> (server::Running, Arc<Knobs>) {
    serve(Config::default())
}

fn function(arguments: &str) -> (CallKind, String, String) {
    (CallKind::Function, "get_weather".to_owned(), arguments.to_owned())
}

const CALL: &str = "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Ulm\"}}\n</tool_call>";

#[test]
fn what_the_model_says_becomes_calls() {
    let (running, knobs) = echo();
    let said = |replay: &str, more: Value| {
        let mut fields = json!({ "replay": replay });
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        whole_and_streamed(running.addr(), "echo", &fields).remove(0)
    };
    let (calls, stop, length) = (Some(FinishReason::ToolCalls), Some(FinishReason::Stop), Some(FinishReason::Length));
    let ulm = "{\"city\": \"Ulm\"}";
    for burst in [1, 3, 50] {
        knobs.burst.store(burst, SeqCst);
        assert_eq!(said(CALL, json!({})), (None, vec![function(ulm)], calls));
        let two = format!("Well.\n{CALL}\n{CALL}");
        assert_eq!(said(&two, json!({})), (Some("Well.".into()), vec![function(ulm), function(ulm)], calls));
        assert_eq!(said(&two, json!({ "parallel_tool_calls": false })).1, vec![function(ulm)]);
        assert_eq!(said("It rains.", json!({})), (Some("It rains.".into()), vec![], stop));
        // A stop string, before the call and within; the bound on tokens.
        assert_eq!(said(&two, json!({ "stop": "<tool" })), (Some("Well.\n".into()), vec![], stop));
        assert_eq!(said(CALL, json!({ "stop": "</tool_call>" })), (None, vec![function(ulm)], calls));
        assert_eq!(said(CALL, json!({ "max_tokens": 60 })), (None, vec![function("{\"city\": \"U")], length));
        // A call that a stop string cuts is none that could be made.
        assert_eq!(said(CALL, json!({ "stop": "Ulm" })), (None, vec![function("{\"city\": \"")], stop));
        // Where none is allowed it is text.
        assert_eq!(said(CALL, json!({ "tool_choice": "none" })), (Some(CALL.into()), vec![], stop));
        let custom = said("{\"name\": \"patch\", \"arguments\": {\"input\": \"*** a\\n\"}}", json!({}));
        assert_eq!(custom, (None, vec![(CallKind::Custom, "patch".into(), "*** a\n".into())], calls));
    }
    knobs.burst.store(1, SeqCst);
    knobs.step_ms.store(1, SeqCst);
    let before = knobs.seen("decode");
    said(&format!("{CALL}{}", "x".repeat(500)), json!({ "parallel_tool_calls": false }));
    assert!(knobs.wait("decode", before + 2), "nothing is computed after the only call");
}

#[test]
fn choices_and_logprobs() {
    let (running, _) = echo();
    let answer = ask(running.addr(), "echo", &json!({ "replay": CALL, "n": 2, "logprobs": true }));
    let ids: Vec<&str> = answer.choices.iter().map(|c| c.message.tool_calls[0].id.as_str()).collect();
    assert_ne!(ids[0], ids[1]);
    for c in &answer.choices {
        let tokens = &c.logprobs.as_ref().unwrap().content;
        let text: String = tokens.iter().map(|t| t.token.as_str()).collect();
        assert_eq!(text, CALL, "the tokens of the call are told");
    }
    assert_eq!(stream(running.addr(), "echo", &json!({ "replay": CALL, "logprobs": true }), 1)[0].1.len(), 1);
}

#[test]
fn a_template_without_tools_is_told_of_them() {
    let mut vocab = spec();
    vocab.chat_template = Some("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}".to_owned());
    let running = server::start(Config::default()).unwrap();
    let echo = Echo::new(4096, 1, &Arc::default());
    running.add_models(vec![server::Served { text: Arc::new(make_kit(&vocab)), ..served("echo", echo) }]).unwrap();
    let prompt = |messages: Value| {
        let answer = post(running.addr(), "/apply-template", &body("echo", &json!({ "messages": messages })));
        answer.json()["prompt"].as_str().unwrap().to_owned()
    };
    let call = json!({ "id": "a", "type": "function", "function": { "name": "get_weather", "arguments": "{\"city\":\"Ulm\"}" } });
    let told = prompt(json!([{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "Hi" },
        { "role": "assistant", "tool_calls": [call.clone(), call] },
        { "role": "tool", "tool_call_id": "a", "content": "dry" }, { "role": "tool", "tool_call_id": "a", "content": "wet" }]));
    assert!(told.starts_with("[system]Be brief.\n\n# Tools\n"), "{told}");
    assert!(told.contains("\"name\":\"get_weather\"") && told.contains("\"name\":\"patch\""), "{told}");
    let one = "<tool_call>\n{\"name\":\"get_weather\",\"arguments\":{\"city\":\"Ulm\"}}\n</tool_call>";
    let end = format!(
        "[user]Hi[assistant]{one}\n{one}[user]<tool_response>\ndry\n</tool_response>\n<tool_response>\nwet\n</tool_response>"
    );
    assert!(told.ends_with(&end), "{told}");
    assert!(prompt(json!([{ "role": "user", "content": "Hi" }])).starts_with("[system]# Tools\n"));
    let seen = whole_and_streamed(running.addr(), "echo", &json!({ "replay": CALL }));
    assert_eq!(seen[0].1, [function("{\"city\": \"Ulm\"}")]);
}

#[test]
fn forced_calls_are_right_whatever_the_model_thinks() {
    for hint in ["", HERMES] {
        let running = tiny::serve(hint);
        let weather_only = json!({ "tools": [weather()] });
        for (seed, choice) in (0..4).zip(
            [json!("required"), json!({ "type": "function", "function": { "name": "get_weather" } })].iter().cycle(),
        ) {
            let mut fields = weather_only.clone();
            let more = json!({ "tool_choice": choice, "seed": seed, "temperature": 1.5, "parallel_tool_calls": false, "n": 2 });
            fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            for (content, calls, reason) in whole_and_streamed(running.addr(), "tiny", &fields) {
                assert_eq!((content, calls.len(), reason), (None, 1, Some(FinishReason::ToolCalls)));
                assert!(calls[0].1 == "get_weather" && is_weather(&calls[0].2), "{}", calls[0].2);
            }
        }
        // A tool that takes text of a grammar is the whole answer.
        let custom = json!({ "tool_choice": { "type": "custom", "custom": { "name": "patch" } }, "seed": 3 });
        let (_, calls, reason) = whole_and_streamed(running.addr(), "tiny", &custom).remove(0);
        assert_eq!(reason, Some(FinishReason::ToolCalls));
        let input = calls[0].2.strip_prefix("*** ").unwrap().strip_suffix('\n').unwrap();
        assert!(calls[0].0 == CallKind::Custom && (1..=5).contains(&input.len()), "{input}");
        // What is cut before its name is told is nothing, not half a tag.
        for max in [1, 5, 12] {
            let cut = json!({ "tool_choice": "required", "seed": 1, "max_tokens": max });
            let (content, calls, reason) = whole_and_streamed(running.addr(), "tiny", &cut).remove(0);
            assert_eq!((content.as_deref(), calls, reason), (Some(""), vec![], Some(FinishReason::Length)), "{max}");
        }
        // Several, until the model has enough or the tokens are spent.
        let many = json!({ "tools": [weather()], "tool_choice": "required", "seed": 5, "max_tokens": 300 });
        for call in &whole_and_streamed(running.addr(), "tiny", &many)[0].1[1..] {
            assert!(is_weather(&call.2) || call.2.len() < 40, "{}", call.2);
        }
    }
}

#[test]
fn strict_tools_leave_text_free() {
    let running = tiny::serve(HERMES);
    let mut strict = weather();
    strict["function"]["strict"] = json!(true);
    for seed in 0..4 {
        let fields = json!({ "tools": [strict], "seed": seed, "temperature": 1.5, "max_tokens": 60 });
        let (content, calls, reason) = whole_and_streamed(running.addr(), "tiny", &fields).remove(0);
        assert!(content.is_some() && calls.is_empty() && reason.is_some());
    }
}

#[test]
fn what_cannot_be_forced_is_refused_with_its_place() {
    let running = tiny::serve(HERMES);
    let refused = |fields: Value| {
        let answer = post(running.addr(), "/v1/chat/completions", &body("tiny", &fields));
        assert_eq!(answer.status, 400, "{}", answer.text());
        let error = answer.json()["error"].clone();
        (error["code"].as_str().unwrap().to_owned(), error["param"].as_str().unwrap_or("").to_owned())
    };
    let with = |schema: Value| {
        let tool = json!({ "type": "function", "function": { "name": "f", "parameters": schema } });
        refused(json!({ "tools": [weather(), tool], "tool_choice": "required" }))
    };
    let at = |code: &str, place: &str| (code.to_owned(), place.to_owned());
    let place = "tools[1].function.parameters";
    let not = json!({ "type": "object", "properties": { "a": { "not": {} } } });
    assert_eq!(with(not.clone()), at("invalid_schema", &format!("{place}.properties.a.not")));
    assert_eq!(with(json!({ "type": "array" })), at("invalid_schema", &format!("{place}.type")));
    let deep = (0..40).fold(json!({}), |s, _| json!({ "type": "object", "properties": { "a": s } }));
    assert_eq!(with(deep).0, "json_too_deep", "before it is read");
    assert_eq!(with(json!({ "$ref": "#" })), at("invalid_schema", place));
    // Nothing is forced: nothing is compiled.
    let tool = json!({ "type": "function", "function": { "name": "f", "parameters": not } });
    ask(running.addr(), "tiny", &json!({ "tools": [tool], "max_tokens": 1 }));
    let custom = json!({ "type": "custom", "custom": { "name": "c", "format": { "type": "grammar",
        "grammar": { "syntax": "lark", "definition": "start: nowhere" } } } });
    let forced = json!({ "tools": [custom], "tool_choice": "required" });
    assert_eq!(refused(forced), at("invalid_grammar", "tools[0].custom.format.grammar.definition"));
    assert_eq!(refused(json!({ "tool_choice": "required", "replay": "x" })), at("unsupported_value", "replay"));
    let many: Vec<Value> = (0..10_000).map(|i| json!({ "function": { "name": format!("f{i}") } })).collect();
    assert_eq!(refused(json!({ "tools": many })).1, "tools");
}

//! `/v1/responses` over HTTP: events, whole answers, what is kept, what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod shell;

use serde_json::{Value, json};
use server::Config;
use shell::ws::said;
use shell::*;
use std::net::SocketAddr;

fn respond(addr: SocketAddr, body: &str) -> Answer {
    post(addr, "/v1/responses", body)
}

fn whole(addr: SocketAddr, body: &str) -> Value {
    let answer = respond(addr, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Events with what differs from run to run taken out.
fn golden(events: &[Value], id: &str) -> Vec<Value> {
    let key = id.trim_start_matches("resp_");
    events
        .iter()
        .map(|event| {
            let mut event: Value = serde_json::from_str(&event.to_string().replace(key, "KEY")).unwrap();
            if let Some(o) = event.get_mut("response").and_then(Value::as_object_mut) {
                o.remove("created_at");
                o.remove("timings");
            }
            event
        })
        .collect()
}

fn events(answer: &Answer) -> Vec<Value> {
    answer.events().iter().map(|e| serde_json::from_str(e).unwrap()).collect()
}

#[test]
fn a_stream_is_these_events_in_this_order() {
    let (running, _) = serve(Config::default());
    let body = r#"{"model":"echo","input":"hi","stream":true,"metadata":{"a":"b"},"instructions":"Be"}"#;
    let answer = respond(running.addr(), body);
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let events = events(&answer);
    let id = events[0]["response"]["id"].as_str().unwrap();
    let text = "system:Be\nuser:hi\n";
    let response = |status: &str, output: Value, usage: Value| {
        json!({
            "id": "resp_KEY", "object": "response", "status": status, "error": null, "incomplete_details": null,
            "model": "echo", "output": output, "background": false, "instructions": "Be", "max_output_tokens": null,
            "max_tool_calls": null, "metadata": {"a": "b"}, "parallel_tool_calls": true, "previous_response_id": null,
            "prompt_cache_key": null, "reasoning": {"effort": null, "summary": null}, "safety_identifier": null,
            "service_tier": "default", "store": true, "temperature": null, "text": {"format": {"type": "text"}},
            "tool_choice": "auto", "tools": [], "top_logprobs": 0, "top_p": null, "truncation": "disabled",
            "user": null, "system_fingerprint": "fp_echo", "usage": usage,
        })
    };
    let part = |text: &str| json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text});
    let item = |status: &str, content: Value| json!({"id": "msg_KEY0000", "type": "message", "status": status, "role": "assistant", "content": content});
    let n = text.len();
    let mut expected = vec![
        json!({"type": "response.created", "response": response("in_progress", json!([]), Value::Null)}),
        json!({"type": "response.in_progress", "response": response("in_progress", json!([]), Value::Null)}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": item("in_progress", json!([]))}),
        json!({"type": "response.content_part.added", "item_id": "msg_KEY0000", "output_index": 0,
            "content_index": 0, "part": part("")}),
    ];
    expected.extend(text.chars().map(|c| {
        json!({"type": "response.output_text.delta", "item_id": "msg_KEY0000", "output_index": 0,
            "content_index": 0, "delta": c.to_string(), "logprobs": []})
    }));
    let done = item("completed", json!([part(text)]));
    let usage = json!({
        "input_tokens": n, "input_tokens_details": {"cached_tokens": 1}, "output_tokens": n,
        "output_tokens_details": {"reasoning_tokens": 0, "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0},
        "total_tokens": 2 * n,
    });
    expected.extend([
        json!({"type": "response.output_text.done", "item_id": "msg_KEY0000", "output_index": 0,
            "content_index": 0, "text": text, "logprobs": []}),
        json!({"type": "response.content_part.done", "item_id": "msg_KEY0000", "output_index": 0,
            "content_index": 0, "part": part(text)}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": done}),
        json!({"type": "response.completed", "response": response("completed", json!([done]), usage)}),
    ]);
    for (i, event) in expected.iter_mut().enumerate() {
        event["sequence_number"] = i.into();
    }
    assert_eq!(golden(&events, id), expected);
    let names: Vec<String> =
        answer.text().lines().filter_map(|l| l.strip_prefix("event: ").map(str::to_owned)).collect();
    assert_eq!(names, events.iter().map(|e| e["type"].as_str().unwrap()).collect::<Vec<_>>());
}

#[test]
fn a_whole_answer_is_the_last_event_of_the_stream() {
    let (running, _) = serve(Config::default());
    for fields in ["", r#","max_output_tokens":3"#, r#","generate":false"#, r#","top_logprobs":2"#, r#","stop":"i""#] {
        let body = |stream| format!(r#"{{"model":"echo","input":"a b","stream":{stream}{fields}}}"#);
        let strip = |mut v: Value| {
            let key = v["id"].as_str().unwrap().trim_start_matches("resp_").to_owned();
            for name in ["created_at", "timings"] {
                assert!(v.as_object_mut().unwrap().remove(name).is_some());
            }
            v.to_string().replace(&key, "KEY")
        };
        let streamed = events(&respond(running.addr(), &body(true))).pop().unwrap();
        let answered = whole(running.addr(), &body(false));
        assert_eq!(strip(streamed["response"].clone()), strip(answered.clone()), "{fields}");
        match fields {
            r#","generate":false"# => {
                assert_eq!((&answered["status"], &answered["output"]), (&json!("completed"), &json!([])));
                assert_eq!(answered["usage"]["input_tokens"], 9);
            }
            r#","max_output_tokens":3"# => {
                assert_eq!(answered["incomplete_details"]["reason"], "max_output_tokens");
                assert_eq!((said(&answered).as_str(), &answered["status"]), ("use", &json!("incomplete")));
            }
            r#","top_logprobs":2"# => {
                let logprobs = answered["output"][0]["content"][0]["logprobs"].as_array().unwrap();
                assert_eq!((logprobs.len(), &logprobs[0]["token"]), (9, &json!("u")));
                assert_eq!(logprobs[0]["top_logprobs"].as_array().unwrap().len(), 2);
            }
            r#","stop":"i""# => {}
            _ => assert_eq!(said(&answered), "user:a b\n"),
        }
    }
}

#[test]
fn items_become_the_chat_that_they_stand_for() {
    let (running, knobs) = serve(Config::default());
    let input = json!([
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "dev"}]},
        {"role": "system", "content": "sys"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "one"},
            {"type": "input_text", "text": "two"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "calling"}]},
        {"type": "function_call", "call_id": "c1", "name": "shell", "arguments": "{\"p\":1}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": "patch"},
        {"type": "web_search_call", "status": "completed"},
        {"type": "function_call_output", "call_id": "c1", "output": "done"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "fine"}]},
        {"type": "local_shell_call", "call_id": "c3", "action": {"p": "ls"}},
        {"type": "local_shell_call_output", "call_id": "c3", "output": "files"},
    ]);
    let body = json!({"model": "echo", "input": input, "instructions": "ins", "max_output_tokens": 1});
    whole(running.addr(), &body.to_string());
    let prompt: Vec<u8> = knobs.last().prompt.iter().map(|t| *t as u8).collect();
    let expected = "system:ins\nsystem:dev\nsystem:sys\nuser:one\ntwo\nassistant:call shell 1call apply_patch calling\n\
                    tool:done\ntool:fine\nassistant:call local_shell ls\ntool:files\n";
    assert_eq!(String::from_utf8(prompt).unwrap(), expected);
}

#[test]
fn a_conversation_goes_on_from_an_answer_that_was_stored() {
    let (running, knobs) = serve(Config::default());
    let addr = running.addr();
    let first = whole(addr, r#"{"model":"echo","input":"hi"}"#);
    let id = first["id"].as_str().unwrap();
    let body = format!(r#"{{"model":"echo","input":"more","previous_response_id":"{id}"}}"#);
    let second = whole(addr, &body);
    assert_eq!(said(&second), "user:hi\nassistant:user:hi\n\nuser:more\n");
    assert_eq!(second["previous_response_id"], id);
    let again = whole(addr, &body);
    assert_eq!(said(&again), said(&second), "an answer may be followed twice");
    let third = format!(
        r#"{{"model":"echo","input":"3","previous_response_id":{},"max_output_tokens":1,"instructions":"I"}}"#,
        second["id"]
    );
    whole(addr, &third);
    let prompt: Vec<u8> = knobs.last().prompt.iter().map(|t| *t as u8).collect();
    let expected = format!("system:I\n{}assistant:{}\nuser:3\n", said(&second), said(&second));
    assert_eq!(String::from_utf8(prompt).unwrap(), expected);
}

#[test]
fn stored_answers_are_fetched_listed_and_deleted() {
    let (running, _) = serve(Config::default());
    let addr = running.addr();
    let answer = whole(
        addr,
        r#"{"model":"echo","input":[{"role":"user","content":"a","id":"msg_a"},{"role":"user","content":"b"}]}"#,
    );
    let id = answer["id"].as_str().unwrap();
    let path = format!("/v1/responses/{id}");
    assert_eq!(get(addr, &path).json(), answer);
    let list = get(addr, &format!("{path}/input_items")).json();
    let texts: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|i| i["content"][0]["text"].as_str().unwrap()).collect();
    assert_eq!((texts, &list["last_id"]), (vec!["b", "a"], &json!("msg_a")));
    let cancelled = post(addr, &format!("{path}/cancel"), "");
    assert_eq!((cancelled.status, cancelled.code().as_str()), (400, "not_cancellable"));
    // Another key sees nothing of it.
    let other =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\nConnection: close\r\n\r\n");
    assert_eq!(raw(addr, other.as_bytes()).status, 404);
    let delete = request("DELETE", &path, "", b"");
    let deleted = raw(addr, &delete).json();
    assert_eq!((&deleted["id"], &deleted["deleted"]), (&answer["id"], &json!(true)));
    assert_eq!(raw(addr, &delete).status, 404);
    for gone in [get(addr, &path), get(addr, &format!("{path}/input_items")), post(addr, &format!("{path}/cancel"), "")]
    {
        assert_eq!((gone.status, gone.code().as_str()), (404, "response_not_found"));
    }
    let next = format!(r#"{{"model":"echo","input":"c","previous_response_id":"{id}"}}"#);
    assert_eq!(respond(addr, &next).code(), "previous_response_not_found");
    let unstored = whole(addr, r#"{"model":"echo","input":"x","store":false}"#);
    assert_eq!(get(addr, &format!("/v1/responses/{}", unstored["id"].as_str().unwrap())).status, 404);
}

#[test]
fn an_item_can_be_referred_to() {
    let (running, knobs) = serve(Config::default());
    let addr = running.addr();
    let first = whole(addr, r#"{"model":"echo","input":"hi"}"#);
    let item = first["output"][0]["id"].as_str().unwrap();
    let body = format!(
        r#"{{"model":"echo","input":[{{"type":"item_reference","id":"{item}"}},{{"role":"user","content":"x"}}]}}"#
    );
    whole(addr, &body);
    assert_eq!(
        knobs.last().prompt.iter().map(|t| *t as u8 as char).collect::<String>(),
        "assistant:user:hi\n\nuser:x\n"
    );
    let unknown = respond(addr, r#"{"model":"echo","input":[{"type":"item_reference","id":"msg_0"}]}"#);
    assert_eq!((unknown.status, unknown.code().as_str()), (400, "item_not_found"));
}

#[test]
fn what_is_refused_is_named() {
    let (running, _) = serve(Config::default());
    for (fields, param, code) in [
        ("", "input", "missing_field"),
        (r#","input":[]"#, "input", "missing_field"),
        (r#","input":7"#, "input", "invalid_type"),
        (r#","input":[{"role":"tool","content":"x"}]"#, "input[0].role", "invalid_value"),
        (
            r#","input":[{"role":"user","content":[{"type":"input_image","image_url":"x"}]}]"#,
            "input[0].content[0]",
            "unsupported_value",
        ),
        (
            r#","input":[{"role":"user","content":[{"type":"input_file","file_id":"x"}]}]"#,
            "input[0].content[0]",
            "unsupported_value",
        ),
        (r#","input":[{"type":"compaction","encrypted_content":"x"}]"#, "input[0]", "unsupported_value"),
        (r#","input":[{"type":"function_call_output","output":"x"}]"#, "input[0].call_id", "missing_field"),
        (r#","input":[{"type":"function_call","name":"f"}]"#, "input[0].arguments", "missing_field"),
        (r#","input":"x","background":true"#, "background", "unsupported_field"),
        (r#","input":"x","conversation":"c"#, "", "invalid_json"),
        (r#","input":"x","conversation":"c""#, "conversation", "unsupported_field"),
        (r#","input":"x","prompt":{"id":"p"}"#, "prompt", "unsupported_field"),
        (r#","input":"x","truncation":"auto""#, "truncation", "unsupported_value"),
        (r#","input":"x","n":2"#, "n", "unsupported_value"),
        (r#","input":"x","previous_response_id":"resp_1""#, "previous_response_id", "previous_response_not_found"),
        (r#","input":"x","tools":[{"type":"file_search"}]"#, "tools[0].type", "unsupported_value"),
        (r#","input":"x","tools":[{"type":"function"}]"#, "tools[0].name", "missing_field"),
        (r#","input":"x","tool_choice":{"type":"function","name":"f"}"#, "tool_choice.name", "invalid_value"),
        (
            r#","input":"x","tools":[{"type":"namespace","name":"n","tools":[{"type":"namespace","name":"m","tools":[]}]}]"#,
            "tools[0].tools[0].type",
            "unsupported_value",
        ),
        (r#","input":"x","text":{"format":{"type":"json_schema","name":"n"}}"#, "text.format.schema", "missing_field"),
        (
            r#","input":"x","text":{"format":{"type":"json_schema","name":"n","schema":{"type":"nonsense"}}}"#,
            "text.format.schema",
            "invalid_schema",
        ),
        (r#","input":"x","metadata":[]"#, "metadata", "invalid_type"),
        (r#","input":"x","metadata":{"a":1}"#, "metadata", "invalid_type"),
        (r#","input":"x","max_output_tokens":-1"#, "max_output_tokens", "invalid_value"),
    ] {
        let answer = respond(running.addr(), &format!(r#"{{"model":"echo"{fields}}}"#));
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status, error["code"].as_str()), (400, Some(code)), "{fields}: {error}");
        if !param.is_empty() {
            assert_eq!(error["param"].as_str(), Some(param), "{fields}: {error}");
        }
    }
    assert_eq!(respond(running.addr(), r#"{"model":"other","input":"x"}"#).status, 404);
    assert_eq!(get(running.addr(), "/v1/responses").status, 426);
}

#[test]
fn failures_are_told_by_codes_that_clients_act_upon() {
    let (running, _) = serve(Config::default());
    let long = "x".repeat(2000);
    let body = |stream| format!(r#"{{"model":"echo","input":"{long}","stream":{stream}}}"#);
    let refused = respond(running.addr(), &body(false));
    assert_eq!((refused.status, refused.code().as_str()), (400, "context_length_exceeded"));
    let events = events(&respond(running.addr(), &body(true)));
    let kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["response.created", "response.in_progress", "response.failed"]);
    let response = &events[2]["response"];
    assert_eq!(
        (&response["status"], &response["error"]["code"]),
        (&json!("failed"), &json!("context_length_exceeded"))
    );
    // A bell in the prompt makes the engine panic in the middle of the answer.
    let answer = respond(running.addr(), r#"{"model":"echo","input":"ab\u0007","stream":true}"#);
    let last: Value = serde_json::from_str(answer.events().last().unwrap()).unwrap();
    assert_eq!(
        (&last["type"], &last["response"]["error"]["code"]),
        (&json!("response.failed"), &json!("server_error"))
    );
    assert!(answer.text().contains(r#""delta":"b""#), "it had begun");
}

/// What Codex CLI sends, shortened: fields and tools of all kinds that it has.
#[test]
fn what_codex_sends_is_taken() {
    let (running, knobs) = serve(Config::default());
    let body = json!({
        "model": "echo", "stream": true, "store": false, "tool_choice": "auto", "parallel_tool_calls": true,
        "reasoning": {"effort": "medium", "summary": "auto"}, "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "01a204b9-41ef-7d63-9df9-71ba27b747bf", "service_tier": "priority",
        "client_metadata": {"x-codex-installation-id": "y"}, "text": {"verbosity": "low"},
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "You are"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "go"}]}
        ],
        "tools": [
            {"type": "function", "name": "exec_command", "description": "Runs", "strict": false,
                "parameters": {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}},
            {"type": "custom", "name": "apply_patch", "description": "Patch", "format": {"type": "grammar",
                "syntax": "lark", "definition": "start: \"x\""}},
            {"type": "namespace", "name": "mcp__files__", "description": "d", "tools": [
                {"type": "function", "name": "read", "strict": false, "parameters": {"type": "object"}}]},
            {"type": "tool_search", "execution": "client", "description": "d", "parameters": {"type": "object"}},
            {"type": "web_search", "external_web_access": false}
        ]
    });
    let events = events(&respond(running.addr(), &body.to_string()));
    let last = &events.last().unwrap()["response"];
    assert_eq!((&last["status"], &last["service_tier"]), (&json!("completed"), &json!("priority")));
    assert_eq!(last["tools"], body["tools"], "as they were sent");
    let prompt: String = knobs.last().prompt.iter().map(|t| *t as u8 as char).collect();
    for shown in ["tool exec_command ", "tool apply_patch ", "tool mcp__files__.read ", "system:You are"] {
        assert!(prompt.contains(shown), "{shown}: {prompt}");
    }
    assert!(!prompt.contains("search"), "{prompt}");
    assert_eq!(knobs.last().class, engine::api::Class::Interactive);
}

/// The scripted engine says what it was asked, so a question that spells a call is answered by that call.
fn called(addr: SocketAddr, call: &str, fields: Value) -> Vec<Value> {
    let mut body = json!({
        "model": "echo", "stream": true, "input": format!("<tool_call>\n{call}\n</tool_call>"),
        "tools": [
            {"type": "function", "name": "run", "parameters": {"type": "object"}},
            {"type": "namespace", "name": "files", "tools": [
                {"type": "function", "name": "read", "parameters": {"type": "object"}}]},
            {"type": "custom", "name": "patch"}
        ]
    });
    fields.as_object().unwrap().iter().for_each(|(k, v)| body[k] = v.clone());
    events(&respond(addr, &body.to_string()))
}

#[test]
fn calls_become_items_under_the_names_that_clients_gave() {
    let (running, _) = serve(Config::default());
    for (call, kind, field, expected, name, namespace) in [
        (r#"{"name":"run","arguments":{"p":1}}"#, "function_call", "arguments", r#"{"p":1}"#, "run", Value::Null),
        (r#"{"name":"files.read","arguments":{}}"#, "function_call", "arguments", "{}", "read", json!("files")),
        (
            r#"{"name":"patch","arguments":{"input":"a\"b\nc"}}"#,
            "custom_tool_call",
            "input",
            "a\"b\nc",
            "patch",
            Value::Null,
        ),
    ] {
        let events = called(running.addr(), call, json!({}));
        let of = |kind: &str| events.iter().filter(|e| e["type"] == kind).cloned().collect::<Vec<_>>();
        let done = of("response.output_item.done");
        let item = done.iter().map(|e| &e["item"]).find(|i| i["type"] == kind).unwrap_or_else(|| panic!("{events:#?}"));
        assert_eq!((&item[field], &item["name"], &item["namespace"]), (&json!(expected), &json!(name), &namespace));
        assert!(item["call_id"].as_str().unwrap().starts_with("call_"));
        let stem = if kind == "function_call" { "function_call_arguments" } else { "custom_tool_call_input" };
        let deltas: String =
            of(&format!("response.{stem}.delta")).iter().map(|e| e["delta"].as_str().unwrap().to_owned()).collect();
        assert_eq!((deltas.as_str(), &of(&format!("response.{stem}.done"))[0][field]), (expected, &json!(expected)));
        let last = &events.last().unwrap()["response"];
        assert_eq!(last["status"], "completed");
        // The call and its output go back into the conversation.
        let body = json!({"model": "echo", "previous_response_id": last["id"], "max_output_tokens": 1,
            "input": [{"type": format!("{kind}_output"), "call_id": item["call_id"], "output": "done"}]});
        whole(running.addr(), &body.to_string());
    }
}

//! Ollama's, Mistral's and Tabby's dialects over sockets. The scripted engine echoes its prompt, so the answer shows how
//! the prompt was put together.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod shell;

use engine::api::Class;
use serde_json::{Value, json};
use server::{About, Config};
use shell::*;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::SeqCst;

fn ok(addr: SocketAddr, path: &str, body: &Value) -> Value {
    let answer = post(addr, path, &body.to_string());
    assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text());
    answer.json()
}

fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("application/x-ndjson")),
        "{}",
        answer.text()
    );
    assert!(answer.body.ends_with(b"}\n"));
    answer.text().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn ollama_generates() {
    let (running, knobs) = serve(Config::default());
    let addr = running.addr();
    let whole = |body: Value| ok(addr, "/api/generate", &body);
    let a = whole(json!({"model": "echo", "prompt": "hello", "stream": false}));
    assert_eq!(a["response"], "user:hello\n", "through the chat template");
    assert_eq!((&a["done"], &a["done_reason"], &a["model"]), (&json!(true), &json!("stop"), &json!("echo")));
    assert_eq!((&a["prompt_eval_count"], &a["eval_count"]), (&json!(11), &json!(11)));
    for name in ["total_duration", "prompt_eval_duration", "eval_duration"] {
        assert!(a[name].as_u64().unwrap() > 0, "{name}: {a}");
    }
    assert!(a["total_duration"].as_u64() >= a["eval_duration"].as_u64());
    assert!(a.get("message").is_none() && a["created_at"].as_str().unwrap().ends_with('Z'));
    let a = whole(json!({"model": "echo", "prompt": "u", "system": "s", "stream": false}));
    assert_eq!(a["response"], "system:s\nuser:u\n");

    let options = json!({"temperature": 0.5, "top_k": 7, "top_p": 0.5, "min_p": 0.25, "seed": 4, "num_predict": 3,
        "repeat_penalty": 1.5, "num_ctx": 8192, "stop": ["zz"]});
    let a = whole(
        json!({"model": "echo", "prompt": "hello<|endoftext|>", "raw": true, "stream": false, "options": options}),
    );
    assert_eq!((&a["done_reason"], &a["eval_count"]), (&json!("length"), &json!(3)));
    let r = knobs.last();
    assert_eq!((r.prompt.as_slice(), r.max_tokens), (&[104, 101, 108, 108, 111, 256][..], 3));
    let s = r.sampling;
    assert_eq!((s.temperature, s.top_k, s.top_p, s.min_p, s.seed, s.repeat_penalty), (0.5, 7, 0.5, 0.25, 4, 1.5));

    let a =
        whole(json!({"model": "echo", "prompt": "ab", "suffix": "cd", "stream": false, "options": {"stop": ["cd"]}}));
    assert_eq!((&a["response"], &a["done_reason"]), (&json!("ab"), &json!("stop")));
    assert_eq!((knobs.last().prompt, knobs.last().class), (vec![257, 97, 98, 258, 99, 100, 259], Class::Interactive));

    for (body, reason) in [(json!({"model": "echo"}), "load"), (json!({"model": "echo", "keep_alive": 0}), "unload")] {
        let submitted = knobs.seen("+");
        let a = whole(body);
        assert_eq!((&a["response"], &a["done"], &a["done_reason"]), (&json!(""), &json!(true), &json!(reason)));
        assert_eq!(knobs.seen("+"), submitted, "nothing is computed");
    }
    let a = ok(addr, "/api/chat", &json!({"model": "echo", "messages": []}));
    assert_eq!((&a["message"]["content"], &a["done_reason"]), (&json!(""), &json!("load")));
}

#[test]
fn ollama_chats_and_streams_lines() {
    let (running, knobs) = serve(Config::default());
    let addr = running.addr();
    let body = json!({"model": "echo:latest", "stream": false, "messages": [
        {"role": "system", "content": "s"}, {"role": "user", "content": "é\u{1F600}"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"p": "q"}}}]},
        {"role": "tool", "content": "r", "tool_name": "f"}],
        "tools": [{"type": "function", "function": {"name": "t", "parameters": {"type": "object"}}}]});
    let want = "system:s\nuser:é\u{1F600}\nassistant:call f q\ntool:r\ntool t {\"type\": \"object\"}\n";
    let a = ok(addr, "/api/chat", &body);
    assert_eq!((&a["message"]["content"], &a["message"]["role"]), (&json!(want), &json!("assistant")));
    assert!(a.get("response").is_none());
    for burst in [1, 3, 100] {
        knobs.burst.store(burst, SeqCst);
        let mut streamed = body.clone();
        streamed.as_object_mut().unwrap().remove("stream");
        let lines = lines(&post(addr, "/api/chat", &streamed.to_string()));
        let (last, pieces) = lines.split_last().unwrap();
        let text: String = pieces.iter().map(|l| l["message"]["content"].as_str().unwrap()).collect();
        assert_eq!(text, want);
        assert!(pieces.iter().all(|l| l["done"] == false && l.get("eval_count").is_none()));
        assert_eq!((&last["done"], &last["done_reason"]), (&json!(true), &json!("stop")));
        assert_eq!((&last["message"]["content"], &last["eval_count"]), (&json!(""), &a["eval_count"]));
    }
    let lines = lines(&post(addr, "/api/generate", r#"{"model":"echo","prompt":"p","raw":true}"#));
    assert_eq!((lines.len(), &lines[0]["response"], &lines[1]["response"]), (2, &json!("p"), &json!("")));
}

#[test]
fn ollama_gets_calls_of_tools_as_objects() {
    let (running, knobs) = serve(Config::default());
    let addr = running.addr();
    let spoken = "<tool_call>\n{\"name\": \"t\", \"arguments\": {\"p\": [1, \"q\"]}}\n</tool_call>";
    let body = json!({"model": "echo", "stream": false, "messages": [{"role": "user", "content": spoken}],
        "tools": [{"type": "function", "function": {"name": "t", "parameters": {"type": "object"}}}]});
    let want = json!([{"function": {"name": "t", "arguments": {"p": [1, "q"]}}}]);
    let a = ok(addr, "/api/chat", &body);
    assert_eq!((&a["message"]["tool_calls"], &a["done_reason"]), (&want, &json!("stop")), "{a}");
    assert!(!a["message"]["content"].as_str().unwrap().contains("tool_call"), "{a}");
    for burst in [1, 7, 100] {
        knobs.burst.store(burst, SeqCst);
        let mut streamed = body.clone();
        streamed["stream"] = true.into();
        let lines = lines(&post(addr, "/api/chat", &streamed.to_string()));
        let calls: Vec<Value> =
            lines.iter().flat_map(|l| l["message"]["tool_calls"].as_array().cloned().unwrap_or_default()).collect();
        assert_eq!(json!(calls), want, "{burst}");
        let text: String = lines.iter().map(|l| l["message"]["content"].as_str().unwrap()).collect();
        assert_eq!(json!(text), a["message"]["content"]);
    }
    let mut custom = body.clone();
    custom["tools"] = json!([{"type": "custom", "custom": {"name": "c"}}]);
    assert_eq!(post(addr, "/api/chat", &custom.to_string()).status, 400);
}

#[test]
fn a_slow_stream_of_lines_says_empty_pieces() {
    let mut config = Config::default();
    config.limits.heartbeat = std::time::Duration::from_millis(30);
    let (running, _) = serve_with(config, 1024, 1, Knobs::slow(100));
    let lines = lines(&post(running.addr(), "/api/generate", r#"{"model":"echo","prompt":"ab","raw":true}"#));
    let pings = lines.iter().filter(|l| l["response"] == "" && l["done"] == false).count();
    assert!(pings > 0, "{lines:?}");
    assert_eq!(lines.iter().map(|l| l["response"].as_str().unwrap()).collect::<String>(), "ab");
}

#[test]
fn ollamas_names_are_ours_by_rule() {
    let running = server::start(Config::default()).unwrap();
    let knobs = std::sync::Arc::default();
    running.add_models(vec![served("qwen2.5-coder-0.5b", Echo::new(64, 1, &knobs))]).unwrap();
    let ask = |name: &str| post(running.addr(), "/api/generate", &json!({"model": name}).to_string());
    for name in ["qwen2.5-coder-0.5b", "qwen2.5-coder-0.5b:latest", "qwen2.5-coder:0.5b", "default", "default:latest"] {
        assert_eq!((ask(name).status, &ask(name).json()["model"]), (200, &json!("qwen2.5-coder-0.5b")), "{name}");
    }
    for name in ["qwen2.5-coder", "qwen2.5-coder:1.5b", "qwen2.5-coder-0.5b:q8", "latest"] {
        let answer = ask(name);
        assert_eq!(answer.status, 404, "{name}");
        assert!(answer.json()["error"].as_str().unwrap().contains(name), "{}", answer.text());
    }
}

#[test]
fn ollamas_lists_tell_what_is_served() {
    let running = server::start(Config::default()).unwrap();
    assert_eq!(get(running.addr(), "/api/tags").status, 503, "still loading");
    let mut model = served("echo", Echo::new(1024, 4, &std::sync::Arc::default()));
    let (family, n_params, file_bytes) = ("qwen2".to_owned(), 1_543_714_304, 77);
    model.about =
        About { family, n_params, quantization: Some("Q4_K_M".into()), file_bytes, sha256: Some("ab12".into()) };
    running.add_models(vec![model]).unwrap();
    let addr = running.addr();
    let tags = get(addr, "/api/tags").json();
    let m = &tags["models"][0];
    assert_eq!(
        (&m["name"], &m["model"], &m["size"], &m["digest"]),
        (&json!("echo"), &json!("echo"), &json!(77), &json!("ab12"))
    );
    assert_eq!(m["modified_at"], "2023-11-14T22:13:20.000000Z");
    let d = &m["details"];
    assert_eq!(
        (&d["parameter_size"], &d["quantization_level"], &d["family"]),
        (&json!("1.5B"), &json!("Q4_K_M"), &json!("qwen2"))
    );
    assert_eq!(get(addr, "/api/ps").json()["models"][0]["context_length"], 1024);
    let show = ok(addr, "/api/show", &json!({"model": "echo:latest"}));
    assert_eq!(show["capabilities"], json!(["completion", "tools", "insert"]));
    assert_eq!(show["model_info"]["qwen2.context_length"], 1024);
    assert_eq!(ok(addr, "/api/show", &json!({"name": "echo"})), show, "the older name of the field");
    assert!(get(addr, "/api/version").json()["version"].as_str().unwrap().starts_with("0."));

    let m = get(addr, "/v1/models").json()["data"][0].clone();
    for name in ["max_model_len", "context_length", "context_window"] {
        assert_eq!(m[name], 1024, "{name}");
    }
    let can = json!({"chat": true, "tools": true, "fim": true, "json_schema": true, "responses": true});
    assert_eq!((&m["capabilities"], &m["quantization"], &m["size"]), (&can, &json!("Q4_K_M"), &json!(77)));
    assert!(m.get("prefill_tps").is_none() && m.get("decode_tps").is_none(), "nothing was measured yet: {m}");
}

#[test]
fn ollamas_pull_says_whether_the_model_is_here() {
    let (running, _) = serve(Config::default());
    let addr = running.addr();
    assert_eq!(ok(addr, "/api/pull", &json!({"model": "echo:latest", "stream": false})), json!({"status": "success"}));
    for (name, last) in [("echo", "success"), ("nope", "nope")] {
        let answer = post(addr, "/api/pull", &json!({"name": name, "insecure": false}).to_string());
        assert_eq!((answer.status, answer.header("content-type").unwrap_or_default()), (200, "application/x-ndjson"));
        assert!(answer.text().trim_end().lines().last().unwrap().contains(last), "{}", answer.text());
    }
}

#[test]
fn speeds_are_told_once_they_are_known() {
    let (running, _) = serve_with(Config::default(), 1024, 1, Knobs::slow(2));
    let addr = running.addr();
    complete(addr, &json!({"model": "echo", "prompt": "x".repeat(20), "max_tokens": 3}).to_string());
    let m = get(addr, "/v1/models/echo").json();
    assert!(m.get("prefill_tps").is_none() && m.get("decode_tps").is_none(), "too little to tell: {m}");
    complete(addr, &json!({"model": "echo", "prompt": "x".repeat(80), "max_tokens": 40}).to_string());
    let m = get(addr, "/v1/models/echo").json();
    // Steps of at least 2 ms: eight prompt tokens or one token each.
    let (prefill, decode) = (m["prefill_tps"].as_f64().unwrap(), m["decode_tps"].as_f64().unwrap());
    assert!(prefill > 1.0 && prefill < 5000.0 && decode > 0.5 && decode < 500.0, "{m}");
}

#[test]
fn ollamas_errors_have_its_shape() {
    let (running, _) = serve(Config::default());
    let addr = running.addr();
    let plain = raw(addr, &request("POST", "/api/generate", "Content-Type: text/plain\r\n", b"{}"));
    assert_eq!(plain.status, 415);
    assert!(plain.json()["error"].as_str().unwrap().contains("application/json"));
    for (path, body, status, part) in [
        ("/api/generate", "{}", 400, "model"),
        ("/api/generate", r#"{"model":"nope","prompt":"x"}"#, 404, "nope"),
        ("/api/generate", r#"{"model":"echo","prompt":1}"#, 400, "prompt"),
        ("/api/generate", r#"{"model":"echo","prompt":"x","images":["aGk="]}"#, 400, "images"),
        ("/api/generate", r#"{"model":"echo","prompt":"x","context":[1]}"#, 400, "context"),
        ("/api/generate", r#"{"model":"echo","prompt":"x","think":true}"#, 400, "think"),
        ("/api/generate", r#"{"model":"echo","prompt":"x","think":"low"}"#, 400, "think"),
        ("/api/generate", r#"{"model":"echo","prompt":"x","format":"xml"}"#, 400, "format"),
        ("/api/generate", r#"{"model":"echo","prompt":"x","format":{"type":5}}"#, 400, "schema"),
        ("/api/generate", r#"{"model":"echo","prompt":"x","options":1}"#, 400, "options"),
        ("/api/generate", r#"{"model":"echo","prompt":"x","options":{"num_predict":-3}}"#, 400, "options.num_predict"),
        ("/api/generate", r#"{"model":"echo","prompt":"x","options":{"num_ctx":"x"}}"#, 400, "options.num_ctx"),
        ("/api/generate", r#"{"model":"echo","prompt":"x","keep_alive":[]}"#, 400, "keep_alive"),
        ("/api/generate", r#"{"model":"echo","prompt":"x","stream":1}"#, 400, "stream"),
        ("/api/chat", r#"{"model":"echo","messages":[{"content":"x"}]}"#, 400, "messages[0].role"),
        ("/api/chat", r#"{"model":"echo","messages":[{"role":"x"}]}"#, 400, "messages[0].role"),
        ("/api/chat", r#"{"model":"echo","messages":[{"role":"user","content":"x","images":[1]}]}"#, 400, "images"),
        ("/api/chat", r#"{"model":"echo","messages":[{"role":"user","content":"refuse me"}]}"#, 400, "not so"),
        ("/api/chat", r#"{"model":"echo","messages":1}"#, 400, "messages"),
        ("/api/chat", r#"{"model":"echo","tools":[{}],"messages":[]}"#, 400, "tools[0]"),
        (
            "/api/chat",
            r#"{"model":"echo","messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}]}"#,
            400,
            "arguments",
        ),
        ("/api/show", r#"{"model":"nope"}"#, 404, "nope"),
        ("/api/show", "[]", 400, "object"),
        ("/api/pull", r#"{"model":"nope","stream":false}"#, 404, "nope"),
        ("/api/pull", r#"{"model":"echo","stream":"no"}"#, 400, "stream"),
        ("/api/embed", r#"{"model":"echo","input":"x"}"#, 404, "embeddings"),
        ("/api/nothing", "{}", 404, "path"),
    ] {
        let answer = post(addr, path, body);
        let error = answer.json()["error"].clone();
        assert_eq!(answer.status, status, "{path} {body}: {error}");
        assert!(error.as_str().unwrap_or("no text").contains(part), "{path} {body}: {error}");
    }
    let embeddings = post(addr, "/v1/embeddings", r#"{"model":"echo","input":"x"}"#);
    assert_eq!((embeddings.status, embeddings.code().as_str()), (404, "unsupported_endpoint"));
    assert_eq!(post(addr, "/api/tags", "{}").status, 405);
}

#[test]
fn mistral_fills_gaps_in_the_shape_of_chats() {
    let (running, knobs) = serve(Config::default());
    let addr = running.addr();
    let path = "/v1/fim/completions";
    let body = json!({"model": "echo", "prompt": "ab", "suffix": "cd", "max_tokens": 3, "temperature": 0, "random_seed": 9,
        "stop": "zz"});
    let a = ok(addr, path, &body);
    assert_eq!((&a["object"], &a["choices"][0]["message"]["content"]), (&json!("chat.completion"), &json!("ab")));
    assert_eq!((&a["choices"][0]["finish_reason"], &a["usage"]["prompt_tokens"]), (&json!("length"), &json!(7)));
    assert_eq!((knobs.last().sampling.seed, knobs.last().class), (9, Class::Interactive));
    assert_eq!(knobs.last().prompt, [257, 97, 98, 258, 99, 100, 259]);

    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    let answer = post(addr, path, &streamed.to_string());
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let events = answer.events();
    let (done, chunks) = events.split_last().unwrap();
    assert_eq!(done, "[DONE]");
    let chunks: Vec<Value> = chunks.iter().map(|c| serde_json::from_str(c).unwrap()).collect();
    let text: String = chunks.iter().map(|c| c["choices"][0]["delta"]["content"].as_str().unwrap()).collect();
    assert_eq!((text.as_str(), &chunks[0]["choices"][0]["delta"]["role"]), ("ab", &json!("assistant")));
    let last = chunks.last().unwrap();
    assert_eq!(
        (&last["choices"][0]["finish_reason"], &last["usage"]["completion_tokens"]),
        (&json!("length"), &json!(3))
    );
    let bad = post(addr, path, r#"{"model":"echo","prompt":"a","min_tokens":5}"#);
    assert_eq!((bad.status, &bad.json()["error"]["param"]), (400, &json!("min_tokens")));
}

#[test]
fn tabby_sends_segments() {
    let (running, knobs) = serve(Config::default());
    let addr = running.addr();
    let a = ok(addr, "/v1/completions", &json!({"language": "python", "segments": {"prefix": "ab", "suffix": "cd"}}));
    assert_eq!(a["choices"], json!([{"index": 0, "text": "abcd"}]));
    assert!(a["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!((knobs.last().prompt, knobs.last().max_tokens), (vec![257, 97, 98, 258, 99, 100, 259], 64));
    let declared = json!({"segments": {"prefix": "a", "declarations": [{"filepath": "x.py", "body": "D"}]}});
    assert!(ok(addr, "/v1/completions", &declared)["choices"][0]["text"].as_str().unwrap().ends_with("Da"));
    let bad = post(addr, "/v1/completions", r#"{"segments":{"prefix":1}}"#);
    assert_eq!((bad.status, &bad.json()["error"]["param"]), (400, &json!("segments.prefix")));
    let neither = complete(addr, r#"{"model":"echo"}"#);
    assert_eq!((neither.status, &neither.json()["error"]["param"]), (400, &json!("prompt")));
    let both = ok(addr, "/v1/completions", &json!({"model": "echo", "prompt": "p", "segments": {"prefix": "ab"}}));
    assert_eq!(both["object"], "text_completion", "what is whole in OpenAI's words is taken so");

    for health in [get(addr, "/v1/health"), raw(addr, &request("POST", "/v1/health", "", b""))] {
        assert_eq!((health.status, &health.json()["model"]), (200, &json!("echo")));
        assert!(health.json()["version"]["git_describe"].as_str().unwrap().starts_with("vonk-"));
    }
    assert_eq!(post(addr, "/v1/events", r#"{"type":"view","completion_id":"c","choice_index":0}"#).status, 204);
    assert_eq!(post(addr, "/v1/events", "[]").status, 400);
    let metrics = get(addr, "/metrics").text();
    for endpoint in ["tabby_health", "tabby_events"] {
        assert!(metrics.contains(&format!(r#"endpoint="{endpoint}""#)), "{endpoint}");
    }
}

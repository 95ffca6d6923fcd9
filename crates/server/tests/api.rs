//! What good clients get: answers whole and streamed, usage, timings, logprobs, stop strings, choices, metrics.
#![allow(clippy::unwrap_used, clippy::panic)] // tests and what they share

mod shell;

use engine::Sampling;
use protocol::{ChatChunk, ChatCompletion, Completion, FinishReason, ModelList};
use server::{Config, Served};
use shell::*;
use std::sync::Arc;

fn chunks(answer: &Answer) -> Vec<Completion> {
    let events = answer.events();
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"), "{}", answer.text());
    events[..events.len() - 1].iter().map(|e| serde_json::from_str(e).unwrap_or_else(|x| panic!("{x}: {e}"))).collect()
}

fn whole(answer: &Answer) -> Completion {
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

#[test]
fn models_health_and_readiness() {
    let running = server::start(Config::default()).unwrap();
    let addr = running.addr();
    assert_eq!(get(addr, "/health").status, 200);
    assert_eq!((get(addr, "/ready").status, get(addr, "/ready").text().as_str()), (503, r#"{"status":"loading"}"#));
    let loading = complete(addr, r#"{"model":"default","prompt":"x"}"#);
    assert_eq!((loading.status, loading.code().as_str(), loading.header("retry-after")), (503, "loading", Some("1")));
    let knobs = std::sync::Arc::default();
    let models = || vec![served("a/b", Echo::new(64, 1, &knobs)), served("two", Echo::new(99, 1, &knobs))];
    running.add_models(models()).unwrap();
    assert!(running.add_models(models()).is_err());
    assert_eq!(get(addr, "/ready").status, 200);
    let list: ModelList = serde_json::from_slice(&get(addr, "/v1/models").body).unwrap();
    assert_eq!(
        list.data.iter().map(|m| (m.id.as_str(), m.max_model_len)).collect::<Vec<_>>(),
        [("a/b", Some(64)), ("two", Some(99))]
    );
    assert_eq!(get(addr, "/v1/models/a/b").json()["id"], "a/b");
    assert_eq!(get(addr, "/v1/models/a%2Fb").json()["id"], "a/b");
    assert_eq!(get(addr, "/v1/models/two-alias").json()["id"], "two");
    assert_eq!(
        (get(addr, "/v1/models/three").status, get(addr, "/v1/models/three").code().as_str()),
        (404, "model_not_found")
    );
    for (asked, answers) in [("default", "a/b"), ("two-alias", "two"), ("two", "two")] {
        let body = format!(r#"{{"model":"{asked}","prompt":"x"}}"#);
        assert_eq!(whole(&complete(addr, &body)).model, answers);
    }
    let unknown = complete(addr, r#"{"model":"gpt-4","prompt":"x"}"#);
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "model_not_found"));
    assert!(unknown.text().contains("a/b, two"), "{}", unknown.text());
}

#[test]
fn a_completion_is_equal_whole_and_streamed() {
    let (running, _) = serve(Config::default());
    for (prompt, extra) in [
        ("Hello, wörld 😀! end", ""),
        ("Hello, wörld 😀! end", r#","max_tokens":11"#),
        ("one two three", r#","stop":["wo t","never"]"#),
        ("aaaab", r#","stop":"aab""#),
        ("abc", r#","stop":"bcd""#),
        ("x", r#","temperature":1,"seed":3,"n":3"#),
        ("logs", r#","logprobs":2"#),
        ("stop in logs", r#","logprobs":2,"stop":"in""#),
    ] {
        let body = |more: &str| format!(r#"{{"model":"echo","prompt":"{prompt}"{extra}{more}}}"#);
        let one = whole(&complete(running.addr(), &body("")));
        let streamed = complete(running.addr(), &body(r#","stream":true,"stream_options":{"include_usage":true}"#));
        assert_eq!(streamed.header("content-type"), Some("text/event-stream; charset=utf-8"));
        let parts = chunks(&streamed);
        for choice in &one.choices {
            let of = |c: &Completion| c.choices.first().filter(|x| x.index == choice.index).cloned();
            let mine: Vec<_> = parts.iter().filter_map(of).collect();
            let text: String = mine.iter().map(|c| c.text.as_str()).collect();
            assert_eq!(text, choice.text, "{prompt}{extra}");
            assert_eq!(mine.last().unwrap().finish_reason, choice.finish_reason);
            let tokens = |l: &protocol::CompletionLogprobs| {
                l.tokens.iter().cloned().zip(l.text_offset.iter().copied()).collect::<Vec<_>>()
            };
            let streamed: Vec<_> = mine.iter().filter_map(|c| c.logprobs.as_ref()).flat_map(tokens).collect();
            assert_eq!(streamed, choice.logprobs.as_ref().map(tokens).unwrap_or_default(), "{prompt}{extra}");
        }
        let last = parts.last().unwrap();
        assert_eq!((last.usage, last.choices.len()), (one.usage, 0));
        assert!(parts[..parts.len() - 1].iter().all(|c| c.usage.is_none() && c.id == last.id));
    }
}

#[test]
fn usage_and_timings_count_what_happened() {
    let (running, _) = serve_with(Config::default(), 1024, 4, Knobs::slow(3));
    let answer = whole(&complete(running.addr(), r#"{"model":"echo","prompt":["12345","1234567890"],"n":2}"#));
    let usage = answer.usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (15, 30, 45));
    assert_eq!(usage.prompt_tokens_details.unwrap().cached_tokens, 2);
    assert_eq!(
        answer.choices.iter().map(|c| c.text.as_str()).collect::<Vec<_>>(),
        ["12345", "12345", "1234567890", "1234567890"]
    );
    let t = answer.timings.unwrap();
    assert_eq!((t.prompt_n, t.predicted_n, t.cached_n), (4, 5, 1));
    assert!(t.predicted_ms >= 12.0 && t.ttft_ms >= 3.0 && t.ttft_ms < 2000.0, "{t:?}");
    assert!((t.predicted_per_second - 4.0 / t.predicted_ms * 1e3).abs() < 1e-6);
    assert_eq!(answer.system_fingerprint.as_deref(), Some("fp_echo"));
}

#[test]
fn chat_whole_and_streamed() {
    let (running, _) = serve(Config::default());
    let addr = running.addr();
    let body = |more: &str| {
        format!(
            r#"{{"model":"echo","messages":[{{"role":"developer","content":"be"}},{{"role":"user","content":[{{"type":"text","text":"hé"}}]}}]{more}}}"#
        )
    };
    let answer: ChatCompletion = serde_json::from_slice(&post(addr, "/v1/chat/completions", &body("")).body).unwrap();
    let text = answer.choices[0].message.content.clone().unwrap();
    assert_eq!(text, "system:be\nuser:hé\n");
    assert_eq!(answer.choices[0].finish_reason, Some(FinishReason::Stop));
    assert!(answer.id.starts_with("chatcmpl-"));
    let streamed = post(addr, "/v1/chat/completions", &body(r#","stream":true"#));
    let events = streamed.events();
    let parts: Vec<ChatChunk> = events[..events.len() - 1].iter().map(|e| serde_json::from_str(e).unwrap()).collect();
    assert_eq!(parts[0].choices[0].delta.role.as_deref(), Some("assistant"));
    let joined: String = parts.iter().filter_map(|c| c.choices[0].delta.content.as_deref()).collect();
    assert_eq!(joined, text);
    assert!(parts.last().unwrap().timings.is_some() && !streamed.text().contains("\"usage\""));
    let logs: ChatCompletion = serde_json::from_slice(
        &post(addr, "/v1/chat/completions", &body(r#","logprobs":true,"top_logprobs":1,"max_tokens":2"#)).body,
    )
    .unwrap();
    let content = &logs.choices[0].logprobs.as_ref().unwrap().content;
    assert_eq!((content.len(), content[0].logprob, content[0].top_logprobs.as_ref().unwrap().len()), (2, -0.5, 1));
}

#[test]
fn tools_reach_the_template_and_calls_come_back_as_objects() {
    let (running, _) = serve(Config::default());
    let addr = running.addr();
    let tools = r#""tools":[{"type":"function","function":{"name":"read","parameters":{"b":1,"a":2}}}]"#;
    let call = |arguments: &str| {
        format!(
            r#"{{"model":"echo","messages":[{{"role":"user","content":"x"}},{{"role":"assistant","content":null,"tool_calls":[{{"id":"c","type":"function","function":{{"name":"read","arguments":"{arguments}"}}}}]}},{{"role":"tool","tool_call_id":"c","content":"y"}}],{tools}}}"#
        )
    };
    let said = |body: &str| {
        let answer = post(addr, "/v1/chat/completions", body);
        answer.json()["choices"][0]["message"]["content"]
            .as_str()
            .unwrap_or_else(|| panic!("{}", answer.text()))
            .to_owned()
    };
    assert_eq!(said(&call(r#"{\"p\":1}"#)), "user:x\nassistant:call read 1\ntool:y\ntool read {\"b\": 1, \"a\": 2}\n");
    // What is no JSON, or a bomb, stays text; the template finds no `p` in it.
    assert!(said(&call("not json")).contains("call read \n"));
    assert!(said(&call(&"[".repeat(5000))).contains("call read \n"));
    assert!(said(&call(&"[".repeat(300))).contains("call read \n"));
    let none = call("{}").replace(r#""tools":"#, r#""tool_choice":"none","tools":"#);
    assert!(!said(&none).contains("tool read"));
}

#[test]
fn a_name_that_is_not_listed_is_taken_and_told_to_nobody() {
    let running = server::start(Config::default()).unwrap();
    let path = "/srv/ann/models/echo.gguf";
    let echo = served("echo", Echo::new(1024, 4, &Arc::default()));
    running.add_models(vec![Served { unlisted: vec![path.to_owned()], ..echo }]).unwrap();
    let addr = running.addr();
    let asked = complete(addr, &format!(r#"{{"model":"{path}","prompt":"ab","max_tokens":1}}"#));
    assert_eq!((asked.status, whole(&asked).model.as_str()), (200, "echo"));
    let unknown = complete(addr, r#"{"model":"other","prompt":"ab"}"#);
    assert_eq!(unknown.status, 404);
    let ollama = r#"{"model":"default","prompt":"ab","stream":false}"#;
    let told = [
        unknown,
        get(addr, "/v1/models"),
        get(addr, "/props"),
        get(addr, "/api/tags"),
        get(addr, "/metrics"),
        get(addr, "/v1/health"),
        post(addr, "/api/generate", ollama),
        post(addr, "/api/show", ollama),
    ];
    for answer in told {
        assert!(!answer.text().contains("ann"), "{}", answer.text());
    }
}

#[test]
fn a_template_is_applied_with_or_without_what_opens_an_answer() {
    let running = server::start(Config::default()).unwrap();
    let mut vocab = spec();
    vocab.chat_template = Some("{{ messages[0].content }}{% if add_generation_prompt %}>{% endif %}".to_owned());
    let echo = served("echo", Echo::new(1024, 4, &Arc::default()));
    running.add_models(vec![Served { text: Arc::new(make_kit(&vocab)), ..echo }]).unwrap();
    let prompt = |more: &str| {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"a"}}]{more}}}"#);
        post(running.addr(), "/apply-template", &body).json()["prompt"].clone()
    };
    assert_eq!(prompt(""), "a>");
    assert_eq!(prompt(r#","add_generation_prompt":true"#), "a>");
    assert_eq!(prompt(r#","add_generation_prompt":false"#), "a");
}

#[test]
fn a_template_may_refuse_and_a_model_may_have_none() {
    let (running, _) = serve(Config::default());
    let refused = post(
        running.addr(),
        "/v1/chat/completions",
        r#"{"model":"echo","messages":[{"role":"user","content":"refuse me"}]}"#,
    );
    assert_eq!((refused.status, refused.code().as_str()), (400, "template_error"));
    assert!(refused.text().contains("not so"), "{}", refused.text());

    let bare = server::start(Config::default()).unwrap();
    let mut spec = spec();
    (spec.chat_template, spec.fim) = (None, base::vocab::FimTokens::default());
    spec.tokens = spec.tokens.iter().map(|t| if t.len() > 4 { "~~~~" } else { t }).take(257).collect();
    spec.kinds.truncate(257);
    let mut model = served("bare", Echo::new(64, 1, &std::sync::Arc::default()));
    model.text = std::sync::Arc::new(make_kit(&spec));
    bare.add_models(vec![model]).unwrap();
    let chat =
        post(bare.addr(), "/v1/chat/completions", r#"{"model":"bare","messages":[{"role":"user","content":"x"}]}"#);
    assert_eq!((chat.status, chat.code().as_str()), (400, "no_chat_template"));
    let fim = complete(bare.addr(), r#"{"model":"bare","prompt":"a","suffix":"b"}"#);
    assert_eq!((fim.status, fim.json()["error"]["param"].as_str()), (400, Some("suffix")));
}

#[test]
fn suffix_fills_in_the_middle() {
    let (running, _) = serve(Config::default());
    let answer =
        whole(&complete(running.addr(), r#"{"model":"echo","prompt":"a<|fim_middle|>","suffix":"b","logprobs":0}"#));
    // The echo repeats the templated prompt: its special tokens are hidden, what the user wrote is text.
    assert_eq!(answer.choices[0].text, "a<|fim_middle|>b");
    assert_eq!(answer.choices[0].logprobs.as_ref().unwrap().tokens[0], "<|fim_prefix|>");
    assert_eq!(answer.usage.unwrap().prompt_tokens, 3 + 2 + 14);
    // Editors template prompts themselves: then special tokens are read.
    let own =
        whole(&complete(running.addr(), r#"{"model":"echo","prompt":"<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"}"#));
    assert_eq!((own.usage.unwrap().prompt_tokens, own.choices[0].text.as_str()), (5, "ab"));
}

#[test]
fn seeds_and_defaults_reach_the_engine() {
    let (running, _) = serve(Config::default());
    let text = |extra: &str| {
        whole(&complete(running.addr(), &format!(r#"{{"model":"default","prompt":"ab","max_tokens":1{extra}}}"#)))
            .choices
            .into_iter()
            .map(|c| c.text)
            .collect::<String>()
    };
    assert_eq!(text(""), "a");
    assert_eq!(text(r#","temperature":0.5,"seed":7"#), "7");
    assert_eq!(text(r#","temperature":0.5,"seed":7,"n":4"#), "7890");
}

#[test]
fn answers_are_cut_to_the_context() {
    let (running, _) = serve_with(Config::default(), 16, 1, Knobs::slow(0));
    for extra in ["", r#","max_tokens":1000"#] {
        let answer = whole(&complete(running.addr(), &format!(r#"{{"model":"echo","prompt":"~12345678"{extra}}}"#)));
        assert_eq!(answer.choices[0].finish_reason, Some(FinishReason::Length));
        assert_eq!(answer.usage.unwrap().completion_tokens, 7);
    }
    let token_ids = whole(&complete(running.addr(), r#"{"model":"echo","prompt":[104,105]}"#));
    assert_eq!(token_ids.choices[0].text, "hi");
}

#[test]
fn a_failed_step_costs_its_requests_only() {
    let (running, _) = serve(Config::default());
    let addr = running.addr();
    for _ in 0..5 {
        let failed = complete(addr, r#"{"model":"echo","prompt":"\u0007"}"#);
        assert_eq!((failed.status, failed.code().as_str()), (500, "internal_error"));
        let streamed = complete(addr, r#"{"model":"echo","prompt":"ab\u0007","stream":true}"#);
        let events = streamed.events();
        assert_eq!(streamed.status, 200);
        assert!(events[events.len() - 2].contains("internal_error"), "{events:?}");
        assert_eq!(events.last().unwrap(), "[DONE]");
        assert_eq!(whole(&complete(addr, r#"{"model":"echo","prompt":"ok"}"#)).choices[0].text, "ok");
    }
    assert!(get(addr, "/metrics").text().contains("vonk_step_failures_total{model=\"echo\"} 10"));
}

#[test]
fn metrics_count() {
    let (running, _) = serve(Config::default());
    let addr = running.addr();
    whole(&complete(addr, r#"{"model":"echo","prompt":"12345"}"#));
    complete(addr, r#"{"model":"nobody","prompt":"12345"}"#);
    get(addr, "/no/such/path/x7");
    let text = get(addr, "/metrics").text();
    for line in [
        "vonk_requests_total{endpoint=\"completions\",status=\"200\"} 1",
        "vonk_requests_total{endpoint=\"completions\",status=\"404\"} 1",
        "vonk_requests_total{endpoint=\"other\",status=\"404\"} 1",
        "vonk_prompt_tokens_total{model=\"echo\"} 5",
        "vonk_generated_tokens_total{model=\"echo\"} 5",
        "vonk_ttft_seconds_count{model=\"echo\"} 1",
        "vonk_itl_seconds_count{model=\"echo\"} 4",
        "vonk_effective_tokens_per_second_count{model=\"echo\"} 1",
        "vonk_requests_queued{model=\"echo\"} 0",
        "vonk_slots{model=\"echo\"} 4",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(!text.contains("x7"));
}

#[test]
fn one_connection_takes_many_requests() {
    use std::io::Write;
    let (running, _) = serve(Config::default());
    let mut stream = connect(running.addr());
    for i in 0..20 {
        let body = format!(r#"{{"model":"echo","prompt":"n{i}.","stream":{}}}"#, i % 2 == 0);
        let head = format!(
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
        let end = if i % 2 == 0 { "0\r\n\r\n" } else { "\"timings\":{" };
        let text = read_until(&mut stream, end);
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    }
}

/// Who says how to draw gets what OpenAI's fields mean; who says nothing gets what the model's makers recommend.
#[test]
fn a_models_own_sampling_applies_where_nothing_is_said() {
    let knobs: Arc<Knobs> = Arc::default();
    let own = Sampling { temperature: 0.7, top_k: 20, top_p: 0.8, ..Sampling::default() };
    let running = server::start(Config::default()).unwrap();
    running.add_models(vec![Served { defaults: own, ..served("echo", Echo::new(1024, 4, &knobs)) }]).unwrap();
    let drawn = |fields: &str| {
        let body = format!(r#"{{"model":"echo","prompt":"ab","max_tokens":1{fields}}}"#);
        assert_eq!(complete(running.addr(), &body).status, 200);
        let s = knobs.last().sampling;
        (s.temperature, s.top_k, s.top_p)
    };
    assert_eq!(drawn(""), (0.7, 20, 0.8));
    assert_eq!(drawn(r#","seed":1,"presence_penalty":1"#), (0.7, 20, 0.8));
    assert_eq!(drawn(r#","temperature":1"#), (1.0, 0, 1.0));
    assert_eq!(drawn(r#","temperature":0"#), (0.0, 0, 1.0));
    assert_eq!(drawn(r#","top_p":0.5"#), (1.0, 0, 0.5));
    let props = get(running.addr(), "/props").json();
    assert_eq!(props["default_generation_settings"]["params"]["top_k"], 20);
}

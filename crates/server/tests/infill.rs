//! llama.cpp's endpoints as its editor plug-ins use them. The scripted engine echoes its prompt, so the answer shows how
//! the prompt was put together (special tokens are not shown).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod shell;

use engine::api::Class;
use serde_json::{Value, json};
use server::Config;
use shell::*;
use std::net::SocketAddr;

fn infill(addr: SocketAddr, prefix: &str, suffix: &str, fields: &str) -> Answer {
    post(addr, "/infill", &format!(r#"{{"input_prefix":{},"input_suffix":{}{fields}}}"#, json!(prefix), json!(suffix)))
}

fn whole(addr: SocketAddr, prefix: &str, suffix: &str, fields: &str) -> Value {
    let answer = infill(addr, prefix, suffix, fields);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[test]
fn the_answer_has_llama_cpps_shape() {
    let (running, knobs) = serve(Config::default());
    let addr = running.addr();
    let a = whole(addr, "ab", "cd", r#","prompt":"ef","input_extra":[{"filename":"x.rs","text":"X","time":1}]"#);
    assert_eq!(a["content"], "\n\n--- snippet ---\n\nXabcdef");
    let r = knobs.last();
    assert!(r.prompt.ends_with(&[257, 97, 98, 258, 99, 100, 259, 101, 102]), "{:?}", r.prompt);
    assert_eq!((r.class, r.sampling.temperature), (Class::Interactive, 0.0));
    let n = r.prompt.len() as u64;
    assert_eq!(
        (a["tokens_evaluated"].as_u64(), a["tokens_predicted"].as_u64(), a["tokens_cached"].as_u64()),
        (Some(n), Some(n), Some(2 * n))
    );
    assert_eq!((&a["stop"], &a["stop_type"], &a["stopping_word"]), (&json!(true), &json!("eos"), &json!("")));
    assert_eq!((&a["truncated"], &a["model"], &a["index"]), (&json!(false), &json!("echo"), &json!(0)));
    let t = &a["timings"];
    assert_eq!(
        (t["cache_n"].as_u64(), t["prompt_n"].as_u64(), t["predicted_n"].as_u64()),
        (Some(1), Some(n - 1), Some(n))
    );
    for name in ["prompt_ms", "prompt_per_second", "prompt_per_token_ms", "predicted_ms", "predicted_per_second"] {
        assert!(t[name].is_number(), "{name}: {t}");
    }
    let a = whole(addr, "abc", "def", r#","stop":["zz","cd"],"n_predict":50,"model":"echo-alias""#);
    assert_eq!((&a["content"], &a["stop_type"], &a["stopping_word"]), (&json!("ab"), &json!("word"), &json!("cd")));
    assert_eq!(
        (&a["generation_settings"]["n_predict"], &a["generation_settings"]["stop"][1]),
        (&json!(50), &json!("cd"))
    );
    let a =
        whole(addr, "abc", "def", r#","n_predict":3,"temperature":0.5,"top_k":7,"top_p":0.5,"min_p":0.25,"seed":4"#);
    assert_eq!((&a["stop_type"], &a["tokens_predicted"]), (&json!("limit"), &json!(3)));
    let s = knobs.last().sampling;
    assert_eq!((s.temperature, s.top_k, s.top_p, s.min_p, s.seed), (0.5, 7, 0.5, 0.25, 4));
    let many = whole(addr, "abc", "def", r#","n_cmpl":2,"n_predict":2"#);
    assert_eq!(many.as_array().map(Vec::len), Some(2));
    assert_eq!((&many[1]["index"], &many[1]["tokens_predicted"]), (&json!(1), &json!(2)));
}

/// What llama.vim sends while somebody types, and to warm the cache.
#[test]
fn llama_vims_requests() {
    let (running, knobs) = serve(Config::default());
    let addr = running.addr();
    let common = r#","id_slot":0,"input_extra":[{"text":"t","filename":"f","time":[1,2]}],"prompt":"p","top_k":40,
        "top_p":0.90,"samplers":["top_k","top_p","infill"],"stream":false,"cache_prompt":true,"t_max_prompt_ms":500,"model":"""#;
    let typing = r#","n_predict":128,"stop":[],"n_indent":4,"t_max_predict_ms":1000,
        "response_fields":["content","timings/prompt_n","timings.cache_n","truncated","tokens_cached","nothing/there"]"#;
    let a = whole(addr, "a", "b", &[common, typing].concat());
    let n = knobs.last().prompt.len();
    let want = json!({"content": "\n\n", "timings/prompt_n": n - 1, "timings.cache_n": 1, "truncated": false,
        "tokens_cached": n + 3});
    assert_eq!(a, want, "the third line of what is echoed is not indented");
    let warm = r#","n_predict":0,"t_max_predict_ms":1,"response_fields":[""]"#;
    assert_eq!(whole(addr, "a", "b", &[common, warm].concat()), json!({}));
    assert_eq!(knobs.last().max_tokens, 0);
    let a = whole(addr, "a", "b", r#","n_predict":0"#);
    assert_eq!((&a["content"], &a["stop_type"], &a["tokens_evaluated"]), (&json!(""), &json!("limit"), &json!(5)));
}

#[test]
fn a_stream_says_the_same_in_pieces() {
    let (running, knobs) = serve(Config::default());
    let addr = running.addr();
    for (burst, fields) in
        [(1, ""), (3, ""), (100, ""), (2, r#","stop":["56"]"#), (2, r#","n_indent":2"#), (1, r#","n_predict":0"#)]
    {
        knobs.burst.store(burst, std::sync::atomic::Ordering::SeqCst);
        let a = whole(addr, "12\n  34", "56\n 78é", fields);
        let answer = infill(addr, "12\n  34", "56\n 78é", &format!(r#"{fields},"stream":true"#));
        assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
        let events: Vec<Value> = answer.events().iter().map(|e| serde_json::from_str(e).unwrap()).collect();
        let (last, pieces) = events.split_last().unwrap();
        let text: String = pieces.iter().map(|e| e["content"].as_str().unwrap()).collect();
        assert!(pieces.iter().all(|e| e["stop"] == false && e["index"] == 0), "{events:?}");
        assert_eq!(json!(text), a["content"], "{fields}");
        for field in
            ["stop", "stop_type", "stopping_word", "tokens_predicted", "tokens_evaluated", "generation_settings"]
        {
            assert_eq!(last[field], a[field], "{field} {fields}");
        }
        assert_eq!(last["content"], "");
    }
    assert_eq!(whole(addr, "12\n  34", "56\n 78", r#","n_indent":2"#)["content"], "12\n  3456\n ");
}

#[test]
fn time_ends_an_answer() {
    let (running, _) = serve_with(Config::default(), 1024, 1, Knobs::slow(5));
    let a = whole(running.addr(), &"x\n".repeat(300), "", r#","t_max_predict_ms":20"#);
    assert_eq!(a["stop_type"], "limit");
    assert!(a["tokens_predicted"].as_u64().unwrap() < 300, "{a}");
}

#[test]
fn what_does_not_fit_is_left_out() {
    let (running, knobs) = serve(Config::default());
    let addr = running.addr();
    let (long, extra) = ("p".repeat(5000), format!(r#","input_extra":[{{"text":"{}"}}]"#, "e".repeat(9000)));
    let a = whole(addr, &long, &"s".repeat(5000), &format!(r#","n_predict":8{extra}"#));
    assert_eq!(a["truncated"], true);
    let prompt = knobs.last().prompt;
    assert_eq!(prompt.len(), 1024 - 256);
    let count = |byte| prompt.iter().filter(|t| **t == byte).count();
    assert_eq!((count(112), count(115), count(101)), (765 - 191, 191, 0));
    whole(addr, &long, "", r#","n_predict":0"#);
    assert_eq!(knobs.last().prompt.len(), 1024 - 256, "warmed as it will be asked");
}

#[test]
fn bad_fields_are_named() {
    let (running, _) = serve(Config::default());
    let addr = running.addr();
    let many = |n: usize, x: &str| format!("[{}]", vec![x; n].join(","));
    let (extras, names, long) =
        (many(257, r#"{"text":""}"#), many(65, r#""x""#), format!(r#"["{}"]"#, "x".repeat(257)));
    let cases: &[(&str, &str, &str)] = &[
        ("input_extra", r#""x""#, "input_extra"),
        ("input_extra", "[1]", "input_extra[0]"),
        ("input_extra", "[{}]", "input_extra[0].text"),
        ("input_extra", r#"[{"text":1}]"#, "input_extra[0].text"),
        ("input_extra", r#"[{"text":"","filename":1}]"#, "input_extra[0].filename"),
        ("input_extra", &extras, "input_extra"),
        ("prompt", "[1]", "prompt"),
        ("n_predict", "-2", "n_predict"),
        ("n_predict", r#""x""#, "n_predict"),
        ("n_cmpl", "9", "n_cmpl"),
        ("n_cmpl", "0", "n_cmpl"),
        ("n_indent", "-1", "n_indent"),
        ("stop", "[1]", "stop[0]"),
        ("stop", r#"[""]"#, "stop[0]"),
        ("temperature", "3", "temperature"),
        ("top_k", "-2", "top_k"),
        ("top_p", "2", "top_p"),
        ("min_p", "-1", "min_p"),
        ("seed", r#""x""#, "seed"),
        ("samplers", "1", "samplers"),
        ("samplers", "[1]", "samplers[0]"),
        ("stream", "1", "stream"),
        ("cache_prompt", "1", "cache_prompt"),
        ("id_slot", "-2", "id_slot"),
        ("id_slot", "1.5", "id_slot"),
        ("t_max_prompt_ms", r#""x""#, "t_max_prompt_ms"),
        ("t_max_predict_ms", "-2", "t_max_predict_ms"),
        ("t_max_predict_ms", "86400001", "t_max_predict_ms"),
        ("response_fields", r#""content""#, "response_fields"),
        ("response_fields", &names, "response_fields"),
        ("response_fields", &long, "response_fields[0]"),
        ("model", "7", "model"),
    ];
    for (field, value, param) in cases {
        let answer = infill(addr, "a", "b", &format!(r#","{field}":{value}"#));
        assert_eq!(answer.status, 400, "{field} {value}: {}", answer.text());
        assert_eq!(answer.json()["error"]["param"], *param, "{field} {value}");
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains(param), "{}", answer.text());
    }
    for (path, body, status, param) in [
        ("/infill", "{}", 400, json!("input_prefix")),
        ("/infill", r#"{"input_prefix":""}"#, 400, json!("input_suffix")),
        ("/infill", r#"{"input_prefix":1,"input_suffix":""}"#, 400, json!("input_prefix")),
        ("/infill", r#"{"input_prefix":"","input_suffix":"","model":"nope"}"#, 404, json!("model")),
        ("/infill", "[]", 400, Value::Null),
        ("/tokenize", "{}", 400, json!("content")),
        ("/tokenize", r#"{"content":[1]}"#, 400, json!("content")),
        ("/tokenize", r#"{"content":"x","add_special":1}"#, 400, json!("add_special")),
        ("/tokenize", r#"{"content":"x","model":"nope"}"#, 404, json!("model")),
        ("/detokenize", "{}", 400, json!("tokens")),
        ("/detokenize", r#"{"tokens":"x"}"#, 400, json!("tokens")),
        ("/detokenize", r#"{"tokens":[1,-1]}"#, 400, json!("tokens[1]")),
        ("/detokenize", r#"{"tokens":[1,260]}"#, 400, json!("tokens[1]")),
        ("/detokenize", &format!(r#"{{"tokens":{}}}"#, many(1025, "1")), 400, json!("tokens")),
        ("/tokenize", &format!(r#"{{"content":"{}"}}"#, "x".repeat(8193)), 400, json!("content")),
        ("/apply-template", "{}", 400, json!("messages")),
        ("/apply-template", r#"{"messages":[{"role":"user","content":"refuse me"}]}"#, 400, json!("messages")),
        ("/apply-template", "", 400, Value::Null),
    ] {
        let answer = post(addr, path, body);
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (status, &param), "{path} {body:.60}");
    }
    let plain = raw(addr, &request("POST", "/infill", "Content-Type: text/plain\r\n", b"{}"));
    assert_eq!((plain.status, get(addr, "/infill").status, post(addr, "/props", "{}").status), (415, 405, 405));
    assert_eq!(whole(addr, "", "", "")["content"], "", "an empty file is a file");
}

#[test]
fn a_model_without_the_tokens_says_so() {
    let running = server::start(Config::default()).unwrap();
    let mut spec = spec();
    spec.fim = base::vocab::FimTokens::default();
    let texts: Vec<String> = spec.tokens.iter().map(|t| t.replace("fim_", "no_")).collect();
    spec.tokens = base::vocab::StrTable::new();
    texts.iter().for_each(|t| spec.tokens.push(t).unwrap());
    let knobs = std::sync::Arc::default();
    let mut model = served("echo", Echo::new(64, 1, &knobs));
    model.text = std::sync::Arc::new(make_kit(&spec));
    running.add_models(vec![model]).unwrap();
    let answer = infill(running.addr(), "a", "b", "");
    assert_eq!((answer.status, answer.code().as_str()), (400, "unsupported_field"));
}

#[test]
fn properties_tokens_and_templates() {
    let (running, _) = serve(Config::default());
    let addr = running.addr();
    let p = get(addr, "/props").json();
    assert_eq!((&p["default_generation_settings"]["n_ctx"], &p["total_slots"]), (&json!(1024), &json!(4)));
    assert_eq!(
        (&p["model_path"], &p["eos_token"], &p["bos_token"]),
        (&json!("echo"), &json!("<|endoftext|>"), &json!(""))
    );
    assert!(
        p["chat_template"].as_str().unwrap().contains("m.role") && p["build_info"].as_str().unwrap().contains("vonk")
    );

    let tokens = |body: &str| post(addr, "/tokenize", body).json()["tokens"].clone();
    assert_eq!(tokens(r#"{"content":"ab<|endoftext|>"}"#), json!([97, 98, 256]));
    assert_eq!(tokens(r#"{"content":"<|endoftext|>","parse_special":false}"#).as_array().unwrap().len(), 13);
    assert_eq!(tokens(r#"{"content":""}"#), json!([]));
    let pieces = json!([{"id": 97, "piece": "a"}, {"id": 195, "piece": [195]}, {"id": 169, "piece": [169]}]);
    assert_eq!(tokens(r#"{"content":"aé","with_pieces":true,"model":"echo"}"#), pieces);
    let text = |body: &str| post(addr, "/detokenize", body).json()["content"].clone();
    assert_eq!(text(r#"{"tokens":[97,195,169,256]}"#), "aé<|endoftext|>");
    assert_eq!(text(r#"{"tokens":[]}"#), "");

    let rendered = post(addr, "/apply-template", r#"{"messages":[{"role":"user","content":"hi"}]}"#);
    assert_eq!((rendered.status, &rendered.json()["prompt"]), (200, &json!("user:hi\n")));
    let metrics = get(addr, "/metrics").text();
    for endpoint in ["props", "tokenize", "detokenize", "apply_template"] {
        assert!(metrics.contains(&format!(r#"endpoint="{endpoint}""#)), "{endpoint}");
    }
}

#[test]
fn a_server_that_loads_takes_none_of_them() {
    let running = server::start(Config::default()).unwrap();
    let addr = running.addr();
    assert_eq!((get(addr, "/props").status, post(addr, "/tokenize", "{}").status), (503, 503));
    assert_eq!(infill(addr, "a", "b", "").status, 503);
}

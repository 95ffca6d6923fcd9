//! Requests as clients send them, and as they should not: each refusal is a 400 that names the field and says what to do.

use protocol::{Hints, Prompt, Role, ServiceTier, parse_chat, parse_completion};
use std::path::PathBuf;

fn chat_with(field: &str, value: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],"{field}":{value}}}"#)
}

fn completion_with(field: &str, value: &str) -> String {
    format!(r#"{{"model":"m","prompt":"hi","{field}":{value}}}"#)
}

#[test]
fn an_agent_s_request_is_taken() {
    // The shape that opencode and Continue send: tools, include_usage, fields we do not know.
    let body = r#"{"model":"vonk","max_tokens":32000,"temperature":0,"messages":[
        {"role":"developer","content":"be brief"},
        {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
        {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"read","arguments":"{\"p\":1}"}}]},
        {"role":"tool","tool_call_id":"c1","content":"file"}],
        "tools":[{"type":"function","function":{"name":"read","description":"d","parameters":{"type":"object","properties":{"z":{},"a":{}}}}}],
        "tool_choice":"auto","parallel_tool_calls":true,"stream":true,"stream_options":{"include_usage":true},
        "store":false,"metadata":{"deep":[1,{"x":null}]},"reasoning_effort":"low","stop":null,"n":1}"#;
    let r = parse_chat(body.as_bytes()).unwrap();
    assert!(r.generate.stream && r.generate.include_usage);
    assert_eq!(r.generate.max_tokens, Some(32000));
    assert_eq!(r.messages[0].role, Role::Developer);
    assert_eq!(r.messages[1].content.as_deref(), Some("a\nb"));
    assert_eq!(r.messages[2].tool_calls[0].arguments, "{\"p\":1}");
    assert_eq!(r.messages[3].tool_call_id.as_deref(), Some("c1"));
    // The template prints tools as they were sent: the order of keys is kept.
    let tools = r.tools.list[0].template.to_string();
    assert!(tools.contains(r#"{"type":"function","function":{"name":"read","description":"d","#), "{tools}");
    assert!(tools.contains(r#"{"z":{},"a":{}}"#), "{tools}");
}

#[test]
fn tool_choice_none_hides_the_tools() {
    let tools = r#"[{"type":"function","function":{"name":"f"}}],"tool_choice":"none""#;
    assert!(parse_chat(chat_with("tools", tools).as_bytes()).unwrap().tools.list.is_empty());
}

#[test]
fn what_binds_an_answer_elsewhere_is_refused_and_not_passed_over() {
    for (field, value) in [
        ("grammar", r#""root ::= \"a\"""#),
        ("json_schema", "{}"),
        ("guided_json", r#"{"type":"object"}"#),
        ("guided_regex", r#""a""#),
        ("guided_choice", r#"["a"]"#),
        ("guided_grammar", r#""x""#),
        ("structured_outputs", "{}"),
    ] {
        let refused = parse_chat(chat_with(field, value).as_bytes()).unwrap_err();
        assert_eq!(
            (refused.status, refused.code, refused.param.as_deref()),
            (400, Some("unsupported_field"), Some(field))
        );
        let infill = format!(r#"{{"input_prefix":"","input_suffix":"","{field}":{value}}}"#);
        assert!(protocol::parse_infill(infill.as_bytes()).is_err(), "{field}");
        for empty in ["null", r#""""#] {
            assert!(parse_chat(chat_with(field, empty).as_bytes()).is_ok());
        }
    }
}

#[test]
fn completions_take_all_four_forms_of_prompt() {
    let prompts = |p: &str| parse_completion(format!(r#"{{"model":"m","prompt":{p}}}"#).as_bytes()).unwrap().prompts;
    let text = |s: &str| Prompt::Text(s.to_owned());
    assert_eq!(prompts(r#""a\u00e9\ud83d\ude00""#), [text("aé😀")]);
    assert_eq!(prompts(r#" [ "a" , "" ] "#), [text("a"), text("")]);
    assert_eq!(prompts("[1,2,3]"), [Prompt::Tokens(vec![1, 2, 3])]);
    assert_eq!(prompts("[[1],[2,3]]"), [Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2, 3])]);
}

#[test]
fn parameters_arrive_as_sent() {
    let r = parse_completion(
        br#"{"model":"m","prompt":"x","suffix":"y","max_tokens":7,"max_completion_tokens":9,"n":8,"temperature":2,
        "top_k":-1,"top_p":1e-320,"min_p":0.5,"seed":-1,"presence_penalty":-2,"frequency_penalty":2,
        "repetition_penalty":1.1,"repeat_last_n":-1,"stop":["a","b"],"logit_bias":{"5":-100,"6":1.5},"logprobs":0,
        "echo":false,"best_of":8,"user":"u","response_format":{"type":"text"},"stream_options":null}"#,
    )
    .unwrap();
    let g = &r.generate;
    assert_eq!((g.max_tokens, g.n, g.top_k, g.seed), (Some(9), 8, Some(0), Some(u64::MAX)));
    assert!(g.top_p.unwrap().get() > 0.0);
    assert_eq!(g.repeat_penalty.unwrap().get(), 1.1);
    assert_eq!(g.stop, ["a", "b"]);
    assert_eq!(g.logit_bias.iter().map(|(id, b)| (*id, b.get())).collect::<Vec<_>>(), [(5, -100.0), (6, 1.5)]);
    assert_eq!((r.logprobs, r.suffix.as_deref()), (Some(0), Some("y")));
    let seed = |s: &str| parse_completion(completion_with("seed", s).as_bytes()).unwrap().generate.seed;
    assert_eq!(seed("18446744073709551615"), Some(u64::MAX));
    assert_eq!(seed("-9223372036854775808"), Some(1 << 63));
}

#[test]
fn hints_arrive_as_sent() {
    let hints = |fields: &str| {
        let chat =
            parse_chat(format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}]{fields}}}"#).as_bytes());
        let text = parse_completion(format!(r#"{{"model":"m","prompt":"x"{fields}}}"#).as_bytes());
        assert_eq!(chat.as_ref().unwrap().generate, text.unwrap().generate);
        let g = chat.unwrap().generate;
        (g.max_tokens, g.hints)
    };
    assert_eq!(hints(""), (None, Hints { speculate: true, ..Hints::default() }));
    let nulls = r#","prediction":null,"speculation":null,"prompt_cache_key":null,"service_tier":null,"replay":null"#;
    assert_eq!(hints(nulls), hints(""));
    assert_eq!(hints(r#","prompt_cache_key":"","n_predict":-1"#), hints(""));
    let (max_tokens, h) = hints(
        r#","prediction":{"type":"content","content":"a\nb"},"speculation":"off","prompt_cache_key":"k","service_tier":"flex",
        "replay":"<|im_end|>","deadline_ms":5,"n_predict":3"#,
    );
    let expected = Hints {
        prediction: Some("a\nb".to_owned()),
        speculate: false,
        prompt_cache_key: Some("k".to_owned()),
        service_tier: Some(ServiceTier::Flex),
        replay: Some("<|im_end|>".to_owned()),
        deadline_ms: Some(5),
    };
    assert_eq!((max_tokens, h), (Some(3), expected));
    let parts = r#","prediction":{"type":"content","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}"#;
    assert_eq!(hints(parts).1.prediction.as_deref(), Some("ab"));
    assert_eq!(hints(r#","prediction":{"type":"content","content":[]}"#).1.prediction.as_deref(), Some(""));
    // OpenAI's names come first, and 0 is a number of tokens.
    assert_eq!(hints(r#","n_predict":9,"max_tokens":0"#).0, Some(0));
    assert_eq!(hints(r#","max_tokens":9,"max_completion_tokens":0"#).0, Some(0));
    for tier in ["auto", "default", "flex", "priority"] {
        let read = hints(&format!(r#","service_tier":"{tier}""#)).1.service_tier.unwrap();
        assert_eq!((read.as_str(), serde_json::to_string(&read).unwrap()), (tier, format!("\"{tier}\"")));
    }
}

#[test]
fn each_bad_field_is_named() {
    let long_stop = format!("\"{}\"", "x".repeat(257));
    let long_key = format!("\"{}\"", "k".repeat(513));
    let many_parts = format!("{{\"type\":\"content\",\"content\":[{}0]}}", "0,".repeat(1024));
    let many_stops = format!("[{}\"x\"]", "\"x\",".repeat(16));
    let many_bias = format!("{{{}\"9999\":0}}", (0..1024).map(|i| format!("\"{i}\":0,")).collect::<String>());
    let many_tools = format!("[{}]", vec![r#"{"type":"function","function":{"name":"f"}}"#; 129].join(","));
    let big_tool =
        format!(r#"[{{"type":"function","function":{{"name":"f","description":"{}"}}}}]"#, "x".repeat(1 << 20));
    let cases: &[(&str, &str, &str)] = &[
        ("temperature", "\"hot\"", "temperature"),
        ("temperature", "2.1", "temperature"),
        ("top_p", "0", "top_p"),
        ("top_p", "-0.0", "top_p"),
        ("top_k", "1.5", "top_k"),
        ("min_p", "1.01", "min_p"),
        ("seed", "18446744073709551616", "seed"),
        ("seed", "1.0", "seed"),
        ("n", "0", "n"),
        ("n", "9", "n"),
        ("max_tokens", "-1", "max_tokens"),
        ("n_predict", "-2", "n_predict"),
        ("n_predict", "\"1\"", "n_predict"),
        ("prediction", "\"text\"", "prediction"),
        ("prediction", "[]", "prediction"),
        ("prediction", "{\"content\":\"x\"}", "prediction.type"),
        ("prediction", "{\"type\":\"file\",\"content\":\"x\"}", "prediction.type"),
        ("prediction", "{\"type\":\"content\"}", "prediction.content"),
        ("prediction", "{\"type\":\"content\",\"content\":null}", "prediction.content"),
        ("prediction", "{\"type\":\"content\",\"content\":7}", "prediction.content"),
        ("prediction", "{\"type\":\"content\",\"content\":\"\\ud800\"}", "prediction.content"),
        ("prediction", "{\"type\":\"content\",\"content\":[\"x\"]}", "prediction.content[0]"),
        ("prediction", "{\"type\":\"content\",\"content\":[{\"type\":\"text\"}]}", "prediction.content[0].text"),
        ("prediction", "{\"type\":\"content\",\"content\":[{\"type\":\"image_url\"}]}", "prediction.content[0].type"),
        ("prediction", &many_parts, "prediction.content"),
        ("speculation", "true", "speculation"),
        ("speculation", "\"on\"", "speculation"),
        ("prompt_cache_key", "7", "prompt_cache_key"),
        ("prompt_cache_key", &long_key, "prompt_cache_key"),
        ("service_tier", "1", "service_tier"),
        ("service_tier", "\"fast\"", "service_tier"),
        ("service_tier", "\"Priority\"", "service_tier"),
        ("replay", "[\"x\"]", "replay"),
        ("replay", "\"\"", "replay"),
        ("deadline_ms", "0", "deadline_ms"),
        ("deadline_ms", "1.5", "deadline_ms"),
        ("deadline_ms", "86400001", "deadline_ms"),
        ("max_completion_tokens", "2147483648", "max_completion_tokens"),
        ("presence_penalty", "2.5", "presence_penalty"),
        ("frequency_penalty", "[]", "frequency_penalty"),
        ("repeat_penalty", "0", "repeat_penalty"),
        ("repetition_penalty", "1e308", "repetition_penalty"),
        ("stop", "\"\"", "stop"),
        ("stop", "[\"ok\",7]", "stop[1]"),
        ("stop", "{}", "stop"),
        ("stop", &long_stop, "stop"),
        ("stop", &many_stops, "stop"),
        ("logit_bias", "{\"a\":1}", "logit_bias"),
        ("logit_bias", "{\"1\":101}", "logit_bias.1"),
        ("logit_bias", "[[1,2]]", "logit_bias"),
        ("logit_bias", &many_bias, "logit_bias"),
        ("stream", "1", "stream"),
        ("stream_options", "true", "stream_options"),
        ("stream_options", "{\"include_usage\":\"yes\"}", "stream_options.include_usage"),
        ("user", "5", "user"),
        ("response_format", "{\"type\":\"xml\"}", "response_format.type"),
        ("response_format", "{\"type\":\"json_schema\"}", "response_format.json_schema"),
        ("response_format", "{\"type\":\"json_schema\",\"json_schema\":{}}", "response_format.json_schema.schema"),
        (
            "response_format",
            "{\"type\":\"json_schema\",\"json_schema\":{\"schema\":true}}",
            "response_format.json_schema.schema",
        ),
        (
            "response_format",
            "{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{},\"strict\":\"yes\"}}",
            "response_format.json_schema.strict",
        ),
        ("response_format", "\"json\"", "response_format"),
        ("logprobs", "5", "logprobs"),
        ("top_logprobs", "21", "top_logprobs"),
        ("top_logprobs", "3", "top_logprobs"),
        ("tools", "{}", "tools"),
        ("tools", "[7]", "tools[0]"),
        ("tools", "[{\"type\":\"function\",\"function\":{}}]", "tools[0].function.name"),
        ("tools", "[{\"type\":\"wizard\"}]", "tools[0].type"),
        ("tools", "[{\"type\":\"custom\"}]", "tools[0].custom"),
        ("tools", &many_tools, "tools"),
        ("tools", &big_tool, "tools"),
        ("tool_choice", "\"required\"", "tool_choice"),
        ("tool_choice", "{\"type\":\"function\",\"function\":{\"name\":\"f\"}}", "tool_choice"),
        ("functions", "[]", "functions"),
        ("model", "\"again\"", "model"),
        ("messages", "[]", "messages"),
    ];
    for (field, value, param) in cases {
        let e = parse_chat(chat_with(field, value).as_bytes()).unwrap_err();
        assert_eq!((e.status, e.param.as_deref()), (400, Some(*param)), "{field}: {value:.60}: {e}");
        assert!(e.message.len() > 20 && e.message.len() < 300, "{e}");
    }
}

#[test]
fn each_bad_message_is_named() {
    let cases = [
        (r#"5"#, "messages"),
        (r#"[5]"#, "messages[0]"),
        (r#"[{"content":"x"}]"#, "messages[0].role"),
        (r#"[{"role":"wizard","content":"x"}]"#, "messages[0].role"),
        (r#"[{"role":"user"}]"#, "messages[0].content"),
        (r#"[{"role":"user","content":null}]"#, "messages[0].content"),
        (r#"[{"role":"user","content":"x"},{"role":"user","content":7}]"#, "messages[1].content"),
        (r#"[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]"#, "messages[0].content[0]"),
        (r#"[{"role":"user","content":[{"type":"text"}]}]"#, "messages[0].content[0].text"),
        (r#"[{"role":"user","content":[{"text":"x"}]}]"#, "messages[0].content[0].type"),
        (r#"[{"role":"user","content":["x"]}]"#, "messages[0].content[0]"),
        (r#"[{"role":"user","content":"x","tool_calls":[]}]"#, "messages[0].tool_calls"),
        (r#"[{"role":"assistant","tool_calls":[{"id":"a"}]}]"#, "messages[0].tool_calls[0].function"),
        (
            r#"[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{}}}]}]"#,
            "messages[0].tool_calls[0].function.arguments",
        ),
        (r#"[{"role":"user","content":"\ud800"}]"#, "messages[0].content"),
    ];
    for (messages, param) in cases {
        let e = parse_chat(format!(r#"{{"model":"m","messages":{messages}}}"#).as_bytes()).unwrap_err();
        assert_eq!((e.status, e.param.as_deref()), (400, Some(param)), "{messages}: {e}");
    }
    let many = format!(r#"{{"model":"m","messages":[{}0]}}"#, "0,".repeat(4096));
    let e = parse_chat(many.as_bytes()).unwrap_err();
    assert_eq!(e.code, Some("too_many"));
}

#[test]
fn each_bad_prompt_is_named() {
    let cases = [
        (r#""prompt":7"#, "prompt"),
        (r#""prompt":[]"#, "prompt"),
        (r#""prompt":[null]"#, "prompt[0]"),
        (r#""prompt":["a",1]"#, "prompt[1]"),
        (r#""prompt":[1,"a"]"#, "prompt[1]"),
        (r#""prompt":[1,-1]"#, "prompt[1]"),
        (r#""prompt":[[1],[]]"#, "prompt[1]"),
        (r#""prompt":[[1,1.5]]"#, "prompt[0][1]"),
        (r#""prompt":[4294967296]"#, "prompt[0]"),
        (r#""prompt":null"#, "prompt"),
        (r#""suffix":"x","prompt":[1]"#, "suffix"),
        (r#""suffix":1,"prompt":"x""#, "suffix"),
        (r#""echo":true,"prompt":"x""#, "echo"),
        (r#""best_of":3,"prompt":"x""#, "best_of"),
        (r#""logprobs":21,"prompt":"x""#, "logprobs"),
        (r#""n":8,"prompt":["1","2","3","4","5","6","7","8","9"]"#, "n"),
    ];
    for (fields, param) in cases {
        let e = parse_completion(format!(r#"{{"model":"m",{fields}}}"#).as_bytes()).unwrap_err();
        assert_eq!((e.status, e.param.as_deref()), (400, Some(param)), "{fields}: {e}");
    }
}

#[test]
fn what_is_not_json_is_refused_with_its_place() {
    let cases: &[(&[u8], &str, &str)] = &[
        (b"", "invalid_json", "empty"),
        (b"{\"model\":", "invalid_json", "line 1, column 9"),
        (b"[]", "invalid_type", "an array"),
        (b"\"x\"", "invalid_type", "a string"),
        (b"{} {}", "invalid_json", "column"),
        (b"{\"a\":\"\xff\"}", "invalid_utf8", "byte 6"),
        (b"\xc0\xaf", "invalid_utf8", "byte 0"),
        (b"\xed\xa0\x80", "invalid_utf8", "byte 0"),
        (b"{\"model\":NaN}", "invalid_json", "column"),
        (b"{'model':1}", "invalid_json", "column"),
    ];
    for (body, code, part) in cases {
        for e in [parse_chat(body).unwrap_err(), parse_completion(body).unwrap_err()] {
            assert_eq!((e.status, e.code), (400, Some(*code)), "{e}");
            assert!(e.message.contains(part), "{e}");
        }
    }
}

/// R20: nesting in known and unknown fields, arrays and objects; each answered at once.
#[test]
fn depth_bombs_are_refused() {
    let n = 100_000;
    for open in ["[", "{\"a\":", "[{\"a\":"] {
        for field in ["messages", "tools", "stop", "logit_bias", "unknown", "metadata"] {
            let body = format!("{{\"model\":\"m\",\"{field}\":{}", open.repeat(n));
            let start = std::time::Instant::now();
            assert_eq!(parse_chat(body.as_bytes()).unwrap_err().code, Some("json_too_deep"));
            assert_eq!(parse_completion(body.as_bytes()).unwrap_err().code, Some("json_too_deep"));
            assert!(start.elapsed().as_millis() < 200);
        }
    }
}

/// R24 at the parser: every numeric field at its edges, beyond them, and as what is no number.
#[test]
fn numeric_fields_refuse_what_is_out_of_range() {
    let fields: &[(&str, &[&str], &[&str])] = &[
        ("temperature", &["0", "2", "-0", "-0.0", "1e-310"], &["-0.001", "2.001"]),
        ("top_p", &["1", "1e-310"], &["0", "1.001", "-1"]),
        ("min_p", &["0", "1", "-0"], &["-0.1", "1.1"]),
        ("top_k", &["-1", "0", "1048576", "-0"], &["-2", "1048577", "1.5"]),
        ("seed", &["-9223372036854775808", "18446744073709551615"], &["-9223372036854775809", "1e3"]),
        ("n", &["1", "8"], &["0", "9", "-1", "1.0"]),
        ("max_tokens", &["0", "-0", "1", "2147483647"], &["-1", "2147483648", "0.0"]),
        ("max_completion_tokens", &["0", "1", "2147483647"], &["-1", "2147483648"]),
        ("n_predict", &["-1", "0", "1", "2147483647"], &["-2", "2147483648", "0.0"]),
        ("deadline_ms", &["1", "86400000"], &["0", "-1", "86400001", "1.0"]),
        ("presence_penalty", &["-2", "2"], &["-2.1", "2.1"]),
        ("frequency_penalty", &["-2", "2"], &["-2.1", "2.1"]),
        ("repeat_penalty", &["0.1", "10"], &["0.09", "10.1", "-1"]),
        ("repetition_penalty", &["0.1", "10"], &["0", "10.1"]),
        ("repeat_last_n", &["-1", "1048576"], &["-2", "1048577"]),
        ("logprobs", &["0", "20"], &["-1", "21"]),
    ];
    let mut checked = 0;
    for (field, good, bad) in fields {
        for value in good.iter().chain(&["null"]) {
            let body = completion_with(field, value);
            assert!(parse_completion(body.as_bytes()).is_ok(), "{body}");
        }
        let never =
            ["NaN", "Infinity", "1e308", "-1e308", "1e999", "\"1\"", "true", "[]", "{}", "1e", "--1", "01", "0x1"];
        for value in bad.iter().chain(&never) {
            let body = completion_with(field, value);
            let e = parse_completion(body.as_bytes()).unwrap_err();
            assert_eq!(e.status, 400, "{body}");
            assert!(e.code == Some("invalid_json") || e.param.as_deref() == Some(*field), "{body}: {e}");
            checked += 1;
        }
    }
    assert!(checked > 200);
}

/// The JSON test suite, alone and within known and unknown fields: what is no JSON is refused, nothing panics.
#[test]
fn json_test_suite() {
    let data = std::env::var_os("VONK_DATA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let Ok(rows) = std::fs::read_to_string(data.join("json-test-suite/test_parsing.jsonl")) else {
        println!("left out: json-test-suite is not here");
        return;
    };
    let mut count = 0;
    for row in rows.lines() {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        let (name, expect) = (row["name"].as_str().unwrap(), row["expect"].as_str().unwrap());
        let case = base64(row["b64"].as_str().unwrap());
        assert!(parse_chat(&case).is_err() && parse_completion(&case).is_err(), "{name}");
        let with = |head: &str| [head.as_bytes(), &case, b"}"].concat();
        let unknown = parse_completion(&with(r#"{"model":"m","prompt":"x","unknown":"#));
        match expect {
            "reject" => assert_eq!(unknown.unwrap_err().status, 400, "{name}"),
            // Only what we promise to refuse: deep nesting, and texts with a byte order mark or another encoding.
            "accept" => assert!(unknown.is_ok(), "{name}: {unknown:?}"),
            _ => {}
        }
        for field in ["prompt", "stop", "logit_bias", "seed", "stream", "model"] {
            let body = with(&format!("{{\"model\":\"m\",\"{field}\":"));
            let _ = parse_completion(&body);
            let _ = parse_chat(&body);
        }
        for field in ["messages", "tools", "tool_choice", "response_format"] {
            let _ = parse_chat(&with(&format!("{{\"model\":\"m\",\"{field}\":")));
        }
        count += 1;
    }
    assert!(count > 250, "{count}");
}

fn base64(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => u32::from(c - b'A'),
        b'a'..=b'z' => u32::from(c - b'a' + 26),
        b'0'..=b'9' => u32::from(c - b'0' + 52),
        b'+' => 62,
        _ => 63,
    };
    let mut out = Vec::new();
    for quad in text.trim_end_matches('=').as_bytes().chunks(4) {
        let bits = quad.iter().fold(0u32, |acc, &c| acc << 6 | value(c)) << (6 * (4 - quad.len()));
        out.extend_from_slice(&bits.to_be_bytes()[1..quad.len()]);
    }
    out
}

#[test]
fn response_formats_are_read() {
    use protocol::ResponseFormat;
    let read =
        |value: &str| parse_chat(chat_with("response_format", value).as_bytes()).unwrap().generate.response_format;
    assert_eq!(read("null"), ResponseFormat::Text);
    assert_eq!(read(r#"{"type":"text"}"#), ResponseFormat::Text);
    assert_eq!(read(r#"{"type":"json_object"}"#), ResponseFormat::JsonObject);
    let schema = r#"{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{"b":1, "a":2}}}"#;
    assert_eq!(read(schema), ResponseFormat::JsonSchema(r#"{"b":1, "a":2}"#.into()), "in the order that was sent");
}

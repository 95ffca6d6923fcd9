//! Any bytes as a request body or as a stream of server-sent events: a refusal is a client error in OpenAI's shape that
//! names what to do, never a server error.

use protocol::infill::{parse_detokenize, parse_tokenize};
use protocol::{ApiError, SseParser, parse_chat, parse_completion, parse_infill};

/// All requests, and the event stream cut in two ways.
pub fn run(data: &[u8]) {
    refused_well(parse_chat(data).err());
    refused_well(parse_completion(data).err());
    refused_well(parse_infill(data).err());
    refused_well(parse_tokenize(data).err());
    refused_well(parse_detokenize(data).err());
    let (mut whole, mut pieces) = (Vec::new(), Vec::new());
    let a = SseParser::new().push(data, &mut whole);
    let mut parser = SseParser::new();
    let b = data.chunks(3).try_for_each(|piece| parser.push(piece, &mut pieces));
    assert_eq!((a, whole), (b, pieces));
}

fn refused_well(error: Option<ApiError>) {
    let Some(e) = error else { return };
    assert!((400..500).contains(&e.status), "{e}");
    assert!(!e.message.is_empty());
    let body: serde_json::Value = serde_json::from_slice(&e.to_json()).expect("an error's body is JSON");
    assert!(body["error"]["message"].is_string());
}

/// Requests with every field, and an event stream.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        r#"{"model":"default","messages":[{"role":"system","content":"a"},{"role":"user","content":[{"type":"text","text":"b"}]}],
"stream":true,"stream_options":{"include_usage":true},"temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.05,"seed":7,
"max_tokens":16,"stop":["\n\n","x"],"logprobs":true,"top_logprobs":2,"n":2,"logit_bias":{"1":-5},"user":"u"}"#,
        r#"{"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":
{"name":"f","arguments":"{\"a\":1}"}}]},{"role":"tool","tool_call_id":"c","content":"1"}],
"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{}}}}],"tool_choice":"auto"}"#,
        r#"{"model":"default","prompt":"def f(","suffix":"return x","max_tokens":8,"echo":false,"stop":"\n","logprobs":3}"#,
        r#"{"model":"m","prompt":"x","prediction":{"type":"content","content":[{"type":"text","text":"y"}]},"speculation":"off",
"prompt_cache_key":"k","service_tier":"flex","replay":"z","deadline_ms":9,"n_predict":0}"#,
        r#"{"prompt":[1,2,3],"temperature":0,"repetition_penalty":1.1,"presence_penalty":0,"frequency_penalty":-1}"#,
        r#"{"input_prefix":"a","input_suffix":"b","input_extra":[{"filename":"f","text":"t"}],"prompt":"c","n_indent":4,
"n_predict":0,"t_max_predict_ms":9,"t_max_prompt_ms":9,"samplers":["top_k"],"response_fields":["timings/prompt_n"],"n_cmpl":2,
"id_slot":0,"cache_prompt":true}"#,
        r#"{"content":"x","add_special":true,"parse_special":false,"with_pieces":true,"tokens":[1,2]}"#,
        "event: error\ndata: {\"a\":\u{e9}}\r\n\r\n: comment\rdata: [DONE]\n\n",
    ]
    .map(|s| s.as_bytes().to_vec())
    .to_vec()
}

//! Requests as schemas: the fields that the parsers read, with the bounds that they check.

use base::limits;
use serde_json::{Map, Value, json};

use crate::num::{Bias, MinP, Penalty, RepeatPenalty, Temperature};

/// A field and its schema.
type Field = (&'static str, Value);

fn integer(min: i64, max: u64) -> Value {
    json!({ "type": "integer", "minimum": min, "maximum": max })
}

fn number(min: f64, max: f64) -> Value {
    json!({ "type": "number", "minimum": min, "maximum": max })
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn flag() -> Value {
    json!({ "type": "boolean" })
}

fn list(of: &Value, max: usize) -> Value {
    json!({ "type": "array", "items": of, "maxItems": max })
}

fn object(needed: &[&str], fields: Vec<Field>) -> Value {
    let properties: Map<String, Value> = fields.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
    let mut schema = json!({ "type": "object", "properties": properties });
    if !needed.is_empty() {
        schema["required"] = json!(needed);
    }
    schema
}

fn model() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": limits::MODEL_NAME_BYTES_MAX,
        "description": "A name that GET /v1/models lists, or `default`", "examples": ["default"] })
}

fn tokens() -> Value {
    integer(0, i32::MAX as u64)
}

/// What `Generate` reads.
pub fn generation() -> Vec<Field> {
    let stop = json!({ "type": "string", "minLength": 1, "maxLength": limits::STOP_BYTES_MAX });
    let format = object(
        &["type"],
        vec![
            ("type", json!({ "type": "string", "enum": ["text", "json_object", "json_schema"] })),
            (
                "json_schema",
                object(
                    &["schema"],
                    vec![
                        ("name", text()),
                        ("description", text()),
                        ("strict", flag()),
                        ("schema", json!({ "type": "object" })),
                    ],
                ),
            ),
        ],
    );
    let penalty = number(Penalty::MIN, Penalty::MAX);
    let repeat = number(RepeatPenalty::MIN, RepeatPenalty::MAX);
    vec![
        ("model", model()),
        ("max_tokens", tokens()),
        ("max_completion_tokens", tokens()),
        ("n_predict", integer(-1, i32::MAX as u64)),
        ("n", integer(1, limits::CHOICES_MAX as u64)),
        ("temperature", number(Temperature::MIN, Temperature::MAX)),
        ("top_k", integer(-1, limits::VOCAB_MAX as u64)),
        ("top_p", json!({ "type": "number", "exclusiveMinimum": 0, "maximum": 1 })),
        ("min_p", number(MinP::MIN, MinP::MAX)),
        ("seed", integer(i64::MIN, u64::MAX)),
        ("presence_penalty", penalty.clone()),
        ("frequency_penalty", penalty),
        ("repetition_penalty", repeat.clone()),
        ("repeat_penalty", repeat),
        ("repeat_last_n", integer(-1, limits::CTX_MAX as u64)),
        ("stop", json!({ "anyOf": [stop, list(&stop, limits::STOPS_MAX)] })),
        (
            "logit_bias",
            json!({ "type": "object", "propertyNames": { "pattern": "^[0-9]{1,9}$" },
            "additionalProperties": number(Bias::MIN, Bias::MAX), "maxProperties": limits::LOGIT_BIAS_MAX }),
        ),
        ("stream", flag()),
        ("stream_options", object(&[], vec![("include_usage", flag())])),
        ("user", text()),
        ("response_format", format),
        (
            "prediction",
            object(
                &["type", "content"],
                vec![
                    ("type", json!({ "const": "content" })),
                    ("content", json!({ "anyOf": [text(), list(&text_part(), limits::CONTENT_PARTS_MAX)] })),
                ],
            ),
        ),
        ("speculation", json!({ "type": "string", "enum": ["auto", "off"] })),
        ("prompt_cache_key", json!({ "type": "string", "maxLength": limits::PROMPT_CACHE_KEY_BYTES_MAX })),
        ("service_tier", json!({ "type": "string", "enum": ["auto", "default", "flex", "priority"] })),
        ("replay", json!({ "type": "string", "minLength": 1 })),
        ("deadline_ms", integer(1, limits::DEADLINE_MS_MAX.into())),
    ]
}

fn text_part() -> Value {
    object(&["type", "text"], vec![("type", json!({ "const": "text" })), ("text", text())])
}

fn with_generation(needed: &[&str], more: Vec<Field>) -> Value {
    object(needed, generation().into_iter().chain(more).collect())
}

/// `Tools` of a chat.
fn tools() -> Vec<Field> {
    let name = json!({ "type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$" });
    let grammar = object(
        &["syntax", "definition"],
        vec![("syntax", json!({ "type": "string", "enum": ["lark", "regex"] })), ("definition", text())],
    );
    let format = object(
        &["type"],
        vec![("type", json!({ "type": "string", "enum": ["text", "grammar"] })), ("grammar", grammar)],
    );
    let custom = object(&["name"], vec![("name", name.clone()), ("description", text()), ("format", format)]);
    let custom_tool = object(&["type", "custom"], vec![("type", json!({ "const": "custom" })), ("custom", custom)]);
    let named = object(&["name"], vec![("name", name)]);
    let choice = object(
        &["type"],
        vec![
            ("type", json!({ "type": "string", "enum": ["function", "custom", "allowed_tools"] })),
            ("function", named.clone()),
            ("custom", named),
            ("allowed_tools", json!({ "type": "object" })),
        ],
    );
    let tool = json!({ "anyOf": [function_tool(), custom_tool] });
    let words = json!({ "type": "string", "enum": ["auto", "none", "required"] });
    vec![
        ("tools", list(&tool, limits::TOOLS_MAX)),
        ("tool_choice", json!({ "anyOf": [words, choice] })),
        ("parallel_tool_calls", flag()),
    ]
}

fn function_tool() -> Value {
    let name = json!({ "type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$" });
    let parameters = json!({ "type": "object" });
    let function = object(
        &["name"],
        vec![("name", name), ("description", text()), ("parameters", parameters), ("strict", flag())],
    );
    object(&["function"], vec![("type", json!({ "const": "function" })), ("function", function)])
}

fn chat_message() -> Value {
    let call = object(
        &["function"],
        vec![
            ("id", text()),
            ("type", json!({ "const": "function" })),
            ("function", object(&["name"], vec![("name", text()), ("arguments", text())])),
        ],
    );
    let roles = ["system", "developer", "user", "assistant", "tool"];
    object(
        &["role"],
        vec![
            ("role", json!({ "type": "string", "enum": roles })),
            ("content", json!({ "anyOf": [text(), list(&text_part(), limits::CONTENT_PARTS_MAX)] })),
            ("name", text()),
            ("reasoning_content", text()),
            ("tool_calls", list(&call, limits::TOOL_CALLS_MAX)),
            ("tool_call_id", text()),
        ],
    )
}

fn chat_fields() -> Vec<Field> {
    let mut messages = list(&chat_message(), limits::MESSAGES_MAX);
    messages["minItems"] = 1.into();
    let mut fields = tools();
    fields.extend([
        ("messages", messages),
        ("logprobs", flag()),
        ("top_logprobs", integer(0, limits::TOP_LOGPROBS_MAX as u64)),
    ]);
    fields
}

fn template_fields() -> Vec<Field> {
    let mut fields = chat_fields();
    fields.push(("add_generation_prompt", flag()));
    fields
}

fn completion() -> Value {
    let ids = list(&integer(0, limits::VOCAB_MAX as u64), limits::CTX_MAX);
    let prompts =
        json!({ "anyOf": [text(), list(&text(), limits::PROMPTS_MAX), ids, list(&ids, limits::PROMPTS_MAX)] });
    with_generation(
        &["model", "prompt"],
        vec![
            ("prompt", prompts),
            ("suffix", text()),
            ("logprobs", integer(0, limits::TOP_LOGPROBS_MAX as u64)),
            ("echo", json!({ "const": false })),
            ("best_of", integer(1, limits::CHOICES_MAX as u64)),
        ],
    )
}

fn infill() -> Value {
    let extra = object(&["text"], vec![("filename", text()), ("text", text())]);
    let name = json!({ "type": "string", "maxLength": limits::RESPONSE_FIELD_BYTES_MAX });
    let names = list(&name, limits::RESPONSE_FIELDS_MAX);
    with_generation(
        &["input_prefix", "input_suffix"],
        vec![
            ("input_prefix", text()),
            ("input_suffix", text()),
            ("prompt", text()),
            ("input_extra", list(&extra, limits::INFILL_EXTRAS_MAX)),
            ("n_indent", tokens()),
            ("n_cmpl", integer(1, limits::CHOICES_MAX as u64)),
            ("t_max_prompt_ms", integer(-1, i32::MAX as u64)),
            ("t_max_predict_ms", integer(-1, limits::DEADLINE_MS_MAX.into())),
            ("response_fields", names.clone()),
            ("samplers", json!({ "anyOf": [text(), names] })),
            ("cache_prompt", flag()),
            ("id_slot", integer(-1, i32::MAX as u64)),
        ],
    )
}

/// `POST /v1/responses`. Items and tools have many forms: docs/api.md has them.
fn response() -> Value {
    let items = list(&json!({ "type": "object" }), limits::MESSAGES_MAX);
    let format = object(
        &["type"],
        vec![
            ("type", json!({ "type": "string", "enum": ["text", "json_object", "json_schema"] })),
            ("name", text()),
            ("description", text()),
            ("strict", flag()),
            ("schema", json!({ "type": "object" })),
        ],
    );
    let tool = object(&["type"], vec![("type", text())]);
    let words = json!({ "type": "string", "enum": ["auto", "none", "required"] });
    let own = ["n", "max_tokens", "max_completion_tokens", "n_predict", "response_format"];
    let shared = generation().into_iter().filter(|(name, _)| !own.contains(name));
    let fields = shared.chain([
        ("input", json!({ "anyOf": [text(), items] })),
        ("instructions", text()),
        ("previous_response_id", text()),
        ("store", flag()),
        ("generate", flag()),
        ("max_output_tokens", tokens()),
        ("text", object(&[], vec![("format", format), ("verbosity", text())])),
        ("tools", list(&tool, limits::TOOLS_MAX)),
        ("tool_choice", json!({ "anyOf": [words, { "type": "object" }] })),
        ("parallel_tool_calls", flag()),
        ("top_logprobs", integer(0, limits::TOP_LOGPROBS_MAX as u64)),
        ("include", list(&text(), limits::RESPONSE_FIELDS_MAX)),
        ("reasoning", json!({ "type": "object" })),
        ("metadata", json!({ "type": "object", "additionalProperties": text() })),
        ("truncation", json!({ "const": "disabled" })),
    ]);
    object(&["model"], fields.collect())
}

fn ollama_common() -> Vec<Field> {
    let not_options = ["model", "stream", "response_format"];
    let mut options: Vec<Field> = generation().into_iter().filter(|(name, _)| !not_options.contains(name)).collect();
    options.extend([("num_predict", integer(-2, i32::MAX as u64)), ("num_ctx", integer(0, i64::MAX as u64))]);
    vec![
        ("model", model()),
        ("options", object(&[], options)),
        ("format", json!({ "anyOf": [{ "type": "string", "enum": ["", "json"] }, { "type": "object" }] })),
        ("stream", json!({ "type": "boolean", "default": true })),
        ("keep_alive", json!({ "type": ["string", "number"] })),
        ("think", json!({ "const": false })),
    ]
}

fn ollama(needed: &[&str], more: Vec<Field>) -> Value {
    object(needed, ollama_common().into_iter().chain(more).collect())
}

fn no_images() -> Field {
    ("images", json!({ "type": "array", "maxItems": 0 }))
}

fn ollama_generate() -> Value {
    ollama(
        &["model"],
        vec![
            ("prompt", text()),
            ("suffix", text()),
            ("system", text()),
            ("template", text()),
            ("raw", flag()),
            ("context", json!({ "type": "array", "maxItems": 0 })),
            no_images(),
        ],
    )
}

fn ollama_chat() -> Value {
    let call = object(
        &["function"],
        vec![
            ("id", text()),
            ("function", object(&["name"], vec![("name", text()), ("arguments", json!({ "type": "object" }))])),
        ],
    );
    let message = object(
        &["role"],
        vec![
            ("role", json!({ "type": "string", "enum": ["system", "user", "assistant", "tool"] })),
            ("content", text()),
            ("thinking", text()),
            ("tool_name", text()),
            ("tool_calls", list(&call, limits::TOOL_CALLS_MAX)),
            no_images(),
        ],
    );
    ollama(
        &["model"],
        vec![("messages", list(&message, limits::MESSAGES_MAX)), ("tools", list(&function_tool(), limits::TOOLS_MAX))],
    )
}

fn mistral() -> Value {
    with_generation(
        &["model", "prompt"],
        vec![
            ("prompt", text()),
            ("suffix", text()),
            ("random_seed", integer(i64::MIN, u64::MAX)),
            ("min_tokens", json!({ "const": 0 })),
        ],
    )
}

fn tabby() -> Value {
    let snippets = list(&object(&["body"], vec![("filepath", text()), ("body", text())]), limits::INFILL_EXTRAS_MAX);
    let segments = object(
        &["prefix"],
        vec![
            ("prefix", text()),
            ("suffix", text()),
            ("declarations", snippets.clone()),
            ("relevant_snippets_from_changed_files", snippets.clone()),
            ("relevant_snippets_from_recently_opened_files", snippets),
            ("clipboard", text()),
        ],
    );
    with_generation(&["segments"], vec![("language", text()), ("segments", segments)])
}

/// All of them, by name.
pub fn all() -> Vec<(&'static str, Value)> {
    let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let ids = list(&integer(0, limits::VOCAB_MAX as u64), limits::CTX_MAX);
    vec![
        ("ChatRequest", with_generation(&["model", "messages"], chat_fields())),
        ("ChatTemplateRequest", with_generation(&["messages"], template_fields())),
        ("CompletionRequest", completion()),
        ("TabbyRequest", tabby()),
        ("CompletionOrTabbyRequest", json!({ "anyOf": [reference("CompletionRequest"), reference("TabbyRequest")] })),
        ("ResponseRequest", response()),
        ("InfillRequest", infill()),
        (
            "TokenizeRequest",
            object(
                &["content"],
                vec![
                    ("model", text()),
                    ("content", text()),
                    ("add_special", flag()),
                    ("parse_special", flag()),
                    ("with_pieces", flag()),
                ],
            ),
        ),
        ("DetokenizeRequest", object(&["tokens"], vec![("model", text()), ("tokens", ids)])),
        ("OllamaGenerateRequest", ollama_generate()),
        ("OllamaChatRequest", ollama_chat()),
        ("OllamaShowRequest", object(&["model"], vec![("model", model())])),
        ("OllamaPullRequest", object(&["model"], vec![("model", model()), ("stream", json!({ "type": "boolean" }))])),
        ("MistralFimRequest", mistral()),
        ("TabbyEvent", object(&[], vec![("type", text())])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{BINDING, generate_names};

    #[test]
    fn what_generation_reads_is_what_is_described() {
        let described: Vec<&str> = generation().into_iter().map(|(name, _)| name).collect();
        let read: &[&str] = generate_names![];
        let read = read.iter().copied().filter(|name| !BINDING.contains(name)); // known, to be refused
        let (mut a, mut b): (Vec<&str>, Vec<&str>) = (described.clone(), read.collect());
        a.sort_unstable();
        b.sort_unstable();
        assert_eq!(a, b);
    }

    /// Each bound of a number is what the parser takes, and what is beyond is refused.
    #[test]
    fn bounds_are_those_that_are_checked() {
        let ask = |name: &str, value: &Value| {
            let body = json!({ "model": "m", "prompt": "p", name: value });
            crate::parse_completion(body.to_string().as_bytes())
        };
        let mut checked = 0;
        for (name, schema) in generation() {
            for (bound, step) in [("minimum", -1i128), ("maximum", 1)] {
                let Some(edge) = schema.get(bound) else { continue };
                assert!(ask(name, edge).is_ok(), "{name} {edge}");
                let beyond = match (edge.as_i64(), edge.as_u64(), edge.as_f64()) {
                    (Some(x), ..) => i128::from(x) + step,
                    (_, Some(x), _) => i128::from(x) + step,
                    (.., Some(x)) => x as i128 + step,
                    _ => continue,
                };
                let body = format!(r#"{{"model":"m","prompt":"p","{name}":{beyond}}}"#);
                let e = crate::parse_completion(body.as_bytes()).unwrap_err();
                assert_eq!(e.param.as_deref(), Some(name), "{beyond}");
                checked += 1;
            }
        }
        assert!(checked > 20, "{checked}");
    }
}

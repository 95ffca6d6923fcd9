//! The OpenAPI document. Answers are described by their types (utoipa), requests by tables beside the code that reads them
//! by hand: their names and bounds are compared with what is read (tests), so the document cannot promise something else.

mod requests;

use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use crate::{chat, completion, error, infill, models, ollama, tabby};

/// What a path takes and gives.
struct Endpoint {
    method: &'static str,
    path: &'static str,
    tag: &'static str,
    summary: &'static str,
    /// Name among the schemas.
    takes: Option<&'static str>,
    gives: Gives,
}

/// The body of an answer with a status of 200 (or 204).
enum Gives {
    /// JSON.
    Json(&'static str),
    /// JSON that no type describes.
    Object,
    /// JSON, or events if `stream` is true.
    JsonOrEvents(&'static str),
    /// JSON, or lines of JSON unless `stream` is false.
    JsonOrLines(&'static str),
    Text,
    Nothing,
    /// A WebSocket.
    Upgrade,
    /// Never: it only says what is missing.
    Refusal,
}

const fn get(path: &'static str, tag: &'static str, summary: &'static str, gives: Gives) -> Endpoint {
    Endpoint { method: "get", path, tag, summary, takes: None, gives }
}

const fn post(
    path: &'static str,
    tag: &'static str,
    summary: &'static str,
    takes: &'static str,
    gives: Gives,
) -> Endpoint {
    Endpoint { method: "post", path, tag, summary, takes: Some(takes), gives }
}

use Gives::{Json, JsonOrEvents, JsonOrLines, Nothing, Object, Refusal, Text, Upgrade};

/// Every path of the server.
const ENDPOINTS: &[Endpoint] = &[
    get("/health", "server", "The process answers", Object),
    get("/ready", "server", "Every model can take requests", Object),
    get("/metrics", "server", "Prometheus text", Text),
    get("/openapi.json", "server", "This document", Object),
    get("/v1/models", "openai", "What is served", Json("ModelList")),
    get("/v1/models/{id}", "openai", "One model", Json("Model")),
    post("/v1/chat/completions", "openai", "Answer a conversation", "ChatRequest", JsonOrEvents("ChatCompletion")),
    post(
        "/v1/completions",
        "openai",
        "Continue a text, or fill a gap; Tabby's clients send segments",
        "CompletionOrTabbyRequest",
        JsonOrEvents("CompletionOrTabby"),
    ),
    post("/v1/responses", "openai", "Answer items, with state and tools", "ResponseRequest", JsonOrEvents("Response")),
    get("/v1/responses", "openai", "The same over a WebSocket", Upgrade),
    get("/v1/responses/{id}", "openai", "An answer that was kept", Json("Response")),
    Endpoint { method: "delete", ..get("/v1/responses/{id}", "openai", "Forget it", Object) },
    get("/v1/responses/{id}/input_items", "openai", "What it answered", Object),
    Endpoint { method: "post", ..get("/v1/responses/{id}/cancel", "openai", "Never possible: it has ended", Object) },
    post("/v1/embeddings", "openai", "Not served: says so", "AnyObject", Refusal),
    post("/infill", "llama.cpp", "Fill a gap", "InfillRequest", JsonOrEvents("InfillAnswer")),
    get("/props", "llama.cpp", "Properties of the first model", Object),
    post("/tokenize", "llama.cpp", "Text to tokens", "TokenizeRequest", Object),
    post("/detokenize", "llama.cpp", "Tokens to text", "DetokenizeRequest", Object),
    post("/apply-template", "llama.cpp", "A conversation as its template writes it", "ChatTemplateRequest", Object),
    post(
        "/api/generate",
        "ollama",
        "Answer a prompt, or fill a gap",
        "OllamaGenerateRequest",
        JsonOrLines("OllamaReply"),
    ),
    post("/api/chat", "ollama", "Answer a conversation", "OllamaChatRequest", JsonOrLines("OllamaReply")),
    get("/api/tags", "ollama", "What is served", Object),
    get("/api/ps", "ollama", "What is loaded", Object),
    get("/api/version", "ollama", "The version of Ollama whose API this is", Object),
    post("/api/show", "ollama", "One model", "OllamaShowRequest", Object),
    post("/api/pull", "ollama", "Is this model here? Fetches none", "OllamaPullRequest", JsonOrLines("AnyObject")),
    post("/api/embed", "ollama", "Not served: says so", "AnyObject", Refusal),
    post("/api/embeddings", "ollama", "Not served: says so", "AnyObject", Refusal),
    post("/v1/fim/completions", "mistral", "Fill a gap", "MistralFimRequest", JsonOrEvents("MistralCompletion")),
    get("/v1/health", "tabby", "The server as Tabby's clients ask for it", Object),
    Endpoint { method: "post", ..get("/v1/health", "tabby", "The same", Object) },
    post("/v1/events", "tabby", "What people took or left; not kept", "TabbyEvent", Nothing),
];

/// The document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for e in ENDPOINTS {
        let item = paths.entry(e.path).or_insert_with(|| json!({}));
        item[e.method] = operation(e);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "vonk",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": { "schemas": schemas() },
    })
}

fn operation(e: &Endpoint) -> Value {
    let id: String =
        [e.method, e.path].concat().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let error = if e.tag == "ollama" { "OllamaError" } else { "ErrorBody" };
    let mut operation = json!({
        "operationId": id, "tags": [e.tag], "summary": e.summary,
        "responses": responses(&e.gives, error),
    });
    if let Some(takes) = e.takes {
        operation["requestBody"] = json!({ "required": true, "content": content("application/json", takes) });
    }
    if e.path.contains("{id}") {
        operation["parameters"] =
            json!([{ "name": "id", "in": "path", "required": true, "schema": { "type": "string" } }]);
    }
    operation
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn content(media_type: &str, schema: &str) -> Value {
    json!({ media_type: { "schema": reference(schema) } })
}

fn responses(gives: &Gives, error: &str) -> Value {
    let text = json!({ "type": "string" });
    let (status, content_) = match gives {
        Json(name) => ("200", content("application/json", name)),
        Object => ("200", content("application/json", "AnyObject")),
        JsonOrEvents(name) => {
            let mut both = content("application/json", name);
            both["text/event-stream"] = json!({}); // no schema language of 3.1 speaks of events
            ("200", both)
        }
        JsonOrLines(name) => {
            let mut both = content("application/json", name);
            both["application/x-ndjson"] = json!({ "schema": reference(name) });
            ("200", both)
        }
        Text => ("200", json!({ "text/plain": { "schema": text } })),
        Nothing => ("204", Value::Null),
        Upgrade => ("101", Value::Null),
        Refusal => ("404", content("application/json", error)),
    };
    let mut response = json!({ "description": if status == "404" { "Says what to do instead" } else { "The answer" } });
    if !content_.is_null() {
        response["content"] = content_;
    }
    let failed =
        json!({ "description": "What is wrong, and what to do", "content": content("application/json", error) });
    let mut responses = json!({ status: response });
    responses["default"] = failed;
    responses
}

/// A type and all that it is made of.
fn add<T: ToSchema>(into: &mut Map<String, Value>) {
    let mut all: Vec<(String, RefOr<Schema>)> = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut all);
    for (name, schema) in all {
        into.insert(name, serde_json::to_value(schema).unwrap_or_default());
    }
}

fn schemas() -> Map<String, Value> {
    let mut all = Map::new();
    add::<chat::ChatCompletion>(&mut all);
    add::<chat::ChatChunk>(&mut all);
    add::<completion::Completion>(&mut all);
    add::<error::ErrorBody>(&mut all);
    add::<infill::Infilled>(&mut all);
    add::<models::ModelList>(&mut all);
    add::<ollama::OllamaReply>(&mut all);
    add::<tabby::TabbyCompletion>(&mut all);
    let any_object = json!({ "type": "object" });
    all.insert("AnyObject".to_owned(), any_object);
    let text = json!({ "type": "object", "required": ["error"], "properties": { "error": { "type": "string" } } });
    all.insert("OllamaError".to_owned(), text);
    let either = json!({ "anyOf": [reference("Completion"), reference("TabbyCompletion")] });
    all.insert("CompletionOrTabby".to_owned(), either);
    let some = json!({ "type": "object", "description": "The fields that `response_fields` names, by their paths" });
    let response = json!({ "type": "object", "required": ["id", "object", "status", "output"], "properties": {
        "id": { "type": "string" }, "object": { "const": "response" }, "created_at": { "type": "number" },
        "status": { "type": "string", "enum": ["completed", "failed", "in_progress", "cancelled", "incomplete"] },
        "model": { "type": "string" }, "output": { "type": "array", "items": { "type": "object" } },
    } });
    all.insert("Response".to_owned(), response);
    let each = json!({ "anyOf": [reference("Infilled"), some] });
    let several = json!({ "type": "array", "items": each, "description": "With `n_cmpl` above 1" });
    all.insert("InfillAnswer".to_owned(), json!({ "anyOf": [reference("Infilled"), several, some] }));
    let chat = json!({ "allOf": [reference("ChatCompletion")], "description": "The shape of a chat's answer" });
    all.insert("MistralCompletion".to_owned(), chat);
    all.extend(requests::all().into_iter().map(|(name, schema)| (name.to_owned(), schema)));
    all.sort_keys();
    all
}

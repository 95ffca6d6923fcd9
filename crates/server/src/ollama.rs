//! What Ollama's clients ask: names, models, versions; and how their requests become ours.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, header};
use protocol::ollama::{OllamaRequest, parse_pull, parse_show, rfc3339};
use protocol::{ApiError, ChatRequest, CompletionRequest, Generate, Prompt};
use serde_json::{Map, Value, json};
use std::sync::Arc;

use crate::app::{App, Model};
use crate::auth::known_models;
use crate::body;
use crate::generate::{Prepared, check_open, find_model, prepare_chat, prepare_completion, prepare_infill};
use crate::models::abilities;
use crate::routes::{Answered, json_of};

/// The version of Ollama whose API this is: clients refuse to talk to older ones.
const API_VERSION: &str = "0.13.5";

/// Parses, renders and tokenises; no prompts if there is nothing to compute.
pub(crate) fn prepare(app: &App, mut request: OllamaRequest) -> Result<Prepared, ApiError> {
    let name = known_name(app, request.model_mut());
    *request.model_mut() = name;
    match request {
        OllamaRequest::Load { model, unload } => {
            let model = find_model(app, &model)?;
            // `max_tokens` tells the two apart until the answer: there is no other field for it.
            let generate = Generate { max_tokens: Some(u32::from(!unload)), ..Generate::default() };
            Ok(Prepared::nothing(model, generate))
        }
        OllamaRequest::Chat(chat) => match find_model(app, &chat.generate.model)?.text.chat {
            Some(_) => prepare_chat(app, chat),
            None if chat.messages.len() <= 2 => prepare_completion(app, untemplated(chat)),
            None => prepare_chat(app, chat), // refused with the reason
        },
        OllamaRequest::Text(text) => prepare_completion(app, text),
        OllamaRequest::Gap(gap) => prepare_infill(app, gap),
    }
}

/// The name that is served for a name of Ollama's kind: as it is; without `:latest`; with `-` for `:`.
fn known_name(app: &App, name: &str) -> String {
    let plain = name.strip_suffix(":latest").unwrap_or(name);
    let candidates = [name.to_owned(), plain.to_owned(), plain.replace(':', "-")];
    let is_known = |name: &&String| *name == "default" || known_models(app).any(|m| m.is_called(name));
    candidates.iter().find(is_known).cloned().unwrap_or_else(|| name.to_owned())
}

/// What went wrong, in Ollama's shape.
pub(crate) fn error_body(error: &ApiError) -> Value {
    json!({ "error": error.message })
}

/// `GET /api/version`.
pub(crate) fn version() -> Value {
    json!({ "version": API_VERSION, "vonk": env!("CARGO_PKG_VERSION") })
}

/// `GET /api/tags`.
pub(crate) fn tags(app: &App) -> Answered {
    check_open(app)?;
    let models: Vec<Value> = known_models(app).map(|m| Value::Object(entry(m))).collect();
    json_of(&json!({ "models": models }))
}

/// `GET /api/ps`: all models are always loaded, in memory of the CPU.
pub(crate) fn ps(app: &App) -> Answered {
    check_open(app)?;
    let one = |m: &Arc<Model>| {
        let mut entry = entry(m);
        entry.insert("expires_at".to_owned(), "9999-12-31T23:59:59Z".into());
        entry.insert("size_vram".to_owned(), 0.into());
        entry.insert("context_length".to_owned(), m.runner.info.n_ctx.into());
        Value::Object(entry)
    };
    json_of(&json!({ "models": known_models(app).map(one).collect::<Vec<_>>() }))
}

fn entry(m: &Model) -> Map<String, Value> {
    let mut entry = Map::new();
    entry.insert("name".to_owned(), m.name.as_str().into());
    entry.insert("model".to_owned(), m.name.as_str().into());
    entry.insert("modified_at".to_owned(), rfc3339(m.created, 0).into());
    entry.insert("size".to_owned(), m.about.file_bytes.into());
    entry.insert("digest".to_owned(), m.about.sha256.as_deref().unwrap_or("").into());
    entry.insert("details".to_owned(), details(m));
    entry
}

fn details(m: &Model) -> Value {
    let about = &m.about;
    json!({
        "parent_model": "", "format": "gguf", "family": about.family, "families": [about.family],
        "parameter_size": about_params(about.n_params), "quantization_level": about.quantization.as_deref().unwrap_or(""),
    })
}

/// `494.0M`, `1.5B`; empty if unknown.
fn about_params(n: u64) -> String {
    match n {
        0 => String::new(),
        1_000_000_000.. => format!("{:.1}B", n as f64 / 1e9),
        _ => format!("{:.1}M", n as f64 / 1e6),
    }
}

/// `POST /api/show`.
///
/// # Errors
/// 400 that names the field; 404 for a model that is not served.
pub(crate) async fn show(app: Arc<App>, headers: HeaderMap, body: Body) -> Answered {
    check_open(&app)?;
    let received = body::read(&headers, body, &app.config.limits, &app.bodies).await?;
    let name = parse_show(&received.bytes)?;
    let model = find_model(&app, &known_name(&app, &name))?;
    let (about, can) = (&model.about, abilities(&model));
    let all = [("completion", true), ("tools", can.tools), ("insert", can.fim)];
    let capabilities: Vec<&str> = all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect();
    let family = if about.family.is_empty() { "unknown" } else { &about.family };
    let mut info = Map::new();
    info.insert("general.architecture".to_owned(), family.into());
    info.insert("general.parameter_count".to_owned(), about.n_params.into());
    info.insert(format!("{family}.context_length"), model.runner.info.n_ctx.into());
    json_of(&json!({
        "modelfile": format!("FROM {}", model.name),
        "parameters": "",
        "template": model.text.chat.as_ref().map_or("", |c| c.source()),
        "details": details(&model),
        "model_info": info,
        "capabilities": capabilities,
        "modified_at": rfc3339(model.created, 0),
    }))
}

/// `POST /api/pull`: what is served is here already; nothing is fetched because a client names it. Clients that pull what they
/// miss (`codex --oss`) read the reason from the last line of a stream, and not from a status.
///
/// # Errors
/// 400 that names the field; 404 for a model that is not served, where the client takes no stream.
pub(crate) async fn pull(app: Arc<App>, headers: HeaderMap, body: Body) -> Answered {
    check_open(&app)?;
    let received = body::read(&headers, body, &app.config.limits, &app.bodies).await?;
    let (name, stream) = parse_pull(&received.bytes)?;
    let found = find_model(&app, &known_name(&app, &name)).map(|_| json!({ "status": "success" }));
    if !stream {
        return json_of(&found?);
    }
    let last = found.unwrap_or_else(|e| error_body(&e));
    let mut response = Response::new(Body::from(format!("{}\n{last}\n", json!({ "status": "pulling manifest" }))));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

/// A model without a template gets its prompt as it is, as Ollama's default template `{{ .Prompt }}` has it.
fn untemplated(chat: ChatRequest) -> CompletionRequest {
    let text: Vec<String> = chat.messages.into_iter().filter_map(|m| m.content).collect();
    let prompts = vec![Prompt::Text(text.join("\n"))];
    CompletionRequest { generate: chat.generate, prompts, suffix: None, logprobs: None }
}

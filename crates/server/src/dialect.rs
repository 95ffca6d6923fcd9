//! Other servers' dialects: Ollama's, Mistral's and Tabby's ways to ask for text. Their requests become chats, texts and
//! gaps like all others; this file has their paths, and writes their answers. What else Ollama's clients ask is in
//! `ollama.rs`.

use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::{get, post};
use protocol::chunks::{self, Shape};
use protocol::ollama::{OllamaFigures, OllamaMessage, OllamaReply, rfc3339};
use protocol::tabby::{TabbyChoice, TabbyCompletion};
use protocol::{ApiError, FinishReason, ReplyCall};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::answer::{Answer, Piece, id_prefix};
use crate::app::{App, Model};
use crate::body;
use crate::generate::{self, Ask, Prepared, prepare_infill};
use crate::net::Peer;
use crate::ollama;
use crate::routes::{Answered, json_of, rendered};
use crate::stream::Collected;
use crate::tools::Said;

/// In whose words an answer is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    OllamaGenerate,
    OllamaChat,
    Mistral,
    Tabby,
}

/// Their paths.
pub(crate) fn routes() -> Router<Arc<App>> {
    let ask = |d: Dialect| post(move |s, p, h, b| asked(d, s, p, h, b));
    Router::new()
        .route("/api/generate", ask(Dialect::OllamaGenerate))
        .route("/api/chat", ask(Dialect::OllamaChat))
        .route("/api/tags", get(|State(app): State<Arc<App>>| async move { rendered(ollama::tags(&app)) }))
        .route("/api/ps", get(|State(app): State<Arc<App>>| async move { rendered(ollama::ps(&app)) }))
        .route("/api/version", get(|| async { rendered(json_of(&ollama::version())) }))
        .route("/api/show", post(|State(app), h, b| async move { rendered(ollama::show(app, h, b).await) }))
        .route("/api/pull", post(|State(app), h, b| async move { rendered(ollama::pull(app, h, b).await) }))
        .route("/api/embed", post(|| async { rendered(Err(protocol::ollama::no_embeddings())) }))
        .route("/api/embeddings", post(|| async { rendered(Err(protocol::ollama::no_embeddings())) }))
        .route("/v1/embeddings", post(|| async { rendered(Err(protocol::ollama::no_embeddings())) }))
        .route("/v1/fim/completions", ask(Dialect::Mistral))
        .route("/v1/health", get(health).post(health))
        .route("/v1/events", post(|State(app), h, b| async move { rendered(events(app, h, b).await) }))
}

/// A path's name in the metrics, and whether it takes JSON.
pub(crate) fn endpoint(path: &str) -> Option<(&'static str, bool)> {
    Some(match path {
        "/api/generate" => ("ollama_generate", true),
        "/api/chat" => ("ollama_chat", true),
        "/api/tags" | "/api/ps" | "/api/version" => ("ollama_models", false),
        "/api/show" | "/api/pull" => ("ollama_show", true),
        "/api/embed" | "/api/embeddings" | "/v1/embeddings" => ("embeddings", true),
        "/v1/fim/completions" => ("mistral_fim", true),
        "/v1/health" => ("tabby_health", false),
        "/v1/events" => ("tabby_events", true),
        _ => return None,
    })
}

async fn asked(
    dialect: Dialect,
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    rendered(generate::generate(app, Ask::Dialect(dialect), peer, headers, body).await)
}

/// Parses, renders and tokenises. No prompts: there is nothing to compute.
pub(crate) fn prepare(app: &App, dialect: Dialect, bytes: &[u8]) -> Result<Prepared, ApiError> {
    let mut prepared = match dialect {
        Dialect::OllamaGenerate => ollama::prepare(app, protocol::ollama::parse_generate(bytes)?)?,
        Dialect::OllamaChat => ollama::prepare(app, protocol::ollama::parse_chat(bytes)?)?,
        Dialect::Mistral => prepare_infill(app, protocol::mistral::parse_fim(bytes)?)?,
        Dialect::Tabby => prepare_infill(app, protocol::tabby::parse_tabby(bytes)?)?,
    };
    (prepared.infill, prepared.dialect) = (None, Some(dialect));
    Ok(prepared)
}

/// Writes the answer.
#[derive(Debug)]
pub(crate) struct Told {
    dialect: Dialect,
    model: String,
    id: String,
    created: u64,
    has_begun: bool,
    /// The call that is being read: Ollama's clients get each as a whole.
    call: Option<(String, String)>,
}

impl Told {
    pub(crate) fn new(dialect: Dialect, model: &Model, number: u64) -> Self {
        let prefix = id_prefix(if dialect == Dialect::Mistral { Shape::Chat } else { Shape::Completion });
        let (id, created) = (format!("{prefix}-{number:016x}"), now().0);
        Self { dialect, model: model.name.clone(), id, created, has_begun: false, call: None }
    }

    /// Of a stream.
    pub(crate) fn media_type(&self) -> &'static str {
        if self.is_ollama() { "application/x-ndjson" } else { "text/event-stream; charset=utf-8" }
    }

    fn is_ollama(&self) -> bool {
        matches!(self.dialect, Dialect::OllamaGenerate | Dialect::OllamaChat)
    }

    /// The lines or events for a piece of a stream.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, piece: &Piece, answer: &Answer) {
        if self.is_ollama() {
            if answer.has_tools() {
                piece.said.iter().for_each(|said| self.say(out, said));
            } else if !piece.text.is_empty() {
                line(out, &self.reply(&piece.text));
            }
            if piece.finish.is_some() {
                line(out, &self.last(answer, "", Vec::new()));
            }
            return;
        }
        if !piece.text.is_empty() {
            self.mistral_chunk(out, &piece.text, None);
        }
        if let Some(reason) = piece.finish {
            self.mistral_chunk(out, "", Some((reason, answer)));
            out.extend_from_slice(chunks::DONE);
        }
    }

    fn say(&mut self, out: &mut Vec<u8>, said: &Said) {
        match said {
            Said::Text(text) => line(out, &self.reply(text)),
            Said::Call { name, .. } => self.call = Some((name.clone(), String::new())),
            Said::Input { text, .. } => self.call.iter_mut().for_each(|(_, arguments)| arguments.push_str(text)),
            Said::End { .. } => {
                if let Some(call) = self.call.take().and_then(|(name, arguments)| ollama_call(&name, &arguments)) {
                    line(out, &with_calls(self.reply(""), vec![call]));
                }
            }
        }
    }

    /// Says that the answer is still coming. Ollama's lines know no comments: an empty piece is said.
    pub(crate) fn ping(&self, out: &mut Vec<u8>) {
        if self.is_ollama() { line(out, &self.reply("")) } else { out.extend_from_slice(chunks::PING) }
    }

    /// Ends a stream that failed.
    pub(crate) fn fail(&self, out: &mut Vec<u8>, error: &ApiError) {
        if self.is_ollama() {
            return line(out, &ollama::error_body(error));
        }
        chunks::error_event(out, error);
        out.extend_from_slice(chunks::DONE);
    }

    /// A whole answer.
    pub(crate) fn whole(&self, answer: &Answer, choices: Vec<Collected>) -> Result<Vec<u8>, ApiError> {
        let Collected { text, calls, .. } = choices.into_iter().next().unwrap_or_default();
        let json = match self.dialect {
            Dialect::OllamaGenerate | Dialect::OllamaChat => {
                serde_json::to_vec(&self.last(answer, &text, calls.iter().filter_map(ollama_reply_call).collect()))
            }
            Dialect::Mistral => serde_json::to_vec(&self.mistral_whole(answer, &text)),
            Dialect::Tabby => {
                let choices = vec![TabbyChoice { index: 0, text }];
                serde_json::to_vec(&TabbyCompletion { id: self.id.clone(), choices })
            }
        };
        json.map_err(|e| ApiError::internal(format!("The answer cannot be written: {e}.")))
    }

    /// What Ollama says to a request that asks for nothing.
    pub(crate) fn loaded(&self, unload: bool) -> Answered {
        let reason = if unload { "unload" } else { "load" };
        json_of(&OllamaReply { done: true, done_reason: Some(reason.to_owned()), ..self.reply("") })
    }

    fn reply(&self, text: &str) -> OllamaReply {
        let (s, micros) = now();
        let (model, created_at) = (self.model.clone(), rfc3339(s, micros));
        let reply = OllamaReply { model, created_at, ..OllamaReply::default() };
        match self.dialect {
            Dialect::OllamaChat => {
                let (role, content) = ("assistant".to_owned(), text.to_owned());
                OllamaReply { message: Some(OllamaMessage { role, content, tool_calls: Vec::new() }), ..reply }
            }
            _ => OllamaReply { response: Some(text.to_owned()), ..reply },
        }
    }

    /// Ollama's last word.
    fn last(&self, answer: &Answer, text: &str, calls: Vec<Value>) -> OllamaReply {
        let ending = answer.ending(0);
        let reason = if ending.finish == Some(FinishReason::Length) { "length" } else { "stop" };
        let figures = OllamaFigures::new(ending.n_prompt, ending.n_tokens, &answer.timings());
        let reply = with_calls(self.reply(text), calls);
        OllamaReply { done: true, done_reason: Some(reason.to_owned()), figures: Some(figures), ..reply }
    }

    /// Mistral's last chunk has the usage beside its choice, and its delta has a text: clients read both unasked.
    fn mistral_chunk(&mut self, out: &mut Vec<u8>, text: &str, end: Option<(FinishReason, &Answer)>) {
        let mut delta = json!({ "content": text });
        if !std::mem::replace(&mut self.has_begun, true) {
            delta["role"] = "assistant".into();
        }
        let reason = end.map(|(reason, _)| reason.as_str());
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": reason });
        let mut chunk = self.mistral("chat.completion.chunk", choice);
        if let Some((_, answer)) = end {
            chunk["usage"] = json!(answer.usage());
        }
        out.extend_from_slice(format!("data: {chunk}\n\n").as_bytes());
    }

    fn mistral_whole(&self, answer: &Answer, text: &str) -> Value {
        let message = json!({ "role": "assistant", "content": text });
        let reason = answer.ending(0).finish.unwrap_or(FinishReason::Length).as_str();
        let choice = json!({ "index": 0, "message": message, "finish_reason": reason });
        let mut whole = self.mistral("chat.completion", choice);
        (whole["usage"], whole["timings"]) = (json!(answer.usage()), json!(answer.timings()));
        whole
    }

    fn mistral(&self, object: &str, choice: Value) -> Value {
        json!({ "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": [choice] })
    }
}

/// A call as Ollama writes it, arguments as an object. One that was cut off is none.
fn ollama_call(name: &str, arguments: &str) -> Option<Value> {
    let arguments: Value = serde_json::from_str(arguments).ok().filter(Value::is_object)?;
    Some(json!({ "function": { "name": name, "arguments": arguments } }))
}

fn ollama_reply_call(call: &ReplyCall) -> Option<Value> {
    let function = call.function.as_ref()?;
    ollama_call(function.name.as_deref()?, &function.arguments)
}

fn with_calls(mut reply: OllamaReply, calls: Vec<Value>) -> OllamaReply {
    reply.message.iter_mut().for_each(|m| m.tool_calls.extend(calls.iter().cloned()));
    reply
}

fn line<T: serde::Serialize>(out: &mut Vec<u8>, value: &T) {
    let _ = serde_json::to_writer(&mut *out, value); // plain data to a vector: it cannot fail
    out.push(b'\n');
}

/// Seconds and microseconds of Unix time.
fn now() -> (u64, u32) {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or((0, 0), |d| (d.as_secs(), d.subsec_micros()))
}

/// Tabby's plug-ins ask this before they ask for text, and read the model's name.
async fn health(State(app): State<Arc<App>>) -> Response<Body> {
    rendered(generate::check_open(&app).and_then(|()| {
        let model = generate::find_model(&app, "default")?;
        let describe = concat!("vonk-", env!("CARGO_PKG_VERSION"));
        json_of(&json!({
            "model": model.name, "chat_model": model.text.chat.as_ref().map(|_| &model.name), "device": "cpu",
            "arch": std::env::consts::ARCH, "cpu_info": "", "cpu_count": 0, "cuda_devices": [],
            "version": { "build_date": "", "build_timestamp": "", "git_sha": "", "git_describe": describe },
        }))
    }))
}

/// What people took or left: Tabby counts it. We do not, and say so by an empty answer.
async fn events(app: Arc<App>, headers: HeaderMap, body: Body) -> Answered {
    let received = body::read(&headers, body, &app.config.limits, &app.bodies).await?;
    protocol::json::document(&received.bytes)?.object(&["type"])?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

//! `/v1/responses`: answers over HTTP, streamed and whole, the answers that are kept, and (`socket`) the WebSocket.

mod socket;
pub(crate) mod store;
pub(crate) mod turn;
mod wire;

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode};
use protocol::responses::{Item, ResponseRequest, Shape, Systems};
use protocol::{ApiError, parse_response};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

use crate::app::{App, Model};
use crate::body;
use crate::caller::Caller;
use crate::generate::{
    Origin, Prepared, check_open, find_model, json_response, on_text_pool, prepare_response, sse_response, started,
};
use crate::net::Peer;
use crate::responses::store::Thread;
use crate::responses::turn::{Keep, Turn};
use crate::stream::{SseBody, Writer, finish, static_sse};
use crate::timing::Arrival;

pub(crate) use socket::upgrade;

/// A request, what it continues, and who answers.
pub(crate) struct Asked {
    pub(crate) request: ResponseRequest,
    pub(crate) before: Thread,
    pub(crate) model: Arc<Model>,
}

/// Answers `POST /v1/responses`.
///
/// # Errors
/// Everything that can be said with a status, before the first byte of an answer.
pub(crate) async fn create(
    app: Arc<App>,
    peer: Peer,
    headers: HeaderMap,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    let arrival = Arrival::at(Instant::now(), &peer.1);
    let mut origin = Origin { caller: Caller::of(&app, &headers, peer.0)?, arrival };
    check_open(&app)?;
    app.check_quota(&origin.caller)?;
    let received = body::read(&headers, body, &app.config.limits, &app.bodies).await?;
    origin.arrival.whole();
    let caller = origin.caller.clone();
    let (mut asked, prepared) = on_text_pool(&app, move |app| {
        let began = Instant::now();
        let asked = resolve(app, &caller, parse_response(&received.bytes)?, None)?;
        let prepared = prepare(app, &asked).map(|p| p.since(began));
        Ok((asked, prepared))
    })
    .await?;
    check_open(&app)?;
    let is_stream = asked.request.generate.stream;
    let keep = if asked.request.store { Keep::All } else { Keep::Nothing };
    let shape = if is_stream { Shape::Sse } else { Shape::Whole };
    let mut turn = Turn::new(&app, &origin.caller, &mut asked, keep, shape);
    let prepared = match prepared {
        // Clients that stream make room for themselves when they are told so in the stream.
        Err(e) if is_stream && e.code == Some("context_length_exceeded") => {
            let mut out = Vec::new();
            turn.begin(&mut out);
            turn.fail(&mut out, &e);
            return static_sse(out);
        }
        prepared => prepared?,
    };
    let (answer, notes) = started(&app, &prepared, &origin).await?;
    if is_stream {
        return sse_response(SseBody::new(&app, answer, notes, Writer::Responses(Box::new(turn))));
    }
    finish(&app, answer, notes, &mut turn).await?;
    Ok(json_response(StatusCode::OK, turn.whole))
}

/// Renders and tokenises. Errors name the fields of this API.
pub(crate) fn prepare(app: &App, asked: &Asked) -> Result<Prepared, ApiError> {
    let before: Vec<&Item> = asked.before.iter().flat_map(|turn| turn.iter()).collect();
    let prepare = |systems| {
        let mut chat = asked.request.chat(&before, systems)?;
        // Here the key is a hint, as OpenAI has it: clients send one for each conversation, and the long beginning of all
        // their conversations is the same. Who may share prefixes at all is the server's configuration.
        chat.generate.hints.prompt_cache_key = None;
        prepare_response(app, chat)
    };
    let prepared = match prepare(Systems::Apart) {
        Err(e) if e.code == Some("template_error") => prepare(Systems::Joined).map_err(|_| e),
        prepared => prepared,
    };
    prepared.map_err(|mut e| {
        if let Some(param) = &mut e.param {
            *param = match param.split_once('.') {
                None if param == "messages" => "input".to_owned(),
                // The place is that in a flat list in chat's shape; the message names the tool.
                _ if param.starts_with("tools[") => "tools".to_owned(),
                Some(("response_format", rest)) => {
                    format!("text.format.{}", rest.strip_prefix("json_schema.").unwrap_or(rest))
                }
                _ => std::mem::take(param),
            };
        }
        e
    })
}

/// Finds what a request names: its model, the answer that it follows, items that it refers to. `last` is the answer that
/// its connection gave last.
pub(crate) fn resolve(
    app: &App,
    caller: &Caller,
    mut request: ResponseRequest,
    last: Option<&(String, Thread)>,
) -> Result<Asked, ApiError> {
    let model = find_model(app, &request.generate.model)?;
    let before = match &request.previous_response_id {
        None => Thread::new(),
        Some(id) => match last.filter(|(last, _)| last == id) {
            Some((_, thread)) => thread.clone(),
            None => app.responses.find(id, caller.key).map(|k| k.thread).ok_or_else(|| previous_not_found(id))?,
        },
    };
    for item in &mut request.input {
        let Item::Reference { id } = item else { continue };
        let is_before = before.iter().flat_map(|turn| turn.iter()).any(|i| i.id() == Some(id));
        if !is_before {
            let message = format!("Item with id {id:?} not found. Send the item itself.");
            *item = app
                .responses
                .item(id, caller.key)
                .ok_or_else(|| ApiError::field("input", "item_not_found", message))?;
        }
    }
    Ok(Asked { request, before, model })
}

fn previous_not_found(id: &str) -> ApiError {
    let shown: String = id.chars().take(64).collect();
    let message = format!("Previous response with id {shown:?} not found. Send the whole conversation as `input`.");
    ApiError::field("previous_response_id", "previous_response_not_found", message)
}

fn not_found(id: &str) -> ApiError {
    let shown: String = id.chars().take(64).collect();
    ApiError::of(404, "response_not_found", format!("Response with id {shown:?} not found."))
}

/// Answers `GET /v1/responses/ID`.
pub(crate) fn fetch(app: &App, caller: &Caller, id: &str) -> Result<Response<Body>, ApiError> {
    let json = app.responses.find(id, caller.key).and_then(|k| k.json).ok_or_else(|| not_found(id))?;
    Ok(json_response(StatusCode::OK, json.to_vec()))
}

/// Answers `DELETE /v1/responses/ID`.
pub(crate) fn delete(app: &App, caller: &Caller, id: &str) -> Result<Response<Body>, ApiError> {
    if !app.responses.remove(id, caller.key) {
        return Err(not_found(id));
    }
    let json = json!({ "id": id, "object": "response.deleted", "deleted": true });
    Ok(json_response(StatusCode::OK, json.to_string().into_bytes()))
}

/// Answers `POST /v1/responses/ID/cancel`. Only answers that run in the background could be cancelled so.
pub(crate) fn cancel(app: &App, caller: &Caller, id: &str) -> ApiError {
    if app.responses.find(id, caller.key).and_then(|k| k.json).is_none() {
        return not_found(id);
    }
    ApiError::bad_request(
        "not_cancellable",
        "The answer has ended. One that is being streamed is cancelled by closing its connection, or by \
         response.cancel on a WebSocket.",
    )
}

/// Answers `GET /v1/responses/ID/input_items`: all items before the answer, the newest first.
pub(crate) fn input_items(app: &App, caller: &Caller, id: &str) -> Result<Response<Body>, ApiError> {
    let kept = app.responses.find(id, caller.key).filter(|k| k.json.is_some()).ok_or_else(|| not_found(id))?;
    let whole: Value = kept.json.and_then(|j| serde_json::from_slice(&j).ok()).unwrap_or_default();
    let n_output = whole["output"].as_array().map_or(0, Vec::len);
    let mut items: Vec<Value> = kept.thread.iter().flat_map(|turn| turn.iter()).map(Item::to_json).collect();
    items.truncate(items.len().saturating_sub(n_output));
    items.reverse();
    for (i, item) in items.iter_mut().enumerate() {
        if item["id"].is_null() {
            item["id"] = format!("{}_item_{i}", id.trim_start_matches("resp_")).into();
        }
    }
    let id_of = |item: Option<&Value>| item.map_or(Value::Null, |i| i["id"].clone());
    let list = json!({
        "object": "list", "first_id": id_of(items.first()), "last_id": id_of(items.last()), "has_more": false,
        "data": items,
    });
    Ok(json_response(StatusCode::OK, list.to_string().into_bytes()))
}

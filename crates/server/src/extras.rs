//! What llama.cpp's clients ask beside completions: the server's properties, tokens of a text and back, a rendered chat.

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode};
use base::TokenId;
use protocol::ApiError;
use protocol::infill::{parse_detokenize, parse_tokenize};
use serde_json::{Value, json};
use std::sync::Arc;
use text::Encode;

use crate::app::App;
use crate::body;
use crate::generate::{check_bytes, check_open, find_model, json_response, on_text_pool};

/// Which of the three that take a body.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extra {
    Tokenize,
    Detokenize,
    ApplyTemplate,
}

/// Answers `POST /tokenize`, `/detokenize` or `/apply-template`.
///
/// # Errors
/// 400 that names the field; the server's state.
pub(crate) async fn answer(
    app: Arc<App>,
    extra: Extra,
    headers: HeaderMap,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    check_open(&app)?;
    let received = body::read(&headers, body, &app.config.limits, &app.bodies).await?;
    let value = on_text_pool(&app, move |app| match extra {
        Extra::Tokenize => tokenize(app, &received.bytes),
        Extra::Detokenize => detokenize(app, &received.bytes),
        Extra::ApplyTemplate => apply_template(app, &received.bytes),
    })
    .await?;
    Ok(json_response(StatusCode::OK, value.to_string().into_bytes()))
}

/// `GET /props`, of the first model. No path of a file is told, only the model's name.
pub(crate) fn props(app: &App) -> Result<Value, ApiError> {
    check_open(app)?;
    let model = find_model(app, "default")?;
    let (info, t) = (&model.runner.info, &model.text.tokenizer);
    let text = |id: Option<TokenId>| id.map_or("", |id| t.token_text(id));
    let d = &model.defaults;
    let params = json!({
        "temperature": d.temperature, "top_k": d.top_k, "top_p": d.top_p, "min_p": d.min_p,
        "repeat_penalty": d.repeat_penalty, "repeat_last_n": d.repeat_last_n, "n_predict": -1,
    });
    Ok(json!({
        "default_generation_settings": { "n_ctx": info.n_ctx, "params": params },
        "total_slots": info.n_slots,
        "model_alias": model.name,
        "model_path": model.name,
        "modalities": { "vision": false, "audio": false },
        "chat_template": model.text.chat.as_ref().map_or("", |c| c.source()),
        "bos_token": text(t.bos()),
        "eos_token": text(t.eos()),
        "build_info": concat!("vonk-", env!("CARGO_PKG_VERSION")),
    }))
}

fn tokenize(app: &App, body: &[u8]) -> Result<Value, ApiError> {
    let r = parse_tokenize(body)?;
    let model = find_model(app, &r.model)?;
    check_bytes(&model, r.content.len(), "content")?;
    let t = &model.text.tokenizer;
    let ids = t.encode(&r.content, Encode { add_special: r.add_special, parse_special: r.parse_special });
    if !r.with_pieces {
        return Ok(json!({ "tokens": ids }));
    }
    let piece = |id: &TokenId| match std::str::from_utf8(t.token_bytes(*id)) {
        Ok(text) => json!({ "id": id, "piece": text }),
        Err(_) => json!({ "id": id, "piece": t.token_bytes(*id) }), // part of a character: its bytes
    };
    Ok(json!({ "tokens": ids.iter().map(piece).collect::<Vec<_>>() }))
}

fn detokenize(app: &App, body: &[u8]) -> Result<Value, ApiError> {
    let r = parse_detokenize(body)?;
    let model = find_model(app, &r.model)?;
    let t = &model.text.tokenizer;
    if let Some(i) = r.tokens.iter().position(|id| *id as usize >= t.n_vocab()) {
        let message = format!("Token {} is not in the vocabulary of {} tokens.", r.tokens[i], t.n_vocab());
        return Err(ApiError::field(format!("tokens[{i}]"), "invalid_value", message));
    }
    let n_ctx = model.runner.info.n_ctx;
    if r.tokens.len() > n_ctx {
        let message = format!("`tokens` has {} entries; the context has {n_ctx}. Send less at once.", r.tokens.len());
        return Err(ApiError::field("tokens", "too_many", message));
    }
    Ok(json!({ "content": String::from_utf8_lossy(&t.decode(&r.tokens, true)) }))
}

fn apply_template(app: &App, body: &[u8]) -> Result<Value, ApiError> {
    let (request, opens) = protocol::parse_template(body)?;
    let model = find_model(app, &request.generate.model)?;
    check_bytes(&model, request.text_bytes(), "messages")?;
    Ok(json!({ "prompt": model.text.render_chat(&request, opens)? }))
}

//! `GET /v1/models`: what is served, told truthfully: what may be asked of it, and how fast it has been.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode};
use protocol::{Abilities, ModelList};
use std::sync::{Arc, OnceLock};

use crate::app::{App, Model};
use crate::auth::known_models;
use crate::generate::{check_open, find_model, json_response};
use crate::routes::{Answered, json_of, rendered};

/// What a model's files say about it.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// `qwen2`, `llama`, ...
    pub family: String,
    /// Weights, as elements; 0 if unknown.
    pub n_params: u64,
    /// `Q4_K_M` and the like.
    pub quantization: Option<String>,
    /// Bytes of its files; 0 if unknown.
    pub file_bytes: u64,
    /// Digest of its file, where it was checked.
    pub sha256: Option<String>,
}

/// What may be asked of this model here.
pub(crate) fn abilities(m: &Model) -> Abilities {
    let template = m.text.chat.as_ref().map(|c| c.source());
    Abilities {
        chat: template.is_some(),
        tools: template.is_some(), // a template that knows nothing of tools is helped
        fim: m.text.fim.is_some(),
        json_schema: true,
        responses: template.is_some(),
    }
}

fn wire(m: &Model) -> protocol::Model {
    let (about, metrics) = (&m.about, &m.runner.mailbox.metrics);
    let n_ctx = Some(m.runner.info.n_ctx as u64);
    protocol::Model {
        id: m.name.clone(),
        object: "model".to_owned(),
        created: m.created,
        owned_by: "vonk".to_owned(),
        max_model_len: n_ctx,
        context_length: n_ctx,
        context_window: n_ctx,
        aliases: m.aliases.clone(),
        capabilities: Some(abilities(m)),
        prefill_tps: metrics.prefill_tps().map(tenths),
        decode_tps: metrics.decode_tps().map(tenths),
        quantization: about.quantization.clone(),
        n_params: Some(about.n_params).filter(|n| *n > 0),
        size: Some(about.file_bytes).filter(|n| *n > 0),
    }
}

fn tenths(x: f64) -> f64 {
    (x * 10.0).round() / 10.0
}

/// `GET /v1/models`.
pub(crate) fn list(app: &App) -> Answered {
    check_open(app)?;
    json_of(&ModelList { object: "list".to_owned(), data: known_models(app).map(|m| wire(m)).collect() })
}

/// `GET /openapi.json`: made once.
pub(crate) fn openapi() -> Response<Body> {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    let text = DOCUMENT.get_or_init(|| protocol::openapi::document().to_string());
    json_response(StatusCode::OK, text.clone().into_bytes())
}

/// `GET /v1/models/NAME`.
pub(crate) async fn one(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response<Body> {
    rendered(check_open(&app).and_then(|()| find_model(&app, &id)).and_then(|m| json_of(&wire(&m))))
}

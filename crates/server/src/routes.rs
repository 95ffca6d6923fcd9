//! The paths, and what wraps all of them: the gate, panics caught, errors rendered, requests counted.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use axum::middleware::{self, Next};
use axum::routing::{get, post};
use axum::{Extension, Router};
use protocol::ApiError;
use protocol::chunks::Shape;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

use crate::app::{App, Phase};
use crate::auth;
use crate::caller::Caller;
use crate::dialect;
use crate::extras::{self, Extra};
use crate::gate::check_content_type;
use crate::generate::{self, Ask, json_response};
use crate::metrics::{self, Row};
use crate::models;
use crate::net::{Peer, Seat};
use crate::ollama;
use crate::responses;
use crate::trace::{self, Trace};

pub(crate) type Answered = Result<Response<Body>, ApiError>;

/// All paths.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/health", get(|| async { status_json(StatusCode::OK, "ok") }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics_text))
        .route("/openapi.json", get(|| async { models::openapi() }))
        .route("/v1/models", get(|State(app): State<Arc<App>>| async move { rendered(models::list(&app)) }))
        .route("/v1/models/{*id}", get(models::one))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completions))
        .route("/v1/responses", post(respond).get(respond_on_websocket))
        .route("/v1/responses/{id}", get(kept_response).delete(kept_response))
        .route("/v1/responses/{id}/cancel", post(kept_response))
        .route("/v1/responses/{id}/input_items", get(kept_response))
        .route("/infill", post(infill))
        .route(
            "/props",
            get(|State(app): State<Arc<App>>| async move { rendered(extras::props(&app).and_then(|p| json_of(&p))) }),
        )
        .route("/tokenize", post(|s, h, b| extra(Extra::Tokenize, s, h, b)))
        .route("/detokenize", post(|s, h, b| extra(Extra::Detokenize, s, h, b)))
        .route("/apply-template", post(|s, h, b| extra(Extra::ApplyTemplate, s, h, b)))
        .merge(dialect::routes())
        .fallback(|| async {
            error_response(&ApiError::of(
                404,
                "unknown_path",
                "There is nothing at this path. Try GET /v1/models, POST /v1/chat/completions, POST /v1/responses or POST /v1/completions.",
            ))
        })
        .method_not_allowed_fallback(|| async {
            error_response(&ApiError::of(
                405,
                "method_not_allowed",
                "This path does not take this method. The Allow header names those that it takes.",
            ))
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&app), wrap))
        .with_state(app)
}

/// Around everything: who may ask, what a panic costs, what is counted.
async fn wrap(State(app): State<Arc<App>>, request: Request, next: Next) -> Response<Body> {
    let endpoint = endpoint(request.uri().path());
    let is_ollama = request.uri().path().starts_with("/api/");
    let is_probe = matches!(endpoint.0, "health" | "ready" | "metrics");
    if !is_probe {
        app.asked.fetch_add(1, Relaxed);
    }
    let trace = if is_probe { None } else { Trace::begin(&app, &request, endpoint.0) };
    let ip = request.extensions().get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0);
    let caller = app
        .gate
        .check(request.version(), request.uri(), request.headers())
        .and_then(|()| app.caller(request.uri().path(), request.headers(), ip));
    let mut response = match caller {
        Err(e) => error_response(&e),
        Ok(caller) => {
            let mut response = match check_type(endpoint.1, &request) {
                Err(e) => error_response(&e),
                Ok(()) => uncaught(trace::within(trace.clone(), auth::answering(&caller, next.run(request))))
                    .await
                    .unwrap_or_else(|| {
                        app.metrics.panics.fetch_add(1, Relaxed);
                        error_response(&ApiError::internal(
                            "The request failed by a bug in the server. Please report it.",
                        ))
                    }),
            };
            app.tell_quota(&caller, response.headers_mut());
            response
        }
    };
    if let Some(error) = response.extensions_mut().remove::<ApiError>().filter(|_| is_ollama) {
        *response.body_mut() = Body::from(ollama::error_body(&error).to_string());
    }
    if app.phase() != Phase::Open && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let id = format!("req-{:016x}", app.random(app.mint()));
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", id);
    }
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    app.metrics.count(endpoint.0, response.status().as_u16());
    if let Some(trace) = trace {
        trace.answered(response.status().as_u16());
    }
    response
}

fn check_type(takes_json: bool, request: &Request) -> Result<(), ApiError> {
    if takes_json { check_content_type(request.method(), request.headers()) } else { Ok(()) }
}

/// A path's name in the metrics (never the client's text), and whether it takes JSON.
fn endpoint(path: &str) -> (&'static str, bool) {
    match path {
        "/health" => ("health", false),
        "/ready" => ("ready", false),
        "/metrics" => ("metrics", false),
        "/openapi.json" => ("openapi", false),
        "/v1/chat/completions" => ("chat", true),
        "/v1/completions" => ("completions", true),
        "/infill" => ("infill", true),
        "/props" => ("props", false),
        "/tokenize" => ("tokenize", true),
        "/detokenize" => ("detokenize", true),
        "/apply-template" => ("apply_template", true),
        "/v1/responses" => ("responses", true),
        p if p.starts_with("/v1/responses/") => ("kept_responses", false),
        p if p.starts_with("/v1/models") => ("models", false),
        p => dialect::endpoint(p).unwrap_or(("other", false)),
    }
}

/// Runs a future; `None` if it panicked.
async fn uncaught<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

pub(crate) fn rendered(answered: Answered) -> Response<Body> {
    answered.unwrap_or_else(|e| error_response(&e))
}

/// An error as the SDKs read it.
pub(crate) fn error_response(error: &ApiError) -> Response<Body> {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_response(status, error.to_json());
    response.extensions_mut().insert(error.clone()); // other dialects say it in their own shape
    let headers = response.headers_mut();
    if error.status == 401 {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(s) = error.retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(s));
    }
    if matches!(error.status, 408 | 413) || error.code == Some("ambiguous_length") {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close")); // what follows cannot be trusted
    }
    response
}

fn status_json(status: StatusCode, word: &str) -> Response<Body> {
    json_response(status, format!("{{\"status\":\"{word}\"}}").into_bytes())
}

async fn ready(State(app): State<Arc<App>>) -> Response<Body> {
    let (status, word) = match app.phase() {
        Phase::Open if app.models().is_empty() => (StatusCode::SERVICE_UNAVAILABLE, "loading"),
        Phase::Open if app.models().iter().all(|m| m.runner.mailbox.is_alive()) => (StatusCode::OK, "ready"),
        Phase::Open => (StatusCode::SERVICE_UNAVAILABLE, "engine stopped"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
    };
    status_json(status, word)
}

async fn metrics_text(State(app): State<Arc<App>>) -> Response<Body> {
    let mut out = String::with_capacity(4096);
    app.metrics.write(&mut out);
    if let Some(exporter) = &app.exporter {
        exporter.write_metrics(&mut out);
    }
    let rows: Vec<Row> = app
        .models()
        .iter()
        .map(|m| Row {
            name: &m.name,
            queued: m.runner.mailbox.queued(),
            slots: m.runner.info.n_slots,
            metrics: &m.runner.mailbox.metrics,
        })
        .collect();
    metrics::write_models(&mut out, &rows);
    let mut response = Response::new(Body::from(out));
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}

pub(crate) fn json_of<T: serde::Serialize>(value: &T) -> Answered {
    let json = serde_json::to_vec(value).map_err(|e| ApiError::internal(e.to_string()))?;
    Ok(json_response(StatusCode::OK, json))
}

async fn chat(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    rendered(generate::generate(app, Ask::OpenAi(Shape::Chat), peer, headers, body).await)
}

async fn completions(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    rendered(generate::generate(app, Ask::OpenAi(Shape::Completion), peer, headers, body).await)
}

async fn respond(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    rendered(responses::create(app, peer, headers, body).await)
}

async fn respond_on_websocket(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Extension(seat): Extension<Seat>,
    request: Request,
) -> Response<Body> {
    rendered(responses::upgrade(&app, peer, seat, request))
}

/// Answers that are kept: what is done with one follows from the method and the end of the path.
async fn kept_response(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    request: Request,
) -> Response<Body> {
    let caller = match Caller::of(&app, request.headers(), peer.0) {
        Ok(caller) => caller,
        Err(e) => return error_response(&e),
    };
    let path = request.uri().path();
    rendered(match *request.method() {
        Method::DELETE => responses::delete(&app, &caller, &id),
        Method::POST => Err(responses::cancel(&app, &caller, &id)),
        _ if path.ends_with("/input_items") => responses::input_items(&app, &caller, &id),
        _ => responses::fetch(&app, &caller, &id),
    })
}

async fn infill(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    rendered(generate::generate(app, Ask::Infill, peer, headers, body).await)
}

async fn extra(extra: Extra, State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Response<Body> {
    rendered(extras::answer(app, extra, headers, body).await)
}

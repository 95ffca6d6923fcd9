//! HTTP for OpenAI's clients: admission, streaming, cancellation, metrics, shutdown. No mathematics here.
//!
//! A request's way: `net` (connection) -> `routes` (gate) -> `generate` (body, text, queue) -> `runner` (the engine's
//! thread) -> `answer` (tokens to text) -> `stream` (bytes). Whoever drops the response cancels the request.
#![forbid(unsafe_code)]

mod answer;
mod app;
mod auth;
mod body;
mod caller;
mod config;
mod dialect;
mod extras;
mod frames;
mod gate;
mod generate;
mod grammar;
mod infill;
mod keep;
mod kit;
mod metrics;
mod models;
mod net;
mod notes;
mod ollama;
mod otlp;
mod pace;
mod responses;
mod routes;
mod runner;
mod serve;
mod stream;
mod timing;
mod tools;
mod trace;

pub use app::Served;
pub use config::{Config, Limits, ServeError};
pub use keep::Keeper;
pub use kit::TextKit;
pub use models::About;
pub use otlp::Collector;
pub use serve::{Running, serve, start};

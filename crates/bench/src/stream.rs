//! One streamed answer of an OpenAI-compatible server, measured: when the first text came, when each later piece, how many
//! tokens. `client::stream` reads it.

use std::time::Instant;

use client::stream::{Said, Timed, ask};
use client::{Client, Deadline, Target};
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::BenchError;
use crate::remote::Endpoint;
use crate::stats::median;

/// One request, measured.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Repetition, from 0.
    pub rep: usize,
    /// Milliseconds from sending the request to the first text.
    pub ttft_ms: f64,
    /// Milliseconds per token after the first; `None` below two tokens or when all came at once.
    pub itl_ms: Option<f64>,
    /// Median milliseconds between two events with text.
    pub itl_event_ms: Option<f64>,
    /// Tokens per second after the first.
    pub tps: Option<f64>,
    /// Tokens / (ttft + generation time), per second.
    pub effective_tps: f64,
    /// Tokens of the answer.
    pub tokens: u64,
    /// Events with text.
    pub events: u64,
    /// Tokens of the prompt, if the server told.
    pub prompt_tokens: Option<u64>,
    /// Prompt tokens that the server took from a cache, if it told.
    pub cached_tokens: Option<u64>,
    /// Whether `tokens` is the server's count; otherwise it is the number of events.
    pub is_usage_reported: bool,
    /// Why the answer ended, in the server's word.
    pub finish_reason: Option<String>,
}

/// What to ask.
pub(crate) struct Ask<'a> {
    pub endpoint: Endpoint,
    pub model: &'a str,
    pub prompt: &'a str,
    pub max_tokens: u32,
    pub key: Option<&'a str>,
    pub timeout_s: u64,
}

impl Ask<'_> {
    fn body(&self) -> Value {
        let mut body = json!({
            "model": self.model, "temperature": 0, "max_tokens": self.max_tokens, "stream": true,
            "stream_options": {"include_usage": true},
        });
        match self.endpoint {
            Endpoint::Chat => body["messages"] = json!([{"role": "user", "content": self.prompt}]),
            Endpoint::Completions => body["prompt"] = self.prompt.into(),
        }
        body
    }

    /// Asks and reads the streamed answer.
    pub fn timed(&self, target: &Target) -> Result<Timed, BenchError> {
        timed(target, self.endpoint.path(), &self.body(), self.key, self.timeout_s)
    }
}

/// Asks once and measures the answer.
///
/// # Errors
/// Everything that can go wrong on the way, a refusal, an error within the stream, a stream cut short, no text at all.
pub(crate) fn measure(target: &Target, rep: usize, ask: &Ask<'_>) -> Result<Sample, BenchError> {
    let timed = ask.timed(target)?;
    let sent_at = timed.sent_at;
    sample(timed.said, rep, sent_at)
        .ok_or_else(|| BenchError::protocol(target.shown(), "it streamed an answer without any text"))
}

/// Sends `body` over a connection of its own and reads the streamed answer, which may be empty.
///
/// # Errors
/// Everything that can go wrong on the way, a refusal, an error within the stream, a stream cut short.
pub(crate) fn timed(
    target: &Target,
    path: &str,
    body: &Value,
    key: Option<&str>,
    timeout_s: u64,
) -> Result<Timed, BenchError> {
    let client = Client::once(target.clone(), key)?;
    Ok(ask(&client, path, body, Deadline::after_s(timeout_s), None, &mut |_| {})?)
}

fn sample(said: Said, rep: usize, sent_at: Instant) -> Option<Sample> {
    let (&first, &last) = (said.texts_at.first()?, said.texts_at.last()?);
    let events = said.texts_at.len() as u64;
    let reported = said.tokens.filter(|&t| t > 0);
    let tokens = reported.unwrap_or(events);
    let ttft_s = first.duration_since(sent_at).as_secs_f64();
    let decode_s = last.duration_since(first).as_secs_f64();
    let after_first = tokens.saturating_sub(1) as f64;
    let is_timed = after_first > 0.0 && decode_s > 0.0;
    let gaps_ms: Vec<f64> = said.texts_at.windows(2).map(|w| w[1].duration_since(w[0]).as_secs_f64() * 1e3).collect();
    Some(Sample {
        rep,
        ttft_ms: ttft_s * 1e3,
        itl_ms: is_timed.then(|| decode_s * 1e3 / after_first),
        itl_event_ms: median(&gaps_ms),
        tps: is_timed.then(|| after_first / decode_s),
        effective_tps: tokens as f64 / (ttft_s + decode_s).max(1e-9),
        tokens,
        events,
        prompt_tokens: said.prompt_tokens,
        cached_tokens: said.cached_tokens,
        is_usage_reported: reported.is_some(),
        finish_reason: said.finish_reason,
    })
}

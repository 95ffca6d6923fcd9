//! One streamed answer of an OpenAI-compatible server, timed: when the first text came, when each later piece, how many tokens.
//! Pieces that arrive in one read of the socket carry the same time, for that is when a user could see them.

use std::time::Instant;

use base::limits;
use protocol::{SseEvent, SseParser};
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::BenchError;
use crate::http::{Answer, Deadline, Target, message_of, post};
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
    timed.seen.sample(rep, sent_at).ok_or_else(|| BenchError::Protocol {
        url: target.shown.clone(),
        why: "it streamed an answer without any text".to_owned(),
    })
}

/// A streamed answer and when it came.
pub(crate) struct Timed {
    /// Before the connection was made.
    pub asked_at: Instant,
    /// When the connection stood.
    pub sent_at: Instant,
    /// After the stream's end.
    pub ended_at: Instant,
    /// Its text and counts.
    pub seen: Seen,
}

/// Sends `body` and reads the streamed answer, which may be empty.
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
    let asked_at = Instant::now();
    let answer = post(target, path, body.to_string().as_bytes(), key, Deadline::after_s(timeout_s))?;
    if answer.status != 200 {
        return Err(answer.refusal());
    }
    if !answer.content_type.starts_with("text/event-stream") {
        let why = format!("it answered {:?} and not a stream of events", answer.content_type);
        return Err(BenchError::Protocol { url: target.shown.clone(), why });
    }
    let sent_at = answer.sent_at;
    let mut seen = Seen::default();
    read_stream(target, answer, &mut seen)?;
    Ok(Timed { asked_at, sent_at, ended_at: Instant::now(), seen })
}

/// What a stream has told so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// When each event with text was read.
    pub texts_at: Vec<Instant>,
    /// The text; bounded as the stream is.
    pub text: String,
    pub tokens: Option<u64>,
    pub prompt_tokens: Option<u64>,
    pub cached_tokens: Option<u64>,
    pub accepted_prediction_tokens: Option<u64>,
    pub rejected_prediction_tokens: Option<u64>,
    pub timings: Option<Value>,
    pub finish_reason: Option<String>,
    is_done: bool,
}

fn read_stream(target: &Target, mut answer: Answer, seen: &mut Seen) -> Result<(), BenchError> {
    let wrong = |why: String| BenchError::Protocol { url: target.shown.clone(), why };
    let (mut parser, mut events, mut bytes, mut total) = (SseParser::new(), Vec::new(), Vec::new(), 0usize);
    while !seen.is_done && answer.read(&mut bytes)? {
        let now = Instant::now();
        total += bytes.len();
        if total > limits::SSE_EVENT_BYTES_MAX {
            return Err(wrong(format!("its stream is longer than {} bytes", limits::SSE_EVENT_BYTES_MAX)));
        }
        parser.push(&bytes, &mut events).map_err(|e| wrong(e.to_string()))?;
        bytes.clear();
        for event in events.drain(..) {
            seen.take(target, &event, now)?;
        }
    }
    match seen.is_done || seen.finish_reason.is_some() {
        true => Ok(()),
        false => Err(wrong("its stream ended without a finish_reason or [DONE]".to_owned())),
    }
}

impl Seen {
    fn take(&mut self, target: &Target, event: &SseEvent, now: Instant) -> Result<(), BenchError> {
        let url = || target.shown.clone();
        if event.data.trim() == "[DONE]" {
            self.is_done = true;
            return Ok(());
        }
        let chunk: Value = serde_json::from_str(&event.data).map_err(|e| BenchError::Protocol {
            url: url(),
            why: format!("an event of its stream is not JSON: {e}"),
        })?;
        if let Some(message) = chunk.get("error").filter(|e| !e.is_null()).and_then(|_| message_of(&chunk)) {
            let message = crate::error::printable(&message, 500);
            return Err(BenchError::Refused { url: url(), status: 200, message });
        }
        let choice = chunk.pointer("/choices/0").unwrap_or(&Value::Null);
        let texts = ["/delta/content", "/delta/reasoning_content", "/delta/reasoning", "/text"];
        let text = texts.iter().find_map(|at| choice.pointer(at).and_then(Value::as_str).filter(|t| !t.is_empty()));
        if let Some(text) = text {
            self.texts_at.push(now);
            self.text.push_str(text);
        }
        if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
            self.finish_reason = Some(crate::error::printable(reason, 40));
        }
        let count = |at: &str| chunk.pointer(at).and_then(Value::as_u64);
        self.tokens = count("/usage/completion_tokens").or(self.tokens);
        self.prompt_tokens = count("/usage/prompt_tokens").or(self.prompt_tokens);
        self.cached_tokens = count("/usage/prompt_tokens_details/cached_tokens").or(self.cached_tokens);
        let of_prediction = |what: &str| count(&format!("/usage/completion_tokens_details/{what}_prediction_tokens"));
        self.accepted_prediction_tokens = of_prediction("accepted").or(self.accepted_prediction_tokens);
        self.rejected_prediction_tokens = of_prediction("rejected").or(self.rejected_prediction_tokens);
        if let Some(timings) = chunk.get("timings").filter(|t| t.is_object()) {
            self.timings = Some(timings.clone());
        }
        Ok(())
    }

    /// Tokens of the answer: the server's count, else events with text.
    pub fn tokens_or_events(&self) -> u64 {
        self.tokens.filter(|&t| t > 0).unwrap_or(self.texts_at.len() as u64)
    }

    fn sample(self, rep: usize, sent_at: Instant) -> Option<Sample> {
        let (&first, &last) = (self.texts_at.first()?, self.texts_at.last()?);
        let events = self.texts_at.len() as u64;
        let reported = self.tokens.filter(|&t| t > 0);
        let tokens = reported.unwrap_or(events);
        let ttft_s = first.duration_since(sent_at).as_secs_f64();
        let decode_s = last.duration_since(first).as_secs_f64();
        let after_first = tokens.saturating_sub(1) as f64;
        let is_timed = after_first > 0.0 && decode_s > 0.0;
        let gaps_ms: Vec<f64> =
            self.texts_at.windows(2).map(|w| w[1].duration_since(w[0]).as_secs_f64() * 1e3).collect();
        Some(Sample {
            rep,
            ttft_ms: ttft_s * 1e3,
            itl_ms: is_timed.then(|| decode_s * 1e3 / after_first),
            itl_event_ms: median(&gaps_ms),
            tps: is_timed.then(|| after_first / decode_s),
            effective_tps: tokens as f64 / (ttft_s + decode_s).max(1e-9),
            tokens,
            events,
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_tokens,
            is_usage_reported: reported.is_some(),
            finish_reason: self.finish_reason,
        })
    }
}

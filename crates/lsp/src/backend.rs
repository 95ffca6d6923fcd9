//! Whom the brain asks: a server's `/infill`, or a script in tests.

use client::server::{Found, Wanted, find_or_start};
use client::{Cancel, ClientError, Deadline, message_of};
use protocol::SseParser;
use serde_json::{Value, json};
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::Duration;

use base::limits::{CLIENT_REFUSAL_BYTES_MAX, COMPLETION_S_MAX, SERVER_PROBE_MS_MAX, SUGGESTION_BYTES_MAX};

use crate::brain::Prompt;

/// How an answer ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ended {
    /// The model said so itself: it would write no more.
    pub is_done: bool,
    /// Tokens of the prompt.
    pub n_prompt: u64,
    /// Those that were computed, in `prompt_ms`.
    pub n_new: u64,
    /// See `n_new`.
    pub prompt_ms: f64,
    /// Tokens of the answer.
    pub n_predicted: u64,
    /// Time of those after the first.
    pub predicted_ms: f64,
    /// The model's name.
    pub model: String,
}

/// Somebody who fills gaps.
pub trait Backend: Send + Sync {
    /// Asks, and hands out each piece of text as it comes. Returns soon after `cancel`.
    ///
    /// # Errors
    /// Why there is no answer; also when it was cancelled.
    fn fill(&self, prompt: &Prompt, cancel: &Cancel, on_text: &mut dyn FnMut(&str)) -> Result<Ended, ClientError>;

    /// The model of a server that is up, if there is one; none is started. May take as long as one takes to load.
    fn look(&self) -> Option<String> {
        None
    }
}

/// A server that has llama.cpp's `/infill`, as ours does. It is found, or started, when it is asked for the first time, and
/// again when it is gone.
#[derive(Debug)]
pub struct Server {
    wanted: Wanted,
    found: Mutex<Option<Found>>,
}

impl Server {
    /// Any that fits.
    pub fn new(wanted: Wanted) -> Self {
        Self { wanted, found: Mutex::new(None) }
    }

    /// The server, found or started now if need be. Whoever comes while another one is looking does not wait.
    ///
    /// # Errors
    /// None can be had.
    pub fn client(&self) -> Result<Found, ClientError> {
        let mut found = match self.found.try_lock() {
            Ok(found) => found,
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(ClientError::Server("the server is being started".to_owned())),
        };
        if found.is_none() {
            *found = Some(find_or_start(&self.wanted, &mut |_| {})?);
        }
        found.clone().ok_or_else(|| ClientError::Server("no server".to_owned()))
    }

    /// The same, after a look whether it still answers: it may have stopped since, when nobody asked.
    ///
    /// # Errors
    /// None can be had.
    pub fn living(&self) -> Result<Found, ClientError> {
        let found = self.client()?;
        let deadline = Deadline::after(Duration::from_millis(SERVER_PROBE_MS_MAX));
        match found.client.get("/ready", deadline, None) {
            Ok(_) | Err(ClientError::Timeout { .. }) => Ok(found), // it is there, if busy
            Err(_) => {
                self.lost();
                self.client()
            }
        }
    }

    fn lost(&self) {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The body of the request.
fn body(prompt: &Prompt, model: &str) -> Value {
    let extra: Vec<Value> = prompt.extra.iter().map(|(path, text)| json!({"filename": path, "text": text})).collect();
    let mut body = json!({
        "model": model,
        "input_prefix": prompt.prefix,
        "input_suffix": prompt.suffix,
        "input_extra": extra,
        "prompt": "",
        "n_predict": prompt.n_predict,
        "temperature": 0,
        "top_k": 1,
        "stream": true,
        "cache_prompt": true,
        "service_tier": if prompt.is_urgent { "priority" } else { "flex" },
    });
    if let Some(text) = &prompt.prediction {
        body["prediction"] = json!({"type": "content", "content": text});
    }
    body
}

impl Backend for Server {
    fn fill(&self, prompt: &Prompt, cancel: &Cancel, on_text: &mut dyn FnMut(&str)) -> Result<Ended, ClientError> {
        let deadline = Deadline::after(Duration::from_secs(COMPLETION_S_MAX));
        let Found { client, model, .. } = self.client()?;
        let body = body(prompt, &model).to_string();
        let asked = client.post("/infill", body.as_bytes(), deadline, Some(cancel));
        let mut answer = asked.inspect_err(|e| {
            if e.is_connect() {
                self.lost()
            }
        })?;
        if answer.status != 200 {
            return Err(answer.refusal());
        }
        let url = client.target().shown().to_owned();
        let wrong = |why: String| ClientError::Protocol { url: url.clone(), why };
        let (mut parser, mut events, mut bytes, mut total) = (SseParser::new(), Vec::new(), Vec::new(), 0);
        let mut ended = None;
        while answer.read(&mut bytes)? {
            parser.push(&bytes, &mut events).map_err(|e| wrong(e.to_string()))?;
            bytes.clear();
            for event in events.drain(..).filter(|e| e.data != "[DONE]") {
                let value: Value = serde_json::from_str(&event.data).map_err(|e| wrong(e.to_string()))?;
                if let Some(message) = value.get("error").and_then(|_| message_of(&value)) {
                    let message = client::printable(&message, 500);
                    return Err(ClientError::Refused { url: url.clone(), status: 200, message });
                }
                let text = value["content"].as_str().unwrap_or_default();
                total += text.len();
                if !text.is_empty() && total <= SUGGESTION_BYTES_MAX {
                    on_text(text);
                }
                if value["stop"] == true {
                    ended = Some(end(&value));
                }
            }
        }
        ended.ok_or_else(|| wrong("its stream ended without a last word".to_owned()))
    }

    fn look(&self) -> Option<String> {
        let wanted = Wanted { start: None, ..self.wanted.clone() };
        let Found { client, model, .. } = find_or_start(&wanted, &mut |_| {}).ok()?;
        let deadline = Deadline::after(Duration::from_millis(SERVER_PROBE_MS_MAX));
        let answer = client.get("/v1/models", deadline, None).ok().filter(|a| a.status == 200)?;
        let models: Value = answer.json(CLIENT_REFUSAL_BYTES_MAX).ok()?;
        let first = models.pointer("/data/0/id").and_then(Value::as_str)?;
        Some(client::printable(if model == "default" { first } else { &model }, 200))
    }
}

fn end(value: &Value) -> Ended {
    let (count, ms) =
        (|at: &str| value.pointer(at).and_then(Value::as_u64), |at: &str| value.pointer(at).and_then(Value::as_f64));
    Ended {
        is_done: value["stop_type"] == "eos",
        n_prompt: count("/tokens_evaluated").unwrap_or(0),
        n_new: count("/timings/prompt_n").unwrap_or(0),
        prompt_ms: ms("/timings/prompt_ms").unwrap_or(0.0),
        n_predicted: count("/timings/predicted_n").unwrap_or(0).saturating_sub(1),
        predicted_ms: ms("/timings/predicted_ms").unwrap_or(0.0),
        model: client::printable(value["model"].as_str().unwrap_or_default(), 200),
    }
}

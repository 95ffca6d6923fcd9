//! One streamed answer of an OpenAI-compatible server: its text as it comes, when it came, and what the server said about it.
//! Pieces that arrive in one read of the socket carry the same time, for that is when a user could see them.

use std::time::Instant;

use base::limits;
use protocol::{SseEvent, SseParser};
use serde_json::Value;

use crate::error::{ClientError, printable};
use crate::http::{Cancel, Client, Deadline};
use crate::wire::{Answer, message_of};

/// What a stream has told.
#[derive(Debug, Default)]
pub struct Said {
    /// When each event with text was read.
    pub texts_at: Vec<Instant>,
    /// The text; bounded as the stream is.
    pub text: String,
    /// Tokens of the answer.
    pub tokens: Option<u64>,
    /// Tokens of the prompt.
    pub prompt_tokens: Option<u64>,
    /// Prompt tokens that came from a cache.
    pub cached_tokens: Option<u64>,
    /// Tokens of the prediction that were right.
    pub accepted_prediction_tokens: Option<u64>,
    /// Tokens of the prediction that were not.
    pub rejected_prediction_tokens: Option<u64>,
    /// The server's own split of the time.
    pub timings: Option<Value>,
    /// Why it ended, in the server's word.
    pub finish_reason: Option<String>,
    is_done: bool,
}

/// A streamed answer and when it came.
#[derive(Debug)]
pub struct Timed {
    /// Before the connection was made.
    pub asked_at: Instant,
    /// When the connection stood.
    pub sent_at: Instant,
    /// After the stream's end.
    pub ended_at: Instant,
    /// Its text and counts.
    pub said: Said,
}

/// Sends `body`, which asks for a stream, and reads the answer, which may be empty. `on_text` gets each piece of text.
///
/// # Errors
/// Everything that can go wrong on the way, a refusal, an error within the stream, a stream cut short, a stop.
pub fn ask(
    client: &Client,
    path: &str,
    body: &Value,
    deadline: Deadline,
    cancel: Option<&Cancel>,
    on_text: &mut dyn FnMut(&str),
) -> Result<Timed, ClientError> {
    let asked_at = Instant::now();
    let mut answer = client.post(path, body.to_string().as_bytes(), deadline, cancel)?;
    if answer.status != 200 {
        return Err(answer.refusal());
    }
    let url = client.target().shown();
    if !answer.content_type.starts_with("text/event-stream") {
        let why = format!("it answered {:?} and not a stream of events", answer.content_type);
        return Err(ClientError::Protocol { url: url.to_owned(), why });
    }
    let sent_at = answer.sent_at;
    let mut said = Said::default();
    read(url, &mut answer, &mut said, on_text)?;
    let ended_at = Instant::now();
    answer.settle();
    Ok(Timed { asked_at, sent_at, ended_at, said })
}

fn read(url: &str, answer: &mut Answer, said: &mut Said, on_text: &mut dyn FnMut(&str)) -> Result<(), ClientError> {
    let wrong = |why: String| ClientError::Protocol { url: url.to_owned(), why };
    let (mut parser, mut events, mut bytes, mut total) = (SseParser::new(), Vec::new(), Vec::new(), 0usize);
    while !said.is_done && answer.read(&mut bytes)? {
        let now = Instant::now();
        total += bytes.len();
        if total > limits::SSE_EVENT_BYTES_MAX {
            return Err(wrong(format!("its stream is longer than {} bytes", limits::SSE_EVENT_BYTES_MAX)));
        }
        parser.push(&bytes, &mut events).map_err(|e| wrong(e.to_string()))?;
        bytes.clear();
        let before = said.text.len();
        for event in events.drain(..) {
            said.take(url, &event, now)?;
        }
        if said.text.len() > before {
            on_text(&said.text[before..]);
        }
    }
    match said.is_done || said.finish_reason.is_some() {
        true => Ok(()),
        false => Err(wrong("its stream ended without a finish_reason or [DONE]".to_owned())),
    }
}

impl Said {
    fn take(&mut self, url: &str, event: &SseEvent, now: Instant) -> Result<(), ClientError> {
        let url = || url.to_owned();
        if event.data.trim() == "[DONE]" {
            self.is_done = true;
            return Ok(());
        }
        let chunk: Value = serde_json::from_str(&event.data).map_err(|e| ClientError::Protocol {
            url: url(),
            why: format!("an event of its stream is not JSON: {e}"),
        })?;
        if let Some(message) = chunk.get("error").filter(|e| !e.is_null()).and_then(|_| message_of(&chunk)) {
            return Err(ClientError::Refused { url: url(), status: 200, message: printable(&message, 500) });
        }
        let choice = chunk.pointer("/choices/0").unwrap_or(&Value::Null);
        let texts = ["/delta/content", "/delta/reasoning_content", "/delta/reasoning", "/text"];
        let text = texts.iter().find_map(|at| choice.pointer(at).and_then(Value::as_str).filter(|t| !t.is_empty()));
        if let Some(text) = text {
            self.texts_at.push(now);
            self.text.push_str(text);
        }
        if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
            self.finish_reason = Some(printable(reason, 40));
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
}

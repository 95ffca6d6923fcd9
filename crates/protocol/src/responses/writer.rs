//! An answer as events: created, items that are added, grow and are done, and the end. One writer serves streams over
//! HTTP (server-sent events), the WebSocket (a line of JSON for each message) and whole answers, so they cannot differ.

use serde::Serialize;
use serde_json::{Value, json};
use std::io::Write;

use crate::chat::{ChatLogprobs, Role, TokenLogprob};
use crate::error::ApiError;
use crate::responses::items::{Call, Item};
use crate::responses::tools::ToolNames;
use crate::usage::{Timings, Usage};

/// How events are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `event:` and `data:` lines.
    Sse,
    /// One line of JSON each.
    Lines,
    /// No events: only the whole answer is wanted.
    Whole,
}

/// What is equal in all events of an answer.
#[derive(Clone, Debug)]
pub struct Head {
    /// `resp_` and `key`.
    pub id: String,
    /// Part of the ids of items.
    pub key: u64,
    /// Unix seconds.
    pub created: u64,
    /// The model that answers.
    pub model: String,
    /// Equal fingerprints promise equal answers for equal seeds.
    pub fingerprint: String,
    /// The answer that it follows.
    pub previous: Option<String>,
    /// See `ResponseRequest`.
    pub echo: String,
    /// See `ResponseRequest`.
    pub names: ToolNames,
    /// Nothing is said.
    pub is_warm_up: bool,
}

/// How an answer ends.
#[derive(Clone, Debug)]
pub enum End {
    /// As the model wanted.
    Completed,
    /// `max_output_tokens`, `cancelled` or `steered`.
    Incomplete(&'static str),
    /// By an error.
    Failed(ApiError),
}

/// The item that grows.
#[derive(Debug)]
enum Open {
    Nothing,
    Text { id: String, text: String, logprobs: Vec<TokenLogprob> },
    Call(Call),
}

/// The writer of one answer. Methods append whole events to `out`.
#[derive(Debug)]
pub struct ResponseWriter {
    head: Head,
    shape: Shape,
    sequence: u64,
    open: Open,
    /// Blanks before the first word of a message: if a call follows, there is no message.
    held: String,
    /// Items that are done, as JSON with commas between.
    output: Vec<u8>,
    items: Vec<Item>,
}

impl ResponseWriter {
    /// For one answer.
    pub fn new(head: Head, shape: Shape) -> Self {
        Self {
            head,
            shape,
            sequence: 0,
            open: Open::Nothing,
            held: String::new(),
            output: Vec::new(),
            items: Vec::new(),
        }
    }

    /// The answer's id.
    pub fn id(&self) -> &str {
        &self.head.id
    }

    /// What the answer says, so far as items are done.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The answer begins.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if self.shape == Shape::Whole {
            return;
        }
        let response = self.response("in_progress", &Value::Null, &Value::Null, None);
        for kind in ["response.created", "response.in_progress"] {
            self.event(out, kind, |out| raw(out, "response", &response));
        }
    }

    /// More input has come for this answer, which will end for it.
    pub fn steered(&mut self, out: &mut Vec<u8>, id: &str) {
        let steer = json!({ "id": id, "previous_response_id": self.head.id });
        self.event(out, "response.steer.accepted", |out| field(out, "steer", &steer));
    }

    /// More text.
    pub fn text(&mut self, out: &mut Vec<u8>, delta: &str, logprobs: Option<ChatLogprobs>) {
        if !matches!(self.open, Open::Text { .. }) {
            self.close(out, "completed");
            if logprobs.is_none() && delta.trim().is_empty() {
                self.held.push_str(delta);
                return;
            }
            self.open_text(out);
        }
        let held = std::mem::take(&mut self.held);
        if held.is_empty() { self.more(out, delta, logprobs) } else { self.more(out, &(held + delta), logprobs) }
    }

    fn more(&mut self, out: &mut Vec<u8>, delta: &str, more: Option<ChatLogprobs>) {
        let index = self.items.len();
        let more = more.map(|l| l.content).unwrap_or_default();
        let Open::Text { id, text, .. } = &mut self.open else { return };
        text.push_str(delta);
        let id = id.clone();
        self.event(out, "response.output_text.delta", |out| {
            place(out, &id, index);
            raw(out, "content_index", b"0");
            field(out, "delta", delta);
            field(out, "logprobs", &more);
        });
        if let Open::Text { logprobs, .. } = &mut self.open {
            logprobs.extend(more);
        }
    }

    fn open_text(&mut self, out: &mut Vec<u8>) {
        let (id, index) = (self.item_id("msg"), self.items.len());
        let item = message(&id, "in_progress", None);
        self.event(out, "response.output_item.added", |out| added(out, index, &item));
        self.event(out, "response.content_part.added", |out| {
            place(out, &id, index);
            raw(out, "content_index", b"0");
            field(out, "part", &part("", &[]));
        });
        self.open = Open::Text { id, text: String::new(), logprobs: Vec::new() };
    }

    /// The model begins to call a tool, by the name that it knows; `call_id` is what the tool's answer will name.
    pub fn call(&mut self, out: &mut Vec<u8>, name: &str, call_id: String) {
        self.close(out, "completed");
        self.held.clear();
        let tool = self.head.names.find(name);
        let (prefix, index) = (if tool.is_custom { "ctc" } else { "fc" }, self.items.len());
        let call = Call {
            id: Some(self.item_id(prefix)),
            call_id,
            namespace: tool.namespace,
            name: tool.name,
            input: String::new(),
            is_custom: tool.is_custom,
        };
        let item = call.to_json("in_progress");
        self.event(out, "response.output_item.added", |out| added(out, index, &item));
        self.open = Open::Call(call);
    }

    /// More of a call's arguments, or of a custom tool's text.
    pub fn arguments(&mut self, out: &mut Vec<u8>, delta: &str) {
        let index = self.items.len();
        let Open::Call(call) = &mut self.open else { return };
        call.input.push_str(delta);
        let (id, kind) = (call.id.clone().unwrap_or_default(), delta_kind(call.is_custom));
        self.event(out, kind, |out| {
            place(out, &id, index);
            field(out, "delta", delta);
        });
    }

    /// The call is complete.
    pub fn call_end(&mut self, out: &mut Vec<u8>) {
        if matches!(self.open, Open::Call(_)) {
            self.close(out, "completed");
        }
    }

    /// Ends the open item.
    fn close(&mut self, out: &mut Vec<u8>, status: &str) {
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Nothing => {}
            Open::Text { id, text, logprobs } => self.close_text(out, id, text, &logprobs, status),
            Open::Call(call) => self.close_call(out, call, status),
        }
    }

    fn close_text(&mut self, out: &mut Vec<u8>, id: String, text: String, logprobs: &[TokenLogprob], status: &str) {
        let index = self.items.len();
        self.event(out, "response.output_text.done", |out| {
            place(out, &id, index);
            raw(out, "content_index", b"0");
            field(out, "text", &text);
            field(out, "logprobs", logprobs);
        });
        let part = part(&text, logprobs);
        self.event(out, "response.content_part.done", |out| {
            place(out, &id, index);
            raw(out, "content_index", b"0");
            field(out, "part", &part);
        });
        let item = message(&id, status, Some(part));
        self.done(out, &item, Item::Message { id: Some(id), role: Role::Assistant, text });
    }

    fn close_call(&mut self, out: &mut Vec<u8>, call: Call, status: &str) {
        let index = self.items.len();
        let id = call.id.clone().unwrap_or_default();
        if call.is_custom {
            let input = &call.input;
            self.event(out, "response.custom_tool_call_input.done", |out| {
                place(out, &id, index);
                field(out, "input", input);
            });
        } else {
            let (name, arguments) = (&call.name, &call.input);
            self.event(out, "response.function_call_arguments.done", |out| {
                place(out, &id, index);
                field(out, "name", name);
                field(out, "arguments", arguments);
            });
        }
        let item = call.to_json(status);
        self.done(out, &item, Item::Call(call));
    }

    fn done(&mut self, out: &mut Vec<u8>, item: &Value, kept: Item) {
        let index = self.items.len();
        let json = item.to_string();
        self.event(out, "response.output_item.done", |out| {
            let _ = write!(out, ",\"output_index\":{index}");
            raw(out, "item", json.as_bytes());
        });
        if !self.output.is_empty() {
            self.output.push(b',');
        }
        self.output.extend_from_slice(json.as_bytes());
        self.items.push(kept);
    }

    /// The answer ends; the whole answer as JSON.
    pub fn end(&mut self, out: &mut Vec<u8>, end: &End, usage: &Usage, timings: &Timings) -> Vec<u8> {
        match end {
            End::Failed(_) => self.open = Open::Nothing,
            End::Completed | End::Incomplete(_) => {
                let status = if matches!(end, End::Completed) { "completed" } else { "incomplete" };
                self.close(out, status);
                if self.items.is_empty() && matches!(end, End::Completed) && !self.head.is_warm_up {
                    self.open_text(out);
                    let held = std::mem::take(&mut self.held);
                    if !held.is_empty() {
                        self.more(out, &held, None);
                    }
                    self.close(out, status);
                }
            }
        }
        let (kind, status, error, why) = match end {
            End::Completed => ("response.completed", "completed", Value::Null, Value::Null),
            End::Incomplete(why) => ("response.incomplete", "incomplete", Value::Null, json!({ "reason": why })),
            End::Failed(e) => ("response.failed", "failed", failure(e), Value::Null),
        };
        let response = self.response(status, &error, &why, Some((usage, timings)));
        self.event(out, kind, |out| raw(out, "response", &response));
        response
    }

    fn item_id(&self, prefix: &str) -> String {
        format!("{prefix}_{:016x}{:04x}", self.head.key, self.items.len())
    }

    /// The response object.
    fn response(&self, status: &str, error: &Value, why: &Value, end: Option<(&Usage, &Timings)>) -> Vec<u8> {
        let mut out = Vec::with_capacity(512 + self.head.echo.len() + self.output.len());
        out.extend_from_slice(b"{\"id\":");
        json(&mut out, &self.head.id);
        raw(&mut out, "object", b"\"response\"");
        field(&mut out, "created_at", &self.head.created);
        field(&mut out, "status", status);
        field(&mut out, "error", error);
        field(&mut out, "incomplete_details", why);
        field(&mut out, "model", &self.head.model);
        out.extend_from_slice(b",\"output\":[");
        out.extend_from_slice(&self.output);
        out.extend_from_slice(b"],");
        out.extend_from_slice(self.head.echo.as_bytes());
        field(&mut out, "previous_response_id", &self.head.previous);
        field(&mut out, "system_fingerprint", &self.head.fingerprint);
        field(&mut out, "usage", &end.map(|(usage, _)| usage_json(usage)));
        if let Some((_, timings)) = end {
            field(&mut out, "timings", timings);
        }
        out.push(b'}');
        out
    }

    fn event(&mut self, out: &mut Vec<u8>, kind: &str, rest: impl FnOnce(&mut Vec<u8>)) {
        let _ = match self.shape {
            Shape::Whole => return,
            Shape::Sse => write!(out, "event: {kind}\ndata: "),
            Shape::Lines => Ok(()),
        };
        let _ = write!(out, "{{\"type\":\"{kind}\",\"sequence_number\":{}", self.sequence);
        self.sequence += 1;
        rest(out);
        out.extend_from_slice(if self.shape == Shape::Sse { b"}\n\n" } else { b"}\n" });
    }
}

/// `usage` in this API's names.
fn usage_json(usage: &Usage) -> Value {
    let details = usage.completion_tokens_details.unwrap_or_default();
    json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": { "cached_tokens": usage.prompt_tokens_details.unwrap_or_default().cached_tokens },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {
            "reasoning_tokens": details.reasoning_tokens,
            "accepted_prediction_tokens": details.accepted_prediction_tokens,
            "rejected_prediction_tokens": details.rejected_prediction_tokens,
        },
        "total_tokens": usage.total_tokens,
    })
}

/// `error` of a failed response: codes that clients act upon.
fn failure(e: &ApiError) -> Value {
    let code = match (e.status, e.code) {
        (_, Some(code @ ("context_length_exceeded" | "insufficient_quota"))) => code,
        (429, _) => "rate_limit_exceeded",
        (503, Some("queue_timeout" | "overloaded" | "deadline_exceeded")) => "server_is_overloaded",
        (400..500, _) => "invalid_prompt",
        _ => "server_error",
    };
    let message = match e.retry_after_s {
        Some(s) if !e.message.contains("try again in") => format!("{} Please try again in {s}s.", e.message),
        _ => e.message.clone(),
    };
    json!({ "code": code, "message": message })
}

fn delta_kind(is_custom: bool) -> &'static str {
    if is_custom { "response.custom_tool_call_input.delta" } else { "response.function_call_arguments.delta" }
}

fn message(id: &str, status: &str, part: Option<Value>) -> Value {
    let content: Vec<Value> = part.into_iter().collect();
    json!({ "id": id, "type": "message", "status": status, "role": "assistant", "content": content })
}

fn part(text: &str, logprobs: &[TokenLogprob]) -> Value {
    json!({ "type": "output_text", "annotations": [], "logprobs": logprobs, "text": text })
}

fn added(out: &mut Vec<u8>, index: usize, item: &Value) {
    let _ = write!(out, ",\"output_index\":{index}");
    field(out, "item", item);
}

/// Which item, by id and by place.
fn place(out: &mut Vec<u8>, id: &str, index: usize) {
    field(out, "item_id", id);
    let _ = write!(out, ",\"output_index\":{index}");
}

fn field<T: Serialize + ?Sized>(out: &mut Vec<u8>, name: &str, value: &T) {
    let _ = write!(out, ",\"{name}\":");
    json(out, value);
}

fn raw(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    let _ = write!(out, ",\"{name}\":");
    out.extend_from_slice(value);
}

/// Writing plain data to a vector cannot fail.
fn json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let _ = serde_json::to_writer(out, value);
}

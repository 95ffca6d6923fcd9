//! Writes the chunks of a stream. What is equal in all chunks of an answer is serialised once, so a token costs a copy
//! of that prefix and the escape of its own text: no tree is built and nothing is allocated but the output's growth.

use serde::Serialize;
use std::io::Write;

use crate::error::ApiError;
use crate::generate::FinishReason;
use crate::hints::ServiceTier;
use crate::tools::CallKind;
use crate::usage::{Timings, Usage};

/// Which endpoint's chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `chat.completion.chunk`
    Chat,
    /// `text_completion`
    Completion,
}

/// What is equal in all chunks of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// Which endpoint.
    pub shape: Shape,
    /// The answer's id.
    pub id: &'a str,
    /// Unix seconds.
    pub created: u64,
    /// The model that answers.
    pub model: &'a str,
    /// Equal fingerprints promise equal answers for equal seeds.
    pub fingerprint: &'a str,
    /// As asked for, if it was.
    pub service_tier: Option<ServiceTier>,
}

/// The writer of one answer's chunks. All methods append whole events to `out`.
#[derive(Debug)]
pub struct Chunks {
    /// `data: {...,"choices":[`
    head: Vec<u8>,
    /// What follows the choice.
    tail: &'static [u8],
    shape: Shape,
}

impl Chunks {
    /// For one answer. `include_usage` writes `"usage":null` in every chunk but the last, as OpenAI does.
    pub fn new(envelope: &Envelope<'_>, include_usage: bool) -> Self {
        let Envelope { shape, id, created, model, fingerprint, service_tier } = *envelope;
        let mut head = b"data: {\"id\":".to_vec();
        json(&mut head, id);
        head.extend_from_slice(match shape {
            Shape::Chat => b",\"object\":\"chat.completion.chunk\",\"created\":".as_slice(),
            Shape::Completion => b",\"object\":\"text_completion\",\"created\":",
        });
        json(&mut head, &created);
        head.extend_from_slice(b",\"model\":");
        json(&mut head, model);
        head.extend_from_slice(b",\"system_fingerprint\":");
        json(&mut head, fingerprint);
        if let Some(tier) = service_tier {
            head.extend_from_slice(b",\"service_tier\":");
            json(&mut head, tier.as_str());
        }
        head.extend_from_slice(b",\"choices\":[");
        let tail: &[u8] = if include_usage { b"],\"usage\":null}\n\n" } else { b"]}\n\n" };
        Self { head, tail, shape }
    }

    /// A choice begins (chat only; completions have no such chunk).
    pub fn begin(&self, out: &mut Vec<u8>, index: u32) {
        if self.shape == Shape::Chat {
            self.open(out, index);
            out.extend_from_slice(
                b",\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}",
            );
            out.extend_from_slice(self.tail);
        }
    }

    /// More text of a choice. `logprobs` is `ChatLogprobs` or `CompletionLogprobs`.
    pub fn text<L: Serialize>(&self, out: &mut Vec<u8>, index: u32, text: &str, logprobs: Option<&L>) {
        self.open(out, index);
        self.content(out, text);
        out.extend_from_slice(b",\"logprobs\":");
        json(out, &logprobs);
        out.extend_from_slice(b",\"finish_reason\":null}");
        out.extend_from_slice(self.tail);
    }

    /// A call begins: its place among the choice's calls, its id, the tool.
    pub fn call(&self, out: &mut Vec<u8>, index: u32, call: u32, id: &str, kind: CallKind, name: &str) {
        self.open_call(out, index, call);
        out.extend_from_slice(b",\"id\":");
        json(out, id);
        let _ = write!(out, ",\"type\":\"{0}\",\"{0}\":{{\"name\":", kind.as_str());
        json(out, name);
        let _ = write!(out, ",\"{}\":\"\"", input_name(kind));
        self.close_call(out);
    }

    /// More of a call's arguments or input.
    pub fn call_input(&self, out: &mut Vec<u8>, index: u32, call: u32, kind: CallKind, piece: &str) {
        self.open_call(out, index, call);
        let _ = write!(out, ",\"{}\":{{\"{}\":", kind.as_str(), input_name(kind));
        json(out, piece);
        self.close_call(out);
    }

    /// A choice ends. `timings` in the answer's last chunk, unless a usage chunk follows.
    pub fn finish(&self, out: &mut Vec<u8>, index: u32, reason: FinishReason, timings: Option<&Timings>) {
        self.open(out, index);
        match self.shape {
            Shape::Chat => out.extend_from_slice(b",\"delta\":{}"),
            Shape::Completion => out.extend_from_slice(b",\"text\":\"\""),
        }
        out.extend_from_slice(b",\"logprobs\":null,\"finish_reason\":");
        json(out, reason.as_str());
        out.push(b'}');
        match timings {
            None => out.extend_from_slice(self.tail),
            Some(timings) => {
                out.extend_from_slice(b"],\"timings\":");
                json(out, timings);
                out.extend_from_slice(&self.tail[1..]);
            }
        }
    }

    /// The last chunk, if usage was asked for: no choices.
    pub fn usage(&self, out: &mut Vec<u8>, usage: &Usage, timings: &Timings) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b"],\"usage\":");
        json(out, usage);
        out.extend_from_slice(b",\"timings\":");
        json(out, timings);
        out.extend_from_slice(b"}\n\n");
    }

    fn open(&self, out: &mut Vec<u8>, index: u32) {
        out.extend_from_slice(&self.head);
        let _ = write!(out, "{{\"index\":{index}");
    }

    fn open_call(&self, out: &mut Vec<u8>, index: u32, call: u32) {
        self.open(out, index);
        let _ = write!(out, ",\"delta\":{{\"tool_calls\":[{{\"index\":{call}");
    }

    fn close_call(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"}}]},\"logprobs\":null,\"finish_reason\":null}");
        out.extend_from_slice(self.tail);
    }

    fn content(&self, out: &mut Vec<u8>, text: &str) {
        match self.shape {
            Shape::Chat => {
                out.extend_from_slice(b",\"delta\":{\"content\":");
                json(out, text);
                out.push(b'}');
            }
            Shape::Completion => {
                out.extend_from_slice(b",\"text\":");
                json(out, text);
            }
        }
    }
}

/// Where a call of this kind has what it is called with.
fn input_name(kind: CallKind) -> &'static str {
    match kind {
        CallKind::Function => "arguments",
        CallKind::Custom => "input",
    }
}

/// The event that ends a stream which failed after it began.
pub fn error_event(out: &mut Vec<u8>, error: &ApiError) {
    out.extend_from_slice(b"data: ");
    json(out, &error.body());
    out.extend_from_slice(b"\n\n");
}

/// The end of every stream.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

/// The heartbeat: a comment that clients pass over.
pub const PING: &[u8] = b": ping\n\n";

/// Writing plain data to a vector cannot fail.
fn json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let _ = serde_json::to_writer(out, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{ChatChunk, ChatLogprobs};
    use crate::completion::{Completion, CompletionLogprobs};
    use crate::sse::SseParser;
    use crate::tools::ReplyCall;

    fn chunks(shape: Shape, model: &str, service_tier: Option<ServiceTier>, include_usage: bool) -> Chunks {
        let envelope = Envelope { shape, id: "some-1", created: 7, model, fingerprint: "fp_1", service_tier };
        Chunks::new(&envelope, include_usage)
    }

    fn events(out: &[u8]) -> Vec<String> {
        let mut events = Vec::new();
        SseParser::new().push(out, &mut events).unwrap();
        events.into_iter().map(|e| e.data).collect()
    }

    #[test]
    fn chat_chunks_read_back_as_what_was_written() {
        let chunks = chunks(Shape::Chat, "a \"model\"", Some(ServiceTier::Flex), true);
        let mut out = Vec::new();
        chunks.begin(&mut out, 0);
        chunks.text(&mut out, 1, "line\n\u{1}\"é\u{2028}", None::<&ChatLogprobs>);
        chunks.finish(&mut out, 1, FinishReason::Length, Some(&Timings { ttft_ms: 1.5, ..Timings::default() }));
        chunks.usage(&mut out, &Usage::new(3, 1, 2), &Timings::default());
        let read: Vec<ChatChunk> = events(&out).iter().map(|e| serde_json::from_str(e).unwrap()).collect();
        assert_eq!(read.len(), 4);
        assert!(read.iter().all(|c| c.id == "some-1" && c.created == 7 && c.model == "a \"model\""));
        assert!(read.iter().all(|c| c.service_tier == Some(ServiceTier::Flex)));
        assert_eq!(read[0].choices[0].delta.role.as_deref(), Some("assistant"));
        assert_eq!(read[1].choices[0].delta.content.as_deref(), Some("line\n\u{1}\"é\u{2028}"));
        assert_eq!((read[1].choices[0].index, read[1].choices[0].finish_reason), (1, None));
        assert_eq!(read[2].choices[0].finish_reason, Some(FinishReason::Length));
        assert_eq!(read[2].timings.unwrap().ttft_ms, 1.5);
        assert_eq!(read[3].usage.unwrap().total_tokens, 5);
        assert!(read[3].choices.is_empty());
        assert!(events(&out)[1].ends_with(r#""usage":null}"#));
    }

    #[test]
    fn calls_read_back_as_what_was_written() {
        let chunks = chunks(Shape::Chat, "m", None, false);
        for (kind, piece) in [(CallKind::Function, "{\"a\": \"\u{1}\n\"}"), (CallKind::Custom, "*** Begin \"Patch\"")] {
            let mut out = Vec::new();
            chunks.call(&mut out, 0, 2, "call_1", kind, "f");
            chunks.call_input(&mut out, 0, 2, kind, piece);
            let read: Vec<ChatChunk> = events(&out).iter().map(|e| serde_json::from_str(e).unwrap()).collect();
            let [first, more] = [0, 1].map(|i| read[i].choices[0].delta.tool_calls[0].clone());
            assert_eq!((first.index, first.id.as_deref(), first.kind), (2, Some("call_1"), Some(kind)));
            let mut whole = ReplyCall::new("call_1".into(), kind, "f".into());
            assert_eq!((&first.function, &first.custom), (&whole.function, &whole.custom));
            assert_eq!((more.index, more.id, more.kind), (2, None, None));
            whole.push(piece);
            let text = more.function.map(|f| f.arguments).or(more.custom.map(|c| c.input)).unwrap();
            assert_eq!(text, piece);
            assert_eq!(text, whole.function.map(|f| f.arguments).or(whole.custom.map(|c| c.input)).unwrap());
        }
    }

    #[test]
    fn completion_chunks_read_back_as_what_was_written() {
        let chunks = chunks(Shape::Completion, "m", None, false);
        let mut out = Vec::new();
        chunks.begin(&mut out, 0);
        assert!(out.is_empty());
        chunks.text(&mut out, 0, "x", Some(&CompletionLogprobs::default()));
        chunks.finish(&mut out, 0, FinishReason::Stop, None);
        let read: Vec<Completion> = events(&out).iter().map(|e| serde_json::from_str(e).unwrap()).collect();
        assert_eq!((read[0].choices[0].text.as_str(), read[0].choices[0].logprobs.is_some()), ("x", true));
        assert_eq!((read[1].choices[0].finish_reason, read[1].service_tier), (Some(FinishReason::Stop), None));
    }
}

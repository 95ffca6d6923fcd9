//! The wire: OpenAI's types for chat completions, completions, models and errors, and server-sent events in both
//! directions. Requests are read from bytes into types that cannot be wrong; every refusal names the field.
//! The only serde on network types; knows nothing of the engine.
#![forbid(unsafe_code)]

pub mod chat;
pub mod chunks;
pub mod completion;
pub mod error;
pub mod generate;
pub mod hints;
pub mod infill;
pub mod json;
pub mod mistral;
pub mod models;
pub mod num;
pub mod ollama;
pub mod openapi;
pub mod responses;
pub mod sse;
pub mod tabby;
pub mod tools;
pub mod usage;
pub mod ws;

pub use chat::{
    ChatChunk, ChatCompletion, ChatLogprobs, ChatRequest, Message, Role, TokenLogprob, ToolCall, parse_chat,
    parse_template,
};
pub use chunks::Chunks;
pub use completion::{Completion, CompletionLogprobs, CompletionRequest, Prompt, parse_completion};
pub use error::{ApiError, ErrorBody};
pub use generate::{FinishReason, Generate, ResponseFormat};
pub use hints::{Hints, ServiceTier};
pub use infill::{InfillRequest, parse_infill};
pub use models::{Abilities, Model, ModelList};
pub use ollama::OllamaRequest;
pub use responses::{ResponseRequest, parse_response};
pub use sse::{SseError, SseEvent, SseParser};
pub use tools::{CallKind, CustomGrammar, DeltaCall, ReplyCall, Tool, ToolChoice, ToolKind, Tools};
pub use usage::{Split, Timings, Usage};

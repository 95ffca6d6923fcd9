//! `/v1/responses`: requests of items instead of messages, and answers as typed events, over HTTP and WebSocket alike.
//! A request lowers to a `ChatRequest`, so that rendering, tokenising and constraints are those of chat completions.

pub mod frames;
pub mod items;
pub mod request;
pub mod tools;
pub mod writer;

pub use frames::{Frame, Steer, error_frame, parse_frame};
pub use items::{Call, Item, Systems};
pub use request::{ResponseRequest, parse_response};
pub use tools::ToolNames;
pub use writer::{End, Head, ResponseWriter, Shape};

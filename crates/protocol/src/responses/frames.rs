//! What travels over the WebSocket: client frames to requests, refusals to error frames.

use serde_json::json;

use crate::error::ApiError;
use crate::json;
use crate::responses::request::{ResponseRequest, parse_response};

/// A client's frame.
#[derive(Debug)]
pub enum Frame {
    /// `response.create`
    Create(Box<ResponseRequest>),
    /// `response.cancel`, of this response or of whichever runs.
    Cancel(Option<String>),
    /// Tells nothing that is needed here.
    Ignored,
}

/// Reads and checks a text frame.
///
/// # Errors
/// 400 that names the field; the connection may go on.
pub fn parse_frame(bytes: &[u8]) -> Result<Frame, ApiError> {
    let o = json::document(bytes)?.object(&["type", "response_id"])?;
    let kind = o.need("type", "Send \"response.create\" or \"response.cancel\".")?;
    match kind.string()?.as_str() {
        "response.create" => parse_response(bytes).map(|r| Frame::Create(Box::new(r))),
        "response.cancel" => Ok(Frame::Cancel(o.get("response_id").map(|f| f.string()).transpose()?)),
        "response.processed" => Ok(Frame::Ignored),
        _ => Err(kind.wrong_value("\"response.create\" or \"response.cancel\"")),
    }
}

/// A refusal as clients of the WebSocket read it: what would have been status, headers and body of an HTTP answer.
pub fn error_frame(error: &ApiError) -> Vec<u8> {
    let body = error.body();
    let mut frame = json!({ "type": "error", "status": error.status, "error": body.error });
    if let (Some(s), Some(o)) = (error.retry_after_s, frame.as_object_mut()) {
        o.insert("headers".to_owned(), json!({ "retry-after": s.to_string() }));
    }
    frame.to_string().into_bytes()
}

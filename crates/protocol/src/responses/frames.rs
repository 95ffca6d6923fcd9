//! What travels over the WebSocket: client frames to requests, refusals to error frames.

use base::limits;
use serde_json::{Value, json};

use crate::chat::Role;
use crate::error::ApiError;
use crate::json::{self, Field};
use crate::responses::items::{Item, read_id, read_input};
use crate::responses::request::{ResponseRequest, parse_response};

/// A client's frame.
#[derive(Debug)]
pub enum Frame {
    /// `response.create`
    Create(Box<ResponseRequest>),
    /// `response.cancel`, of this response or of whichever runs.
    Cancel(Option<String>),
    /// `response.steer`: the person has said more while the response of this id is being made.
    Steer(Steer),
    /// Tells nothing that is needed here.
    Ignored,
}

/// What the person has said meanwhile.
#[derive(Debug)]
pub struct Steer {
    /// The response that it is about.
    pub previous_response_id: String,
    /// Messages of the user.
    pub input: Vec<Item>,
    /// As it was sent.
    pub sent: Value,
}

impl Steer {
    /// The refusal of a steer, with the input, so that the client can send it otherwise.
    pub fn refusal(&self, code: &str, message: &str) -> Vec<u8> {
        let steer = json!({ "input": self.sent, "previous_response_id": self.previous_response_id });
        let error = json!({ "type": "invalid_request_error", "code": code, "message": message });
        let frame = json!({ "type": "response.steer.failed", "sequence_number": 0, "error": error, "steer": steer });
        frame.to_string().into_bytes()
    }
}

fn read_steer(input: &Field<'_>, id: &Field<'_>) -> Result<Steer, ApiError> {
    let sent = input.value(limits::TOOLS_BYTES_MAX)?;
    let steer = Steer { previous_response_id: read_id(id)?, input: read_input(input)?, sent };
    let is_user = |i: &Item| matches!(i, Item::Message { role: Role::User, .. });
    if steer.input.is_empty() || !steer.input.iter().all(is_user) {
        return Err(
            input.error("invalid_input", "Steer with messages of the user. Send other items with response.create.")
        );
    }
    Ok(steer)
}

/// Reads and checks a text frame.
///
/// # Errors
/// 400 that names the field; the connection may go on.
pub fn parse_frame(bytes: &[u8]) -> Result<Frame, ApiError> {
    let o = json::document(bytes)?.object(&["type", "response_id", "previous_response_id", "input"])?;
    let kind = o.need("type", "Send \"response.create\" or \"response.cancel\".")?;
    match kind.string()?.as_str() {
        "response.create" => parse_response(bytes).map(|r| Frame::Create(Box::new(r))),
        "response.cancel" => Ok(Frame::Cancel(o.get("response_id").map(|f| f.string()).transpose()?)),
        "response.steer" => {
            let id = o.need("previous_response_id", "Name the response that is being made.")?;
            read_steer(&o.need("input", "Send what is to be said.")?, &id).map(Frame::Steer)
        }
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

//! Errors in OpenAI's shape: `{"error":{"message","type","param","code"}}` and the HTTP status they travel with.
//! A message says what is wrong, where, and what to do next.

use serde::{Deserialize, Serialize};

/// A refusal or failure on its way to a client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {message}")]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// OpenAI's error class: `invalid_request_error`, `server_error`, ...
    pub kind: &'static str,
    /// Machine-readable reason, where there is one.
    pub code: Option<&'static str>,
    /// For people.
    pub message: String,
    /// Path of the field at fault, such as `messages[2].content`.
    pub param: Option<String>,
    /// Seconds after which the client may try again (`Retry-After`).
    pub retry_after_s: Option<u32>,
}

impl ApiError {
    /// 400 for a request that cannot be understood as a whole.
    pub fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::of(400, code, message)
    }

    /// 400 for one field, by its path.
    pub fn field(param: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::of(400, code, message) }
    }

    /// A client error with this status.
    pub fn of(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind: "invalid_request_error",
            code: Some(code),
            message: message.into(),
            param: None,
            retry_after_s: None,
        }
    }

    /// 503 with `Retry-After`: nothing is wrong with the request, there is no room now.
    pub fn unavailable(code: &'static str, message: impl Into<String>, retry_after_s: u32) -> Self {
        Self { kind: "server_error", retry_after_s: Some(retry_after_s), ..Self::of(503, code, message) }
    }

    /// 429 with `Retry-After`: as many as may wait are waiting.
    pub fn too_many(code: &'static str, message: impl Into<String>, retry_after_s: u32) -> Self {
        Self { kind: "rate_limit_error", retry_after_s: Some(retry_after_s), ..Self::of(429, code, message) }
    }

    /// 500: our fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Self { kind: "server_error", ..Self::of(500, "internal_error", message) }
    }

    /// The body, as OpenAI renders it.
    pub fn body(&self) -> ErrorBody {
        ErrorBody {
            error: ErrorDetail {
                message: self.message.clone(),
                kind: self.kind.to_owned(),
                param: self.param.clone(),
                code: self.code.map(str::to_owned),
            },
        }
    }

    /// The body as JSON bytes.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.body()).unwrap_or_default()
    }
}

/// `{"error": ...}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// What is inside of `error`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ErrorDetail {
    /// For people.
    pub message: String,
    /// Class.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Field path.
    #[serde(default)]
    pub param: Option<String>,
    /// Reason.
    #[serde(default)]
    pub code: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_the_shape_that_the_sdks_read() {
        let e = ApiError::field("temperature", "invalid_value", "too hot");
        assert_eq!(
            String::from_utf8(e.to_json()).unwrap(),
            r#"{"error":{"message":"too hot","type":"invalid_request_error","param":"temperature","code":"invalid_value"}}"#
        );
        let e = ApiError::unavailable("queue_timeout", "later", 5);
        assert_eq!((e.status, e.kind, e.retry_after_s), (503, "server_error", Some(5)));
        let e = ApiError::too_many("queue_full", "later", 5);
        assert_eq!((e.status, e.kind, e.retry_after_s), (429, "rate_limit_error", Some(5)));
        assert!(String::from_utf8(e.to_json()).unwrap().contains(r#""param":null"#));
    }
}

//! Fields that say how soon and how fast an answer shall come. They never change what it says, with one exception that is
//! for measuring only: `replay`.

use base::limits;
use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::json::{Field, Object};
use crate::num;

/// How urgent a request is (OpenAI's names).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServiceTier {
    /// The server decides.
    Auto,
    /// Somebody waits for the answer.
    Default,
    /// Nobody waits.
    Flex,
    /// Somebody waits while typing.
    Priority,
}

impl ServiceTier {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Default => "default",
            Self::Flex => "flex",
            Self::Priority => "priority",
        }
    }
}

/// Part of `Generate`. `None` means that the request leaves it to the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// What the client expects the answer to look like; several parts are joined as they are.
    pub prediction: Option<String>,
    /// `speculation` is not `"off"`.
    pub speculate: bool,
    /// Requests with equal keys share cached prefixes; at most `PROMPT_CACHE_KEY_BYTES_MAX`, never empty.
    pub prompt_cache_key: Option<String>,
    /// How urgent it is.
    pub service_tier: Option<ServiceTier>,
    /// The answer is forced to be this text; never empty.
    pub replay: Option<String>,
    /// The answer ends this long after the request has arrived, at most `DEADLINE_MS_MAX`.
    pub deadline_ms: Option<u32>,
}

impl Hints {
    /// Reads and checks.
    ///
    /// # Errors
    /// 400 that names the field.
    pub(crate) fn read<const N: usize>(o: &Object<'_, N>) -> Result<Self, ApiError> {
        Ok(Self {
            prediction: o.get("prediction").map(|f| read_prediction(&f)).transpose()?,
            speculate: o.get("speculation").map(|f| read_speculation(&f)).transpose()?.unwrap_or(true),
            prompt_cache_key: o.get("prompt_cache_key").map(|f| read_cache_key(&f)).transpose()?.flatten(),
            service_tier: o.get("service_tier").map(|f| read_tier(&f)).transpose()?,
            replay: o.get("replay").map(|f| read_replay(&f)).transpose()?,
            deadline_ms: o.get("deadline_ms").map(|f| num::read_u32(&f, 1, limits::DEADLINE_MS_MAX)).transpose()?,
        })
    }
}

fn read_prediction(field: &Field<'_>) -> Result<String, ApiError> {
    let o = field.object(&["type", "content"])?;
    let kind = o.need("type", "Send {\"type\":\"content\",\"content\":\"...\"}.")?;
    if kind.string()? != "content" {
        return Err(kind.wrong_value("\"content\""));
    }
    let content = o.need("content", "Send the text that the answer will resemble.")?;
    match content.kind() {
        "a string" => content.string(),
        "an array" => content.array(limits::CONTENT_PARTS_MAX)?.iter().map(read_part).collect(),
        _ => Err(content.wrong_type("a string or an array of text parts")),
    }
}

fn read_part(field: &Field<'_>) -> Result<String, ApiError> {
    let o = field.object(&["type", "text"])?;
    let kind = o.need("type", "Send \"text\".")?;
    if kind.string()? != "text" {
        return Err(kind.wrong_value("\"text\""));
    }
    o.need("text", "A text part needs its text.")?.string()
}

fn read_speculation(field: &Field<'_>) -> Result<bool, ApiError> {
    match field.string()?.as_str() {
        "off" => Ok(false),
        "auto" => Ok(true),
        _ => Err(field.wrong_value("\"off\" or \"auto\"")),
    }
}

fn read_cache_key(field: &Field<'_>) -> Result<Option<String>, ApiError> {
    let max = limits::PROMPT_CACHE_KEY_BYTES_MAX;
    let key = field.string()?;
    if key.len() > max {
        return Err(field.error("too_long", format!("`{}` is longer than {max} bytes. Shorten it.", field.path)));
    }
    Ok(Some(key).filter(|k| !k.is_empty()))
}

fn read_tier(field: &Field<'_>) -> Result<ServiceTier, ApiError> {
    match field.string()?.as_str() {
        "auto" => Ok(ServiceTier::Auto),
        "default" => Ok(ServiceTier::Default),
        "flex" => Ok(ServiceTier::Flex),
        "priority" => Ok(ServiceTier::Priority),
        _ => Err(field.wrong_value("\"auto\", \"default\", \"flex\" or \"priority\"")),
    }
}

fn read_replay(field: &Field<'_>) -> Result<String, ApiError> {
    let text = field.string()?;
    if text.is_empty() {
        return Err(
            field.error("invalid_value", format!("`{}` is empty. Send the answer or leave it out.", field.path))
        );
    }
    Ok(text)
}

//! The parameters that both endpoints share: how many tokens, how they are chosen, where to stop, how to answer.

use base::{TokenId, limits};
use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::hints::Hints;
use crate::json::{Field, Object};
use crate::num::{self, Bias, MinP, Penalty, RepeatPenalty, Temperature, TopP};

/// Names that `Generate::read` looks at, to be put among an object's names.
macro_rules! generate_names {
    ($($more:literal),* $(,)?) => {
        &[
            "model", "max_tokens", "max_completion_tokens", "n", "temperature", "top_k", "top_p", "min_p", "seed",
            "presence_penalty", "frequency_penalty", "repetition_penalty", "repeat_penalty", "repeat_last_n", "stop",
            "logit_bias", "stream", "stream_options", "user", "response_format", "n_predict", "prediction", "speculation",
            "prompt_cache_key", "service_tier", "replay", "deadline_ms", "grammar", "json_schema", "guided_json",
            "guided_regex", "guided_choice", "guided_grammar", "structured_outputs", $($more),*
        ]
    };
}
pub(crate) use generate_names;

/// What other servers call a binding form of the answer. Whoever sends one relies on it, so it is not passed over like other unknown
/// fields.
pub(crate) const BINDING: [&str; 7] =
    ["grammar", "json_schema", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs"];

/// Parameters of generation. `None` means that the request leaves it to the server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generate {
    /// Name as sent; never empty.
    pub model: String,
    /// 0 computes the prompt into the cache and generates nothing.
    pub max_tokens: Option<u32>,
    /// Choices per prompt, 1 to `CHOICES_MAX`.
    pub n: u32,
    /// See the type.
    pub temperature: Option<Temperature>,
    /// 0 is off.
    pub top_k: Option<u32>,
    /// See the type.
    pub top_p: Option<TopP>,
    /// See the type.
    pub min_p: Option<MinP>,
    /// Choice i uses seed + i.
    pub seed: Option<u64>,
    /// See the type.
    pub presence_penalty: Option<Penalty>,
    /// See the type.
    pub frequency_penalty: Option<Penalty>,
    /// See the type.
    pub repeat_penalty: Option<RepeatPenalty>,
    /// Tokens back that count for `repeat_penalty`; 0 is off.
    pub repeat_last_n: Option<u32>,
    /// At most `STOPS_MAX`, none empty.
    pub stop: Vec<String>,
    /// At most `LOGIT_BIAS_MAX`; ids are not checked against a vocabulary here.
    pub logit_bias: Vec<(TokenId, Bias)>,
    /// Answer as server-sent events.
    pub stream: bool,
    /// Send a last chunk with the usage.
    pub include_usage: bool,
    /// The client's name for its user.
    pub user: Option<String>,
    /// What the answer must look like.
    pub response_format: ResponseFormat,
    /// How soon and how fast.
    pub hints: Hints,
}

impl Generate {
    /// Reads and checks.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn read<const N: usize>(o: &Object<'_, N>) -> Result<Self, ApiError> {
        Self::read_for(read_model(o)?, o)
    }

    /// The same with the name of the model read already.
    pub(crate) fn read_for<const N: usize>(model: String, o: &Object<'_, N>) -> Result<Self, ApiError> {
        refuse_binding(o)?;
        let repeat_penalty = o.get("repetition_penalty").or_else(|| o.get("repeat_penalty"));
        let include_usage = match o.get("stream_options") {
            None => false,
            Some(f) => match f.object(&["include_usage"])?.get("include_usage") {
                None => false,
                Some(f) => f.boolean()?,
            },
        };
        Ok(Self {
            model,
            max_tokens: read_max_tokens(o)?,
            n: match o.get("n") {
                Some(f) => num::read_u32(&f, 1, limits::CHOICES_MAX as u32)?,
                None => 1,
            },
            temperature: o.get("temperature").map(|f| Temperature::read(&f)).transpose()?,
            top_k: o.get("top_k").map(|f| num::read_top_k(&f)).transpose()?,
            top_p: o.get("top_p").map(|f| TopP::read(&f)).transpose()?,
            min_p: o.get("min_p").map(|f| MinP::read(&f)).transpose()?,
            seed: o.get("seed").map(|f| num::read_seed(&f)).transpose()?,
            presence_penalty: o.get("presence_penalty").map(|f| Penalty::read(&f)).transpose()?,
            frequency_penalty: o.get("frequency_penalty").map(|f| Penalty::read(&f)).transpose()?,
            repeat_penalty: repeat_penalty.map(|f| RepeatPenalty::read(&f)).transpose()?,
            repeat_last_n: o.get("repeat_last_n").map(|f| read_repeat_last_n(&f)).transpose()?,
            stop: o.get("stop").map(|f| read_stop(&f)).transpose()?.unwrap_or_default(),
            logit_bias: o.get("logit_bias").map(|f| read_logit_bias(&f)).transpose()?.unwrap_or_default(),
            stream: o.get("stream").map(|f| f.boolean()).transpose()?.unwrap_or(false),
            include_usage,
            user: o.get("user").map(|f| f.string()).transpose()?,
            response_format: read_response_format(o)?,
            hints: Hints::read(o)?,
        })
    }
}

fn refuse_binding<const N: usize>(o: &Object<'_, N>) -> Result<(), ApiError> {
    let is_empty = |f: &Field<'_>| matches!(f.text(), "\"\"" | "false");
    match BINDING.iter().find_map(|name| o.get(name).filter(|f| !is_empty(f))) {
        None => Ok(()),
        Some(field) => {
            let advice = "Send a JSON schema as `response_format`, or a custom tool with a Lark grammar or a regular expression.";
            Err(field.error("unsupported_field", format!("`{}` is not supported. {advice}", field.path)))
        }
    }
}

pub(crate) fn read_model<const N: usize>(o: &Object<'_, N>) -> Result<String, ApiError> {
    let field = o.need("model", "Name a model that GET /v1/models lists, or \"default\" for the first one.")?;
    let model = field.string()?;
    if model.is_empty() || model.len() > limits::MODEL_NAME_BYTES_MAX {
        let max = limits::MODEL_NAME_BYTES_MAX;
        return Err(field.error("invalid_value", format!("`model` must be a name of 1 to {max} bytes.")));
    }
    Ok(model)
}

/// llama.cpp's clients leave the model out, or empty.
pub(crate) fn read_model_or_default<const N: usize>(o: &Object<'_, N>) -> Result<String, ApiError> {
    match o.get("model") {
        Some(f) if !f.string()?.is_empty() => read_model(o),
        _ => Ok("default".to_owned()),
    }
}

/// OpenAI's two names, and llama.cpp's, where -1 is no bound.
fn read_max_tokens<const N: usize>(o: &Object<'_, N>) -> Result<Option<u32>, ApiError> {
    if let Some(field) = o.get("max_completion_tokens").or_else(|| o.get("max_tokens")) {
        return num::read_u32(&field, 0, i32::MAX as u32).map(Some);
    }
    let Some(field) = o.get("n_predict") else { return Ok(None) };
    Ok(u32::try_from(field.integer(-1, i32::MAX.into())?).ok())
}

fn read_repeat_last_n(field: &Field<'_>) -> Result<u32, ApiError> {
    let x = field.integer(-1, limits::CTX_MAX as i128)?;
    Ok(u32::try_from(x).unwrap_or(limits::CTX_MAX as u32)) // -1: the whole context
}

fn read_stop(field: &Field<'_>) -> Result<Vec<String>, ApiError> {
    let one = |f: &Field<'_>| -> Result<String, ApiError> {
        let max = limits::STOP_BYTES_MAX;
        let stop = f.string()?;
        if stop.is_empty() || stop.len() > max {
            return Err(f.error("invalid_value", format!("`{}` must be a string of 1 to {max} bytes.", f.path)));
        }
        Ok(stop)
    };
    match field.kind() {
        "a string" => Ok(vec![one(field)?]),
        "an array" => field.array(limits::STOPS_MAX)?.iter().map(one).collect(),
        _ => Err(field.wrong_type("a string or an array of strings")),
    }
}

fn read_logit_bias(field: &Field<'_>) -> Result<Vec<(TokenId, Bias)>, ApiError> {
    let entry = |(key, value): (String, Field<'_>)| -> Result<(TokenId, Bias), ApiError> {
        let id = key.parse::<TokenId>().map_err(|_| {
            field.error("invalid_value", "`logit_bias` maps token ids (\"1234\") to numbers; one key is not an id.")
        })?;
        Ok((id, Bias::read(&value)?))
    };
    field.entries(limits::LOGIT_BIAS_MAX)?.into_iter().map(entry).collect()
}

/// What an answer must look like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ResponseFormat {
    /// Anything.
    #[default]
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON that is valid under this schema, as it was sent. `strict` or not, it always is.
    JsonSchema(String),
}

fn read_response_format<const N: usize>(o: &Object<'_, N>) -> Result<ResponseFormat, ApiError> {
    let Some(field) = o.get("response_format") else { return Ok(ResponseFormat::Text) };
    let format = field.object(&["type", "json_schema"])?;
    let kind = format.need("type", "Send {\"type\":\"text\"} or leave `response_format` out.")?;
    match kind.string()?.as_str() {
        "text" => Ok(ResponseFormat::Text),
        "json_object" => Ok(ResponseFormat::JsonObject),
        "json_schema" => {
            let advice = "Send {\"name\":...,\"schema\":{...}}.";
            let named = format.need("json_schema", advice)?.object(&["name", "schema", "strict", "description"])?;
            for name in ["name", "description"] {
                named.get(name).map(|f| f.string()).transpose()?;
            }
            named.get("strict").map(|f| f.boolean()).transpose()?;
            let schema = named.need("schema", "Send a JSON schema, or use {\"type\":\"json_object\"}.")?;
            match schema.kind() {
                "an object" => Ok(ResponseFormat::JsonSchema(schema.text().to_owned())),
                _ => Err(schema.wrong_type("an object")),
            }
        }
        _ => Err(kind.wrong_value("\"text\", \"json_object\" or \"json_schema\"")),
    }
}

/// Why a choice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// A stop token or stop string.
    Stop,
    /// `max_tokens`, the context is full, or the deadline has passed.
    Length,
    /// The model called tools.
    ToolCalls,
    /// Never sent by us; other servers do.
    ContentFilter,
}

impl FinishReason {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
        }
    }
}

/// Log-probability as it may be written: JSON has no infinity, and OpenAI writes -9999 for "never".
pub fn finite_logprob(x: f32) -> f32 {
    if x.is_finite() { x.max(-9999.0) } else { -9999.0 }
}

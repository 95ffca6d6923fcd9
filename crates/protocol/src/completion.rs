//! `POST /v1/completions`: text (or token ids) in, text out; with `suffix`, fill in the middle.

use base::{TokenId, limits};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::error::ApiError;
use crate::generate::{FinishReason, Generate, generate_names};
use crate::hints::ServiceTier;
use crate::json::{self, Field};
use crate::num;
use crate::usage::{Timings, Usage};

/// What to continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Text.
    Text(String),
    /// Token ids, at least one; not checked against a vocabulary here.
    Tokens(Vec<TokenId>),
}

/// A completion request that has been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct CompletionRequest {
    /// Parameters of generation.
    pub generate: Generate,
    /// One to `PROMPTS_MAX`, each answered `n` times.
    pub prompts: Vec<Prompt>,
    /// What follows the gap; then all prompts are text.
    pub suffix: Option<String>,
    /// Report log-probabilities, with this many alternatives.
    pub logprobs: Option<u8>,
}

/// Reads and checks the body of a completion request. Unknown fields are ignored.
///
/// # Errors
/// 400 that names the field by its path and says what to send instead.
pub fn parse_completion(body: &[u8]) -> Result<CompletionRequest, ApiError> {
    let o = json::document(body)?.object(generate_names!["prompt", "suffix", "logprobs", "echo", "best_of"])?;
    let generate = Generate::read(&o)?;
    let prompt = o.need("prompt", "Send a string, an array of strings, or token ids.")?;
    let prompts = read_prompts(&prompt)?;
    let suffix = o.get("suffix").map(|f| f.string()).transpose()?;
    if let (Some(_), Some(f)) = (&suffix, o.get("suffix"))
        && prompts.iter().any(|p| matches!(p, Prompt::Tokens(_)))
    {
        return Err(f.error("invalid_value", "`suffix` needs a `prompt` of text, not token ids."));
    }
    if prompts.len() * generate.n as usize > limits::SEQUENCES_PER_REQUEST_MAX {
        let max = limits::SEQUENCES_PER_REQUEST_MAX;
        let message = format!("Prompts times `n` is above {max}. Send fewer prompts in one request.");
        return Err(ApiError::field("n", "invalid_value", message));
    }
    if let Some(f) = o.get("echo")
        && f.boolean()?
    {
        return Err(f.error("unsupported_value", "`echo` is not supported yet. Leave it out."));
    }
    if let Some(f) = o.get("best_of")
        && f.integer(1, i64::MAX.into())? != i128::from(generate.n)
    {
        return Err(f.error("unsupported_value", "`best_of` other than `n` is not supported. Leave it out."));
    }
    let logprobs = match o.get("logprobs") {
        None => None,
        Some(f) => Some(num::read_u32(&f, 0, limits::TOP_LOGPROBS_MAX as u32)? as u8),
    };
    Ok(CompletionRequest { generate, prompts, suffix, logprobs })
}

fn read_prompts(field: &Field<'_>) -> Result<Vec<Prompt>, ApiError> {
    let wanted = "a string, an array of strings, an array of token ids, or an array of such arrays";
    match field.kind() {
        "a string" => return Ok(vec![Prompt::Text(field.string()?)]),
        "an array" => {}
        _ => return Err(field.wrong_type(wanted)),
    }
    let tokens = |f: &Field<'_>| f.u32s(limits::CTX_MAX, limits::VOCAB_MAX as u32).map(Prompt::Tokens);
    match field.first_kind() {
        Some("a number") => return Ok(vec![tokens(field)?]),
        Some(_) => {}
        None => return Err(field.error("invalid_value", "`prompt` is empty. Send at least one prompt.")),
    }
    let one = |f: &Field<'_>| -> Result<Prompt, ApiError> {
        match f.kind() {
            "a string" => Ok(Prompt::Text(f.string()?)),
            "an array" if f.first_kind().is_none() => {
                Err(f.error("invalid_value", format!("`{}` has no tokens. Leave it out.", f.path)))
            }
            "an array" => tokens(f),
            _ => Err(f.wrong_type("a string, a token id or an array of token ids")),
        }
    };
    field.array(limits::PROMPTS_MAX)?.iter().map(one).collect()
}

/// A whole answer; also a chunk of a streamed one, whose choices hold what is new.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Completion {
    /// `cmpl-...`
    pub id: String,
    /// `text_completion`
    pub object: String,
    /// Unix seconds.
    pub created: u64,
    /// The model that answered.
    pub model: String,
    /// Equal fingerprints promise equal answers for equal seeds.
    #[serde(default)]
    pub system_fingerprint: Option<String>,
    /// As asked for, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<ServiceTier>,
    /// Prompt-major: the choices of the first prompt come first.
    pub choices: Vec<CompletionChoice>,
    /// Token counts.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// Our extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
}

/// One choice of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CompletionChoice {
    /// Place among all choices.
    pub index: u32,
    /// The text.
    pub text: String,
    /// If asked for.
    #[serde(default)]
    pub logprobs: Option<CompletionLogprobs>,
    /// Why it ended.
    pub finish_reason: Option<FinishReason>,
}

/// Log-probabilities of a completion: four lists of equal length.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CompletionLogprobs {
    /// Texts.
    pub tokens: Vec<String>,
    /// Natural logarithms, at least -9999.
    pub token_logprobs: Vec<f32>,
    /// The likeliest at each place.
    pub top_logprobs: Vec<BTreeMap<String, f32>>,
    /// Where each token begins in the text, in characters.
    pub text_offset: Vec<u64>,
}

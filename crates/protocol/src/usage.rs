//! What a request cost: OpenAI's `usage`, and `timings`, our extension (llama.cpp's names where they exist).

use serde::{Deserialize, Serialize};

/// Token counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Usage {
    /// Prompt tokens, all prompts of the request, each counted once.
    pub prompt_tokens: u64,
    /// Generated tokens, all choices.
    pub completion_tokens: u64,
    /// Their sum.
    pub total_tokens: u64,
    /// How many prompt tokens were not computed again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_details: Option<PromptTokensDetails>,
    /// What became of predicted and reasoning tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_tokens_details: Option<CompletionTokensDetails>,
}

impl Usage {
    /// From counts.
    pub fn new(prompt_tokens: u64, cached_tokens: u64, completion_tokens: u64) -> Self {
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens.saturating_add(completion_tokens),
            prompt_tokens_details: Some(PromptTokensDetails { cached_tokens }),
            completion_tokens_details: Some(CompletionTokensDetails::default()),
        }
    }

    /// With what became of the client's prediction.
    pub fn with_prediction(mut self, accepted: u64, rejected: u64) -> Self {
        let details = self.completion_tokens_details.get_or_insert_default();
        (details.accepted_prediction_tokens, details.rejected_prediction_tokens) = (accepted, rejected);
        self
    }
}

/// Part of `Usage`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct PromptTokensDetails {
    /// Prefix hits.
    pub cached_tokens: u64,
}

/// Part of `Usage`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct CompletionTokensDetails {
    /// Tokens of reasoning.
    pub reasoning_tokens: u64,
    /// Draft tokens of the client that were kept.
    pub accepted_prediction_tokens: u64,
    /// Draft tokens of the client that were not.
    pub rejected_prediction_tokens: u64,
}

/// Where the time went, for the first choice of a request. Milliseconds; rates are tokens per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Timings {
    /// Prompt tokens that were computed (without prefix hits).
    pub prompt_n: u64,
    /// From admission until the prompt was in the cache.
    pub prompt_ms: f64,
    /// `prompt_n` over `prompt_ms`.
    pub prompt_per_second: f64,
    /// Generated tokens.
    pub predicted_n: u64,
    /// From the first token to the last; 0 when all came at once.
    pub predicted_ms: f64,
    /// The tokens after those of the first step over `predicted_ms`.
    pub predicted_per_second: f64,
    /// From the arrival of the request to its first token.
    pub ttft_ms: f64,
    /// What the rest went into.
    #[serde(flatten)]
    pub split: Split,
    /// Prompt tokens that were not computed again (prefix hit).
    pub cached_n: u64,
    /// Tokens that were drafted and verified, from all sources.
    pub draft_n: u64,
    /// Of them, kept.
    pub draft_n_accepted: u64,
}

/// Milliseconds of a request's way that llama.cpp has no names for. `read_ms`, `tokenize_ms`, `queue_ms` and `prompt_ms` make up
/// `ttft_ms`, and `decode_ms` and `verify_ms` make up `predicted_ms`; `detokenize_ms` and `write_ms` run beside decoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Split {
    /// From the arrival of the request's head (on a WebSocket: of the message's first bytes) until it was read whole.
    pub read_ms: f64,
    /// Parsing it, rendering the chat template, tokenising, compiling grammars.
    pub tokenize_ms: f64,
    /// Everything else before it had a slot: waiting for one of the workers that tokenise, and for the slot.
    pub queue_ms: f64,
    /// Of `predicted_ms`, until tokens that came without drafts.
    pub decode_ms: f64,
    /// Of `predicted_ms`, until tokens of steps that also checked drafts, kept or not.
    pub verify_ms: f64,
    /// Turning tokens into text, so far.
    pub detokenize_ms: f64,
    /// Writing events, and their bytes to the socket, so far; not waiting for a client that does not read.
    pub write_ms: f64,
}

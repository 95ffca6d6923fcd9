//! `GET /v1/models`.

use serde::{Deserialize, Serialize};

/// A model that is served.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Model {
    /// The name to send as `model`.
    pub id: String,
    /// `model`
    #[serde(default)]
    pub object: String,
    /// Unix seconds.
    #[serde(default)]
    pub created: u64,
    /// Who made it, or serves it.
    #[serde(default)]
    pub owned_by: String,
    /// Context positions, prompt and answer (vLLM's name for it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_model_len: Option<u64>,
    /// The same as llama.cpp's and OpenRouter's clients read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u64>,
    /// The same as Groq's clients read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window: Option<u64>,
    /// Other names that it answers to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// What may be asked of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Abilities>,
    /// Prompt tokens per second of one request, as measured since the start; absent until something was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill_tps: Option<f64>,
    /// Generated tokens per second of one sequence, as measured since the start; absent until something was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode_tps: Option<f64>,
    /// `Q4_K_M` and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
    /// Weights, as the model counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_params: Option<u64>,
    /// Bytes of its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// What may be asked of a model on this server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Abilities {
    /// Conversations: it has a chat template.
    pub chat: bool,
    /// Calls of tools: it has a chat template.
    pub tools: bool,
    /// Gaps: it has tokens for fill-in-the-middle.
    pub fim: bool,
    /// Answers that are valid under a JSON schema.
    pub json_schema: bool,
    /// `POST /v1/responses`.
    pub responses: bool,
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelList {
    /// `list`
    #[serde(default)]
    pub object: String,
    /// The models.
    pub data: Vec<Model>,
}

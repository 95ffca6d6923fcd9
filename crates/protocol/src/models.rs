//! `GET /v1/models`.

use serde::{Deserialize, Serialize};

/// A model that is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Other names that it answers to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelList {
    /// `list`
    #[serde(default)]
    pub object: String,
    /// The models.
    pub data: Vec<Model>,
}

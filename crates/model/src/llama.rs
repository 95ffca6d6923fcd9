//! Llama (Touvron et al. 2023; Llama 3, Grattafiori et al. 2024) and everything that shares its graph: SmolLM2, Mistral,
//! TinyLlama, DeepSeek-Coder 1. Pre-norm, rotary positions, grouped-query attention, SwiGLU; no biases as a rule.

use crate::block::{Layer, Scratch, attention, feed_forward, load_layer};
use crate::load::Source;
use crate::{Model, ModelError};
use formats::TensorDesc;
use ops::{Backend, Batch};
use std::ops::Range;

pub fn load<B: Backend, F: Fn(&TensorDesc, Range<usize>) + Sync>(
    b: &mut B,
    source: &mut Source<'_, F>,
) -> Result<Vec<Layer<B>>, ModelError> {
    (0..source.desc.hp.n_layers).map(|i| load_layer(b, source, i)).collect()
}

pub fn forward<B: Backend>(m: &Model<B>, b: &mut B, kv: &mut B::Kv, s: &mut Scratch<B>, batch: Batch<'_>) {
    b.embed(&m.embed, batch, &mut s.x);
    for l in 0..m.hp.n_layers {
        attention(m, b, kv, s, batch, l);
        feed_forward(m, b, s, batch.rows.len(), l);
    }
}

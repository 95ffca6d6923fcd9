//! Qwen2 and Qwen2.5(-Coder) (Yang et al. 2024; Hui et al. 2024): Llama's graph with biases on q, k and v, which it needs.

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
    let n_layers = source.desc.hp.n_layers;
    let layer = |i| {
        let layer = load_layer(b, source, i)?;
        for (name, linear) in [("attn_q", &layer.q), ("attn_k", &layer.k), ("attn_v", &layer.v)] {
            if linear.bias.is_none() {
                return Err(ModelError::Missing(format!("blk.{i}.{name}.bias")));
            }
        }
        Ok(layer)
    };
    (0..n_layers).map(layer).collect()
}

pub fn forward<B: Backend>(m: &Model<B>, b: &mut B, kv: &mut B::Kv, s: &mut Scratch<B>, batch: Batch<'_>) {
    b.embed(&m.embed, batch, &mut s.x);
    for l in 0..m.hp.n_layers {
        attention(m, b, kv, s, batch, l);
        feed_forward(m, b, s, batch.rows.len(), l);
    }
}

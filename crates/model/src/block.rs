//! What decoder families are built from: a pre-norm attention block, a gated feed-forward block, the output head.
//! Shapes: `d_attn = n_heads * d_head`, `d_kv = n_kv_heads * d_head`.

use crate::load::Source;
use crate::{Model, ModelError, Picks};
use base::TokenId;
use formats::{HParams, TensorDesc};
use ops::{Backend, Batch, Norm, OpsError, Proj, Qkv};
use std::ops::Range;

/// A matrix with an optional bias.
pub struct Linear<B: Backend> {
    /// `[n_out, n_in]`.
    pub mat: B::Mat,
    /// `[n_out]`.
    pub bias: Option<B::Vector>,
}

/// One decoder layer.
pub struct Layer<B: Backend> {
    /// `[d_model]`.
    pub attn_norm: B::Vector,
    /// `[d_attn, d_model]`.
    pub q: Linear<B>,
    /// `[d_kv, d_model]`.
    pub k: Linear<B>,
    /// `[d_kv, d_model]`.
    pub v: Linear<B>,
    /// `[d_model, d_attn]`.
    pub o: Linear<B>,
    /// `[d_model]`.
    pub ffn_norm: B::Vector,
    /// `[d_ff, d_model]`.
    pub gate: B::Mat,
    /// `[d_ff, d_model]`.
    pub up: B::Mat,
    /// `[d_model, d_ff]`.
    pub down: Linear<B>,
}

/// Activations of one step, made once.
pub struct Scratch<B: Backend> {
    /// Residual stream `[rows, d_model]`.
    pub x: B::Act,
    q: B::Act,
    k: B::Act,
    v: B::Act,
    attended: B::Act,
    gate: B::Act,
    up: B::Act,
    picked: B::Act,
    /// `[picks, n_vocab]`.
    pub logits: B::Act,
    /// Highest logit and its token for each row of `Picks::best`.
    pub best: Vec<(f32, TokenId)>,
    pub(crate) angles: B::Act,
    pub(crate) host_angles: Vec<f32>,
}

impl<B: Backend> Scratch<B> {
    /// Room for steps of `rows` rows of which `picks` get logits and any number their best token, in contexts of `n_ctx`; sizes the backend's own scratch too.
    pub fn new(b: &mut B, model: &Model<B>, rows: usize, picks: usize, n_ctx: usize) -> Result<Self, OpsError> {
        let hp = &model.hp;
        let (d_attn, d_kv) = (hp.n_heads * hp.d_head, hp.n_kv_heads * hp.d_head);
        let widest = hp.d_model.max(d_attn).max(hp.d_ff);
        b.reserve(rows.max(picks), widest, hp.n_heads, hp.d_head, n_ctx)?;
        let d_rot = 2 * model.frequencies.len();
        Ok(Self {
            x: b.new_act(rows, hp.d_model)?,
            q: b.new_act(rows, d_attn)?,
            k: b.new_act(rows, d_kv)?,
            v: b.new_act(rows, d_kv)?,
            attended: b.new_act(rows, d_attn)?,
            gate: b.new_act(rows, hp.d_ff)?,
            up: b.new_act(rows, hp.d_ff)?,
            picked: b.new_act(rows.max(picks), hp.d_model)?,
            logits: b.new_act(picks, hp.n_vocab)?,
            best: Vec::with_capacity(rows),
            angles: b.new_act(rows, d_rot)?,
            host_angles: vec![0.0; rows * d_rot],
        })
    }
}

/// Loads layer `i` under GGUF's names.
pub fn load_layer<B: Backend, F: Fn(&TensorDesc, Range<usize>) + Sync>(
    b: &mut B,
    source: &mut Source<'_, F>,
    i: usize,
) -> Result<Layer<B>, ModelError> {
    let HParams { d_model, d_ff, n_heads, n_kv_heads, d_head, .. } = source.desc.hp;
    let (d_attn, d_kv) = (n_heads * d_head, n_kv_heads * d_head);
    let mut linear = |b: &mut B, name: &str, n_out: usize, n_in: usize| -> Result<Linear<B>, ModelError> {
        let mat = source.mat(b, &format!("blk.{i}.{name}.weight"), n_out, n_in)?;
        Ok(Linear { mat, bias: source.optional(b, &format!("blk.{i}.{name}.bias"), n_out)? })
    };
    let (q, k) = (linear(b, "attn_q", d_attn, d_model)?, linear(b, "attn_k", d_kv, d_model)?);
    let (v, o) = (linear(b, "attn_v", d_kv, d_model)?, linear(b, "attn_output", d_model, d_attn)?);
    let down = linear(b, "ffn_down", d_model, d_ff)?;
    Ok(Layer {
        attn_norm: source.vector(b, &format!("blk.{i}.attn_norm.weight"), d_model)?,
        q,
        k,
        v,
        o,
        ffn_norm: source.vector(b, &format!("blk.{i}.ffn_norm.weight"), d_model)?,
        gate: source.mat(b, &format!("blk.{i}.ffn_gate.weight"), d_ff, d_model)?,
        up: source.mat(b, &format!("blk.{i}.ffn_up.weight"), d_ff, d_model)?,
        down,
    })
}

/// `x += o(attention(rope(q(norm x)), rope(k(norm x)), v(norm x)))`: grouped-query causal attention.
pub fn attention<B: Backend>(m: &Model<B>, b: &mut B, kv: &mut B::Kv, s: &mut Scratch<B>, batch: Batch<'_>, l: usize) {
    let (layer, n, hp) = (&m.layers[l], batch.rows.len(), &m.hp);
    let norm = Norm { weight: &layer.attn_norm, eps: hp.rms_eps };
    let qkv = Qkv {
        q: Proj { mat: &layer.q.mat, bias: layer.q.bias.as_ref(), out: &mut s.q },
        k: Proj { mat: &layer.k.mat, bias: layer.k.bias.as_ref(), out: &mut s.k },
        v: Proj { mat: &layer.v.mat, bias: layer.v.bias.as_ref(), out: &mut s.v },
        d_head: hp.d_head,
        angles: &s.angles,
        pairing: m.pairing,
    };
    b.project_qkv(&s.x, Some(norm), qkv, kv, l, batch);
    b.attend(&s.q, hp.n_heads, kv, l, batch, &mut s.attended);
    b.project_add(&s.attended, n, &layer.o.mat, layer.o.bias.as_ref(), &mut s.x);
}

/// `x += down(silu(gate(norm x)) * up(norm x))` (SwiGLU, Shazeer 2020).
pub fn feed_forward<B: Backend>(m: &Model<B>, b: &mut B, s: &mut Scratch<B>, n: usize, l: usize) {
    let layer = &m.layers[l];
    let norm = Norm { weight: &layer.ffn_norm, eps: m.hp.rms_eps };
    b.gated(&s.x, n, Some(norm), &layer.gate, &layer.up, &mut s.up, &mut s.gate);
    b.project_add(&s.gate, n, &layer.down.mat, layer.down.bias.as_ref(), &mut s.x);
}

/// `head(norm x)`: logits for the rows that want them all, the best token for those that want no more.
pub fn head<B: Backend>(m: &Model<B>, b: &mut B, s: &mut Scratch<B>, picks: Picks<'_>) {
    let norm = || Norm { weight: &m.out_norm, eps: m.hp.rms_eps };
    let mat = m.head.as_ref().unwrap_or(&m.embed);
    if !picks.full.is_empty() {
        b.gather(&s.x, picks.full, &mut s.picked);
        let proj = Proj { mat, bias: None, out: &mut s.logits };
        b.project(&s.picked, picks.full.len(), Some(norm()), &mut [proj]);
    }
    s.best.clear();
    s.best.resize(picks.best.len(), (0.0, 0));
    if !picks.best.is_empty() {
        b.gather(&s.x, picks.best, &mut s.picked);
        b.project_best(&s.picked, picks.best.len(), Some(norm()), mat, &mut s.best);
    }
}

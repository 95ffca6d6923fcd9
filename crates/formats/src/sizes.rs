//! The rules that a model's sizes must keep, whichever file they come from.

use base::limits::{CTX_MAX, LAYERS_MAX, VOCAB_MAX, WIDTH_MAX};

use crate::desc::{HParams, Rope, RopePairing, RopeScaling};
use crate::error::{FormatError, Kind};

/// A size, to ask a source for its own name of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Layers,
    Heads,
    KvHeads,
    Model,
    Head,
    Ff,
    Vocab,
    Ctx,
    RmsEps,
    RopeBase,
    RopeDims,
    RopeScaling,
}

/// Where sizes come from: names them in its own words and makes errors that point into it.
pub(crate) trait Source {
    /// This source's name of a size.
    fn key(&self, field: Field) -> String;
    /// An error at that key.
    fn wrong(&self, key: &str, kind: Kind) -> FormatError;

    /// An error: `value` is not `want`.
    fn out_of_range(&self, field: Field, value: &dyn std::fmt::Display, want: &str) -> FormatError {
        let key = self.key(field);
        let kind = Kind::OutOfRange { key: key.clone(), value: value.to_string(), want: want.to_owned() };
        self.wrong(&key, kind)
    }
}

/// Sizes as read, before any rule.
pub(crate) struct Sizes {
    pub n_layers: u64,
    pub n_heads: u64,
    pub n_kv_heads: u64,
    pub d_model: u64,
    pub d_head: Option<u64>,
    pub d_ff: u64,
    pub n_vocab: u64,
    pub n_ctx: u64,
    pub rms_eps: f32,
    pub rope_base: f32,
    pub d_rot: Option<u64>,
    pub pairing: RopePairing,
    pub scaling: RopeScaling,
}

fn within(source: &impl Source, field: Field, value: u64, max: usize) -> Result<usize, FormatError> {
    match usize::try_from(value) {
        Ok(v) if v >= 1 && v <= max => Ok(v),
        _ => Err(source.out_of_range(field, &value, &format!("1 to {max}"))),
    }
}

/// The rules: every size from 1 to its limit, heads shared evenly, whole and even heads, sane floats.
pub(crate) fn check(source: &impl Source, s: Sizes) -> Result<HParams, FormatError> {
    let n_heads = within(source, Field::Heads, s.n_heads, WIDTH_MAX)?;
    let n_kv_heads = within(source, Field::KvHeads, s.n_kv_heads, n_heads)?;
    if !n_heads.is_multiple_of(n_kv_heads) {
        let want = format!("a divisor of the {n_heads} heads");
        return Err(source.out_of_range(Field::KvHeads, &n_kv_heads, &want));
    }
    let d_model = within(source, Field::Model, s.d_model, WIDTH_MAX)?;
    let d_head = match s.d_head {
        Some(d) => within(source, Field::Head, d, WIDTH_MAX)?,
        None if d_model.is_multiple_of(n_heads) => d_model.checked_div(n_heads).unwrap_or(0),
        None => {
            let want = format!("a multiple of the {n_heads} heads");
            return Err(source.out_of_range(Field::Model, &d_model, &want));
        }
    };
    if !d_head.is_multiple_of(2) {
        return Err(source.out_of_range(Field::Head, &d_head, "even"));
    }
    if n_heads.checked_mul(d_head).is_none_or(|width| width > WIDTH_MAX) {
        let want = format!("at most {WIDTH_MAX} over all {n_heads} heads");
        return Err(source.out_of_range(Field::Head, &d_head, &want));
    }
    if !(s.rms_eps > 0.0 && s.rms_eps < 1.0) {
        return Err(source.out_of_range(Field::RmsEps, &s.rms_eps, "above 0 and below 1"));
    }
    let n_ctx = usize::try_from(s.n_ctx).unwrap_or(usize::MAX).min(CTX_MAX);
    Ok(HParams {
        n_layers: within(source, Field::Layers, s.n_layers, LAYERS_MAX)?,
        n_heads,
        n_kv_heads,
        d_model,
        d_head,
        d_ff: within(source, Field::Ff, s.d_ff, WIDTH_MAX)?,
        n_vocab: within(source, Field::Vocab, s.n_vocab, VOCAB_MAX)?,
        n_ctx: if n_ctx == 0 { return Err(source.out_of_range(Field::Ctx, &0, "at least 1")) } else { n_ctx },
        rms_eps: s.rms_eps,
        rope: rope(source, s.rope_base, s.d_rot, d_head, s.pairing, s.scaling)?,
    })
}

fn rope(
    source: &impl Source,
    base: f32,
    d_rot: Option<u64>,
    d_head: usize,
    pairing: RopePairing,
    scaling: RopeScaling,
) -> Result<Rope, FormatError> {
    if !(base.is_finite() && base >= 1.0) {
        return Err(source.out_of_range(Field::RopeBase, &base, "finite and at least 1"));
    }
    let d_rot = match d_rot {
        None => d_head,
        Some(d) => within(source, Field::RopeDims, d, d_head)?,
    };
    if !d_rot.is_multiple_of(2) {
        return Err(source.out_of_range(Field::RopeDims, &d_rot, "even"));
    }
    let positive = |x: f32| x.is_finite() && x > 0.0;
    let sane = match &scaling {
        RopeScaling::None | RopeScaling::Factors { .. } => true,
        RopeScaling::Linear { factor } => positive(*factor),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_ctx } => {
            let factors = positive(*factor) && positive(*low_freq_factor) && positive(*high_freq_factor);
            factors && high_freq_factor > low_freq_factor && (1..=CTX_MAX).contains(original_ctx)
        }
    };
    if !sane {
        let shown = format!("{scaling:?}");
        let want = "finite positive factors, the high one above the low one, and a context of at least 1";
        return Err(source.out_of_range(Field::RopeScaling, &shown, want));
    }
    Ok(Rope { base, d_rot, pairing, scaling })
}

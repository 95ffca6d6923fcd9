//! Decoder models over `ops::Backend`: loading, and one forward pass per family. Generic over the backend once, here; a
//! forward pass names no instruction set and no vendor. Adding a family adds a file (see llama.rs) and a line in `Family`.
#![forbid(unsafe_code)]

mod block;
mod llama;
mod load;
mod qwen2;
mod rope;

pub use block::Scratch;
pub use load::ModelError;

use block::Layer;
use formats::{HParams, ModelDesc, TensorDesc};
use ops::{Backend, Batch, KvShape, KvType, RopePairing};
use std::ops::Range;

/// The families there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Llama,
    Qwen2,
}

/// Which rows of a step get what from the output head.
#[derive(Clone, Copy)]
pub struct Picks<'a> {
    /// Rows with all logits; at most the `picks` that the scratch was made for.
    pub full: &'a [u32],
    /// Rows whose best token is enough; any number.
    pub best: &'a [u32],
}

/// A loaded model: weights in the backend's layout, and the sizes that everything else is made from.
pub struct Model<B: Backend> {
    /// Sizes, checked.
    pub hp: HParams,
    family: Family,
    embed: B::Mat,
    layers: Vec<Layer<B>>,
    out_norm: B::Vector,
    /// Output head; the embedding where a file has none (tied).
    head: Option<B::Mat>,
    /// Radians per position, `[d_rot / 2]`.
    frequencies: Vec<f64>,
    pairing: RopePairing,
}

impl<B: Backend> Model<B> {
    /// Hands every tensor of `desc` to the backend. `read` is told which bytes of a tensor are done with, from any thread, for
    /// progress and to let go of their pages: memory then holds the weights once.
    ///
    /// # Errors
    /// A family that is not known, a tensor that is missing or has another shape than its family needs, or no memory.
    pub fn load(
        b: &mut B,
        desc: &ModelDesc,
        files: &[&[u8]],
        read: impl Fn(&TensorDesc, Range<usize>) + Sync,
    ) -> Result<Self, ModelError> {
        let mut source = load::Source::new(desc, files, read);
        let (family, layers) = match desc.arch.as_str() {
            "llama" => (Family::Llama, llama::load(b, &mut source)?),
            "qwen2" => (Family::Qwen2, qwen2::load(b, &mut source)?),
            other => return Err(ModelError::Family(other.to_string())),
        };
        let hp = desc.hp.clone();
        let tied = desc.tensor("output.weight").is_none();
        Ok(Self {
            embed: source.mat(b, "token_embd.weight", hp.n_vocab, hp.d_model)?,
            head: if tied { None } else { Some(source.mat(b, "output.weight", hp.n_vocab, hp.d_model)?) },
            out_norm: source.vector(b, "output_norm.weight", hp.d_model)?,
            frequencies: rope::frequencies(&hp.rope, &mut source)?,
            pairing: match hp.rope.pairing {
                formats::RopePairing::Interleaved => RopePairing::Interleaved,
                formats::RopePairing::Halves => RopePairing::Halves,
            },
            family,
            layers,
            hp,
        })
    }

    /// Sizes of a KV cache of `n_pages` pages.
    pub fn kv_shape(&self, n_pages: usize) -> KvShape {
        let hp = &self.hp;
        KvShape { n_layers: hp.n_layers, n_pages, n_kv_heads: hp.n_kv_heads, d_head: hp.d_head }
    }

    /// One step: the rows of `batch` go through all layers, their keys and values into `kv`; the rows in `pick` get logits,
    /// `scratch.logits[i] = [n_vocab]` for `pick[i]`.
    pub fn forward(&self, b: &mut B, kv: &mut B::Kv, scratch: &mut Scratch<B>, batch: Batch<'_>, pick: &[u32]) {
        self.forward_picks(b, kv, scratch, batch, Picks { full: pick, best: &[] });
    }

    /// As `forward`, where some rows need only their best token: `scratch.best[i]` for `picks.best[i]`, equal in every bit to
    /// `ops::math::best` of the logits that are not written.
    pub fn forward_picks(
        &self,
        b: &mut B,
        kv: &mut B::Kv,
        scratch: &mut Scratch<B>,
        batch: Batch<'_>,
        picks: Picks<'_>,
    ) {
        rope::angles(b, self, scratch, batch);
        match self.family {
            Family::Llama => llama::forward(self, b, kv, scratch, batch),
            Family::Qwen2 => qwen2::forward(self, b, kv, scratch, batch),
        }
        block::head(self, b, scratch, picks);
    }
}

/// Bytes that a decoded token moves, for ceilings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Weights read for every token.
    pub weight_bytes: u64,
    /// Keys and values of one position, read for every token that attends to it.
    pub kv_bytes_per_position: u64,
    /// Multiply-adds with weights for every token.
    pub weight_macs: u64,
}

/// What decoding one token reads, where keys and values are kept so.
pub fn traffic(desc: &ModelDesc, kept: KvType) -> Traffic {
    let hp = &desc.hp;
    let tied = desc.tensor("output.weight").is_none();
    let read = |t: &&TensorDesc| tied || t.name != "token_embd.weight";
    let kv = hp.n_layers * hp.n_kv_heads * 2 * kept.head_bytes(hp.d_head);
    Traffic {
        weight_bytes: desc.tensors.iter().filter(read).map(|t| t.extent.len()).sum(),
        kv_bytes_per_position: kv as u64,
        weight_macs: desc.tensors.iter().filter(read).filter(|t| t.shape.len() == 2).map(TensorDesc::elements).sum(),
    }
}

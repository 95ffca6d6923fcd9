//! Model files as checked descriptions: GGUF, safetensors, config.json, tokenizer.json.
//!
//! Bytes go in, descriptions come out that cannot point outside the bytes. This room never opens a file, never panics
//! on what it reads, recurses nowhere, and allocates no more than a small multiple of the header that it has read.
//! Weights are not touched: a tensor is a name, a type, a shape and an [`Extent`].
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::indexing_slicing
    )
)]

pub mod desc;
mod desc_gguf;
pub mod error;
pub mod extent;
pub mod gguf;
mod gguf_read;
mod hf;
mod hf_config;
mod hf_pre;
mod hf_tokenizer;
pub mod safetensors;
mod sizes;
mod special;
pub mod vocab;

pub use desc::{Container, HParams, ModelDesc, Rope, RopePairing, RopeScaling, Suggested, TensorDesc};
pub use error::{FormatError, Kind};
pub use extent::Extent;
pub use gguf::{Array, Gguf, Tensor, Value};
pub use safetensors::Safetensors;
pub use vocab::vocab_from_gguf;

//! Block formats of weights: layout, sizes and the scalar decode that *defines* what the bytes mean.
#![forbid(unsafe_code)]

pub mod act;
pub mod block;
mod dtype;
pub mod half;
pub mod kv;

pub use act::ACT_BLOCK;
pub use block::{Block, Shape, decode, dequantise_row, shape};
pub use dtype::DType;
pub use kv::KV_BLOCK;

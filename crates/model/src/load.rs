//! From checked descriptions to weights in a backend: every tensor has exactly the shape its family needs, or loading fails
//! with a message that names it.

use formats::{ModelDesc, TensorDesc};
use ops::{Backend, MatSrc, OpsError};
use std::ops::Range;

/// Why a model cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// An architecture without a file in this crate.
    #[error("architecture '{0}' is not supported; supported are llama and qwen2")]
    Family(String),
    /// The file lacks a tensor.
    #[error("tensor {0} is missing; the file is incomplete or of another architecture than it says")]
    Missing(String),
    /// A tensor of the wrong shape.
    #[error("tensor {name} has shape {found:?}, expected {expected:?}; the file contradicts its own sizes")]
    Shape {
        /// Which.
        name: String,
        /// In the file, outermost first.
        found: Vec<u64>,
        /// From the model's sizes.
        expected: Vec<u64>,
    },
    /// A tensor's bytes are not in the files given.
    #[error("tensor {0} lies outside its file; the file changed while it was opened, open it again")]
    Outside(String),
    /// The backend refused.
    #[error(transparent)]
    Ops(#[from] OpsError),
}

/// Where tensors come from.
pub struct Source<'a, F> {
    /// Sizes and tensors.
    pub desc: &'a ModelDesc,
    files: &'a [&'a [u8]],
    read: F,
}

impl<'a, F: Fn(&TensorDesc, Range<usize>) + Sync> Source<'a, F> {
    /// Of one model.
    pub fn new(desc: &'a ModelDesc, files: &'a [&'a [u8]], read: F) -> Self {
        Self { desc, files, read }
    }

    fn find(&self, name: &str, expected: &[u64]) -> Result<(&'a TensorDesc, &'a [u8]), ModelError> {
        let t = self.desc.tensor(name).ok_or_else(|| ModelError::Missing(name.to_string()))?;
        if t.shape != expected {
            let (name, found) = (name.to_string(), t.shape.clone());
            return Err(ModelError::Shape { name, found, expected: expected.to_vec() });
        }
        let file = self.files.get(t.file).copied().unwrap_or_default();
        let bytes = t.extent.of(file).ok_or_else(|| ModelError::Outside(name.to_string()))?;
        Ok((t, bytes))
    }

    /// A matrix `[rows, cols]`.
    pub fn mat<B: Backend>(&mut self, b: &mut B, name: &str, rows: usize, cols: usize) -> Result<B::Mat, ModelError> {
        let (t, bytes) = self.find(name, &[rows as u64, cols as u64])?;
        Ok(b.load_mat(MatSrc { name, dtype: t.dtype, rows, cols, bytes }, |range| (self.read)(t, range))?)
    }

    /// A vector of any float type, on the host.
    pub fn floats(&mut self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        let (t, bytes) = self.find(name, &[len as u64])?;
        if t.dtype.is_quantised() || !t.dtype.is_weight() {
            let what = format!("a vector of type {} is not supported; convert the model again", t.dtype.name());
            return Err(OpsError::Tensor { name: name.to_string(), what }.into());
        }
        let mut out = vec![0.0; len];
        quant::dequantise_row(t.dtype, bytes, &mut out);
        (self.read)(t, 0..bytes.len());
        Ok(out)
    }

    /// A vector of any float type.
    pub fn vector<B: Backend>(&mut self, b: &mut B, name: &str, len: usize) -> Result<B::Vector, ModelError> {
        Ok(b.load_vector(&self.floats(name, len)?)?)
    }

    /// A vector that may be absent.
    pub fn optional<B: Backend>(&mut self, b: &mut B, name: &str, len: usize) -> Result<Option<B::Vector>, ModelError> {
        if self.desc.tensor(name).is_none() {
            return Ok(None);
        }
        self.vector(b, name, len).map(Some)
    }
}

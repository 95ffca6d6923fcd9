//! Block formats of weights: layout, sizes and the scalar decode that *defines* what the bytes mean.
#![forbid(unsafe_code)]

mod dtype;
pub use dtype::DType;

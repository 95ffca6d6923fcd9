//! aarch64: what NEON, and NEON with dot products, offer the kernels.

pub mod neon;
pub mod neon_dot;

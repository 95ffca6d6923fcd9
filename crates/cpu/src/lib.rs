//! CPU backends: `portable` defines every bit, `simd` gives the same bits faster. The only SIMD in the house.

#[cfg(target_arch = "aarch64")]
mod aarch64;
pub mod ceiling;
pub mod dispatch;
mod mem;
mod packed;
mod pool;
pub mod portable;
mod simd;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use ceiling::Ceiling;
pub use dispatch::Isa;
pub use mem::Act;
pub use pool::Pool;
pub use portable::Portable;
pub use simd::Cpu;

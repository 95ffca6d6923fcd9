//! The one place that asks the CPU what it can do.

use crate::simd::Kernels;

/// An instruction set by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// AVX2, FMA, F16C.
    Avx2,
    /// The same and AVX-VNNI.
    AvxVnni,
    /// AVX-512 F, BW, DQ, VL, VNNI.
    Avx512,
    /// Every aarch64.
    Neon,
    /// The same and dot products of bytes (`dotprod`: every CPU since Armv8.4).
    NeonDot,
}

impl Isa {
    /// All that this build knows, slowest first.
    #[cfg(target_arch = "x86_64")]
    pub const ALL: [Isa; 3] = [Isa::Avx2, Isa::AvxVnni, Isa::Avx512];
    /// All that this build knows, slowest first.
    #[cfg(target_arch = "aarch64")]
    pub const ALL: [Isa; 2] = [Isa::Neon, Isa::NeonDot];
    /// All that this build knows.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub const ALL: [Isa; 0] = [];

    /// This machine has it.
    pub fn is_available(self) -> bool {
        kernels(self).is_some()
    }
}

/// The kernels of an instruction set, if this machine has it.
#[cfg(target_arch = "x86_64")]
pub(crate) fn kernels(isa: Isa) -> Option<&'static Kernels> {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
    let avx512 = avx2
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni");
    match isa {
        Isa::Avx2 => avx2.then_some(&crate::x86_64::avx2::KERNELS),
        Isa::AvxVnni => (avx2 && is_x86_feature_detected!("avxvnni")).then_some(&crate::x86_64::avx_vnni::KERNELS),
        Isa::Avx512 => avx512.then_some(&crate::x86_64::avx512::KERNELS),
        Isa::Neon | Isa::NeonDot => None,
    }
}

/// The kernels of an instruction set, if this machine has it.
#[cfg(target_arch = "aarch64")]
pub(crate) fn kernels(isa: Isa) -> Option<&'static Kernels> {
    use std::arch::is_aarch64_feature_detected;
    let neon = is_aarch64_feature_detected!("neon");
    let dotprod = neon && is_aarch64_feature_detected!("dotprod");
    match isa {
        Isa::Neon => neon.then_some(&crate::aarch64::neon::KERNELS),
        Isa::NeonDot => dotprod.then_some(&crate::aarch64::neon_dot::KERNELS),
        Isa::Avx2 | Isa::AvxVnni | Isa::Avx512 => None,
    }
}

/// The kernels of an instruction set, if this machine has it.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn kernels(_: Isa) -> Option<&'static Kernels> {
    None
}

/// The fastest that this machine has.
pub fn best() -> Option<Isa> {
    Isa::ALL.into_iter().rev().find(|isa| isa.is_available())
}

/// Cores to use when nobody says: those the process may run on.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get()).min(base::limits::THREADS_MAX)
}

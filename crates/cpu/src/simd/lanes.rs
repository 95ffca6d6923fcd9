//! Sixteen lanes: the little that an instruction set must offer. Kernels are written once over it.
//! Implementations: x86_64/avx512.rs (one register), x86_64/avx2.rs (two; also avx_vnni.rs), aarch64/neon.rs (four).

/// Sixteen f32, sixteen i32 or sixty-four bytes, and what kernels do with them.
///
/// # Safety
/// Every method may use the instructions that the implementation's table was chosen for; pointers are read or written for
/// as many elements as the method names, without alignment.
#[allow(missing_docs, clippy::missing_safety_doc, reason = "the contract is the trait's")]
pub unsafe trait Lanes: Copy + 'static {
    type F: Copy;
    type I: Copy;
    /// `dot4_wide` subtracts the zero point 128 itself.
    const WIDE_IS_SIGNED: bool;
    /// Rows of activations whose accumulators fit the registers, ...
    const TILE: usize;
    /// ... with this many groups of weight rows: 1 or 2.
    const GROUPS: usize;
    /// Rows, at most 4, for which decoding the codes in registers, again for every tile, is cheaper than a panel.
    const FEW: usize;
    /// Query vectors of one attention item that read f16 directly, ...
    const ATTEND_VECTORS: usize;
    /// ... with up to this many groups of keys or lanes of values at a time.
    const ATTEND_BLOCKS: usize;

    unsafe fn splat(x: f32) -> Self::F;
    unsafe fn load(p: *const f32) -> Self::F;
    unsafe fn store(p: *mut f32, x: Self::F);
    unsafe fn load_f16(p: *const u16) -> Self::F;
    unsafe fn load_bf16(p: *const u16) -> Self::F;
    /// To nearest even, saturating at +-65504.
    unsafe fn store_f16_sat(p: *mut u16, x: Self::F);
    /// Sixteen unsigned bytes.
    unsafe fn load_u8(p: *const u8) -> Self::F;
    /// Sixteen signed bytes.
    unsafe fn load_i8(p: *const u8) -> Self::F;
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn abs(a: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// To the nearest integer, ties to even.
    unsafe fn round(a: Self::F) -> Self::F;
    /// `a * 2^n` for whole `n` in -126..=127.
    unsafe fn scale_by_power(a: Self::F, n: Self::F) -> Self::F;
    /// `y` where `x >= limit`, else zero.
    unsafe fn zero_below(x: Self::F, limit: Self::F, y: Self::F) -> Self::F;
    /// Per lane, `(x, id)` where `x > best`, else `(best, ids)`.
    unsafe fn better(best: Self::F, ids: Self::I, x: Self::F, id: Self::I) -> (Self::F, Self::I);
    /// The canonical sum (`ops::math::tree16`).
    unsafe fn tree(a: Self::F) -> f32;
    unsafe fn max_of(a: Self::F) -> f32;
    /// The higher of each two neighbouring lanes: eight of `a`, then eight of `b`.
    unsafe fn max_pairs(a: Self::F, b: Self::F) -> Self::F;
    /// Sums of each two neighbouring lanes: eight of `a`, then eight of `b`.
    unsafe fn add_pairs(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn mul_i(a: Self::I, b: Self::I) -> Self::I;

    /// Asks for the line at `p` to come nearer; any address is fine.
    unsafe fn prefetch(p: *const u8);
    /// Into the second level of cache.
    unsafe fn prefetch_far(p: *const u8);
    unsafe fn load_bytes(p: *const u8) -> Self::I;
    unsafe fn store_bytes(p: *mut u8, x: Self::I);
    unsafe fn splat_i(x: i32) -> Self::I;
    unsafe fn zero_i() -> Self::I;
    unsafe fn add_i(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn to_f(a: Self::I) -> Self::F;
    /// To the nearest integer, ties to even.
    unsafe fn to_i(a: Self::F) -> Self::I;
    /// Low byte of each lane.
    unsafe fn store_i8(p: *mut i8, a: Self::I);
    /// `(a >> R << L)` on 16-bit pieces, masked per byte.
    unsafe fn bits<const R: u32, const L: u32>(a: Self::I, mask: u8) -> Self::I;
    unsafe fn or(a: Self::I, b: Self::I) -> Self::I;
    /// Per lane, adds four products of unsigned `u` (at most 63) and signed `s` bytes.
    unsafe fn dot4(acc: Self::I, u: Self::I, s: Self::I) -> Self::I;
    /// The same for `u` up to 255; see `WIDE_IS_SIGNED`.
    unsafe fn dot4_wide(acc: Self::I, u: Self::I, s: Self::I) -> Self::I;
}

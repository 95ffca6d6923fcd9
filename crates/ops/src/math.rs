//! Transcendental functions of our own, as scalar code that every backend repeats operation by operation:
//! a libm may differ by a bit between machines, and one bit is enough to choose another token.

/// Smallest argument with a non-zero answer.
pub const EXP_MIN: f32 = -87.0;
/// Arguments above are treated as this one.
pub const EXP_MAX: f32 = 88.0;
/// log2(e).
pub const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2, high part (exact in few bits, so that `n * LN2_HI` is exact).
pub const LN2_HI: f32 = 0.693_359_4;
/// ln 2 minus `LN2_HI`.
pub const LN2_LO: f32 = -2.121_944_4e-4;
/// Minimax coefficients of exp on +-ln2/2, highest power first (Cephes expf).
pub const EXP_POLY: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];

/// e^x for f32, within 2 ulp on the range; 0 below `EXP_MIN`, finite above `EXP_MAX`. `exp(0)` is exactly 1.
#[inline]
pub fn exp(x: f32) -> f32 {
    let c = x.clamp(EXP_MIN, EXP_MAX);
    let n = (c * LOG2_E).round_ties_even();
    let r = (-n).mul_add(LN2_HI, c);
    let r = (-n).mul_add(LN2_LO, r);
    let mut p = EXP_POLY[0];
    p = p.mul_add(r, EXP_POLY[1]);
    p = p.mul_add(r, EXP_POLY[2]);
    p = p.mul_add(r, EXP_POLY[3]);
    p = p.mul_add(r, EXP_POLY[4]);
    p = p.mul_add(r, EXP_POLY[5]);
    let y = p.mul_add(r * r, r) + 1.0;
    let scaled = y * f32::from_bits(((n as i32 + 127) << 23) as u32);
    if x < EXP_MIN { 0.0 } else { scaled }
}

/// Below this power of two `exp2` is 0.
pub const EXP2_MIN: f32 = -126.0;
/// Minimax coefficients of (2^x - 1) / x on +-1/2, highest power first (Cephes exp2f).
pub const EXP2_POLY: [f32; 6] =
    [1.535_336_2e-4, 1.339_887_4e-3, 9.618_437e-3, 5.550_332_6e-2, 2.402_264_8e-1, 6.931_472e-1];

/// 2^x for f32, x <= 0, within 2 ulp; 0 below `EXP2_MIN`. `exp2(0)` is exactly 1. Half the operations of `exp`: the weights of
/// attention are powers of two, with log2(e) in the scale of the query.
#[inline]
pub fn exp2(x: f32) -> f32 {
    let c = x.max(EXP2_MIN);
    let n = c.round_ties_even();
    let r = c - n;
    let mut p = EXP2_POLY[0];
    for coefficient in &EXP2_POLY[1..] {
        p = p.mul_add(r, *coefficient);
    }
    let y = p.mul_add(r, 1.0);
    let scaled = y * f32::from_bits(((n as i32 + 127) << 23) as u32);
    if x < EXP2_MIN { 0.0 } else { scaled }
}

/// `silu(g) * u` with `silu(g) = g / (1 + e^-g)`.
#[inline]
pub fn swiglu(g: f32, u: f32) -> f32 {
    g / (1.0 + exp(-g)) * u
}

/// The highest value and where it stands first. NaN never wins; `(-inf, 0)` where nothing is above minus infinity.
pub fn best(xs: &[f32]) -> (f32, u32) {
    xs.iter().zip(0..).fold((f32::NEG_INFINITY, 0), |best, (x, i)| if *x > best.0 { (*x, i) } else { best })
}

/// Sine and cosine of an angle in radians in f64, for |x| up to 2^26: reduction by pi/2 in three parts, Taylor polynomials
/// to well below f32's rounding. Only additions and multiplications, so equal everywhere.
pub fn sin_cos(x: f64) -> (f64, f64) {
    // pi/2 = A + B + C with A, B of 33 bits each (fdlibm's split), so that n * A and n * B are exact.
    const A: f64 = 1.570_796_326_734_125_6;
    const B: f64 = 6.077_100_506_303_966e-11;
    const C: f64 = 2.022_266_248_795_950_6e-21;
    let n = (x * std::f64::consts::FRAC_2_PI).round_ties_even();
    let r = ((x - n * A) - n * B) - n * C;
    let z = r * r;
    let sin = r
        * (1.0
            + z * (-1.0 / 6.0
                + z * (1.0 / 120.0
                    + z * (-1.0 / 5040.0
                        + z * (1.0 / 362_880.0
                            + z * (-1.0 / 39_916_800.0
                                + z * (1.0 / 6_227_020_800.0 + z * (-1.0 / 1_307_674_368_000.0))))))));
    let cos = 1.0
        + z * (-0.5
            + z * (1.0 / 24.0
                + z * (-1.0 / 720.0
                    + z * (1.0 / 40_320.0
                        + z * (-1.0 / 3_628_800.0
                            + z * (1.0 / 479_001_600.0
                                + z * (-1.0 / 87_178_291_200.0 + z * (1.0 / 20_922_789_888_000.0))))))));
    match (n as i64).rem_euclid(4) {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

/// Natural logarithm of a positive normal f64 by argument halving and the atanh series; equal everywhere.
pub fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut e = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mut m = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    if m > std::f64::consts::SQRT_2 {
        m *= 0.5;
        e += 1;
    }
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let mut sum = 0.0;
    let mut k = 27;
    while k >= 1 {
        sum = sum * z + 1.0 / f64::from(k);
        k -= 2;
    }
    e as f64 * std::f64::consts::LN_2 + 2.0 * s * sum
}

/// e^x in f64 by halving and Taylor; equal everywhere. For |x| < 700.
pub fn exp64(x: f64) -> f64 {
    let n = (x * std::f64::consts::LOG2_E).round_ties_even();
    let r = (x - n * 0.693_147_180_369_123_8) - n * 1.908_214_929_270_587_7e-10;
    let mut sum = 1.0;
    let mut k = 18.0;
    while k >= 1.0 {
        sum = 1.0 + r / k * sum;
        k -= 1.0;
    }
    sum * f64::from_bits(((n as i64 + 1023) << 52) as u64)
}

/// Inverse frequencies `base^(-2i/d_rot)` for `i < d_rot / 2` (RoFormer, section 3.2.2).
pub fn inverse_frequencies(base: f64, d_rot: usize) -> Vec<f64> {
    let ln_base = ln(base);
    (0..d_rot / 2).map(|i| exp64(-(2.0 * i as f64 / d_rot as f64) * ln_base)).collect()
}

/// Sum of 16 lanes in the one order that halves a vector register again and again.
#[inline]
pub fn tree16(l: &[f32; 16]) -> f32 {
    let mut s = *l;
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            s[i] += s[i + half];
        }
    }
    s[0]
}

/// RMS norm of one row: lane `i % 16` gathers the squares, `tree16` adds them up.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let mut lanes = [0.0f32; 16];
    for (i, v) in x.iter().enumerate() {
        lanes[i % 16] = v.mul_add(*v, lanes[i % 16]);
    }
    let mean = tree16(&lanes) / x.len() as f32;
    let scale = 1.0 / (mean + eps).sqrt();
    for ((o, v), w) in out.iter_mut().zip(x).zip(weight) {
        *o = v * scale * w;
    }
}

/// Rotates the first `d_rot` elements of one head. `angles` is `d_rot` long: cosines, then sines.
#[inline(always)] // so that it is compiled with the instruction set of who calls
pub fn rope_head(head: &mut [f32], angles: &[f32], interleaved: bool) {
    let half = angles.len() / 2;
    let (cos, sin) = angles.split_at(half);
    for i in 0..half {
        let (a, b) = if interleaved { (2 * i, 2 * i + 1) } else { (i, i + half) };
        let (x, y) = (head[a], head[b]);
        head[a] = x * cos[i] - y * sin[i];
        head[b] = x * sin[i] + y * cos[i];
    }
}

/// Most elements that `rotate` mixes: those that share a scale. Further ones would only share their outliers.
pub const ROTATE_MAX: usize = quant::KV_BLOCK;

/// How many neighbouring elements of a head `rotate` mixes: the largest power of two that divides it, at most `ROTATE_MAX`.
pub fn rotate_len(d_head: usize) -> usize {
    (1 << d_head.trailing_zeros().min(ROTATE_MAX.trailing_zeros())).max(1)
}

/// Multiplies each run of `len` elements by Sylvester's Hadamard matrix, `len` being a power of two. Its rows are orthogonal and
/// of length `sqrt(len)`: two vectors that were both rotated have `len` times their dot product, and what stood out in one
/// element is spread over all of them (Ashkboos et al. 2024, QuaRot). In place, as neighbours, then pairs, then fours.
#[inline(always)]
pub fn rotate(x: &mut [f32], len: usize) {
    let mut half = 1;
    while half < len {
        for pair in x.chunks_exact_mut(2 * half) {
            let (a, b) = pair.split_at_mut(half);
            for (a, b) in a.iter_mut().zip(b) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_the_true_one_everywhere_and_exact_at_zero() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-1000.0), 0.0);
        assert!(exp(1000.0).is_finite());
        let mut x = -87.0f32;
        while x < 88.0 {
            let (got, want) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((got / want - 1.0).abs() < 3e-7, "{x}: {got} {want}");
            x += 0.003_7;
        }
    }

    #[test]
    fn exp2_is_close_to_the_true_one_below_zero_and_exact_at_whole_powers() {
        assert_eq!(exp2(-126.5), 0.0);
        assert_eq!(exp2(f32::NEG_INFINITY), 0.0);
        for n in 0..=126 {
            assert_eq!(exp2(-(n as f32)), f32::from_bits((127 - n) << 23));
        }
        let mut x = -125.0f32;
        while x <= 0.0 {
            let (got, want) = (f64::from(exp2(x)), f64::from(x).exp2());
            assert!((got / want - 1.0).abs() < 2.4e-7, "{x}: {got} {want}");
            x += 0.002_3;
        }
    }

    #[test]
    fn f64_functions_agree_with_the_platform_to_the_last_digits() {
        for i in 0..200_000 {
            let x = f64::from(i) * 0.731;
            let (s, c) = sin_cos(x);
            assert!((s - x.sin()).abs() < 1e-12 && (c - x.cos()).abs() < 1e-12, "{x}");
        }
        for x in [1.0, 1.5, 2.0, 10.0, 10_000.0, 1e6, 5e5, 0.1, 1e-6] {
            assert!((ln(x) - x.ln()).abs() < 1e-13 * (1.0 + x.ln().abs()), "{x}");
            assert!((exp64(-ln(x)) * x - 1.0).abs() < 1e-13, "{x}");
        }
    }

    #[test]
    fn swiglu_matches_its_formula() {
        for (g, u) in [(0.0f32, 3.0f32), (1.0, 2.0), (-5.0, 1.5), (30.0, -1.0), (-200.0, 4.0), (200.0, 4.0)] {
            let want = f64::from(g) / (1.0 + (-f64::from(g)).exp()) * f64::from(u);
            assert!((f64::from(swiglu(g, u)) - want).abs() <= 1e-6 * want.abs() + 1e-30, "{g} {u}");
        }
    }
}

//! Keys and values as int8: one f16 scale per `KV_BLOCK` elements of a head (the last block may be shorter).
//! A code times its scale is exact in f32: 8 bits times 11.

use crate::half::{f16_to_f32, f32_to_f16_sat};

/// Elements that share a scale. Long enough to cost little (34 bytes for 32 elements), short enough that an outlying channel,
/// which many models' keys have, spoils few others.
pub const KV_BLOCK: usize = 32;

/// Quantises one block of at most `KV_BLOCK`: `scale = f16(amax / 127)`, `q = round_ties_even(x / scale)` by the scale as it is
/// kept. Returns the scale's bits; a block that rounds to scale zero has zero codes. Where something is not a number, so is
/// the scale.
#[inline]
pub fn quantise_kv(x: &[f32], q: &mut [i8]) -> u16 {
    // Magnitudes are ordered as their bits are, and integers have no second opinion about what is not a number.
    let amax = x.iter().fold(0, |m, v| m.max(v.to_bits() & 0x7fff_ffff));
    let scale = f32_to_f16_sat(f32::from_bits(amax) / 127.0);
    let step = f16_to_f32(scale);
    let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
    for (v, o) in x.iter().zip(q) {
        *o = (v * inverse).round_ties_even() as i8;
    }
    scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_is_within_half_a_step_and_the_step_is_a_127th_of_the_largest() {
        for seed in 0..2000u64 {
            let magnitude = 10f32.powi((seed % 7) as i32 - 2);
            let n = 1 + (seed % KV_BLOCK as u64) as usize;
            let x: Vec<f32> = (0..n as u64)
                .map(|i| magnitude * (((seed * 31 + i) * 2_654_435_761 % 20_011) as f32 / 10_005.5 - 1.0))
                .collect();
            let mut q = [0i8; KV_BLOCK];
            let step = f16_to_f32(quantise_kv(&x, &mut q[..n]));
            let amax = x.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            // Half a unit in the last place of the scale, which for the tiniest is 2^-24; it moves the largest 127 times.
            let off = amax / 2048.0 + 127.0 / 33_554_432.0;
            assert!((step * 127.0 - amax).abs() <= off, "{step} for {amax}");
            for (x, q) in x.iter().zip(q) {
                assert!((x - step * f32::from(q)).abs() <= 0.5 * step + off, "{x} came back as {q} * {step}");
                assert_eq!(f64::from(step * f32::from(q)), f64::from(step) * f64::from(q));
            }
        }
    }

    #[test]
    fn ties_go_to_even_zeros_stay_and_nothing_wraps() {
        let mut q = [0i8; 4];
        assert_eq!(f16_to_f32(quantise_kv(&[127.0, 0.5, 1.5, -2.5], &mut q)), 1.0);
        assert_eq!(q, [127, 0, 2, -2]);
        assert_eq!(quantise_kv(&[0.0, -0.0, 1e-9, 0.0], &mut q), 0);
        assert_eq!(q, [0; 4]);
        assert_eq!(quantise_kv(&[f32::INFINITY, f32::MIN, f32::MAX, 1.0], &mut q), 0x7bff);
        assert_eq!(q, [127, -128, 127, 0]);
        assert!(f16_to_f32(quantise_kv(&[1.0, f32::NAN, 2.0, 3.0], &mut q)).is_nan());
    }
}

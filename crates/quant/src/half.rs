//! IEEE binary16 and bfloat16 to and from f32, bit by bit, so that the answer is the same on a machine without the instructions.

/// binary16 bits to f32 (exact).
#[inline]
pub fn f16_to_f32(h: u16) -> f32 {
    let sign = u32::from(h & 0x8000) << 16;
    let exp = u32::from(h >> 10) & 0x1f;
    let man = u32::from(h) & 0x3ff;
    let bits = match exp {
        0 => {
            // Zero or subnormal: man * 2^-24, exact in f32.
            let magnitude = man as f32 * (1.0 / 16_777_216.0);
            return f32::from_bits(sign | magnitude.to_bits());
        }
        // As the hardware does it, a signalling NaN comes out quiet.
        31 if man != 0 => 0x7fc0_0000 | (man << 13),
        31 => 0x7f80_0000,
        _ => ((exp + 112) << 23) | (man << 13),
    };
    f32::from_bits(sign | bits)
}

/// f32 to binary16 bits, to nearest, ties to even; beyond the range it saturates at +-65504, so that a KV cache never holds an infinity.
#[inline]
pub fn f32_to_f16_sat(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let abs = bits & 0x7fff_ffff;
    if abs > 0x7f80_0000 {
        return sign | 0x7e00;
    }
    if abs >= 0x477f_e000 {
        return sign | 0x7bff;
    }
    if abs < 0x3880_0000 {
        // Subnormal result: adding 0.5 aligns the mantissa so that the FPU's own rounding (ties to even) does the work.
        let shifted = f32::from_bits(abs) + 0.5;
        return sign | (shifted.to_bits() - 0x3f00_0000) as u16;
    }
    let rounded = abs + 0xfff + ((abs >> 13) & 1);
    sign | ((rounded - 0x3800_0000) >> 13).min(0x7bff) as u16
}

/// bfloat16 bits to f32 (exact).
#[inline]
pub fn bf16_to_f32(h: u16) -> f32 {
    f32::from_bits(u32::from(h) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_survives_the_round_trip() {
        for h in 0..=u16::MAX {
            let x = f16_to_f32(h);
            if x.is_nan() {
                assert!(f16_to_f32(f32_to_f16_sat(x)).is_nan());
            } else if x.is_infinite() {
                assert_eq!(f32_to_f16_sat(x) & 0x7fff, 0x7bff);
            } else {
                assert_eq!(f32_to_f16_sat(x), h, "{x}");
            }
        }
    }

    #[test]
    fn rounding_is_to_nearest_even_between_every_pair_of_neighbours() {
        for h in 0..0x7bffu16 {
            let (a, b) = (f64::from(f16_to_f32(h)), f64::from(f16_to_f32(h + 1)));
            let mid = (a + b) / 2.0;
            let even = if h & 1 == 0 { h } else { h + 1 };
            assert_eq!(f32_to_f16_sat(mid as f32), even, "tie above {a}");
            assert_eq!(f32_to_f16_sat((mid as f32).next_down()), h);
            assert_eq!(f32_to_f16_sat((mid as f32).next_up()), h + 1);
            assert_eq!(f32_to_f16_sat(-(mid as f32)), even | 0x8000);
        }
        assert_eq!(f32_to_f16_sat(1e30), 0x7bff);
    }
}

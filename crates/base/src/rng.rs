//! Counter-based randomness: the draw depends on (seed, position, lane) only, never on what was drawn before.
//! So batching, speculation and resumption cannot shift a sampled answer (docs/determinism.md).
//! The mixer is SplitMix64's finaliser (Steele, Lea, Flood 2014) applied twice over the packed counter.

fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// 64 random bits for (seed, position, lane).
pub fn bits(seed: u64, position: u64, lane: u64) -> u64 {
    mix(mix(seed ^ mix(lane)) ^ position)
}

/// Uniform in [0, 1), 24 bits of it, so that every value is exact in f32.
pub fn uniform(seed: u64, position: u64, lane: u64) -> f32 {
    (bits(seed, position, lane) >> 40) as f32 * (1.0 / 16_777_216.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_depend_on_each_argument_and_on_nothing_else() {
        assert_eq!(bits(1, 2, 3), bits(1, 2, 3));
        assert_ne!(bits(1, 2, 3), bits(2, 2, 3));
        assert_ne!(bits(1, 2, 3), bits(1, 3, 3));
        assert_ne!(bits(1, 2, 3), bits(1, 2, 4));
    }

    #[test]
    fn uniform_is_flat_enough_to_sample_with() {
        let n = 100_000;
        let mut buckets = [0usize; 10];
        for i in 0..n {
            let u = uniform(42, i, 0);
            assert!((0.0..1.0).contains(&u));
            buckets[(u * 10.0) as usize] += 1;
        }
        // Binomial sd is ~95 per bucket; five of them is a broken generator, not bad luck.
        assert!(buckets.iter().all(|&b| b.abs_diff(10_000) < 475), "{buckets:?}");
    }
}

//! Python's `random.Random(seed)`: `shuffle`, `randrange` and `choice`, so that a seed chooses the same cases here as in
//! scripts: the Mersenne Twister MT19937 (Matsumoto and Nishimura 1998) seeded by `init_by_array`, and the draws that CPython
//! makes of it.

const N: usize = 624;
const M: usize = 397;

/// MT19937.
pub(crate) struct Twister {
    state: [u32; N],
    at: usize,
}

impl Twister {
    /// As `random.seed(seed)` of a non-negative integer: its 32-bit digits, lowest first, are the key.
    pub(crate) fn new(seed: u64) -> Self {
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let key: &[u32] = if high == 0 { &[low] } else { &[low, high] };
        let mut s = [0u32; N];
        s[0] = 19_650_218;
        for i in 1..N {
            s[i] = 1_812_433_253u32.wrapping_mul(s[i - 1] ^ (s[i - 1] >> 30)).wrapping_add(i as u32);
        }
        let mixed = |s: &[u32; N], i: usize, by: u32| s[i] ^ (s[i - 1] ^ (s[i - 1] >> 30)).wrapping_mul(by);
        let mut i = 1;
        for k in 0..N {
            let j = k % key.len();
            s[i] = mixed(&s, i, 1_664_525).wrapping_add(key[j]).wrapping_add(j as u32);
            i = next(&mut s, i);
        }
        for _ in 1..N {
            s[i] = mixed(&s, i, 1_566_083_941).wrapping_sub(i as u32);
            i = next(&mut s, i);
        }
        s[0] = 0x8000_0000;
        Self { state: s, at: N }
    }

    fn next_u32(&mut self) -> u32 {
        if self.at >= N {
            self.twist();
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn twist(&mut self) {
        for k in 0..N {
            let y = (self.state[k] & 0x8000_0000) | (self.state[(k + 1) % N] & 0x7fff_ffff);
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[k] = self.state[(k + M) % N] ^ (y >> 1) ^ odd;
        }
        self.at = 0;
    }

    /// Uniform in `0..n`, as `randrange(n)`, and as `choice` draws an index: the top bits of a word, drawn again while they are
    /// too large. `n` is at least 1.
    pub(crate) fn below(&mut self, n: u32) -> u32 {
        let shift = n.leading_zeros();
        loop {
            let drawn = self.next_u32() >> shift;
            if drawn < n {
                return drawn;
            }
        }
    }
}

fn next(s: &mut [u32; N], i: usize) -> usize {
    if i + 1 < N {
        return i + 1;
    }
    s[0] = s[N - 1];
    1
}

/// Shuffles as `random.Random(seed).shuffle(items)`; lists longer than 2^32 keep their tail.
pub(crate) fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut twister = Twister::new(seed);
    let len = u32::try_from(items.len()).unwrap_or(u32::MAX);
    for i in (1..len).rev() {
        items.swap(i as usize, twister.below(i + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    // Golden values of python3: `r = random.Random(S); ...`.

    #[test]
    fn words_are_pythons() {
        let mut twister = Twister::new(1);
        let words: Vec<u32> = (0..4).map(|_| twister.next_u32()).collect();
        assert_eq!(words, [577_090_037, 2_444_712_010, 3_639_700_191, 3_445_702_192]);
    }

    #[test]
    fn ranges_and_choices_are_pythons() {
        let mut twister = Twister::new(3);
        let drawn: Vec<u32> = [1000, 7, 7, 1, 500].into_iter().map(|n| twister.below(n)).collect();
        assert_eq!(drawn, [243, 4, 4, 0, 189]);
    }

    #[test]
    fn shuffles_are_pythons() {
        let shuffled = |n: u32, seed| {
            let mut list: Vec<u32> = (0..n).collect();
            shuffle(&mut list, seed);
            list
        };
        assert_eq!(shuffled(20, 1), [11, 5, 17, 19, 9, 0, 16, 1, 15, 6, 10, 13, 14, 12, 7, 3, 8, 2, 18, 4]);
        assert_eq!(shuffled(12, 0), [1, 9, 8, 5, 10, 2, 3, 7, 4, 0, 11, 6]);
        assert_eq!(shuffled(12, (1 << 40) + 7), [0, 5, 2, 3, 6, 1, 8, 4, 7, 11, 10, 9]);
        let long = shuffled(1000, 5);
        assert_eq!(long[..6], [910, 516, 275, 950, 612, 970]);
        assert_eq!(long[994..], [707, 814, 367, 759, 261, 637]);
        assert!(shuffled(0, 1).is_empty());
    }
}

//! A bucket that fills evenly: what "per minute" means here. Integers only, so waits are exact.

/// Parts of a unit: with a minute's worth of milliseconds, a bucket of `size` gains `size` parts in each.
const PARTS: i64 = 60_000;

/// Holds at most `size`, and gains `size` a minute. It can owe: then nothing is given until it is filled again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    size: i64,
    parts: i64,
    at_ms: u64,
}

impl Bucket {
    /// Full. `size` is from 1 to `limits::QUOTA_MAX`.
    pub(crate) fn full(size: u64, now_ms: u64) -> Self {
        let size = i64::try_from(size).unwrap_or(i64::MAX / PARTS).clamp(1, i64::MAX / PARTS);
        Self { size, parts: size * PARTS, at_ms: now_ms }
    }

    /// A clock that goes back gives nothing and takes nothing.
    pub(crate) fn fill(&mut self, now_ms: u64) {
        let gone = i64::try_from(now_ms.saturating_sub(self.at_ms)).unwrap_or(i64::MAX);
        self.parts = self.parts.saturating_add(gone.saturating_mul(self.size)).min(self.size * PARTS);
        self.at_ms = self.at_ms.max(now_ms);
    }

    /// Milliseconds until this much can be taken; what is more than the bucket holds needs a full one.
    pub(crate) fn wait_ms(&self, amount: u64) -> u64 {
        let need = self.cut(amount) * PARTS;
        need.saturating_sub(self.parts).max(0).unsigned_abs().div_ceil(self.size.unsigned_abs())
    }

    fn cut(&self, amount: u64) -> i64 {
        i64::try_from(amount).unwrap_or(i64::MAX).min(self.size)
    }

    /// Takes it, whether it is there or not.
    pub(crate) fn take(&mut self, amount: u64) {
        self.parts = self.parts.saturating_sub(parts(amount));
    }

    /// Gives back what was not needed.
    pub(crate) fn give(&mut self, amount: u64) {
        self.parts = self.parts.saturating_add(parts(amount)).min(self.size * PARTS);
    }

    /// Whole units that can be taken.
    pub(crate) fn left(&self) -> u64 {
        self.parts.max(0).unsigned_abs() / PARTS.unsigned_abs()
    }

    /// Milliseconds until it is full.
    pub(crate) fn reset_ms(&self) -> u64 {
        self.wait_ms(u64::MAX)
    }
}

fn parts(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX).saturating_mul(PARTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fills_evenly_and_says_when() {
        let mut b = Bucket::full(60, 0);
        assert_eq!((b.left(), b.reset_ms(), b.wait_ms(60)), (60, 0, 0));
        b.take(60);
        assert_eq!((b.left(), b.reset_ms(), b.wait_ms(1), b.wait_ms(60)), (0, 60_000, 1000, 60_000));
        b.fill(999);
        assert_eq!((b.left(), b.wait_ms(1)), (0, 1));
        b.fill(1000);
        assert_eq!((b.left(), b.wait_ms(1), b.wait_ms(2)), (1, 0, 1000));
        b.fill(500);
        assert_eq!(b.left(), 1, "the clock went back");
        b.fill(1_000_000);
        assert_eq!(b.left(), 60, "no more than it holds");
    }

    #[test]
    fn it_can_owe() {
        let mut b = Bucket::full(100, 0);
        assert_eq!(b.wait_ms(1000), 0, "more than it holds needs a full one");
        b.take(250);
        assert_eq!((b.left(), b.wait_ms(1), b.wait_ms(1000)), (0, 90_600, 150_000));
        b.give(200);
        assert_eq!((b.left(), b.wait_ms(50)), (50, 0));
        b.give(1000);
        assert_eq!(b.left(), 100);
    }

    #[test]
    fn no_number_breaks_it() {
        for size in [0, 1, 7, base::limits::QUOTA_MAX, u64::MAX] {
            let mut b = Bucket::full(size, u64::MAX - 1);
            b.take(u64::MAX);
            assert!(b.wait_ms(u64::MAX) > 0 && b.left() == 0);
            b.fill(u64::MAX);
            b.fill(0);
            b.give(u64::MAX);
            assert_eq!((b.wait_ms(u64::MAX), b.reset_ms()), (0, 0));
        }
    }

    /// Whatever is asked: within any time, no more was given than the bucket and its filling, and who waits as told gets it.
    #[test]
    fn it_keeps_to_its_rate() {
        for size in [1u64, 3, 60, 20_000] {
            let (mut b, mut now, mut given) = (Bucket::full(size, 0), 0, 0);
            for i in 0..500 {
                let amount = base::rng::bits(7, i, size) % size + 1;
                let wait = b.wait_ms(amount);
                if wait > 0 {
                    let mut early = b;
                    early.fill(now + wait - 1);
                    assert!(early.wait_ms(amount) > 0, "one millisecond earlier is too early");
                }
                now += wait;
                b.fill(now);
                assert_eq!(b.wait_ms(amount), 0);
                b.take(amount);
                given += amount;
                assert!(u128::from(given) * 60_000 <= u128::from(size) * (60_000 + u128::from(now)));
            }
        }
    }
}

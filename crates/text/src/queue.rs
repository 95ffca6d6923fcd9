//! The order in which pairs merge: lowest rank first, leftmost first among equals.
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Pairs that can merge, as rank and place in one number.
///
/// A heap alone would pay a logarithm and scattered memory for each pair. But pairs found while one rank merges are mostly of
/// later ranks and found left to right, that is in order: what the heap has gathered is sorted once the last gathering is used up.
#[derive(Default)]
pub(crate) struct Queue {
    sorted: Vec<Reverse<u64>>,
    used: usize,
    heap: BinaryHeap<Reverse<u64>>,
}

impl Queue {
    /// Empties the queue and keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.sorted.clear();
        self.used = 0;
        self.heap.clear();
    }

    /// A pair of this rank at this place.
    pub(crate) fn entry(rank: u32, at: u32) -> u64 {
        u64::from(rank) << 32 | u64::from(at)
    }

    /// Adds a pair, if there is one.
    #[inline]
    pub(crate) fn push(&mut self, entry: Option<u64>) {
        self.heap.extend(entry.map(Reverse));
    }

    /// The rank and place of the first pair.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<(u32, u32)> {
        if self.used == self.sorted.len() {
            self.sorted.clear();
            let gathered = std::mem::replace(&mut self.heap, BinaryHeap::from(std::mem::take(&mut self.sorted)));
            self.sorted = gathered.into_vec();
            self.sorted.sort_unstable_by_key(|entry| entry.0);
            self.used = 0;
        }
        let next = *self.sorted.get(self.used)?;
        if self.heap.peek().is_some_and(|found| found.0 < next.0) {
            return self.heap.pop().map(|found| ((found.0 >> 32) as u32, found.0 as u32));
        }
        self.used += 1;
        Some(((next.0 >> 32) as u32, next.0 as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::rng;

    #[test]
    fn pops_in_order_whatever_comes_between() {
        let (mut queue, mut reference) = (Queue::default(), BinaryHeap::new());
        for step in 0..20_000u64 {
            if rng::bits(3, step, 0) % 3 < 2 {
                let (rank, at) = ((rng::bits(3, step, 1) % 50) as u32, (rng::bits(3, step, 2) % 500) as u32);
                queue.push(Some(Queue::entry(rank, at)));
                reference.push(Reverse((rank, at)));
            } else {
                assert_eq!(queue.pop(), reference.pop().map(|r| r.0));
            }
        }
        while let Some(Reverse(want)) = reference.pop() {
            assert_eq!(queue.pop(), Some(want));
        }
        assert_eq!(queue.pop(), None);
    }
}

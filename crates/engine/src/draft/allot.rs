//! Shares the rows of one step between the drafts of its sequences.

use super::{Costs, Proposal};

/// How many draft rows of each proposal to put into a step that has `base_rows` rows anyway, so that expected progress per time
/// is the highest: `take[i]` for `proposals[i]`, at most `rows_max` in all.
///
/// Every row of the base counts as one token of progress (a decode row gives a token, a prefill row takes one in). A draft row
/// counts with the probability that it and all before it are accepted, which never rises along a draft. So the best set of k rows
/// is the k highest of these, taken one by one; every k is tried, because the cost has steps and the rate may dip before it
/// rises. O((rows_max + 1) * proposals), no memory.
pub fn allot(
    costs: &Costs,
    base_rows: usize,
    depth: usize,
    proposals: &[&Proposal],
    rows_max: usize,
    take: &mut [usize],
) {
    let base = base_rows.max(1);
    let rate = |rows: usize, gain: f32| (base as f32 + gain) / costs.ns(base + rows, depth);
    let (mut best, mut best_rate) = (0, rate(0, 0.0));
    fill(proposals, rows_max, take, |rows, gain| {
        let rate = rate(rows, gain);
        if rate > best_rate {
            (best, best_rate) = (rows, rate);
        }
    });
    fill(proposals, best, take, |_, _| {});
}

/// Takes the `rows` most probable rows; calls `each` with the number so far and the sum of their probabilities.
fn fill(proposals: &[&Proposal], rows: usize, take: &mut [usize], mut each: impl FnMut(usize, f32)) {
    take.fill(0);
    let mut gain = 0.0;
    for taken in 1..=rows {
        let next = |(i, n): (usize, &usize)| proposals.get(i)?.cumulative().get(*n).map(|odds| (i, *odds));
        // Ties go to the first, so that the same input gives the same answer.
        let heads = take.iter().enumerate().filter_map(next);
        let Some((i, odds)) = heads.reduce(|a, b| if b.1 > a.1 { b } else { a }) else { return };
        if odds <= 0.0 {
            return;
        }
        take[i] += 1;
        gain += odds;
        each(taken, gain);
    }
}

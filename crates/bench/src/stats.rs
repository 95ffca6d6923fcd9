//! Order statistics of small samples: what every figure of a report is made of. Values that are no numbers are left out.

use serde::Serialize;

/// Quantile `q` in 0..=1 with linear interpolation between neighbours (type 7 of Hyndman and Fan 1996, as numpy does).
/// `None` without a number to go by.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let sorted = sorted(values);
    let last = sorted.len().checked_sub(1)?;
    let at = q.clamp(0.0, 1.0) * last as f64;
    let below = at.floor() as usize;
    let (low, high) = (*sorted.get(below)?, *sorted.get((below + 1).min(last))?);
    Some(low + (high - low) * (at - below as f64))
}

/// The middle value, or the mean of the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// Smallest and largest.
pub fn min_max(values: &[f64]) -> Option<(f64, f64)> {
    let sorted = sorted(values);
    Some((*sorted.first()?, *sorted.last()?))
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// One figure over several repetitions. The unit stands in the name of the field that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Median.
    pub p50: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Repetitions that gave a value.
    pub n: usize,
}

impl Summary {
    /// `None` without values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let (min, max) = min_max(values)?;
        Some(Self { p50: median(values)?, min, max, n: values.iter().filter(|v| !v.is_nan()).count() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_even_single_and_no_values() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[f64::NAN]), None);
    }

    #[test]
    fn quantiles_interpolate_and_stay_within_the_sample() {
        let values = [10.0, 20.0, 30.0, 40.0];
        assert_eq!(quantile(&values, 0.0), Some(10.0));
        assert_eq!(quantile(&values, 1.0), Some(40.0));
        assert_eq!(quantile(&values, 0.25), Some(17.5));
        assert_eq!(quantile(&values, 7.0), Some(40.0));
        assert_eq!(quantile(&values, -1.0), Some(10.0));
    }

    #[test]
    fn summaries_pass_over_what_is_no_number() {
        let summary = Summary::of(&[2.0, f64::NAN, 8.0, -1.0]).unwrap();
        assert_eq!(summary, Summary { p50: 2.0, min: -1.0, max: 8.0, n: 3 });
        assert_eq!(Summary::of(&[f64::NAN]), None);
        assert_eq!(min_max(&[1.0, f64::INFINITY]), Some((1.0, f64::INFINITY)));
    }
}

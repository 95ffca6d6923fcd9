//! Rotary position embedding (Su et al. 2021): frequencies at load, angles once per step.

use crate::load::Source;
use crate::{Model, ModelError, Scratch};
use formats::{Rope, RopeScaling, TensorDesc};
use ops::{Backend, Batch, math};
use std::ops::Range;

/// Radians per position of each pair, with the model's scaling for long contexts.
pub fn frequencies<F: Fn(&TensorDesc, Range<usize>) + Sync>(
    rope: &Rope,
    source: &mut Source<'_, F>,
) -> Result<Vec<f64>, ModelError> {
    let mut f = math::inverse_frequencies(f64::from(rope.base), rope.d_rot);
    match &rope.scaling {
        RopeScaling::None => {}
        RopeScaling::Linear { factor } => f.iter_mut().for_each(|f| *f /= f64::from(*factor)),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_ctx } => {
            let (low, high) = (f64::from(*low_freq_factor), f64::from(*high_freq_factor));
            f.iter_mut().for_each(|f| *f = llama3(*f, f64::from(*factor), low, high, *original_ctx as f64));
        }
        RopeScaling::Factors { tensor } => {
            let factors = source.floats(tensor, f.len())?;
            f.iter_mut().zip(factors).for_each(|(f, by)| *f /= f64::from(by));
        }
    }
    Ok(f)
}

/// Llama 3.1's stretching: wavelengths beyond `original / low` are scaled, those below `original / high` are not.
fn llama3(f: f64, factor: f64, low: f64, high: f64, original: f64) -> f64 {
    let wavelength = std::f64::consts::TAU / f;
    if wavelength < original / high {
        f
    } else if wavelength > original / low {
        f / factor
    } else {
        let smooth = (original / wavelength - low) / (high - low);
        (1.0 - smooth) * f / factor + smooth * f
    }
}

/// Cosines and sines of every row's position, `[rows, d_rot]`, for all layers of the step.
pub fn angles<B: Backend>(b: &mut B, model: &Model<B>, scratch: &mut Scratch<B>, batch: Batch<'_>) {
    let half = model.frequencies.len();
    for (row, out) in batch.rows.iter().zip(scratch.host_angles.chunks_exact_mut(2 * half)) {
        for (i, f) in model.frequencies.iter().enumerate() {
            let (sin, cos) = math::sin_cos(f64::from(row.pos) * f);
            out[i] = cos as f32;
            out[half + i] = sin as f32;
        }
    }
    b.put(&mut scratch.angles, batch.rows.len(), &scratch.host_angles);
}

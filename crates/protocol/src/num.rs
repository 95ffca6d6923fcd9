//! Numbers that cannot be out of range: made from a field by its check, read with `get`.

use crate::error::ApiError;
use crate::json::Field;
use base::limits;

macro_rules! ranged {
    ($(#[$doc:meta])* $name:ident, $min:expr, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name(f32);
        impl $name {
            /// Least value.
            pub const MIN: f64 = $min;
            /// Greatest value.
            pub const MAX: f64 = $max;
            /// Reads and checks.
            ///
            /// # Errors
            /// 400 that names the field and the range.
            pub fn read(field: &Field) -> Result<Self, ApiError> {
                let x = field.number(Self::MIN, Self::MAX)?;
                Ok(Self(x as f32))
            }
            /// The number.
            pub fn get(self) -> f32 {
                self.0
            }
        }
    };
}

ranged!(
    /// `temperature`: 0 (greedy) to 2.
    Temperature, 0.0, 2.0
);
ranged!(
    /// `min_p`: 0 (off) to 1.
    MinP, 0.0, 1.0
);
ranged!(
    /// `presence_penalty` and `frequency_penalty`: -2 to 2.
    Penalty, -2.0, 2.0
);
ranged!(
    /// `repetition_penalty` (vLLM, HF) or `repeat_penalty` (llama.cpp): 0.1 to 10, 1 is off.
    RepeatPenalty, 0.1, 10.0
);
ranged!(
    /// A value of `logit_bias`: -100 to 100.
    Bias, -100.0, 100.0
);

impl Temperature {
    /// The likeliest token.
    pub const GREEDY: Self = Self(0.0);
}

/// `top_p`: above 0, at most 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopP(f32);

impl TopP {
    /// Reads and checks.
    ///
    /// # Errors
    /// 400 that names the field and the range.
    pub fn read(field: &Field) -> Result<Self, ApiError> {
        let x = field.number(0.0, 1.0)?;
        if x == 0.0 {
            return Err(field.wrong_value("above 0 and at most 1 (for the likeliest token send temperature 0)"));
        }
        Ok(Self((x as f32).max(f32::MIN_POSITIVE)))
    }
    /// The number.
    pub fn get(self) -> f32 {
        self.0
    }
}

/// An integer of a field as `u32`, within `min..=max`.
///
/// # Errors
/// 400 that names the field and the range.
pub fn read_u32(field: &Field, min: u32, max: u32) -> Result<u32, ApiError> {
    let x = field.integer(min.into(), max.into())?;
    u32::try_from(x).map_err(|_| field.wrong_value("a smaller integer"))
}

/// `top_k`: -1 or 0 is off.
///
/// # Errors
/// 400 that names the field and the range.
pub fn read_top_k(field: &Field) -> Result<u32, ApiError> {
    let x = field.integer(-1, limits::VOCAB_MAX as i128)?;
    Ok(u32::try_from(x).unwrap_or(0))
}

/// `seed`: any 64-bit integer, signed or not.
///
/// # Errors
/// 400 that names the field and the range.
pub fn read_seed(field: &Field) -> Result<u64, ApiError> {
    let x = field.integer(i64::MIN.into(), u64::MAX.into())?;
    let signed = i64::try_from(x).map(i64::cast_unsigned);
    signed.or_else(|_| u64::try_from(x)).map_err(|_| field.wrong_value("a 64-bit integer"))
}

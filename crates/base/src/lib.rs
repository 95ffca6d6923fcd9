//! Ground floor: ids, limits, seeded randomness, a clock as a trait, plain data that two rooms exchange.
//! No IO, no threads, no `Instant::now`. Nothing else in the house may define a limit.
#![forbid(unsafe_code)]

pub mod clock;
pub mod ids;
pub mod limits;
pub mod rng;
pub mod vocab;

pub use clock::Clock;
pub use ids::{RequestId, TokenId};

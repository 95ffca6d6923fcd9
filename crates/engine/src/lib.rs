//! The hot loop as a pure state machine: (state, events) -> (state, effects). No clock, no IO, no randomness but a seed.
#![forbid(unsafe_code)]

pub mod api;
pub mod draft;
pub mod engine;
pub mod probe;
pub mod sampler;

pub use api::{Effect, Event, Finish, Info, Load, Logprobs, Refusal, Request, Sampling, Stepper};
pub use engine::{Config, Engine};
pub use probe::{Probe, Want};

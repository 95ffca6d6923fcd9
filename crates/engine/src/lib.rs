//! The hot loop as a pure state machine: (state, events) -> (state, effects). No clock, no IO, no randomness but a seed.
#![forbid(unsafe_code)]

pub mod api;
pub mod draft;
pub mod engine;
pub mod pages;
pub mod probe;
pub mod sampler;

pub use api::{
    Class, Constraint, Drafts, Effect, Event, Finish, Info, Load, Logprobs, Refusal, Request, SOURCES, Sampling,
    Stepper,
};
pub use engine::{Config, Engine};
pub use probe::{Probe, Want};

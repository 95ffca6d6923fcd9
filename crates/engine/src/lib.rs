//! The hot loop as a pure state machine: (state, events) -> (state, effects). No clock, no IO, no randomness but a seed.
#![forbid(unsafe_code)]

mod admit;
pub mod api;
mod choose;
pub mod draft;
pub mod engine;
mod gather;
pub mod lm;
pub mod pages;
pub mod probe;
mod queue;
pub mod sampler;
mod slot;

pub use api::{
    Class, Constraint, Drafts, Effect, Event, Finish, Info, Load, Logprobs, PageForm, Refusal, Request, SOURCES,
    Sampling, SavedPage, Stepper,
};
pub use engine::{Config, Engine};
pub use lm::{Lm, LmSizes, ModelLm};
pub use model::Picks;
pub use probe::{Probe, Want};

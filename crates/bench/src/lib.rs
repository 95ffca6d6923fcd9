//! Load and quality: what a user waits for, measured. `local` times the engine in this process, `remote` two servers
//! side by side over HTTP, `humaneval` asks for programs and runs them. A client of protocol (and of engine).
#![forbid(unsafe_code)]

pub mod ceiling;
mod error;
mod extract;
mod http;
pub mod humaneval;
pub mod kernels;
pub mod local;
mod prompts;
mod python;
pub mod remote;
pub mod roofline;
pub mod stats;
mod stream;

pub use error::BenchError;
pub use python::{Confinement, ProgramLimits, Verdict};

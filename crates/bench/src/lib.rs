//! Load and quality: what a user waits for, measured. `local` times the engine in this process, `remote` two servers
//! side by side over HTTP, `edits` on rewrites of real files, `load` under many requests at once; `humaneval` asks for
//! programs and runs them. A client of protocol (and of engine).
#![forbid(unsafe_code)]

pub mod ceiling;
mod data;
pub mod edits;
mod edits_report;
mod error;
mod extract;
pub mod fill;
pub mod humaneval;
pub mod kernels;
pub mod keystrokes;
pub mod latency;
pub mod load;
pub mod local;
mod processor;
mod prompts;
mod python;
mod python_random;
pub mod remote;
pub mod roofline;
pub mod serve;
mod similarity;
pub mod stats;
mod stream;
mod table;
pub mod top;
mod trace;
mod typist;

pub use error::BenchError;
pub use python::{Confinement, ProgramLimits, Verdict};

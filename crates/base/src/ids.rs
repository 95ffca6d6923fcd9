//! Names for numbers that must not be mixed up.

/// Index into the vocabulary, `0..n_vocab`.
pub type TokenId = u32;

/// One request for one sequence of tokens, unique within a running engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

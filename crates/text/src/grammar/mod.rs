//! Grammars: which tokens may come next, so that an answer is JSON of a schema, or follows a regular expression or a Lark
//! grammar.
//!
//! llguidance does the mathematics (an Earley parser over a lexer of derivatives, walked along a tree of all tokens); this
//! module bounds it, names what is wrong with a schema, and decides which tokens are forced. Grammars come from strangers:
//! compiling happens on a thread of its own, with a deep stack and with fuel, and panics of the library become errors.

mod compile;
mod matcher;
mod prelude;
pub(crate) mod schema;
#[cfg(test)]
mod tests;
mod trie;

use std::sync::Arc;

use base::limits;
use llguidance::ParserFactory;
use llguidance::api::ParserLimits;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::InferenceCapabilities;

pub use compile::GrammarSpec;
pub(crate) use compile::check;
pub use matcher::Matcher;

use crate::{TextError, Tokenizer};

/// Tokens that go on with a bare text between tags, all at once.
const SLICE_OF_TEXT: &str = "[^<]+";

/// What all grammars of one model share: the tree of its tokens. Built once; see docs/grammar.md for what that costs.
pub struct GrammarEngine {
    factory: ParserFactory,
    vocab: Arc<Vocab>,
}

impl GrammarEngine {
    /// Sorts the vocabulary into trees.
    ///
    /// # Errors
    /// `Limit` for vocabularies that are too large, `Grammar` if the library fails.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Result<Self, TextError> {
        let (vocab, env) = trie::build(tokenizer)?;
        let factory = compile::guarded(|| {
            let caps = InferenceCapabilities::default();
            let mut slices = SlicedBiasComputer::json_slices();
            slices.push(SLICE_OF_TEXT.to_owned());
            let mut factory = ParserFactory::new(&env, caps, &slices)?;
            factory.quiet();
            *factory.limits_mut() = parser_limits();
            Ok(factory)
        })?;
        Ok(Self { factory, vocab: Arc::new(vocab) })
    }

    /// Compiles a grammar. Takes milliseconds, so not on a thread that others wait for.
    ///
    /// # Errors
    /// `Limit`, or `Grammar` with the place in the schema where one is known.
    pub fn compile(&self, spec: &GrammarSpec<'_>) -> Result<Grammar, TextError> {
        let parser = compile::compile(&self.factory, spec)?;
        let mut start = Matcher::new(parser, Arc::clone(&self.vocab));
        // A schema can refer to itself for ever. The mask stays in the caches that copies begin with.
        if !start.allow(&mut vec![0; self.vocab.usable.len()]) && start.is_failed() {
            return Err(TextError::grammar("", "no text follows this grammar: it allows nothing to begin with"));
        }
        if let GrammarSpec::CallsAfter { marker, .. } = spec {
            start.begin_after(marker)?;
        }
        Ok(Grammar { start })
    }
}

impl std::fmt::Debug for GrammarEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrammarEngine").field("n_vocab", &self.vocab.tokenizer.n_vocab()).finish_non_exhaustive()
    }
}

/// A compiled grammar.
#[derive(Debug)]
pub struct Grammar {
    start: Matcher,
}

impl Grammar {
    /// A matcher for one answer, at its beginning.
    pub fn matcher(&self) -> Matcher {
        self.start.copy()
    }
}

/// The tokenizer as grammars see it.
struct Vocab {
    tokenizer: Arc<Tokenizer>,
    /// Bit t: token t is ordinary text or ends an answer. Nothing else may ever come.
    usable: Vec<u32>,
}

fn parser_limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: limits::GRAMMAR_ROW_ITEMS_MAX,
        initial_lexer_fuel: limits::GRAMMAR_FUEL_MAX,
        step_lexer_fuel: limits::GRAMMAR_STEP_FUEL_MAX,
        step_max_items: limits::GRAMMAR_STEP_ITEMS_MAX,
        max_lexer_states: limits::GRAMMAR_STATES_MAX,
        max_grammar_size: limits::GRAMMAR_SYMBOLS_MAX,
        precompute_large_lexemes: true,
        verbose_errors: false,
    }
}

//! `response_format`: the grammar that an answer must follow, as the engine asks for it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use base::TokenId;
use engine::api::Constraint;
use protocol::{ApiError, ResponseFormat};
use text::{Grammar, GrammarEngine, GrammarSpec, Matcher, TextError, Tokenizer};

/// Where in a request a schema stands.
const SCHEMA: &str = "response_format.json_schema.schema";

/// The trees of a model's tokens, made when the first request needs them: that takes a good part of a second.
#[derive(Default)]
pub(crate) struct Grammars(OnceLock<Result<GrammarEngine, TextError>>);

impl Grammars {
    /// The grammar of an answer, if it must follow one. Takes milliseconds: not for the reactor.
    ///
    /// # Errors
    /// 400 that names the place in the schema.
    pub(crate) fn compile(
        &self,
        tokenizer: &Arc<Tokenizer>,
        format: &ResponseFormat,
    ) -> Result<Option<Grammar>, ApiError> {
        let spec = match format {
            ResponseFormat::Text => return Ok(None),
            ResponseFormat::JsonObject => GrammarSpec::JsonObject,
            ResponseFormat::JsonSchema(schema) => GrammarSpec::JsonSchema(schema),
        };
        let engine = self.0.get_or_init(|| GrammarEngine::new(Arc::clone(tokenizer))).as_ref().map_err(|e| {
            let message = format!("This model's vocabulary cannot be used with `response_format`: {e}.");
            ApiError::field("response_format", "unsupported_value", message)
        })?;
        engine.compile(&spec).map(Some).map_err(|e| match &e {
            TextError::Grammar { path, .. } if !path.is_empty() => {
                ApiError::field(format!("{SCHEMA}.{path}"), "invalid_schema", format!("The schema: {e}."))
            }
            _ => ApiError::field(SCHEMA, "invalid_schema", format!("The schema cannot be used: {e}.")),
        })
    }
}

/// Whether a limit of the grammar ended an answer, which then is not complete. The engine only knows that it ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cut(Arc<AtomicBool>);

impl Cut {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// One answer under a grammar.
#[derive(Debug)]
struct Follow {
    matcher: Matcher,
    cut: Cut,
}

/// A constraint at the beginning of an answer.
pub(crate) fn constraint(grammar: &Grammar, cut: &Cut) -> Box<dyn Constraint> {
    Box::new(Follow { matcher: grammar.matcher(), cut: cut.clone() })
}

impl Constraint for Follow {
    fn allow(&mut self, mask: &mut [u32]) -> bool {
        let any = self.matcher.allow(mask);
        if !any && self.matcher.is_failed() {
            self.cut.0.store(true, Relaxed);
        }
        any
    }

    fn accept(&mut self, token: TokenId) {
        self.matcher.accept(token);
    }

    fn force(&mut self, tokens: &mut Vec<TokenId>) {
        self.matcher.force(tokens);
    }

    fn copy(&self) -> Box<dyn Constraint> {
        Box::new(Self { matcher: self.matcher.copy(), cut: self.cut.clone() })
    }
}

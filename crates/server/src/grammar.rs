//! `response_format`: the grammar that an answer must follow, as the engine asks for it.

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

/// One answer under a grammar.
#[derive(Debug)]
struct Follow(Matcher);

/// A constraint at the beginning of an answer.
pub(crate) fn constraint(grammar: &Grammar) -> Box<dyn Constraint> {
    Box::new(Follow(grammar.matcher()))
}

impl Constraint for Follow {
    fn allow(&mut self, mask: &mut [u32]) -> bool {
        self.0.allow(mask)
    }

    fn accept(&mut self, token: TokenId) {
        self.0.accept(token);
    }

    fn force(&mut self, tokens: &mut Vec<TokenId>) {
        self.0.force(tokens);
    }

    fn copy(&self) -> Box<dyn Constraint> {
        Box::new(Self(self.0.copy()))
    }
}

//! The grammar that an answer must follow, as the engine asks for it; compiled grammars are kept, because clients send the
//! same schema with every request.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use base::TokenId;
use base::limits::GRAMMARS_KEPT_MAX;
use engine::api::Constraint;
use protocol::{ApiError, ResponseFormat};
use text::{Grammar, GrammarEngine, GrammarSpec, Matcher, TextError, Tokenizer};

/// Where in a request a schema stands.
const SCHEMA: &str = "response_format.json_schema.schema";

/// The trees of a model's tokens, made when the first request needs them: that takes a good part of a second. And the
/// grammars compiled last.
#[derive(Default)]
pub(crate) struct Grammars {
    engine: OnceLock<Result<GrammarEngine, TextError>>,
    /// The one used last stands last.
    kept: Mutex<Vec<Kept>>,
}

/// A grammar by its language and text: the whole text, because hashes of strangers' texts may collide on purpose.
struct Kept {
    language: u8,
    text: String,
    grammar: Arc<Grammar>,
}

impl Grammars {
    /// Compiles, or finds what was compiled before. Takes milliseconds: not for the reactor.
    ///
    /// # Errors
    /// Outside: the model cannot follow grammars. Inside: what is wrong with this one.
    pub(crate) fn compile(
        &self,
        tokenizer: &Arc<Tokenizer>,
        spec: &GrammarSpec<'_>,
    ) -> Result<Result<Arc<Grammar>, TextError>, ApiError> {
        let engine = self.engine.get_or_init(|| GrammarEngine::new(Arc::clone(tokenizer))).as_ref().map_err(|e| {
            let message =
                format!("This model's vocabulary cannot be used with `response_format` or forced calls: {e}.");
            ApiError::field("response_format", "unsupported_value", message)
        })?;
        let (language, text) = spec.key();
        if let Some(grammar) = self.find(language, text) {
            return Ok(Ok(grammar));
        }
        let compiled = engine.compile(spec).map(Arc::new);
        if let Ok(grammar) = &compiled {
            let grammar = Arc::clone(grammar);
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() == GRAMMARS_KEPT_MAX {
                kept.remove(0);
            }
            kept.push(Kept { language, text: text.to_owned(), grammar });
        }
        Ok(compiled)
    }

    fn find(&self, language: u8, text: &str) -> Option<Arc<Grammar>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|k| k.language == language && k.text == text)?;
        kept[at..].rotate_left(1);
        kept.last().map(|k| Arc::clone(&k.grammar))
    }

    /// The grammar of an answer without tools, if it must follow one.
    ///
    /// # Errors
    /// 400 that names the place in the schema.
    pub(crate) fn of_format(
        &self,
        tokenizer: &Arc<Tokenizer>,
        format: &ResponseFormat,
    ) -> Result<Option<Arc<Grammar>>, ApiError> {
        let Some(spec) = spec_of(format) else { return Ok(None) };
        self.compile(tokenizer, &spec)?.map(Some).map_err(|e| match &e {
            TextError::Grammar { path, .. } if !path.is_empty() => {
                ApiError::field(format!("{SCHEMA}.{path}"), "invalid_schema", format!("The schema: {e}."))
            }
            _ => ApiError::field(SCHEMA, "invalid_schema", format!("The schema cannot be used: {e}.")),
        })
    }
}

/// What a format asks for, to be compiled.
pub(crate) fn spec_of(format: &ResponseFormat) -> Option<GrammarSpec<'_>> {
    match format {
        ResponseFormat::Text => None,
        ResponseFormat::JsonObject => Some(GrammarSpec::JsonObject),
        ResponseFormat::JsonSchema(schema) => Some(GrammarSpec::JsonSchema(schema)),
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

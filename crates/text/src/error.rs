//! What can go wrong with tokens and templates, said so that the reader knows what to change.

/// An error of this crate. Messages name the field, line or limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// The vocabulary names a pre-tokenizer that is not built in.
    #[error("unknown pre-tokenizer \"{name}\" (tokenizer.ggml.pre); known: {known}. Use a model with one of these")]
    UnknownPre {
        /// As the file has it.
        name: String,
        /// All names that are understood.
        known: String,
    },
    /// Two parts of a vocabulary contradict each other.
    #[error("bad vocabulary: {field}: {reason}")]
    Vocab {
        /// Field of the vocabulary.
        field: &'static str,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// A merge is not two pieces with a space between them.
    #[error("bad vocabulary: merges[{rank}] is \"{text}\"; expected two pieces with a space between them")]
    BadMerge {
        /// Index in the merges.
        rank: usize,
        /// The entry.
        text: String,
    },
    /// Something is larger than a limit from `base::limits` allows.
    #[error("{what} is {got}, above the limit {limit} = {max}")]
    Limit {
        /// What was measured.
        what: &'static str,
        /// Name of the constant.
        limit: &'static str,
        /// Its value.
        max: usize,
        /// What was found; at least this much where measuring stopped early.
        got: usize,
    },
    /// A chat template cannot be parsed.
    #[error("chat template, line {line}: {reason}")]
    TemplateSyntax {
        /// Line of the source, from 1.
        line: usize,
        /// The parser's complaint.
        reason: String,
    },
    /// A chat template failed while it ran.
    #[error("chat template, line {line}: {reason}")]
    TemplateRender {
        /// Line of the source, from 1; 0 where none is known.
        line: usize,
        /// What failed.
        reason: String,
    },
    /// A chat template called `raise_exception`: it refuses these messages.
    #[error("the model's chat template refuses this conversation: {message}")]
    TemplateRaised {
        /// The template's own words.
        message: String,
    },
    /// A chat template used more than its share of steps, memory or depth.
    #[error("chat template stopped: it would pass the limit {limit} = {max}; use another template")]
    TemplateLimit {
        /// Name of the constant.
        limit: &'static str,
        /// Its value.
        max: u64,
    },
    /// A grammar or JSON schema cannot be compiled.
    #[error("{reason}")]
    Grammar {
        /// Where in a JSON schema, as a path such as `properties.name.not`; empty where no place is known.
        path: String,
        /// What is wrong, and what to change.
        reason: String,
    },
}

impl TextError {
    pub(crate) fn vocab(field: &'static str, reason: impl Into<String>) -> Self {
        TextError::Vocab { field, reason: reason.into() }
    }

    pub(crate) fn grammar(path: impl Into<String>, reason: impl Into<String>) -> Self {
        TextError::Grammar { path: path.into(), reason: reason.into() }
    }
}

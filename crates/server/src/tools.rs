//! Tools in a request: the form in which the model writes calls, the grammar that it must follow, and calls read out of an
//! answer as it comes, for whichever endpoint writes them.

use std::sync::Arc;

use base::TokenId;
use protocol::tools::CallKind;
use protocol::{ApiError, CustomGrammar, ResponseFormat, Tool, ToolChoice, ToolKind, Tools};
use text::{
    Calls, Grammar, GrammarSpec, TextError, TextGrammar, ToolGrammar, ToolInput, ToolParser, ToolPart, ToolPlan,
    ToolSpec,
};

use crate::grammar::spec_of;
use crate::kit::TextKit;

/// The tools of a request, and how its answers are made and read.
#[derive(Debug)]
pub(crate) struct ToolSet {
    specs: Vec<ToolSpec>,
    plan: ToolPlan,
    /// The answer is calls and nothing else, so what is no whole call was cut off.
    is_forced: bool,
    /// Special tokens that mark calls, and are text to the parser.
    marks: Arc<[TokenId]>,
}

/// What an answer with tools says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Text.
    Text(String),
    /// A call begins: the n-th of its choice.
    Call { place: u32, id: String, kind: CallKind, name: String },
    /// More of its arguments or input.
    Input { place: u32, kind: CallKind, text: String },
    /// It ends.
    End { place: u32 },
}

impl ToolSet {
    /// `None` where there are no tools.
    ///
    /// # Errors
    /// 400: a schema that cannot be used for a call that must be right.
    pub(crate) fn new(kit: &TextKit, tools: &Tools, answer: &ResponseFormat) -> Result<Option<Self>, ApiError> {
        if tools.list.is_empty() {
            return Ok(None);
        }
        let specs: Vec<ToolSpec> = tools.list.iter().map(spec).collect();
        let calls = match &tools.choice {
            ToolChoice::Auto | ToolChoice::None => Calls::Auto,
            ToolChoice::Required => Calls::Required,
            ToolChoice::Named(name) => match specs.iter().position(|s| s.name == *name) {
                Some(at) => Calls::Named(at),
                None => return Err(ApiError::internal("A tool choice was not checked.")),
            },
        };
        let plan = kit.tool_format.plan(&specs, calls, tools.parallel, spec_of(answer).as_ref());
        let plan = plan.map_err(|(at, e)| refused(&tools.list[at], at, &e))?;
        let is_forced = calls != Calls::Auto;
        Ok(Some(Self { specs, plan, is_forced, marks: Arc::clone(&kit.tool_marks) }))
    }

    /// The grammar of the answer, if it must follow one. Takes milliseconds.
    ///
    /// # Errors
    /// 400 that names the tool whose schema or grammar cannot be used.
    pub(crate) fn grammar(&self, kit: &TextKit, tools: &Tools) -> Result<Option<Arc<Grammar>>, ApiError> {
        let Some(grammar) = &self.plan.grammar else { return Ok(None) };
        let error = match kit.grammars.compile(&kit.tokenizer, &grammar.spec())? {
            Ok(compiled) => return Ok(Some(compiled)),
            Err(e) => e,
        };
        // Whose fault was it? Each is tried alone, until one fails.
        for (at, (tool, spec)) in tools.list.iter().zip(&self.specs).enumerate() {
            let alone = match (grammar, &spec.input) {
                (ToolGrammar::Raw(raw), ToolInput::Text(Some(own))) if raw == own => Err(error.clone()),
                (ToolGrammar::Calls(_) | ToolGrammar::CallsAfter { .. }, ToolInput::Json(Some(schema))) => {
                    let schema = schema.to_string();
                    kit.grammars.compile(&kit.tokenizer, &GrammarSpec::JsonSchema(&schema))?.map(|_| ())
                }
                _ => Ok(()),
            };
            if let Err(e) = alone {
                return Err(refused(tool, at, &e));
            }
        }
        let message = format!("These tools cannot be used together: {error}. Send fewer, or do not force a call.");
        Err(ApiError::field("tools", "invalid_schema", message))
    }

    /// A reader for one answer; `ids` makes the ids of its calls differ from all others.
    pub(crate) fn reader(&self, ids: [u64; 2]) -> Reader {
        let kinds = self.specs.iter().filter(|s| matches!(s.input, ToolInput::Text(_))).map(|s| s.name.clone());
        Reader {
            parser: self.plan.parser(&self.specs),
            custom: kinds.collect(),
            is_forced: self.is_forced,
            marks: Arc::clone(&self.marks),
            ids,
            place: 0,
            kind: CallKind::Function,
            parts: Vec::new(),
        }
    }
}

/// Reads the calls of one choice.
#[derive(Debug)]
pub(crate) struct Reader {
    parser: ToolParser,
    /// Names of tools that take text.
    custom: Vec<String>,
    is_forced: bool,
    marks: Arc<[TokenId]>,
    ids: [u64; 2],
    place: u32,
    kind: CallKind,
    parts: Vec<ToolPart>,
}

impl Reader {
    /// A special token whose text marks calls.
    pub(crate) fn is_mark(&self, token: TokenId) -> bool {
        self.marks.contains(&token)
    }

    /// The only call that was allowed has come.
    pub(crate) fn is_over(&self) -> bool {
        self.parser.is_over()
    }

    /// There was a call.
    pub(crate) fn has_called(&self) -> bool {
        self.parser.n_calls() > 0
    }

    /// A call has begun and its end has not come.
    pub(crate) fn is_in_call(&self) -> bool {
        self.parser.is_in_call()
    }

    /// More of the answer.
    pub(crate) fn push(&mut self, text: &str, said: &mut Vec<Said>) {
        if !text.is_empty() {
            self.parser.push(text, &mut self.parts);
            self.tell(said);
        }
    }

    /// Its end.
    pub(crate) fn finish(&mut self, said: &mut Vec<Said>) {
        self.parser.finish(&mut self.parts);
        self.tell(said);
    }

    fn tell(&mut self, said: &mut Vec<Said>) {
        let is_forced = self.is_forced;
        for part in self.parts.drain(..).filter(|part| !is_forced || !matches!(part, ToolPart::Text(_))) {
            said.push(match part {
                ToolPart::Text(text) => Said::Text(text),
                ToolPart::Begin { name } => {
                    self.kind = if self.custom.contains(&name) { CallKind::Custom } else { CallKind::Function };
                    let [a, b] = self.ids;
                    let id = format!("call_{a:016x}{:08x}", (b as u32).wrapping_add(self.place));
                    Said::Call { place: self.place, id, kind: self.kind, name }
                }
                ToolPart::Arguments(text) => Said::Input { place: self.place, kind: self.kind, text },
                ToolPart::End => {
                    self.place += 1;
                    Said::End { place: self.place - 1 }
                }
            });
        }
    }
}

fn spec(tool: &Tool) -> ToolSpec {
    let input = match &tool.kind {
        ToolKind::Function { parameters } => ToolInput::Json(parameters.clone()),
        ToolKind::Custom { grammar } => ToolInput::Text(grammar.as_ref().map(|g| match g {
            CustomGrammar::Lark(text) => TextGrammar::Lark(text.clone()),
            CustomGrammar::Regex(text) => TextGrammar::Regex(text.clone()),
        })),
    };
    ToolSpec { name: tool.name.clone(), input, strict: tool.strict, is_allowed: tool.is_allowed }
}

/// An error in what a tool takes.
fn refused(tool: &Tool, at: usize, e: &TextError) -> ApiError {
    let (place, code) = match tool.kind {
        ToolKind::Function { .. } => (format!("tools[{at}].function.parameters"), "invalid_schema"),
        ToolKind::Custom { .. } => (format!("tools[{at}].custom.format.grammar.definition"), "invalid_grammar"),
    };
    let place = match e {
        TextError::Grammar { path, .. } if !path.is_empty() => format!("{place}.{path}"),
        _ => place,
    };
    ApiError::field(place, code, format!("The tool {:?} cannot be used for a call that must be right: {e}.", tool.name))
}

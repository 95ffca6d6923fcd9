//! From tokens to text: one `Choice` per sequence turns the engine's news into pieces of answer. Streams and whole
//! answers are made from the same pieces, so they cannot differ.

use base::TokenId;
use engine::api::{Drafts, Finish, Logprobs, Refusal};
use keys::{Permit, Tokens};
use protocol::chat::{ChatLogprobs, TokenLogprob};
use protocol::chunks::Shape;
use protocol::completion::CompletionLogprobs;
use protocol::generate::finite_logprob;
use protocol::{ApiError, FinishReason, Timings, Usage};
use std::sync::Arc;
use std::time::{Duration, Instant};
use text::TextStream;

use crate::grammar::Cut;
use crate::infill::Bounds;
use crate::kit::TextKit;
use crate::runner::{News, Note, Ticket};
use crate::timing::{Clock, Counts};
use crate::tools::{Reader, Said};
use crate::trace::{self, Trace};

/// Place of OpenAI's `prediction` among `engine::api::SOURCES`.
const PREDICTION: usize = 0;

/// What a choice says next.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    pub(crate) choice: usize,
    /// As the model wrote it, calls and all.
    pub(crate) text: String,
    /// The same as text and calls, where the request has tools.
    pub(crate) said: Vec<Said>,
    pub(crate) logprobs: Vec<Scored>,
    pub(crate) finish: Option<FinishReason>,
}

/// A token and how likely it was.
#[derive(Debug)]
pub(crate) struct Scored {
    token: TokenId,
    logprobs: Box<Logprobs>,
    /// Where its text ends in the answer, in bytes.
    end: usize,
}

/// How a choice has come out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ending {
    pub(crate) n_prompt: u64,
    pub(crate) n_tokens: u64,
    pub(crate) finish: Option<FinishReason>,
    /// The stop string that ended it.
    pub(crate) word: Option<usize>,
}

struct Choice {
    text: TextStream,
    prompt: usize,
    /// Set when a limit of its grammar ended it.
    cut: Cut,
    n_tokens: u64,
    n_prompt: u64,
    n_cached: u64,
    is_done: bool,
    finish: Option<FinishReason>,
    /// The stop string that ended it.
    word: Option<usize>,
    bounds: Bounds,
    /// Where the request has tools.
    reader: Option<Reader>,
    /// A stop string has ended it, and the engine has yet to say what became of the drafts.
    is_closing: bool,
    drafts: Drafts,
    scored: Vec<Scored>,
    /// Bytes of tokens that came, and of text that was given out.
    seen: usize,
    given: usize,
}

/// All choices of a request.
pub(crate) struct Answer {
    choices: Vec<Choice>,
    clock: Clock,
    /// The client sent a prediction and is told what became of it. So a choice that a stop string ended waits for the
    /// engine's last word, at most a step; without a prediction nobody waits, and the drafts of such a choice are not told.
    tells_drafts: bool,
    /// Last field but one to go: dropping it cancels what still runs.
    ticket: Ticket,
    kit: Arc<TextKit>,
    /// Its part of the key's quotas, settled when the answer is dropped.
    permit: Option<Permit>,
    /// Told when the answer is dropped.
    trace: Option<Arc<Trace>>,
    submitted: Instant,
}

impl Answer {
    /// `choices[i]` is the place of choice i's prompt, and whether a grammar cut it; choices of one prompt count it once.
    ///
    /// # Errors
    /// Stop strings that cannot be.
    pub(crate) fn new(
        kit: &Arc<TextKit>,
        stops: &[String],
        choices: &[(usize, Cut)],
        tells_drafts: bool,
        clock: Clock,
        ticket: Ticket,
    ) -> Result<Self, ApiError> {
        let text = TextStream::new(stops, false)
            .map_err(|e| ApiError::field("stop", "invalid_value", format!("{e}. Send less.")))?;
        let choice = |(prompt, cut): &(usize, Cut)| Choice {
            text: text.clone(),
            prompt: *prompt,
            cut: cut.clone(),
            n_tokens: 0,
            n_prompt: 0,
            n_cached: 0,
            is_done: false,
            finish: None,
            word: None,
            bounds: Bounds::default(),
            reader: None,
            is_closing: false,
            drafts: Drafts::default(),
            scored: Vec::new(),
            seen: 0,
            given: 0,
        };
        Ok(Self {
            choices: choices.iter().map(choice).collect(),
            clock,
            tells_drafts,
            ticket,
            kit: Arc::clone(kit),
            permit: None,
            trace: trace::current(),
            submitted: Instant::now(),
        })
    }

    /// Its tokens count for this.
    pub(crate) fn hold(&mut self, permit: Option<Permit>) {
        self.permit = permit;
    }

    /// Ends its choices also by their lines and by time.
    pub(crate) fn bound(&mut self, bounds: &Bounds) {
        self.choices.iter_mut().for_each(|c| c.bounds = bounds.clone());
    }

    /// Reads calls of tools out of its choices.
    pub(crate) fn read_calls(&mut self, mut reader: impl FnMut() -> Reader) {
        self.choices.iter_mut().for_each(|c| c.reader = Some(reader()));
    }

    /// Pieces come as `said`, not as text alone.
    pub(crate) fn has_tools(&self) -> bool {
        self.choices.first().is_some_and(|c| c.reader.is_some())
    }

    /// How a choice has come out, so far.
    pub(crate) fn ending(&self, index: usize) -> Ending {
        self.choices.get(index).map_or_else(Ending::default, |c| Ending {
            n_prompt: c.n_prompt,
            n_tokens: c.n_tokens,
            finish: c.finish,
            word: c.word,
        })
    }

    /// How many choices.
    pub(crate) fn len(&self) -> usize {
        self.choices.len()
    }

    /// All choices have ended.
    pub(crate) fn is_done(&self) -> bool {
        self.choices.iter().all(|c| c.is_done)
    }

    /// What this note adds to the answer, if anything.
    ///
    /// # Errors
    /// The request as a whole has failed.
    pub(crate) fn take(&mut self, note: Note) -> Result<Option<Piece>, ApiError> {
        let (index, began) = (note.choice, Instant::now());
        if index == 0 {
            self.clock.take(&note);
        }
        let piece = self.read(note);
        if index == 0 {
            self.clock.detokenized(began.elapsed());
        }
        piece
    }

    fn read(&mut self, note: Note) -> Result<Option<Piece>, ApiError> {
        let (index, at) = (note.choice, note.at);
        let Some(choice) = self.choices.get_mut(index).filter(|c| !c.is_done) else { return Ok(None) };
        let mut piece = Piece { choice: index, ..Piece::default() };
        match note.news {
            News::Admitted => return Ok(None),
            News::Prefilled { n_prompt, n_cached } => {
                if choice.n_prompt == 0 {
                    // After a preemption it comes again.
                    (choice.n_prompt, choice.n_cached) = (n_prompt as u64, n_cached as u64);
                }
                return Ok(None);
            }
            News::Tokens(_) | News::Scored { .. } if choice.is_closing => return Ok(None),
            News::Tokens(tokens) => {
                let is_stopped = choice.tokens(&self.kit, &tokens, at, &mut piece);
                if choice.read(&mut piece) || is_stopped {
                    self.stop(index, &mut piece);
                }
            }
            News::Scored { token, logprobs } => {
                let is_stopped = choice.scored(&self.kit, token, logprobs, at, &mut piece);
                if choice.read(&mut piece) || is_stopped {
                    self.stop(index, &mut piece);
                }
            }
            News::Finished(_, drafts) if choice.is_closing => {
                choice.drafts = *drafts;
                choice.close(&mut piece);
            }
            News::Failed if choice.is_closing => choice.close(&mut piece),
            News::Finished(Finish::Cancelled, _) => return Err(ApiError::internal("The request was cancelled.")),
            News::Finished(reason, drafts) => {
                self.ticket.ended(index);
                choice.drafts = *drafts;
                let is_whole = reason == Finish::StopToken && !choice.cut.is_set();
                let reason = if is_whole { FinishReason::Stop } else { FinishReason::Length };
                choice.end(reason, at, &mut piece);
                choice.read(&mut piece);
            }
            News::Refused(why) => return Err(refused(why, self.ticket.retry_after_s())),
            News::Failed => {
                self.ticket.ended(index);
                return Err(ApiError::internal("The engine failed on this request; the server goes on. Try again."));
            }
        }
        if let Some(choice) = self.choices.get_mut(index).filter(|_| piece.finish.is_some()) {
            choice.end_reading(&mut piece);
        }
        Ok((!piece.text.is_empty() || piece.finish.is_some() || !piece.logprobs.is_empty()).then_some(piece))
    }

    /// A stop string or a bound has come.
    fn stop(&mut self, index: usize, piece: &mut Piece) {
        self.ticket.cancel(index);
        let Some(choice) = self.choices.get_mut(index) else { return };
        if self.tells_drafts {
            choice.is_closing = true;
        } else {
            choice.close(piece);
        }
    }

    /// Ends the only choice here and now; the text that was held back, if any.
    pub(crate) fn interrupt(&mut self) -> Piece {
        let mut piece = Piece::default();
        self.ticket.cancel(0);
        if let Some(choice) = self.choices.first_mut().filter(|c| !c.is_done) {
            choice.end(FinishReason::Stop, Instant::now(), &mut piece);
            choice.read(&mut piece);
            choice.end_reading(&mut piece);
        }
        piece
    }

    /// It failed after its beginning was sent.
    pub(crate) fn failed(&self, error: &ApiError) {
        if let Some(trace) = self.trace.as_ref().filter(|_| error.status >= 500) {
            trace.failed();
        }
    }

    /// What a trace says of it.
    fn tell(&self, trace: &Trace) {
        for (name, from, to) in self.clock.parts(self.submitted) {
            trace.part(name, from, to);
        }
        let reasons = self.choices.iter().filter_map(|c| serde_json::to_value(c.finish?).ok());
        trace.generated(&self.usage(), reasons.collect());
    }

    /// Token counts so far.
    pub(crate) fn usage(&self) -> Usage {
        let (mut prompt, mut cached, mut seen) = (0, 0, None);
        for c in &self.choices {
            if seen != Some(c.prompt) {
                prompt += c.n_prompt;
                cached += c.n_cached;
                seen = Some(c.prompt);
            }
        }
        let sum = |of: fn(&Choice) -> u64| self.choices.iter().map(of).sum::<u64>();
        let offered = sum(|c| c.drafts.offered[PREDICTION]);
        // What was kept and then cut off by a stop string is not in the answer, so the client's prediction of it was wrong.
        let accepted = sum(|c| c.drafts.accepted[PREDICTION].min(c.n_tokens));
        Usage::new(prompt, cached, sum(|c| c.n_tokens)).with_prediction(accepted, offered.saturating_sub(accepted))
    }

    /// Times so far, of the first choice.
    pub(crate) fn timings(&self) -> Timings {
        let Some(c) = self.choices.first() else { return Timings::default() };
        self.clock.timings(&Counts {
            n_prompt: c.n_prompt,
            n_cached: c.n_cached,
            n_tokens: c.n_tokens,
            n_drafted: c.drafts.offered.iter().sum(),
            n_accepted: c.drafts.accepted.iter().sum(),
        })
    }

    /// Writing its events took this long.
    pub(crate) fn encoded(&mut self, took: Duration) {
        self.clock.encoded(took);
    }

    /// Log-probabilities as the chat endpoint writes them.
    pub(crate) fn chat_logprobs(&self, scored: &[Scored]) -> ChatLogprobs {
        let token = |id: TokenId, logprob: f32, top| {
            let bytes = self.kit.token_bytes(id);
            TokenLogprob {
                token: String::from_utf8_lossy(bytes).into_owned(),
                logprob: finite_logprob(logprob),
                bytes: Some(bytes.to_vec()),
                top_logprobs: top,
            }
        };
        let content = |s: &Scored| {
            let top = best(s).iter().map(|(id, p)| token(*id, *p, None)).collect();
            token(s.token, s.logprobs.chosen, Some(top))
        };
        ChatLogprobs { content: scored.iter().map(content).collect() }
    }

    /// Log-probabilities as the completions endpoint writes them; `offset` counts the characters so far.
    pub(crate) fn completion_logprobs(&self, scored: &[Scored], offset: &mut u64) -> CompletionLogprobs {
        let mut out = CompletionLogprobs::default();
        let show = |id| String::from_utf8_lossy(self.kit.token_bytes(id)).into_owned();
        for s in scored {
            let text = show(s.token);
            out.text_offset.push(*offset);
            *offset += text.chars().count() as u64;
            out.tokens.push(text);
            out.token_logprobs.push(finite_logprob(s.logprobs.chosen));
            let mut top = std::collections::BTreeMap::new();
            for (id, p) in best(s) {
                top.entry(show(*id)).or_insert(finite_logprob(*p)); // the likeliest of those that read the same
            }
            out.top_logprobs.push(top);
        }
        out
    }
}

/// However it ends, whole or cut short: what was computed was used.
impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(trace) = self.trace.take() {
            self.tell(&trace);
        }
        let Some(permit) = self.permit.take() else { return };
        let usage = self.usage();
        // Who leaves during prefill has had the work done, but nobody said how many tokens it was.
        let is_unsaid = usage.prompt_tokens == 0 && self.clock.is_admitted();
        let input = if is_unsaid { permit.estimate().prompt } else { usage.prompt_tokens };
        permit.settle(Tokens {
            input,
            cached_input: usage.prompt_tokens_details.map_or(0, |d| d.cached_tokens),
            output: usage.completion_tokens,
            accepted_prediction: usage.completion_tokens_details.map_or(0, |d| d.accepted_prediction_tokens),
        });
    }
}

fn best(s: &Scored) -> &[(TokenId, f32)] {
    s.logprobs.top.get(..usize::from(s.logprobs.n)).unwrap_or_default()
}

impl Choice {
    /// True if a stop string or a bound ends the choice; what follows it counts for nothing.
    fn tokens(&mut self, kit: &TextKit, tokens: &[TokenId], at: Instant, piece: &mut Piece) -> bool {
        let before = piece.text.len();
        let is_stopped = tokens.iter().any(|token| {
            self.n_tokens += 1;
            let from = piece.text.len();
            let word = match self.is_mark(*token) {
                true => self.text.push_bytes(kit.token_bytes(*token), &mut piece.text).stopped,
                false => self.text.push(&kit.tokenizer, *token, &mut piece.text).stopped,
            };
            self.stops(word, from, at, &mut piece.text)
        });
        self.given += piece.text.len() - before;
        is_stopped
    }

    /// Does this stop string, or a bound within the text from `from` on, end the choice?
    fn stops(&mut self, word: Option<usize>, from: usize, at: Instant, text: &mut String) -> bool {
        if self.bounds.end(text, from, at) {
            self.finish = Some(FinishReason::Length);
        } else if word.is_some() {
            (self.finish, self.word) = (Some(FinishReason::Stop), word);
        }
        self.finish.is_some()
    }

    /// The same as `tokens` for one token with its log-probabilities.
    fn scored(
        &mut self,
        kit: &TextKit,
        token: TokenId,
        logprobs: Box<Logprobs>,
        at: Instant,
        piece: &mut Piece,
    ) -> bool {
        let is_stopped = self.tokens(kit, &[token], at, piece);
        self.seen += if self.is_mark(token) { kit.token_bytes(token).len() } else { kit.shown_bytes(token) };
        self.scored.push(Scored { token, logprobs, end: self.seen });
        // Tokens whose text is held back are reported when it is given out; those of a stop string never.
        let ready = self.scored.iter().take_while(|s| s.end <= self.given).count();
        piece.logprobs.extend(self.scored.drain(..ready));
        is_stopped
    }

    fn is_mark(&self, token: TokenId) -> bool {
        self.reader.as_ref().is_some_and(|r| r.is_mark(token))
    }

    /// Reads calls out of a piece's text. True if the only call that was allowed has come.
    fn read(&mut self, piece: &mut Piece) -> bool {
        let Some(reader) = &mut self.reader else { return false };
        reader.push(&piece.text, &mut piece.said);
        let is_over = reader.is_over();
        if is_over {
            self.finish.get_or_insert(FinishReason::ToolCalls);
        }
        is_over
    }

    /// The choice has ended: with calls, unless something cut it.
    fn end_reading(&mut self, piece: &mut Piece) {
        let Some(reader) = &mut self.reader else { return };
        let is_cut = self.word.is_some() && reader.is_in_call();
        reader.finish(&mut piece.said);
        if reader.has_called() && !is_cut && self.finish == Some(FinishReason::Stop) {
            self.finish = Some(FinishReason::ToolCalls);
            piece.finish = self.finish;
        }
    }

    /// A stop string or a bound has ended it.
    fn close(&mut self, piece: &mut Piece) {
        self.is_done = true;
        piece.finish = self.finish;
    }

    fn end(&mut self, reason: FinishReason, at: Instant, piece: &mut Piece) {
        let from = piece.text.len();
        let word = self.text.finish(&mut piece.text).stopped;
        self.stops(word, from, at, &mut piece.text);
        self.given += piece.text.len();
        piece.logprobs.append(&mut self.scored);
        self.is_done = true;
        piece.finish = Some(*self.finish.get_or_insert(reason));
    }
}

/// What the engine refuses, said to a client. We check before, so only a full queue is expected.
pub(crate) fn refused(why: Refusal, retry_after_s: u32) -> ApiError {
    match why {
        Refusal::QueueFull => queue_full(retry_after_s),
        Refusal::EmptyPrompt => ApiError::field("prompt", "empty_prompt", "The prompt has no tokens. Send some text."),
        Refusal::PromptTooLong => {
            ApiError::bad_request("context_length_exceeded", "The prompt does not fit into the context. Shorten it.")
        }
        Refusal::BadToken => {
            ApiError::bad_request("invalid_value", "A token id is not in this model's vocabulary. Send valid ids.")
        }
        Refusal::BadParameter => {
            ApiError::bad_request("invalid_value", "A parameter is out of the engine's range. Send defaults.")
        }
    }
}

pub(crate) fn queue_full(retry_after_s: u32) -> ApiError {
    let message = format!("As many requests are waiting as may. Try again in {retry_after_s} s.");
    ApiError::too_many("queue_full", message, retry_after_s)
}

/// Names of the two shapes.
pub(crate) fn id_prefix(shape: Shape) -> &'static str {
    match shape {
        Shape::Chat => "chatcmpl",
        Shape::Completion => "cmpl",
    }
}

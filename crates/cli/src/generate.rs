//! One request through an engine on the calling thread, streamed as text: `vonk run`, `vonk fim`, the demonstration of `vonk up`.

use crate::args::Sampling as SamplingArgs;
use crate::fault::Fault;
use base::{RequestId, TokenId};
use engine::{Effect, Event, Finish, Request, Sampling, Stepper};
use serde::Serialize;
use server::TextKit;
use std::io::Write;
use std::time::Instant;
use text::TextStream;

/// What came out, and how fast.
#[derive(Serialize)]
pub struct Outcome {
    /// The text.
    pub text: String,
    /// `stop`, `length`.
    pub finish_reason: &'static str,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens generated.
    pub completion_tokens: usize,
    /// Milliseconds to the first token.
    pub ttft_ms: f64,
    /// Tokens per second after the first.
    pub tps: f64,
    /// Tokens over the whole time.
    pub effective_tps: f64,
}

impl Outcome {
    /// One line of figures.
    pub fn figures(&self) -> String {
        let Self { prompt_tokens, completion_tokens, ttft_ms, tps, effective_tps, .. } = self;
        format!(
            "{prompt_tokens} prompt tokens, {completion_tokens} generated: ttft {ttft_ms:.0} ms, {tps:.1} tok/s after the \
             first, effective {effective_tps:.1} tok/s"
        )
    }
}

/// Sampling options as the engine wants them.
pub fn sampling(args: &SamplingArgs) -> Result<Sampling, Fault> {
    let check = |ok: bool, what: &str| if ok { Ok(()) } else { Err(Fault::input(what)) };
    check((0.0..=2.0).contains(&args.temperature), "--temperature must be between 0 and 2")?;
    check(args.top_p > 0.0 && args.top_p <= 1.0, "--top-p must be above 0 and at most 1")?;
    check((0.0..=1.0).contains(&args.min_p), "--min-p must be between 0 and 1")?;
    check(args.repeat_penalty > 0.0 && args.repeat_penalty <= 10.0, "--repeat-penalty must be above 0 and at most 10")?;
    Ok(Sampling {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        repeat_penalty: args.repeat_penalty,
        seed: args.seed,
        ..Sampling::default()
    })
}

/// Runs one prompt to its end; `show` gets the text as it becomes certain.
pub fn generate(
    engine: &mut dyn Stepper,
    text: &TextKit,
    prompt: Vec<TokenId>,
    args: &SamplingArgs,
    show: &mut dyn FnMut(&str) -> std::io::Result<()>,
) -> Result<Outcome, Fault> {
    let mut stream = TextStream::new(&args.stop, false).map_err(Fault::input)?;
    let (id, prompt_tokens, n_ctx) = (RequestId(1), prompt.len(), engine.info().n_ctx);
    let request = Request {
        sampling: sampling(args)?,
        stop_tokens: text.tokenizer.eog_ids().to_vec(),
        ..Request::new(id, prompt, args.max_tokens as usize)
    };
    let start = Instant::now();
    let (mut first, mut last) = (None, start);
    let (mut events, mut effects) = (vec![Event::Submit(Box::new(request))], Vec::new());
    let mut out = Outcome {
        text: String::new(),
        finish_reason: "stop",
        prompt_tokens,
        completion_tokens: 0,
        ttft_ms: 0.0,
        tps: 0.0,
        effective_tps: 0.0,
    };
    let mut busy = true;
    while busy {
        busy = engine.step(&mut events, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Token { token, .. } => {
                    last = Instant::now();
                    first.get_or_insert(last);
                    out.completion_tokens += 1;
                    let shown = out.text.len();
                    if stream.push(&text.tokenizer, token, &mut out.text).stopped.is_some() {
                        events.push(Event::Cancel(id));
                    }
                    show(&out.text[shown..])?;
                }
                Effect::Finished { reason, .. } => {
                    out.finish_reason =
                        if matches!(reason, Finish::Length | Finish::Context) { "length" } else { "stop" };
                }
                Effect::Refused { why, .. } => {
                    return Err(Fault::input(format!(
                        "the prompt of {prompt_tokens} tokens was refused ({why:?}); the context holds {n_ctx}"
                    )));
                }
                Effect::Admitted { .. }
                | Effect::Prefilled { .. }
                | Effect::Verified { .. }
                | Effect::Preempted { .. } => {}
            }
        }
    }
    let shown = out.text.len();
    stream.finish(&mut out.text);
    show(&out.text[shown..])?;
    let (total, to_first) = (last - start, first.unwrap_or(last) - start);
    out.ttft_ms = to_first.as_secs_f64() * 1e3;
    if out.completion_tokens > 1 {
        out.tps = (out.completion_tokens - 1) as f64 / (total - to_first).as_secs_f64().max(1e-9);
    }
    out.effective_tps = out.completion_tokens as f64 / total.as_secs_f64().max(1e-9);
    Ok(out)
}

/// Writes to the terminal at once.
pub fn to_stdout(piece: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(piece.as_bytes())?;
    out.flush()
}

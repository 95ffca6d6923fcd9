//! What HTTP adds to each token and to the first one: one stream of server-sent events against the engine in this process, the
//! same prompt, in turn.

use std::fs;
use std::time::{Duration, Instant};

use base::TokenId;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::BenchError;
use crate::prompts;
use crate::serve::Place;
use crate::serve::tap::Step;
use crate::serve::wire::Heard;
use crate::stats::{Summary, median};

/// What HTTP adds to a token. Microseconds; each value is of one run.
#[derive(Clone, Debug, Serialize)]
pub struct PerToken {
    /// Tokens of each answer.
    pub tokens: usize,
    /// Time per token, driven directly.
    pub direct_us: Summary,
    /// Time per token over HTTP, from the engine's first token to its last.
    pub http_us: Summary,
    /// Their difference, run by run.
    pub added_us: Summary,
    /// Of `http_us`, within the model's steps ...
    pub http_step_us: Summary,
    /// ... and between them.
    pub http_between_us: Summary,
    /// The same of `direct_us`.
    pub direct_step_us: Summary,
    /// The same of `direct_us`.
    pub direct_between_us: Summary,
    /// From the end of a token's step until the client has read its event: medians. Beside decoding.
    pub delivery_us: Option<Summary>,
    /// Processor time of the server's network threads per token. Beside decoding, too.
    pub network_cpu_us: Option<Summary>,
}

/// What HTTP adds to the first token of a prompt that is cached. Milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct First {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Driven directly, from before the request is submitted.
    pub direct_ms: Summary,
    /// Over a kept connection, from before the request is sent to its first event.
    pub http_ms: Summary,
    /// Their difference, run by run.
    pub added_ms: Summary,
    /// What the server says of it: reading, tokenising, waiting, prefill.
    pub read_ms: Summary,
    /// See above.
    pub tokenize_ms: Summary,
    /// See above.
    pub queue_ms: Summary,
    /// See above.
    pub prompt_ms: Summary,
}

/// Text of about this many tokens, and its exact ones.
fn prompt(place: &Place<'_>, seed: u64, tokens: usize) -> Result<(String, Vec<TokenId>), BenchError> {
    let text = prompts::code(seed, tokens);
    let asked = json!({"model": "default", "content": text, "add_special": true, "parse_special": true});
    let told = place.http.json("/tokenize", &asked)?;
    let ids = told["tokens"].as_array().into_iter().flatten();
    Ok((text, ids.filter_map(|id| TokenId::try_from(id.as_u64()?).ok()).collect()))
}

fn ask(place: &Place<'_>, prompt: &str, tokens: usize) -> Result<Heard, BenchError> {
    let body = json!({
        "model": "default", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": true, "speculation": "off",
    });
    place.http.stream("/v1/completions", &body)
}

/// Microseconds per token: in all, within steps, between them.
fn split(steps: &[Step]) -> Option<[f64; 3]> {
    let (first, last) = (steps.first()?, steps.last().filter(|_| steps.len() > 1)?);
    let us = |d: Duration| d.as_secs_f64() * 1e6 / (steps.len() - 1) as f64;
    let within = us(steps[1..].iter().map(|s| s.ended - s.began).sum());
    let whole = us(last.ended - first.ended);
    Some([whole, within, whole - within])
}

/// Processor time of the server's network threads so far, where the system tells.
fn network_cpu() -> Option<Duration> {
    let mut sum = None;
    for task in fs::read_dir("/proc/self/task").ok()?.flatten() {
        let of = |what: &str| fs::read_to_string(task.path().join(what)).ok();
        if of("comm").is_some_and(|name| name.starts_with("http")) {
            let ns = of("schedstat").and_then(|s| s.split_ascii_whitespace().next()?.parse().ok());
            sum = Some(sum.unwrap_or_default() + Duration::from_nanos(ns?));
        }
    }
    sum
}

fn delivery(heard: &Heard, steps: &[Step]) -> Option<f64> {
    let texts = |(at, e): &(Instant, Value)| e["choices"][0]["text"].as_str().filter(|t| !t.is_empty()).map(|_| *at);
    let at: Vec<Instant> = heard.events.iter().filter_map(texts).collect();
    // Half a character waits for its other half; then events and steps are no pairs.
    let pairs = (at.len() == steps.len()).then(|| at.iter().zip(steps));
    let us: Vec<f64> = pairs?.map(|(at, s)| at.saturating_duration_since(s.ended).as_secs_f64() * 1e6).collect();
    median(&us)
}

/// One stream of `tokens` tokens, `reps` times each way.
pub(crate) fn per_token(place: &Place<'_>, tokens: usize, reps: usize) -> Result<PerToken, BenchError> {
    let (text, ids) = prompt(place, 1, 32)?;
    let mut columns: [Vec<f64>; 9] = Default::default();
    for rep in 0..=reps {
        let (_, direct) = place.engine.direct(ids.clone(), tokens)?;
        place.engine.taken();
        let before = network_cpu();
        let heard = ask(place, &text, tokens)?;
        let cpu = network_cpu().zip(before).map(|(after, before)| after.saturating_sub(before));
        let served = place.engine.taken();
        let is_equal = direct.iter().map(|s| s.token).eq(served.iter().map(|s| s.token));
        let (Some(d), Some(h)) = (split(&direct).filter(|_| is_equal), split(&served)) else {
            return Err(BenchError::Ask("the two ways gave different answers (a bug), or only one token".to_owned()));
        };
        if rep == 0 {
            continue; // everything is warm now
        }
        let row = [d[0], h[0], h[0] - d[0], h[1], h[2], d[1], d[2]];
        columns.iter_mut().zip(row).for_each(|(c, v)| c.push(v));
        columns[7].extend(delivery(&heard, &served));
        columns[8].extend(cpu.map(|c| c.as_secs_f64() * 1e6 / tokens as f64));
    }
    let of = |i: usize| Summary::of(&columns[i]);
    let need = |i: usize| of(i).ok_or_else(|| BenchError::Ask("nothing was measured".to_owned()));
    Ok(PerToken {
        tokens,
        direct_us: need(0)?,
        http_us: need(1)?,
        added_us: need(2)?,
        http_step_us: need(3)?,
        http_between_us: need(4)?,
        direct_step_us: need(5)?,
        direct_between_us: need(6)?,
        delivery_us: of(7),
        network_cpu_us: of(8),
    })
}

/// The first token of a cached prompt of about `tokens` tokens, `reps` times each way.
pub(crate) fn first(place: &Place<'_>, tokens: usize, reps: usize) -> Result<First, BenchError> {
    let (text, ids) = prompt(place, 2, tokens)?;
    let mut columns: [Vec<f64>; 7] = Default::default();
    for rep in 0..reps + 2 {
        let (began, direct) = place.engine.direct(ids.clone(), 1)?;
        place.engine.taken();
        let heard = ask(place, &text, 1)?;
        let is_text = |e: &Value| e["choices"][0]["text"].as_str().is_some_and(|t| !t.is_empty());
        let is_end = |e: &Value| e["choices"][0]["finish_reason"].is_string();
        let at = heard.first(|e| is_text(e) || is_end(e));
        let timings = heard.events.iter().rev().find_map(|(_, e)| e.get("timings"));
        let (Some(step), Some(at), Some(t)) = (direct.first(), at, timings) else {
            return Err(BenchError::Ask("an answer had no token or no timings".to_owned()));
        };
        if rep < 2 {
            continue; // the first fills the cache
        }
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        let (d, h) = (ms(step.ended - began), ms(at - heard.sent_at));
        let part = |name: &str| t[name].as_f64().unwrap_or(f64::NAN);
        let row = [d, h, h - d, part("read_ms"), part("tokenize_ms"), part("queue_ms"), part("prompt_ms")];
        columns.iter_mut().zip(row).for_each(|(c, v)| c.push(v));
    }
    let need = |i: usize| Summary::of(&columns[i]).ok_or_else(|| BenchError::Ask("nothing was measured".to_owned()));
    Ok(First {
        prompt_tokens: ids.len(),
        direct_ms: need(0)?,
        http_ms: need(1)?,
        added_ms: need(2)?,
        read_ms: need(3)?,
        tokenize_ms: need(4)?,
        queue_ms: need(5)?,
        prompt_ms: need(6)?,
    })
}

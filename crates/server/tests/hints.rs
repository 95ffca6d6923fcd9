//! Fields that say how soon and how fast: what reaches the engine, what is told of it, and that many tokens per step
//! change nothing but the number of chunks.
#![allow(clippy::unwrap_used, clippy::panic)] // tests and what they share

mod shell;

use engine::api::Class;
use protocol::{ChatCompletion, Completion, FinishReason, ServiceTier, Usage};
use server::Config;
use shell::*;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

fn whole(answer: &Answer) -> Completion {
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

fn ask(addr: SocketAddr, prompt: &str, fields: &str) -> Completion {
    whole(&complete(addr, &format!(r#"{{"model":"echo","prompt":"{prompt}"{fields}}}"#)))
}

/// Chunks, joined text, reason, usage.
fn streamed(addr: SocketAddr, prompt: &str, fields: &str) -> (usize, String, Option<FinishReason>, Option<Usage>) {
    let options = r#","stream":true,"stream_options":{"include_usage":true}"#;
    let answer = complete(addr, &format!(r#"{{"model":"echo","prompt":"{prompt}"{fields}{options}}}"#));
    let events = answer.events();
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"), "{}", answer.text());
    let chunks: Vec<Completion> = events[..events.len() - 1]
        .iter()
        .map(|e| serde_json::from_str(e).unwrap_or_else(|x| panic!("{x}: {e}")))
        .collect();
    let texts: Vec<&str> = chunks.iter().filter_map(|c| Some(c.choices.first()?.text.as_str())).collect();
    let reason = chunks.iter().find_map(|c| c.choices.first()?.finish_reason);
    (texts.iter().filter(|t| !t.is_empty()).count(), texts.concat(), reason, chunks.last().unwrap().usage)
}

fn prediction_of(usage: Option<Usage>) -> (u64, u64) {
    let d = usage.unwrap().completion_tokens_details.unwrap();
    (d.accepted_prediction_tokens, d.rejected_prediction_tokens)
}

fn bearer(addr: SocketAddr, key: &str, fields: &str) {
    let headers = format!("Content-Type: application/json\r\nAuthorization: Bearer {key}\r\n");
    let body = format!(r#"{{"model":"echo","prompt":"x"{fields}}}"#);
    assert_eq!(raw(addr, &request("POST", "/v1/completions", &headers, body.as_bytes())).status, 200);
}

#[test]
fn hints_reach_the_engine() {
    let (running, knobs) = serve(Config::default());
    let addr = running.addr();
    ask(addr, "x", "");
    let plain = knobs.last();
    assert_eq!((plain.class, plain.salt, plain.deadline_us, plain.speculate), (Class::Chat, 0, u64::MAX, true));
    assert!(plain.prediction.is_empty() && plain.replay.is_empty() && plain.constraint.is_none());
    ask(
        addr,
        "x",
        r#","prediction":{"type":"content","content":[{"type":"text","text":"a<|endoftext|>"},{"type":"text","text":"b"}]},
        "speculation":"off","prompt_cache_key":"p","service_tier":"flex","deadline_ms":60000,"replay":"<|fim_prefix|>","n":2"#,
    );
    let r = knobs.last();
    assert_eq!(r.prediction, b"a<|endoftext|>b".map(u32::from), "special tokens are text in an answer");
    assert_eq!(r.replay, b"<|fim_prefix|>".map(u32::from));
    assert_eq!((r.class, r.speculate, r.key), (Class::Batch, false, plain.key));
    assert!(r.salt != 0 && r.deadline_us >= 60_000_000 && r.deadline_us < 120_000_000, "{r:?}");
    for (tier, suffix, class) in [
        (r#","service_tier":"priority""#, "", Class::Interactive),
        (r#","service_tier":"default""#, r#","suffix":"y""#, Class::Chat),
        (r#","service_tier":"auto""#, r#","suffix":"y""#, Class::Interactive),
        ("", r#","suffix":"y""#, Class::Interactive),
        (r#","service_tier":"auto""#, "", Class::Chat),
    ] {
        ask(addr, "x", &format!("{tier}{suffix}"));
        assert_eq!(knobs.last().class, class, "{tier}{suffix}");
    }
    let chat =
        r#"{"model":"echo","messages":[{"role":"user","content":"x"}],"prediction":{"type":"content","content":"hi"}}"#;
    assert_eq!(post(addr, "/v1/chat/completions", chat).status, 200);
    assert_eq!(knobs.last().prediction, b"hi".map(u32::from));
    // Too long is cut: it is a hint.
    ask(addr, "x", &format!(r#","prediction":{{"type":"content","content":"{}"}}"#, "é".repeat(5000)));
    assert_eq!(knobs.last().prediction.len(), 1024);
}

#[test]
fn keys_and_salts_follow_the_caller() {
    let (running, knobs) = serve(Config::default());
    let of = |key: &str, fields: &str| {
        bearer(running.addr(), key, fields);
        let r = knobs.last();
        (r.key, r.salt)
    };
    let (a, b) = (of("a", ""), of("b", ""));
    assert!(a.0 != b.0 && a == of("a", "") && a.1 == 0 && b.1 == 0);
    let named = r#","prompt_cache_key":"p""#;
    assert_eq!(of("a", named).1, of("b", named).1, "on loopback keys share what they name alike");
    let apart = Config { share_prefixes: Some(false), ..Config::default() };
    let (running, knobs) = serve(apart);
    let of = |key: &str, fields: &str| {
        bearer(running.addr(), key, fields);
        knobs.last().salt
    };
    assert!(of("a", "") == of("a", "") && of("a", "") != of("b", "") && of("a", named) != of("b", named));
}

#[test]
fn the_tier_is_told_when_it_was_sent() {
    let (running, _) = serve(Config::default());
    let addr = running.addr();
    assert_eq!(ask(addr, "x", "").service_tier, None);
    assert!(!complete(addr, r#"{"model":"echo","prompt":"x"}"#).text().contains("service_tier"));
    assert_eq!(ask(addr, "x", r#","service_tier":"auto""#).service_tier, Some(ServiceTier::Auto));
    let body = r#"{"model":"echo","messages":[{"role":"user","content":"x"}],"service_tier":"priority""#;
    let chat: ChatCompletion =
        serde_json::from_slice(&post(addr, "/v1/chat/completions", &format!("{body}}}")).body).unwrap();
    assert_eq!(chat.service_tier, Some(ServiceTier::Priority));
    let events = post(addr, "/v1/chat/completions", &format!(r#"{body},"stream":true}}"#)).events();
    assert!(events[..events.len() - 1].iter().all(|e| e.contains(r#""service_tier":"priority""#)), "{events:?}");
}

/// The scripted engine compares each token with the prediction at its place.
#[test]
fn usage_and_timings_tell_what_became_of_drafts() {
    let (running, _) = serve(Config::default());
    let addr = running.addr();
    let prediction = |text: &str| format!(r#","prediction":{{"type":"content","content":"{text}"}}"#);
    assert_eq!(prediction_of(ask(addr, "abcdef", "").usage), (0, 0));
    let answer = ask(addr, "abcdef", &prediction("abXdefgh"));
    assert_eq!((answer.choices[0].text.as_str(), prediction_of(answer.usage)), ("abcdef", (5, 1)));
    let t = answer.timings.unwrap();
    assert_eq!((t.draft_n, t.draft_n_accepted), (6 + 18, 5 + 12));
    let two = ask(addr, "abcdef", &(prediction("abX") + r#","n":2"#));
    assert_eq!(prediction_of(two.usage), (4, 2), "summed over choices");
    let (_, text, _, usage) = streamed(addr, "abcdef", &prediction("abX"));
    assert_eq!((text.as_str(), prediction_of(usage)), ("abcdef", (2, 1)));
    let off = ask(addr, "abcdef", &(prediction("abX") + r#","speculation":"off""#));
    assert_eq!((off.choices[0].text.as_str(), prediction_of(off.usage)), ("abcdef", (0, 0)));
    // A choice that a stop string ends waits for the engine's count, streamed or not.
    let stop = prediction("aXcdef") + r#","stop":"d""#;
    let stopped = ask(addr, "abcdefabcdef", &stop);
    assert_eq!((stopped.choices[0].text.as_str(), stopped.choices[0].finish_reason), ("abc", Some(FinishReason::Stop)));
    let (accepted, rejected) = prediction_of(stopped.usage);
    assert!((3..=4).contains(&accepted) && (1..=2).contains(&rejected), "{accepted} {rejected}");
    assert_eq!(stopped.usage.unwrap().completion_tokens, 4);
    let (_, text, reason, usage) = streamed(addr, "abcdefabcdef", &stop);
    assert_eq!((text.as_str(), reason), ("abc", Some(FinishReason::Stop)));
    assert_eq!(usage.unwrap().completion_tokens, 4);
    assert!(prediction_of(usage).0 <= 4 && prediction_of(usage).1 >= 1);
    let metrics = get(addr, "/metrics").text();
    assert!(metrics.contains(r#"vonk_draft_tokens_total{model="echo",source="prediction",outcome="accepted"}"#));
}

#[test]
fn nothing_is_generated_for_max_tokens_0() {
    let (running, _) = serve(Config::default());
    let addr = running.addr();
    for fields in [r#","max_tokens":0"#, r#","n_predict":0"#, r#","max_completion_tokens":0"#] {
        let answer = ask(addr, "~some code", fields);
        let (usage, choice) = (answer.usage.unwrap(), &answer.choices[0]);
        assert_eq!((choice.text.as_str(), choice.finish_reason), ("", Some(FinishReason::Length)));
        let cached = usage.prompt_tokens_details.unwrap().cached_tokens;
        assert_eq!((usage.prompt_tokens, usage.completion_tokens, cached), (10, 0, 1));
        let (chunks, text, reason, usage) = streamed(addr, "~some code", fields);
        assert_eq!((chunks, text.as_str(), reason), (0, "", Some(FinishReason::Length)));
        assert_eq!(usage.unwrap().total_tokens, 10);
    }
    let chat = r#"{"model":"echo","messages":[{"role":"user","content":"x"}],"n_predict":0}"#;
    let chat: ChatCompletion = serde_json::from_slice(&post(addr, "/v1/chat/completions", chat).body).unwrap();
    assert_eq!((chat.choices[0].message.content.as_deref(), chat.usage.unwrap().completion_tokens), (Some(""), 0));
    assert_eq!(ask(addr, "~x", r#","n_predict":3"#).usage.unwrap().completion_tokens, 3);
}

#[test]
fn a_replay_is_the_answer() {
    let (running, knobs) = serve(Config::default());
    for burst in [1, 7, 100] {
        knobs.burst.store(burst, SeqCst);
        let text = r"fn main() {\n    ü😀<|endoftext|>\n}";
        let answer = ask(running.addr(), "x", &format!(r#","replay":"{text}""#));
        assert_eq!(answer.choices[0].text, text.replace(r"\n", "\n"));
        let (chunks, again, ..) = streamed(running.addr(), "x", &format!(r#","replay":"{text}""#));
        assert_eq!(again, answer.choices[0].text);
        assert!(chunks <= answer.usage.unwrap().completion_tokens as usize / burst + 1, "{chunks}");
    }
}

#[test]
fn a_deadline_ends_what_runs_and_refuses_what_waits() {
    let (running, knobs) = serve_with(Config::default(), 1024, 1, Knobs::slow(10));
    let addr = running.addr();
    let late = ask(addr, "~abc", r#","deadline_ms":1000"#);
    assert_eq!(late.choices[0].finish_reason, Some(FinishReason::Length));
    assert!(late.usage.unwrap().completion_tokens < 1000);
    let mut endless = connect(addr);
    endless.write_all(&post_bytes("/v1/completions", r#"{"model":"echo","prompt":"~abc","stream":true}"#)).unwrap();
    assert!(knobs.wait("admitted", 2));
    let waited = complete(addr, r#"{"model":"echo","prompt":"y","deadline_ms":50}"#);
    assert_eq!((waited.status, waited.code().as_str()), (503, "deadline_exceeded"));
    assert!((1..=60).contains(&waited.header("retry-after").unwrap().parse::<u32>().unwrap()));
}

/// A failing case can be named by its seed.
fn draw(seed: &mut u64, n: usize) -> usize {
    *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    (base::rng::bits(*seed, 0, 0) % n as u64) as usize
}

/// Many tokens in one step: the same text, reason and usage as one by one, however characters and stop strings are cut.
#[test]
fn joined_and_single_tokens_give_the_same_answer() {
    let (one, _) = serve(Config::default());
    let (many, knobs) = serve(Config::default());
    let alphabet = ["a", "b", "ab", "é", "漢", "😀", " ", r"\n", "c"];
    let mut joined = 0;
    for case in 0..300u64 {
        let mut seed = case;
        let mut pick = |n: usize| draw(&mut seed, n);
        let prompt: String = (0..1 + pick(60)).map(|_| alphabet[pick(alphabet.len())]).collect();
        let stops: Vec<String> =
            (0..pick(3)).map(|_| (0..1 + pick(3)).map(|_| alphabet[pick(alphabet.len())]).collect()).collect();
        let logprobs = if pick(4) == 0 { r#","logprobs":1"# } else { "" };
        let fields = format!(r#","max_tokens":{},"stop":{}{logprobs}"#, 1 + pick(200), stops_json(&stops));
        let burst = 1 + pick(100);
        knobs.burst.store(burst, SeqCst);
        let (chunks_1, text_1, reason_1, usage_1) = streamed(one.addr(), &prompt, &fields);
        let (chunks_n, text_n, reason_n, usage_n) = streamed(many.addr(), &prompt, &fields);
        let what = format!("case {case}, burst {burst}: {prompt:?}{fields}");
        assert_eq!((text_1, reason_1, usage_1), (text_n, reason_n, usage_n), "{what}");
        if logprobs.is_empty() {
            let n_tokens = usage_n.unwrap().completion_tokens as usize;
            assert!(chunks_n <= n_tokens.div_ceil(burst) + 1, "{what}: {chunks_n} chunks"); // one more: what was held back
            joined += chunks_1.saturating_sub(chunks_n);
        } else {
            assert_eq!(chunks_1, chunks_n, "{what}");
        }
        let whole = ask(many.addr(), &prompt, &fields);
        assert_eq!((whole.usage, whole.choices[0].finish_reason), (usage_1, reason_1), "{what}");
    }
    assert!(joined > 1000, "{joined}");
}

fn stops_json(stops: &[String]) -> String {
    let quoted: Vec<String> = stops.iter().map(|s| format!("\"{s}\"")).collect();
    format!("[{}]", quoted.join(","))
}

/// What a token costs outside of the engine, client included; printed, not judged: figures depend on the machine.
#[test]
fn overhead_per_token() {
    let n = 20_000;
    for burst in [1, 8, 64] {
        let knobs = Arc::new(Knobs::default());
        knobs.burst.store(burst, SeqCst);
        let (running, _) = serve_with(Config::default(), 1 << 20, 1, knobs);
        let body = format!(r#"{{"model":"echo","prompt":"~abc def","stream":true,"max_tokens":{n}}}"#);
        let begin = Instant::now();
        let answer = complete(running.addr(), &body);
        let each = begin.elapsed() / n;
        assert_eq!(answer.status, 200);
        assert!(each < Duration::from_secs(1));
        println!("{:.2} us per token, {burst} per step", each.as_secs_f64() * 1e6);
    }
}

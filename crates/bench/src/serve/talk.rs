//! A recorded dialogue of an agent, turn by turn: over a WebSocket with only what is new, and over HTTP with all of it. Answers
//! are the recorded ones (`replay`), so both see the same contexts; each has a cache of its own, for its first line differs.

use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use crate::error::BenchError;
use crate::serve::Place;
use crate::serve::dialogue::{self, Turn};
use crate::serve::wire::{Heard, Http, Socket};
use crate::stats::Summary;

/// One turn at one side.
#[derive(Clone, Debug, Serialize)]
pub struct TurnRow {
    /// From 1.
    pub turn: usize,
    /// `websocket` or `http`.
    pub way: &'static str,
    /// From before the request is sent to the first event with text or arguments.
    pub ttft_ms: f64,
    /// Bytes of the frame, or of the body.
    pub sent_bytes: usize,
    /// Tokens of the whole context.
    pub context_tokens: u64,
    /// Of them, computed in this turn.
    pub prefilled_tokens: u64,
    /// As the server says.
    pub read_ms: f64,
    /// As the server says.
    pub tokenize_ms: f64,
    /// As the server says.
    pub queue_ms: f64,
    /// As the server says.
    pub prompt_ms: f64,
}

/// One side over all turns but the first.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Way {
    /// From before the request is sent to the first event with text or arguments.
    pub ttft_ms: Summary,
    /// The same without prefill: what the way itself costs.
    pub without_prefill_ms: Summary,
    /// Bytes of the frame, or of the body.
    pub sent_bytes: Summary,
    /// Tokens that were computed.
    pub prefilled_tokens: Summary,
    /// As the server says.
    pub tokenize_ms: Summary,
    /// As the server says.
    pub prompt_ms: Summary,
}

impl Way {
    fn of(rows: &[TurnRow], way: &str) -> Option<Self> {
        let counted: Vec<&TurnRow> = rows.iter().filter(|r| r.way == way && r.turn > 1).collect();
        let of = |f: fn(&TurnRow) -> f64| Summary::of(&counted.iter().map(|r| f(r)).collect::<Vec<_>>());
        Some(Self {
            ttft_ms: of(|r| r.ttft_ms)?,
            without_prefill_ms: of(|r| r.ttft_ms - r.prompt_ms)?,
            sent_bytes: of(|r| r.sent_bytes as f64)?,
            prefilled_tokens: of(|r| r.prefilled_tokens as f64)?,
            tokenize_ms: of(|r| r.tokenize_ms)?,
            prompt_ms: of(|r| r.prompt_ms)?,
        })
    }
}

/// All dialogues.
#[derive(Clone, Debug, Serialize)]
pub struct Dialogues {
    /// Turns that count, each way.
    pub turns: usize,
    /// Only what is new.
    pub websocket: Way,
    /// All of it.
    pub http: Way,
    /// Median ttft, WebSocket over HTTP.
    pub ttft_ratio: f64,
    /// The same without prefill.
    pub without_prefill_ratio: f64,
    /// Every turn.
    pub rows: Vec<TurnRow>,
}

/// One side of a dialogue.
struct Side<'a> {
    way: &'static str,
    link: Link<'a>,
    /// All items so far.
    items: Vec<Value>,
    /// The id of the last answer, and of the call in it.
    last: Option<String>,
    call: Option<String>,
}

enum Link<'a> {
    Http(&'a Http),
    Socket(Socket),
}

impl Side<'_> {
    fn turn(&mut self, number: usize, turn: &Turn, mark: &str) -> Result<TurnRow, BenchError> {
        let mut new: Vec<Value> = turn.says.iter().map(|s| s.item(self.call.as_deref())).collect();
        if let (1, Some(first)) = (number, new.first_mut()) {
            let text = format!("{mark} {}", first["content"].as_str().unwrap_or_default());
            first["content"] = text.into();
        }
        self.items.extend(new.iter().cloned());
        let mut request = json!({
            "model": "default", "store": false, "temperature": 0, "tools": dialogue::tools(), "replay": turn.answer,
            "prediction": {"type": "content", "content": turn.answer},
        });
        let heard = match &mut self.link {
            Link::Http(http) => {
                (request["stream"], request["input"]) = (true.into(), Value::Array(self.items.clone()));
                http.stream("/v1/responses", &request)?
            }
            Link::Socket(socket) => {
                request["type"] = "response.create".into();
                request["input"] = Value::Array(new);
                if let Some(last) = &self.last {
                    request["previous_response_id"] = last.as_str().into();
                }
                socket.ask(&request)?
            }
        };
        self.heard(number, &heard)
    }

    fn heard(&mut self, turn: usize, heard: &Heard) -> Result<TurnRow, BenchError> {
        let kind = |e: &Value| e["type"].as_str().unwrap_or_default().to_owned();
        let wrong = |why: String| BenchError::Ask(format!("turn {turn} over {}: {why}", self.way));
        let (_, end) = heard.events.last().ok_or_else(|| wrong("nothing came".to_owned()))?;
        if kind(end) != "response.completed" {
            return Err(wrong(end.to_string().chars().take(500).collect()));
        }
        let at = heard.first(|e| kind(e).ends_with(".delta")).ok_or_else(|| wrong("no text came".to_owned()))?;
        let response = &end["response"];
        let output = response["output"].as_array().cloned().unwrap_or_default();
        self.call = output.iter().find_map(|i| i["call_id"].as_str()).map(str::to_owned);
        self.last = response["id"].as_str().map(str::to_owned);
        self.items.extend(output);
        let (t, usage) = (&response["timings"], &response["usage"]);
        let ms = |name: &str| t[name].as_f64().unwrap_or(f64::NAN);
        let cached = usage["input_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0);
        let context_tokens = usage["input_tokens"].as_u64().unwrap_or(0);
        Ok(TurnRow {
            turn,
            way: self.way,
            ttft_ms: (at - heard.sent_at).as_secs_f64() * 1e3,
            sent_bytes: heard.sent_bytes,
            context_tokens,
            prefilled_tokens: context_tokens.saturating_sub(cached),
            read_ms: ms("read_ms"),
            tokenize_ms: ms("tokenize_ms"),
            queue_ms: ms("queue_ms"),
            prompt_ms: ms("prompt_ms"),
        })
    }
}

/// All turns of all dialogues, both ways in turn.
pub(crate) fn run(
    place: &Place<'_>,
    paths: &[impl AsRef<Path>],
    turns: usize,
    progress: &mut dyn FnMut(&str),
) -> Result<Dialogues, BenchError> {
    let mut rows = Vec::new();
    for path in paths {
        let recorded = dialogue::turns(path.as_ref(), turns)?;
        let side = |way, link| Side { way, link, items: Vec::new(), last: None, call: None };
        let mut sides =
            [side("websocket", Link::Socket(Socket::open(place.addr)?)), side("http", Link::Http(&place.http))];
        for (i, turn) in recorded.iter().enumerate() {
            for k in 0..2 {
                let side = &mut sides[(i + k) % 2];
                let mark = format!("({}, {}.)", side.way, rows.len() / 2 - i);
                let row = side.turn(i + 1, turn, &mark)?;
                progress(&format!(
                    "turn {} over {}: {} bytes, {} of {} tokens prefilled, ttft {:.1} ms ({:.1} tokenising, {:.1} prefill)",
                    row.turn,
                    row.way,
                    row.sent_bytes,
                    row.prefilled_tokens,
                    row.context_tokens,
                    row.ttft_ms,
                    row.tokenize_ms,
                    row.prompt_ms
                ));
                rows.push(row);
            }
            place.engine.taken();
        }
    }
    let both = Way::of(&rows, "websocket").zip(Way::of(&rows, "http"));
    let (websocket, http) = both.ok_or_else(|| BenchError::Ask("no dialogue has a second turn".to_owned()))?;
    Ok(Dialogues {
        turns: websocket.ttft_ms.n,
        websocket,
        http,
        ttft_ratio: websocket.ttft_ms.p50 / http.ttft_ms.p50,
        without_prefill_ratio: websocket.without_prefill_ms.p50 / http.without_prefill_ms.p50,
        rows,
    })
}

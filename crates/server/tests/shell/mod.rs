//! A small deterministic engine behind the real server, and a client that speaks raw bytes. The engine stands in for the
//! real one in tests of the shell only: it echoes its prompt and then stops.
#![allow(dead_code)]

pub mod ws;

use base::vocab::{FimTokens, StrTable, TokenKind, VocabModel, VocabSpec};
use base::{RequestId, TokenId};
use engine::api::{Drafts, Effect, Event, Finish, Info, Load, Logprobs, Request, Sampling, Stepper};
use server::{Config, Running, Served, TextKit};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub const EOS: TokenId = 256;

/// What the tests see of the engine, and how they slow it down.
#[derive(Default)]
pub struct Knobs {
    pub step_ms: AtomicU64,
    pub steps: AtomicUsize,
    /// Tokens of a sequence in one step; 0 is 1.
    pub burst: AtomicUsize,
    /// (step, what): `+id`, `-id phase`.
    pub log: Mutex<Vec<(usize, String)>>,
    /// The last one that was submitted.
    pub last: Mutex<Option<Request>>,
}

impl Knobs {
    pub fn slow(ms: u64) -> Arc<Self> {
        let knobs = Self::default();
        knobs.step_ms.store(ms, SeqCst);
        Arc::new(knobs)
    }
    pub fn last(&self) -> Request {
        self.last.lock().unwrap().clone().unwrap()
    }
    fn note(&self, text: String) {
        self.log.lock().unwrap().push((self.steps.load(SeqCst), text));
    }
    pub fn seen(&self, part: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|(_, t)| t.contains(part)).count()
    }
    /// Waits until `part` was seen `n` times.
    pub fn wait(&self, part: &str, n: usize) -> bool {
        let end = Instant::now() + Duration::from_secs(30);
        while Instant::now() < end {
            if self.seen(part) >= n {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }
}

struct Sequence {
    request: Box<Request>,
    n_prefilled: usize,
    n_tokens: usize,
    drafts: Drafts,
}

impl Sequence {
    /// Echo the prompt, then stop; a prompt that begins with `~` is echoed for ever. With a temperature the first token is a
    /// digit that the seed decides. A replay goes before all.
    fn next(&self) -> TokenId {
        let (prompt, n) = (&self.request.prompt, self.n_tokens);
        if !self.request.replay.is_empty() {
            return self.request.replay.get(n).copied().unwrap_or(EOS);
        }
        match prompt.first() {
            _ if n == 0 && self.request.sampling.temperature > 0.0 => 48 + (self.request.sampling.seed % 10) as u32,
            Some(126) => prompt[n % prompt.len()],
            _ => prompt.get(n).copied().unwrap_or(EOS),
        }
    }

    /// As if each token had been drafted from the prediction, where it has one; and two of three tokens from history.
    fn chosen(&mut self, token: TokenId) {
        if let (true, Some(draft)) = (self.request.speculate, self.request.prediction.get(self.n_tokens)) {
            self.drafts.offered[0] += 1;
            self.drafts.accepted[0] += u64::from(*draft == token);
            self.drafts.offered[1] += 3;
            self.drafts.accepted[1] += 2;
        }
        self.n_tokens += 1;
    }
}

pub struct Echo {
    info: Info,
    knobs: Arc<Knobs>,
    queue: VecDeque<Box<Request>>,
    running: Vec<Sequence>,
    now_us: u64,
    rows: usize,
}

/// Positions per page.
const PAGE: usize = 16;
/// Prompt tokens per step.
pub const CHUNK: usize = 8;

impl Echo {
    pub fn new(n_ctx: usize, n_slots: usize, knobs: &Arc<Knobs>) -> Self {
        let info = Info { n_ctx, n_vocab: 260, n_slots, fingerprint: "fp_echo".into() };
        Self { info, knobs: Arc::clone(knobs), queue: VecDeque::new(), running: Vec::new(), now_us: 0, rows: 0 }
    }

    fn take(&mut self, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Submit(request) => {
                assert!(!request.prompt.is_empty() && request.prompt.len() < self.info.n_ctx);
                *self.knobs.last.lock().unwrap() = Some((*request).clone());
                self.knobs.note(format!("+{}", request.id.0));
                self.queue.push_back(request);
            }
            Event::Clock(us) => {
                assert!(us >= self.now_us, "time goes back");
                self.now_us = us;
            }
            Event::Took(_) => {}
            Event::Cancel(id) => {
                let mut drafts = Drafts::default();
                let phase = match self.running.iter().position(|s| s.request.id == id) {
                    Some(i) => {
                        let s = self.running.remove(i);
                        drafts = s.drafts;
                        if s.n_prefilled < s.request.prompt.len() { "prefill" } else { "decode" }
                    }
                    None if self.queue.iter().any(|r| r.id == id) => {
                        self.queue.retain(|r| r.id != id);
                        "queue"
                    }
                    None => return,
                };
                self.knobs.note(format!("-{} {phase}", id.0));
                effects.push(Effect::Finished { id, reason: Finish::Cancelled, drafts });
            }
        }
    }

    fn expire(&mut self, effects: &mut Vec<Effect>) {
        let now_us = self.now_us;
        let mut end = |r: &Request, drafts| {
            let is_late = r.deadline_us <= now_us;
            if is_late {
                effects.push(Effect::Finished { id: r.id, reason: Finish::Deadline, drafts });
            }
            !is_late
        };
        self.queue.retain(|r| end(r, Drafts::default()));
        self.running.retain(|s| end(&s.request, s.drafts));
    }
}

/// One step of a sequence: a chunk of its prompt, or up to `burst` tokens. True when it has ended.
fn advance(s: &mut Sequence, n_ctx: usize, burst: usize, effects: &mut Vec<Effect>) -> bool {
    let (id, n_prompt) = (s.request.id, s.request.prompt.len());
    if s.n_prefilled < n_prompt {
        s.n_prefilled = n_prompt.min(s.n_prefilled + CHUNK);
        if s.n_prefilled < n_prompt {
            return false;
        }
        effects.push(Effect::Prefilled { id, n_prompt, n_cached: 1 });
    }
    if s.request.speculate && s.request.prediction.len() > s.n_tokens {
        effects.push(Effect::Verified { id });
    }
    let end = (0..burst).find_map(|_| choose(s, n_ctx, effects));
    effects.extend(end.map(|reason| Effect::Finished { id, reason, drafts: s.drafts }));
    end.is_some()
}

fn choose(s: &mut Sequence, n_ctx: usize, effects: &mut Vec<Effect>) -> Option<Finish> {
    let (id, n_prompt) = (s.request.id, s.request.prompt.len());
    if s.request.max_tokens == 0 {
        return Some(Finish::Length);
    }
    let token = s.next();
    assert!(token != 7, "the bell: a bug in the engine");
    if s.request.stop_tokens.contains(&token) {
        return Some(Finish::StopToken);
    }
    let logprobs = s.request.logprobs.map(|n| {
        let mut top = [(0, f32::NEG_INFINITY); base::limits::TOP_LOGPROBS_MAX];
        top[0] = (token, -0.5);
        top[1] = (token ^ 1, -1.5);
        Box::new(Logprobs { chosen: -0.5, top, n })
    });
    effects.push(Effect::Token { id, token, logprobs, bits: 0 });
    s.chosen(token);
    match () {
        () if s.n_tokens == s.request.max_tokens => Some(Finish::Length),
        () if n_prompt + s.n_tokens == n_ctx => Some(Finish::Context),
        () => None,
    }
}

impl Stepper for Echo {
    fn info(&self) -> &Info {
        &self.info
    }
    fn step(&mut self, events: &mut Vec<Event>, effects: &mut Vec<Effect>) -> bool {
        self.knobs.steps.fetch_add(1, SeqCst);
        for event in events.drain(..) {
            self.take(event, effects);
        }
        self.expire(effects);
        while self.running.len() < self.info.n_slots
            && let Some(request) = self.queue.pop_front()
        {
            effects.push(Effect::Admitted { id: request.id });
            self.knobs.note(format!("admitted {}", request.id.0));
            self.running.push(Sequence { request, n_prefilled: 0, n_tokens: 0, drafts: Drafts::default() });
        }
        if !self.running.is_empty() {
            std::thread::sleep(Duration::from_millis(self.knobs.step_ms.load(SeqCst)));
        }
        self.rows = self.running.len();
        let (n_ctx, burst) = (self.info.n_ctx, self.knobs.burst.load(SeqCst).max(1));
        self.running.retain_mut(|s| !advance(s, n_ctx, burst, effects));
        !self.running.is_empty() || !self.queue.is_empty()
    }
    fn load(&self) -> Load {
        let pages_used = self.running.iter().map(|s| (s.n_prefilled + s.n_tokens).div_ceil(PAGE)).sum();
        let pages_total = self.info.n_slots * self.info.n_ctx.div_ceil(PAGE);
        let (queued, running, rows) = (self.queue.len(), self.running.len(), self.rows);
        Load { queued, running, pages_used, pages_total, rows, ..Load::default() }
    }
    fn reset(&mut self) {
        self.queue.clear();
        self.running.clear();
    }
}

/// Every byte is a token; then end of sequence and the fill-in-the-middle tokens.
pub fn spec() -> VocabSpec {
    let mut tokens = StrTable::new();
    let mut kinds = Vec::new();
    // The byte-level alphabet: printable bytes are themselves, the others are moved to U+0100 and up, in order.
    let mut moved = 0x100u32;
    for b in 0..=255u32 {
        let printable = (33..=126).contains(&b) || (161..=172).contains(&b) || (174..=255).contains(&b);
        let c = if printable { b } else { moved };
        moved += u32::from(!printable);
        tokens.push(&char::from_u32(c).unwrap().to_string()).unwrap();
        kinds.push(TokenKind::Normal);
    }
    for special in ["<|endoftext|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"] {
        tokens.push(special).unwrap();
        kinds.push(TokenKind::Control);
    }
    VocabSpec {
        model: VocabModel::Bpe,
        pre: "gpt-2".into(),
        tokens,
        kinds,
        scores: Vec::new(),
        merges: StrTable::new(),
        bos: None,
        eos: Some(EOS),
        eot: None,
        unk: None,
        pad: None,
        fim: FimTokens { prefix: Some(257), suffix: Some(258), middle: Some(259), ..FimTokens::default() },
        add_bos: false,
        add_eos: false,
        add_space_prefix: false,
        chat_template: Some(TEMPLATE.into()),
    }
}

const TEMPLATE: &str = r#"{% for m in messages %}{% if m.content == 'refuse me' %}{{ raise_exception('not so') }}{% endif %}{{ m.role }}:{% for c in m.tool_calls or [] %}call {{ c.function.name }} {{ c.function.arguments.p }}{% endfor %}{{ m.content }}
{% endfor %}{% for t in tools or [] %}tool {{ t.function.name }} {{ t.function.parameters | tojson }}
{% endfor %}"#;

pub fn kit() -> Arc<TextKit> {
    Arc::new(make_kit(&spec()))
}

pub fn make_kit(spec: &VocabSpec) -> TextKit {
    TextKit::new(text::Tokenizer::new(spec).unwrap(), spec.chat_template.as_deref()).unwrap()
}

pub fn served(name: &str, engine: Echo) -> Served {
    let defaults = Sampling::default();
    let aliases = vec![format!("{name}-alias")];
    Served {
        name: name.into(),
        aliases,
        unlisted: vec![],
        stepper: Box::new(engine),
        text: kit(),
        created: 1_700_000_000,
        defaults,
        keeper: None,
        about: server::About::default(),
    }
}

/// A server with one model `echo`: 1024 positions, 4 slots.
pub fn serve(config: Config) -> (Running, Arc<Knobs>) {
    serve_with(config, 1024, 4, Arc::default())
}

pub fn serve_with(config: Config, n_ctx: usize, n_slots: usize, knobs: Arc<Knobs>) -> (Running, Arc<Knobs>) {
    let running = server::start(config).unwrap();
    running.add_models(vec![served("echo", Echo::new(n_ctx, n_slots, &knobs))]).unwrap();
    (running, knobs)
}

#[derive(Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|l| {
            let (n, v) = l.split_once(':')?;
            n.eq_ignore_ascii_case(name).then_some(v.trim())
        })
    }
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {} {}", self.head, self.text()))
    }
    /// The data of all events.
    pub fn events(&self) -> Vec<String> {
        let mut events = Vec::new();
        protocol::SseParser::new().push(&self.body, &mut events).unwrap();
        events.into_iter().map(|e| e.data).collect()
    }
    /// The error's code.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or("").to_owned()
    }
}

pub fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends these bytes and reads until the server closes.
pub fn raw(addr: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = connect(addr);
    let _ = stream.write_all(bytes);
    read_answer(&mut stream)
}

pub fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut all = Vec::new();
    let mut chunk = [0; 65536];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(n) => all.extend_from_slice(&chunk[..n]),
        }
    }
    parse_answer(&all)
}

pub fn parse_answer(all: &[u8]) -> Answer {
    let Some(end) = all.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Answer { head: String::from_utf8_lossy(all).into_owned(), ..Answer::default() };
    };
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let mut answer = Answer { status, head, body: all[end + 4..].to_vec() };
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.body = dechunk(&answer.body);
    }
    answer
}

pub fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = bytes.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        let data = &bytes[end + 2..];
        out.extend_from_slice(&data[..size.min(data.len())]);
        if size == 0 || data.len() < size + 2 {
            break;
        }
        bytes = &data[size + 2..];
    }
    out
}

pub fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

pub fn get(addr: SocketAddr, path: &str) -> Answer {
    raw(addr, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
}

pub fn post_bytes(path: &str, body: &str) -> Vec<u8> {
    request("POST", path, "Content-Type: application/json\r\n", body.as_bytes())
}

pub fn post(addr: SocketAddr, path: &str, body: &str) -> Answer {
    raw(addr, &post_bytes(path, body))
}

pub fn complete(addr: SocketAddr, body: &str) -> Answer {
    post(addr, "/v1/completions", body)
}

/// Reads until `part` has come (or the stream ends).
pub fn read_until(stream: &mut TcpStream, part: &str) -> String {
    let mut all = Vec::new();
    let mut chunk = [0; 4096];
    while !String::from_utf8_lossy(&all).contains(part) {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(n) => all.extend_from_slice(&chunk[..n]),
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

pub fn id(n: u64) -> RequestId {
    RequestId(n)
}

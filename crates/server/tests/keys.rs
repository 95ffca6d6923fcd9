//! Keys, quotas and the ledger through the server: R34, and every limit of a tier with a clock that stands still.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod shell;

use engine::api::Class;
use keys::{Clock, Created, Db, Meter, NewKey, Settings, UsageFilter, UsageRow};
use server::{Config, Running};
use shell::*;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Noon of some day, in milliseconds.
const NOON: u64 = (20_000 * 86_400 + 43_200) * 1000;
const GOOD: &str = r#"{"model":"echo","prompt":"ok","max_tokens":2}"#;

struct House {
    running: Running,
    knobs: Arc<Knobs>,
    meter: Arc<Meter>,
    now_ms: Arc<AtomicU64>,
    dir: tempfile::TempDir,
}

impl House {
    fn new(settings: &str, config: Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now_ms = Arc::new(AtomicU64::new(NOON));
        let for_clock = Arc::clone(&now_ms);
        let clock: Clock = Arc::new(move || for_clock.load(SeqCst));
        let db = Db::open(&dir.path().join("keys.db")).unwrap();
        let meter = Arc::new(Meter::start(db, Settings::parse(settings).unwrap(), clock).unwrap());
        let config = Config { meter: Some(Arc::clone(&meter)), ..config };
        let (running, knobs) = serve(config);
        Self { running, knobs, meter, now_ms, dir }
    }

    fn db(&self) -> Db {
        Db::open(&self.dir.path().join("keys.db")).unwrap()
    }

    fn key(&self, tier: &str) -> Created {
        let created = self.db().create(&NewKey { name: "n", tier, expires_s: None }, NOON / 1000).unwrap();
        self.meter.flush();
        created
    }

    fn addr(&self) -> SocketAddr {
        self.running.addr()
    }

    fn ask(&self, key: &str, path: &str, body: &str) -> Answer {
        let headers = format!("Content-Type: application/json\r\nAuthorization: Bearer {key}\r\n");
        raw(self.addr(), &request("POST", path, &headers, body.as_bytes()))
    }

    fn complete(&self, key: &str, body: &str) -> Answer {
        self.ask(key, "/v1/completions", body)
    }

    fn get(&self, key: &str, path: &str) -> Answer {
        raw(self.addr(), &request("GET", path, &format!("Authorization: Bearer {key}\r\n"), b""))
    }

    fn usage(&self) -> Vec<UsageRow> {
        self.meter.flush();
        self.db().usage(&UsageFilter::default()).unwrap()
    }
}

fn house(settings: &str) -> House {
    House::new(settings, Config::default())
}

/// Status, code and `Retry-After`.
fn refusal(answer: &Answer) -> (u16, String, u64) {
    (answer.status, answer.code(), answer.header("retry-after").map_or(0, |s| s.parse().unwrap()))
}

/// R34.
#[test]
fn without_a_good_key_every_path_says_the_same() {
    let h = house("");
    let (good, gone) = (h.key("pro").key, h.key("pro"));
    h.db().revoke(&gone.id, NOON / 1000).unwrap();
    h.meter.flush();
    let cut = &good[..good.len() - 1];
    let (longer, upper) = (format!("{good}0"), good.to_uppercase());
    let mut shown: Vec<String> =
        ["", "Bearer", "Bearer ", "Basic eDp5", "Bearer vonk-", "Bearer x"].map(Into::into).to_vec();
    shown.extend([cut, &longer, &upper, &gone.key, &gone.id].map(|k| format!("Bearer {k}")));
    shown.extend([good.clone(), format!("Basic {good}"), format!("Bearer {good}, Bearer {good}")]);
    let mut cases: Vec<String> = shown.iter().map(|v| format!("Authorization: {v}\r\n")).collect();
    cases.push(format!("Authorization: Bearer {good}\r\nAuthorization: Bearer {good}\r\n"));
    cases.push(format!("Authorization: Bearer x\r\napi-key: {good}\r\n"));
    cases.push(format!("x-api-key: {good}\r\n"));
    cases.push(format!("Cookie: key={good}\r\n"));
    cases.push(String::new());
    let mut bodies = Vec::new();
    let mut send = |line: &str, headers: &str, body: &str| {
        let (method, path) = line.split_once(' ').unwrap();
        let headers = format!("Content-Type: application/json\r\n{headers}");
        let answer = raw(h.addr(), &request(method, path, &headers, body.as_bytes()));
        // Ollama's clients read a message only.
        let is_ollama = path.starts_with("/api/");
        let code = if is_ollama { "" } else { "invalid_api_key" };
        assert_eq!((answer.status, answer.code().as_str()), (401, code), "{line} {headers}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert!(!answer.head.contains(&good[..20]) && answer.header("x-ratelimit-limit-requests").is_none());
        if !is_ollama {
            bodies.push(answer.body);
        }
    };
    for headers in &cases {
        send("POST /v1/completions", headers, GOOD);
    }
    for query in ["api_key", "key", "access_token", "authorization"] {
        send(&format!("POST /v1/completions?{query}={good}"), "", GOOD);
        send(&format!("GET /v1/models?{query}={good}"), "", "");
    }
    for line in [
        "POST /v1/chat/completions",
        "POST /infill",
        "POST /tokenize",
        "POST /detokenize",
        "POST /apply-template",
        "GET /props",
        "GET /v1/models",
        "GET /v1/models/echo",
        "GET /v1/responses",
        "GET /nothing/here",
        "DELETE /v1/completions",
        "OPTIONS /v1/completions",
        "GET /health/",
        "GET //health",
        "GET /Health",
        "POST /api/chat",
    ] {
        send(line, "", "");
        send(line, &format!("Authorization: Bearer {cut}\r\n"), "{");
    }
    assert!(bodies.windows(2).all(|w| w[0] == w[1]), "nothing tells one from another");
    assert_eq!(h.knobs.seen("+"), 0, "no side effects");
    for path in ["/health", "/ready", "/metrics"] {
        assert_eq!(get(h.addr(), path).status, 200, "{path}");
    }
    assert_eq!(h.complete(&good, GOOD).status, 200);
    let by_header = format!("Content-Type: application/json\r\napi-key: {good}\r\n");
    assert_eq!(raw(h.addr(), &request("POST", "/v1/completions", &by_header, GOOD.as_bytes())).status, 200);
    assert_eq!(h.get(&good, "/v1/models").status, 200);
    assert_eq!(h.get(&good, "/nothing/here").status, 404);
}

/// The gate comes first: a page in a browser learns nothing, with a key or without.
#[test]
fn hosts_and_origins_are_checked_before_keys() {
    let h = house("");
    let key = h.key("pro").key;
    for headers in ["Host: evil\r\n", "Host: localhost\r\nOrigin: http://evil\r\n"] {
        for key in ["", &format!("Authorization: Bearer {key}\r\n")] {
            let bytes = format!("GET /v1/models HTTP/1.1\r\nConnection: close\r\n{headers}{key}\r\n");
            assert_eq!(raw(h.addr(), bytes.as_bytes()).status, 403);
        }
    }
    let config = Config { origins: vec!["https://app.example".into()], ..Config::default() };
    let (running, _) = serve(config);
    let page = "GET /v1/models HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\nOrigin: https://app.example\r\n\r\n";
    assert_eq!(raw(running.addr(), page.as_bytes()).status, 200);
}

#[test]
fn the_first_key_locks_a_running_server() {
    let h = house("");
    assert_eq!(complete(h.addr(), GOOD).status, 200);
    assert_eq!(h.complete("sk-anything", GOOD).status, 200, "clients that must send some key");
    let key = h.key("free");
    assert_eq!(complete(h.addr(), GOOD).status, 401);
    assert_eq!(h.complete("sk-anything", GOOD).status, 401);
    assert_eq!(h.complete(&key.key, GOOD).status, 200);
    let new = h.db().rotate(&key.id, 0, NOON / 1000).unwrap();
    h.meter.flush();
    assert_eq!(h.complete(&key.key, GOOD).status, 401);
    assert_eq!(h.complete(&new.key, GOOD).status, 200);
    h.db().revoke(&key.id, NOON / 1000).unwrap();
    h.meter.flush();
    assert_eq!(h.complete(&new.key, GOOD).status, 401);
    assert_eq!(complete(h.addr(), GOOD).status, 401, "also when no key is left");
    let lost = h.key("lost");
    let answer = h.complete(&lost.key, GOOD);
    assert_eq!((answer.status, answer.code().as_str()), (403, "unknown_tier"));
    let locked = House::new("", Config { require_key: true, ..Config::default() });
    assert_eq!(complete(locked.addr(), GOOD).status, 401);
    assert_eq!(get(locked.addr(), "/health").status, 200);
}

#[test]
fn others_can_reach_a_server_with_a_key_only() {
    let bind: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let open = Config { bind, ..Config::default() };
    let Err(why) = server::start(open.clone()) else { panic!("it started") };
    assert!(why.to_string().contains("vonk keys create"), "{why}");
    let h = house("");
    let with = |meter: &Arc<Meter>| Config { meter: Some(Arc::clone(meter)), ..open.clone() };
    assert!(server::start(with(&h.meter)).is_err());
    let key = h.key("pro").key;
    let running = server::start(with(&h.meter)).unwrap();
    let local = SocketAddr::from(([127, 0, 0, 1], running.addr().port()));
    assert_eq!((get(local, "/metrics").status, get(local, "/health").status), (401, 200));
    let with_key = request("GET", "/metrics", &format!("Authorization: Bearer {key}\r\n"), b"");
    assert_eq!(raw(local, &with_key).status, 200);
}

#[test]
fn requests_per_minute() {
    let h = house("[tiers.t]\nrequests_per_minute = 3\n");
    let key = h.key("t").key;
    for left in [2, 1, 0] {
        let answer = h.complete(&key, GOOD);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("3"));
        assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some(left.to_string().as_str()));
        assert_eq!(answer.header("x-ratelimit-limit-tokens"), None, "there is no such limit");
    }
    h.now_ms.fetch_add(500, SeqCst);
    let answer = h.complete(&key, GOOD);
    assert_eq!(refusal(&answer), (429, "rate_limit_exceeded".into(), 20));
    assert_eq!(answer.header("x-ratelimit-reset-requests"), Some("59.5s"));
    assert_eq!(h.get(&key, "/v1/models").header("x-ratelimit-remaining-requests"), Some("0"), "on every answer");
    h.now_ms.fetch_add(19_499, SeqCst);
    assert_eq!(refusal(&h.complete(&key, GOOD)), (429, "rate_limit_exceeded".into(), 1));
    h.now_ms.fetch_add(1, SeqCst);
    assert_eq!(h.complete(&key, GOOD).status, 200);
    assert_eq!(h.complete(&h.key("t").key, GOOD).status, 200, "others are not concerned");
}

#[test]
fn tokens_per_minute_and_per_day() {
    let h = house("[tiers.t]\ntokens_per_minute = 600\n[tiers.d]\ntokens_per_day = 100\n");
    let (minute, day) = (h.key("t").key, h.key("d").key);
    // "ok" is two tokens, and two come back, then the end.
    let answer = h.complete(&minute, GOOD);
    assert_eq!(answer.json()["usage"]["total_tokens"], 4);
    assert_eq!(h.get(&minute, "/v1/models").header("x-ratelimit-remaining-tokens"), Some("596"), "settled");
    let answer = h.complete(&minute, r#"{"model":"echo","prompt":"ok","max_tokens":595}"#);
    assert_eq!(refusal(&answer), (429, "rate_limit_exceeded".into(), 1), "one token is there in 0.1 s");
    let long = "x".repeat(500);
    let answer = h.complete(&minute, &format!(r#"{{"model":"echo","prompt":"{long}","max_tokens":90}}"#));
    assert_eq!(answer.json()["usage"]["total_tokens"], 590);
    let answer = h.complete(&minute, r#"{"model":"echo","prompt":"ok","max_tokens":94}"#);
    assert_eq!(refusal(&answer), (429, "rate_limit_exceeded".into(), 9));
    assert_eq!(answer.header("x-ratelimit-remaining-tokens"), Some("6"));
    assert_eq!(answer.header("x-ratelimit-reset-tokens"), Some("59.4s"));
    h.now_ms.fetch_add(9000, SeqCst);
    assert_eq!(h.complete(&minute, r#"{"model":"echo","prompt":"ok","max_tokens":94}"#).status, 200);

    assert_eq!(h.complete(&day, r#"{"model":"echo","prompt":"ok","max_tokens":98}"#).status, 200);
    let answer = h.complete(&day, r#"{"model":"echo","prompt":"ok","max_tokens":98}"#);
    assert_eq!(refusal(&answer), (429, "insufficient_quota".into(), 43_200 - 9));
    assert_eq!(answer.json()["error"]["type"], "insufficient_quota");
    assert_eq!(h.complete(&day, r#"{"model":"echo","prompt":"ok","max_tokens":94}"#).status, 200, "what is left");
    h.now_ms.fetch_add(43_200_000, SeqCst);
    assert_eq!(h.complete(&day, r#"{"model":"echo","prompt":"ok","max_tokens":98}"#).status, 200);
}

/// An endless answer of some stream.
fn stream(h: &House, key: &str) -> std::net::TcpStream {
    let mut stream = connect(h.addr());
    let body = r#"{"model":"echo","prompt":"~a","stream":true,"max_tokens":1000}"#;
    let headers = format!("Content-Type: application/json\r\nAuthorization: Bearer {key}\r\n");
    stream.write_all(&request("POST", "/v1/completions", &headers, body.as_bytes())).unwrap();
    read_until(&mut stream, "\"text\"");
    stream
}

#[test]
fn streams_at_once() {
    let h = house("[tiers.t]\nstreams = 2\n[tiers.q]\nqueue_share = 0.01\n");
    h.knobs.step_ms.store(5, SeqCst);
    let key = h.key("t").key;
    let (a, _b) = (stream(&h, &key), stream(&h, &key));
    assert_eq!(refusal(&h.complete(&key, GOOD)), (429, "rate_limit_exceeded".into(), 1));
    drop(a);
    let end = Instant::now() + Duration::from_secs(20);
    while h.complete(&key, GOOD).status != 200 {
        assert!(Instant::now() < end, "a client that has gone gives its place back");
        std::thread::sleep(Duration::from_millis(5));
    }
    let key = h.key("q").key; // a hundredth of 256: two sequences
    let _c = stream(&h, &key);
    let three = r#"{"model":"echo","prompt":"ok","max_tokens":2,"n":2}"#;
    assert_eq!(refusal(&h.complete(&key, three)), (429, "rate_limit_exceeded".into(), 1));
    assert_eq!(h.complete(&key, GOOD).status, 200);
}

#[test]
fn a_model_that_is_not_for_a_key_is_not_there() {
    let h = house("[tiers.none]\nmodels = [\"other\"]\n[tiers.alias]\nmodels = [\"echo-alias\"]\n");
    let (none, some) = (h.key("none").key, h.key("alias").key);
    let ask = |key: &str, model: &str| {
        let body = format!(r#"{{"model":"{model}","prompt":"ok","max_tokens":2}}"#);
        [h.complete(key, &body), h.ask(key, "/tokenize", &format!(r#"{{"model":"{model}","content":"x"}}"#))]
    };
    let text = |a: &Answer, model: &str| a.text().replace(model, "MODEL");
    for model in ["echo", "echo-alias", "default"] {
        for (hidden, unknown) in ask(&none, model).iter().zip(&ask(&none, "nope")) {
            assert_eq!((hidden.status, hidden.code().as_str()), (404, "model_not_found"));
            assert_eq!(text(hidden, model), text(unknown, "nope"));
        }
        assert!(ask(&some, model).iter().all(|a| a.status == 200), "{model}");
    }
    assert_eq!(h.get(&none, "/v1/models").json()["data"].as_array().unwrap().len(), 0);
    assert_eq!(h.get(&some, "/v1/models").json()["data"][0]["id"], "echo");
    assert_eq!((h.get(&none, "/v1/models/echo").status, h.get(&none, "/props").status), (404, 404));
    assert_eq!((h.get(&some, "/v1/models/echo").status, h.get(&some, "/props").status), (200, 200));
}

#[test]
fn a_tier_bounds_the_class_and_weighs_the_share() {
    let h = house("[tiers.b]\nclass = \"batch\"\n[tiers.c]\nclass = \"chat\"\n[tiers.w]\nweight = 3\n");
    let (batch, chat, weighty) = (h.key("b").key, h.key("c").key, h.key("w").key);
    let ask = |key: &str, tier: &str| {
        let body = format!(r#"{{"model":"echo","prompt":"ok","max_tokens":2,"service_tier":"{tier}"}}"#);
        let told = h.complete(key, &body).json()["service_tier"].as_str().unwrap().to_owned();
        (h.knobs.last().class, told)
    };
    assert_eq!(ask(&batch, "priority"), (Class::Batch, "flex".into()));
    assert_eq!(ask(&batch, "auto"), (Class::Batch, "auto".into()));
    assert_eq!(ask(&chat, "priority"), (Class::Chat, "default".into()));
    assert_eq!(ask(&chat, "flex"), (Class::Batch, "flex".into()));
    assert_eq!(ask(&weighty, "priority"), (Class::Interactive, "priority".into()));

    let keys_of = |key: &str| -> Vec<u64> {
        let ask = |_| {
            assert_eq!(h.complete(key, GOOD).status, 200);
            h.knobs.last().key
        };
        (0..6).map(ask).collect()
    };
    let (w, c) = (keys_of(&weighty), keys_of(&chat));
    let different = |keys: &[u64]| keys.iter().collect::<std::collections::HashSet<_>>().len();
    assert_eq!((different(&w), different(&c)), (3, 1));
    assert_eq!(w[..3], w[3..], "they take turns");
    let salts = [&weighty, &chat].map(|key| {
        h.complete(key, GOOD);
        h.knobs.last().salt
    });
    assert!(salts[0] != salts[1] && !salts.contains(&0), "keys share no prefixes, also on loopback");
}

#[test]
fn the_ledger_has_what_answers_say_and_what_was_cut_short() {
    let h = house("[prices.echo]\ninput_per_mtok = 1\noutput_per_mtok = 2\n");
    let (a, b) = (h.key("pro"), h.key("pro"));
    let predicted =
        r#"{"model":"echo","prompt":"okay","max_tokens":4,"prediction":{"type":"content","content":"okxy"}}"#;
    let usage = h.complete(&a.key, predicted).json()["usage"].clone();
    let streamed = r#"{"model":"echo","prompt":["ab","cd"],"n":2,"max_tokens":2,"stream":true}"#;
    assert_eq!(h.complete(&a.key, streamed).status, 200);
    assert_eq!(h.complete(&a.key, r#"{"model":"echo","prompt":""}"#).status, 400);
    let rows = h.usage();
    assert_eq!((rows.len(), rows[0].key.as_str(), rows[0].model.as_str()), (1, a.id.as_str(), "echo"));
    let t = rows[0].tokens;
    let details = &usage["completion_tokens_details"];
    assert!(details["accepted_prediction_tokens"].as_u64().unwrap() > 0);
    assert_eq!(t.accepted_prediction, details["accepted_prediction_tokens"].as_u64().unwrap());
    assert_eq!((rows[0].requests, t.input, t.output), (2, 4 + 4, 4 + 8));
    assert_eq!(t.cached_input, 1 + 2, "the engine here says one for each prompt");
    assert_eq!(rows[0].cost_pico, 8_000_000 + 24_000_000);

    h.knobs.step_ms.store(5, SeqCst);
    drop(stream(&h, &b.key));
    let end = Instant::now() + Duration::from_secs(20);
    let row = loop {
        if let Some(row) = h.usage().into_iter().find(|r| r.key == b.id) {
            break row;
        }
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(row.requests == 1 && row.tokens.input == 2 && row.tokens.output >= 1 && row.tokens.output < 1000);
    // Who leaves during prefill pays for the prompt.
    let mut leaving = connect(h.addr());
    let body = format!(r#"{{"model":"echo","prompt":"{}","max_tokens":9,"stream":true}}"#, "x".repeat(1000));
    let headers = format!("Content-Type: application/json\r\nAuthorization: Bearer {}\r\n", b.key);
    leaving.write_all(&request("POST", "/v1/completions", &headers, body.as_bytes())).unwrap();
    read_until(&mut leaving, "200 OK"); // it has a slot, and 125 steps of prefill before it
    drop(leaving);
    while h.usage().iter().find(|r| r.key == b.id).unwrap().requests < 2 {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(h.usage().iter().find(|r| r.key == b.id).unwrap().tokens.input, 1002);
}

/// What was used just before the end is written.
#[test]
fn the_end_of_the_server_writes_the_ledger() {
    let h = house("");
    let key = h.key("pro").key;
    assert_eq!(h.complete(&key, GOOD).status, 200);
    let House { running, dir, .. } = h;
    running.drain();
    assert!(running.join().unwrap());
    let rows = Db::open(&dir.path().join("keys.db")).unwrap().usage(&UsageFilter::default()).unwrap();
    assert_eq!((rows.len(), rows[0].requests), (1, 1));
}

/// R34's guesses: all refused. Their clock is judged by hand, on a quiet machine (`VONK_GUESSES=1000000 cargo test -p server
/// --release --test keys timing -- --nocapture`): Welch's t between guesses that begin as a good key does and guesses that do not.
#[test]
fn timing_says_nothing_about_a_guess() {
    let h = house("");
    let good = h.key("pro").key;
    let near = format!("{}{}", &good[..good.len() - 1], if good.ends_with('0') { '1' } else { '0' });
    let far = format!("vonk-{}", "0".repeat(64));
    let asked = std::env::var("VONK_GUESSES").ok().map(|n| n.parse::<u64>().unwrap());
    let n = asked.unwrap_or(2000);
    let mut sums = [(0.0f64, 0.0f64); 2];
    for i in 0..n {
        let (which, guess) = if base::rng::bits(1, i, 0) & 1 == 0 { (0, &near) } else { (1, &far) };
        let begin = Instant::now();
        assert!(h.meter.authenticate(guess.as_bytes()).is_err());
        let ns = (begin.elapsed().as_nanos() as f64).min(20_000.0);
        sums[which] = (sums[which].0 + ns, sums[which].1 + ns * ns);
    }
    let half = n as f64 / 2.0;
    let [a, b] = sums.map(|(s, q)| (s / half, (q / half - (s / half).powi(2)) / half));
    let t = (a.0 - b.0) / (a.1 + b.1).sqrt();
    println!("{:.1} ns against {:.1} ns, t = {t:.2}", a.0, b.0);
    assert!(asked.is_none() || t.abs() < 4.5, "t = {t}");
}

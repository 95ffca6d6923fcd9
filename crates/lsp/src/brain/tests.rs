//! The brain against a scripted server and clock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;

/// A brain, what it has shown, and what it has asked and not ended.
struct Desk {
    brain: Brain,
    now: Micros,
    request: u64,
    open: Vec<(u64, Prompt)>,
    shown: Vec<(u64, Option<Suggestion>, bool)>,
    wake_at: Option<Micros>,
    doc: String,
    after: String,
}

impl Desk {
    fn new(doc: &str, after: &str) -> Self {
        let (doc, after) = (doc.to_owned(), after.to_owned());
        Self { brain: Brain::new(), now: 0, request: 0, open: vec![], shown: vec![], wake_at: None, doc, after }
    }

    fn act(&mut self, f: impl FnOnce(&mut Brain, Micros, &mut Vec<Effect>)) {
        let mut out = Vec::new();
        f(&mut self.brain, self.now, &mut out);
        for effect in out {
            match effect {
                Effect::Ask(id, prompt) => self.open.push((id, prompt)),
                Effect::Cancel(id) => self.open.retain(|(i, _)| *i != id),
                Effect::Show { request, suggestion, is_last } => self.shown.push((request, suggestion, is_last)),
                Effect::WakeAt(at) => self.wake_at = Some(self.wake_at.map_or(at, |w| w.min(at))),
            }
        }
    }

    fn view(&self) -> View {
        View { path: "a.rs".into(), before: self.doc.clone(), after: self.after.clone(), offset: self.doc.len() }
    }

    fn key(&mut self, typed: &str) -> u64 {
        self.doc.push_str(typed);
        self.request += 1;
        let (request, view) = (self.request, self.view());
        self.act(|b, now, out| b.key(now, request, view, out));
        request
    }

    /// The open question that somebody waits for.
    fn urgent(&self) -> Option<u64> {
        self.open.iter().find(|(_, p)| p.is_urgent).map(|(id, _)| *id)
    }

    fn text(&mut self, text: &str) {
        let id = self.urgent().expect("nothing is asked");
        self.now += 12_000;
        self.act(|b, now, out| b.text(now, id, text, out));
    }

    fn ended(&mut self, id: u64, ended: Result<Ended, String>) {
        self.open.retain(|(i, _)| *i != id);
        self.act(|b, now, out| b.ended(now, id, ended, out));
    }

    fn wait(&mut self, us: Micros) {
        let end = self.now + us;
        while let Some(at) = self.wake_at.filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.wake_at = None;
            self.act(|b, now, out| b.wake(now, out));
        }
        self.now = end;
    }

    /// The last text shown for a request.
    fn text_of(&self, request: u64) -> Option<String> {
        self.shown
            .iter()
            .rev()
            .find(|(r, s, _)| *r == request && s.is_some())
            .and_then(|(_, s, _)| Some(s.clone()?.text))
    }

    fn is_over(&self, request: u64) -> bool {
        self.shown.iter().any(|(r, _, last)| *r == request && *last)
    }
}

fn done() -> Result<Ended, String> {
    Ok(Ended { is_done: true, ..Ended::default() })
}

#[test]
fn a_suggestion_grows_and_keys_that_follow_it_cost_nothing() {
    let mut desk = Desk::new("fn main() {}\nlet x", "\n");
    let first = desk.key("");
    desk.text(" =");
    assert_eq!(desk.text_of(first), None, "one piece says little");
    desk.text(" foo");
    assert_eq!(desk.text_of(first).unwrap(), " = foo");
    assert!(!desk.is_over(first));
    let second = desk.key(" ");
    assert_eq!(desk.text_of(second).unwrap(), "= foo");
    assert!(desk.is_over(first), "the earlier request gets its last word");
    desk.text("(bar);");
    assert_eq!(desk.text_of(second).unwrap(), "= foo(bar);");
    desk.text("\n");
    assert!(desk.is_over(second));
    assert_eq!(desk.brain.counts().asked, 1);
    let third = desk.key("= f");
    assert_eq!(desk.text_of(third).unwrap(), "oo(bar);");
    assert_eq!(desk.brain.counts(), Counts { asked: 1, ..Counts::default() });
}

#[test]
fn a_key_that_contradicts_stops_the_server_and_asks_anew() {
    let mut desk = Desk::new("let x", "\n");
    desk.key("");
    desk.text(" = foo");
    let old = desk.urgent().unwrap();
    let request = desk.key(":");
    assert_ne!(desk.urgent().unwrap(), old);
    assert_eq!(desk.open.len(), 1, "no backlog");
    assert_eq!(desk.brain.counts().cancelled, 1);
    assert!(desk.open[0].1.prefix.ends_with("let x:"), "the prefix ends at the cursor");
    desk.act(|b, now, out| b.text(now, old, "late", out));
    desk.text(" u8");
    desk.text(" = 1;\n");
    assert_eq!(desk.text_of(request).unwrap(), " u8 = 1;");
}

#[test]
fn a_burst_leaves_one_question_and_every_request_is_answered_once() {
    let mut desk = Desk::new("", "");
    let requests: Vec<u64> = "let quick = brown".chars().map(|c| desk.key(&c.to_string())).collect();
    assert_eq!(desk.open.len(), 1);
    let id = desk.urgent().unwrap();
    desk.ended(id, done());
    for request in requests {
        assert_eq!(desk.shown.iter().filter(|(r, _, last)| *r == request && *last).count(), 1);
    }
}

#[test]
fn deleting_what_was_typed_finds_the_earlier_answer() {
    let mut desk = Desk::new("let x", "\n");
    desk.key("");
    desk.text(" = foo");
    desk.text("();\n");
    desk.key("y");
    desk.doc.pop();
    let back = desk.key("");
    assert_eq!(desk.text_of(back).unwrap(), " = foo();");
    assert!(desk.is_over(back));
}

#[test]
fn what_comes_after_the_suggestion_is_asked_while_nobody_types() {
    let mut desk = Desk::new("fn f() {\n    let x", "\n}\n");
    desk.key("");
    desk.text(" =");
    desk.text(" 1;");
    let id = desk.urgent().unwrap();
    desk.ended(id, Ok(Ended::default())); // the bound on tokens, not the model's word
    desk.wait(50_000);
    assert!(desk.open.is_empty(), "somebody may be typing");
    desk.wait(100_000);
    let (ahead, prompt) = desk.open[0].clone();
    assert!(!prompt.is_urgent && prompt.prefix.ends_with("let x = 1;"));
    desk.act(|b, now, out| b.text(now, ahead, "\n    let y = 2;\n", out));
    desk.ended(ahead, done());
    let accepted = desk.key(" = 1;");
    assert_eq!(desk.text_of(accepted).unwrap(), "\n    let y = 2;");
    assert_eq!(desk.brain.counts().asked, 1);
}

#[test]
fn idle_time_fills_the_servers_cache_in_slices_and_a_key_takes_it_back() {
    let text: String = (0..300).map(|i| format!("let number_{i} = {i};\n")).collect();
    let mut desk = Desk::new(&text, "");
    desk.key("");
    let id = desk.urgent().unwrap();
    assert!(desk.open[0].1.prefix.len() <= desk.brain.speed().cold_bytes(), "nothing is cached yet");
    desk.ended(id, done());
    desk.wait(200_000);
    let slice = desk.open[0].1.clone();
    assert!(slice.n_predict == 0 && !slice.is_urgent && slice.prefix.len() <= desk.brain.speed().slice_bytes());
    desk.key("x");
    assert_eq!(desk.open.len(), 1, "the slice was stopped");
    let id = desk.urgent().unwrap();
    desk.ended(id, done());
    for _ in 0..100 {
        desk.wait(200_000);
        let Some((id, _)) = desk.open.first().cloned() else { break };
        desk.ended(id, Ok(Ended::default()));
    }
    desk.key("y");
    let whole = desk.brain.speed().window_bytes();
    assert!(desk.open[0].1.prefix.len() > whole * 9 / 10, "the whole window is used");
}

#[test]
fn secrets_do_not_leave() {
    let key = format!("ghp_{}", "a1".repeat(18));
    let mut desk = Desk::new(&format!("let token = \"{key}\";\nlet x"), &format!("\n// {key}\n"));
    desk.key("");
    assert!(!desk.open[0].1.prefix.contains(&key) && !desk.open[0].1.suffix.contains(&key));
    desk.doc = format!("let token = \"{key}");
    let request = desk.key("");
    assert!(desk.open.is_empty() && desk.is_over(request), "none on the line of a secret");
    let view = View { path: "deploy/.env".into(), ..desk.view() };
    desk.act(|b, now, out| b.key(now, 99, view, out));
    assert!(desk.open.is_empty() && desk.is_over(99));
}

#[test]
fn a_server_that_fails_is_asked_again_later_and_later() {
    let mut desk = Desk::new("let x", "\n");
    let mut waits = Vec::new();
    for i in 0..5 {
        let request = desk.key(if i % 2 == 0 { "a" } else { "b" });
        let asked_at = desk.now;
        while desk.urgent().is_none() {
            desk.wait(10_000);
        }
        waits.push(desk.now - asked_at);
        let id = desk.urgent().unwrap();
        desk.ended(id, Err("no server".into()));
        assert!(desk.is_over(request));
    }
    assert!(waits[0] == 0 && waits.windows(2).all(|w| w[0] <= w[1]) && waits[4] >= 3_000_000, "{waits:?}");
}

#[test]
fn a_slow_server_lets_keys_pass() {
    let mut desk = Desk::new("let x", "\n");
    for _ in 0..30 {
        desk.key("=");
        desk.wait(2_000_000);
        if let Some(id) = desk.urgent() {
            desk.text("1");
            desk.ended(id, done());
        }
        desk.now += 1;
    }
    desk.brain.speed.ttft_ms = 600.0;
    desk.key("q");
    assert!(desk.urgent().is_none());
    desk.key("r");
    desk.wait(200_000);
    assert!(desk.urgent().is_some());
}

proptest::proptest! {
    /// Whatever happens, each request ends exactly once, at most one question is urgent, and what is shown follows the text.
    #[test]
    fn any_sequence_of_events_keeps_the_books(events in proptest::collection::vec((0u8..6, "[a-c(){}\n ]{0,4}"), 1..60)) {
        let mut desk = Desk::new("fn f() {\n    ", "\n}\n");
        for (kind, text) in events {
            let open = desk.open.first().map(|(id, _)| *id);
            match (kind, open) {
                (0 | 1, _) => {
                    desk.key(&text);
                }
                (2 | 3, Some(id)) => desk.act(|b, now, out| b.text(now, id, &text, out)),
                (4, Some(id)) => {
                    let ended = if text.len() > 2 { Err(text) } else { Ok(Ended { is_done: text.is_empty(), ..Ended::default() }) };
                    desk.ended(id, ended);
                }
                _ => desk.wait(60_000),
            }
            proptest::prop_assert!(desk.open.len() <= 2);
            proptest::prop_assert!(desk.open.iter().filter(|(_, p)| p.is_urgent).count() <= 1);
        }
        desk.key("");
        for request in 1..desk.request {
            let n_last = desk.shown.iter().filter(|(r, _, last)| *r == request && *last).count();
            proptest::prop_assert_eq!(n_last, 1, "request {}", request);
        }
    }
}

//! What the engine is told, and what becomes of what it says: against an engine that follows a script, without sockets.

use super::*;
use engine::api::Load;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// One step of the script: effects, rows, and whether there is more to do.
type Step = (Vec<Effect>, usize, bool);

/// Tells what it heard and does what it is told.
struct Script {
    info: Info,
    heard: SyncSender<Vec<Event>>,
    steps: Receiver<Step>,
    rows: usize,
}

impl Stepper for Script {
    fn info(&self) -> &Info {
        &self.info
    }
    fn step(&mut self, events: &mut Vec<Event>, effects: &mut Vec<Effect>) -> bool {
        self.heard.send(std::mem::take(events)).unwrap();
        let Ok((mut said, rows, is_busy)) = self.steps.recv() else { return false };
        effects.append(&mut said);
        self.rows = rows;
        is_busy
    }
    fn load(&self) -> Load {
        Load { rows: self.rows, ..Load::default() }
    }
    fn reset(&mut self) {}
}

fn script() -> (Runner, Receiver<Vec<Event>>, SyncSender<Step>) {
    let (heard, ears) = sync_channel(64);
    let (mouth, steps) = sync_channel(64);
    let info = Info { n_ctx: 64, n_vocab: 260, n_slots: 1, fingerprint: String::new() };
    let stepper = Script { info, heard, steps, rows: 0 };
    (start("script", Box::new(stepper), None, 8).unwrap(), ears, mouth)
}

fn token(id: RequestId, token: TokenId) -> Effect {
    Effect::Token { id, token, logprobs: None, bits: 0 }
}

fn submit(runner: &Runner, ids: &[u64]) -> (Notes, Ticket) {
    let request = |id: &u64| Request::new(RequestId(*id), vec![1], 4);
    runner.mailbox.submit(ids.iter().map(request).collect()).unwrap()
}

#[test]
fn each_step_begins_with_the_time_and_what_the_last_one_took() {
    let (runner, ears, mouth) = script();
    let id = RequestId(1);
    let (_notes, ticket) = submit(&runner, &[1]);
    mouth.send((vec![Effect::Admitted { id }], 0, true)).unwrap(); // no rows: not to be told
    mouth.send((vec![token(id, 5)], 3, true)).unwrap();
    mouth.send((vec![token(id, 6)], 1, true)).unwrap();
    let heard: Vec<Vec<Event>> = (0..3).map(|_| ears.recv().unwrap()).collect();
    let [Event::Clock(a), Event::Submit(r)] = &heard[0][..] else { panic!("{:?}", heard[0]) };
    assert_eq!(r.id, id);
    let [Event::Clock(b)] = &heard[1][..] else { panic!("{:?}", heard[1]) };
    let [Event::Clock(c), Event::Took(ns)] = &heard[2][..] else { panic!("{:?}", heard[2]) };
    assert!(a <= b && b <= c && *ns > 0);
    drop(ticket);
    let last = ears.recv().unwrap();
    assert!(matches!(&last[..2], [Event::Clock(_), Event::Took(_)]), "{last:?}");
    drop(mouth);
    runner.mailbox.close();
}

#[test]
fn tokens_of_a_step_are_one_note_in_order_before_the_end() {
    let (runner, _ears, mouth) = script();
    let (a, b) = (RequestId(1), RequestId(2));
    let (mut notes, mut ticket) = submit(&runner, &[1, 2]);
    let drafts = Drafts { offered: [9, 1, 0, 0], accepted: [4, 1, 0, 0] };
    let effects = vec![
        Effect::Admitted { id: a },
        Effect::Prefilled { id: a, n_prompt: 1, n_cached: 0 },
        token(a, 1),
        token(b, 7),
        token(a, 2),
        token(b, 8),
        token(a, 3),
        Effect::Finished { id: a, reason: Finish::Length, drafts },
    ];
    mouth.send((effects, 5, true)).unwrap();
    mouth.send((vec![Effect::Finished { id: b, reason: Finish::StopToken, drafts }], 1, false)).unwrap();
    let mut said = Vec::new();
    for _ in 0..6 {
        let Note { choice, news, .. } = notes.blocking_recv().unwrap();
        match news {
            News::Tokens(tokens) => said.push(format!("{choice}:{tokens:?}")),
            News::Finished(reason, d) => {
                assert_eq!(*d, drafts);
                ticket.ended(choice);
                said.push(format!("{choice}:{reason:?}"));
            }
            News::Admitted | News::Prefilled { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(said, ["0:[1, 2, 3]", "0:Length", "1:[7, 8]", "1:StopToken"]);
    let mut text = String::new();
    let metrics = &runner.mailbox.metrics;
    crate::metrics::write_models(&mut text, &[crate::metrics::Row { name: "m", queued: 0, slots: 1, metrics }]);
    for line in [
        "vonk_generated_tokens_total{model=\"m\"} 5",
        "vonk_ttft_seconds_count{model=\"m\"} 2",
        "vonk_itl_seconds_count{model=\"m\"} 3",
        "vonk_draft_tokens_total{model=\"m\",source=\"prediction\",outcome=\"accepted\"} 8",
        "vonk_draft_tokens_total{model=\"m\",source=\"prediction\",outcome=\"rejected\"} 10",
        "vonk_draft_tokens_total{model=\"m\",source=\"history\",outcome=\"rejected\"} 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    runner.mailbox.close();
}

/// Who was preempted waits again, is counted as waiting, and its prompt is counted once.
#[test]
fn a_preempted_sequence_waits_again() {
    let (runner, ears, mouth) = script();
    let id = RequestId(1);
    let (mut notes, _ticket) = submit(&runner, &[1]);
    let begin = || vec![Effect::Admitted { id }, Effect::Prefilled { id, n_prompt: 1, n_cached: 0 }];
    let step = |effects: Vec<Effect>| {
        mouth.send((effects, 1, true)).unwrap();
        ears.recv().unwrap();
    };
    let waits_until = |n: usize| {
        let end = Instant::now() + Duration::from_secs(20);
        while runner.mailbox.queued() != n {
            assert!(Instant::now() < end);
            std::thread::yield_now();
        }
    };
    step(begin());
    waits_until(0);
    step(vec![Effect::Preempted { id }]);
    waits_until(1);
    step(begin());
    waits_until(0);
    step(vec![token(id, 3)]);
    let mut tokens = 0;
    while tokens == 0 {
        tokens += usize::from(matches!(notes.blocking_recv().unwrap().news, News::Tokens(_)));
    }
    assert_eq!(runner.mailbox.metrics.prompt_tokens.load(Relaxed), 1);
    assert_eq!(runner.mailbox.metrics.preempted.load(Relaxed), 1);
    runner.mailbox.close();
}

/// R25 without sockets: a thousand clients in all phases drop their tickets at once; each is cancelled once.
#[test]
fn a_storm_of_dropped_tickets_is_cancelled_to_the_last() {
    struct Slots(Info, Vec<RequestId>, Arc<AtomicUsize>);
    impl Stepper for Slots {
        fn info(&self) -> &Info {
            &self.0
        }
        fn step(&mut self, events: &mut Vec<Event>, effects: &mut Vec<Effect>) -> bool {
            for event in events.drain(..) {
                match event {
                    Event::Submit(r) => self.1.push(r.id),
                    Event::Cancel(id) => {
                        let at = self.1.iter().position(|known| *known == id).unwrap();
                        self.1.remove(at);
                        effects.push(Effect::Finished { id, reason: Finish::Cancelled, drafts: Drafts::default() });
                    }
                    _ => {}
                }
            }
            // The first is prefilled, the next three are decoding, the others wait.
            effects.extend(self.1.iter().take(4).map(|id| Effect::Admitted { id: *id }));
            effects.extend(self.1.iter().take(4).skip(1).map(|id| token(*id, 5)));
            self.2.store(self.1.len(), SeqCst);
            std::thread::sleep(Duration::from_micros(200)); // as a step does: tokens without end would fill the memory
            !self.1.is_empty()
        }
        fn load(&self) -> Load {
            Load { pages_used: self.1.len(), rows: self.1.len(), ..Load::default() }
        }
        fn reset(&mut self) {}
    }
    let live = Arc::new(AtomicUsize::new(0));
    let info = Info { n_ctx: 64, n_vocab: 260, n_slots: 4, fingerprint: String::new() };
    let runner = start("slots", Box::new(Slots(info, Vec::new(), Arc::clone(&live))), None, 1000).unwrap();
    let held: Vec<_> = (0..1000).map(|i| submit(&runner, &[i])).collect();
    let wait = |n: usize| {
        let end = Instant::now() + Duration::from_secs(20);
        while live.load(SeqCst) != n {
            assert!(Instant::now() < end, "{} live", live.load(SeqCst));
            std::thread::yield_now();
        }
    };
    wait(1000);
    drop(held);
    wait(0);
    let end = Instant::now() + Duration::from_secs(20);
    while runner.mailbox.queued() != 0 || runner.mailbox.metrics.cancelled.load(Relaxed) != 1000 {
        assert!(Instant::now() < end);
        std::thread::yield_now();
    }
    runner.mailbox.close();
}

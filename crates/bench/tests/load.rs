//! Load against scripted servers: how many requests at once, what counts as in time, what a dying server does to the report.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod scripted;

use std::collections::HashSet;
use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bench::BenchError;
use bench::load::{LoadArgs, Mode, Report, run};
use scripted::{SSE, answer, delta, serve};

fn args(url: &str) -> LoadArgs {
    LoadArgs { url: url.to_owned(), seconds: 1, timeout_s: 30, seed: Some(7), ..LoadArgs::default() }
}

fn quiet(args: &LoadArgs) -> Result<Report, BenchError> {
    run(args, &mut |_| {})
}

#[test]
fn arrivals_do_not_wait_for_answers() {
    // Each answer takes 300 ms; 20 a second only come through if several are open at once.
    let (url, bodies) = serve(|_, s, _| answer(s, &["a", "b", "c"], 100, Some(5)));
    let (b, b_bodies) = serve(|_, s, _| answer(s, &["a"], 1, Some(1)));
    let report =
        quiet(&LoadArgs { rates: vec![20.0], against: Some(b), slo_ttft_ms: 1e6, slo_itl_ms: 1e6, ..args(&url) });
    let report = report.unwrap();
    let [a, b] = report.rows.as_slice() else { panic!("{report:?}") };
    assert_eq!((a.server, a.mode), ('A', Mode::Open { rate: 20.0 }));
    assert_eq!(a.sent, b.sent, "both get the same arrivals");
    assert!(a.sent > 8 && a.finished == a.sent && a.errors == 0 && a.not_sent == 0, "{a:?}");
    assert_eq!((a.good, a.tokens), (a.sent, 5 * a.sent as u64));
    let (ttft, itl) = (a.ttft_ms.unwrap(), a.itl_ms.unwrap());
    assert!(ttft.p50 >= 100.0 && ttft.p50 <= ttft.p95 && ttft.p95 <= ttft.p99, "{ttft:?}");
    // 4 tokens after the first in at least 2 * 100 ms.
    assert!(itl.p50 >= 50.0, "{itl:?}");
    let one_by_one_s = 0.3 * a.sent as f64;
    assert!(a.drained_s < one_by_one_s, "{a:?}");
    assert!(b.itl_ms.is_none(), "one token has no pace: {b:?}");
    let prompts = |bodies: std::sync::mpsc::Receiver<(String, serde_json::Value)>, n: usize| -> HashSet<String> {
        bodies.iter().take(n).map(|(_, b)| b["messages"][0]["content"].as_str().unwrap().to_owned()).collect()
    };
    let (of_a, of_b) = (prompts(bodies, a.sent + 1), prompts(b_bodies, b.sent + 1));
    assert_eq!(of_a.len(), a.sent + 1, "every prompt is new");
    assert_eq!(of_a, of_b);
    let lengths: HashSet<usize> = of_a.iter().map(String::len).collect();
    assert!(lengths.len() > 2, "sizes are mixed: {lengths:?}");
    let value = serde_json::to_value(&report).unwrap();
    assert_eq!((&value["rows"][0]["mode"], &value["rows"][0]["rate"]), (&"open".into(), &20.0.into()));
    assert!(report.to_string().contains("good/s"), "{report}");
}

#[test]
fn only_requests_in_time_are_good() {
    let (url, _b) = serve(|_, s, _| answer(s, &["a", "b", "c"], 60, Some(3)));
    let with = |slo_ttft_ms, slo_itl_ms| {
        let report = quiet(&LoadArgs { rates: vec![10.0], slo_ttft_ms, slo_itl_ms, ..args(&url) }).unwrap();
        (report.rows[0].finished, report.rows[0].good)
    };
    let (finished, good) = with(1e6, 1e6);
    assert!(finished > 0 && finished == good);
    assert_eq!(with(50.0, 1e6).1, 0, "the first text is late");
    assert_eq!(with(1e6, 50.0).1, 0, "the pace is too slow");
}

#[test]
fn a_number_of_streams_is_open_all_the_time() {
    let open = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (open_too, most_too) = (Arc::clone(&open), Arc::clone(&most));
    let (url, _b) = serve(move |_, s, _| {
        most_too.fetch_max(open_too.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(100));
        open_too.fetch_sub(1, Ordering::SeqCst);
        answer(s, &["a", "b"], 50, Some(8));
    });
    let report = quiet(&LoadArgs { streams: vec![3], ..args(&url) }).unwrap();
    let row = &report.rows[0];
    assert_eq!((most.load(Ordering::SeqCst), row.mode), (3, Mode::Closed { streams: 3 }));
    assert!(row.finished >= 3 && row.errors == 0, "{row:?}");
    // What came after the end of the measurement does not count for the speed.
    assert!(row.tokens_per_s <= row.tokens as f64 && row.tokens_per_s > 0.0, "{row:?}");
}

#[test]
fn refusals_are_counted_and_a_dead_server_ends_it() {
    let (url, _b) = serve(|n, s, _| match n % 2 {
        1 => s.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy").unwrap(),
        _ => answer(s, &["a", "b"], 1, Some(2)),
    });
    let report = quiet(&LoadArgs { rates: vec![20.0], ..args(&url) }).unwrap();
    let row = &report.rows[0];
    assert!(row.errors > 0 && row.finished > 0 && row.errors + row.finished == row.sent, "{row:?}");
    assert!(report.stopped.is_none() && report.to_string().contains("answered 503: busy"), "{report}");
    // Warms up, then breaks off every answer: the second stream count is never tried.
    let (url, _b) = serve(|n, s, _| match n {
        0 => answer(s, &["a", "b"], 1, Some(2)),
        _ => {
            s.write_all(SSE.as_bytes()).unwrap();
            delta(s, "x");
        }
    });
    let report = quiet(&LoadArgs { streams: vec![2, 4], ..args(&url) }).unwrap();
    assert_eq!((report.rows.len(), report.rows[0].errors), (1, 6), "three failures in a row end a stream");
    assert!(report.stopped.as_deref().unwrap().contains("in the middle of its answer"), "{report:?}");
}

#[test]
fn a_server_that_is_down_and_settings_that_are_wrong_are_named() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = quiet(&LoadArgs { rates: vec![1.0], ..args(&format!("http://{free}")) }).unwrap_err();
    assert!(error.is_connect() && error.to_string().contains(&free.to_string()), "{error}");
    let rates = vec![1.0];
    for (given, part) in [
        (args("http://a"), "--rates, --streams"),
        (LoadArgs { rates: vec![1.0; 33], ..args("http://a") }, "--rates, --streams"),
        (LoadArgs { rates: vec![0.0], ..args("http://a") }, "--rates"),
        (LoadArgs { rates: vec![f64::NAN], ..args("http://a") }, "--rates"),
        (LoadArgs { rates: vec![1e9], ..args("http://a") }, "--rates"),
        (LoadArgs { streams: vec![0], ..args("http://a") }, "--streams"),
        (LoadArgs { streams: vec![100_000], ..args("http://a") }, "--streams"),
        (LoadArgs { seconds: 0, rates: rates.clone(), ..args("http://a") }, "--seconds"),
        (LoadArgs { max_tokens: 0, rates: rates.clone(), ..args("http://a") }, "--max-tokens"),
        (LoadArgs { prompt_tokens: vec![], rates: rates.clone(), ..args("http://a") }, "--prompt-tokens"),
        (LoadArgs { prompt_tokens: vec![usize::MAX], rates, ..args("http://a") }, "--prompt-tokens"),
    ] {
        let error = quiet(&given).unwrap_err();
        assert!(error.is_bad_input() && error.to_string().contains(part), "{error}");
    }
}

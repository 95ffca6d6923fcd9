//! Splits of characters and stop strings over token borders, against references that see the whole text.
use super::*;
use base::rng;

/// Pushes `bytes` in pieces that end at `cuts`.
fn in_pieces(bytes: &[u8], cuts: &[usize]) -> String {
    let (mut detokenizer, mut out, mut from) = (Detokenizer::default(), String::new(), 0);
    for &cut in cuts.iter().chain([&bytes.len()]) {
        detokenizer.push(&bytes[from..cut], &mut out);
        from = cut;
    }
    detokenizer.finish(&mut out);
    out
}

#[test]
fn every_split_of_every_kind_of_character_gives_the_same_text() {
    let samples: &[&[u8]] = &[
        "aé中🚀b".as_bytes(),
        "🚀".as_bytes(),
        b"\xf0\x9f\x9a",
        b"a\xffb\xc3",
        b"\xe4\xb8\xf0\x9f\x9a\x80",
        b"\xc0\xaf\xed\xa0\x80\xf5\x80",
        b"\x80\x80\xf0\x28\x8c\xbc",
    ];
    for bytes in samples {
        let whole = String::from_utf8_lossy(bytes);
        for mask in 0..1u32 << (bytes.len() - 1) {
            let cuts: Vec<usize> = (1..bytes.len()).filter(|i| mask >> (i - 1) & 1 == 1).collect();
            assert_eq!(in_pieces(bytes, &cuts), whole, "{bytes:x?} cut at {cuts:?}");
        }
    }
}

#[test]
fn half_a_character_is_held_until_it_is_whole() {
    let (mut detokenizer, mut out) = (Detokenizer::default(), String::new());
    for byte in &"🚀".as_bytes()[..3] {
        detokenizer.push(&[*byte], &mut out);
        assert_eq!(out, "");
    }
    detokenizer.push(&"🚀".as_bytes()[3..], &mut out);
    assert_eq!(out, "🚀");
}

/// The text before the stop that is completed first (the longest where several are), and which it is.
fn reference(text: &str, stops: &[String]) -> (String, Option<usize>) {
    for end in 1..=text.len() {
        let found =
            stops.iter().enumerate().filter(|(_, s)| !s.is_empty() && text.as_bytes()[..end].ends_with(s.as_bytes()));
        if let Some((which, stop)) = found.min_by_key(|(i, s)| (usize::MAX - s.len(), *i)) {
            return (text[..end - stop.len()].to_string(), Some(which));
        }
    }
    (text.to_string(), None)
}

#[test]
fn ten_thousand_random_stops_over_random_borders() {
    let alphabet: Vec<char> = "aab\né中🚀".chars().collect();
    for case in 0..10_000u64 {
        let mut n = 0;
        let mut draw = |below: u64| {
            n += 1;
            rng::bits(7, case, n) % below
        };
        let string = |len: u64, draw: &mut dyn FnMut(u64) -> u64| -> String {
            (0..len).map(|_| alphabet[draw(alphabet.len() as u64) as usize]).collect()
        };
        let stops: Vec<String> = (0..1 + draw(4))
            .map(|_| {
                let len = draw(5);
                string(len, &mut draw)
            })
            .collect();
        let len = draw(30);
        let text = string(len, &mut draw);
        let (want, which) = reference(&text, &stops);
        let (mut stream, mut out, mut from) = (TextStream::new(&stops, false).unwrap(), String::new(), 0);
        let mut stopped = None;
        while from < text.len() {
            let to = (from + 1 + draw(4) as usize).min(text.len());
            stopped = stream.push_bytes(&text.as_bytes()[from..to], &mut out).stopped;
            assert!(want.starts_with(&out), "case {case}: leaked {out:?}, want {want:?} for {stops:?}");
            from = to;
        }
        stopped = stream.finish(&mut out).stopped.or(stopped);
        assert_eq!((&out, stopped), (&want, which), "case {case}: {text:?} {stops:?}");
    }
}

#[test]
fn text_that_only_looked_like_a_stop_comes_out() {
    let mut stream = TextStream::new(&["</s>".to_string()], false).unwrap();
    let mut out = String::new();
    stream.push_bytes(b"x</", &mut out);
    assert_eq!(out, "x");
    stream.push_bytes(b"p>", &mut out);
    assert_eq!(out, "x</p>");
    stream.push_bytes(b"<", &mut out);
    assert_eq!(out, "x</p>");
    assert_eq!(stream.finish(&mut out), Pushed { stopped: None });
    assert_eq!(out, "x</p><");
}

#[test]
fn nothing_comes_after_a_stop() {
    let mut stream = TextStream::new(&["stop".to_string()], false).unwrap();
    let mut out = String::new();
    assert_eq!(stream.push_bytes(b"go stop more", &mut out).stopped, Some(0));
    assert_eq!(stream.push_bytes(b"more", &mut out).stopped, Some(0));
    assert_eq!(stream.finish(&mut out).stopped, Some(0));
    assert_eq!(out, "go ");
}

#[test]
fn too_many_or_too_long_stops_are_refused() {
    assert!(TextStream::new(&vec!["x".to_string(); STOPS_MAX + 1], false).is_err());
    assert!(TextStream::new(&["x".repeat(STOP_BYTES_MAX + 1)], false).is_err());
    assert!(TextStream::new(&vec!["x".repeat(STOP_BYTES_MAX); STOPS_MAX], false).is_ok());
}

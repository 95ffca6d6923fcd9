//! Frames as clients send them, whole, in pieces and wrong; the vectors of both RFCs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use proptest::prelude::*;

use super::*;

/// A client's frame, masked.
fn client(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, Op::Text, false, payload);
    out[0] = first;
    let at = match out[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    out[1] |= 0x80;
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let masked: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m).collect();
    out.truncate(at);
    out.extend_from_slice(&mask);
    out.extend_from_slice(&masked);
    out
}

/// All messages of these bytes, pushed in pieces of `at`.
fn read_at(bytes: &[u8], at: usize, max: usize) -> Result<Vec<Message>, WsError> {
    let (mut reader, mut all) = (Reader::new(max, true), Vec::new());
    for mut piece in bytes.chunks(at) {
        while !piece.is_empty() {
            all.extend(reader.push(&mut piece)?);
        }
    }
    Ok(all)
}

fn data(is_text: bool, payload: &[u8]) -> Message {
    Message::Data { is_text, is_deflated: false, payload: payload.to_vec() }
}

#[test]
fn the_handshake_of_the_rfc() {
    assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ==").as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    for bad in ["", "short==", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ= ", "dGhlIHNhbXBsZSBub25 ZQ=="] {
        assert_eq!(accept_key(bad), None, "{bad}");
    }
}

#[test]
fn offers_are_met_or_not() {
    for good in [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate;client_max_window_bits=10 ; server_no_context_takeover",
        "x-other, permessage-deflate; server_max_window_bits=15",
        "permessage-deflate; server_max_window_bits=10, permessage-deflate",
    ] {
        assert!(choose_deflate(good).is_some(), "{good}");
    }
    for bad in [
        "",
        "deflate",
        "permessage-deflate; server_max_window_bits=10",
        "permessage-deflate; unknown",
        "permessage-deflate; client_max_window_bits=99",
    ] {
        assert!(choose_deflate(bad).is_none(), "{bad}");
    }
}

#[test]
fn messages_survive_any_cut() {
    let long = "é".repeat(40_000).into_bytes();
    let bytes = [
        client(0x81, b"Hello"),
        client(0x01, b"Hel"),
        client(0x89, b"ping"),
        client(0x80, b"lo"),
        client(0x82, &[0; 300]),
        client(0x8a, b""),
        client(0x81, &long),
        client(0x88, &[3, 232]),
    ]
    .concat();
    let expected = [
        data(true, b"Hello"),
        Message::Ping(b"ping".to_vec()),
        data(true, b"Hello"),
        data(false, &[0; 300]),
        Message::Pong,
        data(true, &long),
        Message::Close(Some(1000)),
    ];
    for at in [1, 2, 3, 5, 7, 64, 4096, 1 << 20] {
        assert_eq!(read_at(&bytes, at, 1 << 20).unwrap(), expected, "{at}");
    }
}

#[test]
fn what_breaks_the_protocol_is_named() {
    let unmasked = {
        let mut out = Vec::new();
        text(&mut out, b"x", None);
        out
    };
    let huge = [vec![0x81, 0xff], (u64::MAX / 2).to_be_bytes().to_vec(), vec![0; 4]].concat();
    for (bytes, code) in [
        (unmasked, 1002),
        (client(0x83, b""), 1002),
        (client(0xa1, b""), 1002),
        (client(0x91, b""), 1002),
        (client(0x80, b"x"), 1002),
        (client(0xc0, b"x"), 1002),
        (client(0xc9, b"x"), 1002),
        (client(0x09, b"x"), 1002),
        (client(0x89, &[0; 126]), 1002),
        ([client(0x01, b"x"), client(0x81, b"y")].concat(), 1002),
        (client(0x88, &[3]), 1002),
        (client(0x88, &1005u16.to_be_bytes()), 1002),
        (client(0x88, &[3, 232, 0xff]), 1007),
        (client(0x81, &[b'x'; 2001]), 1009),
        ([client(0x01, &[b'x'; 1500]), client(0x80, &[b'x'; 501])].concat(), 1009),
        (huge, 1009),
    ] {
        for at in [1, 4096] {
            assert_eq!(read_at(&bytes, at, 2000).unwrap_err().code, code, "{:?}", &bytes[..bytes.len().min(12)]);
        }
    }
    let mut reader = Reader::new(2000, false);
    assert_eq!(reader.push(&mut client(0xc1, b"x").as_slice()).unwrap_err().code, 1002, "not agreed");
}

#[test]
fn nothing_is_allocated_for_lengths_that_are_only_claimed() {
    let mut reader = Reader::new(1 << 24, true);
    let head = [vec![0x81, 0xff], (1u64 << 24).to_be_bytes().to_vec(), vec![0; 4], vec![b'x'; 10]].concat();
    assert_eq!(reader.push(&mut head.as_slice()), Ok(None));
    assert!(reader.held_bytes() < 100, "{}", reader.held_bytes());
}

#[test]
fn compression_is_that_of_the_rfc() {
    // RFC 7692, 7.2.3.1 and 7.2.3.3 (not compressed), 7.2.3.4 (a final block).
    for payload in [
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
        &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
    ] {
        assert_eq!(inflate(payload, 5).unwrap(), b"Hello");
        assert_eq!(inflate(payload, 4).unwrap_err().code, 1009);
    }
    assert_eq!(inflate(&[0x00], 5).unwrap(), b"");
    for bad in [&[0xff, 0xff, 0xff][..], &[0x07], b"plain text"] {
        assert_eq!(inflate(bad, 1 << 20).unwrap_err().code, 1007, "{bad:?}");
    }
}

#[test]
fn long_messages_are_compressed_and_come_back() {
    let pool = DeflatePool::default();
    let mut seed = 1u64;
    for n in [1024usize, 5000, 16 * 1024, 100_000, 1 << 20] {
        let words: String = (0..n / 4)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                ["the ", "fn x", "let ", "    "][(seed >> 33) as usize % 4]
            })
            .collect();
        let deflated = pool.deflate(words.as_bytes()).unwrap();
        assert!(deflated.len() < words.len() / 2);
        assert_eq!(inflate(&deflated, words.len()).unwrap(), words.as_bytes());
        assert_eq!(inflate(&deflated, words.len() - 1).unwrap_err().code, 1009);
        let noise: Vec<u8> = (0..n)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 40) as u8
            })
            .collect();
        assert_eq!(pool.deflate(&noise), None, "sent as it is");
    }
    let mut out = Vec::new();
    text(&mut out, b"short", Some(&pool));
    assert_eq!(out, b"\x81\x05short");
}

#[test]
fn a_bomb_costs_no_more_than_its_limit() {
    let pool = DeflatePool::default();
    let deflated = pool.deflate(&vec![b'a'; 64 << 20]).unwrap();
    assert!(deflated.len() < 400_000);
    assert_eq!(inflate(&deflated, 1 << 20).unwrap_err().code, 1009);
}

#[test]
fn a_close_reason_is_cut_between_characters() {
    let mut out = Vec::new();
    close(&mut out, 1001, &"é".repeat(100));
    assert_eq!((out[0], out[1]), (0x88, 2 + 122));
    assert!(std::str::from_utf8(&out[4..]).is_ok());
}

/// What a client sends: messages in fragments, with control frames between them, each under a mask of its own.
#[derive(Clone, Debug)]
struct Sent {
    is_text: bool,
    fragments: Vec<(Vec<u8>, [u8; 4])>,
    /// A ping after each fragment but the last, where there is one.
    pings: Vec<Option<Vec<u8>>>,
}

fn sent() -> impl Strategy<Value = Sent> {
    let bytes = |most| prop::collection::vec(any::<u8>(), 0..most);
    let fragments = prop::collection::vec((prop_oneof![4 => bytes(40), 1 => bytes(400)], any::<[u8; 4]>()), 1..5);
    let pings = prop::collection::vec(prop::option::weighted(0.3, bytes(20)), 4);
    (any::<bool>(), fragments, pings).prop_map(|(is_text, fragments, pings)| Sent { is_text, fragments, pings })
}

/// A frame, written down plainly.
fn masked(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut out = vec![first];
    if payload.len() < 126 {
        out.push(0x80 | payload.len() as u8);
    } else {
        out.push(0x80 | 126);
        out.extend((payload.len() as u16).to_be_bytes());
    }
    out.extend(mask);
    out.extend(payload.iter().enumerate().map(|(i, b)| b ^ mask[i % 4]));
    out
}

/// The bytes of all of it, and the messages in the order in which they become whole.
fn written(all: &[Sent]) -> (Vec<u8>, Vec<Message>) {
    let (mut bytes, mut messages) = (Vec::new(), Vec::new());
    for s in all {
        let last = s.fragments.len() - 1;
        for (i, (payload, mask)) in s.fragments.iter().enumerate() {
            let op = if i > 0 { 0 } else { 2 - u8::from(s.is_text) };
            bytes.extend(masked(if i == last { 0x80 | op } else { op }, payload, *mask));
            if let Some(ping) = s.pings[i].as_ref().filter(|_| i < last) {
                bytes.extend(masked(0x89, ping, [1, 2, 3, 4]));
                messages.push(Message::Ping(ping.clone()));
            }
        }
        messages.push(data(s.is_text, &s.fragments.iter().flat_map(|f| f.0.clone()).collect::<Vec<u8>>()));
    }
    (bytes, messages)
}

/// Messages, and the error that ended them, of bytes that come in pieces of these lengths, over and over.
fn read_cut(bytes: &[u8], cuts: &[usize]) -> (Vec<Message>, Option<WsError>) {
    let (mut reader, mut all, mut rest) = (Reader::new(2000, true), Vec::new(), bytes);
    for n in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (mut piece, later) = rest.split_at((*n).min(rest.len()));
        rest = later;
        while !piece.is_empty() {
            match reader.push(&mut piece) {
                Ok(message) => all.extend(message),
                Err(e) => return (all, Some(e)),
            }
        }
    }
    (all, None)
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![3 => 1usize..8, 1 => 1usize..600], 1..12)
}

proptest! {
    #[test]
    fn any_cut_gives_the_messages_that_were_sent(all in prop::collection::vec(sent(), 0..5), cuts in cuts()) {
        let (bytes, messages) = written(&all);
        prop_assert_eq!(read_cut(&bytes, &cuts), (messages, None));
    }

    #[test]
    fn any_cut_of_broken_frames_gives_the_same(
        all in prop::collection::vec(sent(), 1..4), cuts in cuts(), flips in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..4),
    ) {
        let (mut bytes, _) = written(&all);
        for (at, with) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= with;
        }
        prop_assert_eq!(read_cut(&bytes, &cuts), read_cut(&bytes, &[bytes.len()]));
    }
}

//! Any bytes as what a client sends over a WebSocket: however the network cuts them, the messages and the refusal are the same,
//! no more is held than has come, and nothing inflates beyond its limit.
//! The first byte chooses whether compression was agreed, the second how the bytes are cut.

use protocol::ws::{Message, Reader, WsError, close, inflate, pong};

/// Bytes of a message as sent, and inflated.
const MESSAGE_BYTES: usize = 600;
const INFLATED_BYTES: usize = 4000;

/// Reads whole, byte by byte, and in pieces of the chosen length.
pub fn run(data: &[u8]) {
    let [flags, cut, bytes @ ..] = data else { return };
    let may_deflate = flags & 1 == 1;
    let whole = read(bytes, bytes.len().max(1), may_deflate);
    assert_eq!(read(bytes, 1, may_deflate), whole);
    assert_eq!(read(bytes, usize::from(*cut).max(1), may_deflate), whole);
    for message in &whole.0 {
        match message {
            Message::Data { is_deflated: true, payload, .. } => inflated(payload),
            Message::Data { payload, .. } => assert!(payload.len() <= MESSAGE_BYTES),
            Message::Ping(payload) => {
                assert!(payload.len() < 126);
                let mut out = Vec::new();
                pong(&mut out, payload);
                assert_eq!(out.len(), payload.len() + 2);
            }
            Message::Pong | Message::Close(_) => {}
        }
    }
    if let Some(e) = whole.1 {
        assert!(matches!(e.code, 1002 | 1007 | 1009) && !e.why.is_empty());
        let mut out = Vec::new();
        close(&mut out, e.code, e.why);
        assert!(out.len() <= 127);
    }
}

fn inflated(payload: &[u8]) {
    match inflate(payload, INFLATED_BYTES) {
        Ok(text) => assert!(text.len() <= INFLATED_BYTES),
        Err(e) => assert!(matches!(e.code, 1007 | 1009)),
    }
}

/// Messages until the end or what is wrong.
fn read(bytes: &[u8], at: usize, may_deflate: bool) -> (Vec<Message>, Option<WsError>) {
    let (mut reader, mut all) = (Reader::new(MESSAGE_BYTES, may_deflate), Vec::new());
    for mut piece in bytes.chunks(at) {
        while !piece.is_empty() {
            let before = piece.len();
            match reader.push(&mut piece) {
                Ok(message) => all.extend(message),
                Err(e) => return (all, Some(e)),
            }
            assert!(piece.len() < before, "bytes are taken");
            assert!(reader.held_bytes() <= 2 * bytes.len().max(8), "what is held has come");
        }
    }
    (all, None)
}

/// A client's frame under a mask of zeros or of others.
fn frame(first: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let len = match payload.len() {
        n if n < 126 => vec![0x80 | n as u8],
        n => [&[0xfe][..], &(n as u16).to_be_bytes()].concat(),
    };
    let masked = payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m);
    [first].into_iter().chain(len).chain(mask).chain(masked).collect()
}

/// Each kind of frame: whole, in fragments with a ping between, compressed, long, closing; and some that are wrong.
pub fn seeds() -> Vec<Vec<u8>> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let streams = [
        [frame(0x81, mask, b"Hello"), frame(0x82, [0; 4], &[7; 300]), frame(0x8a, mask, b"")].concat(),
        [frame(0x01, mask, b"Hel"), frame(0x89, mask, b"ping"), frame(0x80, mask, b"lo")].concat(),
        [frame(0xc1, mask, &hello), frame(0x41, mask, &hello[..3]), frame(0x80, mask, &hello[3..])].concat(),
        [frame(0x81, mask, "é{\"type\":\"response.create\"}".as_bytes()), frame(0x88, mask, b"\x03\xe8bye")].concat(),
        [frame(0x01, mask, &[b'x'; 400]), frame(0x80, mask, &[b'y'; 201])].concat(),
        [&[0x81, 0xff][..], &u64::MAX.to_be_bytes(), &mask].concat(),
        [frame(0x88, mask, &[3]), frame(0xf1, mask, b"x")].concat(),
    ];
    let with_head = |(i, s): (usize, Vec<u8>)| [vec![1, 2 + i as u8], s].concat();
    streams.into_iter().enumerate().map(with_head).collect()
}

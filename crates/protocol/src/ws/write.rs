//! Messages of a server to frames: never masked, never fragmented.

use base::limits;

use crate::ws::{DeflatePool, Op};

/// Appends a frame.
pub fn frame(out: &mut Vec<u8>, op: Op, is_deflated: bool, payload: &[u8]) {
    out.push(0x80 | if is_deflated { 0x40 } else { 0 } | op.bits());
    let len = payload.len();
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len), _) if len < 126 => out.push(len),
        (_, Ok(len)) => {
            out.push(126);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// Appends a text message; long ones are compressed if that was agreed.
pub fn text(out: &mut Vec<u8>, payload: &[u8], pool: Option<&DeflatePool>) {
    if payload.len() >= limits::WEBSOCKET_COMPRESS_BYTES_MIN
        && let Some(deflated) = pool.and_then(|p| p.deflate(payload))
    {
        return frame(out, Op::Text, true, &deflated);
    }
    frame(out, Op::Text, false, payload);
}

/// Appends a ping.
pub fn ping(out: &mut Vec<u8>) {
    frame(out, Op::Ping, false, &[]);
}

/// Appends the answer to a ping.
pub fn pong(out: &mut Vec<u8>, payload: &[u8]) {
    frame(out, Op::Pong, false, payload);
}

/// Appends the end of a connection. 1001: the server goes away.
pub fn close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    frame(out, Op::Close, false, &[&code.to_be_bytes(), &reason.as_bytes()[..end]].concat());
}

//! Frames of a client, however the network has cut them, to messages.

use crate::ws::{Op, WsError};

/// A header's most: two bytes, a length of eight, a mask of four.
const HEADER_BYTES: usize = 14;
/// Payload of a control frame.
const CONTROL_BYTES_MAX: usize = 125;

/// What has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A whole message.
    Data {
        /// Claims to be UTF-8.
        is_text: bool,
        /// To be inflated.
        is_deflated: bool,
        /// As it was sent.
        payload: Vec<u8>,
    },
    /// To be answered with the same payload.
    Ping(Vec<u8>),
    /// An answer.
    Pong,
    /// The client ends the connection, with this code if it gave one.
    Close(Option<u16>),
}

/// A frame whose payload is coming.
#[derive(Clone, Copy, Debug)]
struct Header {
    op: Op,
    is_last: bool,
    mask: [u8; 4],
    /// Bytes of payload that are still to come, and that came.
    left: usize,
    seen: usize,
}

/// The message that frames belong to.
#[derive(Debug, Default)]
struct Partial {
    is_text: bool,
    is_deflated: bool,
    payload: Vec<u8>,
}

/// Reads a client's frames.
#[derive(Debug)]
pub struct Reader {
    /// Bytes of one message, as sent.
    max: usize,
    may_deflate: bool,
    head: Vec<u8>,
    frame: Option<Header>,
    partial: Option<Partial>,
    control: Vec<u8>,
}

impl Reader {
    /// For messages of at most `max` bytes; compressed ones only if that was agreed.
    pub fn new(max: usize, may_deflate: bool) -> Self {
        Self { max, may_deflate, head: Vec::new(), frame: None, partial: None, control: Vec::new() }
    }

    /// Bytes held of an unfinished message.
    pub fn held_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |p| p.payload.capacity())
    }

    /// Takes bytes until a message is whole; the rest stays in `bytes`.
    ///
    /// # Errors
    /// What no client that keeps to the protocol sends, and messages that are too long.
    pub fn push(&mut self, bytes: &mut &[u8]) -> Result<Option<Message>, WsError> {
        loop {
            let Some(mut frame) = self.frame else {
                if !self.header(bytes)? {
                    return Ok(None);
                }
                continue;
            };
            let (now, later) = bytes.split_at(frame.left.min(bytes.len()));
            *bytes = later;
            let to = if frame.op.is_control() {
                &mut self.control
            } else {
                &mut self.partial.get_or_insert_default().payload
            };
            to.extend(now.iter().enumerate().map(|(i, b)| b ^ frame.mask[(frame.seen + i) % 4]));
            (frame.left, frame.seen) = (frame.left - now.len(), frame.seen + now.len());
            if frame.left > 0 {
                self.frame = Some(frame);
                return Ok(None);
            }
            self.frame = None;
            if let Some(message) = self.ended(frame)? {
                return Ok(Some(message));
            }
        }
    }

    /// Reads a header; false if more bytes are needed.
    fn header(&mut self, bytes: &mut &[u8]) -> Result<bool, WsError> {
        while let Some((first, rest)) = bytes.split_first() {
            self.head.push(*first);
            *bytes = rest;
            if let Some(frame) = self.parse()? {
                self.head.clear();
                self.frame = Some(frame);
                return Ok(true);
            }
            debug_assert!(self.head.len() < HEADER_BYTES, "a header has an end");
        }
        Ok(false)
    }

    /// The header, if `head` has all of it; what is wrong is said as soon as it is seen.
    fn parse(&mut self) -> Result<Option<Header>, WsError> {
        let &[first, second, ref more @ ..] = self.head.as_slice() else { return Ok(None) };
        let op = Op::of(first & 15).ok_or(WsError::protocol("unknown opcode"))?;
        let (is_last, is_deflated) = (first & 0x80 != 0, first & 0x40 != 0);
        if first & 0x30 != 0 || is_deflated && !(self.may_deflate && matches!(op, Op::Text | Op::Binary)) {
            return Err(WsError::protocol("reserved bits are set"));
        }
        if second & 0x80 == 0 {
            return Err(WsError::protocol("frames of clients are masked"));
        }
        let short = usize::from(second & 127);
        if op.is_control() && (short > CONTROL_BYTES_MAX || !is_last) {
            return Err(WsError::protocol("a control frame is short and whole"));
        }
        match (op, &self.partial) {
            (Op::Continuation, None) => return Err(WsError::protocol("nothing to continue")),
            (Op::Text | Op::Binary, Some(_)) => return Err(WsError::protocol("the last message is not complete")),
            _ => {}
        }
        let n_len = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some((len, mask)) = more.split_at_checked(n_len) else { return Ok(None) };
        let Ok(mask) = <[u8; 4]>::try_from(mask) else { return Ok(None) };
        let long = len.iter().fold(0u64, |sum, b| sum << 8 | u64::from(*b));
        let left = if n_len == 0 { short } else { usize::try_from(long).map_err(|_| WsError::too_big())? };
        let held = self.partial.as_ref().map_or(0, |p| p.payload.len());
        if !op.is_control() && left > self.max.saturating_sub(held) {
            return Err(WsError::too_big());
        }
        if matches!(op, Op::Text | Op::Binary) {
            self.partial = Some(Partial { is_text: op == Op::Text, is_deflated, payload: Vec::new() });
        }
        Ok(Some(Header { op, is_last, mask, left, seen: 0 }))
    }

    /// A frame is complete; so may be a message.
    fn ended(&mut self, frame: Header) -> Result<Option<Message>, WsError> {
        let control = std::mem::take(&mut self.control);
        match frame.op {
            Op::Ping => Ok(Some(Message::Ping(control))),
            Op::Pong => Ok(Some(Message::Pong)),
            Op::Close => close_code(&control).map(|code| Some(Message::Close(code))),
            _ if !frame.is_last => Ok(None),
            _ => Ok(self.partial.take().map(|p| Message::Data {
                is_text: p.is_text,
                is_deflated: p.is_deflated,
                payload: p.payload,
            })),
        }
    }
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, WsError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(WsError::protocol("half a close code")) };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(WsError::protocol("a close code that may not be sent"));
    }
    match std::str::from_utf8(reason) {
        Ok(_) => Ok(Some(code)),
        Err(_) => Err(WsError::data("the reason is not UTF-8")),
    }
}

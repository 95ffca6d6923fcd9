//! WebSocket (RFC 6455) with per-message compression (RFC 7692), server side, without any IO: bytes in, messages out, and
//! messages to bytes. What is held of an unfinished message is what has arrived of it, still compressed, so that whoever
//! owns the connection can count it; nothing is inflated here before the message is whole.

mod deflate;
mod handshake;
mod read;
mod write;

pub use deflate::{DeflatePool, inflate};
pub use handshake::{accept_key, choose_deflate};
pub use read::{Message, Reader};
pub use write::{close, frame, ping, pong, text};

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// The rest of a message.
    Continuation,
    /// UTF-8.
    Text,
    /// Bytes.
    Binary,
    /// The end.
    Close,
    /// Are you there?
    Ping,
    /// Yes.
    Pong,
}

impl Op {
    fn of(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    fn is_control(self) -> bool {
        self.bits() >= 8
    }
}

/// Why a connection must end: the close code says whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct WsError {
    /// RFC 6455, 7.4.1.
    pub code: u16,
    /// For people.
    pub why: &'static str,
}

impl WsError {
    pub(crate) const fn protocol(why: &'static str) -> Self {
        Self { code: 1002, why }
    }

    pub(crate) const fn too_big() -> Self {
        Self { code: 1009, why: "the message is too long" }
    }

    /// Not UTF-8, or not deflate.
    pub const fn data(why: &'static str) -> Self {
        Self { code: 1007, why }
    }
}

#[cfg(test)]
mod tests;

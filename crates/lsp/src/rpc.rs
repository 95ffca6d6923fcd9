//! LSP's frames: headers, an empty line, JSON. Bounded in every part; a frame that is too long ends the session, for what
//! follows it cannot be found.

use std::io::{self, BufRead, Read, Write};

use base::limits::{LSP_HEADER_BYTES_MAX, LSP_HEADERS_MAX, LSP_MESSAGE_BYTES_MAX};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Errors of JSON-RPC and LSP by their numbers.
pub mod code {
    /// Not JSON.
    pub const PARSE: i32 = -32700;
    /// Not a request.
    pub const INVALID: i32 = -32600;
    /// Unknown.
    pub const NO_METHOD: i32 = -32601;
    /// Wrong parameters.
    pub const PARAMS: i32 = -32602;
    /// Something failed.
    pub const INTERNAL: i32 = -32603;
    /// Before `initialize`.
    pub const NOT_INITIALIZED: i32 = -32002;
    /// `$/cancelRequest`.
    pub const CANCELLED: i32 = -32800;
    /// It could not be done.
    pub const FAILED: i32 = -32803;
}

/// A message of the editor. Its parameters are read by whoever knows the method.
#[derive(Debug, Deserialize)]
pub struct Incoming {
    /// Requests and responses have one.
    #[serde(default)]
    pub id: Option<Value>,
    /// Requests and notifications have one.
    #[serde(default)]
    pub method: Option<String>,
    /// Objects or arrays.
    #[serde(default)]
    pub params: Option<Box<RawValue>>,
}

/// Reads one frame into `body`; false at the end of the stream.
///
/// # Errors
/// The stream's; a frame without a length, or beyond a bound.
pub fn read(from: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<bool> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let (mut length, mut line) = (None, Vec::new());
    for n in 0..LSP_HEADERS_MAX {
        line.clear();
        let most = LSP_HEADER_BYTES_MAX as u64;
        if from.by_ref().take(most).read_until(b'\n', &mut line)? == 0 {
            return if n == 0 { Ok(false) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        if line.last() != Some(&b'\n') {
            return Err(wrong(format!("a header line has no end within {most} bytes")));
        }
        let header = String::from_utf8_lossy(&line);
        if header.trim().is_empty() {
            let length: usize = length.ok_or_else(|| wrong("a message has no Content-Length".to_owned()))?;
            if length > LSP_MESSAGE_BYTES_MAX {
                return Err(wrong(format!("a message of {length} bytes is longer than {LSP_MESSAGE_BYTES_MAX}")));
            }
            body.clear();
            // As it arrives: a length alone takes no memory.
            return match from.by_ref().take(length as u64).read_to_end(body)? {
                n if n == length => Ok(true),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        if let Some((name, value)) = header.split_once(':')
            && name.trim().eq_ignore_ascii_case("content-length")
        {
            length = Some(value.trim().parse().map_err(|_| wrong(format!("{:?} is no length", value.trim())))?);
        }
    }
    Err(wrong(format!("a message has more than {LSP_HEADERS_MAX} headers")))
}

/// Writes one frame.
///
/// # Errors
/// The stream's.
pub fn write(to: &mut impl Write, message: &Value) -> io::Result<()> {
    let body = message.to_string();
    write!(to, "Content-Length: {}\r\n\r\n{body}", body.len())?;
    to.flush()
}

/// The answer to a request.
pub fn result(id: &Value, result: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

/// The answer to a request that failed.
pub fn error(id: &Value, code: i32, message: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
}

/// Something to tell.
pub fn notification(method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}

/// Something to ask the editor.
pub fn request(id: u64, method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": format!("vonk-{id}"), "method": method, "params": params})
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    fn frames(bytes: &[u8]) -> (Vec<String>, io::Result<bool>) {
        let (mut from, mut body, mut all) = (bytes, Vec::new(), Vec::new());
        loop {
            match read(&mut from, &mut body) {
                Ok(true) => all.push(String::from_utf8(body.clone()).unwrap()),
                end => return (all, end),
            }
        }
    }

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut bytes = Vec::new();
        write(&mut bytes, &json!({"é": 1})).unwrap();
        bytes.extend_from_slice(b"content-type: x\r\nCONTENT-LENGTH:2\r\n\r\n{}Content-Length: 0\n\n");
        let (all, end) = frames(&bytes);
        assert_eq!(all, ["{\"é\":1}", "{}", ""]);
        assert!(!end.unwrap());
    }

    #[test]
    fn what_is_no_frame_is_refused_within_bounds() {
        for bytes in [
            &b"\r\n{}"[..],
            b"Content-Length: -1\r\n\r\n",
            b"Content-Length: 99999999999999\r\n\r\n",
            b"Content-Length: 5\r\n\r\n{}",
            b"Content-Length: 2",
        ] {
            assert!(frames(bytes).1.is_err(), "{bytes:?}");
        }
        assert!(frames(&b"x: y\r\n".repeat(LSP_HEADERS_MAX + 1)).1.is_err());
        assert!(frames(&vec![b'x'; LSP_HEADER_BYTES_MAX * 2]).1.is_err());
    }
}

//! Per-message compression. Each message stands for itself: no window is kept between messages.

use base::limits;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::sync::{Mutex, PoisonError};

use crate::ws::WsError;

/// What both sides cut off the end of a compressed message, and put back (RFC 7692, 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// Room that is made for output at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// Inflates a whole message of at most `max` bytes. The output grows as it is written, so a few bytes that stand for
/// gigabytes cost `max` and no more.
///
/// # Errors
/// Not deflate, or longer.
pub fn inflate(payload: &[u8], max: usize) -> Result<Vec<u8>, WsError> {
    let mut stream = Decompress::new(false);
    let mut out = Vec::new();
    for mut input in [payload, TAIL.as_slice()] {
        while !input.is_empty() {
            if out.len() > max {
                return Err(WsError::too_big());
            }
            out.reserve(CHUNK_BYTES.min(max + 1 - out.len()));
            let (seen, written) = (stream.total_in(), stream.total_out());
            let status = stream
                .decompress_vec(input, &mut out, FlushDecompress::Sync)
                .map_err(|_| WsError::data("the message is not deflate"))?;
            let taken = usize::try_from(stream.total_in() - seen).unwrap_or(usize::MAX);
            input = input.get(taken..).unwrap_or_default();
            match status {
                Status::StreamEnd => return bounded(out, max), // a final block: what follows it says nothing
                _ if taken == 0 && stream.total_out() == written && out.len() < out.capacity() => {
                    return Err(WsError::data("the message is not deflate"));
                }
                _ => {}
            }
        }
    }
    drain(&mut stream, &mut out, max)?;
    bounded(out, max)
}

/// What the stream still holds when all input is taken and the output was full.
fn drain(stream: &mut Decompress, out: &mut Vec<u8>, max: usize) -> Result<(), WsError> {
    loop {
        if out.len() > max {
            return Err(WsError::too_big());
        }
        if out.len() < out.capacity() {
            return Ok(());
        }
        out.reserve(CHUNK_BYTES.min(max + 1 - out.len()));
        let written = stream.total_out();
        let status = stream.decompress_vec(&[], out, FlushDecompress::Sync);
        if stream.total_out() == written || status.is_err() {
            return Ok(());
        }
    }
}

fn bounded(out: Vec<u8>, max: usize) -> Result<Vec<u8>, WsError> {
    if out.len() > max { Err(WsError::too_big()) } else { Ok(out) }
}

/// Compressors that all connections share: one costs some hundred KiB, and a message a fraction of a millisecond.
#[derive(Default)]
pub struct DeflatePool(Mutex<Vec<Compress>>);

impl std::fmt::Debug for DeflatePool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeflatePool")
    }
}

impl DeflatePool {
    /// The message compressed; `None` if that makes it no shorter.
    pub fn deflate(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let pooled = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut stream = pooled.unwrap_or_else(|| Compress::new(Compression::fast(), false));
        let mut out = Vec::with_capacity(payload.len());
        // As much as the message itself, and no more: what does not fit is sent as it is.
        let status = stream.compress_vec(payload, &mut out, FlushCompress::Sync);
        let is_whole = stream.total_in() == payload.len() as u64 && out.ends_with(&TAIL);
        stream.reset();
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < limits::WEBSOCKET_DEFLATE_POOL {
            pool.push(stream);
        }
        drop(pool);
        if status.is_err() || !is_whole || out.len() == out.capacity() {
            return None;
        }
        out.truncate(out.len() - TAIL.len());
        Some(out)
    }
}

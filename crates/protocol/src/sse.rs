//! Reads server-sent events as they arrive (WHATWG HTML, "Server-sent events"), whatever the network cut them into.
//! Linear time: no byte is looked at twice.

use base::limits;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// The `event:` field, if any.
    pub event: Option<String>,
    /// The `data:` lines, joined by newlines.
    pub data: String,
}

/// The stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// One event is longer than `SSE_EVENT_BYTES_MAX`.
    #[error("a server-sent event is longer than {max} bytes; the peer is not a well-behaved server")]
    TooLong {
        /// The limit.
        max: usize,
    },
}

/// Bytes in, events out.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    event: Option<String>,
    data: Vec<u8>,
    has_data: bool,
    after_cr: bool,
    is_started: bool,
}

impl SseParser {
    /// At the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes more bytes and appends the events that they complete. Comments and unknown fields are passed over;
    /// invalid UTF-8 becomes U+FFFD.
    ///
    /// # Errors
    /// An event longer than `SSE_EVENT_BYTES_MAX`.
    pub fn push(&mut self, mut bytes: &[u8], events: &mut Vec<SseEvent>) -> Result<(), SseError> {
        while let Some(&first) = bytes.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|b| matches!(b, b'\r' | b'\n'));
            self.line.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
            if self.line.len() + self.data.len() > limits::SSE_EVENT_BYTES_MAX {
                return Err(SseError::TooLong { max: limits::SSE_EVENT_BYTES_MAX });
            }
            let Some(end) = end else { return Ok(()) };
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            self.end_line(events);
        }
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<SseEvent>) {
        let mut line = std::mem::take(&mut self.line);
        if !std::mem::replace(&mut self.is_started, true) && line.starts_with(b"\xEF\xBB\xBF") {
            line.drain(..3);
        }
        if line.is_empty() {
            let event = self.event.take();
            let data = std::mem::take(&mut self.data);
            if std::mem::take(&mut self.has_data) {
                events.push(SseEvent { event, data: String::from_utf8_lossy(&data).into_owned() });
            }
        } else {
            let colon = line.iter().position(|&b| b == b':').unwrap_or(line.len());
            let value = line.get(colon + 1..).unwrap_or_default();
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match &line[..colon] {
                b"data" => {
                    if std::mem::replace(&mut self.has_data, true) {
                        self.data.push(b'\n');
                    }
                    self.data.extend_from_slice(value);
                }
                b"event" => self.event = Some(String::from_utf8_lossy(value).into_owned()),
                _ => {}
            }
        }
        line.clear();
        self.line = line; // keep the allocation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> Vec<SseEvent> {
        let mut events = Vec::new();
        SseParser::new().push(bytes, &mut events).unwrap();
        events
    }

    #[test]
    fn any_cut_gives_the_same_events() {
        let text = "\u{feff}: hello\r\ndata: {\"a\":\"é😀\"}\r\n\r\nevent: x\rdata:1\rdata:  2\r\rdata\n\nid: 7\n\ndata: [DONE]\n\n";
        let events = whole(text.as_bytes());
        let data: Vec<&str> = events.iter().map(|e| e.data.as_str()).collect();
        assert_eq!(data, ["{\"a\":\"é😀\"}", "1\n 2", "", "[DONE]"]);
        assert_eq!(events[1].event.as_deref(), Some("x"));
        for cut in 0..=text.len() {
            let (mut parser, mut cut_events) = (SseParser::new(), Vec::new());
            parser.push(&text.as_bytes()[..cut], &mut cut_events).unwrap();
            parser.push(&text.as_bytes()[cut..], &mut cut_events).unwrap();
            assert_eq!(cut_events, events, "cut at {cut}");
        }
    }

    #[test]
    fn half_an_event_is_no_event_and_an_endless_one_is_an_error() {
        assert!(whole(b"data: x\n").is_empty());
        let mut parser = SseParser::new();
        let chunk = vec![b'x'; 1 << 20];
        let mut pushes = (0..64).map(|_| parser.push(&chunk, &mut Vec::new()));
        assert!(pushes.any(|p| p.is_err()));
    }
}

//! Downloads over HTTP: continued where they stopped, bounded by the declared length, redirects followed only to safe places,
//! and a login token sent to the host it is for and to no other.
//!
//! `ureq` is a small blocking client. Redirects are followed here and not there, to check each hop.

use std::io::Read;
use std::time::Duration;

use base::limits::{PULL_CONNECT_S_MAX, PULL_REQUESTS_MAX, PULL_RETRIES_MAX, PULL_STALL_S_MAX, REDIRECTS_MAX};
use ureq::http::{HeaderMap, Response, StatusCode, Uri};

use crate::digest::Digest;
use crate::error::printable;
use crate::part::Part;
use crate::progress::Meter;
use crate::source::{Source, SourceError};

/// A client with the house's limits.
#[derive(Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    /// Sent to the host of the first request only, never after a redirect to another.
    token: Option<String>,
}

/// Why a request brought nothing.
enum HttpError {
    /// Asking again will not help.
    Final(String),
    /// It may.
    Passing(String),
}

/// What a server says about a file before it sends it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Probe {
    pub bytes: Option<u64>,
    pub digest: Option<Digest>,
}

impl Client {
    pub fn new(token: Option<String>) -> Self {
        let seconds = |s| Some(Duration::from_secs(s));
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(seconds(PULL_CONNECT_S_MAX))
            .timeout_connect(seconds(PULL_CONNECT_S_MAX))
            .timeout_recv_response(seconds(PULL_STALL_S_MAX))
            .timeout_per_read(seconds(PULL_STALL_S_MAX))
            .timeout_per_write(seconds(PULL_STALL_S_MAX))
            .accept_encoding("identity")
            .user_agent(concat!("vonk/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into(), token }
    }

    /// Asks for length and digest without fetching the content.
    pub fn probe(&self, url: &str) -> Result<Probe, String> {
        let mut probe = Probe::default();
        let response = self.open(url, Some((0, Some(0))), &mut probe).map_err(HttpError::into_text)?;
        let total = content_range(response.headers()).map(|(_, total)| total);
        let whole = (response.status() == StatusCode::OK).then(|| response.body().content_length()).flatten();
        probe.bytes = probe.bytes.or(total).or(whole);
        Ok(probe)
    }

    /// The body of a small document.
    pub fn get_small(&self, url: &str, bytes_max: u64) -> Result<Vec<u8>, String> {
        let response = self.open(url, None, &mut Probe::default()).map_err(HttpError::into_text)?;
        let mut body = Vec::new();
        let mut reader = response.into_body().into_reader().take(bytes_max.saturating_add(1));
        reader.read_to_end(&mut body).map_err(|e| printable(&e.to_string(), 200))?;
        if body.len() as u64 > bytes_max {
            return Err(format!("its answer is longer than {bytes_max} bytes"));
        }
        Ok(body)
    }

    /// Sends a GET and follows redirects to the response that has the content.
    fn open(
        &self,
        url: &str,
        range: Option<(u64, Option<u64>)>,
        probe: &mut Probe,
    ) -> Result<Response<ureq::Body>, HttpError> {
        let origin = safe_url(url, None).map_err(HttpError::Final)?;
        let mut at = origin.clone();
        for _ in 0..=REDIRECTS_MAX {
            let mut request = self.agent.get(at.clone());
            if let Some((from, to)) = range {
                let to = to.map_or(String::new(), |n: u64| n.to_string());
                request = request.header("Range", format!("bytes={from}-{to}"));
            }
            if let Some(token) = self.token.as_ref().filter(|_| is_same_origin(&origin, &at)) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            let response = request.call().map_err(|e| HttpError::Passing(unreachable(&e)))?;
            if is_same_origin(&origin, &at) {
                probe.read(response.headers());
            }
            let status = response.status();
            if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return check_status(status).map(|()| response);
            }
            let to = response.headers().get("location").and_then(|v| v.to_str().ok());
            let to = to.ok_or_else(|| HttpError::Final("it redirects without saying where".into()))?;
            at = safe_url(to, Some(&at)).map_err(|why| HttpError::Final(format!("it redirects: {why}")))?;
        }
        Err(HttpError::Final(format!("it redirects more than {REDIRECTS_MAX} times")))
    }

    /// One request for the rest of the part.
    fn fetch_once(&self, url: &str, part: &mut Part, meter: &mut Meter<'_>) -> Result<(), Fault> {
        let from = part.len();
        let range = (from > 0).then_some((from, None));
        let response = self.open(url, range, &mut Probe::default())?;
        if response.status() == StatusCode::PARTIAL_CONTENT {
            match content_range(response.headers()) {
                Some((start, total)) if start == from && total == part.bytes() => {}
                _ => return Err(HttpError::Final("it answers with another range than the one asked for".into()).into()),
            }
        } else if from > 0 {
            part.restart()?; // The server does not do ranges: all of it comes again.
            meter.back_to(0);
        }
        if response.body().content_length().is_some_and(|n| n != part.remaining()) {
            let why = format!("it has {} bytes more to send where {} are missing", length(&response), part.remaining());
            return Err(HttpError::Final(why).into());
        }
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0u8; 256 * 1024];
        loop {
            match body.read(&mut buffer) {
                Ok(0) if part.remaining() == 0 => return Ok(()),
                Ok(0) => return Err(HttpError::Passing("it closed the connection early".into()).into()),
                Ok(n) => {
                    part.append(&buffer[..n])?;
                    meter.at(part.len());
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(HttpError::Passing(printable(&e.to_string(), 200)).into()),
            }
        }
    }
}

/// Either side's fault during one request.
enum Fault {
    Http(HttpError),
    Source(SourceError),
}

impl From<HttpError> for Fault {
    fn from(e: HttpError) -> Self {
        Self::Http(e)
    }
}

impl<E: Into<SourceError>> From<E> for Fault {
    fn from(e: E) -> Self {
        Self::Source(e.into())
    }
}

impl HttpError {
    fn into_text(self) -> String {
        match self {
            Self::Final(why) | Self::Passing(why) => why,
        }
    }
}

impl Probe {
    /// The hub's headers about large files, given by the hub itself and not by the place it redirects to.
    fn read(&mut self, headers: &HeaderMap) {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        self.digest = self.digest.or_else(|| text("x-linked-etag").and_then(|t| Digest::parse(t.trim_matches('"'))));
        self.bytes = self.bytes.or_else(|| text("x-linked-size").and_then(|t| t.parse().ok()));
    }
}

/// A file at a fixed address.
pub(crate) struct UrlSource {
    pub client: Client,
    pub url: String,
    pub label: String,
    /// Ask the server for its digest first: a hub's file may have been replaced since the catalogue was written.
    pub pinned: Option<Digest>,
}

impl Source for UrlSource {
    fn label(&self) -> String {
        self.label.clone()
    }

    fn scratch_bytes(&self) -> u64 {
        0
    }

    fn fetch(&self, part: &mut Part, meter: &mut Meter<'_>) -> Result<(), SourceError> {
        if let Some(want) = self.pinned.filter(|_| part.remaining() > 0) {
            let probe = self.client.probe(&self.url).map_err(SourceError::Failed)?;
            if probe.digest.is_some_and(|got| got != want) || probe.bytes.is_some_and(|n| n != part.bytes()) {
                return Err(SourceError::Failed("it now has another file under this name".into()));
            }
        }
        let (mut idle, mut has_given) = (0, false);
        for _ in 0..PULL_REQUESTS_MAX {
            if part.remaining() == 0 {
                return Ok(());
            }
            let before = part.len();
            let why = match self.client.fetch_once(&self.url, part, meter) {
                Ok(()) => return Ok(()),
                Err(Fault::Source(e)) => return Err(e),
                Err(Fault::Http(HttpError::Final(why))) => return Err(SourceError::Failed(why)),
                Err(Fault::Http(HttpError::Passing(why))) => why,
            };
            has_given |= part.len() > before;
            idle = if part.len() > before { 0 } else { idle + 1 };
            // A host that has given nothing yet is not waited for: the next source may be better.
            if idle > PULL_RETRIES_MAX || (!has_given && idle > 1) {
                return Err(SourceError::Failed(why));
            }
            meter.step(&format!("{}: {why}; trying again", self.label));
            std::thread::sleep(Duration::from_millis(100 << idle));
        }
        Err(SourceError::Failed(format!("it broke off {PULL_REQUESTS_MAX} times")))
    }
}

/// Why no answer came, in one line.
fn unreachable(e: &ureq::Error) -> String {
    format!("it cannot be reached ({})", printable(e.to_string().trim_start_matches("io: "), 200))
}

fn length(response: &Response<ureq::Body>) -> u64 {
    response.body().content_length().unwrap_or(0)
}

fn check_status(status: StatusCode) -> Result<(), HttpError> {
    match status.as_u16() {
        200 | 206 => Ok(()),
        401 | 403 => Err(HttpError::Final(format!(
            "it refuses access (HTTP {}). If the model needs a login, put your access token into HF_TOKEN",
            status.as_u16()
        ))),
        404 | 410 => Err(HttpError::Final("it has no such file or revision (HTTP 404)".into())),
        408 | 429 | 500..=599 => Err(HttpError::Passing(format!("it is busy or broken (HTTP {})", status.as_u16()))),
        code => Err(HttpError::Final(format!("it answers with HTTP {code}"))),
    }
}

/// `Content-Range: bytes START-END/TOTAL` -> (start, total).
fn content_range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let text = headers.get("content-range")?.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, total) = text.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.parse().ok()?, total.parse().ok()?))
}

/// An address that may be asked: https, or plain http on this machine; a redirect from https stays with https.
fn safe_url(text: &str, from: Option<&Uri>) -> Result<Uri, String> {
    let shown = printable(text, 100);
    let joined = match from {
        Some(base) if text.starts_with('/') && !text.starts_with("//") => {
            format!("{}://{}{text}", base.scheme_str().unwrap_or("https"), base.authority().map_or("", |a| a.as_str()))
        }
        _ => text.to_string(),
    };
    let url: Uri = joined.parse().map_err(|_| format!("{shown} is not a web address"))?;
    let host = url.host().ok_or_else(|| format!("{shown} has no host"))?;
    if url.authority().is_some_and(|a| a.as_str().contains('@')) {
        return Err(format!("{shown} carries a login"));
    }
    let is_local = matches!(host, "127.0.0.1" | "localhost" | "[::1]");
    let came_over_https = from.is_some_and(|base| base.scheme_str() == Some("https"));
    match url.scheme_str() {
        Some("https") => Ok(url),
        Some("http") if is_local && !came_over_https => Ok(url),
        _ => Err(format!("{shown} is not https")),
    }
}

fn is_same_origin(a: &Uri, b: &Uri) -> bool {
    a.scheme_str() == b.scheme_str() && a.authority() == b.authority()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_this_machine_are_asked() {
        let https: Uri = "https://a.example/x".parse().unwrap();
        for good in ["https://a.example/x", "http://127.0.0.1:8/x", "http://[::1]:8/x"] {
            assert!(safe_url(good, None).is_ok(), "{good}");
        }
        assert_eq!(safe_url("/y", Some(&https)).unwrap().to_string(), "https://a.example/y");
        let bad = [
            "http://a.example/x",
            "file:///etc/passwd",
            "ftp://a.example/",
            "https://u:p@a.example/",
            "x",
            "",
            "//b/x",
        ];
        for bad in bad {
            assert!(safe_url(bad, None).is_err(), "{bad}");
            assert!(safe_url(bad, Some(&https)).is_err(), "{bad}");
        }
        assert!(safe_url("http://127.0.0.1/x", Some(&https)).is_err(), "https does not lead back to this machine");
    }
}

//! Who may speak to us: exact `Host`, no foreign `Origin`, JSON only. A web page in the user's browser can send requests
//! to loopback (directly, or by a name of its own that it points there); these checks are what stops it.

use axum::http::{HeaderMap, Method, Uri, Version, header};
use protocol::ApiError;
use std::net::{IpAddr, SocketAddr};

/// The allow-lists, as they are compared.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    /// Lower case; with a port, that port only.
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Gate {
    pub(crate) fn new(bound: SocketAddr, hosts: &[String], origins: &[String]) -> Self {
        let mut all: Vec<String> = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).to_vec();
        all.extend(match bound.ip() {
            ip if ip.is_unspecified() => None,
            IpAddr::V4(ip) => Some(ip.to_string()),
            IpAddr::V6(ip) => Some(format!("[{ip}]")),
        });
        all.extend(hosts.iter().map(|h| h.to_ascii_lowercase()));
        let origins = origins.iter().map(|o| o.trim_end_matches('/').to_ascii_lowercase()).collect();
        Self { hosts: all, origins }
    }

    /// `Host`, `Origin`, and what smuggles requests.
    pub(crate) fn check(&self, version: Version, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        if headers.contains_key(header::TRANSFER_ENCODING)
            && (headers.contains_key(header::CONTENT_LENGTH) || version == Version::HTTP_10)
        {
            let message = "Send Content-Length or Transfer-Encoding: chunked, not both.";
            return Err(ApiError::bad_request("ambiguous_length", message));
        }
        let host = one(headers, header::HOST, "Host")?.ok_or_else(|| {
            ApiError::bad_request("missing_host", "The Host header is missing. Send Host: localhost or 127.0.0.1.")
        })?;
        let authority = uri.authority().map(|a| a.as_str());
        if !self.knows(host) || authority.is_some_and(|a| !self.knows(a)) {
            return Err(ApiError::of(
                403,
                "host_not_allowed",
                "This server answers to localhost, 127.0.0.1 and [::1] only. Use one of these, or allow the name when starting it.",
            ));
        }
        match one(headers, header::ORIGIN, "Origin")? {
            Some(origin) if !self.is_ours(origin, host) => Err(ApiError::of(
                403,
                "origin_not_allowed",
                "Requests from web pages of other origins are refused. Allow the origin when starting the server.",
            )),
            _ => Ok(()),
        }
    }

    fn knows(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let Some(name) = without_port(&host) else { return false };
        self.hosts.iter().any(|h| *h == name || *h == host)
    }

    /// The origin that we serve ourselves (as the browser names us), or a configured one.
    fn is_ours(&self, origin: &str, host: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        origin.strip_prefix("http://").is_some_and(|o| o == host.to_ascii_lowercase()) || self.origins.contains(&origin)
    }
}

/// A header that may be there once at most.
fn one<'h>(headers: &'h HeaderMap, name: header::HeaderName, shown: &str) -> Result<Option<&'h str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(ApiError::bad_request("duplicate_header", format!("{shown} is there twice. Send it once.")));
    }
    first
        .map(|v| v.to_str().map_err(|_| ApiError::bad_request("invalid_header", format!("{shown} is not ASCII text."))))
        .transpose()
}

/// `name:port` or `[v6]:port` without the port; `None` if the port is no number.
fn without_port(host: &str) -> Option<&str> {
    let end = match host.strip_prefix('[') {
        Some(v6) => v6.find(']')? + 2,
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, port) = host.split_at(end);
    let is_port = |p: &str| !p.is_empty() && p.len() <= 5 && p.bytes().all(|b| b.is_ascii_digit());
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(name)
}

/// Only JSON is taken: forms and text/plain are what a web page may send without asking.
pub(crate) fn check_content_type(method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    if method != Method::POST {
        return Ok(());
    }
    let value = one(headers, header::CONTENT_TYPE, "Content-Type")?.unwrap_or("");
    let mut parts = value.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|t| t.eq_ignore_ascii_case("application/json"));
    let is_utf8 = parts.all(|p| {
        let p = p.to_ascii_lowercase();
        !p.starts_with("charset") || matches!(p.as_str(), "charset=utf-8" | "charset=\"utf-8\"" | "charset=utf8")
    });
    if is_json && is_utf8 && !headers.contains_key(header::CONTENT_ENCODING) {
        return Ok(());
    }
    Err(ApiError::of(
        415,
        "unsupported_media_type",
        "Send the body as Content-Type: application/json in UTF-8, not compressed.",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(gate: &Gate, uri: &str, headers: &[(&str, &str)]) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(header::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        match gate.check(Version::HTTP_11, &uri.parse().unwrap(), &map) {
            Ok(()) => 200,
            Err(e) => e.status,
        }
    }

    /// R35 as a table; the same is sent over sockets in tests/bad_requests.rs.
    #[test]
    fn hosts_are_exact() {
        let gate = Gate::new("127.0.0.1:8080".parse().unwrap(), &["Box.lan".into(), "only:99".into()], &[]);
        for good in
            ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:8080", "box.lan:7", "only:99"]
        {
            assert_eq!(status(&gate, "/", &[("host", good)]), 200, "{good}");
        }
        for bad in [
            "evil",
            "",
            "x.local",
            "a.internal",
            "127.0.0.1.evil",
            "localhost.evil",
            "localhost.",
            "localhost:",
            "localhost:x",
            "localhost:1:2",
            "localhost:123456",
            "user@localhost",
            "127.1",
            "0.0.0.0",
            "0",
            "2130706433",
            "0x7f.1",
            "[::]",
            "[::1",
            "::1",
            "[::1]x",
            "[::ffff:127.0.0.1]",
            "only",
            "only:98",
            "localhost, evil",
            "localhost/evil",
        ] {
            assert_eq!(status(&gate, "/", &[("host", bad)]), 403, "{bad}");
        }
        assert_eq!(status(&gate, "/", &[]), 400);
        assert_eq!(status(&gate, "/", &[("host", "localhost"), ("host", "localhost")]), 400);
        assert_eq!(status(&gate, "http://evil/x", &[("host", "localhost")]), 403);
        assert_eq!(status(&gate, "http://localhost/x", &[("host", "evil")]), 403);
        assert_eq!(status(&gate, "http://localhost/x", &[("host", "localhost")]), 200);
    }

    #[test]
    fn origins_are_ours_or_configured() {
        let gate = Gate::new("127.0.0.1:8080".parse().unwrap(), &[], &["https://app.example/".into()]);
        let with = |host: &str, origin: &str| status(&gate, "/", &[("host", host), ("origin", origin)]);
        assert_eq!(with("127.0.0.1:8080", "http://127.0.0.1:8080"), 200);
        assert_eq!(with("localhost:8080", "http://localhost:8080"), 200);
        assert_eq!(with("localhost:8080", "https://app.example"), 200);
        for origin in [
            "null",
            "",
            "http://evil",
            "http://localhost:3000",
            "http://127.0.0.1:8080",
            "https://localhost:8080",
            "http://localhost:8080.evil",
            "http://localhost:8080@evil",
            "vscode-webview://x",
            "file://",
        ] {
            assert_eq!(with("localhost:8080", origin), 403, "{origin}");
        }
        let twice = [("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://localhost")];
        assert_eq!(status(&gate, "/", &twice), 400);
    }

    #[test]
    fn only_json_is_taken() {
        let check = |value: &str| {
            let mut map = HeaderMap::new();
            map.insert(header::CONTENT_TYPE, value.parse().unwrap());
            check_content_type(&Method::POST, &map).is_ok()
        };
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/json;charset=UTF-8"] {
            assert!(check(good), "{good}");
        }
        for bad in ["text/plain", "", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx"] {
            assert!(!check(bad), "{bad}");
        }
        assert!(!check("application/json; charset=utf-16"));
        assert!(check_content_type(&Method::POST, &HeaderMap::new()).is_err());
        assert!(check_content_type(&Method::GET, &HeaderMap::new()).is_ok());
    }
}

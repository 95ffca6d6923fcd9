//! One trace for each request that wants something, if somebody collects them: begun where the request comes in, carried along
//! in the task, told by whoever knows, and ended when the last of them lets go of it: with an answer that streams, that is its
//! end. Names, counts and times only: never a word of a prompt or an answer, and no text of a client's choosing.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::MatchedPath;
use axum::http::{HeaderMap, Method, Request};
use base::limits;
use protocol::{Generate, Usage};
use serde_json::{Value, json};

use crate::app::App;
use crate::otlp::{Exporter, Part, Span};

tokio::task_local! {
    /// The trace of the request that is answered.
    static TRACE: Option<Arc<Trace>>;
}

/// Where a trace goes on: W3C Trace Context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    trace: u128,
    span: u64,
    is_sampled: bool,
}

impl Context {
    /// Reads `traceparent`, strictly: lower case, no zero ids, one header only. Later versions may have more after the flags.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all("traceparent").iter();
        let text = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
        let is_hex = |s: &str| s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let (head, rest) = text.split_at_checked(55)?;
        let mut fields = head.split('-');
        let (version, trace, span, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let lengths = (version.len(), trace.len(), span.len(), flags.len());
        let all_hex = [version, trace, span, flags].into_iter().all(is_hex);
        if lengths != (2, 32, 16, 2) || fields.next().is_some() || !all_hex || version == "ff" {
            return None;
        }
        if !rest.is_empty() && (version == "00" || !rest.starts_with('-')) {
            return None;
        }
        let flags = u8::from_str_radix(flags, 16).ok()?;
        let context = Self {
            trace: u128::from_str_radix(trace, 16).ok()?,
            span: u64::from_str_radix(span, 16).ok()?,
            is_sampled: flags & 1 == 1,
        };
        (context.trace != 0 && context.span != 0).then_some(context)
    }
}

/// The trace of one request, or of one turn on a WebSocket.
#[derive(Debug)]
pub(crate) struct Trace {
    exporter: Arc<Exporter>,
    trace: u128,
    span: u64,
    parent: Option<u64>,
    name: String,
    begun: Instant,
    begun_ns: u64,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    attributes: Vec<(&'static str, Value)>,
    parts: Vec<Part>,
    status: Option<u16>,
    has_failed: bool,
}

impl Trace {
    /// `None` where nobody collects, or the caller's own trace is not recorded.
    pub(crate) fn begin<B>(app: &App, request: &Request<B>, endpoint: &'static str) -> Option<Arc<Self>> {
        let exporter = app.exporter.as_ref()?;
        let above = Context::of(request.headers());
        // The pattern, never the path: that is the client's text.
        let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let method = known_method(request.method());
        let name = if route.is_empty() { method.to_owned() } else { format!("{method} {route}") };
        let trace = Self::new(app, exporter, above, name)?;
        trace.tell("http.request.method", json!(method));
        if !route.is_empty() {
            trace.tell("http.route", json!(route));
        }
        trace.operation(endpoint);
        Some(trace)
    }

    /// A turn on a WebSocket, below the request that opened it.
    pub(crate) fn turn(app: &App, above: Option<Context>) -> Option<Arc<Self>> {
        let trace = Self::new(app, app.exporter.as_ref()?, above, "response.create /v1/responses".to_owned())?;
        trace.tell("http.route", json!("/v1/responses"));
        trace.tell("network.protocol.name", json!("websocket"));
        trace.operation("responses");
        Some(trace)
    }

    fn new(app: &App, exporter: &Arc<Exporter>, above: Option<Context>, name: String) -> Option<Arc<Self>> {
        if above.is_some_and(|a| !a.is_sampled) {
            return None;
        }
        let id = || (app.random(app.mint()) >> 1).max(1); // there is room above for the ids of parts
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(Arc::new(Self {
            exporter: Arc::clone(exporter),
            trace: above.map_or_else(|| u128::from(id()) << 64 | u128::from(id()), |a| a.trace),
            span: id(),
            parent: above.map(|a| a.span),
            name,
            begun: Instant::now(),
            begun_ns: u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX),
            told: Mutex::default(),
        }))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Told) -> T) -> T {
        f(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn tell(&self, key: &'static str, value: Value) {
        self.with(|t| t.attributes.push((key, value)));
    }

    /// OpenTelemetry's conventions for generative AI.
    fn operation(&self, endpoint: &str) {
        let operation = match endpoint {
            "chat" | "responses" => "chat",
            "completions" | "infill" => "text_completion",
            _ => return,
        };
        self.tell("gen_ai.operation.name", json!(operation));
        self.tell("gen_ai.provider.name", json!("vonk"));
    }

    /// What was asked for.
    pub(crate) fn asked(&self, model: &str, g: &Generate) {
        let finite = |x: Option<f32>| x.map(|x| json!(f64::from(x)));
        for (key, value) in [
            ("gen_ai.request.model", Some(json!(model))),
            ("gen_ai.response.model", Some(json!(model))),
            ("gen_ai.request.max_tokens", g.max_tokens.map(|n| json!(n))),
            ("gen_ai.request.temperature", finite(g.temperature.map(|x| x.get()))),
            ("gen_ai.request.top_p", finite(g.top_p.map(|x| x.get()))),
            ("gen_ai.request.top_k", g.top_k.map(|n| json!(n))),
            ("gen_ai.request.seed", g.seed.and_then(|n| i64::try_from(n).ok()).map(|n| json!(n))),
            ("gen_ai.request.choice.count", (g.n != 1).then(|| json!(g.n))),
        ] {
            if let Some(value) = value {
                self.tell(key, value);
            }
        }
    }

    /// What came of it.
    pub(crate) fn generated(&self, usage: &Usage, reasons: Vec<Value>) {
        let cached = usage.prompt_tokens_details.as_ref().map_or(0, |d| d.cached_tokens);
        self.tell("gen_ai.usage.input_tokens", json!(usage.prompt_tokens));
        self.tell("gen_ai.usage.cache_read.input_tokens", json!(cached));
        self.tell("gen_ai.usage.output_tokens", json!(usage.completion_tokens));
        if !reasons.is_empty() {
            self.tell("gen_ai.response.finish_reasons", reasons.into());
        }
    }

    /// A part of the work; nothing where it did not happen.
    pub(crate) fn part(&self, name: &'static str, begun: Option<Instant>, ended: Option<Instant>) {
        let (Some(begun), Some(ended)) = (begun, ended) else { return };
        let part = Part { name, begun_ns: self.unix_ns(begun), ended_ns: self.unix_ns(ended) };
        self.with(|t| {
            if t.parts.len() < limits::TRACE_PARTS_MAX {
                t.parts.push(part);
            }
        });
    }

    /// The status that was sent.
    pub(crate) fn answered(&self, status: u16) {
        self.with(|t| t.status = Some(status));
    }

    /// It failed after its status was sent, by our fault.
    pub(crate) fn failed(&self) {
        self.with(|t| t.has_failed = true);
    }

    fn unix_ns(&self, at: Instant) -> u64 {
        let ns = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        match at.checked_duration_since(self.begun) {
            Some(after) => self.begun_ns.saturating_add(ns(after)),
            None => self.begun_ns.saturating_sub(ns(self.begun.duration_since(at))),
        }
    }
}

/// The last who knew of it has let go: the request has ended.
impl Drop for Trace {
    fn drop(&mut self) {
        let ended_ns = self.unix_ns(Instant::now());
        let Told { mut attributes, parts, status, has_failed } = self.with(std::mem::take);
        let is_error = has_failed || status.is_some_and(|s| s >= 500);
        if let Some(status) = status {
            attributes.push(("http.response.status_code", json!(status)));
        }
        if is_error {
            let kind = status.filter(|s| *s >= 500).map_or("internal_error".to_owned(), |s| s.to_string());
            attributes.push(("error.type", json!(kind)));
        }
        self.exporter.push(Span {
            trace: self.trace,
            id: self.span,
            parent: self.parent,
            name: std::mem::take(&mut self.name),
            begun_ns: self.begun_ns,
            ended_ns,
            attributes,
            is_error,
            parts,
        });
    }
}

/// Others are a client's text.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        _ => "_OTHER",
    }
}

/// What happens within this future belongs to this trace.
pub(crate) async fn within<F: Future>(trace: Option<Arc<Trace>>, future: F) -> F::Output {
    TRACE.scope(trace, future).await
}

/// The trace of the request that is answered here.
pub(crate) fn current() -> Option<Arc<Trace>> {
    TRACE.try_with(Clone::clone).unwrap_or_default()
}

/// Where traces of later turns go on.
pub(crate) fn context() -> Option<Context> {
    current().map(|t| Context { trace: t.trace, span: t.span, is_sampled: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Option<Context> {
        let mut headers = HeaderMap::new();
        values.iter().for_each(|v| _ = headers.append("traceparent", v.parse().unwrap()));
        Context::of(&headers)
    }

    #[test]
    fn traceparent_is_read_strictly() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context =
            Context { trace: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, span: 0xb7ad_6b71_6920_3331, is_sampled: true };
        assert_eq!(read(&[good]), Some(context));
        let later = format!("cc{}-what-comes", &good[2..]);
        assert_eq!(read(&[&later]), Some(context), "of a later version what is known is read");
        let unsampled = format!("{}00", &good[..53]);
        assert_eq!(read(&[&unsampled]), Some(Context { is_sampled: false, ..context }));
        assert_eq!(read(&[good, good]), None);
        for bad in [
            "",
            "00",
            &good[..54],
            &format!("{good}-x"),
            &format!("cc{}x", &good[2..]),
            &good.to_uppercase(),
            &good.replace("00-", "ff-"),
            &good.replace('-', "_"),
            &good.replace("b7ad6b7169203331", "0000000000000000"),
            &good.replace("0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000000"),
            &good.replace("0af7", "+af7"),
            &good.replacen("00-0af7", "000-af7", 1),
            "00-0af7651916cd43dd8448eb211c80319cb-7ad6b7169203331-01",
        ] {
            assert_eq!(read(&[bad]), None, "{bad}");
        }
    }
}

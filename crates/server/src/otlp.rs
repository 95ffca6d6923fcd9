//! Spans on their way out: OTLP/HTTP in its JSON encoding (OpenTelemetry Protocol 1.x, `ExportTraceServiceRequest`), sent by a
//! thread of its own. A request only pushes what is finished into a bounded queue; what does not fit, or cannot be delivered, is
//! dropped and counted. Nothing here knows what was asked or answered.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use base::limits;
use serde_json::{Value, json};

/// Takes traces; whoever starts the server brings one.
pub trait Collector: Send + Sync + std::fmt::Debug {
    /// Delivers an `ExportTraceServiceRequest` as JSON, within a bounded time; how many of its spans were rejected.
    ///
    /// # Errors
    /// Not delivered, and why.
    fn post(&self, body: &[u8]) -> Result<u64, String>;
}

/// A part of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// Nanoseconds since 1970.
    pub(crate) begun_ns: u64,
    pub(crate) ended_ns: u64,
}

/// A request that has ended: a span, and one below it for each part.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Span {
    pub(crate) trace: u128,
    pub(crate) id: u64,
    pub(crate) parent: Option<u64>,
    pub(crate) name: String,
    pub(crate) begun_ns: u64,
    pub(crate) ended_ns: u64,
    pub(crate) attributes: Vec<(&'static str, Value)>,
    pub(crate) is_error: bool,
    pub(crate) parts: Vec<Part>,
}

impl Span {
    fn n_spans(&self) -> u64 {
        1 + self.parts.len() as u64
    }
}

#[derive(Debug, Default)]
struct Queue {
    spans: Vec<Span>,
    is_closing: bool,
}

/// The queue, and the thread that empties it.
#[derive(Debug)]
pub(crate) struct Exporter {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    collector: Arc<dyn Collector>,
    resource: Value,
    exported: AtomicU64,
    dropped: AtomicU64,
}

impl Exporter {
    /// Starts the thread; `instance` tells this process from others.
    ///
    /// # Errors
    /// No thread.
    pub(crate) fn start(collector: Arc<dyn Collector>, instance: u64) -> std::io::Result<Self> {
        let resource = json!({ "attributes": [
            attribute("service.name", &json!("vonk")),
            attribute("service.version", &json!(env!("CARGO_PKG_VERSION"))),
            attribute("service.instance.id", &json!(format!("{instance:016x}"))),
        ]});
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            changed: Condvar::new(),
            collector,
            resource,
            exported: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        let run = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("traces".to_owned()).spawn(move || run.run())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Takes a request that has ended. Never waits for the collector.
    pub(crate) fn push(&self, span: Span) {
        let mut queue = self.shared.lock();
        if queue.is_closing || queue.spans.len() >= limits::TRACE_QUEUE_MAX {
            self.shared.dropped.fetch_add(span.n_spans(), Relaxed);
            return;
        }
        queue.spans.push(span);
        if queue.spans.len() == limits::TRACE_BATCH_MAX {
            self.shared.changed.notify_one();
        }
    }

    /// Delivers what is left and ends the thread.
    pub(crate) fn close(&self) {
        self.shared.lock().is_closing = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join(); // a panic has been printed already
        }
    }

    /// Appends the counts as Prometheus reads them.
    pub(crate) fn write_metrics(&self, out: &mut String) {
        for (name, n) in
            [("vonk_spans_exported_total", &self.shared.exported), ("vonk_spans_dropped_total", &self.shared.dropped)]
        {
            let _ = writeln!(out, "# TYPE {name} counter\n{name} {}", n.load(Relaxed));
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a batch about every `TRACE_EXPORT_MS`, earlier where one is full, until the end.
    fn run(&self) {
        loop {
            let (spans, is_closing) = self.wait();
            let mut is_delivered = true;
            for batch in spans.chunks(limits::TRACE_BATCH_MAX) {
                // Whoever waits for the end does not wait for a collector that is gone more than once.
                is_delivered = (is_delivered || !is_closing) && self.deliver(batch);
                if !is_delivered {
                    self.dropped.fetch_add(batch.iter().map(Span::n_spans).sum(), Relaxed);
                }
            }
            if is_closing {
                return;
            }
        }
    }

    fn wait(&self) -> (Vec<Span>, bool) {
        let is_idle = |q: &mut Queue| !q.is_closing && q.spans.len() < limits::TRACE_BATCH_MAX;
        let tick = Duration::from_millis(limits::TRACE_EXPORT_MS);
        let waited = self.changed.wait_timeout_while(self.lock(), tick, is_idle);
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut queue.spans), queue.is_closing)
    }

    /// False if the batch is lost. There is no second try: memory is for answers.
    fn deliver(&self, batch: &[Span]) -> bool {
        let n: u64 = batch.iter().map(Span::n_spans).sum();
        let Ok(rejected) = self.collector.post(request(&self.resource, batch).to_string().as_bytes()) else {
            return false;
        };
        let rejected = rejected.min(n);
        self.exported.fetch_add(n - rejected, Relaxed);
        self.dropped.fetch_add(rejected, Relaxed);
        true
    }
}

/// `ExportTraceServiceRequest`: ids in hexadecimal, 64-bit numbers as text, enumerations as numbers.
fn request(resource: &Value, batch: &[Span]) -> Value {
    let spans: Vec<Value> = batch.iter().flat_map(spans).collect();
    let scope = json!({ "name": "vonk", "version": env!("CARGO_PKG_VERSION") });
    json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": [{ "scope": scope, "spans": spans }] }] })
}

/// `SPAN_KIND_INTERNAL`, `SPAN_KIND_SERVER`, `STATUS_CODE_ERROR`.
const INTERNAL: u32 = 1;
const SERVER: u32 = 2;
const ERROR: u32 = 2;

fn spans(span: &Span) -> impl Iterator<Item = Value> {
    let attributes: Vec<Value> = span.attributes.iter().map(|(key, value)| attribute(key, value)).collect();
    let mut whole = bare(span.trace, span.id, span.parent, &span.name, SERVER, span.begun_ns, span.ended_ns);
    whole["attributes"] = attributes.into();
    if span.is_error {
        whole["status"] = json!({ "code": ERROR });
    }
    let part = |(i, p): (u64, &Part)| {
        // Ids of requests are below 2^63: this is no zero, and different from its own and from those of the other parts.
        let id = span.id.wrapping_add(i + 1);
        bare(span.trace, id, Some(span.id), p.name, INTERNAL, p.begun_ns, p.ended_ns)
    };
    let parts: Vec<Value> = (0..).zip(&span.parts).map(part).collect();
    std::iter::once(whole).chain(parts)
}

fn bare(trace: u128, id: u64, parent: Option<u64>, name: &str, kind: u32, begun_ns: u64, ended_ns: u64) -> Value {
    let mut span = json!({
        "traceId": format!("{trace:032x}"), "spanId": format!("{id:016x}"), "name": name, "kind": kind,
        "startTimeUnixNano": begun_ns.to_string(), "endTimeUnixNano": ended_ns.max(begun_ns).to_string(),
    });
    if let Some(parent) = parent {
        span["parentSpanId"] = format!("{parent:016x}").into();
    }
    span
}

/// A `KeyValue`.
fn attribute(key: &str, value: &Value) -> Value {
    json!({ "key": key, "value": any(value) })
}

/// An `AnyValue`.
fn any(value: &Value) -> Value {
    match value {
        Value::Bool(b) => json!({ "boolValue": b }),
        Value::Number(n) => match n.as_i64() {
            Some(i) => json!({ "intValue": i.to_string() }),
            None => json!({ "doubleValue": n.as_f64() }),
        },
        Value::Array(list) => json!({ "arrayValue": { "values": list.iter().map(any).collect::<Vec<Value>>() } }),
        Value::String(text) => json!({ "stringValue": text }),
        other => json!({ "stringValue": other.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Answers nobody before it is told to.
    #[derive(Debug)]
    struct Stuck(Mutex<mpsc::Receiver<Result<u64, String>>>);

    impl Collector for Stuck {
        fn post(&self, _: &[u8]) -> Result<u64, String> {
            self.0.lock().unwrap().recv().unwrap_or(Err("gone".to_owned()))
        }
    }

    fn span(id: u64) -> Span {
        Span {
            trace: 1,
            id,
            parent: None,
            name: "GET /".into(),
            begun_ns: 5,
            ended_ns: 9,
            attributes: vec![],
            is_error: false,
            parts: vec![Part { name: "queue", begun_ns: 6, ended_ns: 7 }],
        }
    }

    #[test]
    fn a_collector_that_hangs_costs_spans_and_no_waiting() {
        let (tell, told) = mpsc::channel();
        let exporter = Exporter::start(Arc::new(Stuck(Mutex::new(told))), 1).unwrap();
        let pushed = 2 * limits::TRACE_QUEUE_MAX as u64 + limits::TRACE_BATCH_MAX as u64;
        (1..=pushed).for_each(|id| exporter.push(span(id)));
        let counts = |e: &Exporter| (e.shared.exported.load(Relaxed), e.shared.dropped.load(Relaxed));
        let (none, early) = counts(&exporter);
        assert_eq!(none, 0);
        assert!(early >= 2 * limits::TRACE_BATCH_MAX as u64, "the queue is bounded: {early}");
        tell.send(Ok(1)).unwrap();
        drop(tell); // all later ones fail
        exporter.close();
        let (exported, dropped) = counts(&exporter);
        assert_eq!(exported + dropped, 2 * pushed, "each span is counted once");
        assert!(exported > 0 && exported < 2 * limits::TRACE_BATCH_MAX as u64, "one was rejected");
        exporter.push(span(1));
        assert_eq!(counts(&exporter).1, dropped + 2, "nothing is taken after the end");
    }

    #[test]
    fn values_have_the_shape_of_the_specification() {
        let value = any(&json!([true, -7, 0.5, "x"]));
        let values =
            json!([{ "boolValue": true }, { "intValue": "-7" }, { "doubleValue": 0.5 }, { "stringValue": "x" }]);
        assert_eq!(value, json!({ "arrayValue": { "values": values } }));
        let all: Vec<Value> = spans(&Span { id: 0xff, is_error: true, ..span(1) }).collect();
        assert_eq!((&all[0]["kind"], &all[0]["status"]["code"]), (&json!(2), &json!(2)));
        assert_eq!(
            (&all[1]["parentSpanId"], &all[1]["spanId"]),
            (&json!("00000000000000ff"), &json!("0000000000000100"))
        );
    }
}

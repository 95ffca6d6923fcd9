//! `vonk serve --otlp`: delivers traces to an OpenTelemetry collector, over plain HTTP as everything here.

use base::limits;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use client::{Client, ClientError, Deadline, Target};

use crate::fault::Fault;

/// A collector that takes OTLP/HTTP.
#[derive(Debug)]
pub struct Otlp {
    client: Client,
    /// That it takes nothing has been said.
    is_missed: AtomicBool,
}

impl Otlp {
    /// At `http://host:4318`; the path `/v1/traces` may be given, too.
    pub fn at(url: &str) -> Result<Self, Fault> {
        let base = url.trim_end_matches('/').trim_end_matches("/v1/traces");
        let client = Client::new(Target::parse(base).map_err(Fault::input)?, None).map_err(Fault::input)?;
        Ok(Self { client, is_missed: AtomicBool::new(false) })
    }

    /// Says so if the collector's name has no address. On a thread of its own, because resolvers take their time; the server does
    /// not wait, and tries again with every delivery.
    pub fn check(&self) {
        let target = self.client.target().clone();
        let check = move || {
            if let Err(e) = target.resolve() {
                eprintln!("warning: --otlp: {e}; traces are dropped until it can be reached");
            }
        };
        let _ = std::thread::Builder::new().name("otlp-check".to_owned()).spawn(check); // else nothing is said
    }

    fn deliver(&self, body: &[u8]) -> Result<u64, ClientError> {
        let answer = self.client.post("/v1/traces", body, Deadline::after_s(limits::TRACE_POST_S_MAX), None)?;
        let answer = answer.json(limits::TRACE_ANSWER_BYTES_MAX)?;
        // A 64-bit number, so it may be text.
        let rejected = &answer["partialSuccess"]["rejectedSpans"];
        Ok(rejected.as_u64().or_else(|| rejected.as_str()?.parse().ok()).unwrap_or(0))
    }
}

impl server::Collector for Otlp {
    fn post(&self, body: &[u8]) -> Result<u64, String> {
        match self.deliver(body) {
            // It took everything, and said so in another way than the specification wants.
            Err(ClientError::Protocol { why, .. }) if why.starts_with("its answer is not JSON") => Ok(0),
            Err(e) => {
                if !self.is_missed.swap(true, Relaxed) {
                    eprintln!("warning: traces are not delivered: {e}; vonk_spans_dropped_total counts them");
                }
                Err(e.to_string())
            }
            Ok(rejected) => {
                self.is_missed.store(false, Relaxed);
                Ok(rejected)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use server::Collector;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// Answers each request in turn; what it got.
    fn collector(answers: Vec<&'static str>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = std::thread::spawn(move || {
            let serve = |answer: &str| {
                let (mut stream, _) = listener.accept().unwrap();
                let (mut got, mut buffer) = (String::new(), [0; 4096]);
                while !got.ends_with("\"end\"}") {
                    let n = stream.read(&mut buffer).unwrap();
                    got.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
                }
                stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).unwrap();
                got
            };
            answers.into_iter().map(serve).collect()
        });
        (url, served)
    }

    #[test]
    fn a_collector_is_asked_as_the_specification_says() {
        let close = "Connection: close\r\nContent-Type: application/json\r\n";
        let (all, some) = ("{}", r#"{"partialSuccess":{"rejectedSpans":"3"}}"#);
        let answers = [all, some].map(|b| format!("200 OK\r\n{close}Content-Length: {}\r\n\r\n{b}", b.len()));
        let failed = format!("503 Service Unavailable\r\n{close}Content-Length: 0\r\n\r\n");
        let no_json = format!("200 OK\r\n{close}Content-Length: 2\r\n\r\nok");
        let answers = answers.into_iter().chain([failed, no_json]).map(|a| &*a.leak()).collect();
        let (url, served) = collector(answers);
        let body = br#"{"resourceSpans":[],"x":"end"}"#;
        let otlp = Otlp::at(&format!("{url}/")).unwrap();
        assert_eq!(otlp.post(body), Ok(0));
        assert_eq!(Otlp::at(&format!("{url}/v1/traces")).unwrap().post(body), Ok(3), "some were rejected");
        assert!(otlp.post(body).unwrap_err().contains("503"));
        assert_eq!(otlp.post(body), Ok(0), "it took everything, whatever it says");
        for got in served.join().unwrap() {
            assert!(got.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{got}");
            assert!(got.contains("Content-Type: application/json\r\n") && !got.contains("Authorization"), "{got}");
        }
        assert!(otlp.post(body).is_err(), "nobody is there");
        for bad in ["", "https://host:4318", "http://", "grpc://host:4317", "http://host:x"] {
            assert!(Otlp::at(bad).is_err(), "{bad}");
        }
    }
}

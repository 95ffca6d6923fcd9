#!/usr/bin/env python3
"""Traces of real requests, decoded by OpenTelemetry's own messages.

    python run_traces.py --vonk PATH --model PATH

Starts a collector and `vonk serve --otlp` beside it, asks over HTTP (whole, streamed, below a caller's trace, wrongly), and stops the
server, which sends what is left. Exit 1 if anything is wrong.
"""

import argparse
import base64
import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import checks
from checks import check, same, want
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ASKED = {"model": "default", "messages": [{"role": "user", "content": "secretword"}], "max_tokens": 4, "temperature": 0}


def decoded(body):
    """The message of a body. In OTLP's JSON ids are hexadecimal, in Protobuf's they are base64: that is the only difference."""

    def ids(value):
        if isinstance(value, list):
            return [ids(v) for v in value]
        if not isinstance(value, dict):
            return value
        hexadecimal = ("traceId", "spanId", "parentSpanId")
        return {k: base64.b64encode(bytes.fromhex(v)).decode() if k in hexadecimal else ids(v) for k, v in value.items()}

    return json_format.ParseDict(ids(json.loads(body)), ExportTraceServiceRequest(), ignore_unknown_fields=False)


class Collector(http.server.BaseHTTPRequestHandler):
    bodies = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        Collector.bodies.append((self.path, self.headers["content-type"], body))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ask(url, body, headers=None):
    headers = {"content-type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as e:
        return e.code, e.read()


class Run:
    """What was asked, and all spans of it."""

    def __init__(self, vonk, model):
        collector = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        command = [vonk, "serve", "--model", model, "--bind", f"127.0.0.1:{port}", "--no-kept-cache", "--no-runtime-file",
                   "--otlp", f"http://127.0.0.1:{collector.server_port}"]
        self.begun_ns = time.time_ns()
        with tempfile.TemporaryDirectory() as home:
            server = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "VONK_HOME": home})
            try:
                self.wait(url, server)
                self.statuses = self.ask_all(url)
                server.terminate()
                server.wait(60)
            finally:
                server.kill()
        self.ended_ns = time.time_ns()
        collector.shutdown()
        self.bodies = list(Collector.bodies)
        self.messages = [decoded(body) for _, _, body in self.bodies]
        self.spans = [s for m in self.messages for r in m.resource_spans for c in r.scope_spans for s in c.spans]

    @staticmethod
    def wait(url, server):
        for _ in range(600):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(url + "/ready", timeout=5).close()
                return
            want(server.poll() is None, "the server ended")
            time.sleep(0.1)
        raise checks.Failed("the server is not ready after a minute")

    @staticmethod
    def ask_all(url):
        chat = url + "/v1/chat/completions"
        parent = {"traceparent": f"00-{CALLER[0]}-{CALLER[1]}-01"}
        unsampled = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-00"}
        return [
            ask(chat, ASKED)[0],
            ask(chat, {**ASKED, "stream": True, "top_p": 0.5, "seed": 7}, parent)[0],
            ask(chat, {**ASKED, "model": "nobody"})[0],
            ask(chat, ASKED, unsampled)[0],
        ]

    def servers(self):
        """Spans of requests, in the order in which they began."""
        found = [s for s in self.spans if s.kind == Span.SPAN_KIND_SERVER]
        return sorted(found, key=lambda s: s.start_time_unix_nano)

    def below(self, span):
        return [s for s in self.spans if s.parent_span_id == span.span_id and s.trace_id == span.trace_id]


def values(span):
    """A span's attributes as Python's values."""

    def plain(v):
        kind = v.WhichOneof("value")
        return [plain(x) for x in v.array_value.values] if kind == "array_value" else getattr(v, kind)

    return {a.key: plain(a.value) for a in span.attributes}


@check
def every_request_was_answered(r):
    same(r.statuses, [200, 200, 404, 200], "statuses")


@check
def messages_come_as_the_protocol_says(r):
    want(r.bodies, "nothing was sent")
    for path, media_type, body in r.bodies:
        same((path, media_type), ("/v1/traces", "application/json"), "request")
        want(b"secretword" not in body, "a prompt was sent")
    for message in r.messages:
        for resource in message.resource_spans:
            names = {a.key: a.value.string_value for a in resource.resource.attributes}
            same(names["service.name"], "vonk", "service")
            same([s.scope.name for s in resource.scope_spans], ["vonk"], "scope")


@check
def ids_are_whole_and_differ(r):
    for s in r.spans:
        same((len(s.trace_id), len(s.span_id), len(s.parent_span_id) in (0, 8)), (16, 8, True), f"ids of {s.name}")
        want(any(s.trace_id) and any(s.span_id), f"{s.name} has an id of zeros")
    same(len({(s.trace_id, s.span_id) for s in r.spans}), len(r.spans), "different spans")


@check
def the_unsampled_request_is_not_there(r):
    servers = [s for s in r.servers() if "chat" in s.name]
    same(len(servers), 3, "spans of chat requests")
    want(all(s.trace_id != bytes.fromhex("1" * 32) for s in r.spans), "an unsampled trace was sent")


@check
def a_callers_trace_goes_on(r):
    plain, called, _ = (s for s in r.servers() if "chat" in s.name)
    same((called.trace_id.hex(), called.parent_span_id.hex()), CALLER, "trace and parent")
    want(not plain.parent_span_id and plain.trace_id != called.trace_id, "the other has a trace of its own")


@check
def parts_lie_below_their_request_and_within_its_time(r):
    for s in r.servers():
        want(r.begun_ns <= s.start_time_unix_nano <= s.end_time_unix_nano <= r.ended_ns, f"times of {s.name}")
        ends = 0
        for part in sorted(r.below(s), key=lambda p: p.start_time_unix_nano):
            same(part.kind, Span.SPAN_KIND_INTERNAL, "kind")
            begun, ended = part.start_time_unix_nano, part.end_time_unix_nano
            want(s.start_time_unix_nano <= begun <= ended <= s.end_time_unix_nano, f"{part.name} outlasts {s.name}")
            want(ends <= begun, f"{part.name} begins before the part before it has ended")
            ends = ended
    for s in [s for s in r.servers() if "chat" in s.name][:2]:
        same([p.name for p in r.below(s)], ["tokenise", "queue", "prefill", "decode"], "parts")


@check
def what_a_request_says_is_told(r):
    plain, called, wrong = (s for s in r.servers() if "chat" in s.name)
    v = values(called)
    same((v["http.request.method"], v["http.route"], v["http.response.status_code"]),
         ("POST", "/v1/chat/completions", 200), "HTTP")
    same((v["gen_ai.operation.name"], v["gen_ai.request.max_tokens"], v["gen_ai.request.top_p"], v["gen_ai.request.seed"]),
         ("chat", 4, 0.5, 7), "request")
    want(v["gen_ai.usage.input_tokens"] > 0 and 0 < v["gen_ai.usage.output_tokens"] <= 4, "usage")
    same(len(v["gen_ai.response.finish_reasons"]), 1, "reasons")
    same(called.name, "POST /v1/chat/completions", "name")
    same(values(wrong)["http.response.status_code"], 404, "status")
    same({s.status.code for s in (plain, called, wrong)}, {Status.STATUS_CODE_UNSET}, "nothing failed here")


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--vonk", required=True)
    p.add_argument("--model", required=True)
    p.add_argument("--only", default="")
    args = p.parse_args()
    sys.exit(checks.run(lambda: Run(args.vonk, args.model), args.only))

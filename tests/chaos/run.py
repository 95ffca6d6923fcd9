#!/usr/bin/env python3
"""What a server must survive: clients that vanish, dawdle, idle and churn, its own end under load, and its sudden death while it
saves the prefix cache. docs/reliability.md names the numbers.

    python run.py --vonk PATH --model PATH [--storm 100] [--kills 10] [--slow 200] [--idle 500] [--churn 20000] [--drain 20] [--seed 1]

0 leaves a check out.

Standard library only. One line per check, `ok NAME figures` or `FAIL NAME why`. Exit 1 if any failed. Times are printed, not judged,
but for a bound that only something stuck would miss.
"""

import argparse
import http.client
import json
import os
import random
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

STUCK_S = 20


class Server:
    """`vonk serve` with a store of its own."""

    def __init__(self, vonk, model, home, *more):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        env = {**os.environ, "VONK_HOME": home}
        self.log = tempfile.TemporaryFile("w+")
        args = [vonk, "serve", "--model", model, "--bind", f"127.0.0.1:{self.port}", "--threads", "2", *more]
        self.process = subprocess.Popen(args, env=env, stdout=subprocess.DEVNULL, stderr=self.log)
        end = time.monotonic() + 60
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"FAIL start: {self.said()}")
            time.sleep(0.02)

    def is_ready(self):
        try:
            return self.get("/ready")[0] == 200
        except OSError:
            return False

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def get(self, path):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        c.request("GET", path)
        r = c.getresponse()
        return r.status, r.read().decode()

    def metric(self, name):
        found = re.search(rf"^{name}{{[^}}]*}} (\S+)$", self.get("/metrics")[1], re.M)
        return float(found[1])

    def rss_kib(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])

    def fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def complete(self, prompt, n):
        body = {"model": "default", "prompt": prompt, "max_tokens": n, "temperature": 0}
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        c.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        r = c.getresponse()
        answer = json.loads(r.read())
        if r.status != 200:
            raise AssertionError(f"{r.status}: {answer}")
        return answer["choices"][0]["text"], answer["usage"]["prompt_tokens_details"]["cached_tokens"]

    def stop(self, delay=None):
        """SIGTERM, and SIGKILL after `delay` seconds if given."""
        self.process.send_signal(signal.SIGTERM)
        if delay is not None:
            time.sleep(delay)
            self.process.kill()
        self.process.wait(timeout=60)


def text(seed, words):
    dice = random.Random(seed)
    return " ".join(dice.choice(["alpha", "beta", "if", "return", "x", "=", "(", ")", "def", "42"]) for _ in range(words))


def leave(sock, abruptly):
    if abruptly:  # RST instead of FIN
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def storm(vonk, model, home, n, seed):
    """Many streams, queued, in prefill and in decode; all their clients leave at once."""
    server = Server(vonk, model, home, "--slots", "4", "--no-kept-cache", "--ctx", "512")
    times = []
    try:
        for round_ in range(5):
            socks = []
            for i in range(n):
                prompt = text(f"{seed} {round_} {i}", 40 + i % 60)
                body = json.dumps({"model": "default", "prompt": prompt, "max_tokens": 300, "stream": True})
                s = socket.create_connection(("127.0.0.1", server.port))
                s.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: application/json\r\n"
                          f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
                socks.append(s)
            time.sleep(random.Random(f"{seed} {round_}").uniform(0.0, 0.3))
            for i, s in enumerate(socks):
                leave(s, i % 2 == 0)
            gone = time.monotonic()
            while server.metric("vonk_kv_pages_used") > 0 or server.metric("vonk_requests_queued") > 0:
                if time.monotonic() - gone > STUCK_S:
                    raise AssertionError(f"{server.metric('vonk_kv_pages_used')} pages are still used {STUCK_S} s later")
                time.sleep(0.005)
            times.append((time.monotonic() - gone) * 1e3)
        server.complete("x = ", 4)
    finally:
        server.stop()
    return f"{n} clients, 5 times; pages back after {statistics.median(times):.0f} ms (at most {max(times):.0f})"


def kills(vonk, model, home, n, seed):
    """Dies while it saves; the next start serves, and every answer is as before."""
    dice = random.Random(seed)
    prompts = [text(f"kill {i}", 120 + 20 * i) for i in range(4)]
    server = Server(vonk, model, home, "--no-kept-cache")
    want = [server.complete(p, 8)[0] for p in prompts]
    server.stop()
    hits = saves = 0
    for _ in range(n):
        server = Server(vonk, model, home)
        for i in dice.sample(range(4), 4):
            got, cached = server.complete(prompts[i], 8)
            if got != want[i]:
                raise AssertionError(f"another answer after a kill: {got!r} instead of {want[i]!r}; {server.said()}")
            hits += cached
        server.complete(text(f"new {dice.random()}", 300), 1)  # something to save
        server.stop(None if dice.random() < 0.2 else dice.uniform(0, 0.03))
        folder = os.path.join(home, "kv")
        saves += os.path.isdir(folder) and any(f.endswith(".pages") for f in os.listdir(folder))
    if not (hits and saves):
        raise AssertionError(f"nothing was ever saved and restored ({saves} snapshots seen, {hits} tokens)")
    return f"{n} times; {hits} prompt tokens came from restored pages"


def slow(vonk, model, home, n, seed):
    """Clients that send a byte now and then, in the head or in the body: each is cut off in time, and others do not notice (R15)."""
    server = Server(vonk, model, home, "--no-kept-cache", "--ctx", "512")
    limits = {"head": 10 + 1, "body": 60 + 1}
    begin = {"head": b"POST /v1/completions HTT", "body": b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
             b"Content-Type: application/json\r\nContent-Length: 90\r\n\r\n{"}
    try:
        prompts = iter(text(f"{seed} {i}", 20) for i in range(1_000_000))
        before = [timed(server, next(prompts)) for _ in range(9)]
        born = time.monotonic()
        open_ = []
        for i in range(n):
            kind = ("head", "body")[i % 2]
            s = socket.create_connection(("127.0.0.1", server.port), source_address=(f"127.0.0.{2 + i % 3}", 0))
            s.sendall(begin[kind])
            s.setblocking(False)
            open_.append((kind, s))
        during, last, fed = [], {"head": 0.0, "body": 0.0}, 0
        while open_:
            age = time.monotonic() - born
            feeds, fed = age // 5 > fed, age // 5
            left = []
            for kind, s in open_:
                if is_closed(s, feeds):
                    last[kind] = max(last[kind], age)
                    s.close()
                elif age > limits[kind] + STUCK_S:
                    raise AssertionError(f"a client slow in its {kind} is still served after {age:.0f} s")
                else:
                    left.append((kind, s))
            open_ = left
            during.append(timed(server, next(prompts)))
    finally:
        server.stop()
    gone = ", ".join(f"{kind} after {last[kind]:.1f} s at most" for kind in last)
    return f"{n} clients: {gone}; others wait {statistics.median(during) * 1e3:.0f} ms, {statistics.median(before) * 1e3:.0f} before"


def is_closed(s, feeds):
    """Sends one more byte if it is time; whether the server has answered or hung up."""
    try:
        if feeds:
            s.send(b" ")
        return s.recv(1) is not None
    except BlockingIOError:
        return False
    except OSError:
        return True


def timed(server, prompt):
    begun = time.monotonic()
    server.complete(prompt, 1)
    return time.monotonic() - begun


def idle(vonk, model, home, n, seed):
    """Open streams that wait: what each costs, and whether a new one waits longer (R16)."""
    server = Server(vonk, model, home, "--no-kept-cache", "--ctx", "512", "--slots", "2")
    try:
        server.complete("warm", 4)
        ttft = statistics.median(timed(server, text(f"{seed} a {i}", 20)) for i in range(9))
        rss = server.rss_kib()
        socks = []
        for i in range(n):  # heads that do not end yet: below the time for them
            s = socket.create_connection(("127.0.0.1", server.port), source_address=(f"127.0.0.{2 + i % 5}", 0))
            s.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if not s.recv(4096).startswith(b"HTTP/1.1 200"):
                raise AssertionError("an idle connection was refused")
            socks.append(s)
        each = (server.rss_kib() - rss) / n
        later = statistics.median(timed(server, text(f"{seed} b {i}", 20)) for i in range(9))
        for s in socks:
            s.close()
    finally:
        server.stop()
    if each > 40:
        raise AssertionError(f"{each:.1f} KiB for each of {n} idle connections; 40 is the most")
    return f"{n} connections, {each:.1f} KiB each; a new request waits {later * 1e3:.0f} ms, {ttft * 1e3:.0f} without them"


def churn(vonk, model, home, n, seed):
    """Connections that come and go leave nothing behind (R17)."""
    server = Server(vonk, model, home, "--no-kept-cache", "--ctx", "512")
    try:
        visit(server, 500)  # what is made once
        before, fds = server.rss_kib(), server.fds()
        begun = time.monotonic()
        visit(server, n)
        s = time.monotonic() - begun
        time.sleep(0.5)
        after, left = server.rss_kib(), server.fds()
    finally:
        server.stop()
    if left > fds + 2 or after > before * 1.01 + 2048:
        raise AssertionError(f"{fds} files and {before} KiB became {left} and {after}")
    return f"{n} connections in {s:.0f} s; files {fds} to {left}, memory {before} to {after} KiB"


def visit(server, n):
    ask = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    for i in range(n):
        s = socket.create_connection(("127.0.0.1", server.port))
        if i % 3:
            s.sendall(ask if i % 3 == 1 else ask[:20])
        if i % 3 == 1 and not s.recv(4096).startswith(b"HTTP/1.1 200"):
            raise AssertionError("no answer")
        leave(s, i % 2 == 0)


def drain(vonk, model, home, n, seed):
    """SIGTERM under load: every stream ends with whole events, the process ends by itself, the next one serves (R27)."""
    ends, starts = [], []
    for round_ in range(n):
        begun = time.monotonic()
        server = Server(vonk, model, home, "--slots", "4", "--no-kept-cache", "--ctx", "512")
        starts.append(time.monotonic() - begun)
        socks = []
        for i in range(8):
            body = json.dumps({"model": "default", "prompt": text(f"{seed} {round_} {i}", 30), "max_tokens": 60, "stream": True})
            s = socket.create_connection(("127.0.0.1", server.port))
            s.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
                      f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
            s.settimeout(60)
            socks.append(s)
        time.sleep(random.Random(f"{seed} {round_}").uniform(0.02, 0.5))
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        for s in socks:
            answer = b""
            try:
                while part := s.recv(65536):
                    answer += part
            except ConnectionResetError:
                if answer:
                    raise AssertionError(f"a stream was cut in the middle: {answer[-80:]!r}") from None
            if b" 200 OK" in answer[:20] and not (answer.endswith(b"0\r\n\r\n") and b"data: [DONE]\n\n" in answer):
                raise AssertionError(f"a stream ended without its end: {answer[-80:]!r}")
        code = server.process.wait(timeout=60)
        ends.append(time.monotonic() - begun)
        if code != 0:
            raise AssertionError(f"exit {code}: {server.said()}")
    return f"{n} times with 8 streams; ended after {max(ends):.1f} s, ready after {max(starts):.1f} s at most"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--vonk", required=True)
    p.add_argument("--model", required=True)
    p.add_argument("--storm", type=int, default=100)
    p.add_argument("--kills", type=int, default=10)
    p.add_argument("--slow", type=int, default=200)
    p.add_argument("--idle", type=int, default=500)
    p.add_argument("--churn", type=int, default=20000)
    p.add_argument("--drain", type=int, default=20)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    failed = 0
    checks = ((storm, a.storm), (kills, a.kills), (slow, a.slow), (idle, a.idle), (churn, a.churn), (drain, a.drain))
    for check, n in ((check, n) for check, n in checks if n):
        with tempfile.TemporaryDirectory() as home:
            try:
                print(f"ok {check.__name__}: {check(a.vonk, a.model, home, n, a.seed)}", flush=True)
            except (AssertionError, OSError, subprocess.TimeoutExpired) as e:
                failed += 1
                print(f"FAIL {check.__name__}: {e}", flush=True)
    sys.exit(1 if failed else 0)


main()

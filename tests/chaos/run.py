#!/usr/bin/env python3
"""What a server must survive: clients that vanish, and its own sudden death while it saves the prefix cache.

    python run.py --vonk PATH --model PATH [--storm 100] [--kills 10] [--seed 1]

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


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--vonk", required=True)
    p.add_argument("--model", required=True)
    p.add_argument("--storm", type=int, default=100)
    p.add_argument("--kills", type=int, default=10)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    failed = 0
    for check, n in ((storm, a.storm), (kills, a.kills)):
        with tempfile.TemporaryDirectory() as home:
            try:
                print(f"ok {check.__name__}: {check(a.vonk, a.model, home, n, a.seed)}", flush=True)
            except (AssertionError, OSError, subprocess.TimeoutExpired) as e:
                failed += 1
                print(f"FAIL {check.__name__}: {e}", flush=True)
    sys.exit(1 if failed else 0)


main()

"""Stands between a client and the server: writes down what went by, and can make a small model call a tool.

The client is not changed, and the server is asked what the client asked, but for this: `force` names tools with the arguments that
shall be given. Their schemas become those arguments, word for word (None: they stay as they are). A request that offers one of
them, and has no result of a call yet, gets a `tool_choice` that names it; after `calls_max` results the model may call no more,
because small models know no end. `add` is put into each request that has tools, where the client says nothing of it. Over HTTP, and over a WebSocket of `/v1/responses` without compression.
"""

import http.client
import http.server
import json
import struct
import threading
import urllib.parse

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "accept-encoding"}
UPSTREAM_S_MAX = 600


class Relay:
    """`with Relay(server, force={"write_file": {...}}) as relay:` and a client at `relay.root`."""

    def __init__(self, root, force=None, calls_max=1, add=None):
        self.upstream = urllib.parse.urlsplit(root)
        self.force, self.calls_max, self.forced = force or {}, calls_max, False
        self.add = add or {}
        self.asked = []  # bodies as the client sent them
        self.answers = []  # (path, status)
        handler = type("Handler", (Passing,), {"to": self})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.root = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def seen(self, text):
        """Writes a body down; the one that the server gets."""
        try:
            body = json.loads(text)
        except ValueError:
            return text
        if not isinstance(body, dict):
            return text
        self.asked.append(body)
        pinned = [(name, choice) for name, choice in choices(body) if name in self.force]
        if pinned:
            body = self.forcing(body, pinned)
        if body.get("tools"):
            body = {**self.add, **body}
        return json.dumps(body).encode() if pinned or self.add else text

    def forcing(self, body, pinned):
        body = {**body, "tools": [self.pin(tool) for tool in body["tools"]]}
        results = len(results_of(body))
        if results >= self.calls_max:
            body["tool_choice"] = "none"
        elif results == 0 and not self.forced and body.get("generate") is not False:
            self.forced = True
            name = next(name for name in self.force if name in dict(pinned))
            body.update(tool_choice=dict(pinned)[name], parallel_tool_calls=False)
        return body

    def pin(self, tool):
        """The tool, with its arguments as constants."""
        inner = tool.get("function", tool)
        values = self.force.get(inner.get("name"))
        if values is None:
            return tool
        fields = {k: {"const": v} for k, v in values.items()}
        schema = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
        inner = {**inner, "parameters": schema}
        return {**tool, "function": inner} if "function" in tool else inner

    def offered(self):
        """Names of all tools that were offered."""
        return sorted({name for body in self.asked for name, _ in choices(body)})

    def results(self):
        """What tools gave back, as far as the server was told; what is told again is counted again."""
        return [r for body in self.asked for r in results_of(body)]

    def refused(self):
        return [a for a in self.answers if not (200 <= a[1] < 300 or a[1] == 101)]


def choices(body):
    """Names of the tools in a request, each with the `tool_choice` that forces it."""
    for tool in body.get("tools") or []:
        kind, inner = tool.get("type"), tool.get("function")
        if inner:
            yield inner.get("name"), {"type": "function", "function": {"name": inner.get("name")}}
        elif kind in ("function", "custom"):
            yield tool.get("name"), {"type": kind, "name": tool.get("name")}


def results_of(body):
    """Results of tools in a request."""
    chat = [m.get("content") for m in body.get("messages") or [] if isinstance(m, dict) and m.get("role") == "tool"]
    items = body.get("input") if isinstance(body.get("input"), list) else []
    return chat + [i.get("output") for i in items if isinstance(i, dict) and str(i.get("type")).endswith("_call_output")]


class Passing(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    to = None

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.headers.get("Upgrade", "").lower() == "websocket":
            return self.socket()
        self.pass_on(None)

    def do_DELETE(self):
        self.pass_on(None)

    def do_POST(self):
        self.pass_on(self.to.seen(self.body()))

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        out = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            out += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return out

    def headers_on(self):
        kept = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP}
        return {**kept, "Host": self.to.upstream.netloc}

    def pass_on(self, body):
        up = http.client.HTTPConnection(self.to.upstream.netloc, timeout=UPSTREAM_S_MAX)
        try:
            up.request(self.command, self.path, body, self.headers_on())
            answer = up.getresponse()
            self.to.answers.append((self.path, answer.status))
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in HOP_BY_HOP | {"date", "server"}:
                    self.send_header(name, value)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while piece := answer.read1(65536):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True  # one of the two has left
        finally:
            up.close()

    def socket(self):
        """The upgrade without its extensions; then frames, those from the client looked at."""
        up = http.client.HTTPConnection(self.to.upstream.netloc, timeout=UPSTREAM_S_MAX)
        up.connect()
        self.close_connection = True
        lines = [f"{k}: {v}" for k, v in self.headers.items() if k.lower() not in ("host", "sec-websocket-extensions")]
        head = "\r\n".join([f"GET {self.path} HTTP/1.1", f"Host: {self.to.upstream.netloc}", *lines, "", ""])
        up.sock.sendall(head.encode())

        def back():
            first = True
            while data := up.sock.recv(65536):
                if first:
                    self.to.answers.append((self.path, int(data.split(b" ", 2)[1])))
                first = False
                self.connection.sendall(data)

        threading.Thread(target=quietly, args=(back,), daemon=True).start()
        quietly(lambda: self.frames(up.sock))
        up.close()

    def frames(self, to):
        while head := self.rfile.read(2):
            length = head[1] & 127
            if length > 125:
                length = int.from_bytes(self.rfile.read(2 if length == 126 else 8))
            mask = self.rfile.read(4)
            data = unmasked(self.rfile.read(length), mask)
            if head[0] == 0x81:  # a whole text
                data = self.to.seen(data)
            size = struct.pack("!BQ", 0xFF, len(data)) if len(data) > 65535 else struct.pack("!BH", 0xFE, len(data))
            size = size if len(data) > 125 else bytes([0x80 | len(data)])
            to.sendall(head[:1] + size + b"\0\0\0\0" + data)


def unmasked(data, mask):
    stream = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data) ^ int.from_bytes(stream)).to_bytes(len(data))


def quietly(f):
    try:
        f()
    except OSError:
        pass  # one of the two has left

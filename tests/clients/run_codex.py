#!/usr/bin/env python3
"""Codex CLI against a running server, over HTTP and over WebSocket.

    python run_codex.py --codex PATH --base-url http://127.0.0.1:PORT/v1 [--model NAME] [--only PART]

PATH is the `codex` that npm installed. The same lines and rules as run_python.py. What the model says is not judged: turns
complete, events are the ones that the client needs, `--output-schema` holds, and a WebSocket stays one.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

TURN_S_MAX = 170
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green", "blue"]}, "count": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}
CHECKS = []


class Failed(Exception):
    """A check found something wrong."""


def check(f):
    CHECKS.append(f)
    return f


def want(condition, why):
    if not condition:
        raise Failed(why)


class Codex:
    def __init__(self, a, folder):
        self.codex, self.url, self.folder = a.codex, a.base_url, pathlib.Path(folder)
        self.model = a.model or json.load(urllib.request.urlopen(f"{a.base_url}/models"))["data"][0]["id"]
        self.catalog = self.write_catalog()
        (self.folder / "work").mkdir()

    def write_catalog(self):
        """One entry, so that the client's prompt is the short one for a model that it knows."""
        shown = subprocess.run([self.codex, "debug", "models"], env=self.env("list", ""), capture_output=True, text=True)
        models = json.loads(shown.stdout)
        entry = next((m for m in models["models"] if m.get("apply_patch_tool_type")), models["models"][0])
        entry.update(slug=self.model, display_name=self.model, base_instructions="You are a coding agent.", upgrade=None)
        # What only its own service has; the tools of a plain agent remain, apply_patch with its grammar among them.
        entry.update(context_window=32_768, input_modalities=["text"], experimental_supported_tools=[])
        entry.update(supports_search_tool=False, use_responses_lite=False, shell_type="shell_command")
        for name in ("model_messages", "availability_nux", "tool_mode", "multi_agent_version", "max_context_window"):
            entry.pop(name, None)
        path = self.folder / "catalog.json"
        path.write_text(json.dumps({"models": [entry]}))
        return path

    def env(self, name, config):
        home = self.folder / name
        home.mkdir(exist_ok=True)
        (home / "config.toml").write_text(config)
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "SYSTEMROOT", "TEMP")}
        return {**kept, "CODEX_HOME": str(home), "RUST_LOG": "error"}

    def turn(self, kind, prompt, *more):
        """Runs one turn; its events, and what the model said last."""
        quoted = json.dumps
        config = f"""model = {quoted(self.model)}
model_provider = "local"
model_catalog_json = {quoted(str(self.catalog))}
[model_providers.local]
name = "vonk"
base_url = {quoted(self.url)}
wire_api = "responses"
supports_websockets = {"true" if kind == "websocket" else "false"}
"""
        args = [self.codex, "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "--json"]
        ran = subprocess.run(
            [*args, *more, prompt],
            env=self.env(kind, config),
            cwd=self.folder / "work",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TURN_S_MAX,
        )
        events = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
        kinds = [e["type"] for e in events]
        want("turn.completed" in kinds and "turn.failed" not in kinds, f"{kinds}: {ran.stdout[-400:]} {ran.stderr[-400:]}")
        wrong = [e for e in events if e["type"] == "error"]
        want(not wrong, f"errors: {wrong}")
        said = [e["item"]["text"] for e in events if e["type"] == "item.completed" and e["item"]["type"] == "agent_message"]
        usage = next(e["usage"] for e in events if e["type"] == "turn.completed")
        return said, usage

    def count(self, status):
        """Answers of /v1/responses with this status so far."""
        metrics = urllib.request.urlopen(self.url.removesuffix("/v1") + "/metrics").read().decode()
        line = f'vonk_requests_total{{endpoint="responses",status="{status}"}} '
        return sum(int(l.removeprefix(line)) for l in metrics.splitlines() if l.startswith(line))


@check
def codex_http_turn(c):
    before = c.count(200)
    said, usage = c.turn("http", "Say hello in three words.")
    want(said and said[-1].strip(), "no message")
    want(usage["input_tokens"] > 100 and usage["output_tokens"] > 0, f"{usage}")
    want(c.count(200) > before, "it was not asked over HTTP")


@check
def codex_http_prefix_is_kept(c):
    _, usage = c.turn("http", "Say goodbye in three words.")
    want(usage["cached_input_tokens"] > usage["input_tokens"] / 2, f"another conversation begins alike: {usage}")


@check
def codex_websocket_turn(c):
    upgrades, posts = c.count(101), c.count(200)
    said, usage = c.turn("websocket", "Say hello in three words.")
    want(said and said[-1].strip(), "no message")
    want(c.count(101) > upgrades, "no WebSocket was opened")
    want(c.count(200) == posts, "it fell back to HTTP")
    want(usage["cached_input_tokens"] > usage["input_tokens"] / 2, f"the warm-up was for nothing: {usage}")


def schema_holds(c, kind):
    path = c.folder / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    said, _ = c.turn(kind, "Which colour, and how many?", "--output-schema", str(path))
    value = json.loads(said[-1])
    want(sorted(value) == ["colour", "count"], f"{value}")
    want(value["colour"] in ("red", "green", "blue") and value["count"] in range(10), f"{value}")


@check
def codex_http_output_schema(c):
    schema_holds(c, "http")


@check
def codex_websocket_output_schema(c):
    schema_holds(c, "websocket")


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--codex", required=True)
    args.add_argument("--base-url", required=True)
    args.add_argument("--model", help="default: the first one listed")
    args.add_argument("--only", default="", help="only checks whose name contains this")
    a = args.parse_args()
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        try:
            codex = Codex(a, folder)
        except Exception as e:
            print(f"FAIL connect {type(e).__name__}: {e}\n0 passed, 1 failed")
            return 1
        for f in CHECKS:
            if a.only not in f.__name__:
                continue
            start = time.monotonic()
            try:
                f(codex)
                print(f"ok {f.__name__} ({time.monotonic() - start:.1f} s)", flush=True)
                passed += 1
            except Exception as e:
                why = str(e) if isinstance(e, Failed) else f"{type(e).__name__}: {e}"
                print(f"FAIL {f.__name__} {' '.join(why.split())}", flush=True)
                failed += 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Codex CLI against a running server, over HTTP and over WebSocket.

    python run_codex.py --codex PATH --vonk PATH --base-url http://127.0.0.1:PORT/v1 [--model NAME] [--only PART] [--slow]

PATH is the `codex` that npm installed, and our own program, which writes Codex's configuration and catalogue. The same lines and
rules as run_python.py. What the model says is not judged: turns complete, events are the ones that the client needs,
`--output-schema` holds, tools run and their results come back, and a WebSocket stays one. `--slow`: also without a catalogue
(prompts of 8,000 tokens), and tools that the model calls by itself, for which it should be qwen2.5-coder-1.5b.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.request

import checks
from checks import Failed, check, slow, want
from relay import Relay

TURN_S_MAX = 55
SLOW_TURN_S_MAX = 500
ATTEMPTS_MAX = 4  # of a small model to call a tool by itself
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green", "blue"]}, "count": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}


class Turn:
    """What `codex exec --json` said."""

    def __init__(self, ran):
        events = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
        kinds = [e["type"] for e in events]
        want("turn.completed" in kinds and "turn.failed" not in kinds, f"{kinds}: {ran.stdout[-400:]} {ran.stderr[-400:]}")
        self.items = [e["item"] for e in events if e["type"] == "item.completed"]
        self.said = [i["text"] for i in self.items if i["type"] == "agent_message"]
        self.errors = [e for e in events if e["type"] == "error"] + [i["message"] for i in self.items if i["type"] == "error"]
        self.usage = next(e["usage"] for e in events if e["type"] == "turn.completed")

    def done(self, kind):
        return [i for i in self.items if i["type"] == kind and i["status"] == "completed"]


class Codex:
    def __init__(self, a, folder):
        self.codex, self.vonk, self.folder = a.codex, a.vonk, pathlib.Path(folder)
        self.root = checks.root_of(a.base_url)
        self.model = a.model or checks.get_json(f"{self.root}/v1/models")["data"][0]["id"]
        self.work = self.folder / "work"
        self.work.mkdir()

    def env(self, home, **more):
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "SYSTEMROOT", "TEMP")}
        return {**kept, "CODEX_HOME": str(home), "RUST_LOG": "error", **more}

    def home(self, kind, root, catalog):
        """A folder with the configuration that `vonk connect` writes."""
        home = self.folder / (kind if catalog else f"{kind}-plain")  # its path is in the prompt
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        connect = [self.vonk, "connect", "codex", "--write", "--url", root, "--model", self.model]
        wrote = subprocess.run(connect, env=self.env(home), capture_output=True, text=True)
        want(wrote.returncode == 0, f"vonk connect: {wrote.stderr}")
        path = home / "config.toml"
        lines = path.read_text().splitlines()
        if not catalog:
            lines = [line for line in lines if not line.startswith("model_catalog_json")]
        if kind == "http":
            want("supports_websockets = true" in lines, f"{lines}")
            lines.remove("supports_websockets = true")
        path.write_text("\n".join(lines) + "\n")
        return home

    def turn(self, kind, prompt, *more, root=None, catalog=True):
        """Runs one turn as a person would who has run `vonk connect codex --write`."""
        if root is None:
            # Codex sends no temperature, and drawn answers of a small model may never end: the likeliest is always the same.
            with Relay(self.root, add={"temperature": 0}) as relay:
                return ended(lambda: self.turn(kind, prompt, *more, root=relay.root, catalog=catalog))
        turn = self.run(self.home(kind, root, catalog), [*more, prompt])
        # Without the catalogue the client warns that it does not know the model.
        want(not turn.errors if catalog else len(turn.errors) == 1, f"errors: {turn.errors}")
        return turn

    def run(self, home, args, **env):
        exec_ = [self.codex, "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "--json", *args]
        limit = SLOW_TURN_S_MAX if checks.WITH_SLOW else TURN_S_MAX
        ran = checks.run_for(exec_, limit, env=self.env(home, **env), cwd=self.work)
        return Turn(ran)

    def count(self, status, endpoint="responses"):
        """Answers with this status so far."""
        metrics = urllib.request.urlopen(self.root + "/metrics").read().decode()
        line = f'vonk_requests_total{{endpoint="{endpoint}",status="{status}"}} '
        return sum(int(l.removeprefix(line)) for l in metrics.splitlines() if l.startswith(line))


@check
def codex_catalogue_is_codex_own_shape(c):
    """What `vonk catalog codex` prints, read by Codex itself."""
    home = c.home("http", c.root, True)
    shown = subprocess.run([c.codex, "debug", "models"], env=c.env(home), capture_output=True, text=True)
    models = {m["slug"]: m for m in json.loads(shown.stdout)["models"]}
    want(c.model in models, f"{shown.stderr[-300:]} {sorted(models)}")
    printed = subprocess.run([c.vonk, "catalog", "codex", "--url", c.root], capture_output=True, text=True, check=True)
    ours = next(m for m in json.loads(printed.stdout)["models"] if m["slug"] == c.model)
    read = models[c.model]
    differ = {k: (v, read.get(k)) for k, v in ours.items() if v is not None and read.get(k) != v}
    want(not differ, f"read otherwise: {differ}")
    missing = sorted(set(read) - set(ours))
    want(not missing, f"fields that the catalogue does not have: {missing}")


@check
def codex_http_turn(c):
    before = c.count(200)
    turn = c.turn("http", "Say hello in three words.")
    want(turn.said and turn.said[-1].strip(), "no message")
    want(turn.usage["input_tokens"] > 100 and turn.usage["output_tokens"] > 0, f"{turn.usage}")
    want(c.count(200) > before, "it was not asked over HTTP")


@check
def codex_http_prefix_is_kept(c):
    usage = c.turn("http", "Say goodbye in three words.").usage
    want(usage["cached_input_tokens"] > usage["input_tokens"] / 2, f"another conversation begins alike: {usage}")


@check
def codex_websocket_turn(c):
    upgrades, posts = c.count(101), c.count(200)
    turn = c.turn("websocket", "Say hello in three words.")
    want(turn.said and turn.said[-1].strip(), "no message")
    want(c.count(101) > upgrades, "no WebSocket was opened")
    want(c.count(200) == posts, "it fell back to HTTP")
    want(turn.usage["cached_input_tokens"] > turn.usage["input_tokens"] / 2, f"the warm-up was for nothing: {turn.usage}")


def schema_holds(c, kind):
    path = c.folder / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    value = json.loads(c.turn(kind, "Which colour, and how many?", "--output-schema", str(path)).said[-1])
    want(sorted(value) == ["colour", "count"], f"{value}")
    want(value["colour"] in ("red", "green", "blue") and value["count"] in range(10), f"{value}")


@check
def codex_http_output_schema(c):
    schema_holds(c, "http")


@check
def codex_websocket_output_schema(c):
    schema_holds(c, "websocket")


def ended(attempt):
    """A small model may never end what it says of a result, which is neither Codex's fault nor ours: asked again, it says something else."""
    for left in reversed(range(ATTEMPTS_MAX)):
        try:
            return attempt()
        except Failed as e:
            if not left or "not done after" not in str(e):
                raise


def forced_turn(c, kind, force, prompt, catalog=True):
    """A turn in which the model must call a tool once; the turn, and what its tool gave back."""

    def attempt():
        with Relay(c.root, force, add={"temperature": 0}) as relay:
            return relay, c.turn(kind, prompt, root=relay.root, catalog=catalog)

    relay, turn = ended(attempt)
    want(relay.forced, f"the tool was not offered, but {relay.offered()}")
    want(not relay.refused(), f"refused: {relay.refused()}")
    statuses = {status for path, status in relay.answers if path == "/v1/responses"}
    want(statuses == ({101} if kind == "websocket" else {200}), f"asked otherwise: {relay.answers}")
    want(relay.results(), f"no result came back: {turn.items}")
    # Over a WebSocket only the new items are sent: nothing is told twice.
    want(kind == "http" or len(relay.results()) == 1, f"{len(relay.results())} results for one call")
    return turn, str(relay.results()[0])


def command_runs(c, kind, name, catalog=True):
    path = c.work / name
    command = {"cmd": f"echo from-{kind} > {name}"}
    tool = {"exec_command": command, "shell_command": {"command": command["cmd"]}}
    turn, result = forced_turn(c, kind, tool, f"Run this command: {command['cmd']}", catalog)
    want(path.read_text() == f"from-{kind}\n", "the command has not run")
    want(turn.done("command_execution"), f"{turn.items}")
    want("code" in result and "0" in result, f"result {result!r}")


@check
def codex_http_tool_loop(c):
    command_runs(c, "http", "a.txt")


@check
def codex_websocket_tool_loop(c):
    command_runs(c, "websocket", "b.txt")


def patch_applies(c, kind, name):
    """The patch is the model's own, under the grammar that Codex sends."""
    turn, result = forced_turn(c, kind, {"apply_patch": None}, f"Use apply_patch to add the file {name} with this line: print('hello')")
    # Whether the patch fits the files is the model's affair; Codex has parsed it and says what came of it.
    want(turn.done("file_change") or "patch" in result or "file" in result, f"{turn.items} {result!r}")
    want("invalid" not in result.lower(), f"not a patch by Codex's own parser: {result!r}")
    if turn.done("file_change"):
        want("Success" in result, f"result {result!r}")


@check
def codex_http_apply_patch(c):
    patch_applies(c, "http", "c.py")


@check
def codex_websocket_apply_patch(c):
    patch_applies(c, "websocket", "d.py")


def oss_turn(c, provider, model, **where):
    return c.run(c.home("http", c.root, True), ["--oss", "--local-provider", provider, "-m", model, "Say hello."], **where)


@check
def codex_oss_as_ollama(c):
    before = c.count(200, "ollama_models")
    turn = oss_turn(c, "ollama", c.model, CODEX_OSS_BASE_URL=f"{c.root}/v1")
    want(turn.said and turn.said[-1].strip(), "no message")
    want(c.count(200, "ollama_models") > before, "it did not ask as Ollama's clients do")


@check
def codex_oss_as_lmstudio(c):
    before = c.count(200)
    turn = oss_turn(c, "lmstudio", c.model, CODEX_OSS_PORT=c.root.rpartition(":")[2])
    want(turn.said and turn.said[-1].strip(), "no message")
    want(c.count(200) >= before + 2, "the model was not loaded first")


@check
def codex_oss_is_told_what_is_not_served(c):
    try:
        oss_turn(c, "ollama", "gpt-oss:20b", CODEX_OSS_BASE_URL=f"{c.root}/v1")
    except Failed as e:
        want("gpt-oss:20b" in str(e) and c.model in str(e), f"it is not said what is served: {e}")
    else:
        raise Failed("another model answered")


# ---- slow: without a catalogue, and what the model does by itself ------------------------------------------------------


@slow
def codex_http_turn_without_catalogue(c):
    turn = c.turn("http", "Say hello in three words.", catalog=False)
    want(turn.said and turn.said[-1].strip(), "no message")


@slow
def codex_websocket_turn_without_catalogue(c):
    turn = c.turn("websocket", "Say hello in three words.", catalog=False)
    want(turn.said and turn.said[-1].strip(), "no message")


@slow
def codex_http_tool_loop_without_catalogue(c):
    command_runs(c, "http", "e.txt", catalog=False)


@slow
def codex_websocket_tool_loop_without_catalogue(c):
    command_runs(c, "websocket", "f.txt", catalog=False)


def reads_a_file(c, kind):
    """Nothing is forced: the model must call a tool by itself. Codex sends no temperature; at 1 the small model mostly
    writes something that is nearly a call."""
    (c.work / "secret.txt").write_text("The word is kumquat.\n")
    turns = []
    for _ in range(ATTEMPTS_MAX):
        with Relay(c.root, add={"temperature": 0.2}) as relay:
            turn = c.turn(kind, "Run the command `cat secret.txt` and tell me the word in it.", root=relay.root)
        outputs = [i["aggregated_output"] for i in turn.done("command_execution")]
        if any("kumquat" in o for o in outputs):
            return
        turns.append(turn.items)
    raise Failed(f"no command was run in {ATTEMPTS_MAX} turns: {turns}")


@slow
def codex_http_tool_loop_by_itself(c):
    reads_a_file(c, "http")


@slow
def codex_websocket_tool_loop_by_itself(c):
    reads_a_file(c, "websocket")


def main():
    parser = checks.parser(__doc__)
    parser.add_argument("--codex", required=True)
    parser.add_argument("--vonk", required=True)
    parser.add_argument("--slow", action="store_true")
    a = parser.parse_args()
    checks.WITH_SLOW = a.slow
    with tempfile.TemporaryDirectory() as folder:
        return checks.run(lambda: Codex(a, folder), a.only)


if __name__ == "__main__":
    sys.exit(main())

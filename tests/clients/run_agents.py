#!/usr/bin/env python3
"""Coding agents for the terminal, really run against a server: opencode, Continue's cn, Qwen Code, goose, aider.

    python run_agents.py --node-modules FOLDER --vonk PATH --base-url http://127.0.0.1:PORT [--model NAME] [--only PART] [--slow]

FOLDER has the packages of package-agents.json; aider is the one of this Python's environment. Each agent gets a home of its own,
what `vonk connect AGENT --write` installs there, and one task: make a file. The file on disk is judged, that each request was
answered, and that the tool's result came back. The call is forced, with its arguments (relay.py): small models are no agents.
`--slow`: also by itself, nothing forced; then the requests are judged, and whether the file is right is only told.
Nothing but the server can be reached: everything else is sent to a proxy that is not there.
"""

import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile

import checks
from checks import Failed, LeftOut, check, slow, want
from relay import Relay

TASK_S_MAX = 540
LINE = "print('hello')"
TASK = f"Create the file hello.py in the current folder. It has one line: {LINE}"
NOWHERE = "http://127.0.0.1:9"


class Agents:
    def __init__(self, a, folder):
        self.vonk, self.modules, self.folder = a.vonk, pathlib.Path(a.node_modules), pathlib.Path(folder)
        self.root = checks.root_of(a.base_url)
        self.model = a.model or checks.get_json(f"{self.root}/v1/models")["data"][0]["id"]

    def place(self, name):
        """A home and a folder to work in, both empty."""
        place = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))
        home, work = place / "home", place / "work"
        home.mkdir()
        work.mkdir()
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "SYSTEMROOT", "TEMP")}
        below = {f"XDG_{k}_HOME": str(home / v) for k, v in dict(CONFIG=".config", DATA=".local/share", STATE=".local/state", CACHE=".cache").items()}
        proxy = {f"{scheme}_proxy": NOWHERE for scheme in ("http", "https")}
        proxy |= {k.upper(): v for k, v in proxy.items()} | {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
        env = {**kept, **below, **proxy, "HOME": str(home), "TERM": "dumb", "NO_COLOR": "1", "CI": "1", "DO_NOT_TRACK": "1"}
        return home, work, env

    def connect(self, client, env, root):
        command = [self.vonk, "connect", client, "--write", "--url", root, "--model", self.model]
        wrote = subprocess.run(command, env=env, capture_output=True, text=True)
        want(wrote.returncode == 0, f"vonk connect {client}: {wrote.stderr}")

    def bin(self, *path):
        program = self.modules.joinpath(*path)
        if not program.exists():
            raise LeftOut(f"{program} is not installed")
        return program


def task(a, name, command, env_more=None, force=None, prepare=None):
    """Runs an agent on the task; what it said, and the relay that listened."""
    home, work, env = a.place(name)
    env |= env_more or {}
    with Relay(a.root, {k: pinned(v, work) for k, v in (force or {}).items()}) as relay:
        a.connect(name, env, relay.root)
        if prepare:
            prepare(home, work)
        ran = checks.run_for(command(home, work), TASK_S_MAX, env=env, cwd=work)
    if os.environ.get("VONK_SHOW"):
        print(ran.stdout[-3000:], ran.stderr[-3000:], relay.answers, relay.offered(), relay.results())
    file = work / "hello.py"
    text = file.read_text().strip() if file.exists() else None
    tail = f"{ran.stdout[-500:]} {ran.stderr[-500:]}"
    want([p for p, _ in relay.answers if p.startswith("/v1/chat")], f"nothing was asked: {tail}")
    want(not relay.refused(), f"refused: {relay.refused()} {tail}")
    if force is None:
        return f"asked {len(relay.asked)} times, {'the file is right' if text == LINE else 'the file is not right'}"
    want(relay.forced or not force, f"the tool was not offered, but {relay.offered()}: {tail}")
    want(relay.results() or not force, f"no result of a tool came back: {tail}")
    want(text == LINE, f"hello.py: {text!r}: {tail}")
    return f"{len(relay.offered())} tools offered"


def pinned(values, work):
    return {k: v.replace("WORK", str(work)) for k, v in values.items()}


def opencode(a, force):
    machine = "arm64" if platform.machine() in ("arm64", "aarch64") else "x64"
    program = a.bin(f"opencode-{sys.platform}-{machine}", "bin", "opencode")
    names = ("AUTOUPDATE", "LSP_DOWNLOAD", "MODELS_FETCH", "DEFAULT_PLUGINS", "SHARE")
    off = {f"OPENCODE_DISABLE_{name}": "1" for name in names}
    command = lambda home, work: [program, "run", "--format", "json", TASK]
    return task(a, "opencode", command, off, force and {"write": {"filePath": "WORK/hello.py", "content": LINE}})


def continue_cli(a, force):
    program = a.bin(".bin", "cn")
    off = {"CONTINUE_TELEMETRY_ENABLED": "0", "CONTINUE_CLI_AUTO_UPDATED": "1"}
    command = lambda home, work: [program, "--config", home / ".continue" / "config.yaml", "--auto", "-p", TASK]
    return task(a, "continue", command, off, force and {"Write": {"filepath": "WORK/hello.py", "content": LINE}})


def qwen_code(a, force):
    program = a.bin(".bin", "qwen")
    command = lambda home, work: [program, "-y", "--telemetry=false", "-p", TASK]

    def prepare(home, _):
        path = home / ".qwen" / "settings.json"
        settings = json.loads(path.read_text())
        settings |= {"general": {"disableAutoUpdate": True, "enableAutoUpdate": False}, "privacy": {"usageStatisticsEnabled": False}}
        path.write_text(json.dumps(settings))

    no_proxy = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "")  # it would use it for loopback, too
    return task(a, "qwen-code", command, no_proxy, force and {"write_file": {"file_path": "WORK/hello.py", "content": LINE}}, prepare)


def goose(a, force):
    machine = "arm64" if platform.machine() in ("arm64", "aarch64") else "x64"
    program = a.bin("@aaif", f"goose-binary-{sys.platform}-{machine}", "bin", "goose")
    off = {"GOOSE_DISABLE_KEYRING": "1", "GOOSE_TELEMETRY_ENABLED": "false", "GOOSE_MODE": "auto", "OPENAI_API_KEY": "none"}
    command = lambda home, work: [program, "run", "--no-session", "-t", TASK]
    return task(a, "goose", command, off, force and {"write": {"path": "WORK/hello.py", "content": LINE}})


def aider(a, force):
    program = pathlib.Path(sys.executable).with_name("aider.exe" if os.name == "nt" else "aider")
    if not program.exists():
        raise LeftOut("aider is not in this environment")
    off = {"AIDER_ANALYTICS": "false", "AIDER_CHECK_UPDATE": "false", "AIDER_SHOW_RELEASE_NOTES": "false", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    args = ["--no-git", "--yes-always", "--no-stream", "--no-pretty", "--no-detect-urls", "--no-suggest-shell-commands"]
    command = lambda home, work: [program, *args, "--message", TASK, "hello.py"]
    return task(a, "aider", command, off)


@check
def opencode_makes_a_file(a):
    return opencode(a, True)


@check
def continue_makes_a_file(a):
    return continue_cli(a, True)


@check
def qwen_code_makes_a_file(a):
    return qwen_code(a, True)


@check
def goose_makes_a_file(a):
    return goose(a, True)


@check
def aider_makes_a_file(a):
    return aider(a, None)


@slow
def opencode_by_itself(a):
    return opencode(a, None)


@slow
def continue_by_itself(a):
    return continue_cli(a, None)


@slow
def qwen_code_by_itself(a):
    return qwen_code(a, None)


@slow
def goose_by_itself(a):
    return goose(a, None)


def main():
    parser = checks.parser(__doc__)
    parser.add_argument("--node-modules", required=True)
    parser.add_argument("--vonk", required=True)
    parser.add_argument("--slow", action="store_true")
    a = parser.parse_args()
    checks.WITH_SLOW = a.slow
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        return checks.run(lambda: Agents(a, folder), a.only)


if __name__ == "__main__":
    sys.exit(main())

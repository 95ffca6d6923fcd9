#!/usr/bin/env python3
"""llama.vim in a real Neovim, and `vonk lsp` in a real Helix, against a running server: keys go in, a completion is taken.

    python run_editors.py --nvim PATH --llama-vim FOLDER --hx PATH --vonk PATH --base-url http://127.0.0.1:PORT [--only PART]

unpack.sh gets llama.vim and Helix; what is not given is left out. The model's words are not judged: what was shown is what is taken.
POSIX only: Helix is drawn on a pseudo-terminal, and read from it.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import urllib.request

import checks
import pyte
from checks import Failed, LeftOut, check, want

SHOWN_S_MAX = 90
ROWS, COLUMNS = 30, 110
FIRST = "def area(width: int, height: int) -> int:\n"
AREA = FIRST + "    "


class Editors:
    def __init__(self, a, folder):
        self.a, self.folder = a, pathlib.Path(folder)
        self.root = checks.root_of(a.base_url)
        self.model = a.model or checks.get_json(f"{self.root}/v1/models")["data"][0]["id"]

    def place(self, name, **more):
        place = pathlib.Path(tempfile.mkdtemp(prefix=name, dir=self.folder))
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG")}
        below = {f"XDG_{k}_HOME": str(place / k.lower()) for k in ("CONFIG", "DATA", "STATE", "CACHE", "RUNTIME")}
        return place, {**kept, **below, "HOME": str(place), **more}

    def infills(self):
        metrics = urllib.request.urlopen(self.root + "/metrics").read().decode()
        counted = [line.split() for line in metrics.splitlines() if line.startswith('vonk_requests_total{endpoint="infill"')]
        return {name.split('status="')[1][:3]: int(n) for name, n in counted}


def until(what, look, seconds=SHOWN_S_MAX):
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        if found := look():
            return found
        time.sleep(0.1)
    raise Failed(f"did not see {what} in {seconds} s")


@contextlib.contextmanager
def running(child):
    try:
        yield child
    finally:
        checks.end(child)
        child.wait()


# ---- llama.vim -------------------------------------------------------------------------------------------------------

MARKS = "json_encode(map(nvim_buf_get_extmarks(0, nvim_create_namespace('vt_fim'), 0, -1, {'details': v:true}), 'v:val[3]'))"


@check
def llama_vim_in_neovim(e):
    if not (e.a.nvim and e.a.llama_vim):
        raise LeftOut("Neovim or llama.vim cannot be had here")
    place, env = e.place("nvim")
    (place / "config" / "nvim").mkdir(parents=True)
    connect = [e.a.vonk, "connect", "llama.vim", "--write", "--url", e.root, "--model", e.model]
    subprocess.run(connect, env=env, check=True, capture_output=True)
    # As a plug-in manager would add it. A loaded machine is given time; a person's default is one second.
    init = f"set rtp+={pathlib.Path(e.a.llama_vim).resolve()}\nlet g:llama_config = {{'t_max_predict_ms': 20000}}\n"
    (place / "config" / "nvim" / "init.vim").write_text(init)
    file, socket = place / "area.py", place / "socket"
    file.write_text(AREA)
    nvim = str(pathlib.Path(e.a.nvim).resolve())
    command = [nvim, "--headless", "-n", "--listen", str(socket), str(file)]
    how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with running(subprocess.Popen(command, env=env, cwd=place, start_new_session=True, **how)):
        until("Neovim's socket", socket.exists, 20)

        def remote(*what):
            asked = [nvim, "--clean", "--headless", "--server", str(socket), *what]
            done = subprocess.run(asked, env=env, capture_output=True, text=True, timeout=20)
            return (done.stdout or done.stderr).strip()

        def ghost():
            try:
                marks = json.loads(remote("--remote-expr", MARKS))
            except ValueError:
                return ""
            rows = [row for m in marks for row in [m.get("virt_text", []), *m.get("virt_lines", [])]]
            texts = ["".join(text for text, group in row if not isinstance(group, str) or "info" not in group) for row in rows]
            return "\n".join(texts).rstrip()

        endpoint = remote("--remote-expr", "g:llama_config.endpoint_fim")
        want(endpoint == f"{e.root}/infill", f"vonk connect's setting is not what the plug-in uses: {endpoint!r}")
        before = e.infills().get("200", 0)
        remote("--remote-send", "GA")
        shown = until("ghost text", ghost)
        want(e.infills().get("200", 0) > before, "the server was not asked")
        remote("--remote-send", "<Tab>")
        until("the text in the buffer", lambda: "\n".join(json.loads(remote("--remote-expr", "json_encode(getline(1, '$'))"))).rstrip() != AREA.rstrip(), 20)
        remote("--remote-send", "<Esc>:w<CR>")
        text = until("the file", lambda: (t := file.read_text()) != AREA and t, 20)
        for line in filter(None, (line.strip() for line in shown.splitlines())):
            want(line in text, f"shown was {shown!r}, the file is {text!r}")
    refused = {s: n for s, n in e.infills().items() if s[0] != "2"}
    want(not refused, f"refused: {refused}")
    return f"{shown.strip()!r}"


# ---- Helix -----------------------------------------------------------------------------------------------------------


class Screen(pyte.Screen):
    """Helix asks in newer words than pyte knows; it is answered below, or does without."""

    def report_device_status(self, *_, **__):
        pass

    def report_device_attributes(self, *_, **__):
        pass


class Terminal:
    """A program on a terminal of its own, and what stands there."""

    def __init__(self, command, env, cwd):
        self.screen = Screen(COLUMNS, ROWS)
        self.stream = pyte.ByteStream(self.screen)
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.fd = master

        def own():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.child = subprocess.Popen(command, env=env, cwd=cwd, stdin=slave, stdout=slave, stderr=slave, preexec_fn=own)
        os.close(slave)

    def type(self, text):
        os.write(self.fd, text.encode())

    def text(self):
        while select.select([self.fd], [], [], 0.05)[0]:
            data = os.read(self.fd, 65536)
            for question, answer in ((b"\x1b[c", b"\x1b[?62;c"), (b"\x1b[6n", b"\x1b[1;1R")):
                if question in data:
                    os.write(self.fd, answer)
            self.stream.feed(data)
        return "\n".join(line.rstrip() for line in self.screen.display)


@check
def helix_completes_by_vonk_lsp(e):
    if not e.a.hx:
        raise LeftOut("Helix cannot be had here")
    place, env = e.place("helix", TERM="xterm-256color", COLORTERM="truecolor", VONK_URL=e.root)
    (place / "config" / "helix").mkdir(parents=True)
    vonk = json.dumps(str(pathlib.Path(e.a.vonk).resolve()))
    languages = f'[language-server.vonk]\ncommand = {vonk}\nargs = ["lsp"]\n\n[[language]]\nname = "python"\nlanguage-servers = ["vonk"]\n'
    (place / "config" / "helix" / "languages.toml").write_text(languages)
    (place / "config" / "helix" / "config.toml").write_text("[editor]\ncompletion-timeout = 5\ncompletion-trigger-len = 1\nidle-timeout = 50\n")
    file = place / "area.py"
    file.write_text(FIRST)
    terminal = Terminal([e.a.hx, str(file)], env, place)
    with running(terminal.child):
        until("the file on the screen", lambda: "def area" in terminal.text(), 20)
        time.sleep(2)  # the language server greets
        terminal.type("geo")
        terminal.type("    return ")
        terminal.type("\x18")  # Ctrl-x: complete
        # The menu stands below the line; each of its rows ends with the kind of completion.
        menu = until("the menu", lambda: [r for r in terminal.text().splitlines()[2:4] if r.endswith((" text", " snippet"))])
        shown = menu[0].strip().removeprefix("~").rsplit(None, 1)[0].strip()
        terminal.type("\t")  # the first of the menu
        time.sleep(0.5)
        terminal.text()
        terminal.type("\r")
        time.sleep(0.5)
        terminal.type("\x1b")
        time.sleep(0.5)
        terminal.type(":w\r")
        text = until("the completion in the file", lambda: (t := file.read_text()) != FIRST and t, 20)
    want(shown.rstrip("…") in text, f"the menu had {shown!r}, the file has {text!r}")
    return repr(shown)


def main():
    parser = checks.parser(__doc__)
    parser.add_argument("--vonk", required=True)
    for name in ("nvim", "llama-vim", "hx"):
        parser.add_argument(f"--{name}")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        return checks.run(lambda: Editors(a, folder), a.only)


if __name__ == "__main__":
    sys.exit(main())

"""What the scripts beside this one share: checks, a line for each, and the count at the end."""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import time
import traceback
import urllib.request

CHECKS = []
WITH_SLOW = False


class Failed(Exception):
    """A check found something wrong."""


class LeftOut(Exception):
    """Something is missing that a test machine need not have."""


def check(f):
    """Marks a check: a function of the script's subject, run in the order of the file."""
    CHECKS.append(f)
    return f


def slow(f):
    """Marks a check that runs only where slow ones are asked for."""
    f.is_slow = True
    return check(f)


def want(condition, why):
    if not condition:
        raise Failed(why)


def same(got, expected, what):
    want(got == expected, f"{what}: got {got!r}, expected {expected!r}")


def parser(doc):
    """The arguments that every script takes."""
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--base-url", required=True)
    p.add_argument("--model", help="default: the first one listed")
    p.add_argument("--only", default="", help="only checks whose name contains this")
    return p


def root_of(base_url):
    """`http://HOST:PORT`, with `/v1` behind it or without."""
    return base_url.rstrip("/").removesuffix("/v1")


def get_json(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def run_for(command, seconds, **how):
    """Runs a program, and ends it with all that it started when it takes too long; what it said."""
    how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **how}
    child = subprocess.Popen([str(part) for part in command], start_new_session=os.name == "posix", **how)
    try:
        out, err = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        end(child)
        out, err = child.communicate()
        raise Failed(f"not done after {seconds} s: {(out or '')[-300:]} {(err or '')[-300:]}") from None
    finally:
        end(child)
    return subprocess.CompletedProcess(command, child.returncode, out, err)


def end(child):
    """Ends a program and what it started."""
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    child.kill()


def run(make_subject, only=""):
    """Runs the checks, with `ok NAME` or `FAIL NAME why` for each, then `N passed, N failed`; the exit code.
    A check may give back a note for its line."""
    passed = failed = 0
    try:
        subject = make_subject()
    except Exception as e:
        print(f"FAIL connect {said(e)}\n0 passed, 1 failed")
        return 1
    for f in CHECKS:
        if only not in f.__name__ or (getattr(f, "is_slow", False) and not WITH_SLOW):
            continue
        start = time.monotonic()
        try:
            note = f(subject)
            note = f"; {note}" if isinstance(note, str) else ""
            print(f"ok {f.__name__} ({time.monotonic() - start:.1f} s{note})", flush=True)
            passed += 1
        except LeftOut as e:
            print(f"left out {f.__name__} {e}", flush=True)
        except Exception as e:
            print(f"FAIL {f.__name__} {said(e)}", flush=True)
            failed += 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def said(e):
    """What went wrong, in a line; with its place where no check said it."""
    where = traceback.extract_tb(e.__traceback__)[-1]
    why = str(e) if isinstance(e, Failed) else f"{type(e).__name__} at {where.name}, line {where.lineno}: {e}"
    return " ".join(why.split())

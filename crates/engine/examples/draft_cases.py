#!/usr/bin/env python3
"""Cases for draft_sim: real edits and functions, with the answers of a running server (stdlib only).

usage: draft_cases.py URL EDIT.jsonl HUMANEVAL.jsonl OUT.jsonl
Edits: files of 1200 to 4000 characters, shuffled with seed 1, the first 20; asked as a chat client asks for a whole-file rewrite.
"""
import json, random, sys, urllib.request

url, edits, functions, out = sys.argv[1:5]
LANGUAGES = {"rs": "rust", "py": "python", "js": "javascript", "go": "go", "toml": "toml", "ts": "typescript"}


def answer(ask, max_tokens):
    body = {"model": "default", "temperature": 0, "max_tokens": max_tokens, "messages": [{"role": "user", "content": ask}]}
    request = urllib.request.Request(url.rstrip("/") + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=900) as f:
        return json.load(f)["choices"][0]["message"]["content"]


def edit(r):
    ask = (f"Apply this change to the file `{r['path']}` and answer with the complete new file only, in one code block.\n"
           f"Change: {r['subject']}\n\n```\n{r['before']}\n```")
    language = LANGUAGES.get(r["path"].rsplit(".", 1)[-1], "")
    return dict(kind="edit", path=r["path"], ask=ask, prediction="```\n" + r["before"] + "\n```",
                reference=f"```{language}\n{r['after']}\n```", real=answer(ask, 1600))


def function(r):
    ask = "Complete this function. Answer with the function only, in one code block.\n\n```python\n" + r["prompt"] + "```"
    return dict(kind="plain", path=r["task_id"], ask=ask, prediction="", reference=r["canonical_solution"], real=answer(ask, 400))


def prose(r):
    ask = "Explain in plain words, in about 200 words, what this does and how one would test it:\n\n" + r["entry_point"]
    return dict(kind="prose", path=r["task_id"], ask=ask, prediction="", reference="", real=answer(ask, 400))


rows = [r for r in map(json.loads, open(edits)) if 1200 <= len(r["before"]) <= 4000]
random.Random(1).shuffle(rows)
problems = [json.loads(line) for line in open(functions)][::5][:24]
jobs = [(edit, r) for r in rows[:20]] + [(function, r) for r in problems] + [(prose, r) for r in problems[:8]]
with open(out, "w") as f:
    for make, row in jobs:
        f.write(json.dumps(make(row)) + "\n")
        f.flush()

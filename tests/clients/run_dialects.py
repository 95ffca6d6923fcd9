#!/usr/bin/env python3
"""Ollama's and Mistral's own Python clients, and Tabby's and curl's requests, against a running server.

    python run_dialects.py --base-url http://127.0.0.1:PORT [--model NAME] [--only PART]

One line per check, `ok NAME` or `FAIL NAME why`; then `N passed, N failed`. Exit 1 if any failed. Any model will do: expected texts
are the server's own greedy answers in OpenAI's words; without fill-in-the-middle tokens gaps must be refused.
"""

import json
import sys
import urllib.error
import urllib.request

import checks
import mistralai.client as mistral
import ollama
from checks import Failed, check, same, want

PROMPT = "def is_prime(n: int) -> bool:\n"
CHAT = [{"role": "user", "content": "What does a compiler do?"}]


class Server:
    def __init__(self, root, model):
        self.root = checks.root_of(root)
        self.ollama = ollama.Client(host=self.root)
        self.mistral = mistral.Mistral(api_key="none", server_url=self.root)
        facts = self.get("/v1/models")["data"]
        self.facts = next(m for m in facts if model in (None, m["id"]))
        self.model = self.facts["id"]
        self.fim = self.facts["capabilities"]["fim"]

    def ask(self, path, body=None, kind="application/json"):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.root + path, data, {"Content-Type": kind} if data else {})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as e:
            return e.code, e.read()

    def get(self, path):
        return json.loads(self.ask(path)[1])

    def post(self, path, body):
        status, text = self.ask(path, body)
        same(status, 200, f"{path} {text[:200]}")
        return json.loads(text)


def options(**more):
    return {"temperature": 0, "num_predict": 12, **more}


@check
def ollama_lists_what_is_served(s):
    names = [m.model for m in s.ollama.list().models]
    want(s.model in names, f"{s.model} is not in {names}")
    shown = s.ollama.show(s.model)
    want("completion" in shown.capabilities, f"capabilities {shown.capabilities}")
    same("insert" in shown.capabilities, s.fim, "insert among the capabilities")
    contexts = [v for k, v in shown.modelinfo.items() if k.endswith(".context_length")]
    same(contexts, [s.facts["max_model_len"]], "context length")
    want(any(m.model == s.model for m in s.ollama.ps().models), "ps does not list it")


@check
def ollama_generates_what_completions_do(s):
    theirs = s.ollama.generate(s.model, PROMPT, raw=True, options=options())
    body = {"model": s.model, "prompt": PROMPT, "temperature": 0, "max_tokens": 12}
    ours = s.post("/v1/completions", body)
    same(theirs.response, ours["choices"][0]["text"], "text")
    same(theirs.prompt_eval_count, ours["usage"]["prompt_tokens"], "prompt tokens")
    same(theirs.eval_count, ours["usage"]["completion_tokens"], "tokens")
    want(theirs.done and theirs.total_duration >= theirs.eval_duration > 0, f"durations of {theirs}")
    same(theirs.done_reason, ours["choices"][0]["finish_reason"], "reason")


@check
def ollama_streams_the_same(s):
    whole = s.ollama.generate(s.model, PROMPT, raw=True, options=options()).response
    parts = list(s.ollama.generate(s.model, PROMPT, raw=True, options=options(), stream=True))
    same("".join(p.response for p in parts), whole, "text")
    want([p.done for p in parts] == [False] * (len(parts) - 1) + [True], "the last one is done, and no other")


@check
def ollama_chats_as_chat_completions_do(s):
    if not s.facts["capabilities"]["chat"]:
        return
    theirs = s.ollama.chat(s.model + ":latest", CHAT, options=options())
    body = {"model": s.model, "messages": CHAT, "temperature": 0, "max_tokens": 12}
    same(theirs.message.content, s.post("/v1/chat/completions", body)["choices"][0]["message"]["content"], "text")
    parts = list(s.ollama.chat(s.model, CHAT, options=options(), stream=True))
    same("".join(p.message.content for p in parts), theirs.message.content, "streamed text")


@check
def ollama_fills_gaps(s):
    if not s.fim:
        try:
            s.ollama.generate(s.model, PROMPT, suffix="\n", options=options())
        except ollama.ResponseError as e:
            return same(e.status_code, 400, "status")
        raise Failed("a model without the tokens filled a gap")
    theirs = s.ollama.generate(s.model, PROMPT, suffix="\n    return True\n", options=options()).response
    body = {"input_prefix": PROMPT, "input_suffix": "\n    return True\n", "n_predict": 12}
    same(theirs, s.post("/infill", body)["content"], "text")


@check
def ollama_follows_a_schema(s):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
    answer = s.ollama.generate(s.model, "Give me a number.", raw=True, format=schema, options=options(num_predict=64))
    if answer.done_reason == "stop":
        want(isinstance(json.loads(answer.response)["a"], int), answer.response)


@check
def ollama_sees_errors(s):
    for call, status, part in [
        (lambda: s.ollama.generate("no-such-model", "x"), 404, "no-such-model"),
        (lambda: s.ollama.generate(s.model, "x", options={"top_p": 7}), 400, "top_p"),
        (lambda: s.ollama.embed(s.model, "x"), 404, "embeddings"),
    ]:
        try:
            call()
        except ollama.ResponseError as e:
            same(e.status_code, status, "status")
            want(part in e.error, f"{part} is not in {e.error!r}")
        else:
            raise Failed(f"was accepted: {part}")
    status, _ = s.ask("/api/generate", {"model": s.model, "prompt": "x"}, "text/plain")
    same(status, 415, "status of text/plain")


@check
def mistral_fills_gaps(s):
    if not s.fim:
        return
    args = {"model": s.model, "prompt": PROMPT, "suffix": "\n    return True\n", "temperature": 0, "max_tokens": 12}
    whole = s.mistral.fim.complete(**args)
    body = {"input_prefix": PROMPT, "input_suffix": args["suffix"], "n_predict": 12}
    same(whole.choices[0].message.content, s.post("/infill", body)["content"], "text")
    parts = [e.data for e in s.mistral.fim.stream(**args)]
    same("".join(p.choices[0].delta.content for p in parts), whole.choices[0].message.content, "streamed text")
    same(parts[-1].usage.completion_tokens, whole.usage.completion_tokens, "tokens")


@check
def tabby_gets_its_choices(s):
    same(s.get("/v1/health")["model"], s.model, "model")
    if not s.fim:
        return
    segments = {"prefix": PROMPT, "suffix": "\n    return True\n"}
    answer = s.post("/v1/completions", {"language": "python", "segments": segments, "temperature": 0})
    want(isinstance(answer["choices"][0]["text"], str), answer)
    event = {"type": "view", "completion_id": answer["id"], "choice_index": 0}
    same(s.ask("/v1/events", event)[0], 204, "status of an event")


if __name__ == "__main__":
    a = checks.parser(__doc__).parse_args()
    sys.exit(checks.run(lambda: Server(a.base_url, a.model), a.only))

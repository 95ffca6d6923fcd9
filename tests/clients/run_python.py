#!/usr/bin/env python3
"""Conformance of a running server as the Python OpenAI SDK sees it.

    python run_python.py --base-url http://127.0.0.1:PORT/v1 [--model NAME] [--only PART]

One line per check, `ok NAME` or `FAIL NAME why`; then `N passed, N failed`. Exit 1 if any failed.
Every check works with any model that can write text: expected texts are taken from the server's own greedy answers.
"""

import concurrent.futures
import json
import math
import sys
import time
import urllib.error
import urllib.request

import checks
import openai
from checks import Failed, check, same, want

PROMPT = "# A short Python module about a spaceship's crew.\n\nclass CrewMember:\n    def __init__(self, name"
OPEN_ENDED = "Here is a completely random list of unusual words:"
CHAT = [
    {"role": "system", "content": "You answer in one sentence."},
    {"role": "user", "content": "What does a compiler do?"},
]


class Server:
    """The client, the model's name, and shorthands that keep the checks short."""

    def __init__(self, base_url, model):
        self.client = openai.OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=30)
        self.model = model or self.client.models.list().data[0].id

    def chat(self, **more):
        args = {"model": self.model, "messages": CHAT, "temperature": 0, "max_tokens": 12, **more}
        return self.client.chat.completions.create(**args)

    def complete(self, **more):
        args = {"model": self.model, "prompt": PROMPT, "temperature": 0, "max_tokens": 12, **more}
        return self.client.completions.create(**args)

    def refused(self, kind, status, call, **more):
        """Runs a call that must be refused; returns the error after checking its class, status and message."""
        try:
            call(**more)
        except openai.APIStatusError as e:
            want(isinstance(e, kind), f"raised {type(e).__name__} ({e.status_code}: {e}), expected {kind.__name__}")
            same(e.status_code, status, "status")
            want(isinstance(e.body, dict) and e.body.get("message"), f"no message in the body {e.body!r}")
            same(e.body.get("type"), "invalid_request_error", "type")
            return e
        raise Failed("was accepted")


def streamed_chat(stream):
    """Texts by choice, finish reasons by choice, usage, log-probability entries by choice."""
    texts, reasons, usage, logprobs, ids = {}, {}, None, {}, set()
    for chunk in stream:
        same(chunk.object, "chat.completion.chunk", "object")
        want(usage is None, "a chunk after the usage chunk")
        ids.add(chunk.id)
        if not chunk.choices:
            want(chunk.usage is not None, "a chunk with neither choices nor usage")
        usage = chunk.usage or usage
        for c in chunk.choices:
            want(c.index not in reasons, "text after finish_reason")
            if c.index not in texts:
                same(c.delta.role, "assistant", "role in the first chunk")
            texts[c.index] = texts.get(c.index, "") + (c.delta.content or "")
            if c.logprobs and c.logprobs.content:
                logprobs.setdefault(c.index, []).extend(c.logprobs.content)
            if c.finish_reason:
                reasons[c.index] = c.finish_reason
    same(len(ids), 1, "number of ids in one stream")
    same(sorted(reasons), sorted(texts), "choices that ended")
    return texts, reasons, usage, logprobs


def streamed_text(stream):
    """The same for completions: (texts, reasons, usage)."""
    texts, reasons, usage = {}, {}, None
    for chunk in stream:
        same(chunk.object, "text_completion", "object")
        usage = chunk.usage or usage
        for c in chunk.choices:
            want(c.index not in reasons, "text after finish_reason")
            texts[c.index] = texts.get(c.index, "") + c.text
            if c.finish_reason:
                reasons[c.index] = c.finish_reason
    return texts, reasons, usage


def counts(usage):
    want(usage is not None, "no usage")
    same(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens, "total_tokens")
    return usage.prompt_tokens, usage.completion_tokens


# ---- models ----------------------------------------------------------------------------------------------------------


@check
def models_list(s):
    models = s.client.models.list()
    want(models.data, "no models")
    for m in models.data:
        want(m.id and m.object == "model" and isinstance(m.created, int) and m.owned_by, f"incomplete: {m!r}")
    want(s.model in [m.id for m in models.data], f"{s.model!r} is not among {[m.id for m in models.data]}")


@check
def model_default_is_the_first(s):
    same(s.chat(model="default").choices[0].message.content, s.chat().choices[0].message.content, "text")


# ---- chat ------------------------------------------------------------------------------------------------------------


@check
def chat_answers(s):
    r = s.chat()
    same(r.object, "chat.completion", "object")
    want(r.id and r.created > 1_600_000_000 and r.model, f"incomplete: {r!r}")
    same(len(r.choices), 1, "choices")
    c = r.choices[0]
    same((c.index, c.message.role), (0, "assistant"), "index and role")
    want(c.message.content.strip(), "no text")
    want(c.finish_reason in ("stop", "length"), f"finish_reason {c.finish_reason!r}")
    want(c.logprobs is None, "logprobs although not asked for")
    prompt, completion = counts(r.usage)
    want(prompt > 5 and 1 <= completion <= 12, f"usage {prompt}, {completion}")


@check
def chat_stream_equals_chat(s):
    whole = s.chat()
    texts, reasons, usage, _ = streamed_chat(s.chat(stream=True, stream_options={"include_usage": True}))
    same(texts, {0: whole.choices[0].message.content}, "text")
    same(reasons, {0: whole.choices[0].finish_reason}, "finish_reason")
    same(counts(usage), counts(whole.usage), "usage")


@check
def chat_stream_without_usage_has_none(s):
    *_, usage, _ = streamed_chat(s.chat(stream=True, max_tokens=4))
    same(usage, None, "usage")


@check
def chat_stream_arrives_in_pieces(s):
    # Without drafts: tokens that were drafted right leave as one chunk.
    stream = s.chat(stream=True, max_tokens=12, extra_body={"speculation": "off"})
    times = [time.monotonic() for c in stream if c.choices and c.choices[0].delta.content]
    want(len(times) >= 3, f"only {len(times)} chunks with text")


@check
def chat_content_parts(s):
    parts = [CHAT[0], {"role": "user", "content": [{"type": "text", "text": CHAT[1]["content"]}]}]
    a, b = s.chat(max_tokens=4), s.chat(max_tokens=4, messages=parts)
    same(b.usage.prompt_tokens, a.usage.prompt_tokens, "prompt_tokens")
    same(b.choices[0].message.content, a.choices[0].message.content, "text")


@check
def chat_has_turns(s):
    turns = [*CHAT, {"role": "assistant", "content": "It translates."}, {"role": "user", "content": "Into what?"}]
    want(s.chat(messages=turns, max_tokens=4).usage.prompt_tokens > s.chat(max_tokens=4).usage.prompt_tokens, "turns were dropped")


@check
def chat_accepts_what_clients_send(s):
    s.chat(max_tokens=2, user="someone", top_p=0.9, presence_penalty=0.1, frequency_penalty=0.1, metadata={"a": "b"}, store=False)


@check
def chat_whole_characters(s):
    asked = [{"role": "user", "content": "Repeat exactly: 🦀 漢字 naïve 👩‍💻"}]
    for chunk in s.chat(messages=asked, max_tokens=20, stream=True):
        for c in chunk.choices:
            want("\ufffd" not in (c.delta.content or ""), f"half a character: {c.delta.content!r}")


@check
def chat_ends_by_itself(s):
    for asked in ("Reply with the single word: yes", "Say hi.", "What is 1+1? Answer with one digit."):
        r = s.chat(messages=[{"role": "user", "content": asked}], max_tokens=40)
        if r.choices[0].finish_reason == "stop":
            want("<|" not in r.choices[0].message.content, f"special token in {r.choices[0].message.content!r}")
            want(r.usage.completion_tokens < 40, "stop, but all tokens used")
            return
    raise Failed("none of three short answers ended with finish_reason stop within 40 tokens")


# ---- length, stop ----------------------------------------------------------------------------------------------------


@check
def max_tokens_is_exact(s):
    for n in (1, 5):
        r = s.complete(max_tokens=n)
        same((r.choices[0].finish_reason, r.usage.completion_tokens), ("length", n), f"max_tokens={n}")


@check
def max_completion_tokens(s):
    r = s.chat(max_tokens=openai.omit, max_completion_tokens=3)
    same((r.choices[0].finish_reason, r.usage.completion_tokens), ("length", 3), "finish and tokens")


@check
def stop_string_never_leaks(s):
    text = s.complete(max_tokens=20).choices[0].text
    middle = len(text) // 2
    for width in (1, 3, 6):
        stop = text[middle : middle + width]
        expected = text[: text.index(stop)]
        whole = s.complete(max_tokens=20, stop=stop).choices[0]
        same((whole.text, whole.finish_reason), (expected, "stop"), f"stop={stop!r}")
        texts, reasons, _ = streamed_text(s.complete(max_tokens=20, stop=stop, stream=True))
        same((texts.get(0, ""), reasons[0]), (expected, "stop"), f"streamed, stop={stop!r}")


@check
def stop_first_of_several(s):
    text = s.complete(max_tokens=20).choices[0].text
    late, early = text[-3:], text[4:7]
    got = s.complete(max_tokens=20, stop=[late, "\u0007never", early]).choices[0]
    expected = text[: min(text.index(late), text.index(early))]
    same((got.text, got.finish_reason), (expected, "stop"), f"stop={[late, early]!r}")


@check
def stop_half_matched_is_given_back(s):
    text = s.complete(max_tokens=12).choices[0].text
    stop = text[-3:] + "\u0007"
    texts, reasons, _ = streamed_text(s.complete(max_tokens=12, stop=stop, stream=True))
    same((texts[0], reasons[0]), (text, "length"), f"stop={stop!r}")


@check
def stop_in_chat(s):
    text = s.chat(max_tokens=16).choices[0].message.content
    stop = text[len(text) // 2 :][:4]
    c = s.chat(max_tokens=16, stop=[stop]).choices[0]
    same((c.message.content, c.finish_reason), (text[: text.index(stop)], "stop"), f"stop={stop!r}")


# ---- sampling --------------------------------------------------------------------------------------------------------


@check
def seed_reproduces(s):
    def drawn(seed):
        return s.complete(prompt=OPEN_ENDED, temperature=0.8, seed=seed, max_tokens=16).choices[0].text

    first = drawn(7)
    same(drawn(7), first, "the same seed")
    want(len({first, drawn(8), drawn(9), drawn(10)}) > 1, f"four seeds gave one text: {first!r}")


@check
def seed_reproduces_in_stream(s):
    args = dict(temperature=0.8, seed=123, max_tokens=12)
    whole = s.chat(**args).choices[0].message.content
    texts, *_ = streamed_chat(s.chat(stream=True, **args))
    same(texts[0], whole, "text")


@check
def greedy_ignores_seed(s):
    same(s.complete(seed=1).choices[0].text, s.complete(seed=2).choices[0].text, "text")


@check
def tiny_top_p_is_greedy(s):
    same(s.complete(temperature=1, top_p=1e-6, seed=3).choices[0].text, s.complete().choices[0].text, "text")


@check
def n_choices(s):
    args = dict(prompt=OPEN_ENDED, temperature=0.8, seed=5, max_tokens=10, n=2)
    r = s.complete(**args)
    same([c.index for c in r.choices], [0, 1], "indices")
    one = s.complete(**{**args, "n": 1})
    same(r.choices[0].text, one.choices[0].text, "the first choice, alone and beside another")
    same(r.usage.prompt_tokens, one.usage.prompt_tokens, "prompt_tokens")
    want(one.usage.completion_tokens < r.usage.completion_tokens <= 20, f"completion_tokens {r.usage.completion_tokens}")


@check
def n_choices_streamed_chat(s):
    args = dict(temperature=0.9, seed=5, max_tokens=10, n=2)
    whole = s.chat(**args)
    texts, reasons, usage, _ = streamed_chat(s.chat(stream=True, stream_options={"include_usage": True}, **args))
    same(texts, {c.index: c.message.content for c in whole.choices}, "texts")
    same(counts(usage), counts(whole.usage), "usage")


@check
def neighbours_change_nothing(s):
    prompts = [PROMPT, OPEN_ENDED, "fn main() {\n    let", "SELECT name FROM"]
    alone = [s.complete(prompt=p, max_tokens=10).choices[0].text for p in prompts]
    with concurrent.futures.ThreadPoolExecutor(len(prompts)) as pool:
        together = list(pool.map(lambda p: s.complete(prompt=p, max_tokens=10).choices[0].text, prompts))
    same(together, alone, "texts of four requests at once")


# ---- log-probabilities -----------------------------------------------------------------------------------------------


def check_entries(entries, text, n):
    same(len(entries), n, "entries")
    same(b"".join(bytes(e.bytes) for e in entries).decode(errors="replace"), text, "bytes of the tokens")
    for e in entries:
        want(-9999 <= e.logprob <= 0, f"logprob {e.logprob}")
        same(len(e.top_logprobs), 5, "top_logprobs")
        top = [t.logprob for t in e.top_logprobs]
        same(top, sorted(top, reverse=True), "order of top_logprobs")
        total = sum(math.exp(x) for x in top)
        want(total <= 1.0005, f"probabilities sum to {total}")
        same((e.top_logprobs[0].token, e.top_logprobs[0].logprob), (e.token, e.logprob), "greedy choice and the likeliest")


@check
def chat_logprobs(s):
    r = s.chat(logprobs=True, top_logprobs=5, max_tokens=6)
    c = r.choices[0]
    check_entries(c.logprobs.content, c.message.content, r.usage.completion_tokens)
    same(c.message.content, s.chat(max_tokens=6).choices[0].message.content, "text with and without logprobs")


@check
def chat_logprobs_streamed(s):
    texts, _, usage, logprobs = streamed_chat(
        s.chat(logprobs=True, top_logprobs=5, max_tokens=6, stream=True, stream_options={"include_usage": True})
    )
    check_entries(logprobs[0], texts[0], usage.completion_tokens)


@check
def chat_logprobs_without_top(s):
    for e in s.chat(logprobs=True, max_tokens=3).choices[0].logprobs.content:
        want(e.logprob <= 0 and not e.top_logprobs, f"{e!r}")


@check
def completion_logprobs(s):
    r = s.complete(logprobs=3, max_tokens=5)
    p = r.choices[0].logprobs
    same([len(x) for x in (p.tokens, p.token_logprobs, p.top_logprobs, p.text_offset)], [r.usage.completion_tokens] * 4, "lengths")
    same("".join(p.tokens), r.choices[0].text, "tokens")
    for token, logprob, top in zip(p.tokens, p.token_logprobs, p.top_logprobs):
        want(len(top) <= 4 and token in top, f"{token!r} is not in {top}")
        want(sum(math.exp(x) for x in top.values()) <= 1.0005, f"sum of {top}")
        want(abs(top[token] - logprob) < 1e-6, f"{logprob} but {top}")


# ---- tools -----------------------------------------------------------------------------------------------------------

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city, for some days.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 20},
                "days": {"type": "integer", "minimum": 1, "maximum": 7},
                "unit": {"enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city", "days", "unit"],
            "additionalProperties": False,
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}}
ASKED = [{"role": "user", "content": "What is the weather in Ulm, for the next three days, in celsius?"}]


def weather_call(c):
    """The checked arguments of a choice that is one call."""
    same(c.finish_reason, "tool_calls", "finish_reason")
    want(c.message.tool_calls and c.message.content is None, f"not a call alone: {c.message!r}")
    call = c.message.tool_calls[0]
    same((call.type, call.function.name), ("function", "get_weather"), "type and name")
    want(call.id.startswith("call_"), f"id {call.id!r}")
    got = json.loads(call.function.arguments)
    same(sorted(got), ["city", "days", "unit"], "arguments")
    want(isinstance(got["city"], str) and 1 <= got["days"] <= 7 and got["unit"] in ("celsius", "fahrenheit"), f"{got}")
    return call


@check
def tools_round_trip(s):
    ask = dict(messages=ASKED, tools=[WEATHER, CLOCK], max_tokens=80)
    named = {"type": "function", "function": {"name": "get_weather"}}
    for choice in ({"tool_choice": named}, {"tool_choice": "required", "tools": [WEATHER], "parallel_tool_calls": False}):
        r = s.chat(**{**ask, **choice})
        same(r.choices[0].message.role, "assistant", "role")
        call = weather_call(r.choices[0])
        told = [*ASKED, r.choices[0].message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": "sunny, 31 degrees"}]
        after = s.chat(messages=told, tools=[WEATHER, CLOCK], tool_choice="none", max_tokens=30)
        want(after.choices[0].message.content.strip() and not after.choices[0].message.tool_calls, "no text after the result")


@check
def tools_streamed(s):
    ask = dict(messages=ASKED, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False, max_tokens=80)
    whole = weather_call(s.chat(**ask).choices[0]).function.arguments
    pieces, reason = [], None
    for chunk in s.chat(stream=True, **ask):
        for c in chunk.choices:
            reason = c.finish_reason or reason
            want(not c.delta.content, f"text beside the call: {c.delta.content!r}")
            for d in c.delta.tool_calls or []:
                same(d.index, 0, "index")
                same(bool(d.id), not pieces, "an id in the first piece only")
                pieces.append(d.function.arguments)
    same(("".join(pieces), reason), (whole, "tool_calls"), "arguments and reason")
    want(len(pieces) > 2, f"arguments came in {len(pieces)} pieces")


@check
def tools_custom(s):
    grammar = {"type": "grammar", "grammar": {"syntax": "regex", "definition": "[0-9]{2}:[0-9]{2}"}}
    alarm = {"type": "custom", "custom": {"name": "set_alarm", "description": "HH:MM", "format": grammar}}
    c = s.chat(messages=[{"role": "user", "content": "Wake me at 07:30."}], tools=[alarm], tool_choice="required").choices[0]
    call = c.message.tool_calls[0]
    same((c.finish_reason, call.type, call.custom.name), ("tool_calls", "custom", "set_alarm"), "reason, type, name")
    want(len(call.custom.input) == 5 and call.custom.input[2] == ":", f"input {call.custom.input!r}")


@check
def tools_that_cannot_be(s):
    e = s.refused(openai.BadRequestError, 400, s.chat, tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "f"}})
    same(e.param, "tool_choice", "param")
    bad = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"not": {}}}}}}
    e = s.refused(openai.BadRequestError, 400, s.chat, tools=[bad], tool_choice="required")
    same(e.param, "tools[0].function.parameters.properties.a.not", "param")


# ---- completions -----------------------------------------------------------------------------------------------------


@check
def completion_answers(s):
    r = s.complete()
    same(r.object, "text_completion", "object")
    want(r.choices[0].text.strip(), "no text")
    want(PROMPT not in r.choices[0].text, "the prompt was echoed")
    counts(r.usage)


@check
def completion_stream_equals_completion(s):
    whole = s.complete()
    texts, reasons, usage = streamed_text(s.complete(stream=True, stream_options={"include_usage": True}))
    same(texts, {0: whole.choices[0].text}, "text")
    same(reasons, {0: whole.choices[0].finish_reason}, "finish_reason")
    same(counts(usage), counts(whole.usage), "usage")


@check
def completion_of_several_prompts(s):
    prompts = [PROMPT, OPEN_ENDED]
    r = s.complete(prompt=prompts, max_tokens=6)
    same([c.index for c in r.choices], [0, 1], "indices")
    same([c.text for c in r.choices], [s.complete(prompt=p, max_tokens=6).choices[0].text for p in prompts], "texts")


@check
def completion_with_suffix(s):
    prefix, suffix = "def add(a, b):\n    return ", "\n\nprint(add(1, 2))\n"
    try:
        r = s.complete(prompt=prefix, suffix=suffix, max_tokens=16)
    except openai.BadRequestError as e:
        same(e.param, "suffix", "a model without fill-in-the-middle names the field")
        return
    c = r.choices[0]
    want("a" in c.text and "b" in c.text, f"filled in {c.text!r}")
    want("<|" not in c.text and "<fim" not in c.text, f"special token in {c.text!r}")
    want(r.usage.prompt_tokens > s.complete(prompt=prefix, max_tokens=1).usage.prompt_tokens + 3, "the suffix was dropped")
    texts, reasons, _ = streamed_text(s.complete(prompt=prefix, suffix=suffix, max_tokens=16, stream=True))
    same((texts[0], reasons[0]), (c.text, c.finish_reason), "streamed")


# ---- llama.cpp's endpoints -------------------------------------------------------------------------------------------


def llama(s, path, **body):
    """JSON of an endpoint that the SDK does not know."""
    url = str(s.client.base_url).rstrip("/").removesuffix("/v1") + path
    data = json.dumps(body).encode() if body else None
    with urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": "application/json"}), timeout=30) as r:
        return json.load(r)


@check
def infill_fills_the_gap(s):
    gap = {"input_prefix": "def add(a, b):\n    return ", "input_suffix": "\n\nprint(add(1, 2))\n", "model": s.model}
    extra = [{"filename": "sub.py", "text": "def sub(a, b):\n    return a - b\n"}]
    try:
        warm = llama(s, "/infill", **gap, input_extra=extra, n_predict=0)
    except urllib.error.HTTPError as e:
        same((e.code, json.load(e)["error"]["param"]), (400, "model"), "a model without fill-in-the-middle says so")
        return
    same((warm["content"], warm["stop_type"]), ("", "limit"), "n_predict 0")
    r = llama(s, "/infill", **gap, input_extra=extra, n_predict=16)
    want("a" in r["content"] and "b" in r["content"] and "<|" not in r["content"], f"filled in {r['content']!r}")
    same(r["tokens_evaluated"], warm["tokens_evaluated"], "the prompt's tokens")
    same(r["tokens_evaluated"], r["timings"]["prompt_n"] + r["timings"]["cache_n"], "computed and cached tokens")
    fields = ["content", "timings/prompt_n"]
    again = llama(s, "/infill", **gap, input_extra=extra, n_predict=16, response_fields=fields)
    same((sorted(again), again["content"]), (fields, r["content"]), "response_fields")
    same(llama(s, "/infill", **gap, input_extra=extra, prompt="a +", n_predict=1)["tokens_predicted"], 1, "after a middle")


@check
def tokens_and_back(s):
    text = "fn main() {\n    let ü = 1;\n}\n"
    tokens = llama(s, "/tokenize", content=text, model=s.model)["tokens"]
    same(llama(s, "/detokenize", tokens=tokens, model=s.model)["content"].strip(), text.strip(), "text")
    props = llama(s, "/props")
    want(props["default_generation_settings"]["n_ctx"] > 0 and props["total_slots"] > 0, f"{props!r:.200}")
    if props["chat_template"]:
        want(CHAT[1]["content"] in llama(s, "/apply-template", messages=CHAT, model="default")["prompt"], "apply-template")


# ---- how soon and how fast -------------------------------------------------------------------------------------------


def predicted(usage):
    """Accepted and rejected tokens of the prediction, checked."""
    d = usage.completion_tokens_details
    want(d is not None, "no completion_tokens_details")
    got = (d.accepted_prediction_tokens, d.rejected_prediction_tokens)
    want(all(type(x) is int and x >= 0 for x in got), f"accepted and rejected are {got!r}")
    want(got[0] <= usage.completion_tokens, f"{got[0]} accepted of {usage.completion_tokens} generated")
    return got


@check
def prediction_changes_nothing_but_usage(s):
    plain = s.chat(max_tokens=24)
    text = plain.choices[0].message.content
    same(predicted(plain.usage), (0, 0), "accepted and rejected without a prediction")
    half = len(text) // 2
    for content in (
        text,
        [{"type": "text", "text": text[:half]}, {"type": "text", "text": text[half:]}],
        "entirely different " * 8,
        text[:half] + " no, otherwise",
        "<|im_end|>",
        "",
    ):
        prediction = {"type": "content", "content": content}
        r = s.chat(max_tokens=24, prediction=prediction)
        same(r.choices[0].message.content, text, f"text with prediction {content!r}")
        same(r.choices[0].finish_reason, plain.choices[0].finish_reason, "finish_reason")
        same(counts(r.usage), counts(plain.usage), "usage")
        predicted(r.usage)
        texts, _, usage, _ = streamed_chat(
            s.chat(max_tokens=24, prediction=prediction, stream=True, stream_options={"include_usage": True})
        )
        same(texts, {0: text}, f"streamed text with prediction {content!r}")
        same(counts(usage), counts(plain.usage), "usage of the stream")
        predicted(usage)


@check
def prediction_with_choices_stops_and_seeds(s):
    args = dict(temperature=0.8, seed=11, max_tokens=16, n=2)
    plain = s.chat(**args)
    texts = [c.message.content for c in plain.choices]
    r = s.chat(**args, prediction={"type": "content", "content": texts[0]})
    same([c.message.content for c in r.choices], texts, "texts")
    predicted(r.usage)
    stop = texts[0][len(texts[0]) // 2 :][:3]
    one = {**args, "n": 1, "stop": stop}
    expected, got = s.chat(**one), s.chat(**one, prediction={"type": "content", "content": texts[0]})
    same(got.choices[0].message.content, expected.choices[0].message.content, f"text with stop={stop!r}")
    same(counts(got.usage), counts(expected.usage), f"usage with stop={stop!r}")
    predicted(got.usage)


@check
def prediction_on_completions(s):
    plain = s.complete(max_tokens=16)
    prediction = {"prediction": {"type": "content", "content": plain.choices[0].text}}
    r = s.complete(max_tokens=16, extra_body=prediction)
    same(r.choices[0].text, plain.choices[0].text, "text")
    predicted(r.usage)


@check
def speculation_off_changes_nothing(s):
    repeats = "x = 1\ny = 2\n" * 12 + "x ="
    for prompt in (PROMPT, OPEN_ENDED, repeats):
        for more in ({}, {"temperature": 0.8, "seed": 4}, {"logprobs": 1}):
            auto, off = (
                s.complete(prompt=prompt, max_tokens=24, extra_body={"speculation": x}, **more) for x in ("auto", "off")
            )
            same(off.choices[0].text, auto.choices[0].text, f"text of {prompt[:20]!r} with {more}")
            same(off.choices[0].logprobs, auto.choices[0].logprobs, f"logprobs of {prompt[:20]!r} with {more}")
            same(counts(off.usage), counts(auto.usage), "usage")
    text = s.chat(extra_body={"speculation": "off"}).choices[0].message.content
    same(text, s.chat().choices[0].message.content, "chat")
    prediction = {"type": "content", "content": text}
    same(predicted(s.chat(prediction=prediction, extra_body={"speculation": "off"}).usage), (0, 0), "drafts when off")


@check
def prompt_cache_key_changes_nothing(s):
    text = s.chat().choices[0].message.content
    for key in ("project-1", "project-1", "é" * 100, ""):
        same(s.chat(prompt_cache_key=key).choices[0].message.content, text, f"text with the key {key[:9]!r}")


@check
def service_tier_is_echoed(s):
    same(s.chat(max_tokens=2).service_tier, None, "service_tier when none was sent")
    for tier in ("auto", "default", "flex", "priority"):
        same(s.chat(max_tokens=2, service_tier=tier).service_tier, tier, "service_tier")
        tiers = {c.service_tier for c in s.chat(max_tokens=2, service_tier=tier, stream=True)}
        same(tiers, {tier}, "service_tier of the chunks")


@check
def max_tokens_0_only_fills_the_cache(s):
    for more in ({"max_tokens": 0}, {"max_tokens": openai.omit, "extra_body": {"n_predict": 0}}):
        r = s.complete(**more)
        same((r.choices[0].text, r.choices[0].finish_reason), ("", "length"), "text and finish")
        same((r.usage.prompt_tokens > 5, r.usage.completion_tokens), (True, 0), "usage")
        r = s.chat(**more)
        same((r.choices[0].message.content, r.choices[0].finish_reason), ("", "length"), "chat text and finish")
    texts, reasons, usage = streamed_text(s.complete(max_tokens=0, stream=True, stream_options={"include_usage": True}))
    same((texts.get(0, ""), reasons, usage.completion_tokens), ("", {0: "length"}, 0), "streamed")


@check
def n_predict_is_max_tokens(s):
    r = s.complete(max_tokens=openai.omit, extra_body={"n_predict": 3})
    same((r.choices[0].finish_reason, r.usage.completion_tokens), ("length", 3), "finish and tokens")


@check
def replay_is_the_answer(s):
    forced = "fn main() {\n    // ünï 😀 <|im_end|>\n    let purple = [1, 2, 3];\n}\n"
    for speculation in ("auto", "off"):
        more = {"max_tokens": 200, "extra_body": {"replay": forced, "speculation": speculation}}
        r = s.complete(**more)
        same(r.choices[0].text, forced, "text")
        want(5 < r.usage.completion_tokens < 100, f"{r.usage.completion_tokens} tokens")
        texts, _, usage = streamed_text(s.complete(**more, stream=True, stream_options={"include_usage": True}))
        same((texts[0], usage.completion_tokens), (forced, r.usage.completion_tokens), "streamed")
        same(s.chat(**more).choices[0].message.content, forced, "chat")
    more = {"max_tokens": 200, "extra_body": {"replay": forced}, "prediction": {"type": "content", "content": forced}}
    r = s.chat(**more)
    same(r.choices[0].message.content, forced, "with a prediction")
    predicted(r.usage)
    same(s.complete(max_tokens=3, extra_body={"replay": forced}).usage.completion_tokens, 3, "max_tokens holds")


@check
def deadline_ends_an_answer(s):
    endless = {"replay": "word " * 1500, "speculation": "off", "deadline_ms": 700}
    started = time.monotonic()
    try:
        r = s.complete(max_tokens=openai.omit, extra_body=endless)
        same(r.choices[0].finish_reason, "length", "finish_reason")
        want(r.usage.completion_tokens < 1000, f"{r.usage.completion_tokens} tokens in 0.7 s")
    except openai.InternalServerError as e:
        same((e.status_code, e.code), (503, "deadline_exceeded"), "error")
        want(e.response.headers.get("retry-after", "").isdigit(), "no Retry-After")
    took = time.monotonic() - started
    want(took < 10, f"took {took:.1f} s of 0.7")


# ---- refusals --------------------------------------------------------------------------------------------------------


@check
def unknown_model(s):
    for call in (s.chat, s.complete):
        e = s.refused(openai.NotFoundError, 404, call, model="no-such-model-7b")
        want("no-such-model-7b" in e.message, f"the message does not name the model: {e.message}")
        same(e.code, "model_not_found", "code")


@check
def bad_fields_are_named(s):
    cases = [
        ("temperature", s.chat, {"temperature": 3}),
        ("temperature", s.complete, {"temperature": -0.5}),
        ("top_p", s.chat, {"top_p": 1.5}),
        ("n", s.chat, {"n": 1000}),
        ("top_logprobs", s.chat, {"logprobs": True, "top_logprobs": 21}),
        ("messages", s.chat, {"messages": []}),
        ("messages[0].role", s.chat, {"messages": [{"role": "wizard", "content": "x"}]}),
        ("max_tokens", s.chat, {"extra_body": {"max_tokens": "ten"}}),
        ("stop", s.chat, {"stop": ["x"] * 17}),
        ("seed", s.complete, {"extra_body": {"seed": "seven"}}),
        ("stream", s.complete, {"extra_body": {"stream": "yes"}}),
        ("prompt", s.complete, {"extra_body": {"prompt": None}}),
        ("prediction", s.chat, {"extra_body": {"prediction": "text"}}),
        ("prediction.content", s.chat, {"extra_body": {"prediction": {"type": "content"}}}),
        ("speculation", s.chat, {"extra_body": {"speculation": "on"}}),
        ("prompt_cache_key", s.chat, {"prompt_cache_key": "k" * 513}),
        ("service_tier", s.chat, {"extra_body": {"service_tier": "warp"}}),
        ("replay", s.complete, {"extra_body": {"replay": ""}}),
        ("deadline_ms", s.complete, {"extra_body": {"deadline_ms": 0}}),
        ("n_predict", s.complete, {"max_tokens": openai.omit, "extra_body": {"n_predict": -2}}),
    ]
    for param, call, more in cases:
        try:
            e = s.refused(openai.BadRequestError, 400, call, **more)
        except Failed as f:
            raise Failed(f"{param} in {more}: {f}") from None
        same(e.param, param, f"param for {more}")
        want(param.split("[")[0] in e.message, f"the message does not name {param}: {e.message}")


@check
def context_overflow(s):
    model = next((m for m in s.client.models.list().data if m.id == s.model), None)
    n_ctx = getattr(model, "max_model_len", None) or 32768
    prompts = {"far too long": "word " * (n_ctx * 4), "a little too long": " a" * (n_ctx + 8)}
    for what, prompt in prompts.items():
        for call, more in ((s.complete, {"prompt": prompt}), (s.chat, {"messages": [{"role": "user", "content": prompt}]})):
            started = time.monotonic()
            e = s.refused(openai.BadRequestError, 400, call, **more)
            same(e.code, "context_length_exceeded", f"code, {what}")
            want(time.monotonic() - started < 3, f"{what}: refused only after {time.monotonic() - started:.1f} s")
    s.chat(max_tokens=1)


# ---- responses -------------------------------------------------------------------------------------------------------

RESPONSE = {"instructions": CHAT[0]["content"], "input": CHAT[1]["content"], "temperature": 0, "max_output_tokens": 12}


@check
def response_is_the_chat(s):
    r = s.client.responses.create(model=s.model, **RESPONSE)
    same(r.output_text, s.chat().choices[0].message.content, "text")
    same(r.status, "incomplete" if r.incomplete_details else "completed", "status")
    same(r.usage.total_tokens, r.usage.input_tokens + r.usage.output_tokens, "total_tokens")


@check
def response_stream_equals_response(s):
    whole = s.client.responses.create(model=s.model, **RESPONSE)
    events = list(s.client.responses.create(model=s.model, stream=True, **RESPONSE))
    same([e.sequence_number for e in events], list(range(len(events))), "sequence numbers")
    deltas = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    same(deltas, whole.output_text, "deltas")
    same(events[-1].response.output_text, whole.output_text, "text of the last event")
    same(events[-1].response.usage.output_tokens, whole.usage.output_tokens, "output_tokens")
    same((events[0].type, events[1].type), ("response.created", "response.in_progress"), "first events")
    with s.client.responses.stream(model=s.model, **RESPONSE) as stream:
        same(stream.get_final_response().output_text, whole.output_text, "text of the helper")


@check
def response_parse_conforms(s):
    import pydantic

    class Crew(pydantic.BaseModel):
        is_ready: bool
        count: int

    r = s.client.responses.parse(model=s.model, input="Is the crew of three ready?", text_format=Crew, temperature=0)
    want(isinstance(r.output_parsed, Crew), f"parsed {r.output_parsed!r} from {r.output_text!r}")


@check
def response_is_continued_fetched_and_deleted(s):
    first = s.client.responses.create(model=s.model, **RESPONSE)
    more = {"input": "And an interpreter?", "temperature": 0, "max_output_tokens": 8}
    stored = s.client.responses.create(model=s.model, previous_response_id=first.id, **more)
    resent = s.client.responses.create(
        model=s.model,
        input=[CHAT[1], {"role": "assistant", "content": first.output_text}, {"role": "user", "content": more["input"]}],
        **{k: v for k, v in more.items() if k != "input"},
    )
    same(stored.output_text, resent.output_text, "text, continued and resent")
    same(s.client.responses.retrieve(first.id).output_text, first.output_text, "text of the fetched answer")
    items = s.client.responses.input_items.list(first.id).data
    same([i.content[0].text for i in items], [RESPONSE["input"]], "input items")
    s.client.responses.delete(first.id)
    s.refused(openai.NotFoundError, 404, s.client.responses.retrieve, response_id=first.id)


@check
def response_calls_a_tool(s):
    tool = {
        "type": "function",
        "name": "get_weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
            "additionalProperties": False,
        },
    }
    asked = [{"role": "user", "content": "What is the weather in Paris?"}]
    r = s.client.responses.create(
        model=s.model, input=asked, tools=[tool], tool_choice={"type": "function", "name": "get_weather"}, temperature=0
    )
    call = next(i for i in r.output if i.type == "function_call")
    same(call.name, "get_weather", "name")
    want(isinstance(json.loads(call.arguments)["city"], str), call.arguments)
    answered = s.client.responses.create(
        model=s.model,
        input=[*asked, call, {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}],
        tools=[tool],
        tool_choice="none",
        temperature=0,
        max_output_tokens=24,
    )
    want(answered.output_text.strip(), "no text after the tool's answer")


@check
def response_websocket_turns(s):
    whole = s.client.responses.create(model=s.model, **RESPONSE)
    with s.client.responses.connect() as connection:

        def ask(**more):
            connection.send({"type": "response.create", "model": s.model, "store": False, "temperature": 0, **more})
            text = ""
            for event in connection:
                if event.type == "response.output_text.delta":
                    text += event.delta
                want(event.type not in ("error", "response.failed"), f"{event!r}")
                if event.type in ("response.completed", "response.incomplete"):
                    same(event.response.output_text, text, "text of the deltas")
                    return event.response

        warm = ask(generate=False, input=[{"role": "developer", "content": RESPONSE["instructions"]}])
        same(warm.output, [], "output of the warm-up")
        first = ask(input=RESPONSE["input"], previous_response_id=warm.id, max_output_tokens=12)
        same(first.output_text, whole.output_text, "text over WebSocket and HTTP")
        second = ask(input="And an interpreter?", previous_response_id=first.id, max_output_tokens=8)
        cached = second.usage.input_tokens_details.cached_tokens
        want(cached >= first.usage.input_tokens - 2, f"{cached} cached, {first.usage.input_tokens} were there")


@check
def response_bad_requests_name_the_field(s):
    create = s.client.responses.create
    e = s.refused(openai.BadRequestError, 400, create, model=s.model, input="x", previous_response_id="resp_0")
    same((e.param, e.code), ("previous_response_id", "previous_response_not_found"), "param and code")
    e = s.refused(openai.BadRequestError, 400, create, model=s.model, input="x", background=True)
    same(e.param, "background", "param")
    s.refused(openai.NotFoundError, 404, create, model="nobody", input="x")


# ---- clients that go away --------------------------------------------------------------------------------------------


def answers_promptly(s, after):
    started = time.monotonic()
    s.complete(max_tokens=2)
    took = time.monotonic() - started
    want(took < 3, f"{after}: the next request took {took:.1f} s")


@check
def disconnect_in_stream(s):
    streams = [s.complete(prompt=OPEN_ENDED, max_tokens=600, stream=True, temperature=1, seed=i) for i in range(3)]
    for stream in streams:
        next(iter(stream))
        stream.close()
    answers_promptly(s, "after three streams were closed")


@check
def disconnect_while_waiting(s):
    try:
        s.client.with_options(timeout=0.4).completions.create(
            model=s.model, prompt=OPEN_ENDED, max_tokens=600, temperature=1, seed=1
        )
    except openai.APITimeoutError:
        pass
    answers_promptly(s, "after a request was given up")


if __name__ == "__main__":
    a = checks.parser(__doc__).parse_args()
    sys.exit(checks.run(lambda: Server(a.base_url, a.model), a.only))

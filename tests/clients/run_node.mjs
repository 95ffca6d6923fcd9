// Conformance of a running server as the Node OpenAI SDK sees it.
//
//     node run_node.mjs --base-url http://127.0.0.1:PORT/v1 [--model NAME] [--only PART]
//
// The same lines and the same rules as run_python.py; fewer checks, chosen for what differs between the two SDKs
// (stream parsing, aborts, error classes).

import { parseArgs } from "node:util";
import OpenAI from "openai";

const PROMPT = "# A short Python module about a spaceship's crew.\n\nclass CrewMember:\n    def __init__(self, name";
const OPEN_ENDED = "Here is a completely random list of unusual words:";
const CHAT = [
  { role: "system", content: "You answer in one sentence." },
  { role: "user", content: "What does a compiler do?" },
];

const { values: args } = parseArgs({
  options: { "base-url": { type: "string" }, model: { type: "string" }, only: { type: "string", default: "" } },
});
if (!args["base-url"]) {
  console.error("usage: node run_node.mjs --base-url http://127.0.0.1:PORT/v1 [--model NAME] [--only PART]");
  process.exit(2);
}
const client = new OpenAI({ baseURL: args["base-url"], apiKey: "none", maxRetries: 0, timeout: 30_000 });
let model = args.model;

const chat = (more = {}, options) =>
  client.chat.completions.create({ model, messages: CHAT, temperature: 0, max_tokens: 12, ...more }, options);
const complete = (more = {}, options) =>
  client.completions.create({ model, prompt: PROMPT, temperature: 0, max_tokens: 12, ...more }, options);

function want(condition, why) {
  if (!condition) throw new Error(why);
}

function same(got, expected, what) {
  const [g, e] = [JSON.stringify(got), JSON.stringify(expected)];
  want(g === e, `${what}: got ${g}, expected ${e}`);
}

/** Reads a stream to its end: texts, finish reasons, usage, log-probability entries, by choice. */
async function drain(stream) {
  const out = { texts: {}, reasons: {}, usage: null, logprobs: {} };
  for await (const chunk of stream) {
    want(out.usage === null, "a chunk after the usage chunk");
    out.usage = chunk.usage ?? null;
    for (const c of chunk.choices) {
      want(!(c.index in out.reasons), "text after finish_reason");
      out.texts[c.index] = (out.texts[c.index] ?? "") + (c.delta?.content ?? c.text ?? "");
      if (c.logprobs?.content) (out.logprobs[c.index] ??= []).push(...c.logprobs.content);
      if (c.finish_reason) out.reasons[c.index] = c.finish_reason;
    }
  }
  return out;
}

function counts(usage) {
  want(usage, "no usage");
  same(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens, "total_tokens");
  return [usage.prompt_tokens, usage.completion_tokens];
}

/** Awaits a call that must be refused and returns the error. */
async function refused(kind, status, promise) {
  try {
    await promise;
  } catch (e) {
    want(e instanceof kind, `raised ${e.constructor.name} (${e.message}), expected ${kind.name}`);
    same(e.status, status, "status");
    same(e.type, "invalid_request_error", "type");
    return e;
  }
  throw new Error("was accepted");
}

async function answersPromptly(after) {
  const started = performance.now();
  await complete({ max_tokens: 2 });
  const took = (performance.now() - started) / 1000;
  want(took < 3, `${after}: the next request took ${took.toFixed(1)} s`);
}

const CHECKS = {
  async models_list() {
    const ids = [];
    for await (const m of client.models.list()) {
      want(m.id && m.object === "model" && Number.isInteger(m.created) && m.owned_by, `incomplete: ${JSON.stringify(m)}`);
      ids.push(m.id);
    }
    want(ids.includes(model), `${model} is not among ${ids}`);
  },

  async chat_answers() {
    const r = await chat();
    same([r.object, r.choices.length, r.choices[0].message.role], ["chat.completion", 1, "assistant"], "shape");
    want(r.choices[0].message.content.trim(), "no text");
    want(["stop", "length"].includes(r.choices[0].finish_reason), `finish_reason ${r.choices[0].finish_reason}`);
    counts(r.usage);
  },

  async chat_stream_equals_chat() {
    const whole = await chat();
    const s = await drain(await chat({ stream: true, stream_options: { include_usage: true } }));
    same(s.texts, { 0: whole.choices[0].message.content }, "text");
    same(s.reasons, { 0: whole.choices[0].finish_reason }, "finish_reason");
    same(counts(s.usage), counts(whole.usage), "usage");
  },

  async chat_stream_without_usage_has_none() {
    same((await drain(await chat({ stream: true, max_tokens: 4 }))).usage, null, "usage");
  },

  async chat_stream_helper() {
    const whole = await chat();
    const runner = client.chat.completions.stream({ model, messages: CHAT, temperature: 0, max_tokens: 12 });
    let seen = "";
    runner.on("content", (delta) => (seen += delta));
    const final = await runner.finalChatCompletion();
    same(seen, whole.choices[0].message.content, "text of the events");
    same(final.choices[0].message.content, whole.choices[0].message.content, "final text");
  },

  async tools_round_trip() {
    const parameters = {
      type: "object",
      properties: { city: { type: "string", maxLength: 20 }, days: { type: "integer", minimum: 1, maximum: 7 } },
      required: ["city", "days"],
      additionalProperties: false,
    };
    const tools = [{ type: "function", function: { name: "get_weather", strict: true, parameters } }];
    const messages = [{ role: "user", content: "What is the weather in Ulm for the next three days?" }];
    const ask = { messages, tools, parallel_tool_calls: false, max_tokens: 80 };
    for (const tool_choice of ["required", { type: "function", function: { name: "get_weather" } }]) {
      const c = (await chat({ ...ask, tool_choice })).choices[0];
      same([c.finish_reason, c.message.content, c.message.tool_calls.length], ["tool_calls", null, 1], "the call");
      const call = c.message.tool_calls[0];
      const got = JSON.parse(call.function.arguments);
      same([call.function.name, Object.keys(got)], ["get_weather", ["city", "days"]], "name and arguments");
      const runner = client.chat.completions.stream({ model, temperature: 0, ...ask, tool_choice });
      const final = (await runner.finalChatCompletion()).choices[0];
      same(final.message.tool_calls[0].function.arguments, call.function.arguments, "arguments as streamed");
      const told = [...messages, c.message, { role: "tool", tool_call_id: call.id, content: "sunny" }];
      const after = (await chat({ messages: told, tools, tool_choice: "none", max_tokens: 30 })).choices[0];
      want(after.message.content.trim() && !after.message.tool_calls, "no text after the result");
    }
  },

  async content_type_of_stream() {
    const { response, data } = await chat({ stream: true, max_tokens: 2 }).withResponse();
    want(response.headers.get("content-type")?.startsWith("text/event-stream"), response.headers.get("content-type"));
    await drain(data);
  },

  async seed_reproduces() {
    const drawn = async (seed) =>
      (await complete({ prompt: OPEN_ENDED, temperature: 0.8, seed, max_tokens: 16 })).choices[0].text;
    const first = await drawn(7);
    same(await drawn(7), first, "the same seed");
    const others = [await drawn(8), await drawn(9), await drawn(10)];
    want(new Set([first, ...others]).size > 1, `four seeds gave one text: ${first}`);
  },

  async stop_string_never_leaks() {
    const text = (await complete({ max_tokens: 20 })).choices[0].text;
    for (const width of [1, 3, 6]) {
      const stop = text.slice(Math.floor(text.length / 2)).slice(0, width);
      const expected = [text.slice(0, text.indexOf(stop)), "stop"];
      const c = (await complete({ max_tokens: 20, stop })).choices[0];
      same([c.text, c.finish_reason], expected, `stop=${JSON.stringify(stop)}`);
      const s = await drain(await complete({ max_tokens: 20, stop: [stop], stream: true }));
      same([s.texts[0] ?? "", s.reasons[0]], expected, `streamed, stop=${JSON.stringify(stop)}`);
    }
  },

  async max_tokens_is_exact() {
    for (const n of [1, 5]) {
      const r = await complete({ max_tokens: n });
      same([r.choices[0].finish_reason, r.usage.completion_tokens], ["length", n], `max_tokens=${n}`);
    }
  },

  async chat_logprobs() {
    const request = { logprobs: true, top_logprobs: 5, max_tokens: 6 };
    const r = await chat(request);
    const s = await drain(await chat({ ...request, stream: true }));
    for (const [entries, text] of [
      [r.choices[0].logprobs.content, r.choices[0].message.content],
      [s.logprobs[0], s.texts[0]],
    ]) {
      same(entries.length, r.usage.completion_tokens, "entries");
      same(new TextDecoder().decode(Uint8Array.from(entries.flatMap((e) => e.bytes))), text, "bytes of the tokens");
      for (const e of entries) {
        const top = e.top_logprobs.map((t) => t.logprob);
        same(top.length, 5, "top_logprobs");
        same(top, top.toSorted((a, b) => b - a), "order of top_logprobs");
        want(top.reduce((sum, x) => sum + Math.exp(x), 0) <= 1.0005, `probabilities sum above 1: ${top}`);
        same([e.token, e.logprob], [e.top_logprobs[0].token, top[0]], "greedy choice and the likeliest");
      }
    }
  },

  async n_choices() {
    const request = { temperature: 0.9, seed: 5, max_tokens: 8, n: 2 };
    const whole = await chat(request);
    same(whole.choices.map((c) => c.index), [0, 1], "indices");
    const s = await drain(await chat({ ...request, stream: true, stream_options: { include_usage: true } }));
    same([s.texts[0], s.texts[1]], whole.choices.map((c) => c.message.content), "texts");
    same(counts(s.usage), counts(whole.usage), "usage");
  },

  async completion_stream_equals_completion() {
    const whole = await complete();
    want(!whole.choices[0].text.includes(PROMPT), "the prompt was echoed");
    const s = await drain(await complete({ stream: true, stream_options: { include_usage: true } }));
    same(s.texts, { 0: whole.choices[0].text }, "text");
    same(counts(s.usage), counts(whole.usage), "usage");
  },

  async completion_with_suffix() {
    const prompt = "def add(a, b):\n    return ";
    try {
      const r = await complete({ prompt, suffix: "\n\nprint(add(1, 2))\n", max_tokens: 16 });
      const plain = await complete({ prompt, max_tokens: 1 });
      want(r.choices[0].text.includes("a") && r.choices[0].text.includes("b"), `filled in ${r.choices[0].text}`);
      want(!r.choices[0].text.includes("<|"), `special token in ${r.choices[0].text}`);
      want(r.usage.prompt_tokens > plain.usage.prompt_tokens + 3, "the suffix was dropped");
    } catch (e) {
      if (!(e instanceof OpenAI.BadRequestError)) throw e;
      same(e.param, "suffix", "a model without fill-in-the-middle names the field");
    }
  },

  async prediction_changes_nothing_but_usage() {
    const plain = await chat({ max_tokens: 24 });
    const text = plain.choices[0].message.content;
    const parts = [{ type: "text", text: text.slice(0, 9) }, { type: "text", text: text.slice(9) }];
    for (const content of [text, parts, "entirely different ".repeat(8)]) {
      const request = { max_tokens: 24, prediction: { type: "content", content } };
      const r = await chat(request);
      const s = await drain(await chat({ ...request, stream: true, stream_options: { include_usage: true } }));
      same([r.choices[0].message.content, s.texts[0]], [text, text], `text with ${JSON.stringify(content)}`);
      for (const usage of [r.usage, s.usage]) {
        same(counts(usage), counts(plain.usage), "usage");
        const d = usage.completion_tokens_details;
        for (const n of [d?.accepted_prediction_tokens, d?.rejected_prediction_tokens])
          want(Number.isInteger(n) && n >= 0, `completion_tokens_details ${JSON.stringify(d)}`);
        want(d.accepted_prediction_tokens <= usage.completion_tokens, `${d.accepted_prediction_tokens} accepted`);
      }
    }
  },

  async speculation_off_changes_nothing() {
    for (const more of [{}, { prompt: "x = 1\ny = 2\n".repeat(12) + "x =" }, { temperature: 0.8, seed: 4 }]) {
      const texts = [];
      for (const speculation of ["auto", "off"])
        texts.push((await complete({ max_tokens: 24, ...more, speculation })).choices[0].text);
      same(texts[1], texts[0], `text with ${JSON.stringify(more)}`);
    }
  },

  async cache_key_and_tier() {
    const plain = (await chat()).choices[0].message.content;
    same((await chat({ prompt_cache_key: "project-1" })).choices[0].message.content, plain, "text");
    same((await chat({ max_tokens: 2 })).service_tier ?? null, null, "service_tier when none was sent");
    same((await chat({ max_tokens: 2, service_tier: "priority" })).service_tier, "priority", "service_tier");
    for await (const c of await chat({ max_tokens: 2, service_tier: "flex", stream: true }))
      same(c.service_tier, "flex", "service_tier of a chunk");
  },

  async max_tokens_0_only_fills_the_cache() {
    const r = await complete({ max_tokens: 0 });
    same([r.choices[0].text, r.choices[0].finish_reason, r.usage.completion_tokens], ["", "length", 0], "answer");
    const c = await chat({ max_tokens: undefined, n_predict: 0 });
    same([c.choices[0].message.content, c.choices[0].finish_reason], ["", "length"], "chat answer");
  },

  async replay_is_the_answer() {
    const replay = "fn main() {\n    // ünï 😀 <|im_end|>\n    let purple = [1, 2, 3];\n}\n";
    same((await complete({ max_tokens: 200, replay })).choices[0].text, replay, "text");
    const s = await drain(await chat({ max_tokens: 200, replay, stream: true }));
    same(s.texts[0], replay, "streamed chat");
  },

  async unknown_model() {
    for (const call of [chat, complete]) {
      const e = await refused(OpenAI.NotFoundError, 404, call({ model: "no-such-model-7b" }));
      want(e.message.includes("no-such-model-7b"), `the message does not name the model: ${e.message}`);
      same(e.code, "model_not_found", "code");
    }
  },

  async unknown_model_streamed() {
    await refused(OpenAI.NotFoundError, 404, chat({ model: "no-such-model-7b", stream: true }));
  },

  async bad_fields_are_named() {
    const cases = [
      ["temperature", chat, { temperature: 3 }],
      ["top_p", complete, { top_p: -1 }],
      ["messages", chat, { messages: [] }],
      ["max_tokens", chat, { max_tokens: "ten" }],
      ["top_logprobs", chat, { logprobs: true, top_logprobs: 21 }],
      ["prediction.type", chat, { prediction: { type: "file", content: "x" } }],
      ["service_tier", chat, { service_tier: "warp" }],
      ["speculation", complete, { speculation: false }],
      ["prompt_cache_key", chat, { prompt_cache_key: "k".repeat(513) }],
    ];
    for (const [param, call, more] of cases) {
      const e = await refused(OpenAI.BadRequestError, 400, call(more)).catch((f) => {
        throw new Error(`${param} in ${JSON.stringify(more)}: ${f.message}`);
      });
      same(e.param, param, `param for ${JSON.stringify(more)}`);
    }
  },

  async context_overflow() {
    const listed = (await client.models.list()).data.find((m) => m.id === model);
    const nCtx = listed?.max_model_len ?? 32768;
    for (const prompt of ["word ".repeat(nCtx * 4), " a".repeat(nCtx + 8)]) {
      const e = await refused(OpenAI.BadRequestError, 400, complete({ prompt }));
      same(e.code, "context_length_exceeded", "code");
    }
    await chat({ max_tokens: 1 });
  },

  async response_stream_equals_response() {
    const request = { model, instructions: CHAT[0].content, input: CHAT[1].content, temperature: 0, max_output_tokens: 12 };
    const whole = await client.responses.create(request);
    same(whole.output_text, (await chat()).choices[0].message.content, "text of the chat");
    let deltas = "";
    let last;
    for await (const event of await client.responses.create({ ...request, stream: true })) {
      if (event.type === "response.output_text.delta") deltas += event.delta;
      last = event;
    }
    same([deltas, last.type], [whole.output_text, `response.${whole.status}`], "text and end of the stream");
    const final = await client.responses.stream(request).finalResponse();
    same(final.output_text ?? final.output[0].content[0].text, whole.output_text, "text of the helper");
  },

  async response_parse_conforms() {
    const schema = { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"], additionalProperties: false };
    const text = { format: { type: "json_schema", name: "n", strict: true, schema } };
    const r = await client.responses.parse({ model, input: "Is all well?", text, temperature: 0 });
    same(typeof r.output_parsed.ok, "boolean", "parsed");
  },

  async response_websocket_turns() {
    const { ResponsesWS } = await import("openai/resources/responses/ws");
    const socket = new ResponsesWS(client);
    const ask = (more) =>
      new Promise((resolve, reject) => {
        const done = (event) => {
          if (!["response.completed", "response.incomplete"].includes(event.type)) return;
          socket.off("event", done);
          resolve(event.response);
        };
        socket.on("event", done);
        socket.on("error", reject);
        socket.send({ type: "response.create", model, store: false, temperature: 0, max_output_tokens: 8, ...more });
      });
    try {
      const warm = await ask({ input: CHAT[1].content, generate: false });
      const first = await ask({ input: "Go on.", previous_response_id: warm.id });
      const second = await ask({ input: "Go on.", previous_response_id: first.id });
      want(second.usage.input_tokens > first.usage.input_tokens, "the conversation did not grow");
      const cached = second.usage.input_tokens_details.cached_tokens;
      want(cached >= first.usage.input_tokens - 2, `${cached} cached of ${first.usage.input_tokens}`);
    } finally {
      socket.close();
    }
  },

  async disconnect_in_stream() {
    for (let seed = 0; seed < 3; seed++) {
      const stream = await complete({ prompt: OPEN_ENDED, max_tokens: 600, temperature: 1, seed, stream: true });
      for await (const _ of stream) break; // leaving the loop aborts the request
    }
    await answersPromptly("after three streams were left");
  },

  async disconnect_by_abort() {
    const aborter = new AbortController();
    const pending = complete({ prompt: OPEN_ENDED, max_tokens: 600, temperature: 1, seed: 1 }, { signal: aborter.signal });
    setTimeout(() => aborter.abort(), 300);
    await pending.then(
      () => {},
      (e) => want(e instanceof OpenAI.APIUserAbortError, `raised ${e.constructor.name}: ${e.message}`),
    );
    await answersPromptly("after a request was aborted");
  },
};

let [passed, failed] = [0, 0];
try {
  model ??= (await client.models.list()).data[0].id;
} catch (e) {
  console.log(`FAIL connect ${e.message}\n0 passed, 1 failed`);
  process.exit(1);
}
for (const [name, run] of Object.entries(CHECKS)) {
  if (!name.includes(args.only)) continue;
  try {
    await run();
    console.log(`ok ${name}`);
    passed++;
  } catch (e) {
    console.log(`FAIL ${name} ${e.message.replace(/\s+/g, " ")}`);
    failed++;
  }
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);

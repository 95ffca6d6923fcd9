// A streamed answer of an OpenAI-compatible server, and the chat that is sent. No dependency on VS Code.

import { ANSWER_CHARS_MAX, CHAT_CHARS_MAX, STREAM_LINE_CHARS_MAX } from "./limits";

export interface Message {
  role: "system" | "user" | "assistant";
  content: string;
}

/** What an answer cost. */
export interface Figures {
  ttftMs: number;
  tokens: number;
  tps: number;
  finish: string;
}

/** Cuts a stream into the `data:` of its events. */
export class Events {
  private rest = "";

  push(text: string): string[] {
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop() ?? "";
    if (this.rest.length > STREAM_LINE_CHARS_MAX) throw new Error("the server sent a line that does not end");
    return lines.filter((l) => l.startsWith("data:")).map((l) => l.slice(5).trimStart());
  }
}

/** The newest turns that fit, beginning with a question; the system message always stays. */
export function fitting(messages: Message[], charsMax = CHAT_CHARS_MAX): Message[] {
  const system = messages.filter((m) => m.role === "system");
  const turns = messages.filter((m) => m.role !== "system");
  let left = charsMax - system.reduce((sum, m) => sum + m.content.length, 0);
  let from = turns.length;
  while (from > 0 && left >= (turns[from - 1]?.content.length ?? 0)) left -= turns[--from]?.content.length ?? 0;
  // The last question is sent whole even when it alone is too long: the server's own refusal says more than we could.
  if (from === turns.length) from = Math.max(0, turns.length - 1);
  while (from < turns.length - 1 && turns[from]?.role !== "user") from++;
  return [...system, ...turns.slice(from)];
}

export interface Ask {
  url: string;
  key?: string | undefined;
  body: object;
  signal: AbortSignal;
  onText(text: string): void;
}

/** Streams one answer; resolves with its whole text and figures. Aborting keeps what was said. */
export async function stream(ask: Ask, now: () => number = () => performance.now()): Promise<{ text: string; figures: Figures }> {
  const begun = now();
  let first = 0;
  let text = "";
  let tokens = 0;
  let finish = "";
  try {
    const response = await fetch(`${ask.url}/v1/chat/completions`, {
      method: "POST",
      headers: headers(ask.key),
      body: JSON.stringify({ ...ask.body, stream: true, stream_options: { include_usage: true } }),
      signal: ask.signal,
    });
    if (!response.ok) throw new Error(await refusal(response));
    const events = new Events();
    const decoder = new TextDecoder();
    for await (const bytes of response.body as unknown as AsyncIterable<Uint8Array>) {
      for (const data of events.push(decoder.decode(bytes, { stream: true }))) {
        if (data === "[DONE]") continue;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new Error(String(chunk.error.message ?? "the server broke off"));
        tokens = chunk.usage?.completion_tokens ?? tokens;
        const choice = chunk.choices?.[0];
        finish = choice?.finish_reason ?? finish;
        const delta = choice?.delta?.content;
        if (typeof delta !== "string" || delta === "") continue;
        first ||= now();
        text += delta;
        if (text.length > ANSWER_CHARS_MAX) throw new Error("the answer is too long");
        ask.onText(delta);
      }
    }
  } catch (e) {
    if (!ask.signal.aborted) throw e;
    finish = "stopped";
  }
  const seconds = (now() - (first || begun)) / 1000;
  const tps = tokens > 1 && seconds > 0 ? (tokens - 1) / seconds : 0;
  return { text, figures: { ttftMs: first ? first - begun : 0, tokens, tps, finish } };
}

/** Names of the models that a server has. */
export async function models(url: string, key?: string, signal?: AbortSignal): Promise<{ id: string; about: string }[]> {
  const init: RequestInit = { headers: headers(key) };
  if (signal) init.signal = signal;
  const response = await fetch(`${url}/v1/models`, init);
  if (!response.ok) throw new Error(await refusal(response));
  const listed = (await response.json()) as { data?: any[] };
  return (listed.data ?? []).filter((m) => typeof m?.id === "string").map((m) => ({ id: m.id, about: about(m) }));
}

function about(model: any): string {
  const context = model.context_window ?? model.context_length ?? model.meta?.n_ctx;
  return typeof context === "number" ? `${context.toLocaleString("en")} tokens of context` : "";
}

function headers(key?: string): Record<string, string> {
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

async function refusal(response: Response): Promise<string> {
  const text = (await response.text()).slice(0, 2000);
  try {
    return String(JSON.parse(text).error?.message ?? text);
  } catch {
    return `HTTP ${response.status}: ${text}`;
  }
}

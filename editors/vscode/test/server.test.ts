// The language server's process, against the stand-in as a real child: start, restart, stop, one that is too old.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { Server } from "../src/server";
import { models, stream } from "../src/sse";

interface Told {
  capabilities: Record<string, unknown> | null;
  why?: string | undefined;
}

function started(args: string[] = []): { server: Server; next: () => Promise<Told>; status: () => any } {
  const told: Told[] = [];
  const waiting: ((t: Told) => void)[] = [];
  let status: any = null;
  const server = new Server({
    command: process.execPath,
    args: [join(__dirname, "stand_in.js"), ...args],
    initialize: () => ({ clientInfo: { name: "test" } }),
    log: () => {},
    wire: (connection) => connection.onNotification("vonk/status", (s) => (status = s)),
    ready: (capabilities, why) => {
      const one = { capabilities, why };
      const first = waiting.shift();
      if (first) first(one);
      else told.push(one);
    },
  });
  server.start();
  const next = () => new Promise<Told>((resolve) => (told[0] ? resolve(told.shift()!) : waiting.push(resolve)));
  return { server, next, status: () => status };
}

test("a server is asked once it is ready, and stops when it is told to", async () => {
  const { server, next, status } = started();
  await assert.rejects(server.request("test/seen", {}), /not running/);
  assert.equal((await next()).capabilities?.["inlineCompletionProvider"], true);
  assert.deepEqual(await server.request("test/seen", {}), ['initialize {"name":"test"}']);
  assert.equal(status().tps, 118);
  await server.stop();
  assert.deepEqual(await next(), { capabilities: null, why: undefined });
  await assert.rejects(server.request("test/seen", {}), /not running/);
});

test("a server that dies fails what was asked and is started again", async () => {
  const { server, next } = started();
  await next();
  await assert.rejects(server.request("test/die", {}), /ended with 9|closed/);
  assert.deepEqual(await next(), { capabilities: null, why: undefined });
  assert.ok((await next()).capabilities);
  await server.stop();
});

test("a program that does not know the command is not started again, and its own words say why", async () => {
  const { next } = started(["--old"]);
  const { capabilities, why } = await next();
  assert.equal(capabilities, null);
  assert.match(why ?? "", /ended with 2: error: unrecognized subcommand/);
});

test("changes reach the server in order, in UTF-16", async () => {
  const { server, next } = started();
  await next();
  const uri = "file:a.rs";
  const change = (line: number, from: number, to: number, text: string) => ({
    range: { start: { line, character: from }, end: { line, character: to } },
    text,
  });
  server.notify("textDocument/didOpen", { textDocument: { uri, languageId: "rust", version: 1, text: "a🦀b\r\nzwei\n" } });
  server.notify("textDocument/didChange", {
    textDocument: { uri, version: 2 },
    contentChanges: [change(0, 3, 4, "B"), change(1, 0, 4, "two"), change(1, 3, 3, "!")],
  });
  assert.equal(await server.request("test/text", { uri }), "a🦀B\r\ntwo!\n");
  await server.stop();
});

/** A server that streams `lines`, each in pieces of three bytes. */
async function serving(status: number, lines: string[], then: "end" | "hang", use: (url: string) => Promise<void>): Promise<void> {
  const server = createServer((_, response) => {
    response.writeHead(status, { "Content-Type": "text/event-stream" });
    const bytes = Buffer.from(lines.join(""));
    for (let i = 0; i < bytes.length; i += 3) response.write(bytes.subarray(i, i + 3));
    if (then === "end") response.end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

const delta = (content: string) => `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`;

test("an answer is streamed and counted", async () => {
  const usage = `data: ${JSON.stringify({ choices: [{ delta: {}, finish_reason: "stop" }], usage: { completion_tokens: 3 } })}\n\n`;
  await serving(200, [delta("grün "), delta("🦀"), usage, "data: [DONE]\n\n"], "end", async (url) => {
    const pieces: string[] = [];
    const ask = { url, body: {}, signal: new AbortController().signal, onText: (t: string) => void pieces.push(t) };
    const { text, figures } = await stream(ask);
    assert.equal(text, "grün 🦀");
    assert.deepEqual(pieces, ["grün ", "🦀"]);
    assert.equal(figures.tokens, 3);
    assert.equal(figures.finish, "stop");
  });
});

test("a stopped answer keeps what was said", async () => {
  await serving(200, [delta("one "), delta("two ")], "hang", async (url) => {
    const stop = new AbortController();
    const onText = (t: string) => t === "two " && stop.abort();
    const { text, figures } = await stream({ url, body: {}, signal: stop.signal, onText });
    assert.equal(text, "one two ");
    assert.equal(figures.finish, "stopped");
  });
});

test("refusals and errors within a stream say what the server said", async () => {
  const ask = (url: string) => stream({ url, body: {}, signal: new AbortController().signal, onText: () => {} });
  await serving(404, ['{"error":{"message":"no such model"}}'], "end", (url) => assert.rejects(ask(url), /no such model/));
  await serving(502, ["<html>"], "end", (url) => assert.rejects(ask(url), /HTTP 502: <html>/));
  await serving(200, ['data: {"error":{"message":"out of pages"}}\n\n'], "end", (url) => assert.rejects(ask(url), /out of pages/));
});

test("models are listed, and what is no model is passed over", async () => {
  const listed = JSON.stringify({ data: [{ id: "a", context_window: 32768 }, { nothing: 1 }, { id: "b" }] });
  await serving(200, [listed], "end", async (url) => {
    assert.deepEqual(await models(url), [{ id: "a", about: "32,768 tokens of context" }, { id: "b", about: "" }]);
  });
});

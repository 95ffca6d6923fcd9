// A language server that follows a script: what the tests speak to where the real one would need a model. Started as a
// program over stdio, like `vonk lsp`.

import { appendFileSync } from "node:fs";
import { applyEdits } from "../src/positions";
import { toLines } from "../src/hunks";
import { Connection, RpcError } from "../src/rpc";

const documents = new Map<string, { text: string; version: number }>();
const seen: string[] = [];
function note(line: string): void {
  seen.push(line);
  if (process.env.STAND_IN_SEEN) appendFileSync(process.env.STAND_IN_SEEN, `${line}\n`);
}
const connection = new Connection(process.stdin, process.stdout, () => process.exit(0));
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

const SUGGESTION = "    width * height\n}";
const EDITED = "/// Sum of a list.\nfn sum(list: &[u32]) -> u32 {\n    list.iter().sum()\n}\n";

if (process.argv.includes("--old")) {
  console.error("error: unrecognized subcommand 'lsp'");
  process.exit(2);
}

connection.onRequest("initialize", ({ clientInfo }) => {
  note(`initialize ${JSON.stringify(clientInfo ?? {})}`);
  return { capabilities: { textDocumentSync: 2, inlineCompletionProvider: true } };
});
connection.onNotification("initialized", () => {
  connection.notify("vonk/status", { state: "ready", model: "stand-in", ttft_ms: 21, tps: 118 });
});
connection.onNotification("textDocument/didOpen", ({ textDocument }) => documents.set(textDocument.uri, textDocument));
connection.onNotification("textDocument/didClose", ({ textDocument }) => documents.delete(textDocument.uri));
connection.onNotification("textDocument/didChange", ({ textDocument, contentChanges }) => {
  const document = documents.get(textDocument.uri);
  if (!document) return;
  for (const { range, text } of contentChanges) {
    document.text = range ? (applyEdits(document.text, [{ range, newText: text }]) ?? "") : text;
  }
  document.version = textDocument.version;
});
connection.onNotification("vonk/accepted", ({ kind }) => note(`accepted ${kind}`));
connection.onRequest("textDocument/inlineCompletion", ({ textDocument, position }) => {
  const line = documents.get(textDocument.uri)?.text.split("\n")[position.line - 1] ?? "";
  const items = /fn area\(.*\{$/.test(line) ? [{ insertText: SUGGESTION.slice(position.character) }] : [];
  return { items };
});
connection.onRequest("vonk/edit", async ({ textDocument, partialResultToken, instruction }) => {
  if (instruction === "fail") throw new RpcError(1, "the model broke off");
  const tell = (at: number, text: string) =>
    connection.notify("$/progress", { token: partialResultToken, value: { at, text } });
  const lines = EDITED.split("\n");
  for (const [at, line] of lines.entries()) {
    await sleep(60);
    tell(at, line.slice(0, 5));
    await sleep(60);
    tell(at, `${line}\n`);
  }
  const last = toLines(documents.get(textDocument.uri)?.text ?? "").length - 1;
  const range = { start: { line: 0, character: 0 }, end: { line: last, character: 0 } };
  return { edits: [{ range, newText: EDITED }] };
});
connection.onRequest("vonk/server", () => ({ url: process.env.STAND_IN_URL ?? "", model: "stand-in" }));
connection.onRequest("vonk/nextEdit", ({ textDocument }) => {
  const line = documents.get(textDocument.uri)?.text.split("\n").findIndex((l) => l.includes("old_name")) ?? -1;
  if (line < 0) return null;
  const at = documents.get(textDocument.uri)!.text.split("\n")[line]!.indexOf("old_name");
  return { range: { start: { line, character: at }, end: { line, character: at + 8 } }, newText: "new_name" };
});
connection.onRequest("test/seen", () => seen);
connection.onRequest("test/text", ({ uri }) => documents.get(uri)?.text ?? null);
connection.onRequest("test/die", () => process.exit(9));
connection.onRequest("test/sleep", ({ ms }) => sleep(ms));
connection.onRequest("shutdown", () => null);
connection.onNotification("exit", () => process.exit(0));

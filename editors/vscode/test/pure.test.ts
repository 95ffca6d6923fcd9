// The parts that need no editor: framing, positions, hunks, accepted parts, streams, where the program is.

import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { Accepts } from "../src/accepts";
import { candidates, percent } from "../src/find";
import { diff, matches, merged, shift, toLines, type Hunk, within } from "../src/hunks";
import { HEADER_BYTES_MAX, MESSAGE_BYTES_MAX } from "../src/limits";
import { applyEdits, lineStarts, offsetAt, positionAt } from "../src/positions";
import { Connection, Framing, METHOD_NOT_FOUND, REQUEST_CANCELLED, RpcError } from "../src/rpc";
import { Events, fitting } from "../src/sse";

/** Small numbers that look random and are the same every time (mulberry32). */
function dice(seed: number): (sides: number) => number {
  return (sides) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % sides;
  };
}

const frame = (body: string) => Buffer.from(`Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);

test("messages come out whole however the bytes are cut", () => {
  const bodies = ['{"a":1}', '{"text":"grün 🦀 \\r\\n\\r\\n"}', "{}", `{"long":"${"x".repeat(5000)}"}`];
  const bytes = Buffer.concat(bodies.map(frame));
  for (const size of [1, 2, 3, 7, 64, 1000, bytes.length]) {
    const framing = new Framing();
    const got: string[] = [];
    for (let i = 0; i < bytes.length; i += size) got.push(...framing.push(bytes.subarray(i, i + size)));
    assert.deepEqual(got, bodies, `pieces of ${size}`);
  }
});

test("a header may have other fields, in any case", () => {
  const bytes = Buffer.from("Content-Type: application/json\r\ncontent-length: 2\r\n\r\n{}");
  assert.deepEqual(new Framing().push(bytes), ["{}"]);
});

test("framing refuses endless headers and huge, absent or negative lengths", () => {
  assert.throws(() => new Framing().push(Buffer.alloc(HEADER_BYTES_MAX + 1, 120)), RpcError);
  for (const length of [String(MESSAGE_BYTES_MAX + 1), "99999999999999999999", "-1", "0x10", ""]) {
    assert.throws(() => new Framing().push(Buffer.from(`Content-Length: ${length}\r\n\r\n`)), RpcError, length);
  }
  assert.throws(() => new Framing().push(Buffer.from("Hello: 1\r\n\r\n")), RpcError);
});

function pair(): { ours: Connection; theirs: Connection; ended: Promise<Error>; toUs: PassThrough } {
  const [toUs, toThem] = [new PassThrough(), new PassThrough()];
  let end: (why: Error) => void = () => {};
  const ended = new Promise<Error>((resolve) => (end = resolve));
  return { ours: new Connection(toUs, toThem, end), theirs: new Connection(toThem, toUs), ended, toUs };
}

test("requests are answered, refused and not known, in both directions", async () => {
  const { ours, theirs } = pair();
  theirs.onRequest("add", ({ a, b }) => a + b);
  theirs.onRequest("fail", () => {
    throw new RpcError(7, "no");
  });
  ours.onRequest("double", async ({ n }) => 2 * n);
  assert.equal(await ours.request("add", { a: 2, b: 3 }), 5);
  assert.equal(await theirs.request("double", { n: 4 }), 8);
  await assert.rejects(ours.request("fail", {}), (e: RpcError) => e.code === 7 && e.message === "no");
  await assert.rejects(ours.request("what", {}), (e: RpcError) => e.code === METHOD_NOT_FOUND);
});

test("cancelling rejects at once and tells the other side which request", async () => {
  const { ours, theirs } = pair();
  let asked = 0;
  theirs.onRequest("slow", () => new Promise(() => asked++));
  const told = new Promise<{ id: number }>((resolve) => theirs.onNotification("$/cancelRequest", resolve));
  let cancel = () => {};
  const token = {
    isCancellationRequested: false,
    onCancellationRequested: (listener: () => void) => ((cancel = listener), { dispose: () => {} }),
  };
  const request = ours.request("slow", {}, token);
  cancel();
  await assert.rejects(request, (e: RpcError) => e.code === REQUEST_CANCELLED);
  assert.equal((await told).id, 1);
  assert.equal(asked, 1);
});

test("nonsense from the other side ends the conversation, and with it what was asked", async () => {
  for (const nonsense of [frame("{not json"), frame("3"), Buffer.from("Content-Length: x\r\n\r\n")]) {
    const { ours, ended, toUs } = pair();
    const asked = ours.request("ever", {});
    toUs.write(nonsense);
    await assert.rejects(asked);
    await ended;
    await assert.rejects(ours.request("again", {}));
  }
});

test("a listener that throws costs nothing else", async () => {
  const { ours, theirs } = pair();
  const error = console.error;
  console.error = () => {};
  ours.onNotification("bad", () => {
    throw new Error("oops");
  });
  ours.onRequest("ping", () => "pong");
  theirs.notify("bad", {});
  assert.equal(await theirs.request("ping", {}), "pong");
  console.error = error;
});

test("positions and offsets are each other's inverse in UTF-16, for every kind of line end", () => {
  const text = "a🦀b\r\n\r\nöne\rtwo\n\nlast";
  const starts = lineStarts(text);
  assert.deepEqual(starts, [0, 6, 8, 12, 16, 17]);
  for (let offset = 0; offset <= text.length; offset++) {
    const position = positionAt(starts, offset);
    const inBreak = /[\r\n]/.test(text[offset - 1] ?? "") && text[offset] === "\n" && text[offset - 1] === "\r";
    if (!inBreak) assert.equal(offsetAt(text, starts, position), offset, `offset ${offset}`);
  }
  assert.equal(offsetAt(text, starts, { line: 0, character: 99 }), 4, "beyond a line is its end");
  assert.equal(offsetAt(text, starts, { line: 99, character: 0 }), text.length);
});

test("edits apply to the text before, in any order, and overlapping ones do not", () => {
  const at = (l1: number, c1: number, l2: number, c2: number, newText: string) => ({
    range: { start: { line: l1, character: c1 }, end: { line: l2, character: c2 } },
    newText,
  });
  assert.equal(applyEdits("one\r\ntwo\r\n", [at(1, 0, 1, 3, "2"), at(0, 0, 0, 1, "O")]), "One\r\n2\r\n");
  assert.equal(applyEdits("abc", [at(0, 0, 0, 2, "x"), at(0, 1, 0, 3, "y")]), null);
  assert.equal(applyEdits("abc", [at(0, 2, 0, 1, "x")]), null);
});

function patch(a: string[], hunks: Hunk[], wanted: (hunk: Hunk) => boolean): string[] {
  const result = [...a];
  for (const hunk of [...hunks].reverse()) if (wanted(hunk)) result.splice(hunk.at, hunk.removed.length, ...hunk.added);
  return result;
}

/** Length of a longest common subsequence by the textbook's table. */
function lcs(a: string[], b: string[]): number {
  const table = Array.from({ length: a.length + 1 }, () => new Array<number>(b.length + 1).fill(0));
  for (let i = 1; i <= a.length; i++)
    for (let j = 1; j <= b.length; j++)
      table[i]![j] = a[i - 1] === b[j - 1] ? table[i - 1]![j - 1]! + 1 : Math.max(table[i - 1]![j]!, table[i]![j - 1]!);
  return table[a.length]![b.length]!;
}

test("a diff is as small as the textbook's, and its hunks lead from the old text to the new one", () => {
  const roll = dice(1);
  for (let round = 0; round < 600; round++) {
    const line = () => "abcd"[roll(4)]!;
    const a = Array.from({ length: roll(14) }, line);
    const b = Array.from({ length: roll(14) }, line);
    assert.equal(matches(a, b).length, lcs(a, b), `${a.join("")} ${b.join("")}`);
    const hunks = diff(a, b);
    assert.deepEqual(patch(a, hunks, () => true), b);
    assert.deepEqual(patch(a, hunks, () => false), a);
    for (const hunk of hunks) assert.deepEqual(b.slice(hunk.newAt, hunk.newAt + hunk.added.length), hunk.added);
  }
});

test("texts with nothing in common are one hunk, quickly, however long", () => {
  const a = Array.from({ length: 15_000 }, (_, i) => `a${i}`);
  const b = Array.from({ length: 15_000 }, (_, i) => `b${i}`);
  assert.equal(diff(["x", ...a, "y"], ["x", ...b, "y"]).length, 1);
});

test("while an edit is written, what it has not reached stands unchanged", () => {
  const old = ["fn a() {", "    one();", "}", "", "fn b() {", "    two();", "}"];
  assert.deepEqual(merged(old, []), old);
  assert.deepEqual(merged(old, ["fn a() {"]), old);
  // A changed line replaces the one at its place, before anything tells otherwise.
  assert.deepEqual(merged(old, ["fn a() {", "    uno();"]), ["fn a() {", "    uno();", ...old.slice(2)]);
  // The lone bracket is not taken for the last one of the file.
  assert.deepEqual(merged(old, ["fn a() {", "    uno();", "    dos();", "}"]).slice(4), old.slice(4));
  // An inserted line: the old ones come again after the next match.
  assert.deepEqual(merged(old, ["// new", "fn a() {"]), ["// new", ...old]);
  assert.deepEqual(merged(old, old), old);
});

test("an edit of a selection changes nothing beyond it", () => {
  const old = ["a", "b", "c", "d", "e"];
  const now = ["A", "b", "C", "d", "E", "f"];
  assert.deepEqual(within(old, now, 0, 4), now);
  assert.deepEqual(within(old, now, 1, 3), ["a", "b", "C", "d", "e"]);
  assert.deepEqual(within(old, ["a", "b", "new", "c", "d", "e"], 2, 2), ["a", "b", "new", "c", "d", "e"], "before the selection");
  assert.deepEqual(within(old, ["a", "b", "c", "new", "d", "e"], 2, 2), ["a", "b", "c", "new", "d", "e"], "after it");
  assert.deepEqual(within(old, ["new", ...old], 2, 2), old);
  assert.deepEqual(within(old, [...old, "new"], 2, 3), old);
});

test("what is shown at last is what was written", () => {
  const roll = dice(2);
  for (let round = 0; round < 200; round++) {
    const a = Array.from({ length: 1 + roll(12) }, () => `line ${roll(9)}`);
    const b = a.flatMap((l) => (roll(5) === 0 ? [] : roll(5) === 0 ? [l, `new ${roll(9)}`] : [l]));
    for (let n = 0; n <= b.length; n++) assert.deepEqual(merged(a, b.slice(0, n)).slice(0, n), b.slice(0, n));
  }
});

test("hunks move with what is typed above them and belong to the user once touched", () => {
  const piece = { line: 10, lines: 3, removed: ["x"] };
  const change = (from: number, to: number, breaks: number, wholeLines = false) =>
    shift(piece, { from, to, breaks, wholeLines })?.line ?? null;
  assert.equal(change(3, 3, 0), 10);
  assert.equal(change(3, 3, 2), 12);
  assert.equal(change(3, 5, 0), 8);
  assert.equal(change(13, 13, 5), 10, "below");
  assert.equal(change(11, 11, 0), null, "inside");
  assert.equal(change(9, 10, 0), null, "joined with the line above");
  assert.equal(change(9, 10, 0, true), 9, "the line above was deleted");
  assert.equal(change(10, 10, 1, true), 11, "a line was put before it");
  assert.equal(change(12, 13, 0, true), null, "its last line was deleted");
});

test("lines are the same for every line end", () => {
  assert.deepEqual(toLines("a\r\nb\rc\n"), ["a", "b", "c", ""]);
});

test("words and lines taken from a suggestion are told apart from typing", () => {
  const accepts = new Accepts();
  const show = () => accepts.show("file:a", 10, "let x = 1;\n    let y = 2;");
  show();
  assert.equal(accepts.changed("file:a", 10, 0, "l"), null, "typed through");
  assert.equal(accepts.changed("file:a", 11, 0, "et"), "word");
  assert.equal(accepts.changed("file:a", 13, 0, " x = 1;"), "line", "up to the line's end");
  assert.equal(accepts.changed("file:a", 20, 0, "\n    let y = 2;"), null, "all of the rest: the editor says so itself");
  show();
  assert.equal(accepts.changed("file:a", 10, 0, "if"), null, "something else");
  assert.equal(accepts.changed("file:a", 10, 0, "let"), null, "and then it is gone");
  show();
  assert.equal(accepts.changed("file:b", 10, 0, "let"), null, "another file");
  assert.equal(accepts.changed("file:a", 10, 3, "let"), null, "replaced something");
});

test("events are found however the stream is cut", () => {
  const stream = 'data: {"a":1}\n\n: comment\r\ndata:[DONE]\r\n\r\ndata: last\n';
  for (let size = 1; size < stream.length; size++) {
    const events = new Events();
    const got: string[] = [];
    for (let i = 0; i < stream.length; i += size) got.push(...events.push(stream.slice(i, i + size)));
    assert.deepEqual(got, ['{"a":1}', "[DONE]", "last"], `pieces of ${size}`);
  }
});

test("old turns are left out of a long chat, never the question", () => {
  const user = (content: string) => ({ role: "user" as const, content });
  const model = (content: string) => ({ role: "assistant" as const, content });
  const chat = [{ role: "system" as const, content: "s" }, user("1111"), model("2222"), user("3333"), model("4444"), user("5555")];
  assert.deepEqual(fitting(chat, 1000), chat);
  assert.deepEqual(fitting(chat, 13).map((m) => m.content), ["s", "3333", "4444", "5555"]);
  assert.deepEqual(fitting(chat, 12).map((m) => m.content), ["s", "5555"], "an answer without its question is no beginning");
  assert.deepEqual(fitting(chat, 2).map((m) => m.content), ["s", "5555"]);
});

test("the program is looked for in order, never in the opened folder", () => {
  const where = { setting: "", path: "/usr/bin::.:rel/bin:/opt/bin", home: "/h", extension: "/ext", windows: false };
  assert.deepEqual(candidates(where), ["/usr/bin/vonk", "/opt/bin/vonk", "/h/.cargo/bin/vonk", "/ext/bin/vonk"]);
  assert.deepEqual(candidates({ ...where, setting: "/my/vonk" }), ["/my/vonk"]);
  assert.deepEqual(candidates({ ...where, setting: "./vonk" }), [], "a relative path would be the folder's choice");
});

test("progress lines are understood and others are not", () => {
  assert.equal(percent('{"done":50,"total":200}'), 25);
  for (const line of ["trying the hub", "{", '{"done":5,"total":0}', '{"done":9,"total":3}', "{}"]) assert.equal(percent(line), null);
});

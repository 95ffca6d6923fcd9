// The packed extension in a real VS Code (code-server) that a real browser drives: install, open a project, type, see ghost
// text, take it, edit by instruction, undo, chat. Without --program a stand-in answers, whose words are known, so more can be
// checked; with --program it is the real vonk, and the server at --url.
//
//   node real.mjs --host FOLDER --vsix FILE [--program VONK --url URL] [--shots FOLDER] [--latency KEYS]
//
// --latency measures instead: how long after a key its character is on the page, with the extension and without it, in turn.
//
// FOLDER is what host/install.sh made. Everything else lives in a temporary folder.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createServer as createSocket } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values: args } = parseArgs({
  options: {
    host: { type: "string" },
    vsix: { type: "string" },
    program: { type: "string" },
    url: { type: "string" },
    shots: { type: "string" },
    only: { type: "string" },
    latency: { type: "string" },
  },
});
const here = dirname(fileURLToPath(import.meta.url));
const host = resolve(args.host);
const puppeteer = createRequire(join(host, "package.json"))("puppeteer-core");
const isReal = args.program !== undefined;
/** A cold start of the editor, or of a model on a busy machine, may take this long. */
const LONG_MS = 120_000;
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

const AREA = "fn area(width: u32, height: u32) -> u32 {";
const SUM = "fn sum(list: &[u32]) -> u32 {\n    let mut total = 0;\n    for x in list {\n        total += x;\n    }\n    total\n}\n";
const TWO = "fn one() {\n    let a = 1;\n    print(a);\n}\n\nfn two() {\n    let b = 2;\n    print(b);\n}\n";
const FILES = {
  "area.rs": `${AREA}\n`,
  "sum.rs": SUM,
  "two.rs": TWO,
  "names.rs": "fn f(old_name: u32) {}\n\n\n\n// end\n",
  "rename.rs": "fn old_name() {}\n\n\n\nfn g() {\n    old_name();\n}\n",
};

const work = mkdtempSync(join(tmpdir(), "vonk-editor-"));
const project = join(work, "project");
const ends = [];
const passed = [];
/** What a step says that needs to know the answers beforehand. */
const NOT_REAL = "left out";

function setUp() {
  mkdirSync(project);
  for (const [name, text] of Object.entries(FILES)) writeFileSync(join(project, name), text);
  if (args.only && !args.only.startsWith("the first")) writeFileSync(join(work, "pulled"), "");
  const user = join(work, "data", "User");
  mkdirSync(user, { recursive: true });
  const settings = {
    "vonk.path": program(),
    "vonk.url": args.url ?? "",
    "editor.autoClosingBrackets": "never",
    "editor.minimap.enabled": false,
    "editor.quickSuggestions": { other: "off", comments: "off", strings: "off" },
    "files.autoSave": "off",
    "security.workspace.trust.startupPrompt": "never",
    "security.workspace.trust.untrustedFiles": "open",
    "telemetry.telemetryLevel": "off",
    "workbench.startupEditor": "none",
    "workbench.tips.enabled": false,
  };
  writeFileSync(join(user, "settings.json"), JSON.stringify(settings));
}

/** The program that the extension starts. */
function program() {
  if (isReal) return resolve(args.program);
  const file = join(work, "vonk");
  const script = [
    "#!/bin/sh",
    `case "$1" in`,
    `models) [ -e '${work}/pulled' ] && path='"here"' || path=null`,
    `  echo '[{"name":"stand-in","description":"","bytes":500000000,"path":'$path',"is_default":true}]';;`,
    `pull) for n in 10 40 70 100; do echo '{"done":'$n',"total":100}' >&2; sleep 1; done; touch '${work}/pulled';;`,
    `*) echo started >>'${work}/started'; exec '${process.execPath}' '${join(here, "..", "out", "stand_in.js")}' "$@";;`,
    "esac",
  ];
  writeFileSync(file, script.join("\n"));
  chmodSync(file, 0o755);
  return file;
}

async function freePort() {
  const socket = createSocket();
  await new Promise((done) => socket.listen(0, "127.0.0.1", done));
  const { port } = socket.address();
  await new Promise((done) => socket.close(done));
  return port;
}

/** Answers the chat in the place of a server: ten words a second until it is left. */
async function standInServer() {
  const server = createServer((request, response) => {
    if (request.url.startsWith("/v1/models")) return response.end(JSON.stringify({ data: [{ id: "stand-in" }] }));
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    const words = ["Here ", "it ", "is:\n", "```rust\n", "fn answer() -> u32 {\n", "    42\n", "}\n", "```\n", "<b>not bold</b> ", ...new Array(600).fill("on ")];
    const timer = setInterval(() => {
      const content = words.shift();
      response.write(`data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`);
    }, 100);
    response.on("close", () => clearInterval(timer));
  });
  const port = await freePort();
  await new Promise((done) => server.listen(port, "127.0.0.1", done));
  ends.push(() => (server.closeAllConnections(), server.close()));
  return `http://127.0.0.1:${port}`;
}

function codeServer(more, env = {}, extensions = "extensions") {
  const entry = join(host, "node_modules", "code-server", "out", "node", "entry.js");
  const folders = ["--user-data-dir", join(work, "data"), "--extensions-dir", join(work, extensions)];
  const all = [entry, "--disable-telemetry", "--disable-update-check", ...folders, ...more];
  return { all, env: { ...process.env, ...env } };
}

async function startEditor(trusted, extensions) {
  const port = await freePort();
  const flags = ["--auth", "none", "--bind-addr", `127.0.0.1:${port}`, ...(trusted ? ["--disable-workspace-trust"] : [])];
  const env = isReal ? {} : { STAND_IN_URL: await standInServer(), STAND_IN_SEEN: join(work, "seen") };
  const { all, env: whole } = codeServer([...flags, project], env, extensions);
  const child = spawn(process.execPath, all, { env: whole, stdio: ["ignore", "pipe", "pipe"], detached: true });
  // Its own process group: it starts others, which would outlive it.
  ends.push(() => process.kill(-child.pid));
  let told = "";
  for (const pipe of [child.stdout, child.stderr]) pipe.setEncoding("utf8").on("data", (text) => (told = (told + text).slice(-4000)));
  const url = `http://127.0.0.1:${port}`;
  for (let begun = Date.now(); Date.now() - begun < LONG_MS; await sleep(200)) {
    if (child.exitCode !== null) throw new Error(`code-server ended: ${told}`);
    if (await fetch(`${url}/healthz`).then((r) => r.ok, () => false)) return url;
  }
  throw new Error(`code-server did not answer: ${told}`);
}

async function startBrowser() {
  const chromium = ["chromium", "chromium-browser", "google-chrome"]
    .map((name) => spawnSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).stdout.trim())
    .find((path) => path);
  assert.ok(chromium, "a Chromium is needed");
  const quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"];
  const flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1100,640", ...quiet];
  const browser = await puppeteer.launch({ executablePath: chromium, headless: true, args: flags, userDataDir: join(work, "browser") });
  ends.push(() => browser.close());
  return browser;
}

/** What a person does in the editor. */
class Hands {
  constructor(page) {
    this.page = page;
    this.keys = page.keyboard;
  }

  async press(chord) {
    const keys = chord.split("+");
    for (const key of keys.slice(0, -1)) await this.keys.down(key);
    await this.keys.press(keys.at(-1));
    for (const key of keys.slice(0, -1).reverse()) await this.keys.up(key);
    await sleep(80);
  }

  /** Waits until `look`, run in the page, finds something. */
  async sees(what, look, ms = 20_000, ...more) {
    try {
      const found = await this.page.waitForFunction(look, { timeout: ms, polling: 50 }, ...more);
      return await found.jsonValue();
    } catch (e) {
      throw new Error(`did not see ${what}: ${e.message}`);
    }
  }

  async command(title) {
    await this.press("F1");
    await this.sees("the palette", () => document.querySelector(".quick-input-widget:not([style*='none']) input"));
    await this.keys.type(title);
    await this.sees(title, (t) => document.querySelector(".quick-input-list .monaco-list-row.focused")?.textContent.includes(t), 20_000, title);
    await this.press("Enter");
  }

  async open(name) {
    await this.press("Control+p");
    await this.sees("quick open", () => document.querySelector(".quick-input-widget:not([style*='none']) input"));
    await this.keys.type(name);
    await this.sees(name, (n) => document.querySelector(".quick-input-list .monaco-list-row.focused")?.textContent.includes(n), 20_000, name);
    await this.press("Enter");
    await this.sees(`${name} open`, (n) => document.querySelector(".tab.active")?.textContent.includes(n), 20_000, name);
    await this.sees("the cursor", () => document.activeElement?.closest(".monaco-editor"));
    await sleep(300);
  }

  /** Saves, and reads what the file holds then. */
  async saved(name) {
    await this.press("Control+s");
    await this.sees("the file saved", () => !document.querySelector(".tab.active.dirty"));
    return readFileSync(join(project, name), "utf8");
  }

  /** The ghost text once it rests: while one answer follows another there are moments without, in which Tab is a tab. */
  async ghost(ms = 20_000) {
    const look = () => [...document.querySelectorAll("[class*=ghost-text]")].map((e) => e.textContent.replaceAll("\u00a0", " ")).join("\n");
    for (let begun = Date.now(), last = "", same = 0; Date.now() - begun < ms; await sleep(100)) {
      const shown = await this.page.evaluate(look);
      same = shown.trim() && shown === last ? same + 1 : 0;
      if (same === 4) return shown;
      last = shown;
    }
    throw new Error("did not see ghost text");
  }

  lens(text, ms = 20_000) {
    return this.sees(`the lens ${text}`, (t) => [...document.querySelectorAll(".codelens-decoration a")].some((a) => a.textContent.includes(t)), ms, text);
  }

  async clickLens(text, n = 0) {
    await this.lens(text);
    const find = (t) =>
      [...document.querySelectorAll(".codelens-decoration a")]
        .filter((a) => a.textContent.includes(t))
        .map((a) => a.getBoundingClientRect())
        .map((box) => ({ x: box.x + box.width / 2, y: box.y + box.height / 2 }))
        .sort((a, b) => a.y - b.y);
    const { x, y } = (await this.page.evaluate(find, text))[n];
    await this.page.mouse.click(x, y);
    await sleep(300);
  }

  noLens() {
    return this.sees("no lens", () => !document.querySelector(".codelens-decoration a"));
  }

  async ask(instruction) {
    await this.command("vonk: Edit selection");
    await this.sees("the input box", () => document.querySelector(".quick-input-title")?.textContent.includes("vonk: edit"));
    await this.press("Control+a");
    await this.keys.type(instruction);
    await this.press("Enter");
  }

  async shot(name) {
    if (!args.shots) return;
    mkdirSync(args.shots, { recursive: true });
    await this.page.screenshot({ path: join(args.shots, `${name}.png`) });
  }
}

/** The frame of the chat: a page within a page within the page. */
async function chatFrame(page) {
  for (let begun = Date.now(); Date.now() - begun < 30_000; await sleep(200)) {
    for (const frame of page.frames()) {
      if (await frame.evaluate(() => !!document.getElementById("log") && !!document.getElementById("send")).catch(() => false)) return frame;
    }
  }
  throw new Error("did not see the chat");
}

const STEPS = {
  async "the first run offers a model, and fetches it with progress"(hands) {
    if (isReal) return NOT_REAL;
    const offer = "Fetch stand-in (500 MB)";
    const button = (t) => [...document.querySelectorAll(".notification-list-item .monaco-button")].find((b) => b.textContent.includes(t));
    await hands.sees("the offer", button, LONG_MS, offer);
    await sleep(300);
    await hands.page.evaluateHandle(button, offer).then((b) => b.click());
    await hands.sees("progress", () => /[1-9]0 %/.test(document.querySelector(".notifications-toasts")?.textContent));
    await hands.shot("vscode-first-run");
    await hands.sees("vonk ready", () => document.querySelector(".statusbar .codicon-zap"), LONG_MS);
  },

  async "ghost text appears, and Tab takes it"(hands) {
    await hands.open("area.rs");
    await hands.sees("vonk in the status bar", () => document.querySelector(".statusbar")?.textContent.includes("vonk"), LONG_MS);
    await hands.sees("vonk ready", () => document.querySelector(".statusbar .codicon-zap"), LONG_MS);
    await hands.press("Control+End");
    await hands.press("ArrowUp");
    await hands.press("End");
    await hands.press("Enter");
    const shown = await hands.ghost(LONG_MS);
    await hands.shot("vscode-ghost");
    await hands.press("Tab");
    const text = await hands.saved("area.rs");
    for (const line of shown.split("\n")) assert.ok(text.includes(line.trim()), `${JSON.stringify(text)} has not ${JSON.stringify(line)}`);
    if (!isReal) assert.equal(text, `${AREA}\n    width * height\n}\n`);
  },

  async "a word is taken, the rest typed through, and the server hears of it"(hands) {
    if (isReal) return NOT_REAL;
    await hands.open("area.rs");
    await hands.press("Control+a");
    await hands.press("Delete");
    await hands.keys.type(AREA);
    await hands.press("Enter");
    await hands.ghost();
    await hands.press("Control+ArrowRight");
    await hands.keys.type(" * he");
    assert.match(await hands.ghost(), /ight/);
    await hands.press("Tab");
    assert.equal(await hands.saved("area.rs"), `${AREA}\n    width * height\n}`);
    await sleep(300);
    const told = readFileSync(join(work, "seen"), "utf8").split("\n").filter((l) => l.startsWith("accepted"));
    assert.deepEqual(told, ["accepted all", "accepted word", "accepted all"]);
  },

  async "an edit grows in the document, and one undo takes it back"(hands) {
    await hands.open("sum.rs");
    await hands.press("Control+a");
    await hands.ask(isReal ? "Rename the variable total to result" : "use an iterator");
    if (!isReal) await hands.sees("the first lines", () => document.querySelector(".view-lines")?.textContent.includes("Sum"), LONG_MS);
    if (!isReal) await hands.shot("vscode-edit-growing");
    await hands.lens("Keep all", LONG_MS);
    await hands.shot("vscode-edit");
    const after = await hands.saved("sum.rs");
    assert.notEqual(after, SUM);
    if (isReal) assert.match(after, /result/);
    if (!isReal) assert.equal(after, "/// Sum of a list.\nfn sum(list: &[u32]) -> u32 {\n    list.iter().sum()\n}\n");
    await hands.press("Control+z");
    await hands.noLens();
    assert.equal(await hands.saved("sum.rs"), SUM);
  },

  async "hunks are kept and taken back one by one"(hands) {
    if (isReal) return NOT_REAL;
    await hands.open("sum.rs");
    await hands.press("Control+a");
    await hands.ask("use an iterator");
    await hands.lens("Keep all");
    await hands.clickLens("Take back", 1);
    assert.equal(await hands.saved("sum.rs"), `/// Sum of a list.\n${SUM}`);
    await hands.clickLens("Keep", 0);
    await hands.noLens();
    await hands.press("Control+z");
    await hands.press("Control+z");
    assert.equal(await hands.saved("sum.rs"), SUM);
  },

  async "Escape stops an edit and leaves the text as it was"(hands) {
    await hands.open("sum.rs");
    await hands.press("Control+a");
    await hands.ask("rewrite it");
    if (!isReal) await hands.sees("the first lines", () => document.querySelector(".view-lines")?.textContent.includes("Sum"));
    await hands.press("Control+End");
    await hands.press("Escape");
    await hands.noLens();
    await sleep(1000);
    assert.equal(await hands.saved("sum.rs"), SUM);
  },

  async "an edit that fails says why and changes nothing"(hands) {
    if (isReal) return NOT_REAL;
    await hands.open("sum.rs");
    await hands.ask("fail");
    await hands.sees("the reason", () => document.querySelector(".notifications-toasts")?.textContent.includes("the model broke off"));
    assert.equal(await hands.saved("sum.rs"), SUM);
    await hands.command("Notifications: Clear All Notifications");
  },

  async "Tab goes to the next edit and then applies it"(hands) {
    if (isReal) return NOT_REAL;
    await hands.open("names.rs");
    await hands.press("Control+End");
    await hands.keys.type("x");
    await hands.sees("the mark", () => [...document.querySelectorAll(".view-lines span")].some((e) => getComputedStyle(e, "::after").content.includes("new_name")));
    await hands.shot("vscode-next-edit");
    await hands.press("Tab");
    assert.ok(!(await hands.saved("names.rs")).includes("new_name"), "the first Tab only goes there");
    await hands.press("Tab");
    assert.equal((await hands.saved("names.rs")).split("\n")[0], "fn f(new_name: u32) {}");
  },

  async "a rename goes on where the name is used"(hands) {
    if (!isReal) return NOT_REAL;
    await hands.open("rename.rs");
    await hands.press("Control+Home");
    for (let i = 0; i < 3; i++) await hands.press("ArrowRight");
    for (let i = 0; i < 8; i++) await hands.press("Shift+ArrowRight");
    await hands.keys.type("new_name");
    await hands.sees("the mark", () => [...document.querySelectorAll(".view-lines span")].some((e) => getComputedStyle(e, "::after").content.includes("new_name")));
    await hands.shot("vscode-next-edit");
    // By command: where ghost text stands beside the cursor, Tab takes that first.
    await hands.command("vonk: Jump to the next edit");
    assert.ok((await hands.saved("rename.rs")).includes("old_name();"), "the first time only goes there");
    await hands.command("vonk: Jump to the next edit");
    assert.equal(await hands.saved("rename.rs"), "fn new_name() {}\n\n\n\nfn g() {\n    new_name();\n}\n");
  },

  async "the chat streams, stops, and draws text as text"(hands) {
    await hands.command("vonk: Open chat");
    const frame = await chatFrame(hands.page);
    await frame.focus("#text");
    await hands.keys.type("Write a function that returns 42 in Rust");
    await hands.press("Enter");
    const see = (look, ms = LONG_MS) => frame.waitForFunction(look, { timeout: ms, polling: 100 });
    await see(() => document.querySelector(".turn.model .code pre"));
    if (!isReal) await see(() => document.querySelector(".turn.model").textContent.includes("<b>not bold</b> on"));
    if (!isReal) await hands.shot("vscode-chat");
    if (!isReal) await frame.click("#stop");
    await see(() => document.getElementById("stop").hidden && /tok\/s/.test(document.getElementById("note").textContent));
    if (isReal) await hands.shot("vscode-chat");
    if (!isReal) assert.match(await frame.$eval("#note", (e) => e.textContent), /^stopped/);
    assert.equal(await frame.$$eval(".turn b", (all) => all.length), 0);
    const error = await frame.evaluate(() => fetch("https://example.invalid/").then(() => "", (e) => String(e)));
    assert.ok(error, "the page has no network");
    const code = await frame.$eval(".turn.model .code pre", (e) => e.textContent);
    await hands.open("two.rs");
    await hands.press("Control+a");
    await frame.evaluate(() => document.querySelector(".turn.model .code button").click());
    await sleep(1000);
    assert.equal(await hands.saved("two.rs"), code);
  },
};

/** Types code at ten keys a second; milliseconds from each key to the first change of the text on the page. */
async function keyTimes(browser, extensions, nKeys) {
  const page = await browser.newPage();
  await page.setViewport({ width: 1100, height: 640 });
  const hands = new Hands(page);
  await page.goto(`${await startEditor(true, extensions)}/?folder=${encodeURIComponent(project)}`, { timeout: LONG_MS });
  await hands.sees("the editor", () => document.querySelector(".monaco-workbench .explorer-folders-view"), LONG_MS);
  await hands.open("typed.rs");
  if (extensions) await sleep(1000);
  else await hands.sees("vonk ready", () => document.querySelector(".statusbar .codicon-zap"), LONG_MS);
  await page.evaluate(() => {
    let at = 0;
    window.keyTimes = [];
    window.addEventListener("keydown", () => (at = performance.now()), true);
    const seen = () => at && window.keyTimes.push(performance.now() - at) && (at = 0);
    new MutationObserver(seen).observe(document.querySelector(".monaco-editor .view-lines"), { childList: true, subtree: true, characterData: true });
  });
  let suggested = 0;
  for (let i = 0; i < nKeys; i++) {
    await hands.keys.type(SUM[i % SUM.length] === "\n" ? "\r" : SUM[i % SUM.length]);
    await sleep(100);
    if (i % 10 === 0) suggested += await page.evaluate(() => (document.querySelector("[class*=ghost-text]") ? 1 : 0));
  }
  // The first keys find everything cold.
  const times = (await page.evaluate(() => window.keyTimes)).slice(20).sort((a, b) => a - b);
  await page.close();
  ends.pop()(); // the editor
  return { times, suggested };
}

async function latency(browser, nKeys) {
  const all = { with: [], without: [] };
  let suggested = 0;
  for (let round = 0; round < 2; round++) {
    for (const side of ["with", "without"]) {
      writeFileSync(join(project, "typed.rs"), "");
      const seen = await keyTimes(browser, side === "with" ? undefined : "none", nKeys);
      all[side].push(...seen.times);
      suggested += seen.suggested;
    }
  }
  const at = (times, q) => times.sort((a, b) => a - b)[Math.floor((times.length - 1) * q)].toFixed(1);
  for (const side of ["with", "without"]) {
    console.log(`${side} the extension: ${all[side].length} keys, ms to the character on the page p50 ${at(all[side], 0.5)} p95 ${at(all[side], 0.95)} p99 ${at(all[side], 0.99)}`);
  }
  console.log(`ghost text was there at ${suggested} of ${(2 * nKeys) / 10} looks`);
}

async function main() {
  setUp();
  const install = codeServer(["--install-extension", resolve(args.vsix)]);
  const installed = spawnSync(process.execPath, install.all, { env: install.env, encoding: "utf8" });
  assert.equal(installed.status, 0, `${installed.stdout}${installed.stderr}`);
  const browser = await startBrowser();
  if (args.latency) return latency(browser, Number(args.latency));
  if (!isReal) await untrusted(browser);
  const page = await browser.newPage();
  await page.setViewport({ width: 1100, height: 640 });
  const hands = new Hands(page);
  await page.goto(`${await startEditor(true)}/?folder=${encodeURIComponent(project)}`, { timeout: LONG_MS });
  await hands.sees("the editor", () => document.querySelector(".monaco-workbench .explorer-folders-view"), LONG_MS);
  for (const [name, step] of Object.entries(STEPS)) {
    if (args.only && !name.includes(args.only)) continue;
    const begun = Date.now();
    try {
      if ((await step(hands)) === NOT_REAL) continue;
    } catch (e) {
      await hands.page.screenshot({ path: join(tmpdir(), "vonk-editor-failed.png") });
      console.log(`not ok: ${name}`);
      throw e;
    }
    passed.push(name);
    console.log(`ok: ${name} (${((Date.now() - begun) / 1000).toFixed(1)} s)`);
  }
}

/** A folder that is not trusted: the extension does not run, so the program was never started. */
async function untrusted(browser) {
  const page = await browser.newPage();
  const hands = new Hands(page);
  await page.goto(`${await startEditor(false)}/?folder=${encodeURIComponent(project)}`, { timeout: LONG_MS });
  await hands.sees("restricted mode", () => document.querySelector(".statusbar")?.textContent.includes("Restricted Mode"), LONG_MS);
  await sleep(5000);
  assert.ok(!existsSync(join(work, "started")), "the program was started in a folder that is not trusted");
  await page.close();
  passed.push("untrusted");
  console.log("ok: nothing is started in a folder that is not trusted");
}

let failure = null;
try {
  await main();
} catch (e) {
  failure = e;
}
for (const end of ends.reverse()) await Promise.resolve().then(end).catch(() => {});
await sleep(500);
rmSync(work, { recursive: true, force: true, maxRetries: 5 });
if (failure) console.error(failure);
console.log(`${passed.length} passed, ${failure ? 1 : 0} failed`);
process.exit(failure ? 1 : 0);

// The set-up of docs/editor.md in a real Neovim 0.12, headless: keys go in, ghost text comes, Tab takes it.
//
//   node run.mjs --nvim PATH [--program VONK --url URL]
//
// Without --program the stand-in of the VS Code extension's tests answers (editors/vscode/out, made by its `npm test`).

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const options = { nvim: { type: "string" }, program: { type: "string" }, url: { type: "string" } };
const { values: args } = parseArgs({ options });
const here = dirname(fileURLToPath(import.meta.url));
const work = mkdtempSync(join(tmpdir(), "vonk-nvim-"));
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const nvim = resolve(args.nvim);
const socket = join(work, "socket");
const file = join(work, "area.rs");
const AREA = "fn area(width: u32, height: u32) -> u32 {";

function program() {
  const vonk = join(work, "vonk");
  if (args.program) return symlinkSync(resolve(args.program), vonk);
  writeFileSync(vonk, `#!/bin/sh\nexec '${process.execPath}' '${join(here, "../../vscode/out/stand_in.js")}' "$@"\n`);
  chmodSync(vonk, 0o755);
}

function remote(...what) {
  const done = spawnSync(nvim, ["--clean", "--headless", "--server", socket, ...what], { encoding: "utf8", timeout: 10_000 });
  return (done.stdout || done.stderr).trim();
}

const keys = (text) => remote("--remote-send", text);
const lua = (code) => remote("--remote-expr", `luaeval('${code.replaceAll("'", "''")}')`);

async function until(what, look, ms) {
  for (let begun = Date.now(); Date.now() - begun < ms; await sleep(100)) {
    const found = await look();
    if (found) return found;
  }
  throw new Error(`did not see ${what}`);
}

/** The ghost text on the screen: what the marks of Neovim's inline completion hold. */
function ghost() {
  const marks = lua(
    "vim.json.encode(vim.api.nvim_buf_get_extmarks(0, vim.api.nvim_create_namespace('nvim.lsp.inline_completion'), 0, -1, {details = true}))",
  );
  const details = JSON.parse(marks || "[]").map((m) => m[3]);
  const lines = details.flatMap((d) => [d.virt_text ?? [], ...(d.virt_lines ?? [])]);
  return lines.map((chunks) => chunks.map(([text]) => text).join("")).join("\n").trimEnd();
}

async function main(child) {
  await until("Neovim", () => existsSync(socket), 10_000);
  await until("the language server", () => lua("#vim.lsp.get_clients({name = 'vonk'})") === "1", 30_000);
  keys("Go");
  const shown = await until("ghost text", ghost, 120_000);
  console.log(`ghost text: ${JSON.stringify(shown)}`);
  keys("<Tab>");
  await sleep(500);
  keys("<Esc>:w<CR>");
  await sleep(500);
  const text = readFileSync(file, "utf8");
  assert.ok(text.startsWith(`${AREA}\n`), text);
  for (const line of shown.split("\n")) assert.ok(text.includes(line.trim()), `${JSON.stringify(text)} has not ${JSON.stringify(line)}`);
  if (!args.program) assert.equal(text.trimEnd(), `${AREA}\n    width * height\n}`);
  keys(":qa!<CR>");
  await until("the end", () => child.exitCode !== null, 10_000);
}

program();
writeFileSync(file, `${AREA}\n`);
const environment = { ...process.env, PATH: `${work}:${process.env.PATH}`, XDG_STATE_HOME: work, XDG_DATA_HOME: work, XDG_CONFIG_HOME: work };
if (args.url) environment.VONK_URL = args.url;
const guide = readFileSync(join(here, "../../../docs/editor.md"), "utf8");
const init = join(work, "init.lua");
writeFileSync(init, guide.match(/## Neovim[\s\S]*?```lua\n([\s\S]*?)```/)[1]);
// `--clean` leaves out the user's own files and takes these.
const child = spawn(nvim, ["--clean", "--headless", "--listen", socket, "-u", init, file], { env: environment, cwd: work, stdio: ["ignore", "ignore", "ignore"] });
let failure = null;
try {
  await main(child);
} catch (e) {
  failure = e;
  if (existsSync(socket)) console.error(remote("--remote-expr", "execute('messages')"));
}
child.kill();
rmSync(work, { recursive: true, force: true, maxRetries: 5 });
if (failure) console.error(failure);
console.log(`${failure ? 0 : 1} passed, ${failure ? 1 : 0} failed`);
process.exit(failure ? 1 : 0);

// The chat view. The web page only draws; this side asks the server, so the page needs no network and gets none (see its CSP).
// Model output reaches the page as text, never as HTML.

import { randomBytes } from "node:crypto";
import * as vscode from "vscode";
import type { Client } from "./client";
import { config } from "./config";
import { apiKey } from "./models";
import { fitting, type Message, stream } from "./sse";

const SYSTEM = "You are a programming assistant inside an editor. Be brief. Put code in fenced blocks.";
/** UTF-16 units of a selection that go along with a question. */
const SELECTION_CHARS_MAX = 16 * 1024;

type FromPage =
  | { type: "ask"; text: string; withSelection: boolean }
  | { type: "stop" | "clear" | "ready" }
  | { type: "insert" | "copy"; text: string };

export class Chat implements vscode.WebviewViewProvider, vscode.Disposable {
  private view: vscode.WebviewView | null = null;
  private messages: Message[] = [];
  /** The answer that is coming, as far as it is said. */
  private running: { stop: AbortController; said: string } | null = null;
  private parts: vscode.Disposable[];

  constructor(
    private readonly client: Client,
    private readonly folder: vscode.Uri,
  ) {
    this.parts = [
      vscode.window.registerWebviewViewProvider("vonk.chat", this, { webviewOptions: { retainContextWhenHidden: true } }),
      vscode.commands.registerCommand("vonk.chat.open", () => vscode.commands.executeCommand("vonk.chat.focus")),
      vscode.window.onDidChangeTextEditorSelection(() => this.tellSelection()),
    ];
  }

  dispose(): void {
    this.interrupt();
    this.parts.forEach((p) => p.dispose());
  }

  resolveWebviewView(view: vscode.WebviewView): void {
    this.view = view;
    const media = vscode.Uri.joinPath(this.folder, "media");
    view.webview.options = { enableScripts: true, localResourceRoots: [media] };
    view.webview.html = page(view.webview, media);
    view.webview.onDidReceiveMessage((m: FromPage) => this.heard(m));
    view.onDidDispose(() => {
      this.view = null;
      this.interrupt();
    });
  }

  private async heard(message: FromPage): Promise<void> {
    switch (message.type) {
      case "ask":
        return this.ask(String(message.text), message.withSelection === true);
      case "stop":
        return this.running?.stop.abort();
      case "clear":
        this.interrupt();
        this.messages = [];
        return;
      case "copy":
        return vscode.env.clipboard.writeText(String(message.text));
      case "insert":
        return insert(String(message.text));
      case "ready":
        return this.tellSelection();
    }
  }

  private async ask(text: string, withSelection: boolean): Promise<void> {
    this.interrupt();
    const running = { stop: new AbortController(), said: "" };
    this.running = running;
    const selection = withSelection ? selected() : null;
    this.messages.push({ role: "user", content: selection ? `${text}\n\n${selection.block}` : text });
    const body = {
      model: config().model || "default",
      messages: [{ role: "system", content: SYSTEM }, ...fitting(this.messages)],
    };
    const send = (message: object) => running === this.running && void this.view?.webview.postMessage(message);
    send({ type: "begin" });
    try {
      const onText = (delta: string) => {
        running.said += delta;
        send({ type: "text", delta });
      };
      const url = await this.client.url();
      const { figures } = await stream({ url, key: apiKey(), body, signal: running.stop.signal, onText });
      const ends = figures.finish === "stopped" ? "stopped · " : figures.finish === "length" ? "cut at the length limit · " : "";
      send({ type: "end", note: `${ends}${figures.ttftMs.toFixed(0)} ms to the first token · ${figures.tps.toFixed(0)} tok/s` });
    } catch (e) {
      send({ type: "end", error: reason(e) });
    }
    if (running === this.running) this.interrupt();
  }

  /** Ends the answer that is coming, if any; what was said stays in the history. */
  private interrupt(): void {
    const running = this.running;
    this.running = null;
    running?.stop.abort();
    if (running?.said) this.messages.push({ role: "assistant", content: running.said });
  }

  private tellSelection(): void {
    if (this.view?.visible) void this.view.webview.postMessage({ type: "selection", label: selected()?.label ?? "" });
  }
}

function selected(): { label: string; block: string } | null {
  const editor = vscode.window.activeTextEditor;
  if (!editor || editor.selection.isEmpty) return null;
  const { document, selection } = editor;
  const name = vscode.workspace.asRelativePath(document.uri);
  const text = document.getText(selection).slice(0, SELECTION_CHARS_MAX);
  const label = `${name}:${selection.start.line + 1}-${selection.end.line + 1}`;
  return { label, block: `${label}\n\`\`\`${document.languageId}\n${text}\n\`\`\`` };
}

async function insert(text: string): Promise<void> {
  const editor = vscode.window.activeTextEditor ?? vscode.window.visibleTextEditors[0];
  if (!editor) return void vscode.window.showInformationMessage("vonk: no editor is open.");
  await editor.edit((b) => editor.selections.forEach((s) => b.replace(s, text)));
  await vscode.window.showTextDocument(editor.document, { viewColumn: editor.viewColumn ?? vscode.ViewColumn.One });
}

function reason(e: unknown): string {
  const cause = e instanceof Error && e.cause instanceof Error ? ` (${e.cause.message})` : "";
  return `${e instanceof Error ? e.message : String(e)}${cause}`;
}

function page(webview: vscode.Webview, media: vscode.Uri): string {
  const nonce = randomBytes(16).toString("base64");
  const at = (name: string) => webview.asWebviewUri(vscode.Uri.joinPath(media, name)).toString();
  const csp = `default-src 'none'; style-src ${webview.cspSource}; script-src 'nonce-${nonce}'; form-action 'none'; base-uri 'none'`;
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${csp}">
<link rel="stylesheet" href="${at("chat.css")}">
<title>vonk</title>
</head>
<body>
<main id="log" role="log" aria-live="polite"></main>
<form id="form">
<textarea id="text" rows="3" aria-label="Question" placeholder="Ask (Enter sends, Shift+Enter breaks the line)"></textarea>
<div id="bar">
<label id="with" hidden><input type="checkbox" id="selection" checked><span id="selected"></span></label>
<span id="note"></span>
<button type="button" id="clear" class="quiet">Clear</button>
<button type="button" id="stop" hidden>Stop</button>
<button type="submit" id="send">Send</button>
</div>
</form>
<script nonce="${nonce}" src="${at("chat.js")}"></script>
</body>
</html>`;
}

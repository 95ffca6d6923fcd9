// The language server as the rest of the extension sees it: documents kept in step, requests, and what the server tells.

import * as vscode from "vscode";
import { config } from "./config";
import { DOCUMENT_CHARS_MAX } from "./limits";
import type { Range, TextEdit } from "./positions";
import type { Cancel, Connection } from "./rpc";
import { Server } from "./server";

/** Documents that the server is shown. */
export const SELECTOR: vscode.DocumentSelector = [{ scheme: "file" }, { scheme: "untitled" }];

/** Work of this length is shown as such; shorter, and the status bar would flicker at each key. */
const BUSY_MS = 250;
/** Requests that a model works on. */
const WORK = ["textDocument/inlineCompletion", "vonk/edit"];

/** How it stands with the language server and the server behind it. */
export interface Status {
  state: "off" | "starting" | "loading" | "idle" | "busy" | "error";
  model?: string;
  url?: string;
  ttft_ms?: number;
  tps?: number;
  message?: string;
}

export class Client implements vscode.Disposable {
  private server: Server | null = null;
  private open = new Set<string>();
  private parts: vscode.Disposable[] = [];
  private statusChanged = new vscode.EventEmitter<Status>();
  private nextToken = 1;
  private progress = new Map<string, (value: any) => void>();
  readonly onStatus = this.statusChanged.event;
  status: Status = { state: "off" };
  capabilities: Record<string, unknown> | null = null;
  /** Takes edits that the server asks for while an edit session runs; without one they are applied as they come. */
  applyEdit: ((edit: vscode.WorkspaceEdit) => Promise<boolean>) | null = null;

  constructor(
    private readonly log: vscode.LogOutputChannel,
    private readonly version: string,
  ) {
    const { workspace } = vscode;
    this.parts.push(
      this.statusChanged,
      workspace.onDidOpenTextDocument((d) => this.didOpen(d)),
      workspace.onDidCloseTextDocument((d) => this.didClose(d)),
      workspace.onDidChangeTextDocument((e) => this.didChange(e)),
      workspace.onDidSaveTextDocument((d) => this.has(d) && this.server?.notify("textDocument/didSave", { textDocument: id(d) })),
    );
  }

  /** Starts the program, or another one than before. */
  async start(program: string): Promise<void> {
    await this.server?.stop();
    this.tell({ state: "starting" });
    const folder = vscode.workspace.workspaceFolders?.[0]?.uri;
    this.server = new Server({
      command: program,
      args: programArgs(),
      ...(folder?.scheme === "file" ? { cwd: folder.fsPath } : {}),
      initialize: () => this.initializeParams(),
      log: (line) => this.log.info(line),
      wire: (connection) => this.wire(connection),
      ready: (capabilities, why) => this.ready(capabilities, why),
    });
    this.server.start();
  }

  async stop(): Promise<void> {
    await this.server?.stop();
    this.server = null;
    this.tell({ state: "off" });
  }

  dispose(): void {
    void this.server?.stop();
    this.parts.forEach((p) => p.dispose());
  }

  request<T>(method: string, params: unknown, cancel?: Cancel): Promise<T> {
    const asked = this.server?.request<T>(method, params, cancel) ?? Promise.reject(new Error("vonk is not running"));
    return WORK.includes(method) ? this.working(asked) : asked;
  }

  /** Address of the server that answers, which is found or started now if need be. */
  async url(): Promise<string> {
    const url = config().url || this.status.url || (await this.findServer());
    return url.replace(/\/+(v1\/*)?$/, "");
  }

  notify(method: string, params: unknown): void {
    this.server?.notify(method, params);
  }

  /** The server knows the document. */
  has(document: vscode.TextDocument): boolean {
    return this.open.has(document.uri.toString());
  }

  /** A token under which the server reports, for the time that `during` takes. */
  async reporting<T>(listener: (value: any) => void, during: (token: string) => Promise<T>): Promise<T> {
    const token = `vonk-${this.nextToken++}`;
    this.progress.set(token, listener);
    try {
      return await during(token);
    } finally {
      this.progress.delete(token);
    }
  }

  private async working<T>(asked: Promise<T>): Promise<T> {
    const late = setTimeout(() => this.status.state === "idle" && this.tell({ ...this.status, state: "busy" }), BUSY_MS);
    try {
      return await asked;
    } finally {
      clearTimeout(late);
      if (this.status.state === "busy") this.tell({ ...this.status, state: "idle" });
    }
  }

  private async findServer(): Promise<string> {
    const found = await this.request<{ url: string; model: string }>("vonk/server", {});
    this.tell({ ...this.status, state: "idle", url: found.url, model: found.model });
    return found.url;
  }

  private initializeParams(): object {
    const folders = (vscode.workspace.workspaceFolders ?? []).map((f) => ({ uri: f.uri.toString(), name: f.name }));
    return {
      processId: process.pid,
      clientInfo: { name: "vonk for VS Code", version: this.version },
      rootUri: folders[0]?.uri ?? null,
      workspaceFolders: folders,
      capabilities: {
        general: { positionEncodings: ["utf-16"] },
        textDocument: { synchronization: { didSave: true }, inlineCompletion: {} },
        workspace: { applyEdit: true, workspaceEdit: { documentChanges: true }, workspaceFolders: true },
        window: { workDoneProgress: true },
      },
    };
  }

  private wire(connection: Connection): void {
    connection.onNotification("vonk/status", (s) => this.told(s));
    connection.onNotification("$/progress", ({ token, value }) => this.progress.get(String(token))?.(value));
    connection.onNotification("window/logMessage", ({ message }) => this.log.info(String(message)));
    connection.onNotification("window/showMessage", ({ type, message }) => show(type, String(message)));
    connection.onRequest("window/workDoneProgress/create", () => null);
    connection.onRequest("client/registerCapability", () => null);
    connection.onRequest("workspace/applyEdit", async ({ edit }) => {
      const wanted = toWorkspaceEdit(edit);
      const applied = await (this.applyEdit?.(wanted) ?? vscode.workspace.applyEdit(wanted));
      return { applied };
    });
  }

  private ready(capabilities: Record<string, unknown> | null, why?: string): void {
    this.capabilities = capabilities;
    this.open.clear();
    if (!capabilities) {
      this.tell(why ? { state: "error", message: why } : { state: this.server ? "starting" : "off" });
      return;
    }
    this.tell({ state: "loading" });
    vscode.workspace.textDocuments.forEach((d) => this.didOpen(d));
    // Now rather than at the first key: a server that must be started takes its second.
    this.findServer().catch((e) => {
      this.log.warn(`no server: ${e.message}`);
      this.tell({ ...this.status, state: "error", message: String(e.message) });
    });
  }

  /** The language server's own words for its states are fewer. */
  private told({ state, error, model, tps, ttft_ms }: { state: string; error?: string; model?: string; tps?: number; ttft_ms?: number }): void {
    const { url } = this.status;
    const isBusy = this.status.state === "busy";
    // "starting" is what it says until a suggestion was asked for, also when its server is found.
    const ours = state === "offline" ? "error" : state === "starting" && !url ? "loading" : isBusy ? "busy" : "idle";
    this.tell({
      state: ours,
      ...(url ? { url } : {}),
      ...(model ? { model } : {}),
      ...(tps ? { tps } : {}),
      ...(ttft_ms ? { ttft_ms } : {}),
      ...(error ? { message: error } : {}),
    });
  }

  private tell(status: Status): void {
    this.status = status;
    this.statusChanged.fire(status);
  }

  private didOpen(document: vscode.TextDocument): void {
    if (!this.capabilities || this.has(document) || !vscode.languages.match(SELECTOR, document)) return;
    const text = document.getText();
    if (text.length > DOCUMENT_CHARS_MAX) return;
    this.open.add(document.uri.toString());
    const { languageId, version } = document;
    this.notify("textDocument/didOpen", { textDocument: { uri: document.uri.toString(), languageId, version, text } });
  }

  private didClose(document: vscode.TextDocument): void {
    if (this.open.delete(document.uri.toString())) this.notify("textDocument/didClose", { textDocument: id(document) });
  }

  private didChange({ document, contentChanges }: vscode.TextDocumentChangeEvent): void {
    if (!this.has(document) || contentChanges.length === 0) return;
    // VS Code gives changes so that each can be applied to what the ones before it left, which is what LSP wants.
    this.notify("textDocument/didChange", {
      textDocument: { uri: document.uri.toString(), version: document.version },
      contentChanges: contentChanges.map(({ range, text }) => ({ range: fromRange(range), text })),
    });
  }
}

function programArgs(): string[] {
  const { url, model } = config();
  return ["lsp", ...(url ? ["--url", url] : []), ...(model ? ["--model", model] : [])];
}

export function id(document: vscode.TextDocument): { uri: string } {
  return { uri: document.uri.toString() };
}

export function fromRange(range: vscode.Range): Range {
  const at = (p: vscode.Position) => ({ line: p.line, character: p.character });
  return { start: at(range.start), end: at(range.end) };
}

export function toRange({ start, end }: Range): vscode.Range {
  return new vscode.Range(start.line, start.character, end.line, end.character);
}

/** Text edits only: a language server of ours has no reason to create, rename or delete files. */
function toWorkspaceEdit(edit: { changes?: Record<string, TextEdit[]>; documentChanges?: any[] }): vscode.WorkspaceEdit {
  const result = new vscode.WorkspaceEdit();
  const put = (uri: string, edits: TextEdit[]) =>
    result.set(vscode.Uri.parse(uri), edits.map((e) => vscode.TextEdit.replace(toRange(e.range), e.newText)));
  for (const [uri, edits] of Object.entries(edit.changes ?? {})) put(uri, edits);
  for (const change of edit.documentChanges ?? []) if (change.textDocument) put(change.textDocument.uri, change.edits);
  return result;
}

function show(type: number, message: string): void {
  if (type === 1) void vscode.window.showErrorMessage(message);
  else if (type === 2) void vscode.window.showWarningMessage(message);
  else void vscode.window.showInformationMessage(message);
}

// "Edit selection…": an instruction, and a change that appears in the document while it is generated. Each hunk can be kept or
// taken back; one undo takes back everything, because all of it is one undo stop. The document never holds a mixture of old
// and new: what a hunk replaced is shown beside it, as decoration.

import * as vscode from "vscode";
import type { Client } from "./client";
import { generate } from "./generate";
import { diff, type Hunk, merged, type Placed, shift, toLines, within } from "./hunks";
import { EDIT_CHARS_MAX } from "./limits";

/** Time between two drawings of what is generated. */
const DRAW_MS = 80;
/** UTF-16 units of replaced text that are shown beside a hunk; all of it is in the hover. */
const REMOVED_SHOWN_MAX = 100;
const BEFORE = "vonk-before";

interface Piece extends Placed {
  id: number;
}

/** All edits under way or in review, one for each document. */
export class Edits implements vscode.Disposable, vscode.CodeLensProvider, vscode.TextDocumentContentProvider {
  private sessions = new Map<string, Session>();
  private parts: vscode.Disposable[];
  private lenses = new vscode.EventEmitter<void>();
  private lastInstruction = "";
  readonly onDidChangeCodeLenses = this.lenses.event;

  constructor(
    private readonly client: Client,
    private readonly log: vscode.LogOutputChannel,
  ) {
    const { commands, languages, window, workspace } = vscode;
    const current = (then: (s: Session) => unknown) => () => {
      const session = this.sessions.get(window.activeTextEditor?.document.uri.toString() ?? "");
      return session && then(session);
    };
    this.parts = [
      this.lenses,
      commands.registerCommand("vonk.edit", (instruction?: unknown) => this.begin(instruction)),
      commands.registerCommand("vonk.edit.acceptAll", current((s) => s.keepAll())),
      commands.registerCommand("vonk.edit.rejectAll", current((s) => s.takeBackAll())),
      commands.registerCommand("vonk.edit.compare", current((s) => this.compare(s))),
      commands.registerCommand("vonk.edit.keep", (uri: string, id: number) => this.sessions.get(uri)?.keep(id)),
      commands.registerCommand("vonk.edit.takeBack", (uri: string, id: number) => this.sessions.get(uri)?.takeBack([id])),
      languages.registerCodeLensProvider({ pattern: "**" }, this),
      workspace.registerTextDocumentContentProvider(BEFORE, this),
      workspace.onDidChangeTextDocument((e) => this.sessions.get(e.document.uri.toString())?.changed(e)),
      workspace.onDidCloseTextDocument((d) => this.sessions.get(d.uri.toString())?.end()),
      window.onDidChangeActiveTextEditor(() => this.drawn()),
      window.onDidChangeVisibleTextEditors(() => this.sessions.forEach((s) => s.draw())),
    ];
  }

  dispose(): void {
    this.sessions.forEach((s) => s.end());
    this.parts.forEach((p) => p.dispose());
  }

  provideTextDocumentContent(uri: vscode.Uri): string {
    return this.sessions.get(uri.query)?.original ?? "";
  }

  provideCodeLenses(document: vscode.TextDocument): vscode.CodeLens[] {
    const uri = document.uri.toString();
    const session = this.sessions.get(uri);
    if (!session || session.isWriting) return [];
    return session.pieces.flatMap((piece, n) => {
      const line = Math.min(piece.line, document.lineCount - 1);
      const lens = (title: string, command: string, ...args: unknown[]) =>
        new vscode.CodeLens(new vscode.Range(line, 0, line, 0), { title, command, arguments: args });
      const own = [
        lens("✓ Keep", "vonk.edit.keep", uri, piece.id),
        lens(`✗ Take back (−${piece.removed.length} +${piece.lines})`, "vonk.edit.takeBack", uri, piece.id),
      ];
      const all = [
        lens("Keep all", "vonk.edit.acceptAll"),
        lens("Take all back", "vonk.edit.rejectAll"),
        lens("Compare", "vonk.edit.compare"),
      ];
      return n === 0 ? [...own, ...all] : own;
    });
  }

  /** A session changed: its lenses, and the keys that are for it. */
  private drawn(): void {
    this.lenses.fire();
    const uri = vscode.window.activeTextEditor?.document.uri.toString() ?? "";
    void vscode.commands.executeCommand("setContext", "vonk.editing", this.sessions.has(uri));
  }

  private async begin(given: unknown): Promise<void> {
    const editor = vscode.window.activeTextEditor;
    if (!editor) return;
    const { document } = editor;
    const uri = document.uri.toString();
    const range = wholeLines(document, editor.selection);
    if (document.getText().length > EDIT_CHARS_MAX) {
      void vscode.window.showWarningMessage("vonk: this file is too large to be edited by an instruction.");
      return;
    }
    const lines = editor.selection.isEmpty ? "the whole file" : `${range.end.line - range.start.line + 1} lines`;
    const instruction = typeof given === "string" ? given : await vscode.window.showInputBox({
      title: `vonk: edit ${lines}`,
      prompt: "What is to change?",
      value: this.lastInstruction,
      placeHolder: "Handle the empty list",
    });
    if (!instruction?.trim()) return;
    this.lastInstruction = instruction;
    this.sessions.get(uri)?.keepAll();
    const session = new Session(document, () => this.drawn(), () => this.sessions.delete(uri));
    this.sessions.set(uri, session);
    this.drawn();
    // A selection would hide the colours of what comes.
    editor.selection = new vscode.Selection(range.start, range.start);
    await session.write(this.client, range, instruction, this.log);
  }

  private async compare(session: Session): Promise<void> {
    const { uri } = session.document;
    const before = vscode.Uri.from({ scheme: BEFORE, path: uri.path, query: uri.toString() });
    await vscode.commands.executeCommand("vscode.diff", before, uri, "Before the edit ↔ now");
  }
}

/** One edit of one document. */
class Session {
  readonly original: string;
  pieces: Piece[] = [];
  isWriting = true;
  private isOver = false;
  private isOurs = false;
  private hasWritten = false;
  /** Somebody typed in the very moment of one of our changes: what is whose can no longer be told. */
  private isTangled = false;
  private nextId = 1;
  private readonly oldLines: string[];
  private readonly stop = new AbortController();
  private readonly added = vscode.window.createTextEditorDecorationType({
    isWholeLine: true,
    backgroundColor: new vscode.ThemeColor("diffEditor.insertedLineBackground"),
    overviewRulerColor: new vscode.ThemeColor("editorOverviewRuler.addedForeground"),
  });
  private readonly removed = vscode.window.createTextEditorDecorationType({});

  constructor(
    readonly document: vscode.TextDocument,
    private readonly drawn: () => void,
    private readonly ended: () => void,
  ) {
    this.original = document.getText();
    this.oldLines = toLines(this.original);
  }

  /** Generates, drawing what is there so far; then the review begins. */
  async write(client: Client, range: vscode.Range, instruction: string, log: vscode.LogOutputChannel): Promise<void> {
    const { document, original, stop } = this;
    const [first, last] = [range.start.line, range.end.line];
    let written: string[] = [];
    const title = { location: vscode.ProgressLocation.Notification, title: "vonk: editing", cancellable: true };
    await vscode.window.withProgress(title, async (progress, token) => {
      token.onCancellationRequested(() => stop.abort());
      let lines = 0;
      let drawing = Promise.resolve();
      const timer = setInterval(() => {
        if (written.length === lines) return;
        lines = written.length;
        progress.report({ message: `line ${lines}` });
        const target = within(this.oldLines, merged(this.oldLines, written), first, last);
        drawing = drawing.then(() => this.become(target));
      }, DRAW_MS);
      try {
        const onLines = (lines: string[]) => (written = lines);
        const result = await generate({ client, document, original, range, instruction, signal: stop.signal, onLines });
        clearInterval(timer);
        await drawing;
        if (!stop.signal.aborted) await this.become(within(this.oldLines, toLines(result), first, last));
      } catch (e) {
        clearInterval(timer);
        await drawing;
        if (!stop.signal.aborted) {
          stop.abort();
          log.error(`edit: ${e}`);
          void vscode.window.showErrorMessage(`vonk: ${e instanceof Error ? e.message : e}`);
        }
      }
    });
    if (this.isOver) return;
    this.isWriting = false;
    // Stopped half-way: what is there is no edit that anybody asked for.
    if (stop.signal.aborted && !this.isTangled) return this.takeBackAll();
    if (this.pieces.length === 0) {
      void vscode.window.showInformationMessage("vonk: nothing to change.");
      return this.end();
    }
    this.draw();
    this.drawn();
  }

  /** Makes the document read as these lines, as part of the one undo stop. */
  private async become(target: string[]): Promise<void> {
    if (this.isOver || this.stop.signal.aborted) return;
    const now = toLines(this.document.getText());
    const hunks = diff(now, target);
    if (hunks.length > 0) {
      const replaced = await this.replace(hunks.map((h) => ({ line: h.at, lines: h.removed.length, by: h.added })), !this.hasWritten);
      this.hasWritten = true;
      const is = toLines(this.document.getText());
      if (!replaced || is.length !== target.length || is.some((line, i) => line !== target[i])) {
        // Generation stops, and the review goes by what is there: nothing of theirs is taken back unasked.
        this.isTangled = true;
        this.stop.abort();
      }
    }
    this.place(diff(this.oldLines, toLines(this.document.getText())));
  }

  private place(hunks: Hunk[]): void {
    this.pieces = hunks.map((h) => ({ id: this.nextId++, line: h.newAt, lines: h.added.length, removed: h.removed }));
    this.draw();
  }

  /** A change of the document that was not ours moves the pieces; those that it touched are the user's now. */
  changed({ contentChanges }: vscode.TextDocumentChangeEvent): void {
    if (this.isOurs || contentChanges.length === 0) return;
    if (this.isWriting) this.stop.abort();
    for (const { range, text } of contentChanges) {
      const wholeLines = range.start.character === 0 && range.end.character === 0 && (text === "" || /[\r\n]$/.test(text));
      const change = { from: range.start.line, to: range.end.line, breaks: toLines(text).length - 1, wholeLines };
      this.pieces = this.pieces.flatMap((p) => {
        const moved = shift(p, change);
        return moved ? [{ ...moved, id: p.id }] : [];
      });
    }
    this.settle();
  }

  keep(id: number): void {
    this.pieces = this.pieces.filter((p) => p.id !== id);
    this.settle();
  }

  keepAll(): void {
    if (this.isWriting) this.stop.abort();
    this.end();
  }

  async takeBack(ids: number[]): Promise<void> {
    const gone = this.pieces.filter((p) => ids.includes(p.id));
    const rest = this.pieces.filter((p) => !ids.includes(p.id));
    if (!(await this.replace(gone.map((p) => ({ line: p.line, lines: p.lines, by: p.removed })), true))) return;
    const movedBy = (p: Piece) =>
      gone.filter((g) => g.line < p.line).reduce((sum, g) => sum + g.removed.length - g.lines, 0);
    this.pieces = rest.map((p) => ({ ...p, line: p.line + movedBy(p) }));
    this.settle();
  }

  async takeBackAll(): Promise<void> {
    if (this.isWriting) return this.stop.abort(); // `write` does the rest.
    await this.takeBack(this.pieces.map((p) => p.id));
    this.end();
  }

  private settle(): void {
    if (this.pieces.length === 0 && !this.isWriting) return this.end();
    this.draw();
    this.drawn();
  }

  end(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.stop.abort();
    this.added.dispose();
    this.removed.dispose();
    this.ended();
    this.drawn();
  }

  /** Replaces runs of whole lines. Through an editor, because only that leaves the undo stops to us. */
  private async replace(runs: { line: number; lines: number; by: string[] }[], isNewStop: boolean): Promise<boolean> {
    if (runs.length === 0) return true;
    const editor = this.editors()[0] ?? (await vscode.window.showTextDocument(this.document, { preserveFocus: true }));
    const end = this.document.eol === vscode.EndOfLine.CRLF ? "\r\n" : "\n";
    this.isOurs = true;
    try {
      return await editor.edit(
        (builder) => {
          for (const { line, lines, by } of runs) {
            const [range, text] = lineEdit(this.document, line, lines, by, end);
            builder.replace(range, text);
          }
        },
        { undoStopBefore: isNewStop, undoStopAfter: false },
      );
    } finally {
      this.isOurs = false;
    }
  }

  private editors(): vscode.TextEditor[] {
    return vscode.window.visibleTextEditors.filter((e) => e.document === this.document);
  }

  draw(): void {
    if (this.isOver) return;
    const last = this.document.lineCount - 1;
    const added = this.pieces.filter((p) => p.lines > 0).map((p) => new vscode.Range(p.line, 0, Math.min(last, p.line + p.lines - 1), 0));
    const removed = this.pieces.filter((p) => p.removed.length > 0).map((p) => this.beside(p));
    for (const editor of this.editors()) {
      editor.setDecorations(this.added, added);
      editor.setDecorations(this.removed, removed);
    }
  }

  /** What a hunk replaced, at the end of its first line. */
  private beside(piece: Piece): vscode.DecorationOptions {
    const line = Math.min(piece.lines > 0 ? piece.line : Math.max(0, piece.line - 1), this.document.lineCount - 1);
    const at = this.document.lineAt(line).range;
    const text = piece.removed.map((l) => l.trim()).join(" ⏎ ");
    const short = text.length > REMOVED_SHOWN_MAX ? `${text.slice(0, REMOVED_SHOWN_MAX)}…` : text;
    const hover = new vscode.MarkdownString("vonk replaced\n");
    hover.appendCodeblock(piece.removed.join("\n"), this.document.languageId);
    return {
      range: new vscode.Range(at.end, at.end),
      hoverMessage: hover,
      renderOptions: {
        after: {
          contentText: short,
          margin: "0 0 0 3ch",
          color: new vscode.ThemeColor("editorError.foreground"),
          textDecoration: "line-through",
          fontStyle: "italic",
        },
      },
    };
  }
}

/** The selection as whole lines; an empty one means the whole file. */
function wholeLines(document: vscode.TextDocument, selection: vscode.Selection): vscode.Range {
  const lastLine = document.lineCount - 1;
  if (selection.isEmpty) return new vscode.Range(0, 0, lastLine, document.lineAt(lastLine).text.length);
  const { start, end } = selection;
  // A selection that ends before the first character of a line does not mean that line.
  const last = end.character === 0 && end.line > start.line ? end.line - 1 : end.line;
  return new vscode.Range(start.line, 0, last, document.lineAt(last).text.length);
}

/** Range and text that replace `lines` lines at `line` by others, also at the end of the document. */
function lineEdit(document: vscode.TextDocument, line: number, lines: number, by: string[], end: string): [vscode.Range, string] {
  if (line + lines < document.lineCount) {
    return [new vscode.Range(line, 0, line + lines, 0), by.map((l) => l + end).join("")];
  }
  const lastEnd = document.lineAt(document.lineCount - 1).range.end;
  if (line === 0) return [new vscode.Range(new vscode.Position(0, 0), lastEnd), by.join(end)];
  return [new vscode.Range(document.lineAt(line - 1).range.end, lastEnd), by.map((l) => end + l).join("")];
}


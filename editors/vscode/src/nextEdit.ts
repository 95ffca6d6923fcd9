// The place where the last change probably goes on (a rename in its other places, say): a mark there, Tab to jump, Tab again to
// apply. What that place is, the language server says (`vonk/nextEdit`); one that does not know the question is not asked again.

import * as vscode from "vscode";
import { type Client, id, toRange } from "./client";
import { config, isOn } from "./config";
import type { Range } from "./positions";
import { METHOD_NOT_FOUND, RpcError } from "./rpc";

/** Quiet after a change before the question is asked. */
const PAUSE_MS = 250;
/** Lines from the cursor within which the first Tab applies: the place is in view of the eye already. */
const NEAR_LINES = 1;

interface Answer {
  /** Another file, where the place is not in this one. */
  textDocument?: { uri: string };
  range: Range;
  newText: string;
  label?: string;
}
interface Hint {
  document: vscode.TextDocument;
  version: number;
  range: vscode.Range;
  newText: string;
  /** The place is in another document: this hint only leads there. */
  onward?: Hint;
}

export function nextEdit(client: Client): vscode.Disposable {
  const mark = vscode.window.createTextEditorDecorationType({
    border: "1px solid",
    borderColor: new vscode.ThemeColor("editorInfo.foreground"),
    borderRadius: "2px",
    overviewRulerColor: new vscode.ThemeColor("editorInfo.foreground"),
    overviewRulerLane: vscode.OverviewRulerLane.Right,
  });
  let hint: Hint | null = null;
  let timer: NodeJS.Timeout | undefined;
  let isKnown = true;
  let source = new vscode.CancellationTokenSource();

  const clear = () => {
    clearTimeout(timer);
    source.cancel();
    if (!hint) return;
    hint = null;
    vscode.window.visibleTextEditors.forEach((e) => e.setDecorations(mark, []));
    void vscode.commands.executeCommand("setContext", "vonk.nextEditVisible", false);
  };
  const show = (editor: vscode.TextEditor, found: Hint, label?: string) => {
    hint = found;
    editor.setDecorations(mark, [drawn(found, label)]);
    void vscode.commands.executeCommand("setContext", "vonk.nextEditVisible", true);
  };
  const ask = async (editor: vscode.TextEditor) => {
    const { document } = editor;
    const { version } = document;
    source = new vscode.CancellationTokenSource();
    const { line, character } = editor.selection.active;
    const params = { textDocument: id(document), position: { line, character }, otherFiles: true };
    const answer = await client.request<Answer | null>("vonk/nextEdit", params, source.token).catch((e) => {
      if (e instanceof RpcError && e.code === METHOD_NOT_FOUND) isKnown = false;
      return null;
    });
    if (!answer || document.version !== version || vscode.window.activeTextEditor?.document !== document) return;
    const { newText, label, textDocument } = answer;
    if (!textDocument) return show(editor, { document, version, range: document.validateRange(toRange(answer.range)), newText }, label);
    // In another file: a mark at the cursor says so, and Tab goes there, where the hint itself waits.
    const there = vscode.workspace.textDocuments.find((d) => d.uri.toString() === textDocument.uri);
    if (!there || there.isClosed) return;
    const range = there.validateRange(toRange(answer.range));
    const end = document.lineAt(editor.selection.active.line).range.end;
    const onward = { document: there, version: there.version, range, newText };
    const name = `${vscode.workspace.asRelativePath(there.uri)}:${range.start.line + 1}`;
    show(editor, { document, version, range: new vscode.Range(end, end), newText, onward }, name);
  };
  const go = async () => {
    const editor = vscode.window.activeTextEditor;
    if (!hint || editor?.document !== hint.document || hint.document.version !== hint.version) return clear();
    const { range, newText, onward } = hint;
    if (onward) {
      clear();
      const { document, version } = onward;
      if (document.isClosed || document.version !== version) return;
      const selection = new vscode.Range(onward.range.start, onward.range.start);
      const other = await vscode.window.showTextDocument(document, { selection });
      if (document.version === version) show(other, onward);
      return;
    }
    if (Math.abs(editor.selection.active.line - range.start.line) > NEAR_LINES) {
      editor.selection = new vscode.Selection(range.start, range.start);
      editor.revealRange(range, vscode.TextEditorRevealType.InCenterIfOutsideViewport);
      return;
    }
    clear();
    await editor.edit((b) => b.replace(range, newText));
  };

  return vscode.Disposable.from(
    mark,
    { dispose: clear },
    client.onStatus((s) => s.state === "starting" && (isKnown = true)),
    vscode.commands.registerCommand("vonk.nextEdit.go", go),
    vscode.commands.registerCommand("vonk.nextEdit.dismiss", clear),
    vscode.window.onDidChangeActiveTextEditor((editor) => {
      if (editor?.document !== hint?.document) clear(); // else it is where the hint led to
    }),
    vscode.workspace.onDidChangeTextDocument(({ document, contentChanges }) => {
      const editor = vscode.window.activeTextEditor;
      if (contentChanges.length === 0 || document !== editor?.document) return;
      clear();
      if (isKnown && config().nextEdit && isOn(document) && client.has(document)) timer = setTimeout(() => void ask(editor), PAUSE_MS);
    }),
  );
}

function drawn({ range, newText, document }: Hint, label?: string): vscode.DecorationOptions {
  const text = label ?? (newText === "" ? "remove" : newText.trim().split(/[\r\n]/)[0] ?? "");
  const hover = new vscode.MarkdownString("Next edit (Tab to go there, Tab again to apply)\n");
  hover.appendCodeblock(newText, document.languageId);
  return {
    range,
    hoverMessage: hover,
    renderOptions: {
      after: {
        contentText: `→ ${text.slice(0, 60)}  [Tab]`,
        margin: "0 0 0 1ch",
        color: new vscode.ThemeColor("editorGhostText.foreground"),
        fontStyle: "italic",
      },
    },
  };
}

// Ghost text: VS Code asks, the language server answers. Also tells the server what was taken.

import * as vscode from "vscode";
import { Accepts } from "./accepts";
import { type Client, fromRange, id, SELECTOR, toRange } from "./client";
import { config, isOn } from "./config";
import type { Range } from "./positions";
import { RpcError } from "./rpc";

interface Item {
  insertText: string | { value: string };
  range?: Range;
}

export function ghostText(client: Client, log: vscode.LogOutputChannel): vscode.Disposable {
  const accepts = new Accepts();
  const accepted = (kind: string, uri: string) => client.notify("vonk/accepted", { kind, textDocument: { uri } });
  const provider: vscode.InlineCompletionItemProvider = {
    async provideInlineCompletionItems(document, position, context, token) {
      if (!isOn(document) || !client.has(document)) return null;
      // Without a number of the user's the server finds the pause itself, from what it measures.
      await pause(config().debounceMs ?? 0, token);
      if (token.isCancellationRequested) return null;
      const items = await ask(client, document, position, context, token).catch((e) => {
        if (!(e instanceof RpcError)) log.warn(`no suggestion: ${e}`);
        return [];
      });
      if (token.isCancellationRequested || items.length === 0) return null;
      const uri = document.uri.toString();
      const shown = items.map((item) => toItem(item, position, uri));
      const [first] = shown;
      const begin = first?.range?.start ?? position;
      const typed = document.getText(new vscode.Range(begin, position));
      const text = String(first?.insertText ?? "");
      // What stands as ghost text is what comes after the part that is in the document already.
      if (text.startsWith(typed)) accepts.show(uri, document.offsetAt(position), text.slice(typed.length));
      else accepts.clear();
      return { items: shown };
    },
  };
  return vscode.Disposable.from(
    vscode.languages.registerInlineCompletionItemProvider(SELECTOR, provider),
    vscode.commands.registerCommand("vonk.accepted", (uri: string) => {
      accepts.clear();
      accepted("all", uri);
    }),
    vscode.workspace.onDidChangeTextDocument(({ document, contentChanges: [change, more] }) => {
      if (!change) return;
      if (more) return accepts.clear();
      const uri = document.uri.toString();
      const kind = accepts.changed(uri, change.rangeOffset, change.rangeLength, change.text);
      if (kind) accepted(kind, uri);
    }),
  );
}

/** Waits, or until it is not wanted any more. */
function pause(ms: number, token: vscode.CancellationToken): Promise<void> {
  if (ms === 0) return Promise.resolve();
  return new Promise((done) => {
    const timer = setTimeout(end, ms);
    const cancelled = token.onCancellationRequested(end);
    function end(): void {
      clearTimeout(timer);
      cancelled.dispose();
      done();
    }
  });
}

async function ask(
  client: Client,
  document: vscode.TextDocument,
  position: vscode.Position,
  context: vscode.InlineCompletionContext,
  token: vscode.CancellationToken,
): Promise<Item[]> {
  const chosen = context.selectedCompletionInfo;
  const params = {
    textDocument: id(document),
    position: { line: position.line, character: position.character },
    context: {
      // Invoked is 1 and Automatic 2 in LSP; VS Code counts from 0.
      triggerKind: context.triggerKind === vscode.InlineCompletionTriggerKind.Invoke ? 1 : 2,
      ...(chosen ? { selectedCompletionInfo: { range: fromRange(chosen.range), text: chosen.text } } : {}),
    },
  };
  const answer = await client.request<Item[] | { items: Item[] } | null>("textDocument/inlineCompletion", params, token);
  return (Array.isArray(answer) ? answer : (answer?.items ?? [])).filter((i) => i && i.insertText);
}

function toItem({ insertText, range }: Item, position: vscode.Position, uri: string): vscode.InlineCompletionItem {
  const text = typeof insertText === "string" ? insertText : insertText.value;
  const command = { command: "vonk.accepted", title: "", arguments: [uri] };
  // Without a range VS Code would replace the word before the cursor and the rest of the line.
  return new vscode.InlineCompletionItem(text, range ? toRange(range) : new vscode.Range(position, position), command);
}

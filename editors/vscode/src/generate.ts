// Asks the language server for an edit. The prompt, the model's quirks and the parsing are its business.

import * as vscode from "vscode";
import { type Client, fromRange } from "./client";
import { applyEdits, type Range, type TextEdit } from "./positions";

export interface Wanted {
  client: Client;
  document: vscode.TextDocument;
  /** The text of the document when the edit was asked for. */
  original: string;
  /** Whole lines. */
  range: vscode.Range;
  instruction: string;
  signal: AbortSignal;
  /** What the range is to become, as far as it is written. */
  onText(text: string): void;
}

/** The new text of the whole document. */
export async function generate(wanted: Wanted): Promise<string> {
  const { client, document, range, instruction, original } = wanted;
  let text = "";
  const listener = (value: { text?: unknown }) => {
    if (typeof value?.text === "string") wanted.onText((text += value.text));
  };
  const cancel = toCancel(wanted.signal);
  const result = await client.reporting(listener, (partialResultToken) => {
    const textDocument = { uri: document.uri.toString(), version: document.version };
    const params = { textDocument, range: fromRange(range), instruction, partialResultToken };
    return client.request<{ edits?: TextEdit[]; range?: Range; newText?: string } | null>("vonk/edit", params, cancel);
  });
  const edits = result?.edits ?? (result?.range && typeof result.newText === "string" ? [{ range: result.range, newText: result.newText }] : []);
  const changed = applyEdits(original, edits);
  if (changed === null) throw new Error("the edits overlap");
  return changed;
}

/** An abort signal in the shape of a cancellation token. */
export function toCancel(signal: AbortSignal): vscode.CancellationToken {
  return {
    get isCancellationRequested() {
      return signal.aborted;
    },
    onCancellationRequested: (listener: (e: any) => any) => {
      const call = () => listener(undefined);
      signal.addEventListener("abort", call, { once: true });
      return new vscode.Disposable(() => signal.removeEventListener("abort", call));
    },
  };
}

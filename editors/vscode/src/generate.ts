// Asks the language server for an edit. The prompt, the model's quirks and the parsing are its business.

import * as vscode from "vscode";
import { type Client, fromRange } from "./client";
import { toLines } from "./hunks";
import { applyEdits, type TextEdit } from "./positions";

export interface Wanted {
  client: Client;
  document: vscode.TextDocument;
  /** The text of the document when the edit was asked for. */
  original: string;
  /** Whole lines. */
  range: vscode.Range;
  instruction: string;
  signal: AbortSignal;
  /** The lines of the new document that are complete so far. */
  onLines(lines: string[]): void;
}

/** The new text of the whole document. */
export async function generate(wanted: Wanted): Promise<string> {
  const { client, document, range, instruction, original } = wanted;
  let lines: string[] = [];
  // From line `at` on, the new text reads so; its last line is still being written.
  const listener = ({ at, text }: { at?: unknown; text?: unknown }) => {
    if (typeof at !== "number" || typeof text !== "string") return;
    lines = [...lines.slice(0, at), ...toLines(text)];
    wanted.onLines(lines.slice(0, -1));
  };
  const cancel = toCancel(wanted.signal);
  const result = await client.reporting(listener, (partialResultToken) => {
    const textDocument = { uri: document.uri.toString(), version: document.version };
    const params = { textDocument, range: fromRange(range), instruction, partialResultToken };
    return client.request<{ edits?: TextEdit[] } | null>("vonk/edit", params, cancel);
  });
  const changed = applyEdits(original, result?.edits ?? []);
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

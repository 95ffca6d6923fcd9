// Which server and which model: the picker, and what the chat asks.

import * as vscode from "vscode";
import type { Client } from "./client";
import { config, set } from "./config";
import { models } from "./sse";

/** For a server that asks for one; from the environment, because settings are synchronised and shown. */
export function apiKey(): string | undefined {
  return process.env.VONK_API_KEY;
}

/** Lets the user choose among the models of the server, or fetch another one. */
export async function chooseModel(client: Client, fetchAnother: () => Promise<void>): Promise<void> {
  const now = config().model;
  type Entry = vscode.QuickPickItem & { model?: string; fetch?: boolean };
  const entries: Entry[] = [{ label: "Default of the server", model: "", ...(now === "" ? { description: "in use" } : {}) }];
  try {
    const listed = await models(await client.url(), apiKey(), AbortSignal.timeout(5000));
    for (const { id, about } of listed) {
      entries.push({ label: id, model: id, detail: about, ...(id === now ? { description: "in use" } : {}) });
    }
  } catch (e) {
    entries.push({ label: "The server does not answer", detail: String(e instanceof Error ? e.message : e) });
  }
  entries.push({ label: "", kind: vscode.QuickPickItemKind.Separator }, { label: "$(cloud-download) Fetch another model…", fetch: true });
  const chosen = await vscode.window.showQuickPick(entries, { title: "vonk: model", matchOnDetail: true });
  if (chosen?.fetch) await fetchAnother();
  else if (chosen?.model !== undefined) await set("model", chosen.model);
}

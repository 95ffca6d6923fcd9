// The settings, read in one place.

import * as vscode from "vscode";

export interface Config {
  enable: boolean;
  languagesOff: string[];
  /** `null`: adaptive. */
  debounceMs: number | null;
  nextEdit: boolean;
  model: string;
  path: string;
  url: string;
}

export function config(): Config {
  const settings = vscode.workspace.getConfiguration("vonk");
  const debounce = settings.get<unknown>("debounce");
  return {
    enable: settings.get("enable", true),
    languagesOff: settings.get<string[]>("languagesOff", []),
    debounceMs: typeof debounce === "number" && debounce >= 0 ? Math.min(debounce, 5000) : null,
    nextEdit: settings.get("nextEdit", true),
    model: settings.get("model", "").trim(),
    path: settings.get("path", "").trim(),
    url: settings.get("url", "").trim().replace(/\/+(v1\/*)?$/, ""),
  };
}

/** Sets a value for the user, or for the folder where it is already set there. */
export async function set(name: string, value: unknown): Promise<void> {
  const settings = vscode.workspace.getConfiguration("vonk");
  const folder = settings.inspect(name)?.workspaceValue !== undefined;
  await settings.update(name, value, folder ? vscode.ConfigurationTarget.Workspace : vscode.ConfigurationTarget.Global);
}

/** Suggestions are wanted in this document. */
export function isOn(document: vscode.TextDocument, c = config()): boolean {
  return c.enable && !c.languagesOff.includes(document.languageId);
}

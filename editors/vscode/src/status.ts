// The status bar: is it there, how fast is it, and the way to everything else.

import * as vscode from "vscode";
import type { Client, Status } from "./client";
import { config, isOn, set } from "./config";

export function statusBar(client: Client): vscode.Disposable {
  const item = vscode.window.createStatusBarItem("vonk", vscode.StatusBarAlignment.Right, 100);
  item.name = "vonk";
  item.command = "vonk.menu";
  const draw = () => {
    const document = vscode.window.activeTextEditor?.document;
    const isQuiet = document ? !isOn(document) : !config().enable;
    [item.text, item.tooltip] = [label(client.status, isQuiet), tooltip(client.status, isQuiet)];
    const isBad = client.status.state === "error";
    item.backgroundColor = isBad ? new vscode.ThemeColor("statusBarItem.errorBackground") : undefined;
  };
  draw();
  item.show();
  return vscode.Disposable.from(
    item,
    client.onStatus(draw),
    vscode.window.onDidChangeActiveTextEditor(draw),
    vscode.workspace.onDidChangeConfiguration(draw),
    vscode.commands.registerCommand("vonk.menu", () => menu(client)),
    vscode.commands.registerCommand("vonk.toggle", () => set("enable", !config().enable)),
    vscode.commands.registerCommand("vonk.toggleLanguage", toggleLanguage),
  );
}

function label(status: Status, isQuiet: boolean): string {
  const speed = status.tps ? ` ${Math.round(status.tps)} tok/s` : "";
  switch (status.state) {
    case "off":
      return "$(circle-slash) vonk";
    case "error":
      return "$(error) vonk";
    case "starting":
    case "loading":
      return "$(loading~spin) vonk";
    case "busy":
      return `$(sync~spin) vonk${speed}`;
    default:
      return isQuiet ? "$(debug-pause) vonk" : `$(zap) vonk${speed}`;
  }
}

function tooltip(status: Status, isQuiet: boolean): vscode.MarkdownString {
  const text = new vscode.MarkdownString();
  const line = (name: string, value?: string) => value && text.appendText(`${name}: ${value}\n\n`);
  line("vonk", isQuiet ? `${status.state}, suggestions are off here` : status.state);
  line("model", status.model);
  line("first token", status.ttft_ms === undefined ? undefined : `${Math.round(status.ttft_ms)} ms`);
  line("speed", status.tps === undefined ? undefined : `${status.tps.toFixed(0)} tokens per second`);
  line("server", status.url);
  line("note", status.message);
  return text;
}

async function menu(client: Client): Promise<void> {
  const c = config();
  const language = vscode.window.activeTextEditor?.document.languageId;
  const entry = (label: string, command: string, description = "") => ({ label, command, description });
  const entries = [
    entry("$(edit) Edit selection…", "vonk.edit"),
    entry("$(comment-discussion) Chat", "vonk.chat.open"),
    entry("$(server) Choose model…", "vonk.chooseModel", client.status.model),
    entry(`${c.enable ? "$(debug-pause) Turn suggestions off" : "$(play) Turn suggestions on"}`, "vonk.toggle"),
  ];
  if (language) {
    const isOff = c.languagesOff.includes(language);
    entries.push(entry(`$(symbol-namespace) Turn suggestions ${isOff ? "on" : "off"} in ${language}`, "vonk.toggleLanguage"));
  }
  entries.push(
    entry("$(debug-restart) Start again", "vonk.restart"),
    entry("$(tools) Set up…", "vonk.setup"),
    entry("$(output) Show log", "vonk.log"),
  );
  const speed = client.status.tps ? `${client.status.tps.toFixed(0)} tok/s` : client.status.state;
  const chosen = await vscode.window.showQuickPick(entries, { title: `vonk: ${speed}`, placeHolder: client.status.message ?? "" });
  if (chosen) await vscode.commands.executeCommand(chosen.command);
}

async function toggleLanguage(): Promise<void> {
  const language = vscode.window.activeTextEditor?.document.languageId;
  if (!language) return;
  const off = config().languagesOff;
  await set("languagesOff", off.includes(language) ? off.filter((l) => l !== language) : [...off, language]);
}

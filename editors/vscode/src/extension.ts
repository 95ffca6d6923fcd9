// Where VS Code comes in. The extension is thin: `vonk lsp` thinks, this draws.
//
// In a folder that is not trusted VS Code does not start it at all (package.json, `untrustedWorkspaces`). It sends nothing to
// anybody but the server of the settings, and counts nothing.

import * as vscode from "vscode";
import { Chat } from "./chat";
import { Client } from "./client";
import { config } from "./config";
import { Edits } from "./edit";
import { ghostText } from "./ghost";
import { chooseModel } from "./models";
import { nextEdit } from "./nextEdit";
import { fetchAnother, findProgram, offerModel, offerProgram } from "./setup";
import { statusBar } from "./status";

let client: Client | null = null;

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  const log = vscode.window.createOutputChannel("vonk", { log: true });
  const ours = new Client(log, String(context.extension.packageJSON.version));
  client = ours;
  const start = (mayAsk: boolean) => startUp(context, ours, log, mayAsk).catch((e) => log.error(String(e)));
  const fetch = async () => {
    const program = await findProgram(context);
    if (program && (await fetchAnother(program, log))) await start(true);
  };
  const { registerCommand } = vscode.commands;
  context.subscriptions.push(
    log,
    ours,
    ghostText(ours, log),
    statusBar(ours),
    new Edits(ours, log),
    nextEdit(ours),
    new Chat(ours, context.extensionUri),
    registerCommand("vonk.chooseModel", () => chooseModel(ours, fetch)),
    registerCommand("vonk.setup", () => start(true)),
    registerCommand("vonk.restart", () => start(true)),
    registerCommand("vonk.log", () => log.show()),
    vscode.workspace.onDidChangeConfiguration((e) => {
      if (["vonk.path", "vonk.url", "vonk.model"].some((name) => e.affectsConfiguration(name))) void start(true);
    }),
    ours.onStatus(({ state, message }) => state === "error" && log.error(message ?? "the language server is gone")),
  );
  // Asking at each start would be a nuisance: the first time only, and then the status bar says it.
  const isFirst = !context.globalState.get("asked", false);
  await context.globalState.update("asked", true);
  void start(isFirst);
}

export async function deactivate(): Promise<void> {
  await client?.stop();
}

async function startUp(context: vscode.ExtensionContext, client: Client, log: vscode.LogOutputChannel, mayAsk: boolean): Promise<void> {
  let program = await findProgram(context);
  if (!program && mayAsk && (await offerProgram())) program = await findProgram(context);
  if (!program) {
    log.warn(`the vonk program was not found${config().path ? `: ${config().path}` : ""}; run "vonk: Set up…"`);
    return client.stop();
  }
  if (mayAsk && !(await offerModel(program, log).catch((e) => (log.warn(`models: ${e}`), true)))) return client.stop();
  await client.start(program);
}

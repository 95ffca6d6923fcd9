// The first run: find the program or say how to get it, and fetch a model with progress. Nothing is installed or fetched
// without a yes.

import { spawn } from "node:child_process";
import { homedir } from "node:os";
import * as readline from "node:readline";
import * as vscode from "vscode";
import { config } from "./config";
import { find, percent } from "./find";

interface Model {
  name: string;
  description: string;
  bytes: number;
  path: string | null;
  is_default: boolean;
}

/** The program's path, or `null`. */
export function findProgram(context: vscode.ExtensionContext): Promise<string | null> {
  const windows = process.platform === "win32";
  const path = process.env.PATH ?? "";
  return find({ setting: config().path, path, home: homedir(), extension: context.extensionPath, windows });
}

/** Offers the ways to a program; `true` when the settings name one now. */
export async function offerProgram(): Promise<boolean> {
  const isSet = config().path !== "";
  const [build, choose] = ["Build from source…", "Choose the program…"];
  const what = isSet
    ? `vonk: the program that the settings name cannot be run: ${config().path}`
    : "vonk: the program is not on this machine yet (looked on the PATH and in ~/.cargo/bin).";
  const answer = await vscode.window.showWarningMessage(what, build, choose);
  if (answer === choose) {
    const [file] = (await vscode.window.showOpenDialog({ title: "The vonk program", openLabel: "Use" })) ?? [];
    if (!file) return false;
    await vscode.workspace.getConfiguration("vonk").update("path", file.fsPath, vscode.ConfigurationTarget.Global);
    return true;
  }
  if (answer === build) return buildProgram();
  return false;
}

/** `cargo install` in a terminal that the user sees, from a folder that the user names, after a yes to the very command. */
async function buildProgram(): Promise<boolean> {
  const dialog = { title: "Folder with vonk's source", openLabel: "Build", canSelectFolders: true, canSelectFiles: false };
  const [folder] = (await vscode.window.showOpenDialog(dialog)) ?? [];
  if (!folder) return false;
  const args = ["install", "--locked", "--path", vscode.Uri.joinPath(folder, "crates", "cli").fsPath];
  const yes = "Run it";
  const detail = `cargo ${args.join(" ")}\n\nThis runs the build of what is in that folder, and puts vonk into ~/.cargo/bin.`;
  if ((await vscode.window.showWarningMessage("Build and install vonk?", { modal: true, detail }, yes)) !== yes) return false;
  const execution = new vscode.ProcessExecution("cargo", args);
  const task = new vscode.Task({ type: "vonk" }, vscode.TaskScope.Workspace, "install", "vonk", execution);
  const running = await vscode.tasks.executeTask(task);
  return new Promise((resolve) => {
    const listener = vscode.tasks.onDidEndTaskProcess((e) => {
      if (e.execution !== running) return;
      listener.dispose();
      resolve(e.exitCode === 0);
    });
  });
}

/** Sees to it that a model is here; `false` when there is none and the user does not want one now. */
export async function offerModel(program: string, log: vscode.LogOutputChannel): Promise<boolean> {
  if (config().url !== "") return true; // Somebody else's server has its own.
  const models = await listModels(program);
  if (models.some((m) => m.path)) return true;
  const standard = models.find((m) => m.is_default) ?? models[0];
  if (!standard) return true;
  const [fetch, other] = [`Fetch ${standard.name} (${size(standard.bytes)})`, "Another one…"];
  const what = "vonk: no model is on this machine yet. It is fetched once and runs here; nothing that you type leaves this machine.";
  const answer = await vscode.window.showInformationMessage(what, fetch, other);
  if (answer === fetch) return pull(program, standard.name, log);
  return answer === other && fetchAnother(program, log);
}

/** Lets the user choose from the catalogue, and fetches. */
export async function fetchAnother(program: string, log: vscode.LogOutputChannel): Promise<boolean> {
  const entries = (await listModels(program)).map((m) => ({
    label: m.name,
    description: m.path ? "is here" : size(m.bytes),
    detail: m.description,
  }));
  const chosen = await vscode.window.showQuickPick(entries, { title: "vonk: fetch a model" });
  return chosen !== undefined && pull(program, chosen.label, log);
}

async function listModels(program: string): Promise<Model[]> {
  const listed = JSON.parse(await run(program, ["models", "--json"]));
  return Array.isArray(listed) ? listed : (listed.models ?? []);
}

async function pull(program: string, name: string, log: vscode.LogOutputChannel): Promise<boolean> {
  const options = { location: vscode.ProgressLocation.Notification, title: `vonk: fetching ${name}`, cancellable: true };
  return vscode.window.withProgress(options, async (progress, token) => {
    let at = 0;
    const onLine = (line: string) => {
      const now = percent(line);
      if (now === null) return log.info(line);
      progress.report({ increment: now - at, message: `${now.toFixed(0)} %` });
      at = now;
    };
    try {
      await run(program, ["pull", "--progress", name], onLine, token);
      return true;
    } catch (e) {
      // A cancelled one goes on from there the next time.
      if (!token.isCancellationRequested) void vscode.window.showErrorMessage(`vonk: ${e instanceof Error ? e.message : e}`);
      return false;
    }
  });
}

/** Runs the program to its end; its output, or an error with the last line that it said. */
function run(program: string, args: string[], onLine?: (line: string) => void, token?: vscode.CancellationToken): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], windowsHide: true });
    const stop = token?.onCancellationRequested(() => child.kill());
    let out = "";
    let last = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (out = (out + text).slice(0, 1024 * 1024)));
    readline.createInterface({ input: child.stderr }).on("line", (line) => {
      if (!line.startsWith("{")) last = line;
      onLine?.(line);
    });
    child.on("error", reject);
    child.on("close", (code) => {
      stop?.dispose();
      if (code === 0) resolve(out);
      else reject(new Error(last || `vonk ${args[0]} ended with ${code}`));
    });
  });
}

function size(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${(bytes / 1e6).toFixed(0)} MB`;
}

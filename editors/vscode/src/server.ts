// The `vonk lsp` process: started, asked, started again when it dies, stopped. No dependency on VS Code.

import { type ChildProcess, spawn } from "node:child_process";
import { INITIALIZE_MS_MAX, RESTARTS_MAX, RESTART_WINDOW_MS, SHUTDOWN_MS_MAX } from "./limits";
import { type Cancel, Connection, RpcError } from "./rpc";

export interface Launch {
  command: string;
  args: string[];
  cwd?: string;
  /** `params` of `initialize`. */
  initialize(): object;
  log(line: string): void;
  /** Called with the new connection before `initialize`, to hang up listeners. */
  wire(connection: Connection): void;
  /** Called after each `initialize` with what the server can do, and with `null` when it is gone (`why`: for good). */
  ready(capabilities: Record<string, unknown> | null, why?: string): void;
}

/** Keeps one language server running. */
export class Server {
  private child: ChildProcess | null = null;
  private connection: Connection | null = null;
  private isReady = false;
  private isWanted = false;
  private ends: number[] = [];
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly launch: Launch) {}

  start(): void {
    this.isWanted = true;
    this.ends = [];
    if (!this.child) this.spawn();
  }

  /** Asks; rejects when no server is ready, so that nothing piles up meanwhile. */
  request<T>(method: string, params: unknown, cancel?: Cancel): Promise<T> {
    if (!this.isReady || !this.connection) return Promise.reject(new RpcError(0, "vonk is not running"));
    return this.connection.request<T>(method, params, cancel);
  }

  notify(method: string, params: unknown): void {
    if (this.isReady) this.connection?.notify(method, params);
  }

  /** Asks it to end, and ends it if it does not. */
  async stop(): Promise<void> {
    this.isWanted = false;
    clearTimeout(this.timer);
    const { child, connection } = this;
    if (!child || !connection) return;
    const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    const patience = new Promise<void>((resolve) => setTimeout(resolve, SHUTDOWN_MS_MAX).unref());
    const polite = connection.request("shutdown", null).then(() => connection.notify("exit", null));
    await Promise.race([polite.catch(() => {}), patience]);
    await Promise.race([gone, patience]);
    if (child.exitCode === null) child.kill("SIGKILL");
  }

  private spawn(): void {
    const { command, args, cwd } = this.launch;
    this.launch.log(`starting ${command} ${args.join(" ")}`);
    const child = spawn(command, args, { cwd, stdio: ["pipe", "pipe", "pipe"], windowsHide: true });
    this.child = child;
    let told = "";
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      told = (told + text).slice(-2000);
      for (const line of text.trimEnd().split("\n")) this.launch.log(line.slice(0, 1000));
    });
    const connection = new Connection(child.stdout!, child.stdin!, (why) => {
      this.launch.log(`connection: ${why.message}`);
      child.kill();
    });
    this.connection = connection;
    child.on("error", (e) => this.ended(child, `${command} does not start: ${e.message}`));
    child.on("exit", (code, signal) => this.ended(child, `ended with ${signal ?? code}${told ? `: ${lastLine(told)}` : ""}`));
    this.launch.wire(connection);
    void this.initialize(child, connection);
  }

  private async initialize(child: ChildProcess, connection: Connection): Promise<void> {
    const late = setTimeout(() => connection.close(new RpcError(0, "no answer to initialize")), INITIALIZE_MS_MAX);
    try {
      const result = await connection.request<{ capabilities?: Record<string, unknown> }>("initialize", this.launch.initialize());
      if (this.child !== child) return;
      connection.notify("initialized", {});
      this.isReady = true;
      this.launch.ready(result?.capabilities ?? {});
    } catch (e) {
      connection.close(e instanceof Error ? e : new Error(String(e)));
    } finally {
      clearTimeout(late);
    }
  }

  private ended(child: ChildProcess, why: string): void {
    if (this.child !== child) return;
    const wasReady = this.isReady;
    this.connection?.close(new RpcError(0, why));
    [this.child, this.connection, this.isReady] = [null, null, false];
    this.launch.log(why);
    if (!this.isWanted) return this.launch.ready(null);
    const now = Date.now();
    this.ends = [...this.ends.filter((at) => now - at < RESTART_WINDOW_MS), now];
    // One that never came up, such as a program too old to know `lsp`, will not come up the next time either.
    if (!wasReady || this.ends.length > RESTARTS_MAX) {
      this.isWanted = false;
      return this.launch.ready(null, why);
    }
    this.launch.ready(null);
    this.timer = setTimeout(() => this.spawn(), 500 * 2 ** this.ends.length);
  }
}

function lastLine(text: string): string {
  return text.trimEnd().split("\n").pop() ?? "";
}

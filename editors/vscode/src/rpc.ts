// JSON-RPC 2.0 over two byte streams with Content-Length framing, as the Language Server Protocol has it.

import type { Readable, Writable } from "node:stream";
import { HEADER_BYTES_MAX, MESSAGE_BYTES_MAX, PENDING_MAX, UNREAD_BYTES_MAX } from "./limits";

export const METHOD_NOT_FOUND = -32601;
export const REQUEST_CANCELLED = -32800;
const INTERNAL_ERROR = -32603;

/** An error that the other side answered with, or that ended the connection (code 0). */
export class RpcError extends Error {
  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
  }
}

/** What can stop a request: VS Code's CancellationToken has this shape. */
export interface Cancel {
  readonly isCancellationRequested: boolean;
  onCancellationRequested(listener: () => void): { dispose(): unknown };
}

type Answerer = (params: any) => unknown;

/** Cuts a byte stream into message bodies. Throws on what no language server sends. */
export class Framing {
  private chunks: Buffer[] = [];
  private bytes = 0;
  /** Bytes of the body that comes now; `null` while in a header. */
  private body: number | null = null;

  /** Takes the next bytes and returns the bodies that they complete. */
  push(chunk: Buffer): string[] {
    this.chunks.push(chunk);
    this.bytes += chunk.length;
    const bodies: string[] = [];
    for (;;) {
      if (this.body === null && !this.header()) return bodies;
      // A long body comes in many chunks, which are joined when all of it is there, not at each.
      if (this.body === null || this.bytes < this.body) return bodies;
      bodies.push(this.take(this.body).toString("utf8"));
      this.body = null;
    }
  }

  private header(): boolean {
    const all = this.joined();
    const end = all.subarray(0, HEADER_BYTES_MAX + 4).indexOf("\r\n\r\n");
    if (end < 0) {
      if (all.length > HEADER_BYTES_MAX) throw new RpcError(0, "a header that does not end");
      return false;
    }
    const length = /^content-length: *(\d{1,10})$/im.exec(all.subarray(0, end).toString("latin1"));
    const bytes = Number(length?.[1] ?? NaN);
    if (!(bytes <= MESSAGE_BYTES_MAX)) throw new RpcError(0, "a message without a length, or with too large a one");
    this.take(end + 4);
    this.body = bytes;
    return true;
  }

  private take(n: number): Buffer {
    const all = this.joined();
    const rest = all.subarray(n);
    this.chunks = rest.length ? [rest] : [];
    this.bytes = rest.length;
    return all.subarray(0, n);
  }

  private joined(): Buffer {
    if (this.chunks.length !== 1) this.chunks = [Buffer.concat(this.chunks)];
    return this.chunks[0] ?? Buffer.alloc(0);
  }
}

/** One side of a conversation. */
export class Connection {
  private framing = new Framing();
  private nextId = 1;
  private pending = new Map<number, { resolve(v: any): void; reject(e: Error): void; done(): void }>();
  private answerers = new Map<string, Answerer>();
  private listeners = new Map<string, (params: any) => void>();
  private closedBy: Error | null = null;

  /** `onClosed` is called once, with the reason, when the conversation is over. */
  constructor(
    input: Readable,
    private readonly output: Writable,
    private readonly onClosed: (why: Error) => void = () => {},
  ) {
    input.on("data", (chunk: Buffer) => this.take(chunk));
    input.on("end", () => this.close(new RpcError(0, "the other side closed the connection")));
    input.on("error", (e) => this.close(e));
    output.on("error", (e) => this.close(e));
  }

  /** Answers requests of the other side. */
  onRequest(method: string, answerer: Answerer): void {
    this.answerers.set(method, answerer);
  }

  onNotification(method: string, listener: (params: any) => void): void {
    this.listeners.set(method, listener);
  }

  notify(method: string, params: unknown): void {
    this.send({ jsonrpc: "2.0", method, params });
  }

  /** Asks; cancelling sends `$/cancelRequest` and rejects at once, without waiting for the other side to agree. */
  request<T>(method: string, params: unknown, cancel?: Cancel): Promise<T> {
    if (this.closedBy) return Promise.reject(this.closedBy);
    if (cancel?.isCancellationRequested) return Promise.reject(cancelled());
    if (this.pending.size >= PENDING_MAX) return Promise.reject(new RpcError(0, "too many requests under way"));
    const id = this.nextId++;
    return new Promise<T>((resolve, reject) => {
      const stop = cancel?.onCancellationRequested(() => {
        this.settle(id)?.reject(cancelled());
        this.notify("$/cancelRequest", { id });
      });
      this.pending.set(id, { resolve, reject, done: () => stop?.dispose() });
      this.send({ jsonrpc: "2.0", id, method, params });
    });
  }

  close(why: Error): void {
    if (this.closedBy) return;
    this.closedBy = why;
    for (const id of [...this.pending.keys()]) this.settle(id)?.reject(why);
    this.onClosed(why);
  }

  private settle(id: number) {
    const one = this.pending.get(id);
    this.pending.delete(id);
    one?.done();
    return one;
  }

  private send(message: object): void {
    if (this.closedBy) return;
    if (this.output.writableLength > UNREAD_BYTES_MAX) {
      this.close(new RpcError(0, "the other side does not read"));
      return;
    }
    const body = Buffer.from(JSON.stringify(message), "utf8");
    this.output.write(Buffer.concat([Buffer.from(`Content-Length: ${body.length}\r\n\r\n`, "latin1"), body]));
  }

  private take(chunk: Buffer): void {
    if (this.closedBy) return;
    try {
      for (const body of this.framing.push(chunk)) this.dispatch(JSON.parse(body));
    } catch (e) {
      this.close(e instanceof Error ? e : new Error(String(e)));
    }
  }

  private dispatch(message: any): void {
    if (typeof message !== "object" || message === null) throw new RpcError(0, "a message that is no object");
    if (typeof message.method === "string") {
      if (message.id === undefined || message.id === null) this.heard(message);
      else void this.answer(message);
      return;
    }
    const asked = this.settle(message.id);
    if (!asked) return; // Cancelled meanwhile.
    if (message.error) asked.reject(new RpcError(Number(message.error.code), String(message.error.message)));
    else asked.resolve(message.result ?? null);
  }

  // A listener that throws must not cost the connection.
  private heard(message: { method: string; params: unknown }): void {
    try {
      this.listeners.get(message.method)?.(message.params ?? {});
    } catch (e) {
      console.error(`vonk: ${message.method}:`, e);
    }
  }

  private async answer(message: { id: number | string; method: string; params: unknown }): Promise<void> {
    const { id, method } = message;
    const answerer = this.answerers.get(method);
    if (!answerer) {
      this.send({ jsonrpc: "2.0", id, error: { code: METHOD_NOT_FOUND, message: `${method} is not known` } });
      return;
    }
    try {
      this.send({ jsonrpc: "2.0", id, result: (await answerer(message.params ?? {})) ?? null });
    } catch (e) {
      const code = e instanceof RpcError ? e.code : INTERNAL_ERROR;
      this.send({ jsonrpc: "2.0", id, error: { code, message: e instanceof Error ? e.message : String(e) } });
    }
  }
}

function cancelled(): RpcError {
  return new RpcError(REQUEST_CANCELLED, "cancelled");
}

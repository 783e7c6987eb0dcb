import type { Server as HttpServer } from 'node:http';
import { Server as NetServer, type Socket } from 'node:net';
import type { Clock } from '../clock.ts';
import type { PortServer } from './listener.ts';

/** A connection that was opened a moment ago has its first request under way. */
const FIRST_REQUEST_MS = 1_000;
/** Turns of the event loop in which the kernel may still hand over who had come: one connection a turn at least. */
const MOST_LAST_TURNS = 500;

interface Connection {
  readonly openedAt: number;
  /** Of requests whose answers have not ended, what ends them; more than one where a caller does not wait for answers. */
  readonly answering: Set<() => void>;
  /** What had been read when the last answer ended: more by now is the beginning of another request. */
  readBytes: number;
  /** When the drain first saw that beginning. */
  beginningSeenAt: number | null;
}

/** The connections of a port, and how they end without cutting a request that is just arriving. */
export class Connections {
  readonly #server: HttpServer;
  readonly #handshakes: PortServer['handshakes'];
  readonly #clock: Clock;
  /** How long a request may take to begin. */
  readonly #headersTimeoutMs: number;
  readonly #open = new Map<Socket, Connection>();
  #accepted = 0;
  #leaving = false;

  constructor({ server, handshakes }: PortServer, clock: Clock, headersTimeoutMs: number) {
    this.#server = server;
    this.#handshakes = handshakes;
    this.#clock = clock;
    this.#headersTimeoutMs = headersTimeoutMs;
    server.on('connection', (socket: Socket) => {
      this.#accepted += 1;
      if (handshakes !== null && this.#leaving) this.#endHandshake(socket);
    });
    // Over TLS the socket that requests come with is there only after the handshake.
    server.on(handshakes === null ? 'connection' : 'secureConnection', (socket: Socket) => {
      const answering = new Set<() => void>();
      this.#open.set(socket, { openedAt: clock.monotonic(), answering, readBytes: 0, beginningSeenAt: null });
      socket.once('close', () => {
        this.#open.delete(socket);
        for (const over of answering) over();
      });
      if (this.#leaving) this.#endWhenQuiet(socket);
    });
  }

  /**
   * @param over called when the connection is gone: Node tells the answer whose turn it was, and none of those that waited for
   * theirs behind it
   */
  began(socket: Socket, over: () => void): void {
    const connection = this.#open.get(socket);
    if (connection === undefined) setImmediate(over);
    else connection.answering.add(over);
  }

  ended(socket: Socket, over: () => void): void {
    const connection = this.#open.get(socket);
    if (connection === undefined) return;
    connection.answering.delete(over);
    connection.readBytes = socket.bytesRead;
    connection.beginningSeenAt = null;
    // An answer that began before the drain has not asked its caller to go elsewhere.
    if (this.#leaving) setImmediate(() => this.#endWhenQuiet(socket));
  }

  isOpen(socket: Socket): boolean {
    return this.#open.has(socket);
  }

  isAnswering(socket: Socket): boolean {
    return (this.#open.get(socket)?.answering.size ?? 0) > 0;
  }

  /**
   * Accepts no more; ends each connection when it has nothing to do. Resolves when the last one is gone.
   *
   * Not by `Server.close()` of node:http, which cuts idle connections in whatever phase it is called, so also those whose
   * next request is in the kernel and not read yet; and which takes a connection that never sent anything for a busy one, so
   * that the connection a balancer or browser opened in advance keeps the process for the whole of `drain.timeout`.
   */
  async leave(): Promise<void> {
    for (let turn = 0, before = -1; this.#accepted > before && turn < MOST_LAST_TURNS; turn++) {
      before = this.#accepted;
      await turnOfTheLoop();
    }
    this.#leaving = true;
    const closed = new Promise<void>((resolve) => {
      if (this.#server.listening) NetServer.prototype.close.call(this.#server, () => resolve());
      else resolve();
    });
    for (const socket of [...this.#open.keys()]) this.#endWhenQuiet(socket);
    for (const socket of this.#handshakes?.pending() ?? []) this.#endHandshake(socket);
    await closed;
  }

  /** Called right after a poll of the event loop: what has arrived by now has been read. */
  #endWhenQuiet(socket: Socket): void {
    const connection = this.#open.get(socket);
    if (connection === undefined || connection.answering.size > 0 || socket.destroyed) return;
    const waitMs = this.#graceMs(socket, connection);
    if (waitMs <= 0) socket.destroySoon();
    else this.#clock.after(waitMs, () => setImmediate(() => this.#endWhenQuiet(socket)));
  }

  /** One that ends in time has its first request under way then, and is a connection like others. */
  #endHandshake(socket: Socket): void {
    this.#clock.after(FIRST_REQUEST_MS, () => {
      if (this.#handshakes?.isPending(socket)) socket.destroy();
    });
  }

  #graceMs(socket: Socket, connection: Connection): number {
    const now = this.#clock.monotonic();
    if (socket.bytesRead === 0) return connection.openedAt + FIRST_REQUEST_MS - now;
    if (socket.bytesRead === connection.readBytes) return 0;
    connection.beginningSeenAt ??= now;
    return connection.beginningSeenAt + this.#headersTimeoutMs - now;
  }
}

/** Resolves right after the next poll of the event loop. */
function turnOfTheLoop(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

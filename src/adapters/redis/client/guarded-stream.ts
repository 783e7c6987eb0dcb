import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { ReplyGuard } from './reply-guard.ts';

/** Commands have deadlines of some 100 ms: a server from which nothing comes for so long, or a way to it, is not there. */
const SILENT_MS = 2_000;
const CHECK_MS = 500;

/**
 * A connection to Redis that ends when it cannot be relied upon: a reply has no command, or commands have no reply and nothing has
 * come for SILENT_MS. A balancer that lost its state, or a firewall, drops packets without closing the connection.
 */
export class GuardedStream extends Duplex {
  readonly #socket: Socket;
  readonly #guard = new ReplyGuard();
  readonly #timer: NodeJS.Timeout;
  #heard = true;
  #silentMs = 0;

  /** @param socket connected, with the TLS handshake done */
  constructor(socket: Socket) {
    super();
    this.#socket = socket;
    this.#timer = setInterval(() => this.#checkSilence(), CHECK_MS).unref();
    socket.on('data', (bytes: Buffer) => this.#receive(bytes));
    // ioredis listens for the first error only.
    this.on('error', () => {});
    socket.on('error', (error) => this.destroy(error));
    socket.on('close', () => this.destroy());
    socket.on('drain', () => this.#drained());
  }

  /** ioredis calls these two; the connector has set both already. */
  setNoDelay(noDelay: boolean): void {
    this.#socket.setNoDelay(noDelay);
  }

  setKeepAlive(enable: boolean, delayMs: number): void {
    this.#socket.setKeepAlive(enable, delayMs);
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(bytes: Buffer, _: BufferEncoding, done: (error?: Error) => void): void {
    this.#guard.sent(bytes);
    if (this.#socket.write(bytes)) done();
    else this.#drained = done;
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    clearInterval(this.#timer);
    this.#socket.destroy();
    done(error);
  }

  #drained: () => void = () => {};

  #receive(bytes: Buffer): void {
    this.#heard = true;
    try {
      this.#guard.received(bytes);
    } catch (error) {
      this.destroy(error as Error);
      return;
    }
    if (!this.push(bytes)) this.#socket.pause();
  }

  /** Counts by its own timer: after a halt of the event loop, what has arrived meanwhile is read before the next check. */
  #checkSilence(): void {
    this.#silentMs = this.#heard || this.#guard.waiting === 0 ? 0 : this.#silentMs + CHECK_MS;
    this.#heard = false;
    if (this.#silentMs >= SILENT_MS) this.destroy(new Error(`no reply for ${SILENT_MS / 1000} s`));
  }
}

import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { type Clock, every, type MonotonicMs } from '../clock.ts';
import type { Log } from '../ports.ts';

/** Transfers are looked at this often. */
const SWEEP_MS = 1_000;
/** A transfer that makes progress is still cut below this rate over this time. */
const MIN_BYTES_PER_SECOND = 1024;
const RATE_WINDOW_MS = 60_000;

interface StallWatchOptions {
  readonly clock: Clock;
  /** Asked at each sweep, so that a reload takes effect. */
  readonly stallTimeoutMs: () => number;
  readonly sockets: () => Iterable<Socket>;
  readonly log: Log;
}

/** A transfer that waits for its caller, since it was first seen to wait. */
interface Transfer {
  bytes: number;
  stalledMs: number;
  windowMs: number;
  windowBytes: number;
}

/**
 * Cuts connections whose caller neither takes its response nor sends its body: they hold permits, memory and a place in the drain. Time
 * counts only while the gateway waits for the caller, never while it waits for the upstream.
 *
 * Progress of a response is what the kernel takes over. It takes whole chunks, and some hundred KiB of a fast connection at a time.
 */
export class StallWatch {
  readonly #options: StallWatchOptions;
  readonly #downloads = new WeakMap<Socket, Transfer>();
  /** The latest body of each connection that was opened: those before it have ended. */
  readonly #uploads = new WeakMap<Socket, { readonly incoming: IncomingMessage; transfer: Transfer | null }>();
  readonly #cut = new WeakSet<Socket>();
  #sweptAt: MonotonicMs;

  constructor(options: StallWatchOptions) {
    this.#options = options;
    this.#sweptAt = options.clock.monotonic();
  }

  start(): () => void {
    return every(this.#options.clock, SWEEP_MS, () => this.#sweep());
  }

  uploading(incoming: IncomingMessage): void {
    if (!incoming.complete) this.#uploads.set(incoming.socket, { incoming, transfer: null });
  }

  hasCut(socket: Socket): boolean {
    return this.#cut.has(socket);
  }

  #sweep(): void {
    const { clock, sockets } = this.#options;
    const now = clock.monotonic();
    // After a pause of the process its callers get the time to go on.
    const passedMs = Math.min(now - this.#sweptAt, 2 * SWEEP_MS);
    this.#sweptAt = now;
    for (const socket of sockets()) {
      if (socket.writableLength === 0) this.#downloads.delete(socket);
      else this.#downloads.set(socket, this.#advance('response', socket, this.#downloads.get(socket), passedMs));
      const upload = this.#uploads.get(socket);
      if (upload === undefined) continue;
      const { incoming, transfer } = upload;
      if (incoming.complete || incoming.destroyed) this.#uploads.delete(socket);
      // Bytes that have arrived and were not read yet wait for the gateway.
      else if (incoming.readableLength > 0) upload.transfer = null;
      else upload.transfer = this.#advance('upload', socket, transfer, passedMs);
    }
  }

  #advance(
    what: 'response' | 'upload',
    socket: Socket,
    before: Transfer | null | undefined,
    passedMs: number,
  ): Transfer {
    const bytes = what === 'upload' ? socket.bytesRead : socket.bytesWritten - socket.writableLength;
    if (!before) return { bytes, stalledMs: 0, windowMs: 0, windowBytes: 0 };
    const moved = bytes - before.bytes;
    const stalledMs = moved > 0 ? 0 : before.stalledMs + passedMs;
    const windowMs = before.windowMs + passedMs;
    const windowBytes = before.windowBytes + moved;
    const isSlow = windowMs >= RATE_WINDOW_MS && windowBytes < (MIN_BYTES_PER_SECOND * windowMs) / 1000;
    if (stalledMs >= this.#options.stallTimeoutMs() || isSlow) {
      // At debug: any caller can cause it without limit. The line of the request has it too.
      this.#options.log.debug({ what, address: socket.remoteAddress, stalledMs }, 'stalled transfer cut');
      this.#cut.add(socket);
      reset(socket);
    }
    if (windowMs >= RATE_WINDOW_MS) return { bytes, stalledMs, windowMs: 0, windowBytes: 0 };
    return { bytes, stalledMs, windowMs, windowBytes };
  }
}

/** The kernel would keep what was not read for minutes if the connection were closed in order. TLS has no reset of its own. */
function reset(socket: Socket): void {
  if ('encrypted' in socket) socket.destroy();
  else socket.resetAndDestroy();
}

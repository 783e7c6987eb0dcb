import { Readable } from 'node:stream';
import type { Clock } from '../clock.ts';
import type { ClientDisconnect } from '../context.ts';

/** `late`: its patience is over, or the line is full. */
export type AcquireResult = Permit | 'left' | 'late' | 'closed';

/** More would only wait to be refused; and each holds a connection and a body. */
const LONGEST_LINE = 1_000;

interface Waiting {
  readonly end: (turn: AcquireResult) => void;
}

/**
 * How many may be under way to an upstream at a time. The rest stands in line, first come first, and holds nothing meanwhile.
 */
export class ConcurrencyLimit {
  #most: number;
  readonly #clock: Clock;
  #taken = 0;
  readonly #line = new Set<Waiting>();
  #closed = false;

  constructor(most: number, clock: Clock) {
    this.#most = most;
    this.#clock = clock;
  }

  get inUse(): number {
    return this.#taken;
  }

  get waiting(): number {
    return this.#line.size;
  }

  /** Fewer take effect as places become free: what is under way is not cut off. */
  resize(most: number): void {
    this.#most = most;
    this.#serve();
  }

  /** Null: none is free, or others came before. */
  tryAcquire(): Permit | null {
    if (this.#taken >= this.#most || this.#line.size > 0) return null;
    return this.#give();
  }

  /** A place, in order, unless the caller leaves or loses patience before. */
  acquire(patienceMs: number, disconnect: ClientDisconnect): Promise<AcquireResult> {
    if (this.#closed) return Promise.resolve('closed');
    if (disconnect.happened) return Promise.resolve('left');
    if (patienceMs <= 0 || this.#line.size >= LONGEST_LINE) return Promise.resolve('late');
    return new Promise((resolve) => {
      const waiting: Waiting = {
        end: (turn) => {
          this.#line.delete(waiting);
          cancel();
          stopListening();
          resolve(turn);
        },
      };
      const cancel = this.#clock.after(patienceMs, () => waiting.end('late'));
      const stopListening = disconnect.onDisconnect(() => waiting.end('left'));
      this.#line.add(waiting);
      this.#serve();
    });
  }

  /** Sends all home who wait, and whoever comes to wait later. */
  close(): void {
    this.#closed = true;
    for (const waiting of [...this.#line]) waiting.end('closed');
  }

  #give(): Permit {
    this.#taken += 1;
    return new Permit(() => {
      this.#taken -= 1;
      this.#serve();
    });
  }

  #serve(): void {
    for (const waiting of this.#line) {
      if (this.#taken >= this.#most) return;
      waiting.end(this.#give());
    }
  }
}

/** One request that is under way, until the last byte of its answer. */
export class Permit {
  #free: (() => void) | null;
  #kept = false;

  constructor(release: () => void) {
    this.#free = release;
  }

  /** The answer still comes in: the place is free when that has ended, however it ends. */
  holdUntilClosed(body: unknown): void {
    if (!(body instanceof Readable) || body.closed) return;
    this.#kept = true;
    body.once('close', () => this.free());
  }

  /** The outcome is there. */
  releaseUnlessHeld(): void {
    if (!this.#kept) this.free();
  }

  free(): void {
    const free = this.#free;
    this.#free = null;
    free?.();
  }
}

import type { Clock } from './clock.ts';
import { type ClientDisconnect, onTimeoutOrDisconnect } from './context.ts';

/** `full`: there was no room in time. `closed`: the gateway drains. */
export type TakeResult = 'taken' | 'full' | 'disconnected' | 'closed';

interface Waiter {
  readonly tenant: string;
  readonly bytes: number;
  readonly end: (result: TakeResult) => void;
}

/**
 * The memory for bodies of a process, in bytes. A tenant may hold as much as is free (dynamic thresholds, Choudhury and Hahne 1998): half
 * of all while it is alone, a third beside another one. So there is always room for one more tenant, and no share lies idle.
 */
export class BodyMemory {
  #totalBytes: number;
  readonly #clock: Clock;
  #bytes = 0;
  /** By tenant, while it holds any. */
  readonly #held = new Map<string, number>();
  /** Requests that hold a part of their body come first, or two of them could wait for each other. Else in order of arrival. */
  readonly #growing = new Set<Waiter>();
  readonly #beginning = new Set<Waiter>();
  #closed = false;

  constructor(totalBytes: number, clock: Clock) {
    this.#totalBytes = totalBytes;
    this.#clock = clock;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get totalBytes(): number {
    return this.#totalBytes;
  }

  get waiting(): number {
    return this.#growing.size + this.#beginning.size;
  }

  /** No body above this ever finds room. */
  get largestBytes(): number {
    return Math.floor(this.#totalBytes / 2);
  }

  /** With a lower total, nothing that is held is given up. */
  resize(totalBytes: number): void {
    this.#totalBytes = totalBytes;
    this.#serveWaiters();
  }

  /** Memory for one body of this tenant. Release it. */
  open(tenant: string): HeldMemory {
    return new HeldMemory(this, tenant);
  }

  /** Ends all waits, and every later one at once. */
  close(): void {
    this.#closed = true;
    for (const waiter of [...this.#growing, ...this.#beginning]) waiter.end('closed');
  }

  /** @internal for HeldMemory */
  tryTake(tenant: string, bytes: number): boolean {
    const held = (this.#held.get(tenant) ?? 0) + bytes;
    if (held > this.#totalBytes - this.#bytes - bytes) return false;
    this.#held.set(tenant, held);
    this.#bytes += bytes;
    return true;
  }

  /** @internal for HeldMemory */
  give(tenant: string, bytes: number): void {
    if (bytes === 0) return;
    const held = (this.#held.get(tenant) ?? 0) - bytes;
    if (held > 0) this.#held.set(tenant, held);
    else this.#held.delete(tenant);
    this.#bytes -= bytes;
    this.#serveWaiters();
  }

  /** @internal for HeldMemory */
  take(tenant: string, bytes: number, growing: boolean, terms: TakeTerms): Promise<TakeResult> {
    const { maxWaitMs, disconnect } = terms;
    const waiters = growing ? this.#growing : this.#beginning;
    if (this.#closed) return Promise.resolve('closed');
    if (disconnect.happened) return Promise.resolve('disconnected');
    if (maxWaitMs <= 0 || bytes > this.largestBytes) return Promise.resolve('full');
    return new Promise((resolve) => {
      const waiter: Waiter = {
        ...{ tenant, bytes },
        end: (result) => {
          waiters.delete(waiter);
          cancel();
          resolve(result);
        },
      };
      const cancel = onTimeoutOrDisconnect({ clock: this.#clock, ms: maxWaitMs, disconnect }, (why) =>
        waiter.end(why === 'timeout' ? 'full' : why),
      );
      waiters.add(waiter);
      this.#serveWaiters();
    });
  }

  /** Whether an earlier request of the tenant waits to begin. */
  isWaited(tenant: string): boolean {
    for (const waiter of this.#beginning) if (waiter.tenant === tenant) return true;
    return false;
  }

  #serveWaiters(): void {
    if (this.waiting === 0) return;
    // Else small bodies would overtake a large one of their tenant for ever.
    const passed = new Set<string>();
    for (const waiter of [...this.#growing, ...this.#beginning]) {
      if (passed.has(waiter.tenant)) continue;
      if (this.tryTake(waiter.tenant, waiter.bytes)) waiter.end('taken');
      else passed.add(waiter.tenant);
    }
  }
}

interface TakeTerms {
  readonly maxWaitMs: number;
  readonly disconnect: ClientDisconnect;
}

export class HeldMemory {
  readonly #memory: BodyMemory;
  readonly #tenant: string;
  #bytes = 0;
  #released = false;

  constructor(memory: BodyMemory, tenant: string) {
    this.#memory = memory;
    this.#tenant = tenant;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** More memory, now or not at all. */
  tryTake(bytes: number): boolean {
    if (this.#released) return false;
    if (this.#bytes === 0 && this.#memory.isWaited(this.#tenant)) return false;
    if (!this.#memory.tryTake(this.#tenant, bytes)) return false;
    this.#bytes += bytes;
    return true;
  }

  /** More memory, after a wait if there is none. */
  async take(bytes: number, terms: TakeTerms): Promise<TakeResult> {
    if (this.tryTake(bytes)) return 'taken';
    const result = await this.#memory.take(this.#tenant, bytes, this.#bytes > 0, terms);
    if (result !== 'taken') return result;
    this.#bytes += bytes;
    // The body was given up meanwhile.
    if (this.#released) this.#giveAll();
    return result;
  }

  /** Gives back all but this much. */
  shrinkTo(bytes: number): void {
    const over = this.#bytes - bytes;
    if (over <= 0) return;
    this.#bytes = bytes;
    this.#memory.give(this.#tenant, over);
  }

  /** A second call does nothing. */
  release(): void {
    this.#released = true;
    this.#giveAll();
  }

  #giveAll(): void {
    const bytes = this.#bytes;
    this.#bytes = 0;
    this.#memory.give(this.#tenant, bytes);
  }
}

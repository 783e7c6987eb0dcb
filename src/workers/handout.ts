import type { Socket } from 'node:net';

/** Who takes connections: a worker. */
export interface Taker {
  give(socket: Socket): void;
}

/**
 * Connections that were accepted and not handed over yet: none, unless all workers are busy with one or are being started. Above
 * this they are cut off, as a kernel whose queue is full would not have let them in.
 */
export const MOST_WAITING = 1_024;

/**
 * Deals connections out to workers in turn. One that has not taken the last is left out until it has: a worker that is busy, or
 * hangs, gets no more, and what it did not take is one connection.
 */
export class Handout {
  readonly #free: Taker[] = [];
  readonly #busy = new Map<Taker, Socket>();
  #waiting: Socket[] = [];
  #whenIdle: (() => void)[] = [];
  readonly #onRefused: () => void;

  constructor(onRefused: () => void) {
    this.#onRefused = onRefused;
  }

  accept(socket: Socket): void {
    // Its caller may be gone before it is handed over.
    if (socket.listenerCount('error') === 0) socket.on('error', () => {});
    if (this.#waiting.length >= MOST_WAITING) {
      socket.resetAndDestroy();
      this.#onRefused();
      return;
    }
    this.#waiting.push(socket);
    this.#deal();
  }

  join(taker: Taker): void {
    this.#free.push(taker);
    this.#deal();
  }

  /** It is gone. What it was given and did not take it has not read: another takes it. */
  part(taker: Taker): void {
    const at = this.#free.indexOf(taker);
    if (at !== -1) this.#free.splice(at, 1);
    const given = this.#busy.get(taker);
    this.#busy.delete(taker);
    if (given !== undefined) this.#waiting.unshift(given);
    this.#deal();
  }

  took(taker: Taker): void {
    // Closes this process's end alone.
    this.#busy.get(taker)?.destroy();
    if (this.#busy.delete(taker)) this.join(taker);
  }

  /** Resolves when all that was accepted was taken. */
  idle(): Promise<void> {
    if (this.#isIdle()) return Promise.resolve();
    return new Promise((resolve) => this.#whenIdle.push(resolve));
  }

  close(): void {
    for (const socket of this.#waiting) socket.destroy();
    this.#waiting = [];
    this.#deal();
  }

  #isIdle(): boolean {
    return this.#waiting.length === 0 && this.#busy.size === 0;
  }

  #deal(): void {
    while (this.#waiting.length > 0) {
      const taker = this.#free.shift();
      if (taker === undefined) return;
      const socket = this.#waiting.shift() as Socket;
      this.#busy.set(taker, socket);
      taker.give(socket);
    }
    if (!this.#isIdle()) return;
    for (const resolve of this.#whenIdle.splice(0)) resolve();
  }
}

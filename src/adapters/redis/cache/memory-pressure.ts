import type { Clock } from '../../../clock.ts';
import type { Client } from '../client/scripts.ts';

/** Above this part of `maxmemory` no answer is stored: what is left is for the quota, which can not do without. */
const FULL = 0.8;
const LOOK_MS = 5_000;

/** Whether Redis has room for answers. It is looked at in the background, while answers are stored. */
export class Room {
  readonly #client: Client;
  readonly #clock: Clock;
  #full = false;
  #lookedAt = Number.NEGATIVE_INFINITY;

  constructor(client: Client, clock: Clock) {
    this.#client = client;
    this.#clock = clock;
  }

  get isFull(): boolean {
    if (this.#clock.monotonic() - this.#lookedAt >= LOOK_MS) {
      this.#lookedAt = this.#clock.monotonic();
      this.#client.info('memory').then(
        (text) => {
          const [used, most] = ['used_memory', 'maxmemory'].map((name) => readingOf(text, name));
          this.#full = most !== undefined && most > 0 && (used ?? 0) > most * FULL;
        },
        // Where it may not be asked, nothing is known of its room.
        () => {
          this.#full = false;
        },
      );
    }
    return this.#full;
  }
}

function readingOf(info: string, name: string): number {
  return Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(info)?.[1] ?? 0);
}

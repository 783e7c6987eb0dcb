import type { Clock } from '../../../clock.ts';
import type { Client } from '../client/scripts.ts';

/** Above this part of `maxmemory` no response is stored: the quota needs the rest. */
const MAX_USED = 0.8;
const READ_EVERY_MS = 5_000;

/** Whether Redis is short of memory. It is read in the background, while responses are stored. */
export class MemoryPressure {
  readonly #client: Client;
  readonly #clock: Clock;
  #isHigh = false;
  #readAt = Number.NEGATIVE_INFINITY;

  constructor(client: Client, clock: Clock) {
    this.#client = client;
    this.#clock = clock;
  }

  get isHigh(): boolean {
    if (this.#clock.monotonic() - this.#readAt >= READ_EVERY_MS) {
      this.#readAt = this.#clock.monotonic();
      void this.#read();
    }
    return this.#isHigh;
  }

  async #read(): Promise<void> {
    try {
      const text = await this.#client.info('memory');
      const maxBytes = numberIn(text, 'maxmemory');
      this.#isHigh = maxBytes > 0 && numberIn(text, 'used_memory') > maxBytes * MAX_USED;
    } catch {
      // A server may forbid INFO: then nothing is known.
      this.#isHigh = false;
    }
  }
}

function numberIn(info: string, name: string): number {
  return Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(info)?.[1] ?? 0);
}

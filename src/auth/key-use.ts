import { type Clock, every } from '../clock.ts';
import type { Log } from '../ports.ts';

/** When a key or an identity was used. A request writes it by one assignment. */
export interface KeyUse {
  /** Milliseconds of the epoch; 0: never since `knownSince`. */
  lastUsedAt: number;
  /** When a gateway first had the key in its configuration, as far as is known. */
  knownSince: number;
}

interface Named {
  readonly id: string;
}

/** Keeps the uses of all replicas, over restarts. */
export interface KeyUseStore {
  /**
   * Raises what is kept of each name to at least this value, and resolves to what is kept then, in the same order.
   *
   * @param uses by name: the minute of the last use; without one, minus the minute since when the key is known
   */
  merge(uses: ReadonlyMap<string, number>): Promise<readonly number[]>;
  /** Calls `run` each time the store can be asked, also again. */
  onReady(run: () => void): void;
  /** Forgets what was neither used nor known since this minute. */
  forgetBefore(minute: number): Promise<void>;
}

const MINUTE_MS = 60_000;
const FORGET_EVERY_MINUTES = 60;
/** Removed keys are remembered for so long: one that comes back still has its last use. */
const KEPT_MINUTES = 400 * 24 * 60;

/** The last uses of the configured keys and identities. With a store they are those of all replicas, without one those of this process. */
export class KeyUses {
  readonly #uses = new Map<string, KeyUse>();
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #store: KeyUseStore | null;
  #cancel = (): void => {};
  #rounds = 0;

  constructor({ clock, log, store }: { readonly clock: Clock; readonly log: Log; readonly store: KeyUseStore | null }) {
    this.#clock = clock;
    this.#log = log;
    this.#store = store;
  }

  /** The same object for the same key, over reloads. */
  of(tenant: string, key: string): KeyUse {
    const name = nameOf(tenant, key);
    const known = this.#uses.get(name) ?? { lastUsedAt: 0, knownSince: this.#clock.now() };
    this.#uses.set(name, known);
    return known;
  }

  /** Forgets all keys but these. */
  keep(
    configured: Iterable<{
      readonly id: string;
      readonly keys: readonly Named[];
      readonly identities: readonly Named[];
    }>,
  ): void {
    const names = new Set(
      [...configured].flatMap(({ id, keys, identities }) =>
        [...keys, ...identities].map((each) => nameOf(id, each.id)),
      ),
    );
    for (const name of this.#uses.keys()) if (!names.has(name)) this.#uses.delete(name);
  }

  /** Merges with the store as soon as it is there, and from then on once a minute. */
  start(): void {
    const store = this.#store;
    if (store === null) return;
    const merge = (): void => void this.#merge(store);
    store.onReady(merge);
    merge();
    this.#cancel = every(this.#clock, MINUTE_MS, merge);
  }

  /** Merges once more, so that a restart loses nothing. */
  async stop(): Promise<void> {
    this.#cancel();
    if (this.#store !== null) await this.#merge(this.#store);
  }

  async #merge(store: KeyUseStore): Promise<void> {
    const own = [...this.#uses];
    try {
      const kept = await store.merge(new Map(own.map(([name, use]) => [name, recordOf(use)])));
      for (const [index, [, use]] of own.entries()) learn(use, kept[index] ?? 0);
      this.#rounds += 1;
      if (this.#rounds % FORGET_EVERY_MINUTES === 1) {
        await store.forgetBefore(Math.floor(this.#clock.now() / MINUTE_MS) - KEPT_MINUTES);
      }
    } catch (error) {
      this.#log.debug({ err: error }, 'last uses of keys were not shared');
    }
  }
}

/** Start of the minute of the last use, in milliseconds of the epoch; null: none is known. */
export function lastMinuteOf({ lastUsedAt }: KeyUse): number | null {
  return lastUsedAt > 0 ? lastUsedAt - (lastUsedAt % MINUTE_MS) : null;
}

/** A tenant's name has no slash. */
function nameOf(tenant: string, key: string): string {
  return `${tenant}/${key}`;
}

/** The greater value is right, whatever the order in which replicas report: a use replaces none, and the earlier of two dates wins. */
function recordOf({ lastUsedAt, knownSince }: KeyUse): number {
  return lastUsedAt > 0 ? Math.floor(lastUsedAt / MINUTE_MS) : -Math.floor(knownSince / MINUTE_MS);
}

function learn(use: KeyUse, value: number): void {
  if (value > 0) use.lastUsedAt = Math.max(use.lastUsedAt, value * MINUTE_MS);
  if (value < 0) use.knownSince = Math.min(use.knownSince, -value * MINUTE_MS);
}

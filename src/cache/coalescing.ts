import type { Clock } from '../clock.ts';
import type { ClientDisconnect } from '../context.ts';
import type { Span } from '../ports.ts';
import type { StoredResponse } from './store.ts';

/** How a flight ended for those who waited for it. */
export type FetchResult =
  /** `key`: where it is stored, the variant's if it varies by `fields`. */
  | {
      readonly kind: 'stored';
      readonly entry: StoredResponse;
      readonly key: string;
      readonly fields: readonly string[];
    }
  /** The answer is of use to nobody else. */
  | { readonly kind: 'alone' }
  | { readonly kind: 'failed' }
  /** It was given up before there was an answer: another one may try. */
  | { readonly kind: 'again' };

export type FetchResultKind = FetchResult['kind'];

/** A request on its way upstream that others with the same key wait for. */
export interface InFlightFetch {
  /** The latest write of the account when it departed. */
  readonly since: number;
  readonly result: Promise<FetchResult>;
  /** Happens when all who wait for it have left. */
  readonly callers: CallerGroup;
  /** Of the request that departed: those who join are linked to it. Null for another replica's. */
  trace: Span | null;
  finish(landing: FetchResult): void;
}

/** One request of a tenant that asks for a slot, while others of the same tenant and key wait for what becomes of it. */
export interface TenantLeader {
  /** The caller has left, or somebody else's flight has departed meanwhile. */
  readonly disconnect: ClientDisconnect;
  readonly superseded: boolean;
  /** A flight for the key has departed, this one's or another's. */
  readonly fetchStarted: boolean;
  /** Resolves when it is over, whatever came of it. */
  readonly finished: Promise<void>;
  end(): void;
}

/**
 * What is under way in this process, by key. Both maps are bounded by the requests in flight.
 *
 * Who misses first of each tenant asks for a slot; who gets one departs, and all others wait for that flight. So no tenant
 * waits for the quota of another, and none spends more than one slot on a key.
 */
export class Coalescing {
  readonly #departed = new Map<string, InFlightFetch>();
  readonly #turns = new Map<string, Map<string, OpenLeader>>();

  current(key: string): InFlightFetch | undefined {
    return this.#departed.get(key);
  }

  /** Whether anybody is asking, or has departed. */
  isBusy(key: string): boolean {
    return this.#departed.has(key) || this.#turns.has(key);
  }

  /** Nobody joins this one any more; those who wait for it still hear of it. */
  detach(key: string, flight: InFlightFetch): void {
    if (this.#departed.get(key) === flight) this.#departed.delete(key);
  }

  start(key: string, since: number, trace: Span | null = null): InFlightFetch {
    let resolve: (landing: FetchResult) => void = () => {};
    const landed = new Promise<FetchResult>((settle) => {
      resolve = settle;
    });
    const company = new CallerGroup(() => this.detach(key, flight));
    const flight: InFlightFetch = {
      since,
      result: landed,
      callers: company,
      trace,
      finish: (landing) => {
        this.detach(key, flight);
        resolve(landing);
      },
    };
    this.#departed.set(key, flight);
    return flight;
  }

  /** The turn that this tenant's requests for the key have to wait for, if there is one. */
  leaderOf(key: string, tenant: string): TenantLeader | undefined {
    return this.#turns.get(key)?.get(tenant);
  }

  lead(key: string, tenant: string, caller: ClientDisconnect): TenantLeader {
    const turns = this.#turns.get(key) ?? new Map<string, OpenLeader>();
    const turn = new OpenLeader(caller, () => {
      turns.delete(tenant);
      if (turns.size === 0) this.#turns.delete(key);
    });
    turns.set(tenant, turn);
    this.#turns.set(key, turns);
    return turn;
  }

  /** The flight of this turn has departed: the others need no slot any more. */
  supersedeOthers(key: string, tenant: string): void {
    for (const [other, turn] of [...(this.#turns.get(key) ?? [])]) {
      turn.fetchStarted = true;
      if (other === tenant) turn.end();
      else turn.recall();
    }
  }
}

/** Whoever waits for one flight: it is given up when the last of them has left. */
export class CallerGroup implements ClientDisconnect {
  readonly #onEmpty: () => void;
  readonly #listeners = new Set<() => void>();
  #members = 0;
  #left = false;

  constructor(onEmpty: () => void) {
    this.#onEmpty = onEmpty;
  }

  get happened(): boolean {
    return this.#left;
  }

  onDisconnect(run: () => void): () => void {
    if (this.#left) {
      run();
      return () => {};
    }
    this.#listeners.add(run);
    return () => this.#listeners.delete(run);
  }

  /** Returns how to leave; leaving twice is leaving once. */
  join(member: ClientDisconnect): () => void {
    this.#members += 1;
    let here = true;
    const leave = (): void => {
      if (!here) return;
      here = false;
      stop();
      this.#members -= 1;
      if (this.#members === 0) this.#disband();
    };
    let stop = (): void => {};
    stop = member.onDisconnect(leave);
    return leave;
  }

  #disband(): void {
    this.#left = true;
    this.#onEmpty();
    const listeners = [...this.#listeners];
    this.#listeners.clear();
    for (const run of listeners) run();
  }
}

class OpenLeader implements TenantLeader {
  readonly finished: Promise<void>;
  readonly disconnect: CallerGroup;
  superseded = false;
  fetchStarted = false;
  readonly #leave: () => void;
  readonly #remove: () => void;
  #resolve: () => void = () => {};

  constructor(caller: ClientDisconnect, remove: () => void) {
    this.#remove = remove;
    this.finished = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    this.disconnect = new CallerGroup(() => {});
    this.#leave = this.disconnect.join(caller);
  }

  recall(): void {
    this.superseded = true;
    this.#leave();
    this.end();
  }

  end(): void {
    this.#remove();
    this.#resolve();
  }
}

/** Of somebody who stays, whatever happens. */
export const NEVER_DISCONNECTS: ClientDisconnect = { happened: false, onDisconnect: () => () => {} };

/** Waits for something of others', but no longer than the caller stays and than `longestMs`. */
export function waitFor<T>(
  what: Promise<T>,
  { clock, disconnect, longestMs }: { clock: Clock; disconnect: ClientDisconnect; longestMs: number },
): Promise<T | 'left' | 'late'> {
  return new Promise((resolve, reject) => {
    let stop = (): void => {};
    const end = (result: T | 'left' | 'late'): void => {
      cancel();
      stop();
      resolve(result);
    };
    const cancel = clock.after(longestMs, () => end('late'));
    stop = disconnect.onDisconnect(() => end('left'));
    what.then(end, reject);
  });
}

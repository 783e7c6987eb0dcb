import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { Clock } from '../clock.ts';
import { type ClientDisconnect, DisconnectSignal } from '../context.ts';
import type { Span } from '../ports.ts';
import type { StoredResponse } from './store.ts';

/** The result of an in-flight fetch, for those who wait for it. */
export type FetchResult =
  /** `key`: where the response is stored; the key of the variant if it varies by `fields`. */
  | {
      readonly kind: 'stored';
      readonly entry: StoredResponse;
      readonly key: string;
      readonly fields: readonly string[];
    }
  /** The response cannot be shared: each caller fetches alone. */
  | { readonly kind: 'unshareable' }
  /** A redirect or an error of the caller, which others may not get: another caller may fetch. */
  | { readonly kind: 'refused' }
  | { readonly kind: 'failed' }
  /** It was cancelled before there was a response: another caller may fetch. */
  | { readonly kind: 'cancelled' };

export type FetchResultKind = FetchResult['kind'];

/** A request to the upstream that other requests with the same key wait for. */
export interface InFlightFetch {
  /** The latest write of the account when it was sent. */
  readonly since: number;
  readonly result: Promise<FetchResult>;
  /** All who wait for it. */
  readonly callers: CallerGroup;
  /** The trace of the request that was sent: the traces of those who join link to it. Null for a fetch of another replica. */
  trace: Span | null;
  finish(result: FetchResult): void;
}

/**
 * The fetches of this process, by key. Both maps are bounded by the requests in flight.
 *
 * The first request of each tenant that misses asks for a slot. The first that gets one is sent, and all others wait for its
 * response. So no tenant waits for the quota of another one, and none uses more than one slot for a key.
 */
export class Coalescing {
  readonly #inFlight = new Map<string, InFlightFetch>();
  readonly #leaders = new Map<string, Map<string, TenantLeader>>();

  current(key: string): InFlightFetch | undefined {
    return this.#inFlight.get(key);
  }

  /** Whether a request asks for a slot for this key, or was sent. */
  isBusy(key: string): boolean {
    return this.#inFlight.has(key) || this.#leaders.has(key);
  }

  /** From now on no request joins this fetch; those who wait for it still get its result. */
  detach(key: string, fetch: InFlightFetch): void {
    if (this.#inFlight.get(key) === fetch) this.#inFlight.delete(key);
  }

  start(key: string, since: number, trace: Span | null = null): InFlightFetch {
    let resolve: (result: FetchResult) => void = () => {};
    const fetch: InFlightFetch = {
      since,
      result: new Promise((settle) => {
        resolve = settle;
      }),
      callers: new CallerGroup(() => this.detach(key, fetch)),
      trace,
      finish: (result) => {
        this.detach(key, fetch);
        resolve(result);
      },
    };
    this.#inFlight.set(key, fetch);
    return fetch;
  }

  /** The leader that other requests of this tenant for the key wait for. */
  leaderOf(key: string, tenant: string): TenantLeader | undefined {
    return this.#leaders.get(key)?.get(tenant);
  }

  lead(key: string, tenant: string, caller: ClientDisconnect): TenantLeader {
    const leaders = this.#leaders.get(key) ?? new Map<string, TenantLeader>();
    const leader = new TenantLeader(caller, () => {
      leaders.delete(tenant);
      if (leaders.size === 0) this.#leaders.delete(key);
    });
    leaders.set(tenant, leader);
    this.#leaders.set(key, leaders);
    return leader;
  }

  /** The tenant's fetch was sent: the leaders of other tenants need no slot any more. */
  supersedeOthers(key: string, tenant: string): void {
    for (const [other, leader] of [...(this.#leaders.get(key) ?? [])]) {
      leader.fetchStarted = true;
      if (other === tenant) leader.end();
      else leader.supersede();
    }
  }
}

/** The request of a tenant that asks for a slot, while others of this tenant with the same key wait for the outcome. */
export class TenantLeader {
  /** Resolves when the leader has ended, with or without a response. */
  readonly finished: Promise<void>;
  /** Its caller has disconnected, or the fetch of another tenant was sent first. */
  readonly disconnect = new CallerGroup(() => {});
  /** The fetch of another tenant was sent first. */
  superseded = false;
  /** A fetch for the key was sent, this one or another. */
  fetchStarted = false;
  readonly #leave: () => void;
  #remove: (() => void) | null;
  #resolve: () => void = () => {};

  constructor(caller: ClientDisconnect, remove: () => void) {
    this.finished = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    this.#remove = remove;
    this.#leave = this.disconnect.join(caller);
  }

  supersede(): void {
    this.superseded = true;
    this.#leave();
    this.end();
  }

  /** Again after its fetch has ended: by then another request may lead, which this one must not remove. */
  end(): void {
    this.#remove?.();
    this.#remove = null;
    this.#resolve();
  }
}

/** Longer keys are kept as digests. */
const MAX_KEY_LENGTH = 64;

/**
 * Keys with an expiry. Above `max`, the oldest are dropped first. Callers choose the keys, as long as their headers may be, so that a
 * digest stands for a long one.
 */
export class ExpiringSet {
  readonly #keys: LRUCache<string, true>;

  constructor(clock: Clock, max = 10_000) {
    // The library takes 0 for no time.
    this.#keys = new LRUCache({ max, ttlResolution: 0, perf: { now: () => clock.monotonic() + 1 } });
  }

  get size(): number {
    return this.#keys.size;
  }

  has(key: string): boolean {
    // Hashing costs more than the question, and nearly always the set is empty.
    return this.#keys.size > 0 && this.#keys.has(nameOf(key));
  }

  add(key: string, ttlMs: number): void {
    this.#keys.set(nameOf(key), true, { ttl: ttlMs });
  }

  delete(key: string): void {
    if (this.#keys.size > 0) this.#keys.delete(nameOf(key));
  }
}

function nameOf(key: string): string {
  return key.length <= MAX_KEY_LENGTH ? key : createHash('sha256').update(key).digest('base64url');
}

/** The callers that wait for one in-flight fetch. It counts as disconnected when the last of them has disconnected. */
class CallerGroup extends DisconnectSignal {
  readonly #onEmpty: () => void;
  #size = 0;

  constructor(onEmpty: () => void) {
    super();
    this.#onEmpty = onEmpty;
  }

  /** Returns a function that removes the caller; a second call has no effect. */
  join(caller: ClientDisconnect): () => void {
    this.#size += 1;
    let joined = true;
    let stop = (): void => {};
    const leave = (): void => {
      if (!joined) return;
      joined = false;
      stop();
      this.#size -= 1;
      if (this.#size > 0) return;
      this.#onEmpty();
      this.leave();
    };
    stop = caller.onDisconnect(leave);
    return leave;
  }
}

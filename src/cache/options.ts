import type { Clock } from '../clock.ts';
import type { RequestContext } from '../context.ts';
import type { Meter } from '../ports.ts';
import type { Pattern } from '../routing/pattern.ts';
import type { ExpiringSet } from './brief.ts';
import type { Coalescing, FetchResultKind } from './coalescing.ts';
import type { InvalidationLog } from './invalidation-log.ts';
import type { Keyed } from './key.ts';
import type { CacheRule } from './rules.ts';
import type { CacheStore, StoredResponse } from './store.ts';

/** What routing has added to an request that the cache can work with. */
export interface CacheableContext extends RequestContext, Keyed {
  /** Of the path, decoded: what rules are compared with. */
  readonly segments: readonly string[];
}

/** What lasts as long as the store, also over a reload. */
export interface CacheState {
  readonly store: CacheStore;
  readonly invalidations: InvalidationLog;
  readonly coalescing: Coalescing;
  /** Flights of all replicas; null where there are no others. */
  readonly replicas: ReplicaCoalescing | null;
  /** Keys whose answers were of use to nobody else a moment ago: nobody waits for another's. */
  readonly notShareable: ExpiringSet;
  /** Keys that upstream, or the quota, failed to answer a moment ago: not to be tried again for nobody's sake. */
  readonly failing: ExpiringSet;
}

export interface CacheOptions extends CacheState {
  /** Short, another one for other rules or other hosts: part of every key. */
  readonly namespace: string;
  /** First match wins. */
  readonly rules: readonly CacheRule[];
  /** What a write drops besides the collection it wrote to; path patterns such as `/api/v1/flows/**`. */
  readonly invalidate?: readonly InvalidationRule[];
  /** Bodies above this are passed on and not stored. */
  readonly maxEntryBytes: number;
  /** While writes through other replicas are unheard of, an answer is served this long. */
  readonly maxDisconnectedAgeMs: number;
  /** How long after a request was given up it may still be carried out. */
  readonly lateArrivalMs: number;
  readonly clock: Clock;
  readonly meter: Meter;
  /** Is told of work that no caller waits for. */
  readonly background: (work: Promise<unknown>) => void;
}

export interface InvalidationRule {
  readonly after: Pattern;
  readonly drop: readonly string[];
}

/** The flights of other replicas. */
export interface ReplicaCoalescing {
  announce(key: string, since: number, landed: Promise<FetchResultKind>): Promise<Announced>;
}

export type Announced =
  /**
   * None is under way that departed after the same writes as this one; this one is known to all from now on, until `landed`.
   * `stored`: an answer is there, perhaps of one that has landed a moment ago.
   */
  | { readonly kind: 'ours'; readonly stored: boolean }
  /** `landed` tells how that one ends, in bounded time. */
  | { readonly kind: 'theirs'; readonly landed: Promise<FetchResultKind> };

/** Where an answer goes. */
export interface StoreTarget {
  /** The primary key. */
  readonly key: string;
  /** What others who want the same are known by: the variant's key, where it is known that answers vary. */
  readonly fetchKey: string;
  readonly rule: CacheRule | null;
}

/** How a request that the cache could not answer is to be fetched, and what became of it. */
export interface FetchPlan {
  /** Null: the answer is not to be stored. */
  readonly storeAs: StoreTarget | null;
  /** Others may wait for this one, and it for others. */
  readonly shared: boolean;
  /** What is held of it and can be validated. */
  readonly existing: StoredResponse | null;
  /** Written by the stage that sends, from here on. Somebody else's flight has departed first: nothing was sent. */
  superseded: boolean;
  /** The answer is stored, or will be if all goes well. */
  stored: boolean;
  /** The answer as it is stored, where the whole of it is there. */
  entry: StoredResponse | null;
  /** Upstream said 304: `entry` is what was held, freshened. */
  revalidated: boolean;
}

export interface WithFetchPlan {
  readonly fetch: FetchPlan;
}

export function fetchPlan(into: FetchPlan['storeAs'], shared = false, held: StoredResponse | null = null): FetchPlan {
  return { storeAs: into, shared, existing: held, superseded: false, stored: false, entry: null, revalidated: false };
}

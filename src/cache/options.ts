import type { BodyMemory } from '../body-memory.ts';
import type { Clock } from '../clock.ts';
import type { RequestContext } from '../context.ts';
import type { Meter } from '../ports.ts';
import type { Pattern } from '../routing/pattern.ts';
import type { Rewrite } from '../routing/rewrite.ts';
import type { SentRequest } from '../upstream/headers.ts';
import type { Coalescing, ExpiringSet, FetchResultKind } from './coalescing.ts';
import type { InvalidationLog } from './invalidation-log.ts';
import type { CacheStore, StaleWindows, StoredResponse } from './store.ts';

/** The parts of a request that its key is made of. */
export interface Keyed extends SentRequest {
  /** Canonical, without trailing slash, so that `/data-pool` and `/data-pool/` are one. */
  readonly path: string;
  readonly canonicalQuery: string;
  readonly route: {
    readonly upstream: {
      readonly id: string;
      readonly account: string;
      readonly origin: string;
      readonly timeoutMs: number;
    };
    readonly rewriteLinks: boolean;
    readonly rewrite?: Rewrite | null;
    readonly secretHeaders?: ReadonlySet<string>;
    /** A GET starts a run. */
    readonly starts?: boolean;
  };
}

/** A request with everything that the cache needs to know of its route. */
export interface CacheableContext extends RequestContext, Keyed {}

/** State of the cache, which outlives a reload. */
export interface CacheState {
  readonly store: CacheStore;
  readonly invalidations: InvalidationLog;
  readonly coalescing: Coalescing;
  /** Coalescing with other replicas; null where there are none. */
  readonly replicas: ReplicaCoalescing | null;
  /** Keys whose latest response could not be shared: requests for them do not wait for each other. */
  readonly notShareable: ExpiringSet;
  /** Keys that the upstream or the quota refused a moment ago: no background refresh until they expire. */
  readonly failing: ExpiringSet;
}

export interface CacheOptions extends CacheState {
  /** Short; differs with the rules and the origins. Part of every key. */
  readonly namespace: string;
  /** First match wins. */
  readonly rules: readonly CacheRule[];
  /** Paths that a write invalidates besides its own collection. */
  readonly invalidate?: readonly InvalidationRule[];
  /** Larger bodies are passed on and not stored. */
  readonly maxEntryBytes: number;
  /** For the copies of responses until they are stored. */
  readonly bodyMemory: BodyMemory;
  /** How long a response may be served while the writes of other replicas are unknown. */
  readonly maxDisconnectedAgeMs: number;
  /** How long after its failure the upstream may still carry a request out. */
  readonly lateArrivalMs: number;
  readonly clock: Clock;
  readonly meter: Meter;
  /** Receives work that no caller waits for. */
  readonly background: (work: Promise<unknown>) => void;
}

/** Query values whose responses are not stored: `{ include: ['variables'] }`, as the operator wrote them. */
export type Unless = Readonly<Record<string, readonly string[]>>;

export type CacheRule =
  | { readonly match: Pattern; readonly store: false }
  | ({
      readonly match: Pattern;
      readonly store: true;
      readonly ttlMs: number;
      readonly unless: Unless;
      /** Request fields that select the response, besides those in its Vary. Lower case. */
      readonly vary: readonly string[];
      /** An operator can purge by these. */
      readonly tags: readonly string[];
    } & StaleWindows);

export interface InvalidationRule {
  readonly after: Pattern;
  /** Path patterns such as `/api/v1/flows/**`. */
  readonly drop: readonly string[];
}

export interface ReplicaCoalescing {
  /**
   * Announces a fetch of this replica to the others.
   *
   * @param since the latest write of the account: a fetch from before that write does not count
   * @param result ends the announcement
   */
  announce(key: string, since: number, result: Promise<FetchResultKind>): Promise<Announced>;
}

export type Announced =
  /** The others wait for this replica's fetch. `stored`: a response is in the store, perhaps since a moment ago. */
  | { readonly kind: 'ours'; readonly stored: boolean }
  /** Another replica fetches; `result` resolves in bounded time. */
  | { readonly kind: 'theirs'; readonly result: Promise<FetchResultKind> };

/** Where a response is stored. */
export interface StoreTarget {
  readonly primaryKey: string;
  /** Requests with the same one are coalesced: the key of the variant, where responses are known to vary. */
  readonly fetchKey: string;
  readonly rule: CacheRule | null;
}

/** How the lower half of the cache fetches a response, and its result for the upper half. */
export interface FetchPlan {
  /** Null: the response is not stored. */
  readonly storeAs: StoreTarget | null;
  /** The fetch is coalesced with others. */
  readonly shared: boolean;
  /** A stored response that can be validated. */
  readonly existing: StoredResponse | null;

  // The lower half writes these:
  /** Another fetch for the same key was sent first, so this one was not. */
  superseded: boolean;
  /** The response is stored, or will be when its body has arrived. */
  stored: boolean;
  /** The stored response, once its body is complete. */
  entry: StoredResponse | null;
  /** The upstream responded with 304: `entry` is the existing response with new headers. */
  revalidated: boolean;
}

export interface WithFetchPlan {
  readonly fetch: FetchPlan;
}

/** The part of a plan that the lower half writes, before it has. */
export const NOT_FETCHED = { superseded: false, stored: false, entry: null, revalidated: false } as const;

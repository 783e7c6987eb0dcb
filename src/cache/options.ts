import type { Authorised } from '../auth/authorise.ts';
import type { BodyMemory } from '../body-memory.ts';
import type { Clock } from '../clock.ts';
import type { Meter } from '../ports.ts';
import type { Route, Routed } from '../routing/match-route.ts';
import type { Pattern } from '../routing/pattern.ts';
import type { SentRequest } from '../upstream/headers.ts';
import type { Coalescing, ExpiringSet, FetchResultKind } from './coalescing.ts';
import type { CacheStore, InvalidationLog, StaleWindows, StoredResponse } from './store.ts';

/** The parts of a request that its key is made of. */
export interface Keyed extends SentRequest, Pick<Routed, 'path' | 'canonicalQuery'> {
  readonly route: SentRequest['route'] & Pick<Route, 'upstream'>;
}

/** A request with everything that the cache needs to know of its route. */
export interface CacheableContext extends Routed, Authorised {}

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
  readonly clock: Clock;
  readonly meter: Meter;
  /** Receives work that no caller waits for. */
  readonly background: (work: Promise<unknown>) => void;
}

/** Query values whose responses are not stored: `{ include: ['variables'] }`, as the operator wrote them. */
export type Unless = Readonly<Record<string, readonly string[]>>;

export type CacheRule = { readonly match: Pattern; readonly store: false } | StoringRule;

export interface StoringRule extends StaleWindows {
  readonly match: Pattern;
  readonly store: true;
  readonly ttlMs: number;
  readonly unless: Unless;
  /** Request fields that select the response, besides those in its Vary. Lower case. */
  readonly vary: readonly string[];
  /** An operator can purge by these. */
  readonly tags: readonly string[];
}

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

/** Cache-Control of a request (RFC 9111 section 5.2.1). */
export interface RequestDirectives {
  readonly noCache: boolean;
  readonly noStore: boolean;
  readonly onlyIfCached: boolean;
  readonly maxAgeMs: number;
  readonly minFreshMs: number;
}

/** Why a request went to the upstream (RFC 9211 section 2.2). */
export type ForwardReason = 'miss' | 'stale' | 'request';

/** A request that no stored response can serve. */
export interface Miss {
  readonly primaryKey: string;
  /** Requests with the same one are coalesced: the key of the variant, where responses are known to vary. */
  readonly fetchKey: string;
  readonly rule: StoringRule | null;
  readonly reason: ForwardReason;
  readonly directives: RequestDirectives;
  /** A stored response that cannot be served as it is. */
  readonly existing: StoredResponse | null;
}

/** How the lower half of the cache fetches a response, and its result for the upper half. */
export interface FetchPlan {
  /** Where the response is stored; null: it is not. */
  readonly storeAs: Pick<Miss, 'primaryKey' | 'fetchKey' | 'rule'> | null;
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

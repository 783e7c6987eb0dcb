import type { Clock } from '../clock.ts';
import type { Received } from '../exchange.ts';
import type { Meter } from '../observe.ts';
import type { Pattern } from '../routing/pattern.ts';
import type { BriefMemory } from './brief.ts';
import type { Drops } from './drops.ts';
import type { Flights, HowLanded } from './flights.ts';
import type { Keyed } from './key.ts';
import type { CacheRule } from './rules.ts';
import type { CacheStore, StoredAnswer } from './store.ts';

/** What routing has added to an exchange that the cache can work with. */
export interface Cacheable extends Received, Keyed {
  /** Of the path, decoded: what rules are compared with. */
  readonly segments: readonly string[];
}

/** What lasts as long as the store, also over a reload. */
export interface CacheState {
  readonly store: CacheStore;
  readonly drops: Drops;
  readonly flights: Flights;
  /** Flights of all replicas; null where there are no others. */
  readonly others: OtherFlights | null;
  /** Keys whose answers were of use to nobody else a moment ago: nobody waits for another's. */
  readonly lone: BriefMemory;
  /** Keys that upstream, or the quota, failed to answer a moment ago: not to be tried again for nobody's sake. */
  readonly failing: BriefMemory;
}

export interface CacheOptions extends CacheState {
  /** Short, another one for other rules or other hosts: part of every key. */
  readonly scope: string;
  /** First match wins. */
  readonly rules: readonly CacheRule[];
  /** What a write drops besides the collection it wrote to; path patterns such as `/api/v1/flows/**`. */
  readonly invalidate?: readonly InvalidationRule[];
  /** Bodies above this are passed on and not stored. */
  readonly maxEntryBytes: number;
  /** While writes through other replicas are unheard of, an answer is served this long. */
  readonly unheardMs: number;
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
export interface OtherFlights {
  board(key: string, since: number, landed: Promise<HowLanded>): Promise<Boarded>;
}

export type Boarded =
  /**
   * None is under way that departed after the same writes as this one; this one is known to all from now on, until `landed`.
   * `stored`: an answer is there, perhaps of one that has landed a moment ago.
   */
  | { readonly kind: 'ours'; readonly stored: boolean }
  /** `landed` tells how that one ends, in bounded time. */
  | { readonly kind: 'theirs'; readonly landed: Promise<HowLanded> };

/** Where an answer goes. */
export interface Into {
  /** The primary key. */
  readonly key: string;
  /** What others who want the same are known by: the variant's key, where it is known that answers vary. */
  readonly flight: string;
  readonly rule: CacheRule | null;
}

/** How a request that the cache could not answer is to be fetched, and what became of it. */
export interface Fetch {
  /** Null: the answer is not to be stored. */
  readonly into: Into | null;
  /** Others may wait for this one, and it for others. */
  readonly shared: boolean;
  /** What is held of it and can be validated. */
  readonly held: StoredAnswer | null;
  /** Written by the stage that sends, from here on. Somebody else's flight has departed first: nothing was sent. */
  turnedBack: boolean;
  /** The answer is stored, or will be if all goes well. */
  stored: boolean;
  /** The answer as it is stored, where the whole of it is there. */
  entry: StoredAnswer | null;
  /** Upstream said 304: `entry` is what was held, freshened. */
  confirmed: boolean;
}

export interface Fetching {
  readonly fetch: Fetch;
}

export function fetchOf(into: Fetch['into'], shared = false, held: StoredAnswer | null = null): Fetch {
  return { into, shared, held, turnedBack: false, stored: false, entry: null, confirmed: false };
}

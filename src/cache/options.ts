import type { Clock } from '../clock.ts';
import type { Received } from '../exchange.ts';
import type { Meter } from '../observe.ts';
import type { Pattern } from '../routing/pattern.ts';
import type { Drops } from './drops.ts';
import type { Keyed } from './key.ts';
import type { CacheRule } from './policy.ts';
import type { CacheStore } from './store.ts';

/** What routing has added to an exchange that the cache can work with. */
export interface Cacheable extends Received, Keyed {
  /** Of the path, decoded: what rules are compared with. */
  readonly segments: readonly string[];
}

export interface CacheOptions {
  readonly store: CacheStore;
  /** Must live as long as the store, also over a reload. */
  readonly drops: Drops;
  /** First match wins. */
  readonly rules: readonly CacheRule[];
  /** What a write drops besides the collection it wrote to; path patterns such as `/api/v1/flows/**`. */
  readonly invalidate?: readonly InvalidationRule[];
  /** Bodies above this are passed on and not stored. */
  readonly maxEntryBytes: number;
  readonly clock: Clock;
  readonly meter: Meter;
}

export interface InvalidationRule {
  readonly after: Pattern;
  readonly drop: readonly string[];
}

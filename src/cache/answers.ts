import { timed } from '../observe.ts';
import { variantKey } from './key.ts';
import type { Cacheable, CacheOptions } from './options.ts';
import { ageOf, type CacheEntry, type StoredAnswer } from './store.ts';
import { type Fields, selectingFields } from './stored.ts';

/** What is stored for a request. */
export interface Found {
  /** The primary key; or, where the answers are known to vary, that of the request's variant. */
  readonly key: string;
  readonly entry: StoredAnswer | null;
}

/** The stored answer that the request selects and that no write has touched. Synchronous where the store is. */
export function lookUp(options: CacheOptions, exchange: Cacheable, key: string): Found | Promise<Found> {
  const found = timed(exchange.trace, 'look up', options.store.get(key));
  return found instanceof Promise
    ? found.then((entry) => select(options, exchange, key, entry))
    : select(options, exchange, key, found);
}

function select(
  options: CacheOptions,
  exchange: Cacheable,
  key: string,
  entry: CacheEntry | undefined,
): Found | Promise<Found> {
  if (entry === undefined) return { key, entry: null };
  if (entry.kind === 'signpost') return lookUp(options, exchange, variantKey(key, entry.fields, exchange.headers));
  if (isUntouched(options, exchange, entry)) return { key, entry: isInTouch(options, exchange, entry) ? entry : null };
  options.store.delete(key);
  return newer(options, exchange, key);
}

/** What another replica has stored of it since: what is here was dropped. */
function newer(options: CacheOptions, exchange: Cacheable, key: string): Found | Promise<Found> {
  const beyond = options.store.beyond(key);
  if (beyond === null) return { key, entry: null };
  return Promise.resolve(timed(exchange.trace, 'look up', beyond)).then((entry) => {
    const usable = entry?.kind === 'answer' && isUntouched(options, exchange, entry);
    return { key, entry: usable ? entry : null };
  });
}

/** A fresher one than is held here, which another replica has stored; null if there is none. */
export async function fresherThan(
  options: CacheOptions,
  exchange: Cacheable,
  key: string,
  held: StoredAnswer,
): Promise<StoredAnswer | null> {
  const beyond = options.store.beyond(key);
  if (beyond === null) return null;
  const found = await timed(exchange.trace, 'look up', beyond);
  const { entry } = await select(options, exchange, key, found);
  if (entry === null) return null;
  const now = options.clock.monotonic();
  return ageOf(entry, now) < entry.freshForMs && entry.arrivedAt > held.arrivedAt ? entry : null;
}

/** No write has changed what it tells of. */
export function isUntouched({ drops }: CacheOptions, exchange: Cacheable, entry: StoredAnswer): boolean {
  const { account } = exchange.route.upstream;
  const latest = drops.latest(account);
  if (entry.clearedUpTo === latest) return true;
  const target = { segments: exchange.segments, tags: entry.tags };
  if (!drops.untouchedSince(account, target, entry.clearedUpTo)) return false;
  entry.clearedUpTo = latest;
  return true;
}

/** While writes through other replicas are unheard of, an answer is served for a short time only. */
function isInTouch({ drops, clock, unheardMs }: CacheOptions, exchange: Cacheable, entry: StoredAnswer): boolean {
  const doubt = drops.doubtSince(exchange.route.upstream.account);
  return doubt === null || clock.monotonic() - Math.max(doubt, entry.askedAt) < unheardMs;
}

/**
 * Under the primary key; or, if the answer varies, under that of its variant with a signpost at the primary key.
 *
 * @returns the key, and the fields it varies by
 */
export function keep(
  options: CacheOptions,
  exchange: Cacheable,
  primary: string,
  fields: Fields,
  entry: StoredAnswer,
  keepMs: number,
): { readonly key: string; readonly fields: readonly string[] } {
  const selecting = selectingFields(fields);
  if (selecting.length === 0) {
    options.store.set(primary, entry, keepMs);
    return { key: primary, fields: selecting };
  }
  const key = variantKey(primary, selecting, exchange.headers);
  options.store.set(primary, { kind: 'signpost', fields: selecting }, keepMs);
  options.store.set(key, entry, keepMs);
  return { key, fields: selecting };
}

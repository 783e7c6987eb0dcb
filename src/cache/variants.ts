import { traced } from '../ports.ts';
import { variantKey } from './key.ts';
import type { CacheableContext, CacheOptions } from './options.ts';
import { ageOf, type CacheEntry, type StoredResponse } from './store.ts';
import { type Fields, selectingFields } from './stored-headers.ts';

/** What is stored for a request. */
export interface Selection {
  /** The primary key; or, where the answers are known to vary, that of the request's variant. */
  readonly key: string;
  readonly entry: StoredResponse | null;
}

/** The stored answer that the request selects and that no write has touched. Synchronous where the store is. */
export function findStored(
  options: CacheOptions,
  context: CacheableContext,
  key: string,
): Selection | Promise<Selection> {
  const found = options.store.get(key);
  return found instanceof Promise
    ? traced(context.trace, 'look up', found).then((entry) => select(options, context, key, entry))
    : select(options, context, key, found);
}

function select(
  options: CacheOptions,
  context: CacheableContext,
  key: string,
  entry: CacheEntry | undefined,
): Selection | Promise<Selection> {
  if (entry === undefined) return { key, entry: null };
  if (entry.kind === 'vary') return findStored(options, context, variantKey(key, entry.fields, context.headers));
  if (isStillValid(options, context, entry)) return { key, entry: isInTouch(options, context, entry) ? entry : null };
  options.store.delete(key);
  return newer(options, context, key);
}

/** What another replica has stored of it since: what is here was dropped. */
function newer(options: CacheOptions, context: CacheableContext, key: string): Selection | Promise<Selection> {
  const beyond = options.store.getShared(key);
  if (beyond === null) return { key, entry: null };
  return traced(context.trace, 'look up', beyond).then((entry) => {
    const usable = entry?.kind === 'response' && isStillValid(options, context, entry);
    return { key, entry: usable ? entry : null };
  });
}

/** A fresher one than is held here, which another replica has stored; null if there is none. */
export async function findFresher(
  options: CacheOptions,
  context: CacheableContext,
  key: string,
  held: StoredResponse,
): Promise<StoredResponse | null> {
  const beyond = options.store.getShared(key);
  if (beyond === null) return null;
  const found = await traced(context.trace, 'look up', beyond);
  const { entry } = await select(options, context, key, found);
  if (entry === null) return null;
  const now = options.clock.monotonic();
  return ageOf(entry, now) < entry.freshForMs && entry.receivedAt > held.receivedAt ? entry : null;
}

/** No write has changed what it tells of. */
export function isStillValid(
  { invalidations: drops }: CacheOptions,
  context: CacheableContext,
  entry: StoredResponse,
): boolean {
  const { account } = context.route.upstream;
  const latest = drops.latestWrite(account);
  if (entry.validUpToWrite === latest) return true;
  const target = { segments: context.segments, tags: entry.tags };
  if (!drops.isValidSince(account, target, entry.validUpToWrite)) return false;
  entry.validUpToWrite = latest;
  return true;
}

/** While writes through other replicas are unheard of, an answer is served for a short time only. */
function isInTouch(
  { invalidations: drops, clock, maxDisconnectedAgeMs: unheardMs }: CacheOptions,
  context: CacheableContext,
  entry: StoredResponse,
): boolean {
  const doubt = drops.disconnectedSince(context.route.upstream.account);
  return doubt === null || clock.monotonic() - Math.max(doubt, entry.requestedAt) < unheardMs;
}

/**
 * Under the primary key; or, if the answer varies, under that of its variant with a signpost at the primary key.
 *
 * @returns the key, and the fields it varies by
 */
export function storeResponse(
  options: CacheOptions,
  context: CacheableContext,
  primary: string,
  fields: Fields,
  entry: StoredResponse,
  keepMs: number,
): { readonly key: string; readonly fields: readonly string[] } {
  const selecting = selectingFields(fields);
  if (selecting.length === 0) {
    options.store.set(primary, entry, keepMs);
    return { key: primary, fields: selecting };
  }
  const key = variantKey(primary, selecting, context.headers);
  options.store.set(primary, { kind: 'vary', fields: selecting }, keepMs);
  options.store.set(key, entry, keepMs);
  return { key, fields: selecting };
}

import type { MonotonicMs } from '../clock.ts';
import { traced } from '../context.ts';
import { type SentRequest, sentValue } from '../upstream/headers.ts';
import type { Fields } from './cache-control.ts';
import type { CacheableContext, CacheOptions, Keyed } from './options.ts';
import type { StoredResponse } from './store.ts';
import { selectingFields } from './stored-headers.ts';

/** Neither header values nor request targets can contain a line feed. */
const SEPARATOR = '\n';

/**
 * The primary key of a response (RFC 9111 section 2). It contains
 *
 * - account and upstream: the same path means other data in another account;
 * - `namespace`: responses stored under other rules, or from another origin, must not be found;
 * - canonical path and query;
 * - Accept as it is sent: Patchworks may respond in HTML, and its Vary does not name it;
 * - the fields that the rule names under `vary`.
 *
 * It deliberately leaves out
 *
 * - the tenant and its key: tenants of an account may see the same data, and permission is checked before the cache;
 * - the credential: every credential belongs to the same account;
 * - the method: a HEAD is served from the stored response to a GET;
 * - the Host: links are rewritten above the cache, so a forged Host reaches no other caller;
 * - every other request field, unless the response names it in Vary: see {@link variantKey}.
 *
 * Fields have the values that the upstream receives, not those that the caller wrote.
 */
export function primaryKey(context: Keyed, namespace: string, vary: readonly string[] = []): string {
  const { upstream } = context.route;
  const accept = sentValue(context, 'accept') ?? '';
  const parts = [upstream.account, namespace, upstream.id, context.path, context.canonicalQuery, accept];
  const key = parts.join(SEPARATOR);
  return vary.length === 0 ? key : variantKey(key, vary, context);
}

/** The account in a key. */
export function accountOf(key: string): string {
  return key.slice(0, key.indexOf(SEPARATOR));
}

/** The canonical path in a key. */
export function pathOf(key: string): string {
  return key.split(SEPARATOR, 4)[3] ?? '';
}

/** In {@link CacheOptions.notShareable}. Contains the tenant: no tenant ends coalescing for others. */
export function unshareableName({ record }: CacheableContext, fetchKey: string): string {
  return `${record.tenant}${SEPARATOR}${fetchKey}`;
}

/** The key of a variant: the primary key and the request's values of the fields in Vary (section 4.1). */
export function variantKey(primary: string, fields: readonly string[], request: SentRequest): string {
  let key = primary;
  for (const field of fields) {
    const value = sentValue(request, field);
    // An absent field and an empty one are different requests.
    key += value === undefined ? `${SEPARATOR}${field}` : `${SEPARATOR}${field}:${normalised(field, value)}`;
  }
  return key;
}

/** Lists whose members differ neither by case nor by order, because each has its weight. */
const PREFERENCES: ReadonlySet<string> = new Set(['accept-charset', 'accept-encoding', 'accept-language']);

/** Gives lists that mean the same one spelling (section 4.1). A value with quotes stays as it is. */
function normalised(field: string, value: string): string {
  if (value.includes('"')) return value;
  const preferences = PREFERENCES.has(field);
  if (!preferences && !value.includes(',')) return value.trim();
  const members = value.split(',').map((member) => member.trim());
  return preferences
    ? members
        .map((member) => member.toLowerCase())
        .sort()
        .join()
    : members.join();
}

/** The variant that a request selects. */
interface Selection {
  /** The primary key; or the key of the variant, where responses are known to vary. */
  readonly key: string;
  readonly entry: StoredResponse | null;
}

/** Age of a response now (RFC 9111 section 4.2.3). */
export function ageOf(entry: StoredResponse, now: MonotonicMs): number {
  return now - entry.receivedAt + entry.initialAgeMs;
}

/** Finds the stored response that the request selects, unless a write has invalidated it. */
export async function findStored(options: CacheOptions, context: CacheableContext, key: string): Promise<Selection> {
  const found = options.store.get(key);
  const entry = found instanceof Promise ? await traced(context.trace, 'cache lookup', found) : found;
  if (entry === undefined) return { key, entry: null };
  if (entry.kind === 'vary') return findStored(options, context, variantKey(key, entry.fields, context));
  if (isStillValid(options, context, entry)) {
    return { key, entry: mayServe(options, context, entry) ? entry : null };
  }
  options.store.delete(key);
  // The entry was invalidated here, but another replica may have stored a new one since.
  return { key, entry: await findShared(options, context, key) };
}

async function findShared(
  options: CacheOptions,
  context: CacheableContext,
  key: string,
): Promise<StoredResponse | null> {
  const shared = await traced(context.trace, 'cache lookup', options.store.getShared(key));
  return shared?.kind === 'response' && isStillValid(options, context, shared) ? shared : null;
}

/** A fresh response that another replica has stored, since `existing` where there is one; null if there is none. */
export async function findFresher(
  options: CacheOptions,
  context: CacheableContext,
  key: string,
  existing: StoredResponse | null,
): Promise<StoredResponse | null> {
  const shared = await findShared(options, context, key);
  if (shared === null || (existing !== null && shared.receivedAt <= existing.receivedAt)) return null;
  return ageOf(shared, options.clock.monotonic()) < shared.freshForMs ? shared : null;
}

/** Whether no write has invalidated the entry. */
export function isStillValid(
  { invalidations }: CacheOptions,
  context: CacheableContext,
  entry: StoredResponse,
): boolean {
  const { account } = context.route.upstream;
  const latest = invalidations.latestWrite(account);
  if (entry.validUpToWrite === latest) return true;
  const target = { segments: context.segments, tags: entry.tags };
  if (!invalidations.isValidSince(account, target, entry.validUpToWrite)) return false;
  entry.validUpToWrite = latest;
  return true;
}

/** While the writes of other replicas are unknown, an entry may be served for a short time only. */
function mayServe(
  { invalidations, clock, maxDisconnectedAgeMs }: CacheOptions,
  context: CacheableContext,
  entry: StoredResponse,
): boolean {
  const disconnectedAt = invalidations.disconnectedSince(context.route.upstream.account);
  if (disconnectedAt === null) return true;
  return clock.monotonic() - Math.max(disconnectedAt, entry.requestedAt) < maxDisconnectedAgeMs;
}

/**
 * Stores a response under its primary key; or, if it varies, under the key of its variant, with a record of the fields under
 * the primary key.
 *
 * @returns the key, and the fields by which the response varies
 */
export function storeResponse(
  options: CacheOptions,
  context: CacheableContext,
  primaryKey: string,
  fields: Fields,
  entry: StoredResponse,
  keepMs: number,
): { readonly key: string; readonly fields: readonly string[] } {
  const selecting = selectingFields(fields);
  if (selecting.length === 0) {
    options.store.set(primaryKey, entry, keepMs);
    return { key: primaryKey, fields: selecting };
  }
  const key = variantKey(primaryKey, selecting, context);
  options.store.set(primaryKey, { kind: 'vary', fields: selecting }, keepMs);
  options.store.set(key, entry, keepMs);
  return { key, fields: selecting };
}

import type { Clock } from '../clock.ts';
import { extend, type Middleware, type Rejection, type RequestContext, reject } from '../context.ts';
import type { Log } from '../ports.ts';
import type { ProblemCode } from '../problem.ts';
import type { IdentityStore } from './identity-store.ts';
import { type AddressRanges, digestOf, type KeyEntry, type Tenant, type TenantKey } from './tenant.ts';

/** Blocks addresses that guess keys. Every request asks it, so it responds from memory. */
export interface FailedAuthLimit {
  /** 0: not blocked. */
  blockedForMs(address: string): number;
  /** Counts a token that is not accepted, or a key that is unknown, expired or of a disabled tenant, before it returns: the next request sees the count. */
  failed(address: string): void;
}

export interface Authenticated {
  readonly tenant: Tenant;
  readonly key: TenantKey;
}

const OTHER_SCHEME =
  '`Authorization` has another scheme than Bearer. Send your gateway key as `Authorization: Bearer <key>` or `X-API-Key: <key>`.';

/** `Key "2026-11" of tenant "billing"`, for an error: only who has the key or token gets to read it. */
export function nameOf({ kind, id, tenant }: Pick<KeyEntry, 'kind' | 'id' | 'tenant'>): string {
  return `${kind === 'key' ? 'Key' : 'Identity'} "${id}" of tenant "${tenant.id}"`;
}

/** Keys of an issuer that could not be read are read again every few seconds. */
const NO_KEYS_YET_SECONDS = 5;

/** Finds the tenant of the caller's key, token or client certificate. No later middleware reads them. */
export function authenticate<E extends RequestContext>(options: {
  readonly keys: KeyStore;
  readonly identities: IdentityStore;
  /** Called with each rejected key. */
  readonly unknownKey: UnknownKeyLog;
  readonly failedAuthLimit: FailedAuthLimit;
  readonly trustedProxies: AddressRanges;
  readonly clock: Clock;
}): Middleware<E, E & Authenticated> {
  const { keys, identities, unknownKey, failedAuthLimit, trustedProxies, clock } = options;
  const blocked = ({ clientAddress }: E, ms: number): Rejection => {
    const detail = `Too many failed authentications came from ${clientAddress}. Retry after the time given.`;
    return reject('address_blocked', { detail, retryAfterSeconds: Math.ceil(ms / 1000) });
  };
  // A missing key is not counted: the probes of a load balancer have none, and share an address with its callers.
  const fail = (context: E, code: ProblemCode, texts: Pick<Rejection, 'detail' | 'internal'> = {}): Rejection => {
    const blockedMs = failedAuthLimit.blockedForMs(context.clientAddress);
    failedAuthLimit.failed(context.clientAddress);
    return blockedMs > 0 ? blocked(context, blockedMs) : reject(code, texts);
  };
  /** A caller without a known key. A key has priority over a certificate, which may belong to a proxy. */
  const identify = async (context: E, extracted: ExtractedKey): Promise<KeyEntry | Rejection> => {
    const mayBeToken = extracted.kind === 'key' && extracted.bearer && identities.isToken(extracted.key);
    if (extracted.kind === 'key' && !mayBeToken) {
      unknownKey(extracted.key, context.clientAddress);
      // A key has no spaces: a scheme stands before this one.
      return fail(context, 'key_unknown', /[ \t]/.test(extracted.key) ? { detail: OTHER_SCHEME } : {});
    }
    const verified =
      extracted.kind === 'key'
        ? await identities.verify(extracted.key)
        : identities.ofCertificate(context.certificateUris);
    if (verified === null) return reject('key_missing');
    if (verified.kind === 'accepted') return verified.entry;
    const { code, internal, identity } = verified;
    if (identity !== undefined) {
      const detail = `No tenant of the gateway has the identity "${identity}". Ask the platform team to add it.`;
      return fail(context, code, { internal, detail });
    }
    if (code !== 'state_unavailable') return fail(context, code, { internal });
    const detail = 'The gateway cannot verify tokens at the moment. Retry after the time given.';
    return reject(code, { detail, internal, retryAfterSeconds: NO_KEYS_YET_SECONDS });
  };
  return (next) => async (context) => {
    const blockedMs = failedAuthLimit.blockedForMs(context.clientAddress);
    // A valid key is rejected too: otherwise a guesser would learn that it is valid. Not so at the address of a trusted proxy that names
    // no caller: one bad caller would lock out all of them.
    if (blockedMs > 0 && !trustedProxies.includes(context.clientAddress)) return blocked(context, blockedMs);
    const extracted = extractKey(context.rawHeaders);
    if (extracted.kind === 'conflict') return reject('key_conflict');
    const known = extracted.kind === 'key' ? keys.find(extracted.key) : undefined;
    const entry = known ?? (await identify(context, extracted));
    if (entry.kind === 'rejection') return entry;
    context.record.tenant = entry.tenant.id;
    context.record.key = entry.id;
    if (entry.tenant.disabled) {
      return fail(context, 'tenant_disabled', {
        detail: `Tenant "${entry.tenant.id}" is disabled. Ask the platform team.`,
      });
    }
    const { expiresAtMs } = entry;
    if (entry.kind === 'key' && expiresAtMs !== null && expiresAtMs <= clock.now()) {
      const detail = `${nameOf(entry)} expired on ${new Date(expiresAtMs).toISOString()}. Ask the platform team for a new one.`;
      return fail(context, 'key_expired', { detail });
    }
    // Not counted as a failure: the key was not guessed, and other callers may share the address.
    if (entry.cidrs?.includes(context.clientAddress) === false) {
      const detail = `${nameOf(entry)} may not be used from ${context.clientAddress}. Ask the platform team, and quote the request id.`;
      return reject('address_forbidden', { detail });
    }
    entry.use.lastUsedAt = context.receivedAt;
    return next(extend(context, { tenant: entry.tenant, key: entry }));
  };
}

type ExtractedKey =
  | { readonly kind: 'none' }
  | { readonly kind: 'conflict' }
  /** `bearer`: sent as `Authorization: Bearer`, as a token is. */
  | { readonly kind: 'key'; readonly key: string; readonly bearer: boolean };

/**
 * Reads `Authorization: Bearer <key>`, `Authorization: <key>` (as Patchworks clients send it) and `X-API-Key: <key>`. A request
 * may repeat the same key. Two different keys are a conflict: a proxy in front of the gateway may have checked the other one.
 * Reads raw headers, because Node's parsed form drops the second of two `Authorization` fields.
 */
export function extractKey(rawHeaders: readonly string[]): ExtractedKey {
  let key: string | null = null;
  let bearer = false;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = (rawHeaders[i] as string).toLowerCase();
    if (name !== 'authorization' && name !== 'x-api-key') continue;
    const field = (rawHeaders[i + 1] as string).trim();
    const value = name === 'authorization' ? withoutScheme(field) : field;
    if (value === '') continue;
    if (key !== null && key !== value) return { kind: 'conflict' };
    key = value;
    bearer ||= name === 'authorization' && value !== field;
  }
  return key === null ? { kind: 'none' } : { kind: 'key', key, bearer };
}

function withoutScheme(credentials: string): string {
  return /^bearer(?:[ \t]|$)/i.test(credentials) ? credentials.slice('bearer'.length).trim() : credentials;
}

/** Finds the tenant of a key. Only digests are compared, so response times reveal nothing about a key. */
export interface KeyStore {
  find(key: string): KeyEntry | undefined;
}

/** Enough for every key of a large team, in little memory. */
const MAX_REMEMBERED_KEYS = 10_000;

/**
 * @param entries by the SHA-256 of the key, in lower-case hex
 *
 * Valid keys are remembered in the clear, so a busy tenant's key is hashed once. Unknown keys are hashed each time and not
 * remembered: a guesser must not be able to evict the valid ones.
 */
export function createKeyStore(entries: ReadonlyMap<string, KeyEntry>): KeyStore {
  const remembered = new Map<string, KeyEntry>();
  return {
    find(key) {
      const known = remembered.get(key);
      if (known !== undefined) return known;
      const entry = entries.get(digestOf(key));
      if (entry === undefined) return undefined;
      if (remembered.size >= MAX_REMEMBERED_KEYS) remembered.clear();
      remembered.set(key, entry);
      return entry;
    },
  };
}

/** `pgk_TENANT_` and 32 random bytes. A tenant's name may have underscores and dashes, like the bytes behind it. */
const MADE = /^pgk_([a-z0-9][a-z0-9._-]{0,62})_[A-Za-z0-9_-]{43}$/;
/** Enough to find the line in an old version of the tenants' file. */
const DIGEST_DIGITS = 8;

export type UnknownKeyLog = (key: string, client: string) => void;

/**
 * Logs rejected keys that `patchgate key create` may have made: a removed key that a service still sends.
 *
 * @param limit writes the line or not: guessers may choose ever new keys
 */
export function createUnknownKeyLog(log: Log, limit: (key: string, line: () => void) => void): UnknownKeyLog {
  return (key, client) => {
    const [, claimedTenant] = MADE.exec(key) ?? [];
    if (claimedTenant === undefined) return;
    const keyDigest = digestOf(key).slice(0, DIGEST_DIGITS);
    limit(keyDigest, () => log.warn({ claimedTenant, keyDigest, client }, 'unknown key rejected'));
  };
}

/** Limits how fast a tenant may call the gateway itself, with requests that use no quota: cached and rejected ones. */
export interface FloodLimit {
  /** Counts a request. 0: it may pass. */
  blockedForMs(tenant: string): number;
}

/** Runs directly after authentication, so that a rejected request costs no more than the lookup of its key. */
export function floodProtection<E extends RequestContext & { readonly tenant: { readonly id: string } }>(options: {
  readonly floodLimit: FloodLimit;
}): Middleware<E, E> {
  return (next) => async (context) => {
    const blockedMs = options.floodLimit.blockedForMs(context.tenant.id);
    if (blockedMs > 0) return reject('flood', { retryAfterSeconds: Math.max(1, Math.ceil(blockedMs / 1000)) });
    return next(context);
  };
}

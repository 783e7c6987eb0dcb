import type { RequestContext } from '../context.ts';

/** The parts of a request that its key is made of. */
export interface Keyed extends Pick<RequestContext, 'headers'> {
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
  };
}

/** Neither header values nor request targets can contain a line feed. */
const SEPARATOR = '\n';

/** Sent to the upstream where a request has no Accept, so both share a key. */
const DEFAULT_ACCEPT = 'application/json';

/**
 * The primary key of a response (RFC 9111 section 2). It contains
 *
 * - account and upstream: the same path means other data in another account;
 * - `namespace`: responses stored under other rules, or from another origin, must not be found;
 * - canonical path and query;
 * - Accept: without it Patchworks responds in HTML, and its Vary does not name it;
 * - the fields that the rule names under `vary`.
 *
 * It deliberately leaves out
 *
 * - the tenant and its key: tenants of an account may see the same data, and permission is checked before the cache;
 * - the credential: every credential belongs to the same account;
 * - the method: a HEAD is served from the stored response to a GET;
 * - the Host: links are rewritten above the cache, so a forged Host reaches no other caller;
 * - every other request field, unless the response names it in Vary: see {@link variantKey}.
 */
export function primaryKey(context: Keyed, namespace: string, vary: readonly string[] = []): string {
  const { upstream } = context.route;
  const accept = context.headers['accept'] ?? DEFAULT_ACCEPT;
  const parts = [upstream.account, namespace, upstream.id, context.path, context.canonicalQuery, accept];
  const key = parts.join(SEPARATOR);
  return vary.length === 0 ? key : variantKey(key, vary, context.headers);
}

/** The account in a key. */
export function accountOf(key: string): string {
  return key.slice(0, key.indexOf(SEPARATOR));
}

/** The key of a variant: the primary key and the request's values of the fields in Vary (section 4.1). */
export function variantKey(primary: string, fields: readonly string[], headers: RequestContext['headers']): string {
  let key = primary;
  for (const field of fields) {
    const value = headers[field];
    // An absent field and an empty one are different requests.
    key += value === undefined ? `${SEPARATOR}${field}` : `${SEPARATOR}${field}:${normalised(field, String(value))}`;
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

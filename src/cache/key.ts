import type { RequestContext } from '../context.ts';

/** What the key is made of; routing provides all but what the edge has received. */
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

/** No part can contain it: neither header values nor request targets may carry a line feed. */
const SEPARATOR = '\n';

/** What the upstream stage sends where the caller named nothing: without a field and with this one are one request. */
const DEFAULT_ACCEPT = 'application/json';

/**
 * The primary key of an answer (RFC 9111 section 2). It contains
 *
 * - account and upstream: the same path means other data in another account;
 * - `scope`: answers kept under other rules, or that came from another host, are found by nobody;
 * - canonical path and query;
 * - Accept: Patchworks answers in HTML without it, and does not say so in Vary;
 * - the fields that the rule names under `vary`.
 *
 * Deliberately left out: the tenant and its key (tenants of an account may see the same data, and share what was
 * fetched; permission is checked before the cache), the account's credential (whichever is in use, it is the same
 * account), the method (HEAD is answered from what GET has stored), the Host (links are rewritten above the cache, so a
 * forged one leads nobody else away), and every other request field unless the answer names it in Vary: see
 * {@link variantKey}.
 */
export function primaryKey(context: Keyed, scope: string, vary: readonly string[] = []): string {
  const { upstream } = context.route;
  const accept = context.headers['accept'] ?? DEFAULT_ACCEPT;
  const key =
    upstream.account +
    SEPARATOR +
    scope +
    SEPARATOR +
    upstream.id +
    SEPARATOR +
    context.path +
    SEPARATOR +
    context.canonicalQuery +
    SEPARATOR +
    accept;
  return vary.length === 0 ? key : variantKey(key, vary, context.headers);
}

/** The account that a key begins with. */
export function accountOf(key: string): string {
  return key.slice(0, key.indexOf(SEPARATOR));
}

/** The key of one variant: the primary key, and the request's values of the fields that Vary names (section 4.1). */
export function variantKey(primary: string, fields: readonly string[], headers: RequestContext['headers']): string {
  let key = primary;
  for (const field of fields) {
    const value = headers[field];
    // An absent field and an empty one are different requests.
    key += value === undefined ? `${SEPARATOR}${field}` : `${SEPARATOR}${field}:${normalised(field, String(value))}`;
  }
  return key;
}

/** Lists of preferences whose members are told apart neither by case nor by order: the weights are in them. */
const PREFERENCES: ReadonlySet<string> = new Set(['accept-charset', 'accept-encoding', 'accept-language']);

/** Spellings of a list that mean the same are one (section 4.1). A quoted text is left as it is. */
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

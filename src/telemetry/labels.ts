/** What a label says where there is nothing to say: no tenant before authentication, no route for an unknown path. */
export const NONE = 'none';
/** What stands for values outside of what a label may say. */
export const OTHER = 'other';

/** Methods of the caller's invention share a label, or callers could make series as they like. */
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);
const CACHE_NOTES = new Set(['hit', 'stale', 'miss', 'collapsed', 'bypass', NONE]);

export function methodLabel(method: string): string {
  return METHODS.has(method) ? method : OTHER;
}

/** A status of HTTP, or the reason why there was none; an upstream may send any three digits. */
export function statusLabel(status: number | string): string {
  if (typeof status === 'string') return status;
  return Number.isInteger(status) && status >= 100 && status <= 599 ? String(status) : OTHER;
}

export function cacheLabel(cache: string): string {
  return CACHE_NOTES.has(cache) ? cache : NONE;
}

/** More keys than labels ever have; see {@link remember}. */
const MOST_REMEMBERED = 10_000;

/**
 * A function that keeps what it made for each argument. Nested, it finds a series by several labels without building a
 * string of them. It forgets everything when it holds more than labels ever need: whoever calls it wrongly gets slow
 * look-ups, not a leak.
 */
export function remember<Key, Made extends object>(make: (key: Key) => Made): (key: Key) => Made {
  const made = new Map<Key, Made>();
  return (key) => {
    const known = made.get(key);
    if (known !== undefined) return known;
    if (made.size >= MOST_REMEMBERED) made.clear();
    const fresh = make(key);
    made.set(key, fresh);
    return fresh;
  };
}

import { parseDictionary } from 'structured-headers';
import type { Directives } from './cache-control.ts';

const WITH_SECONDS: ReadonlySet<string> = new Set(['max-age', 's-maxage', 'stale-if-error', 'stale-while-revalidate']);

/**
 * CDN-Cache-Control (RFC 9213): what an upstream says to caches in front of it alone. Where it is there and well-formed it
 * takes the place of Cache-Control and Expires. Null for one that is not: then it says nothing (section 2.1).
 */
export function cdnDirectives(field: string | undefined): Directives | null {
  if (field === undefined || field.trim() === '') return null;
  try {
    const directives = new Map<string, string | null>();
    for (const [name, [value]] of parseDictionary(field)) {
      if (WITH_SECONDS.has(name)) {
        if (typeof value !== 'number' || !Number.isInteger(value) || value < 0) return null;
        directives.set(name, String(value));
      } else if (value !== false) directives.set(name, null);
    }
    return directives;
  } catch {
    return null;
  }
}

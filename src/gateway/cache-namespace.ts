import { createHash } from 'node:crypto';
import type { Settings } from '../config/model.ts';

/**
 * Short, and another one wherever what is stored would not be what a request gets now: other rules, or other hosts. Part of
 * every key of the cache, on all replicas alike.
 */
export function cacheNamespace({ cache, upstreams }: Settings): string {
  const origins = [...upstreams].map(([id, { account, origin }]) => [id, account, origin]).sort();
  const decisive = JSON.stringify([cache.rules, cache.maxEntryBytes, origins]);
  return createHash('sha256').update(decisive).digest('base64url').slice(0, 8);
}

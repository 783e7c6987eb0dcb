import { LRUCache } from 'lru-cache';
import type { Clock } from '../clock.ts';
import type { Log } from '../ports.ts';
import { digestOf } from './tenant.ts';

/** Logs rejected keys that `patchgate key create` may have made: a removed key that a service still sends. */
export interface UnknownKeyLog {
  rejected(key: string, address: string): void;
}

/** `pgk_TENANT_` and 32 random bytes. A tenant's name may have underscores and dashes, like the bytes behind it. */
const MADE = /^pgk_([a-z0-9][a-z0-9._-]{0,62})_[A-Za-z0-9_-]{43}$/;
/** The tenant, and enough to find the line in an old version of its file. */
const DIGEST_DIGITS = 8;
/** A service sends its old key all the time. */
const AGAIN_AFTER_MS = 10 * 60_000;
const MAX_REMEMBERED = 1_000;
/** Guessers may choose ever new keys, and ever new addresses. */
const MAX_LINES = 10;
const WINDOW_MS = 60_000;

export function createUnknownKeyLog({ clock, log }: { readonly clock: Clock; readonly log: Log }): UnknownKeyLog {
  const latest = new LRUCache<string, number>({ max: MAX_REMEMBERED });
  let windowEnd = 0;
  let lines = 0;
  let leftOut = 0;
  return {
    rejected(key, client) {
      const [, claimedTenant] = MADE.exec(key) ?? [];
      if (claimedTenant === undefined) return;
      const now = clock.monotonic();
      const keyDigest = digestOf(key).slice(0, DIGEST_DIGITS);
      const before = latest.get(keyDigest);
      if (before !== undefined && now - before < AGAIN_AFTER_MS) return;
      if (now >= windowEnd) {
        windowEnd = now + WINDOW_MS;
        lines = 0;
      }
      if (lines >= MAX_LINES) {
        leftOut += 1;
        return;
      }
      lines += 1;
      latest.set(keyDigest, now);
      log.warn({ claimedTenant, keyDigest, client, ...(leftOut > 0 && { leftOut }) }, 'unknown key rejected');
      leftOut = 0;
    },
  };
}

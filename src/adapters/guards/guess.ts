import ipaddr from 'ipaddr.js';
import { LRUCache } from 'lru-cache';
import type { FailedAuthLimit } from '../../auth/guards.ts';
import type { Clock } from '../../clock.ts';
import type { Counter } from './counter.ts';

export const GUESS_WINDOW_SECONDS = 60;
/** Addresses kept: of those blocked, and of those that failed within a window. Whoever has more at hand is not stopped by this. */
const MOST_ADDRESSES = 10_000;

/**
 * Blocks an address that has presented too many keys that open nothing. Counting takes its time; refusing does not: who is
 * blocked is known here, and on other replicas from the address's next failure there.
 */
export function createFailedAuthLimit({
  counter,
  clock,
}: {
  readonly counter: Counter;
  readonly clock: Clock;
}): FailedAuthLimit {
  const blockedUntil = new LRUCache<string, number>({ max: MOST_ADDRESSES });
  const seen = new Set<string>();
  let seenUntil = 0;
  return {
    blockedForMs(address) {
      if (blockedUntil.size === 0) return 0;
      return Math.max(0, (blockedUntil.get(networkOf(address)) ?? 0) - clock.monotonic());
    },
    failed(address) {
      const network = networkOf(address);
      const now = clock.monotonic();
      if (now >= seenUntil) {
        seen.clear();
        seenUntil = now + GUESS_WINDOW_SECONDS * 1000;
      }
      if (!seen.has(network) && seen.size >= MOST_ADDRESSES) return;
      seen.add(network);
      void counter.add(network, 1).then((blockedMs) => {
        if (blockedMs > 0) blockedUntil.set(network, clock.monotonic() + blockedMs);
      });
    },
  };
}

/** An IPv6 caller has a whole /64 to choose addresses from; an IPv4 one has what it has. */
function networkOf(address: string): string {
  if (!address.includes(':') || !ipaddr.isValid(address)) return address;
  const parsed = ipaddr.parse(address);
  if (!(parsed instanceof ipaddr.IPv6)) return address;
  if (parsed.isIPv4MappedAddress()) return parsed.toIPv4Address().toString();
  return parsed.parts
    .slice(0, 4)
    .map((part) => part.toString(16))
    .join('-');
}

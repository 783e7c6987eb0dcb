import { LRUCache } from 'lru-cache';
import type { Clock } from '../../clock.ts';
import type { BeginResult, IdempotencyStore, KeyedWrite, WriteOutcome } from '../../idempotency/store.ts';

/** Objects around a record. */
const OVERHEAD_BYTES = 512;

interface Flying {
  readonly fingerprint: string;
  readonly owner: string;
  readonly until: number;
}

interface Ended {
  readonly fingerprint: string;
  readonly until: number;
  readonly ending: Exclude<WriteOutcome, { kind: 'released' }>;
}

/**
 * The writes of one process alone. Those under way are in a map of their own, bounded by the requests in flight: none of them
 * is forgotten for want of room. Of those that ended the least recently used go first.
 */
export function createMemoryIdempotencyStore(options: {
  readonly maxBytes: number;
  readonly ttlMs: number;
  readonly clock: Clock;
}): IdempotencyStore {
  const { clock, ttlMs: keepMs } = options;
  const flying = new Map<string, Flying>();
  const ended = new LRUCache<string, Ended>({ maxSize: Math.max(1, options.maxBytes) });
  const nameOf = ({ account, id }: KeyedWrite): string => `${account}\n${id}`;

  const stored = (name: string): Ended | undefined => {
    const record = ended.get(name);
    if (record === undefined || record.until > clock.monotonic()) return record;
    ended.delete(name);
    return undefined;
  };

  return {
    begin(claim): BeginResult {
      const name = nameOf(claim);
      const now = clock.monotonic();
      const other = flying.get(name);
      if (other !== undefined) {
        if (other.fingerprint !== claim.fingerprint) return { kind: 'mismatch' };
        return { kind: other.until > now ? 'conflict' : 'unknown' };
      }
      const record = stored(name);
      if (record === undefined) {
        flying.set(name, { fingerprint: claim.fingerprint, owner: claim.owner, until: now + claim.leaseMs });
        return { kind: 'go' };
      }
      if (record.fingerprint !== claim.fingerprint) return { kind: 'mismatch' };
      return record.ending.kind === 'lost' ? { kind: 'unknown' } : { kind: 'replay', first: record.ending.first };
    },
    complete(claim, ending) {
      const name = nameOf(claim);
      if (flying.get(name)?.owner !== claim.owner) return true;
      flying.delete(name);
      if (ending.kind === 'released') return true;
      const record = { fingerprint: claim.fingerprint, until: clock.monotonic() + keepMs, ending };
      ended.set(name, record, { size: sizeOf(ending) });
      return true;
    },
  };
}

function sizeOf(ending: Ended['ending']): number {
  if (ending.kind === 'lost') return OVERHEAD_BYTES;
  const { headers, body } = ending.first;
  return OVERHEAD_BYTES + headers.reduce((sum, item) => sum + item.length * 2, 0) + (body?.length ?? 0);
}

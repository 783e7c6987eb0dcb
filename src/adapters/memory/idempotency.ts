import { LRUCache } from 'lru-cache';
import type { Clock } from '../../clock.ts';
import type { BeginResult, IdempotencyStore, KeyedWrite, WriteOutcome } from '../../idempotency/store.ts';

/** Objects around a record. */
const OVERHEAD_BYTES = 512;

interface PendingWrite {
  readonly fingerprint: string;
  readonly owner: string;
  readonly leaseEnd: number;
}

interface EndedWrite {
  readonly fingerprint: string;
  readonly expiry: number;
  readonly outcome: Exclude<WriteOutcome, { kind: 'released' }>;
}

/**
 * The keyed writes of this process. Writes in progress have a map of their own, bounded by the requests in flight, so that none is
 * evicted. Of the ended ones, the least recently used are evicted first.
 */
export function createMemoryIdempotencyStore(options: {
  readonly maxBytes: number;
  readonly ttlMs: number;
  readonly clock: Clock;
}): IdempotencyStore {
  const { clock, ttlMs } = options;
  const pending = new Map<string, PendingWrite>();
  const ended = new LRUCache<string, EndedWrite>({ maxSize: Math.max(1, options.maxBytes) });
  const nameOf = ({ account, id }: KeyedWrite): string => `${account}\n${id}`;

  const findEnded = (name: string): EndedWrite | undefined => {
    const write = ended.get(name);
    if (write === undefined || write.expiry > clock.monotonic()) return write;
    ended.delete(name);
    return undefined;
  };

  return {
    begin(write): BeginResult {
      const name = nameOf(write);
      const { fingerprint, owner, leaseMs } = write;
      const now = clock.monotonic();
      const other = pending.get(name);
      if (other !== undefined) {
        if (other.fingerprint !== fingerprint) return { kind: 'mismatch' };
        if (other.owner === owner) return { kind: 'first' };
        return { kind: other.leaseEnd > now ? 'conflict' : 'unknown' };
      }
      const record = findEnded(name);
      if (record === undefined) {
        pending.set(name, { fingerprint, owner, leaseEnd: now + leaseMs });
        return { kind: 'first' };
      }
      if (record.fingerprint !== fingerprint) return { kind: 'mismatch' };
      const { outcome } = record;
      return outcome.kind === 'unknown' ? outcome : { kind: 'replay', response: outcome.response };
    },
    complete(write, outcome) {
      const name = nameOf(write);
      if (pending.get(name)?.owner !== write.owner) return true;
      pending.delete(name);
      if (outcome.kind === 'released') return true;
      const record = { fingerprint: write.fingerprint, expiry: clock.monotonic() + ttlMs, outcome };
      ended.set(name, record, { size: sizeOf(outcome) });
      return true;
    },
  };
}

function sizeOf(outcome: EndedWrite['outcome']): number {
  if (outcome.kind === 'unknown') return OVERHEAD_BYTES;
  const { headers, body } = outcome.response;
  return OVERHEAD_BYTES + headers.reduce((sum, item) => sum + item.length * 2, 0) + (body?.length ?? 0);
}

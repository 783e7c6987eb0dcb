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
  /** Its body is apart, unless it is empty. */
  readonly outcome: Exclude<WriteOutcome, { kind: 'released' }>;
}

/**
 * The keyed writes of this process. Writes in progress have a map of their own, bounded by the requests in flight, so that none is
 * evicted. Of the ended ones, those of the tenant with the most are evicted.
 */
export function createMemoryIdempotencyStore(options: {
  readonly maxBytes: number;
  readonly ttlMs: number;
  readonly clock: Clock;
}): IdempotencyStore {
  const { clock, ttlMs } = options;
  const pending = new Map<string, PendingWrite>();
  const tenants = new EndedWrites(Math.max(1, options.maxBytes));
  const nameOf = ({ account, id }: KeyedWrite): string => `${account}\n${id}`;

  return {
    begin(write): BeginResult {
      const name = nameOf(write);
      const { tenant, fingerprint, owner, leaseMs } = write;
      const now = clock.monotonic();
      const other = pending.get(name);
      if (other !== undefined) {
        if (other.fingerprint !== fingerprint) return { kind: 'mismatch' };
        if (other.owner === owner) return { kind: 'first' };
        return { kind: other.leaseEnd > now ? 'conflict' : 'unknown' };
      }
      const record = tenants.find(tenant, name);
      if (record === undefined || record.expiry <= now) {
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
      const { tenant, fingerprint } = write;
      tenants.keep(tenant, name, { fingerprint, expiry: clock.monotonic() + ttlMs, outcome });
      return true;
    },
  };
}

interface OfTenant {
  readonly bodies: LRUCache<string, Buffer>;
  readonly records: LRUCache<string, EndedWrite>;
}

/**
 * When the memory is full, the tenant that has the most of it loses its oldest body: a repeat of that write gets the status alone. If
 * it has no body, it loses its oldest record. So a tenant evicts nothing of another that uses less.
 */
class EndedWrites {
  readonly #maxBytes: number;
  readonly #tenants = new Map<string, OfTenant>();

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  find(tenant: string, name: string): EndedWrite | undefined {
    const of = this.#tenants.get(tenant);
    const record = of?.records.get(name);
    const body = of?.bodies.get(name);
    if (record?.outcome.kind !== 'completed' || body === undefined) return record;
    return { ...record, outcome: { kind: 'completed', response: { ...record.outcome.response, body } } };
  }

  keep(tenant: string, name: string, write: EndedWrite): void {
    const maxSize = this.#maxBytes;
    const of = this.#tenants.get(tenant) ?? {
      bodies: new LRUCache({ maxSize }),
      records: new LRUCache({ maxSize }),
    };
    this.#tenants.set(tenant, of);
    of.bodies.delete(name);
    const { kept, body } = apart(write);
    of.records.set(name, kept, { size: sizeOf(kept) });
    if (body !== null) of.bodies.set(name, body, { size: body.length });
    while (this.#bytes() > this.#maxBytes) this.#evict();
  }

  #bytes(): number {
    let sum = 0;
    for (const each of this.#tenants.values()) sum += bytesOf(each);
    return sum;
  }

  #evict(): void {
    const [tenant, of] = [...this.#tenants].reduce((most, each) => (bytesOf(each[1]) > bytesOf(most[1]) ? each : most));
    const { bodies, records } = of;
    (bodies.size > 0 ? bodies : records).pop();
    if (records.size === 0) this.#tenants.delete(tenant);
  }
}

function bytesOf({ bodies, records }: OfTenant): number {
  return bodies.calculatedSize + records.calculatedSize;
}

function apart(write: EndedWrite): { kept: EndedWrite; body: Buffer | null } {
  const { outcome } = write;
  const body = outcome.kind === 'completed' ? outcome.response.body : null;
  if (outcome.kind === 'unknown' || body === null || body.length === 0) return { kept: write, body: null };
  return { kept: { ...write, outcome: { kind: 'completed', response: { ...outcome.response, body: null } } }, body };
}

function sizeOf({ outcome }: EndedWrite): number {
  if (outcome.kind === 'unknown') return OVERHEAD_BYTES;
  return outcome.response.headers.reduce((sum, item) => sum + item.length * 2, OVERHEAD_BYTES);
}

import { createHash } from 'node:crypto';
import { accountOf } from '../../../cache/key.ts';
import { type CacheEntry, NEVER_STALE, type StoredResponse } from '../../../cache/store.ts';
import type { Clock, EpochMs, MonotonicMs } from '../../../clock.ts';
import type { Meter } from '../../../ports.ts';
import { type Client, createScript, runForBytes } from '../client/scripts.ts';
import type { SharedInvalidationLog } from './invalidation-log.ts';
import { decode, encode, type Head } from './response-codec.ts';

/** Returns a stored response, and how long it is still kept: its age by the one clock that all replicas share. */
export const getResponse = createScript("return { redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1]) }");

/** The stored responses of all replicas. An entry that is unreadable, or a Redis that does not respond, counts as a miss. */
export interface SharedResponses {
  get(key: string): Promise<{ readonly entry: CacheEntry; readonly keepMs: number } | undefined>;
  /** In the background; see `written`. */
  set(key: string, entry: CacheEntry, keepMs: number): void;
  /** Resolves when every entry set so far is there, or is not going to be. */
  written(): Promise<void>;
}

interface SharedResponsesOptions {
  readonly client: Client;
  readonly isReady: () => boolean;
  readonly invalidations: SharedInvalidationLog;
  readonly prefix: string;
  readonly clock: Clock;
  readonly meter: Meter;
}

export function createSharedResponses(options: SharedResponsesOptions): SharedResponses {
  const { client, invalidations, prefix, clock, meter } = options;
  const writing = new Set<Promise<void>>();
  const isMemoryHigh = memoryPressure(client, clock);
  const count = (outcome: 'hit' | 'miss' | 'store' | 'skip' | 'broken' | 'failed') =>
    meter.cacheOperation('redis', outcome);

  const write = async (key: string, entry: CacheEntry, keepMs: number): Promise<void> => {
    const head = isMemoryHigh() ? null : headOf(key, entry, keepMs, options);
    if (head === null) return count('skip');
    try {
      const bytes = await encode(head, entry.kind === 'response' ? entry.body : Buffer.alloc(0));
      await client.set(nameOf(prefix, key), bytes, 'PX', Math.ceil(keepMs));
      count('store');
    } catch {
      count('failed');
    }
  };

  return {
    async get(key) {
      // A disconnected replica cannot tell which entries are invalid.
      if (!options.isReady() || invalidations.disconnectedSince(accountOf(key)) !== null) return undefined;
      try {
        const reply = await runForBytes(client, getResponse, [nameOf(prefix, key)]);
        const [bytes, leftMs] = reply as [Buffer | null, number];
        if (bytes === null || leftMs <= 0) {
          count('miss');
          return undefined;
        }
        const found = await decode(bytes);
        if (found === null || found.head.key !== key) {
          count('broken');
          return undefined;
        }
        const { head, body } = found;
        const entry = head.status === null ? varyEntryOf(head) : responseOf(head, head.status, body, leftMs, options);
        count(entry === null ? 'miss' : 'hit');
        return entry === null ? undefined : { entry, keepMs: leftMs };
      } catch {
        count('failed');
        return undefined;
      }
    },
    set(key, entry, keepMs) {
      if (!options.isReady() || !(keepMs >= 1)) return;
      const work = write(key, entry, keepMs).finally(() => writing.delete(work));
      writing.add(work);
    },
    written: async () => void (await Promise.all(writing)),
  };
}

/** Null: the shared log does not know an invalidation since the entry was fetched. */
function headOf(
  key: string,
  entry: CacheEntry,
  keepMs: number,
  { invalidations, clock }: SharedResponsesOptions,
): Omit<Head, 'gzip' | 'bodyBytes'> | null {
  const account = accountOf(key);
  if (entry.kind === 'vary') {
    const position = invalidations.toShared(account, invalidations.latestWrite(account));
    return position === null ? null : { ...WITHOUT_RESPONSE, key, fields: entry.fields, keepMs, position };
  }
  const position = invalidations.toShared(account, entry.validUpToWrite);
  if (position === null) return null;
  const { status, headers, generatedEtag, tags, storedAt, initialAgeMs, freshForMs, stale } = entry;
  return {
    ...{ key, status, headers, fields: [], generatedEtag, tags, storedAt, initialAgeMs, freshForMs, stale, keepMs },
    position,
    tookMs: entry.receivedAt - entry.requestedAt,
    heldMs: clock.monotonic() - entry.receivedAt,
  };
}

/** Null: an invalidation since it was stored may be unknown here. */
function responseOf(
  head: Head,
  status: number,
  body: Buffer,
  leftMs: number,
  { invalidations, clock }: SharedResponsesOptions,
): StoredResponse | null {
  const validUpToWrite = invalidations.toLocal(accountOf(head.key), head.position);
  if (validUpToWrite === null) return null;
  const { headers, generatedEtag, tags, initialAgeMs, freshForMs, stale } = head;
  const receivedAt = clock.monotonic() - head.heldMs - Math.max(0, head.keepMs - leftMs);
  return {
    ...{ kind: 'response', status, headers: [...headers], body, generatedEtag, tags, initialAgeMs, freshForMs, stale },
    validUpToWrite,
    storedAt: head.storedAt as EpochMs,
    receivedAt: receivedAt as MonotonicMs,
    requestedAt: (receivedAt - head.tookMs) as MonotonicMs,
  };
}

const WITHOUT_RESPONSE = {
  ...{ status: null, headers: [], generatedEtag: null, tags: [], storedAt: 0, tookMs: 0, heldMs: 0 },
  ...{ initialAgeMs: 0, freshForMs: 0, stale: NEVER_STALE },
};

function varyEntryOf({ fields }: Head): CacheEntry | null {
  return fields.length === 0 ? null : { kind: 'vary', fields };
}

/** The Redis key of a cache key; in a Cluster, on the node of its account. */
export function nameOf(prefix: string, key: string, what: 'response' | 'fetch' = 'response'): string {
  const digest = createHash('sha256').update(key).digest('base64url').slice(0, 27);
  return `${prefix}:{${accountOf(key)}}:cache:${what}:${digest}`;
}

/** Above this part of `maxmemory` no response is stored: the quota needs the rest. */
const MAX_USED = 0.8;
const READ_EVERY_MS = 5_000;

/** Whether Redis is short of memory. It is read in the background, while responses are stored. */
function memoryPressure(client: Client, clock: Clock): () => boolean {
  let isHigh = false;
  let readAt = Number.NEGATIVE_INFINITY;
  const read = async (): Promise<void> => {
    // A server may forbid INFO: then nothing is known.
    const text = await client.info('memory').catch(() => '');
    const maxBytes = numberIn(text, 'maxmemory');
    isHigh = maxBytes > 0 && numberIn(text, 'used_memory') > maxBytes * MAX_USED;
  };
  return () => {
    if (clock.monotonic() - readAt >= READ_EVERY_MS) {
      readAt = clock.monotonic();
      void read();
    }
    return isHigh;
  };
}

function numberIn(info: string, name: string): number {
  return Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(info)?.[1] ?? 0);
}

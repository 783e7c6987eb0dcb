import { createHash } from 'node:crypto';
import { accountOf } from '../../../cache/key.ts';
import type { CacheEntry, StoredResponse } from '../../../cache/store.ts';
import type { Clock, EpochMs, MonotonicMs } from '../../../clock.ts';
import type { Meter } from '../../../ports.ts';
import { type Client, createScript, runScript } from '../client/scripts.ts';
import type { SharedInvalidationLog } from './invalidation-log.ts';
import { decode, encode, type Head, type StoredHead } from './response-codec.ts';

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
        const reply = await runScript(client, getResponse, [nameOf(prefix, key)]);
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
        const entry = head.entry.kind === 'vary' ? head.entry : responseOf(head, head.entry, body, leftMs, options);
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
  const since = entry.kind === 'vary' ? invalidations.latestWrite(account) : entry.validUpToWrite;
  const position = invalidations.toShared(account, since);
  if (position === null) return null;
  if (entry.kind === 'vary') return { key, entry: { kind: 'vary', fields: [...entry.fields] }, keepMs, position };
  const { body, receivedAt, requestedAt, validUpToWrite, ...kept } = entry;
  const times = { tookMs: receivedAt - requestedAt, heldMs: clock.monotonic() - receivedAt };
  return { key, entry: { ...kept, ...times, tags: [...kept.tags] }, keepMs, position };
}

/** Null: an invalidation since it was stored may be unknown here. */
function responseOf(
  { key, keepMs, position }: Head,
  { tookMs, heldMs, storedAt, ...kept }: StoredHead,
  body: Buffer,
  leftMs: number,
  { invalidations, clock }: SharedResponsesOptions,
): StoredResponse | null {
  const validUpToWrite = invalidations.toLocal(accountOf(key), position);
  if (validUpToWrite === null) return null;
  const receivedAt = clock.monotonic() - heldMs - Math.max(0, keepMs - leftMs);
  return {
    ...{ ...kept, body, validUpToWrite },
    storedAt: storedAt as EpochMs,
    receivedAt: receivedAt as MonotonicMs,
    requestedAt: (receivedAt - tookMs) as MonotonicMs,
  };
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

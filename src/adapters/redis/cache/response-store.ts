import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { crc32, gunzip, gzip } from 'node:zlib';
import { z } from 'zod';
import { accountOf } from '../../../cache/key.ts';
import type { CacheEntry, StoredResponse } from '../../../cache/store.ts';
import type { Clock, EpochMs, MonotonicMs } from '../../../clock.ts';
import { headerOf } from '../../../context.ts';
import type { Meter } from '../../../ports.ts';
import { type Client, createScript, parseJson, runScript } from '../client/scripts.ts';
import type { SharedCacheOptions } from './account-invalidation.ts';
import type { SharedInvalidationLog } from './invalidation-log.ts';

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

interface SharedResponsesOptions extends Pick<SharedCacheOptions, 'client' | 'isReady' | 'prefix' | 'clock'> {
  readonly invalidations: SharedInvalidationLog;
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

/**
 * The format of a stored response in Redis, which every replica of this version reads:
 *
 *     "PGR3"   4 bytes   name and version of this format
 *     crc32    4 bytes   over all that follows
 *     length   4 bytes   of the head
 *     head               JSON, see `head` below
 *     body               unchanged, or gzip
 *
 * It contains no tenant and no credential: see storedHeaders.
 */
const MAGIC = Buffer.from('PGR3');
const PREFIX_BYTES = 12;

/** Compression of a smaller body costs more than it saves. */
const MIN_COMPRESSED_BYTES = 1024;
/** A body that does not shrink to this part is stored uncompressed. */
const MAX_COMPRESSED_PART = 0.9;

const texts = z.array(z.string());
/** Ages and times are relative, because replicas share no clock except that of Redis. */
const response = z.object({
  ...{ kind: z.literal('response'), status: z.int().min(200).max(599), headers: texts, tags: texts },
  ...{ generatedEtag: z.string().nullable(), storedAt: z.number(), initialAgeMs: z.number(), freshForMs: z.number() },
  stale: z.object({ staleWhileRevalidateMs: z.number(), staleIfErrorMs: z.number(), staleIfThrottledMs: z.number() }),
  /** From request to response. */
  tookMs: z.number(),
  /** How old it was when it was stored. */
  heldMs: z.number(),
});
const head = z.object({
  /** In full, so that two keys with one digest differ. */
  key: z.string(),
  entry: z.discriminatedUnion('kind', [response, z.object({ kind: z.literal('vary'), fields: texts.min(1) })]),
  /** At the time of storing: how long to keep it. */
  keepMs: z.number(),
  position: z.object({ log: z.string(), at: z.int() }),
  ...{ gzip: z.boolean(), bodyBytes: z.number() },
});
type StoredHead = z.infer<typeof response>;
type Head = Readonly<z.infer<typeof head>>;

/** `cache.maxEntry` allows no more. */
const MAX_BODY_BYTES = 1024 ** 3;

const compress = promisify(gzip);
const decompress = promisify(gunzip);

export async function encode(facts: Omit<Head, 'gzip' | 'bodyBytes'>, body: Buffer): Promise<Buffer> {
  const encoded = facts.entry.kind === 'response' && headerOf(facts.entry.headers, 'content-encoding') !== undefined;
  const small = encoded || body.length < MIN_COMPRESSED_BYTES ? null : await compress(body, { level: 1 });
  const packed = small !== null && small.length < body.length * MAX_COMPRESSED_PART ? small : body;
  const text = Buffer.from(JSON.stringify({ ...facts, gzip: packed !== body, bodyBytes: body.length }));
  const prefix = Buffer.alloc(PREFIX_BYTES);
  MAGIC.copy(prefix);
  prefix.writeUInt32BE(text.length, 8);
  const whole = Buffer.concat([prefix, text, packed]);
  whole.writeUInt32BE(crc32(whole.subarray(8)), 4);
  return whole;
}

/** Null for bytes that are truncated, of another version, or of another program. */
export async function decode(whole: Buffer): Promise<{ head: Head; body: Buffer } | null> {
  if (whole.length < PREFIX_BYTES || !whole.subarray(0, 4).equals(MAGIC)) return null;
  if (whole.readUInt32BE(4) !== crc32(whole.subarray(8))) return null;
  const bodyAt = PREFIX_BYTES + whole.readUInt32BE(8);
  const found = parseJson(head, whole.toString('utf8', PREFIX_BYTES, bodyAt));
  if (found === null || found.bodyBytes > MAX_BODY_BYTES) return null;
  const packed = whole.subarray(bodyAt);
  try {
    // In memory of its own: the reply of Redis may be part of a larger buffer.
    const body = found.gzip ? await decompress(packed, { maxOutputLength: found.bodyBytes + 1 }) : Buffer.from(packed);
    return body.length === found.bodyBytes ? { head: found, body } : null;
  } catch {
    return null;
  }
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

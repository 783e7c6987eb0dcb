import { createHash } from 'node:crypto';
import { accountOf } from '../../../cache/key.ts';
import type { CacheEntry, StoredResponse } from '../../../cache/store.ts';
import { NEVER_STALE } from '../../../cache/store.ts';
import type { Clock, EpochMs, MonotonicMs } from '../../../clock.ts';
import type { Meter } from '../../../ports.ts';
import { type Client, loadScript, runForBytes } from '../client/scripts.ts';
import type { SharedDrops } from './invalidation-log.ts';
import { Room } from './memory-pressure.ts';
import { decode, encode, type Head } from './response-codec.ts';

const getResponse = loadScript(import.meta.url, 'get-response');

/** The answers of all replicas. Whatever is wrong with one, or with Redis, it is as if it were not there. */
export interface SharedAnswers {
  get(key: string): Promise<{ readonly entry: CacheEntry; readonly keepMs: number } | undefined>;
  /** In the background; see `written`. */
  set(key: string, entry: CacheEntry, keepMs: number): void;
  /** Resolves when what was set so far is there, or is not going to be. */
  written(): Promise<void>;
}

export function createSharedAnswers(options: {
  readonly client: Client;
  readonly isReady: () => boolean;
  readonly drops: SharedDrops;
  readonly prefix: string;
  readonly clock: Clock;
  readonly meter: Meter;
}): SharedAnswers {
  const { client, drops, clock, meter } = options;
  const writing = new Set<Promise<void>>();
  const room = new Room(client, clock);
  const count = (outcome: 'hit' | 'miss' | 'store' | 'skip' | 'broken' | 'failed') =>
    meter.cacheOperation('redis', outcome);

  const write = async (key: string, entry: CacheEntry, keepMs: number): Promise<void> => {
    const head = room.isFull ? null : headOf(key, entry, keepMs);
    if (head === null) {
      count('skip');
      return;
    }
    try {
      const bytes = await encode(head, entry.kind === 'response' ? entry.body : Buffer.alloc(0));
      await client.set(nameOf(options.prefix, key), bytes, 'PX', Math.ceil(keepMs));
      count('store');
    } catch {
      count('failed');
    }
  };

  /** Null: what has been dropped since it was asked for is not known to the others under this log. */
  const headOf = (key: string, entry: CacheEntry, keepMs: number): Omit<Head, 'gzip' | 'bodyBytes'> | null => {
    const account = accountOf(key);
    if (entry.kind === 'vary') {
      const position = drops.toShared(account, drops.latestWrite(account));
      return position === null ? null : { ...SIGNPOST, key, fields: entry.fields, keepMs, position };
    }
    const position = drops.toShared(account, entry.validUpToWrite);
    if (position === null) return null;
    const { status, headers, generatedEtag: ownTag, tags, storedAt, initialAgeMs, freshForMs, stale } = entry;
    return {
      ...{
        key,
        status,
        headers,
        fields: [],
        ownTag,
        tags,
        storedAt,
        initialAgeMs,
        freshForMs,
        stale,
        keepMs,
        position,
      },
      tookMs: entry.receivedAt - entry.requestedAt,
      heldMs: clock.monotonic() - entry.receivedAt,
    };
  };

  const entryOf = (head: Head, body: Buffer, leftMs: number): StoredResponse | null => {
    const { status, headers, ownTag, tags, initialAgeMs, freshForMs, stale } = head;
    const clearedUpTo = drops.toLocal(accountOf(head.key), head.position);
    if (status === null || clearedUpTo === null) return null;
    const arrivedAt = clock.monotonic() - head.heldMs - Math.max(0, head.keepMs - leftMs);
    return {
      ...{
        kind: 'response',
        status,
        headers: [...headers],
        body,
        generatedEtag: ownTag,
        tags,
        initialAgeMs,
        freshForMs,
        stale,
        validUpToWrite: clearedUpTo,
      },
      storedAt: head.storedAt as EpochMs,
      receivedAt: arrivedAt as MonotonicMs,
      requestedAt: (arrivedAt - head.tookMs) as MonotonicMs,
    };
  };

  return {
    async get(key) {
      // A replica that is not in touch can not tell what was dropped.
      if (!options.isReady() || drops.disconnectedSince(accountOf(key)) !== null) return undefined;
      try {
        const reply = await runForBytes(client, getResponse, [nameOf(options.prefix, key)]);
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
        const entry = head.status === null ? signpostOf(head) : entryOf(head, body, leftMs);
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

const SIGNPOST = {
  ...{ status: null, headers: [], ownTag: null, tags: [], storedAt: 0, tookMs: 0, heldMs: 0 },
  ...{ initialAgeMs: 0, freshForMs: 0, stale: NEVER_STALE },
};

function signpostOf({ fields }: Head): CacheEntry | null {
  return fields.length === 0 ? null : { kind: 'vary', fields };
}

/** In the slot of its account, should this be a Cluster. */
export function nameOf(prefix: string, key: string, what = 'a'): string {
  const digest = createHash('sha256').update(key).digest('base64url').slice(0, 27);
  return `${prefix}:{${accountOf(key)}}:cache:${what}:${digest}`;
}

import { promisify } from 'node:util';
import { crc32, gunzip, gzip } from 'node:zlib';
import { NEVER_STALE, type StaleWindows } from '../../../cache/store.ts';
import type { SharedPosition } from './account-invalidation.ts';

/**
 * How an answer lies in Redis, for every replica of this version to read:
 *
 *     "PGA1"   4 bytes   what it is, and which version of this format
 *     crc32    4 bytes   over all that follows
 *     length   4 bytes   of the head
 *     head               JSON, see {@link Head}
 *     body               as it is, or gzip
 *
 * Nothing in it names a tenant or a credential: see storedHeaders.
 */
const MAGIC = Buffer.from('PGA1');
const PREFIX_BYTES = 12;

/** Below this compression costs more than it saves. */
const WORTH_COMPRESSING = 1024;
/** And what does not get smaller than this is kept as it is. */
const WORTH_KEEPING = 0.9;

/** Ages and times are relative: replicas share no clock but that of Redis. */
export interface Head {
  /** In full: two keys of one digest are told apart. */
  readonly key: string;
  /** Null for a signpost. */
  readonly status: number | null;
  readonly headers: readonly string[];
  readonly fields: readonly string[];
  readonly ownTag: string | null;
  readonly tags: readonly string[];
  readonly storedAt: number;
  /** From the question to the answer. */
  readonly tookMs: number;
  readonly initialAgeMs: number;
  readonly freshForMs: number;
  readonly stale: StaleWindows;
  /** How long it was to be kept when it was stored, and how long it had been held by then. */
  readonly keepMs: number;
  readonly heldMs: number;
  readonly position: SharedPosition;
  readonly gzip: boolean;
  readonly bodyBytes: number;
}

/** `cache.maxEntry` allows no more. */
const LARGEST_BODY = 1024 ** 3;

const compress = promisify(gzip);
const decompress = promisify(gunzip);

export async function encode(head: Omit<Head, 'gzip' | 'bodyBytes'>, body: Buffer): Promise<Buffer> {
  const encoded = head.headers.some((item, index) => index % 2 === 0 && item.toLowerCase() === 'content-encoding');
  const small = encoded || body.length < WORTH_COMPRESSING ? null : await compress(body, { level: 1 });
  const packed = small !== null && small.length < body.length * WORTH_KEEPING ? small : body;
  const text = Buffer.from(JSON.stringify({ ...head, gzip: packed !== body, bodyBytes: body.length }));
  const prefix = Buffer.alloc(PREFIX_BYTES);
  MAGIC.copy(prefix);
  prefix.writeUInt32BE(text.length, 8);
  const whole = Buffer.concat([prefix, text, packed]);
  whole.writeUInt32BE(crc32(whole.subarray(8)), 4);
  return whole;
}

/** Null for what is truncated, of another version, or none of ours. */
export async function decode(whole: Buffer): Promise<{ head: Head; body: Buffer } | null> {
  if (whole.length < PREFIX_BYTES || !whole.subarray(0, 4).equals(MAGIC)) return null;
  if (whole.readUInt32BE(4) !== crc32(whole.subarray(8))) return null;
  const bodyAt = PREFIX_BYTES + whole.readUInt32BE(8);
  try {
    const head: unknown = JSON.parse(whole.toString('utf8', PREFIX_BYTES, bodyAt));
    if (!isHead(head) || head.bodyBytes > LARGEST_BODY) return null;
    const packed = whole.subarray(bodyAt);
    // Of memory of its own: the reply of Redis may be part of something larger.
    const body = head.gzip ? await decompress(packed, { maxOutputLength: head.bodyBytes + 1 }) : Buffer.from(packed);
    return body.length === head.bodyBytes ? { head, body } : null;
  } catch {
    return null;
  }
}

const NUMBERS = ['storedAt', 'tookMs', 'initialAgeMs', 'freshForMs', 'keepMs', 'heldMs', 'bodyBytes'] as const;

function isHead(value: unknown): value is Head {
  if (typeof value !== 'object' || value === null) return false;
  const head = value as Record<string, unknown>;
  const { key, status, ownTag, position, stale, gzip: packed } = head;
  const at = position as Partial<SharedPosition> | null;
  return (
    typeof key === 'string' &&
    (status === null || (Number.isInteger(status) && Number(status) >= 200 && Number(status) <= 599)) &&
    (ownTag === null || typeof ownTag === 'string') &&
    typeof packed === 'boolean' &&
    [head['headers'], head['fields'], head['tags']].every(areTexts) &&
    NUMBERS.every((name) => Number.isFinite(head[name])) &&
    typeof at?.base === 'string' &&
    Number.isInteger(at.at) &&
    Object.keys(NEVER_STALE).every((name) => Number.isFinite((stale as Record<string, unknown> | null)?.[name]))
  );
}

function areTexts(value: unknown): boolean {
  return Array.isArray(value) && value.every((each) => typeof each === 'string');
}

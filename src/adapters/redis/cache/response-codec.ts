import { promisify } from 'node:util';
import { crc32, gunzip, gzip } from 'node:zlib';
import { NEVER_STALE, type StaleWindows } from '../../../cache/store.ts';
import type { LogPosition } from './account-invalidation.ts';

/**
 * The format of a stored response in Redis, which every replica of this version reads:
 *
 *     "PGR2"   4 bytes   name and version of this format
 *     crc32    4 bytes   over all that follows
 *     length   4 bytes   of the head
 *     head               JSON, see {@link Head}
 *     body               unchanged, or gzip
 *
 * It contains no tenant and no credential: see storedHeaders.
 */
const MAGIC = Buffer.from('PGR2');
const PREFIX_BYTES = 12;

/** Compression of a smaller body costs more than it saves. */
const MIN_COMPRESSED_BYTES = 1024;
/** A body that does not shrink to this part is stored uncompressed. */
const MAX_COMPRESSED_PART = 0.9;

/** Ages and times are relative, because replicas share no clock except that of Redis. */
export interface Head {
  /** In full, so that two keys with one digest differ. */
  readonly key: string;
  /** Null for an entry that only names the headers by which responses vary. */
  readonly status: number | null;
  readonly headers: readonly string[];
  readonly fields: readonly string[];
  readonly generatedEtag: string | null;
  readonly tags: readonly string[];
  readonly storedAt: number;
  /** From request to response. */
  readonly tookMs: number;
  readonly initialAgeMs: number;
  readonly freshForMs: number;
  readonly stale: StaleWindows;
  /** At the time of storing: how long to keep it, and how old it was. */
  readonly keepMs: number;
  readonly heldMs: number;
  readonly position: LogPosition;
  readonly gzip: boolean;
  readonly bodyBytes: number;
}

/** `cache.maxEntry` allows no more. */
const MAX_BODY_BYTES = 1024 ** 3;

const compress = promisify(gzip);
const decompress = promisify(gunzip);

export async function encode(head: Omit<Head, 'gzip' | 'bodyBytes'>, body: Buffer): Promise<Buffer> {
  const encoded = head.headers.some((item, index) => index % 2 === 0 && item.toLowerCase() === 'content-encoding');
  const small = encoded || body.length < MIN_COMPRESSED_BYTES ? null : await compress(body, { level: 1 });
  const packed = small !== null && small.length < body.length * MAX_COMPRESSED_PART ? small : body;
  const text = Buffer.from(JSON.stringify({ ...head, gzip: packed !== body, bodyBytes: body.length }));
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
  try {
    const head: unknown = JSON.parse(whole.toString('utf8', PREFIX_BYTES, bodyAt));
    if (!isHead(head) || head.bodyBytes > MAX_BODY_BYTES) return null;
    const packed = whole.subarray(bodyAt);
    // In memory of its own: the reply of Redis may be part of a larger buffer.
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
  const { key, status, generatedEtag, position, stale, gzip: packed } = head;
  const at = position as Partial<LogPosition> | null;
  return (
    typeof key === 'string' &&
    (status === null || (Number.isInteger(status) && Number(status) >= 200 && Number(status) <= 599)) &&
    (generatedEtag === null || typeof generatedEtag === 'string') &&
    typeof packed === 'boolean' &&
    [head['headers'], head['fields'], head['tags']].every(areTexts) &&
    NUMBERS.every((name) => Number.isFinite(head[name])) &&
    typeof at?.log === 'string' &&
    Number.isInteger(at.at) &&
    Object.keys(NEVER_STALE).every((name) => Number.isFinite((stale as Record<string, unknown> | null)?.[name]))
  );
}

function areTexts(value: unknown): boolean {
  return Array.isArray(value) && value.every((each) => typeof each === 'string');
}

import { promisify } from 'node:util';
import { crc32, gunzip, gzip } from 'node:zlib';
import { z } from 'zod';
import { headerOf } from '../../../context.ts';
import { parseJson } from '../client/scripts.ts';

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
export type StoredHead = z.infer<typeof response>;
export type Head = Readonly<z.infer<typeof head>>;

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

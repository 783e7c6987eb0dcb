import { parsePathPattern } from '../routing/pattern.ts';

/** Which entries an operator wants removed from the cache. */
export interface Purge {
  /** Null: all accounts. */
  readonly account: string | null;
  /** Segments of a path pattern. */
  readonly path: readonly string[] | null;
  readonly tag: string | null;
}

export type Purged =
  | {
      readonly ok: true;
      readonly purged: {
        readonly accounts: readonly string[];
        /** Responses in the memory of this replica. Copies in Redis and on other replicas are invalid too, and not counted. */
        readonly entries: number;
      };
    }
  | { readonly ok: false; readonly detail: string };

/** A purge in one line: `/api/v1/flows/** of main`. */
export function purgeTarget({ account, path, tag }: Purge): string {
  const parts = [...(path === null ? [] : [`/${path.join('/')}`]), ...(tag === null ? [] : [`tag ${tag}`])];
  return `${parts.join(' and ') || 'everything'} of ${account ?? 'all accounts'}`;
}

type PurgeRead =
  | { readonly ok: true; readonly purge: Purge }
  | { readonly ok: false; readonly code: 'bad_request' | 'unsupported_media_type'; readonly detail?: string };

const KNOWN = ['account', 'path', 'tag'];
/** Longer than any purge. */
const MAX_BODY_BYTES = 64 * 1024;

/** Reads the body of `POST /cache/purge`: `{"path": "/api/v1/flows/**", "account": "main"}`, or a tag, or an account alone. */
export async function readPurge(request: Request): Promise<PurgeRead> {
  const type = request.headers.get('content-type') ?? '';
  if (!/^application\/json\b/i.test(type)) return { ok: false, code: 'unsupported_media_type' };
  const text = await readText(request);
  if (text === null) return bad(`The body is larger than ${MAX_BODY_BYTES} bytes.`);
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return bad('The body is not JSON.');
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return bad('The body must be a JSON object.');
  const fields = new Map(Object.entries(body));
  for (const [name, value] of fields) {
    if (!KNOWN.includes(name)) return bad(`There is no field "${name}"; known are ${KNOWN.join(', ')}.`);
    if (typeof value !== 'string' || value === '') return bad(`The field "${name}" must be a non-empty string.`);
  }
  if (fields.size === 0) return bad('Name what to remove: a path, a tag, or an account.');
  const path = fields.get('path') as string | undefined;
  const parsed = path === undefined ? null : parsePathPattern(path);
  if (parsed?.ok === false) return bad(`The field "path" is not a path pattern: ${parsed.reason}.`);
  return {
    ok: true,
    purge: {
      account: (fields.get('account') as string | undefined) ?? null,
      path: parsed?.segments ?? null,
      tag: (fields.get('tag') as string | undefined) ?? null,
    },
  };
}

/** Null: the body is larger than the limit. A chunked one declares no length, so the bytes are counted. */
async function readText(request: Request): Promise<string | null> {
  if (Number(request.headers.get('content-length') ?? 0) > MAX_BODY_BYTES) return null;
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of request.body ?? []) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function bad(detail: string): PurgeRead {
  return { ok: false, code: 'bad_request', detail };
}

import { pipeline, type Readable, Transform } from 'node:stream';
import type { BodyMemory } from '../body-memory.ts';
import {
  filterHeaders,
  type HeaderList,
  headerOf,
  type Middleware,
  type ProxyResponse,
  type RequestContext,
  type Result,
  reject,
  respond,
} from '../context.ts';
import { sliced } from '../read-body.ts';

export interface LinkBases {
  /** Origins to replace, `https://host[:port]`; both schemes are recognised. */
  readonly origins: readonly string[];
  /** The replacement: `http://gateway:8080`. */
  readonly base: string;
}

/** The parts of a request that decide whether its response's links are rewritten. */
export interface LinkRequest {
  /** Decoded segments of the path. */
  readonly segments: readonly string[];
  readonly route: { readonly rewriteLinks: boolean };
}

interface RewriteContext extends RequestContext, LinkRequest {
  readonly tenant: { readonly id: string };
}

/** Whether links in the body are rewritten. The body of a download is a file, whatever its type: it must stay the same to the byte. */
export function rewritesBody({ segments, route }: LinkRequest): boolean {
  return route.rewriteLinks && segments.at(-1) !== 'download';
}

/** A larger body is rewritten as it leaves, so that no second copy of it is in memory. */
const WHOLE_BYTES = 64 * 1024;
/** Memory of a response that is rewritten as it leaves. */
const STREAM_BYTES = 128 * 1024;
/** Rewritten copies of cached bodies that are remembered. */
const REMEMBERED_BYTES = 8 * 1024 * 1024;
const RETRY_AFTER_SECONDS = 1;

/**
 * Makes pagination links and Location headers of responses lead through the gateway. The base URL is the caller's `Host`, of which there
 * are as many as a caller likes: so what a response holds because it was rewritten counts as memory for bodies.
 */
export function rewriteLinks<E extends RewriteContext>(options: {
  readonly origins: readonly string[];
  readonly bodyMemory: BodyMemory;
}): Middleware<E, E> {
  const { origins, bodyMemory } = options;
  const rewriteWhole = wholeRewriter(origins);

  const rewriteBuffer = (context: E, { status, headers }: ProxyResponse, body: Buffer): Result => {
    if (!body.includes(SLASHES) && !body.includes(ESCAPED_SLASH)) return respond(status, headers, body);
    const held = bodyMemory.open(context.tenant.id);
    // A response of the upstream has cost a slot, and may be that of a write. Only those that cost nothing are without a bound.
    if (!held.tryTake(Math.min(body.length, STREAM_BYTES)) && context.record.attempts === 0) {
      return reject('overloaded', {
        retryAfterSeconds: RETRY_AFTER_SECONDS,
        internal: 'bufferedTotal: rewritten links',
      });
    }
    context.lifetime.onEnd(() => held.release());
    const { baseUrl } = context;
    if (body.length <= WHOLE_BYTES) return respond(status, headers, rewriteWhole(body, baseUrl));
    return respond(status, withoutLength(headers), rewriteStream(sliced(body), { origins, base: baseUrl }));
  };

  const rewrite = (context: E, result: Result): Result => {
    if (result.kind === 'rejection' || !context.route.rewriteLinks) return result;
    const bases = { origins, base: context.baseUrl };
    const headers = withLinkFields(result.headers, bases);
    const { body } = result;
    const response = headers === result.headers ? result : respond(result.status, headers, body);
    if (!rewritesBody(context) || !isPlainJson(result)) return response;
    // The response to a HEAD has the length of the body before its links are rewritten.
    if (body === null) return respond(result.status, withoutLength(headers), null);
    if (Buffer.isBuffer(body)) return rewriteBuffer(context, response, body);
    return respond(result.status, withoutLength(headers), rewriteStream(body, bases));
  };

  return (next) => async (context) => rewrite(context, await next(context));
}

/** Rewrites bodies, and remembers the copies: the same cached body is served many times, nearly always for the same base URL. */
function wholeRewriter(origins: readonly string[]): (body: Buffer, base: string) => Buffer {
  let remembered = new WeakMap<Buffer, { base: string; body: Buffer }>();
  let rememberedBytes = 0;
  return (body, base) => {
    const known = remembered.get(body);
    if (known !== undefined && known.base === base) return known.body;
    const rewriter = new LinkRewriter({ origins, base });
    const rewritten = Buffer.concat([rewriter.push(body), rewriter.flush()]);
    rememberedBytes += rewritten.length;
    if (rememberedBytes > REMEMBERED_BYTES) {
      remembered = new WeakMap();
      rememberedBytes = rewritten.length;
    }
    remembered.set(body, { base, body: rewritten });
    return rewritten;
  };
}

/** Every URL contains one of these, plain or as JSON may escape it. Most bodies contain neither. */
const SLASHES = Buffer.from('//');
const ESCAPED_SLASH = Buffer.from('\\/');

/** JSON without compression (the upstream was asked for it), the whole document, and no file. */
function isPlainJson({ status, headers }: ProxyResponse): boolean {
  if (status === 206) return false;
  const type = headerOf(headers, 'content-type');
  if (headerOf(headers, 'content-disposition')?.trim().toLowerCase().startsWith('attachment')) return false;
  if (type === undefined || !/^application\/(?:[\w.+-]+\+)?json\b/i.test(type)) return false;
  const encoding = headerOf(headers, 'content-encoding');
  return encoding === undefined || encoding.toLowerCase() === 'identity';
}

/** Location, Content-Location, and the targets of Link (RFC 8288). The same list if nothing changes. */
function withLinkFields(headers: HeaderList, bases: LinkBases): HeaderList {
  let rewritten: HeaderList | null = null;
  for (let i = 0; i < headers.length; i += 2) {
    const rewriteField = LINK_FIELDS.get((headers[i] as string).toLowerCase());
    const value = headers[i + 1] as string;
    const changed = rewriteField === undefined ? value : rewriteField(value, bases);
    if (changed === value) continue;
    rewritten ??= headers.slice();
    rewritten[i + 1] = changed;
  }
  return rewritten ?? headers;
}

const rewriteTarget = (value: string, bases: LinkBases): string => rewriteUrl(value, bases) ?? value;
const LINK_FIELDS: ReadonlyMap<string, typeof rewriteTarget> = new Map([
  ['location', rewriteTarget],
  ['content-location', rewriteTarget],
  ['link', (value, bases) => value.replace(/<([^<>]*)>/g, (_, url: string) => `<${rewriteTarget(url, bases)}>`)],
]);

function withoutLength(headers: HeaderList): HeaderList {
  return filterHeaders(headers, (name) => name !== 'content-length');
}

function rewriteStream(body: Readable, bases: LinkBases): Readable {
  const rewriter = new LinkRewriter(bases);
  const transform = new Transform({
    transform: (chunk: Buffer, _encoding, done) => done(null, rewriter.push(chunk)),
    flush: (done) => done(null, rewriter.flush()),
  });
  pipeline(body, transform, () => {
    // A broken body destroys the transform with its error, so the reader sees that the response was cut off.
  });
  return transform;
}

/** Replaces the origin of one URL; null if it is no upstream's. */
export function rewriteUrl(url: string, bases: LinkBases): string | null {
  const match = /^https?:\/\//i.exec(url);
  if (match === null) return null;
  const after = url.slice(match[0].length);
  const end = after.search(/[/?#]/);
  const authority = (end === -1 ? after : after.slice(0, end)).toLowerCase();
  for (const origin of bases.origins) {
    const host = origin.slice(origin.indexOf('://') + 3).toLowerCase();
    if (authority === host || authority === `${host}:443` || authority === `${host}:80`) {
      return bases.base + (end === -1 ? '' : after.slice(end));
    }
  }
  return null;
}

const FLAT_KEYS = new Set(['first_page_url', 'last_page_url', 'next_page_url', 'prev_page_url', 'path']);
const META_KEYS = new Set(['path', 'links']);
/** `{ meta: { links: [ { url` is four containers deep. Deeper containers are only counted. */
const MAX_LINK_DEPTH = 4;
/** A longer string is no link and passes at once, so that memory stays bounded. */
const MAX_LINK_BYTES = 8192;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const COLON = 0x3a;
const COMMA = 0x2c;

/**
 * Rewrites a JSON document in chunks of any size, where Laravel's paginators put links: the top-level `links` object or array,
 * `meta.links[].url`, `meta.path`, and the flat form (`next_page_url` …). All other data passes unchanged: a caller that reads a flow
 * step with a URL of the Core API and writes it back must not change it.
 */
export class LinkRewriter {
  readonly #bases: LinkBases;
  /** For each open container: its key in its parent ('' in an array), and whether it is an object. */
  readonly #stack: { key: string; object: boolean }[] = [];
  /** Open containers below the stack. */
  #deeper = 0;
  /** Key of the next value in an object. */
  #key = '';
  #expectKey = false;
  /** Bytes of the current string without quotes, if it is a key or a link; null if it passes unread. */
  #captured: Buffer[] | null = null;
  #capturedBytes = 0;
  #inString = false;
  #escaped = false;

  constructor(bases: LinkBases) {
    this.#bases = bases;
  }

  push(chunk: Buffer): Buffer {
    const out: Buffer[] = [];
    let from = 0;
    let at = 0;
    while (at < chunk.length) {
      if (this.#inString) {
        const end = this.#endOfString(chunk, at);
        if (this.#captured !== null) from = this.#capture(chunk, from, at, end, out);
        if (end === -1) break;
        at = end + 1;
        this.#inString = false;
        if (this.#captured !== null) from = this.#endCapture(out, end);
        continue;
      }
      const byte = chunk[at] as number;
      if (byte === QUOTE) {
        this.#inString = true;
        if (this.#isRelevant()) {
          out.push(chunk.subarray(from, at + 1));
          from = at + 1;
          this.#captured = [];
          this.#capturedBytes = 0;
        }
      } else this.#structure(byte);
      at++;
    }
    if (from < chunk.length) out.push(chunk.subarray(from));
    return out.length === 1 ? (out[0] as Buffer) : Buffer.concat(out);
  }

  /** The captured bytes of a document that ends inside a string. */
  flush(): Buffer {
    const rest = this.#captured === null ? Buffer.alloc(0) : Buffer.concat(this.#captured);
    this.#captured = null;
    return rest;
  }

  #structure(byte: number): void {
    if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
      if (this.#stack.length > MAX_LINK_DEPTH) this.#deeper++;
      else this.#stack.push({ key: this.#top()?.object ? this.#key : '', object: byte === OPEN_OBJECT });
      this.#expectKey = byte === OPEN_OBJECT;
    } else if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) {
      if (this.#deeper > 0) this.#deeper--;
      else this.#stack.pop();
      this.#expectKey = false;
    } else if (byte === COMMA) this.#expectKey = this.#top()?.object ?? false;
    else if (byte === COLON) this.#expectKey = false;
  }

  #top(): { key: string; object: boolean } | undefined {
    return this.#stack.at(-1);
  }

  /** Whether the string that begins now is a link, or a key of a container that may hold links. */
  #isRelevant(): boolean {
    const depth = this.#stack.length;
    if (depth === 0 || depth > MAX_LINK_DEPTH) return false;
    const section = this.#stack[1]?.key;
    if (depth >= 2 && section !== 'links' && section !== 'meta') return false;
    if (this.#expectKey) return true;
    if (depth === 1) return this.#stack[0]?.object === true && FLAT_KEYS.has(this.#key);
    if (section === 'links') return true;
    if (depth === 2) return this.#stack[1]?.object === true && META_KEYS.has(this.#key);
    return this.#stack[2]?.key === 'links';
  }

  /** Index of the closing quote, or -1 if it is not in this chunk. */
  #endOfString(chunk: Buffer, start: number): number {
    let at = start;
    if (this.#escaped) {
      this.#escaped = false;
      at++;
    }
    for (;;) {
      const quote = chunk.indexOf(QUOTE, at);
      const limit = quote === -1 ? chunk.length : quote;
      let slashes = 0;
      while (limit - 1 - slashes >= at && chunk[limit - 1 - slashes] === BACKSLASH) slashes++;
      const odd = slashes % 2 === 1;
      if (quote === -1) {
        this.#escaped = odd;
        return -1;
      }
      if (!odd) return quote;
      at = quote + 1;
    }
  }

  /** Copies the string's bytes of this chunk. Returns the index from which the chunk is not yet passed on. */
  #capture(chunk: Buffer, from: number, start: number, end: number, out: Buffer[]): number {
    const stop = end === -1 ? chunk.length : end;
    const captured = this.#captured as Buffer[];
    captured.push(Buffer.from(chunk.subarray(start, stop)));
    this.#capturedBytes += stop - start;
    if (this.#capturedBytes > MAX_LINK_BYTES) {
      out.push(...captured);
      this.#captured = null;
      if (this.#expectKey) this.#key = '';
      return stop;
    }
    return end === -1 ? chunk.length : from;
  }

  #endCapture(out: Buffer[], end: number): number {
    const raw = Buffer.concat(this.#captured as Buffer[]);
    this.#captured = null;
    if (this.#expectKey) {
      this.#key = raw.toString('utf8');
      out.push(raw);
    } else out.push(this.#rewritten(raw));
    return end;
  }

  #rewritten(raw: Buffer): Buffer {
    const text = raw.toString('latin1');
    const escaped = text.includes('\\/');
    const url = rewriteUrl(escaped ? text.replaceAll('\\/', '/') : text, this.#bases);
    if (url === null) return raw;
    return Buffer.from(escaped ? url.replaceAll('/', '\\/') : url, 'latin1');
  }
}

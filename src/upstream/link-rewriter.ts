import { originalPath, type Rewrite } from '../routing/rewrite.ts';

export interface LinkBases {
  /** Origins to replace, `https://host[:port]`; both schemes are recognised. */
  readonly origins: readonly string[];
  /** The replacement: `http://gateway:8080`. */
  readonly base: string;
  /** Paths of this origin have another beginning for callers. */
  readonly rewritten?: { readonly origin: string; readonly rewrite: Rewrite } | null;
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
      const path = end === -1 ? '' : after.slice(end);
      return bases.base + (bases.rewritten?.origin === origin ? originalPath(bases.rewritten.rewrite, path) : path);
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

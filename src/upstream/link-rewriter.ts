/**
 * Leads pagination links back through the gateway: `http://core…/api/v1/flows?page=2` → `http://gateway/api/v1/flows?page=2`.
 *
 * Only where Laravel's paginators put links: in the top-level `links` object or array, in `meta.links[].url` and
 * `meta.path`, and in the flat form (`next_page_url` …). The data itself is never touched: a flow step that holds a URL of
 * the Core API must read the same through the gateway, or a caller that writes it back would change it.
 *
 * Works on bytes in chunks of any size and holds back no more than one string of bounded length.
 */
const FLAT_KEYS = new Set(['first_page_url', 'last_page_url', 'next_page_url', 'prev_page_url', 'path']);
const META_KEYS = new Set(['path', 'links']);

/** `{ meta: { links: [ { url` stands four containers deep; below that depth nothing is remembered, only counted. */
const DEEPEST_LINK = 4;

/** A longer string is no link: it passes unlooked at, so that memory stays bounded. */
const LONGEST_LINK = 8192;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const COLON = 0x3a;
const COMMA = 0x2c;

export interface LinkBases {
  /** Origins to replace, `https://host[:port]`; both schemes are recognised. */
  readonly origins: readonly string[];
  /** What stands in their place: `http://gateway:8080`. */
  readonly base: string;
}

/** Replaces the origin of one URL, as in a Location header; null if it leads elsewhere. */
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

/** Rewrites a JSON document chunk by chunk; see {@link FLAT_KEYS} for where it looks. */
export class LinkRewriter {
  readonly #bases: LinkBases;
  /** For each open container: its key in its parent ('' in an array), and whether it is an object. */
  readonly #stack: { key: string; object: boolean }[] = [];
  #deeper = 0;
  /** Key whose value comes next, within an object. */
  #key = '';
  #expectKey = false;
  /** Bytes of the string being read, without quotes, if it may matter; null if it is passed through. */
  #held: Buffer[] | null = null;
  #heldBytes = 0;
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
        if (this.#held !== null) from = this.#hold(chunk, from, at, end, out);
        if (end === -1) break;
        at = end + 1;
        this.#inString = false;
        if (this.#held !== null) from = this.#closeHeld(out, end);
        continue;
      }
      const byte = chunk[at] as number;
      if (byte === QUOTE) {
        this.#inString = true;
        if (this.#matters()) {
          out.push(chunk.subarray(from, at + 1));
          from = at + 1;
          this.#held = [];
          this.#heldBytes = 0;
        }
      } else this.#structure(byte);
      at++;
    }
    if (from < chunk.length) out.push(chunk.subarray(from));
    return out.length === 1 ? (out[0] as Buffer) : Buffer.concat(out);
  }

  /** What was held back when the document ended inside a string. */
  flush(): Buffer {
    const rest = this.#held === null ? Buffer.alloc(0) : Buffer.concat(this.#held);
    this.#held = null;
    return rest;
  }

  #structure(byte: number): void {
    if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
      if (this.#stack.length > DEEPEST_LINK) this.#deeper++;
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

  /** Whether the string that begins now is a key on a way to links, or a link. */
  #matters(): boolean {
    const depth = this.#stack.length;
    if (depth === 0 || depth > DEEPEST_LINK) return false;
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

  /** Takes the string's bytes of this chunk aside; gives up on strings that are too long. Returns the new `from`. */
  #hold(chunk: Buffer, from: number, start: number, end: number, out: Buffer[]): number {
    const stop = end === -1 ? chunk.length : end;
    const held = this.#held as Buffer[];
    held.push(Buffer.from(chunk.subarray(start, stop)));
    this.#heldBytes += stop - start;
    if (this.#heldBytes > LONGEST_LINK) {
      out.push(...held);
      this.#held = null;
      if (this.#expectKey) this.#key = '';
      return stop;
    }
    return end === -1 ? chunk.length : from;
  }

  #closeHeld(out: Buffer[], end: number): number {
    const raw = Buffer.concat(this.#held as Buffer[]);
    this.#held = null;
    if (this.#expectKey) {
      this.#key = raw.toString('utf8');
      out.push(raw);
    } else out.push(this.#rewritten(raw));
    return end;
  }

  #rewritten(raw: Buffer): Buffer {
    const text = raw.toString('latin1');
    const escaped = text.includes('\\/');
    const plain = escaped ? text.replaceAll('\\/', '/') : text;
    const url = rewriteUrl(plain, this.#bases);
    if (url === null) return raw;
    return Buffer.from(escaped ? url.replaceAll('/', '\\/') : url, 'latin1');
  }
}

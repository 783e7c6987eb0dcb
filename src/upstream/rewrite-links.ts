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
import type { Rewrite } from '../routing/rewrite.ts';
import { type LinkBases, LinkRewriter, rewriteUrl } from './link-rewriter.ts';

/** The parts of a request that decide whether its response's links are rewritten. */
export interface LinkRequest {
  /** Decoded segments of the path. */
  readonly segments: readonly string[];
  readonly route: { readonly rewriteLinks: boolean };
}

interface RewriteContext extends RequestContext, LinkRequest {
  readonly tenant: { readonly id: string };
  readonly route: LinkRequest['route'] & {
    readonly rewrite: Rewrite | null;
    readonly upstream: { readonly origin: string };
  };
}

/** Whether links in the body are rewritten. The body of a download is a file, whatever its type: it must stay the same to the byte. */
export function rewritesBody({ segments, route }: LinkRequest): boolean {
  return route.rewriteLinks && segments.at(-1) !== 'download';
}

/** A larger body is rewritten as it leaves, so that no second copy of it is in memory. */
const WHOLE_BYTES = 64 * 1024;
/** Memory of a response that is rewritten as it leaves. */
const STREAM_BYTES = 128 * 1024;
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
  const rewriteWhole = wholeRewriter();
  const basesOf = ({ baseUrl: base, route: { rewrite, upstream } }: E): LinkBases => ({
    origins,
    base,
    rewritten: rewrite === null ? null : { origin: upstream.origin, rewrite },
  });

  const rewriteBuffer = (context: E, { status, headers }: ProxyResponse, body: Buffer, bases: LinkBases): Result => {
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
    if (body.length <= WHOLE_BYTES) return respond(status, headers, rewriteWhole(body, bases));
    return respond(status, withoutLength(headers), rewriteStream(sliced(body), bases));
  };

  const rewrite = (context: E, result: Result): Result => {
    if (result.kind === 'rejection' || !context.route.rewriteLinks) return result;
    const bases = basesOf(context);
    const headers = withLinkFields(result.headers, bases);
    const { body } = result;
    const response = headers === result.headers ? result : respond(result.status, headers, body);
    if (!rewritesBody(context) || !isPlainJson(result)) return response;
    // The response to a HEAD has the length of the body before its links are rewritten.
    if (body === null) return respond(result.status, withoutLength(headers), null);
    if (Buffer.isBuffer(body)) return rewriteBuffer(context, response, body, bases);
    return respond(result.status, withoutLength(headers), rewriteStream(body, bases));
  };

  return (next) => async (context) => rewrite(context, await next(context));
}

/** Rewrites bodies, and remembers the copies: the same cached body is served many times, nearly always for the same base URL. */
function wholeRewriter(): (body: Buffer, bases: LinkBases) => Buffer {
  let remembered = new WeakMap<Buffer, { base: string; body: Buffer }>();
  let rememberedBytes = 0;
  return (body, bases) => {
    const { base } = bases;
    const known = remembered.get(body);
    // A stored body belongs to one path, and so to one route.
    if (known !== undefined && known.base === base) return known.body;
    const rewriter = new LinkRewriter(bases);
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

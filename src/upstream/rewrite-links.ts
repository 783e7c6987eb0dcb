import { pipeline, type Readable, Transform } from 'node:stream';
import {
  type HeaderList,
  headerOf,
  type Middleware,
  type ProxyResponse,
  type RequestContext,
  type Result,
  respond,
} from '../context.ts';
import { type LinkBases, LinkRewriter, rewriteUrl } from './link-rewriter.ts';

interface Rewritable extends RequestContext {
  readonly route: { readonly rewriteLinks: boolean };
}

/**
 * Leads links in answers back through the gateway. Stands above the cache, so that what is stored is the upstream's and
 * one caller's Host header can not end up in another caller's answer.
 */
export function rewriteLinks<E extends Rewritable>(options: { readonly origins: readonly string[] }): Middleware<E, E> {
  const { origins } = options;
  const remembered = new WeakMap<Buffer, { base: string; body: Buffer }>();

  const rewriteBuffer = (body: Buffer, base: string): Buffer => {
    // A cached body is asked for again and again, nearly always by the same base URL.
    const known = remembered.get(body);
    if (known !== undefined && known.base === base) return known.body;
    if (!hasUrls(body)) return body;
    const rewriter = new LinkRewriter({ origins, base });
    const rewritten = Buffer.concat([rewriter.push(body), rewriter.flush()]);
    remembered.set(body, { base, body: rewritten });
    return rewritten;
  };

  const rewrite = (context: E, outcome: Result): Result => {
    if (outcome.kind === 'rejection') return outcome;
    const bases = { origins, base: context.baseUrl };
    const headers = withLocation(outcome.headers, bases);
    const { body } = outcome;
    if (!context.route.rewriteLinks || body === null || !isPlainJson(outcome)) {
      return headers === outcome.headers ? outcome : respond(outcome.status, headers, body);
    }
    if (Buffer.isBuffer(body)) return respond(outcome.status, headers, rewriteBuffer(body, bases.base));
    return respond(outcome.status, without(headers, 'content-length'), rewriteStream(body, bases));
  };

  return (next) => async (context) => rewrite(context, await next(context));
}

/** Whether there is anything that {@link rewriteUrl} would look at, written plainly or as JSON may escape it: most answers have none. */
function hasUrls(body: Buffer): boolean {
  return body.includes(SLASHES) || body.includes(ESCAPED_SLASH);
}

const SLASHES = Buffer.from('//');
const ESCAPED_SLASH = Buffer.from('\\/');

/** JSON that nobody compressed (upstream was asked not to) and that is whole. */
function isPlainJson(outcome: ProxyResponse): boolean {
  if (outcome.status === 206) return false;
  const type = headerOf(outcome.headers, 'content-type');
  if (type === undefined || !/^application\/(?:[\w.+-]+\+)?json\b/i.test(type)) return false;
  const encoding = headerOf(outcome.headers, 'content-encoding');
  return encoding === undefined || encoding.toLowerCase() === 'identity';
}

function withLocation(headers: HeaderList, bases: LinkBases): HeaderList {
  const location = headerOf(headers, 'location');
  const rewritten = location === undefined ? null : rewriteUrl(location, bases);
  if (rewritten === null) return headers;
  return headers.map((item, index) =>
    index % 2 === 1 && headers[index - 1]?.toLowerCase() === 'location' ? rewritten : item,
  );
}

function without(headers: HeaderList, lowerName: string): HeaderList {
  const kept: HeaderList = [];
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i] as string;
    if (name.toLowerCase() !== lowerName) kept.push(name, headers[i + 1] as string);
  }
  return kept;
}

function rewriteStream(body: Readable, bases: LinkBases): Readable {
  const rewriter = new LinkRewriter(bases);
  const transform = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      done(null, rewriter.push(chunk));
    },
    flush(done) {
      done(null, rewriter.flush());
    },
  });
  pipeline(body, transform, () => {
    // A broken body has destroyed the transform with its error: whoever reads it sees the answer cut off.
  });
  return transform;
}

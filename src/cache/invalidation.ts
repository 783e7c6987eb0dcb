import { type Handler, headerOf, type ProxyResponse, type Result, traced } from '../context.ts';
import { literally, matches, parsePathPattern, splitPath } from '../routing/pattern.ts';
import { withCacheStatus } from './cached-response.ts';
import { writtenCollection } from './invalidation-log.ts';
import type { CacheableContext, CacheOptions } from './options.ts';

/**
 * Passes a write on. Before its response goes out, invalidates the collection that it wrote to (RFC 9111 section 4.4 requires
 * only its path), the resources in Location and Content-Location, and the paths that the rules name. A write that may have been
 * carried out counts as carried out. If it may still be carried out later, the same paths are invalidated again by then.
 */
export function invalidateAfterWrite<E extends CacheableContext>(options: CacheOptions, next: Handler<E>): Handler<E> {
  const rules = (options.invalidate ?? []).map(({ after, drop }) => ({ after, drop: drop.map(segmentsOf) }));

  const invalidate = (context: E, response: ProxyResponse | null): void | Promise<void> => {
    const { method, segments, route, target } = context;
    const matching = rules.filter((rule) => matches(rule.after, method, segments));
    const patterns = [writtenCollection(segments), ...matching.flatMap((rule) => rule.drop)];
    if (response !== null) patterns.push(...linkedPaths(route.upstream.origin, target, response));
    return options.invalidations.invalidate(route.upstream.account, { patterns });
  };

  return async (context) => {
    let result: Result;
    try {
      result = await next(context);
    } catch (error) {
      // A fault of the gateway: the write may have been sent.
      await invalidate(context, null);
      throw error;
    }
    const response = result.kind === 'response' ? result : null;
    if (mayHaveChanged(result)) {
      if (response === null) options.clock.after(options.lateArrivalMs, () => void invalidate(context, null));
      await traced(context.trace, 'invalidate', invalidate(context, response));
    }
    return response === null ? result : withCacheStatus(response, 'method', false);
  };
}

/**
 * False for what the upstream refused (4xx) and for what provably did not reach it. RFC 9111 asks for 2xx and 3xx only, but a 5xx,
 * a missing response and a client disconnect do not show whether the write was carried out.
 */
function mayHaveChanged(result: Result): boolean {
  if (result.kind === 'response') return result.status < 400 || result.status >= 500;
  switch (result.code) {
    case 'upstream_timeout':
    case 'upstream_protocol':
    case 'client_closed':
      return true;
    default:
      return false;
  }
}

/** Location and Content-Location on the same upstream: these resources have changed too (section 4.4). */
function linkedPaths(origin: string, target: string, { headers }: ProxyResponse): (readonly string[])[] {
  const base = `${origin}${target}`;
  return ['location', 'content-location'].flatMap((name) => {
    const value = headerOf(headers, name);
    if (value === undefined || !URL.canParse(value, base)) return [];
    const url = new URL(value, base);
    if (url.origin !== new URL(origin).origin) return [];
    try {
      return [literally(splitPath(url.pathname).map(decodeURIComponent))];
    } catch {
      return [];
    }
  });
}

function segmentsOf(path: string): readonly string[] {
  const parsed = parsePathPattern(path);
  if (!parsed.ok) throw new TypeError(parsed.reason);
  return parsed.segments;
}

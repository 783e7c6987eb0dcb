import { type Handler, headerOf, LATE_ARRIVAL_MS, type ProxyResponse, type Result, traced } from '../context.ts';
import { mayBeCarriedOut } from '../problem.ts';
import { literally, matches, matchesPath, parsePathPattern, splitPath } from '../routing/pattern.ts';
import { originalPath, rewriteTarget } from '../routing/rewrite.ts';
import type { CacheableContext, CacheOptions } from './options.ts';
import type { Invalidation, InvalidationTarget } from './store.ts';

export const EVERYTHING: Invalidation = { patterns: [['**']] };

export function invalidates({ patterns, tags }: Invalidation, target: InvalidationTarget): boolean {
  return (
    patterns.some((pattern) => matchesPath(pattern, target.segments)) ||
    (tags?.some((tag) => target.tags.includes(tag)) ?? false)
  );
}

const VERSION = /^v\d+$/;

/**
 * The pattern that a write to a path always invalidates: its collection and everything below (`PATCH /flows/5`: `/flows/**`). A path
 * directly below the root of the API is a collection itself: `POST /api/v1/data-pool` must not invalidate all of `/api/v1`.
 */
export function writtenCollection(segments: readonly string[]): readonly string[] {
  const root = segments.findIndex((segment) => VERSION.test(segment)) + 1;
  // The root and what is above it are no collections: a write there must not invalidate all that is below.
  if (segments.length <= root) return literally(segments);
  const depth = Math.min(segments.length, Math.max(segments.length - 1, root + 1));
  return [...literally(segments.slice(0, depth)), '**'];
}

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
    if (response !== null) patterns.push(...linkedPaths(route, target, response));
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
    // RFC 9111 asks for 2xx and 3xx only, but a 5xx does not show whether the write was carried out.
    const changed =
      result.kind === 'response'
        ? result.status < 400 || result.status >= 500
        : mayBeCarriedOut(result.code, context.record.attempts);
    if (changed) {
      if (response === null) options.clock.after(LATE_ARRIVAL_MS, () => void invalidate(context, null));
      await traced(context.trace, 'invalidate', invalidate(context, response));
    }
    return result;
  };
}

/** Location and Content-Location on the same upstream: these resources have changed too (section 4.4). */
function linkedPaths(
  { upstream: { origin }, rewrite }: CacheableContext['route'],
  target: string,
  { headers }: ProxyResponse,
): (readonly string[])[] {
  const base = `${origin}${rewrite === null ? target : rewriteTarget(rewrite, target)}`;
  return ['location', 'content-location'].flatMap((name) => {
    const value = headerOf(headers, name);
    if (value === undefined || !URL.canParse(value, base)) return [];
    const url = new URL(value, base);
    if (url.origin !== new URL(origin).origin) return [];
    try {
      const path = rewrite === null ? url.pathname : originalPath(rewrite, url.pathname);
      return [literally(splitPath(path).map(decodeURIComponent))];
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

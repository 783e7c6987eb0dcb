import type { Handler, ProxyResponse, Result } from '../context.ts';
import { headerOf } from '../context.ts';
import { traced } from '../ports.ts';
import { matches, parsePathPattern, splitPath } from '../routing/pattern.ts';
import { writtenCollection } from './invalidation-log.ts';
import type { CacheableContext, CacheOptions } from './options.ts';
import { withCacheStatus } from './status.ts';

/**
 * Passes a write on and, before its answer goes out, drops what it changed: the collection it wrote to (RFC 9111 section
 * 4.4 asks for its path alone), what its answer leads to, and what the rules name. A write that may have been carried out
 * counts as one that was; and if it may still be carried out later, what is fetched meanwhile is dropped once more by then.
 */
export function invalidateAfterWrite<E extends CacheableContext>(
  options: CacheOptions,
): (context: E, next: Handler<E>) => Promise<Result> {
  const rules = (options.invalidate ?? []).map(({ after, drop }) => ({ after, drop: drop.map(segmentsOf) }));

  return async function passWrite(context, next) {
    const dropWritten = (outcome: Result | null): void | Promise<void> => {
      const named = rules.filter((rule) => matches(rule.after, context.method, context.segments));
      const patterns = [writtenCollection(context.segments), ...named.flatMap((rule) => rule.drop)];
      if (outcome?.kind === 'response') patterns.push(...ledTo(context, outcome));
      return options.invalidations.invalidate(context.route.upstream.account, { patterns });
    };
    let outcome: Result;
    try {
      outcome = await next(context);
    } catch (error) {
      // An internal error at an unknown moment: the write may have been sent.
      await dropWritten(null);
      throw error;
    }
    const passed = outcome.kind === 'response' ? withCacheStatus(outcome, 'method', false) : outcome;
    if (!mayHaveChanged(outcome)) return passed;
    if (outcome.kind === 'rejection') options.clock.after(options.lateArrivalMs, () => void dropWritten(null));
    await traced(context.trace, 'drop', dropWritten(outcome));
    return passed;
  };
}

/**
 * All but what upstream refused (4xx), and what provably never got there. RFC 9111 asks for 2xx and 3xx; but a 5xx, an
 * answer that never came and a caller who left (`client_closed`) say nothing about whether the write was carried out.
 */
function mayHaveChanged(outcome: Result): boolean {
  if (outcome.kind === 'response') return outcome.status < 400 || outcome.status >= 500;
  switch (outcome.code) {
    case 'upstream_timeout':
    case 'upstream_protocol':
    case 'internal':
    case 'client_closed':
      return true;
    default:
      return false;
  }
}

/** Location and Content-Location on the upstream that was written to: what they name has changed too (section 4.4). */
function ledTo({ route, target }: CacheableContext, { headers }: ProxyResponse): (readonly string[])[] {
  const { origin } = route.upstream;
  const base = `${origin}${target}`;
  return ['location', 'content-location'].flatMap((name) => {
    const value = headerOf(headers, name);
    if (value === undefined || !URL.canParse(value, base)) return [];
    const url = new URL(value, base);
    if (url.origin !== new URL(origin).origin) return [];
    try {
      return [splitPath(decodeURIComponent(url.pathname))];
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

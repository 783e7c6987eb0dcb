import type { Handler, Outcome } from '../exchange.ts';
import { matches, parsePathPattern } from '../routing/pattern.ts';
import { writtenCollection } from './drops.ts';
import type { Cacheable, CacheOptions } from './options.ts';
import { marked } from './status.ts';

/**
 * Passes a write on and, before its answer goes out, drops what it changed: the collection it wrote to (RFC 9111 section
 * 4.4 asks for its path alone) and what the rules name. A write that may have been carried out counts as one that was.
 */
export function writeHandler<E extends Cacheable>(
  options: CacheOptions,
): (exchange: E, next: Handler<E>) => Outcome | Promise<Outcome> {
  const rules = (options.invalidate ?? []).map(({ after, drop }) => ({ after, drop: drop.map(segmentsOf) }));

  return function passWrite(exchange, next) {
    const dropWritten = (): void => {
      const named = rules.filter((rule) => matches(rule.after, exchange.method, exchange.segments));
      options.drops.drop(exchange.route.upstream.account, [
        writtenCollection(exchange.segments),
        ...named.flatMap((rule) => rule.drop),
      ]);
    };
    const settle = (outcome: Outcome): Outcome => {
      if (mayHaveChanged(outcome)) dropWritten();
      return outcome.kind === 'answer' ? marked(outcome, 'method', false) : outcome;
    };
    // A fault of our own, at a moment nobody can name: the write may be out.
    const fail = (error: unknown): never => {
      dropWritten();
      throw error;
    };
    try {
      const outcome = next(exchange);
      return outcome instanceof Promise ? outcome.then(settle, fail) : settle(outcome);
    } catch (error) {
      return fail(error);
    }
  };
}

/**
 * All but what upstream refused (4xx), and what provably never got there. RFC 9111 asks for 2xx and 3xx; but a 5xx, an
 * answer that never came and a caller who left (`internal`) say nothing about whether the write was carried out.
 */
function mayHaveChanged(outcome: Outcome): boolean {
  if (outcome.kind === 'answer') return outcome.status < 400 || outcome.status >= 500;
  switch (outcome.code) {
    case 'upstream_timeout':
    case 'upstream_protocol':
    case 'internal':
      return true;
    default:
      return false;
  }
}

function segmentsOf(path: string): readonly string[] {
  const parsed = parsePathPattern(path);
  if (!parsed.ok) throw new TypeError(parsed.reason);
  return parsed.segments;
}

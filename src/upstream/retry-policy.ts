import { Readable } from 'node:stream';
import { headerOf } from '../context.ts';
import type { WithPayload } from './request-body.ts';
import type { TransportResult } from './transport.ts';

/** One that a caller would repeat with the same effect. PUT and DELETE are so by RFC 9110, and not by every API's practice. */
const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD']);

/** What an ingress says of an application that is away for a moment. A 500 is its own, and would be one again. */
const PASSING: ReadonlySet<number> = new Set([502, 503, 504]);

/** The first pause is 100 ms at most, the second 200 ms: a restart of a pod behind an ingress is seldom shorter. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 1_000;

/**
 * Whether a request may be sent once more after this came of it: it is idempotent, or no byte of it can have left. What used
 * up its time is not repeated, nor what failed for the caller's sake, nor what is not in memory any more.
 */
export function isRetryable(
  { method, payload }: WithPayload & { readonly method: string },
  sent: TransportResult,
): boolean {
  if (payload instanceof Readable) return false;
  if (sent.kind === 'answered') return IDEMPOTENT.has(method) && PASSING.has(sent.status);
  if (sent.reason !== 'unreachable' && sent.reason !== 'protocol') return false;
  return !sent.mayHaveLeft || IDEMPOTENT.has(method);
}

/**
 * Full jitter: anything from nothing to a bound that doubles, or all who failed together would come back together. Upstream
 * may ask for more with Retry-After.
 *
 * @param repeats how often it was repeated before
 */
export function retryDelayMs(repeats: number, sent: TransportResult, random: () => number): number {
  const ownMs = random() * Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** repeats);
  return Math.max(ownMs, sent.kind === 'answered' ? askedFor(sent.headers) : 0);
}

/** A date, or what is no number of seconds, would need a clock both agree on for a pause of a second: too long to wait for. */
function askedFor(headers: readonly string[]): number {
  const value = headerOf(headers, 'retry-after');
  if (value === undefined) return 0;
  return /^\d{1,6}$/.test(value.trim()) ? Number(value) * 1000 : Number.POSITIVE_INFINITY;
}

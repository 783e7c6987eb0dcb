import { Readable } from 'node:stream';
import type { ProxyResponse, Result } from '../context.ts';
import type { ProblemCode } from '../problem.ts';
import {
  acceptsStale,
  type CachedResponses,
  type ForwardReason,
  type RequestDirectives,
  type StaleReason,
} from './cached-response.ts';
import { ageOf, isStillValid } from './key.ts';
import type { CacheableContext, CacheOptions } from './options.ts';
import type { StaleWindows, StoredResponse } from './store.ts';

/** The stale windows for a request that the upstream did not serve. */
type FallbackWindow = Exclude<keyof StaleWindows, 'staleWhileRevalidateMs'>;

const STALE_REASONS: Readonly<Record<FallbackWindow, StaleReason>> = {
  staleIfErrorMs: 'stale-if-error',
  staleIfThrottledMs: 'stale-if-throttled',
};

/** The window in which a stale response may replace this result; null for a result that is passed on in any case. */
export function fallbackWindowFor(result: Result): FallbackWindow | null {
  if (result.kind === 'response') return result.status >= 500 ? 'staleIfErrorMs' : null;
  return WINDOW_BY_CODE[result.code] ?? null;
}

const WINDOW_BY_CODE: Readonly<Partial<Record<ProblemCode, FallbackWindow>>> = {
  upstream_unreachable: 'staleIfErrorMs',
  upstream_protocol: 'staleIfErrorMs',
  upstream_timeout: 'staleIfErrorMs',
  upstream_credentials_rejected: 'staleIfErrorMs',
  breaker_open: 'staleIfErrorMs',
  state_unavailable: 'staleIfErrorMs',
  tenant_quota: 'staleIfThrottledMs',
  account_quota: 'staleIfThrottledMs',
  budget_exhausted: 'staleIfThrottledMs',
  queue_timeout: 'staleIfThrottledMs',
  upstream_cooldown: 'staleIfThrottledMs',
};

/** How long a key counts as failing: no request waits for its refresh, and none is started in the background. */
export const FAILING_TTL_MS = 10_000;

/** The stale response that replaces a failed fetch within its windows; null if there is none. */
export function staleFallback(
  options: CacheOptions,
  responses: CachedResponses,
  context: CacheableContext,
  miss: {
    readonly fetchKey: string;
    readonly reason: ForwardReason;
    readonly directives: RequestDirectives;
    readonly existing: StoredResponse | null;
  },
  result: Result,
): ProxyResponse | null {
  const window = fallbackWindowFor(result);
  if (window === null) return null;
  if (window === 'staleIfErrorMs') options.failing.add(miss.fetchKey, FAILING_TTL_MS);
  const { existing, reason, directives } = miss;
  if (existing === null || reason !== 'stale' || !acceptsStale(directives)) return null;
  const staleMs = ageOf(existing, options.clock.monotonic()) - existing.freshForMs;
  if (staleMs >= existing.stale[window] || !isStillValid(options, context, existing)) return null;
  if (result.kind === 'response' && result.body instanceof Readable) result.body.destroy();
  return responses.stale(context, existing, STALE_REASONS[window]);
}

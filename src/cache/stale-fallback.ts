import type { Result } from '../context.ts';
import type { ProblemCode } from '../problem.ts';
import type { StaleReason } from './cached-response.ts';
import type { StaleWindows } from './store.ts';

/** The stale windows for a request that the upstream did not serve. */
export type FallbackWindow = Exclude<keyof StaleWindows, 'staleWhileRevalidateMs'>;

export const STALE_REASONS: Readonly<Record<FallbackWindow, StaleReason>> = {
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
  queue_timeout: 'staleIfThrottledMs',
  upstream_cooldown: 'staleIfThrottledMs',
};

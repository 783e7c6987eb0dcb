import type { Result } from '../context.ts';
import type { ProblemCode } from '../problem.ts';
import type { StaleWindows } from './rules.ts';
import type { StaleReason } from './status.ts';

/** The windows that are for when upstream could not be asked, or did not answer the question. */
export type FallbackWindow = Exclude<keyof StaleWindows, 'staleWhileRevalidateMs'>;

export const STALE_REASONS: Readonly<Record<FallbackWindow, StaleReason>> = {
  staleIfErrorMs: 'stale-if-error',
  staleIfThrottledMs: 'stale-if-throttled',
};

/** Which window covers an outcome that is no answer to the question; null: none does. */
export function fallbackWindowFor(outcome: Result): FallbackWindow | null {
  if (outcome.kind === 'response') return outcome.status >= 500 ? 'staleIfErrorMs' : null;
  return COVERED[outcome.code] ?? null;
}

const COVERED: Readonly<Partial<Record<ProblemCode, FallbackWindow>>> = {
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

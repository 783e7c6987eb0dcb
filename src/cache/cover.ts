import type { Outcome } from '../exchange.ts';
import type { ProblemCode } from '../problem.ts';
import type { StaleWindows } from './rules.ts';
import type { StaleReason } from './status.ts';

/** The windows that are for when upstream could not be asked, or did not answer the question. */
export type Cover = Exclude<keyof StaleWindows, 'staleWhileRevalidateMs'>;

export const REASONS: Readonly<Record<Cover, StaleReason>> = {
  staleIfErrorMs: 'stale-if-error',
  staleIfThrottledMs: 'stale-if-throttled',
};

/** Which window covers an outcome that is no answer to the question; null: none does. */
export function coveredBy(outcome: Outcome): Cover | null {
  if (outcome.kind === 'answer') return outcome.status >= 500 ? 'staleIfErrorMs' : null;
  return COVERED[outcome.code] ?? null;
}

const COVERED: Readonly<Partial<Record<ProblemCode, Cover>>> = {
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

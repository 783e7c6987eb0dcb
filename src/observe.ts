/**
 * What the domain may say about itself. Adapters stand behind both ports (pino, prom-client): the domain names events,
 * never a metric or a log line's layout.
 */
export interface Log {
  debug(fields: Record<string, unknown>, message: string): void;
  info(fields: Record<string, unknown>, message: string): void;
  warn(fields: Record<string, unknown>, message: string): void;
  error(fields: Record<string, unknown>, message: string): void;
}

export interface Meter {
  /** One attempt that was sent. `status` is the answer's, or the reason why there was none (`timeout`, `reset`, …). */
  upstreamAttempt(account: string, upstream: string, method: string, status: number | string, seconds: number): void;
  /** A request was sent again, because of a 401 or a failure that is safe to retry. */
  upstreamRetry(upstream: string, reason: string): void;
  /** An answer that needed no upstream request. */
  callSaved(tenant: string, by: 'hit' | 'stale' | 'collapsed' | 'replay'): void;
  quotaDecision(account: string, tenant: string, decision: string): void;
  quotaWait(tenant: string, seconds: number): void;
  upstreamThrottled(account: string): void;
  /** A field of the upstream's about its limit or about freshness that could not be read, and was ignored. */
  upstreamFieldMalformed(account: string, field: string): void;
  credentialRefresh(account: string, credential: string, outcome: 'ok' | 'rejected' | 'failed' | 'throttled'): void;
  /** The time at which a login token expires, in seconds of the epoch. */
  credentialExpiry(account: string, credential: string, epochSeconds: number): void;
  /** A guard counted in this process, since Redis did not answer. */
  guardFallback(guard: 'guess' | 'flood'): void;
  /** What came of a write with an Idempotency-Key. */
  idempotency(outcome: 'first' | 'replayed' | 'conflict' | 'mismatch' | 'unknown' | 'broken' | 'unavailable'): void;
  /** `broken`: what was there is not, or no longer, an answer of ours. `failed`: Redis did not answer. */
  cacheOperation(
    tier: 'memory' | 'redis',
    outcome: 'hit' | 'miss' | 'store' | 'skip' | 'evict' | 'broken' | 'failed',
  ): void;
}

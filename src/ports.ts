/*
 * The ports of the domain for logs, metrics and traces. The domain reports events; the adapters (pino, prom-client, OpenTelemetry)
 * decide on names and layout.
 */

export interface Log {
  debug(fields: Record<string, unknown>, message: string): void;
  info(fields: Record<string, unknown>, message: string): void;
  warn(fields: Record<string, unknown>, message: string): void;
  error(fields: Record<string, unknown>, message: string): void;
}

/** For a part whose twin reports the same. */
export const SILENT_LOG: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

export interface Meter {
  /** An attempt was sent. `status` is that of the response, or the reason why there is none (`timeout`, `protocol`, …). */
  upstreamAttempt(account: string, upstream: string, method: string, status: number | string, seconds: number): void;
  /** A request was sent again: `reason` is `credential` after a 401, otherwise the status or the failure. */
  upstreamRetry(upstream: string, reason: string): void;
  /** A response needed no upstream request. */
  requestAvoided(tenant: string, by: 'hit' | 'stale' | 'collapsed' | 'replay'): void;
  quotaDecision(account: string, tenant: string, decision: string): void;
  /** A limit that is observed, not enforced, would have rejected a request. */
  wouldReject(tenant: string, code: string): void;
  quotaWait(tenant: string, seconds: number): void;
  upstreamThrottled(account: string): void;
  /** A rate-limit or freshness header of the upstream was invalid and ignored. */
  invalidUpstreamHeader(account: string, field: string): void;
  credentialRefresh(account: string, credential: string, outcome: 'ok' | 'rejected' | 'failed' | 'throttled'): void;
  /** Expiry of a login token, in seconds of the epoch. */
  credentialExpiry(account: string, credential: string, epochSeconds: number): void;
  /** A token was rejected. `issuer`: its name in the configuration; '' where none is known. */
  tokenRejected(issuer: string, fault: string): void;
  /** An abuse limit counted in this process, because Redis did not respond. */
  guardFallback(guard: 'guess' | 'flood'): void;
  idempotency(outcome: 'first' | 'replayed' | 'conflict' | 'mismatch' | 'unknown' | 'broken' | 'unavailable'): void;
  /** `failed`: the export was given up. `dropped`: more spans than the buffer holds while the collector is slow. */
  spans(outcome: 'exported' | 'failed' | 'dropped', count: number): void;
  /** `broken`: the stored entry is unreadable. `failed`: Redis did not respond. */
  cacheOperation(
    tier: 'memory' | 'redis',
    outcome: 'hit' | 'miss' | 'store' | 'skip' | 'evict' | 'broken' | 'failed',
  ): void;
}

/** Work within a request that takes time. The names from `decide` on are calls to Redis. */
export type SpanName =
  /** The wait for a slot or a permit. */
  | 'wait'
  /** The wait for an in-flight fetch of the same resource. */
  | 'join'
  /** A background refresh of a stale entry. */
  | 'refresh'
  /** The wait for a login, if there is no valid token. */
  | 'credential'
  /** An attempt to the upstream. */
  | 'send'
  | 'decide'
  | 'cache lookup'
  | 'cache announce'
  | 'idempotency begin'
  | 'invalidate';

/** Attributes of a span. All values come from bounded sets: no path, query, header or error message. */
export interface SpanAttributes {
  readonly method?: string;
  /** A route's template. */
  readonly route?: string;
  readonly scheme?: string;
  readonly status?: number;
  /** Why there is no response, or the code of a failure. */
  readonly error?: string;
  readonly code?: string;
  readonly tenant?: string;
  readonly cache?: string;
  readonly waitSeconds?: number;
  readonly decision?: string;
  readonly account?: string;
  readonly upstream?: string;
  readonly origin?: string;
  readonly credential?: string;
  /** Earlier attempts of the same request. */
  readonly resends?: number;
}

/** A span. A request that is not traced has null in its place. */
export interface Span {
  readonly traceId: string;
  /** Trace context for a request within this span: `traceparent`, and the caller's `tracestate`, as a flat header list. */
  headers(): string[];
  /** @param linked the span of another request that this work waits for */
  start(name: SpanName, attributes?: SpanAttributes, linked?: Span | null): Span;
  end(attributes?: SpanAttributes): void;
}

export interface Tracer {
  /** Continues the trace in the headers, or begins one. Null: tracing has not started yet. */
  request(headers: Readonly<Record<string, string | string[] | undefined>>): Span | null;
}

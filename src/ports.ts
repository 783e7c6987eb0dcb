/**
 * What the domain may say about itself. Adapters stand behind the ports (pino, prom-client, OpenTelemetry): the domain names
 * events, never a metric, a span's attributes or a log line's layout.
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
  requestAvoided(tenant: string, by: 'hit' | 'stale' | 'collapsed' | 'replay'): void;
  quotaDecision(account: string, tenant: string, decision: string): void;
  quotaWait(tenant: string, seconds: number): void;
  upstreamThrottled(account: string): void;
  /** A field of the upstream's about its limit or about freshness that could not be read, and was ignored. */
  invalidUpstreamHeader(account: string, field: string): void;
  /** One login, by its outcome. */
  credentialRefresh(account: string, credential: string, outcome: 'ok' | 'rejected' | 'failed' | 'throttled'): void;
  /** The time at which a login token expires, in seconds of the epoch. */
  credentialExpiry(account: string, credential: string, epochSeconds: number): void;
  /** A guard counted in this process, since Redis did not answer. */
  guardFallback(guard: 'guess' | 'flood'): void;
  /** What came of a write with an Idempotency-Key. */
  idempotency(outcome: 'first' | 'replayed' | 'conflict' | 'mismatch' | 'unknown' | 'broken' | 'unavailable'): void;
  /** Of the trace: delivered, given up after a failure, or more than are kept while the collector is slow. */
  spans(outcome: 'exported' | 'failed' | 'dropped', count: number): void;
  /** `broken`: what was there is not, or no longer, an answer of ours. `failed`: Redis did not answer. */
  cacheOperation(
    tier: 'memory' | 'redis',
    outcome: 'hit' | 'miss' | 'store' | 'skip' | 'evict' | 'broken' | 'failed',
  ): void;
}

/** What takes time within a request. `decide` to `invalidate` ask the state that replicas share. */
export type SpanName =
  /** For a slot. */
  | 'wait'
  /** For the answer to another's request for the same. */
  | 'join'
  /** Of a stale answer, in the background. */
  | 'refresh'
  /** A login, if the token in hand is of no use. */
  | 'credential'
  /** One attempt upstream. */
  | 'send'
  | 'decide'
  | 'cache lookup'
  | 'cache announce'
  | 'idempotency begin'
  | 'invalidate';

/** What a span tells. All of it comes from bounded sets: no path, no query, no header, no message of anybody's. */
export interface SpanAttributes {
  readonly method?: string;
  /** A route's template. */
  readonly route?: string;
  readonly scheme?: string;
  readonly status?: number;
  /** Why there was no answer; or the code of a failure. */
  readonly error?: string;
  /** Code of a refusal of the gateway's own. */
  readonly code?: string;
  readonly tenant?: string;
  readonly cache?: string;
  readonly waitSeconds?: number;
  /** What a wait ended with. */
  readonly decision?: string;
  readonly account?: string;
  readonly upstream?: string;
  readonly origin?: string;
  /** Id of the credential. */
  readonly credential?: string;
  /** How often it was sent before. */
  readonly resends?: number;
}

/** A part of a trace. Where a request has none, it is null: tracing that is off costs a comparison. */
export interface Span {
  readonly traceId: string;
  /** For whoever is asked within it: `traceparent`, and the caller's `tracestate`, as headers travel. */
  headers(): string[];
  /** @param linked something of another request that it waits for */
  start(work: SpanName, facts?: SpanAttributes, linked?: Span | null): Span;
  end(facts?: SpanAttributes): void;
}

export interface Tracer {
  /** Continues the trace that the headers tell of, or begins one. Null: it can not yet. */
  request(headers: Readonly<Record<string, string | string[] | undefined>>): Span | null;
}

/** Records a span for work that is still pending; a result that is there at once gets none. */
export async function traced<T>(trace: Span | null, work: SpanName, result: T | Promise<T>): Promise<T> {
  if (trace === null || !(result instanceof Promise)) return result;
  const span = trace.start(work);
  try {
    const value = await result;
    span.end();
    return value;
  } catch (error) {
    span.end({ error: 'failed' });
    throw error;
  }
}

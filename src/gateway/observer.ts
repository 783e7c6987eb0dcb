import type { TrafficObserver } from '../edge/traffic.ts';
import type { Received } from '../exchange.ts';
import type { SpanFacts } from '../observe.ts';
import type { Lasting } from './parts.ts';

/** Tells the metrics, the access log and the trace of each request. */
export function observerOf({ metrics, log }: Pick<Lasting, 'metrics' | 'log'>): TrafficObserver {
  return {
    started: () => metrics.requestStarted(),
    finished: ({ exchange, status, code, bytes, aborted, durationMs, internal }) => {
      // Field by field: spreading the notes into both was a tenth of the time of a cached answer.
      const { method, target, notes, trace } = exchange;
      const { tenant, route, cache } = notes;
      metrics.requestFinished({ tenant, route, method, status, cache, code, seconds: durationMs / 1000 });
      if (trace !== null) trace.end(factsOf(exchange, status, code));
      const mark = target.indexOf('?');
      log.access({
        requestId: exchange.requestId,
        traceId: trace === null ? null : trace.traceId,
        method,
        route,
        path: mark === -1 ? target : target.slice(0, mark),
        status,
        tenant,
        key: notes.key,
        code,
        cache,
        waitMs: notes.waitMs,
        upstreamMs: notes.upstreamMs,
        upstreamStatus: notes.upstreamStatus,
        attempts: notes.attempts,
        durationMs,
        bytes,
        client: exchange.clientAddress,
        aborted,
        internal,
      });
    },
  };
}

function factsOf({ method, baseUrl, notes }: Received, status: number, code: string | null): SpanFacts {
  return {
    ...{ method, status, route: notes.route, tenant: notes.tenant, cache: notes.cache },
    scheme: baseUrl.startsWith('https:') ? 'https' : 'http',
    waitSeconds: notes.waitMs / 1000,
    ...(code !== null && { code }),
    // What a caller did wrong is no error of the gateway's (OpenTelemetry, HTTP server spans).
    ...(status >= 500 && { error: code ?? String(status) }),
  };
}

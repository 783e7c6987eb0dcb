import type { RequestContext } from '../context.ts';
import type { SpanAttributes } from '../ports.ts';
import type { TrafficObserver } from '../server/active-requests.ts';
import type { SharedDependencies } from './dependencies.ts';

/** Tells the metrics, the access log and the trace of each request. */
export function requestTelemetry({ metrics, log }: Pick<SharedDependencies, 'metrics' | 'log'>): TrafficObserver {
  return {
    started: () => metrics.requestStarted(),
    finished: ({ context, status, code, bytes, aborted, durationMs, internal }) => {
      // Field by field: spreading the notes into both was a tenth of the time of a cached answer.
      const { method, target, record, trace } = context;
      const { tenant, route, cache } = record;
      metrics.requestFinished({ tenant, route, method, status, cache, code, seconds: durationMs / 1000 });
      if (trace !== null) trace.end(factsOf(context, status, code));
      const mark = target.indexOf('?');
      log.access({
        requestId: context.requestId,
        traceId: trace === null ? null : trace.traceId,
        method,
        route,
        path: mark === -1 ? target : target.slice(0, mark),
        status,
        tenant,
        key: record.key,
        code,
        cache,
        waitMs: record.waitMs,
        upstreamMs: record.upstreamMs,
        upstreamStatus: record.upstreamStatus,
        attempts: record.attempts,
        durationMs,
        bytes,
        client: context.clientAddress,
        aborted,
        internal,
      });
    },
  };
}

function factsOf({ method, baseUrl, record }: RequestContext, status: number, code: string | null): SpanAttributes {
  return {
    ...{ method, status, route: record.route, tenant: record.tenant, cache: record.cache },
    scheme: baseUrl.startsWith('https:') ? 'https' : 'http',
    waitSeconds: record.waitMs / 1000,
    ...(code !== null && { code }),
    // What a caller did wrong is no error of the gateway's (OpenTelemetry, HTTP server spans).
    ...(status >= 500 && { error: code ?? String(status) }),
  };
}

import type { TrafficObserver } from '../edge/traffic.ts';
import type { Lasting } from './parts.ts';

/** Tells the metrics and the access log of each request. */
export function observerOf({ metrics, log }: Pick<Lasting, 'metrics' | 'log'>): TrafficObserver {
  return {
    started: () => metrics.requestStarted(),
    finished: ({ exchange, status, code, bytes, aborted, durationMs, internal }) => {
      // Field by field: spreading the notes into both was a tenth of the time of a cached answer.
      const { method, target, notes } = exchange;
      const { tenant, route, cache } = notes;
      metrics.requestFinished({ tenant, route, method, status, cache, code, seconds: durationMs / 1000 });
      const mark = target.indexOf('?');
      log.access({
        requestId: exchange.requestId,
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

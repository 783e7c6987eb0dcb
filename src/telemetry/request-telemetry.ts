import type { RequestContext } from '../context.ts';
import type { SpanAttributes } from '../ports.ts';
import type { Metrics } from './metrics.ts';

/** A request whose response has ended, or whose caller has disconnected. */
export interface EndedRequest {
  readonly context: RequestContext;
  readonly status: number;
  /** Problem code of a rejection; null for a response. */
  readonly code: string | null;
  /** Size of the response's body. */
  readonly bytes: number;
  /** The connection closed before the response was complete. */
  readonly aborted: boolean;
  readonly durationMs: number;
  /** The cause of a rejection that only the log may name. */
  readonly internal: string | null;
}

/** Reports each request to the metrics, the access log and the trace. */
export function requestTelemetry({
  metrics,
  log,
}: {
  readonly metrics: Pick<Metrics, 'requestStarted' | 'requestFinished'>;
  readonly log: { access(line: AccessLine): void };
}) {
  return {
    started: () => metrics.requestStarted(),
    finished: ({ context, status, code, bytes, aborted, durationMs, internal }: EndedRequest): void => {
      const { method, target, record, trace } = context;
      const { tenant, route, cache } = record;
      metrics.requestFinished({ tenant, route, method, status, cache, code, seconds: durationMs / 1000 });
      if (trace !== null) trace.end(spanAttributes(context, status, code));
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

function spanAttributes(
  { method, baseUrl, record }: RequestContext,
  status: number,
  code: string | null,
): SpanAttributes {
  return {
    ...{ method, status, route: record.route, tenant: record.tenant, cache: record.cache },
    scheme: baseUrl.startsWith('https:') ? 'https' : 'http',
    waitSeconds: record.waitMs / 1000,
    ...(code !== null && { code }),
    // An error of the caller is not an error of the server's span (OpenTelemetry, HTTP server spans).
    ...(status >= 500 && { error: code ?? String(status) }),
  };
}

/** A request, as its access line reports it. */
export interface AccessLine {
  readonly requestId: string;
  /** Null where nothing is traced. */
  readonly traceId: string | null;
  readonly method: string;
  /** The template, '' if none matched. */
  readonly route: string;
  /** As received, without the query, which may hold anything. */
  readonly path: string;
  readonly status: number;
  /** '' where none was found. */
  readonly tenant: string;
  /** The key's id, never the key. */
  readonly key: string;
  /** Problem code of a rejection; null for a response. */
  readonly code: string | null;
  readonly cache: string;
  readonly waitMs: number;
  /** Null if nothing was sent. */
  readonly upstreamMs: number | null;
  readonly upstreamStatus: number | null;
  readonly attempts: number;
  readonly durationMs: number;
  /** Size of the response's body. */
  readonly bytes: number;
  readonly client: string;
  /** The connection closed before the response was complete. */
  readonly aborted: boolean;
  /** The cause of a rejection that only the log may name. */
  readonly internal: string | null;
}

/**
 * The fields of an access line, in the order people read them. Fields that would say nothing are left out, and times are
 * rounded to tenths of a millisecond: an access log is mostly size.
 *
 * @param mask replaces secrets that are known by value
 */
export function accessFields(line: AccessLine, mask: (text: string) => string): Record<string, unknown> {
  return {
    requestId: line.requestId,
    method: line.method,
    route: line.route,
    path: printablePath(line.path, mask),
    status: line.status,
    tenant: line.tenant,
    key: line.key,
    cache: line.cache,
    waitMs: tenths(line.waitMs),
    upstreamMs: line.upstreamMs === null ? null : tenths(line.upstreamMs),
    durationMs: tenths(line.durationMs),
    bytes: line.bytes,
    client: line.client,
    // The name by which collectors join lines and traces (OpenTelemetry, "Trace Context in non-OTLP Log Formats").
    trace_id: line.traceId ?? undefined,
    upstreamStatus: line.upstreamStatus ?? undefined,
    attempts: line.attempts > 1 ? line.attempts : undefined,
    code: line.code ?? undefined,
    aborted: line.aborted || undefined,
    internal: line.internal ?? undefined,
  };
}

const MAX_PATH_CHARS = 256;
const PRINTABLE_PATH = /^[\x21-\x7e]{0,256}$/;
const NOT_PRINTABLE = /[^\x21-\x7e]/g;

/**
 * JSON escapes control characters below 0x20 and no others. Those above, which Node accepts in a path, would reach the
 * terminal of the reader. Node gives the bytes of a path as latin1, so each becomes its percent-encoding again.
 */
function printablePath(path: string, mask: (text: string) => string): string {
  if (PRINTABLE_PATH.test(path)) return path;
  // Masked before it is cut: the mask does not recognise the beginning of a secret.
  return mask(path)
    .slice(0, MAX_PATH_CHARS)
    .replace(NOT_PRINTABLE, (char) => `%${char.charCodeAt(0).toString(16).padStart(2, '0')}`)
    .slice(0, MAX_PATH_CHARS);
}

function tenths(ms: number): number {
  return Math.round(ms * 10) / 10;
}

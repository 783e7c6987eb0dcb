import type { FinishedRequest } from '../context.ts';
import type { SpanAttributes } from '../ports.ts';
import type { Metrics } from './metrics.ts';

/** Reports each request to the metrics, the access log and the trace. */
export function requestTelemetry({
  metrics,
  log,
}: {
  readonly metrics: Pick<Metrics, 'requestStarted' | 'requestFinished'>;
  readonly log: { access(request: FinishedRequest): void };
}) {
  return {
    started: () => metrics.requestStarted(),
    finished: (request: FinishedRequest): void => {
      metrics.requestFinished(request);
      request.context.trace?.end(spanAttributes(request));
      log.access(request);
    },
  };
}

function spanAttributes({ context: { method, baseUrl, record }, status, code }: FinishedRequest): SpanAttributes {
  return {
    ...{ method, status, route: record.route, tenant: record.tenant, cache: record.cache },
    scheme: baseUrl.startsWith('https:') ? 'https' : 'http',
    waitSeconds: record.waitMs / 1000,
    ...(code !== null && { code }),
    // An error of the caller is not an error of the server's span (OpenTelemetry, HTTP server spans).
    ...(status >= 500 && { error: code ?? String(status) }),
  };
}

/**
 * The fields of an access line, in the order people read them. Fields that would say nothing are left out, and times are
 * rounded to tenths of a millisecond: an access log is mostly size.
 *
 * @param mask replaces secrets that are known by value
 */
export function accessFields(
  { context, status, code, bytes, aborted, durationMs, internal }: FinishedRequest,
  mask: (text: string) => string,
): Record<string, unknown> {
  const { requestId, method, target, clientAddress, record, trace } = context;
  const mark = target.indexOf('?');
  return {
    requestId,
    method,
    route: record.route,
    // Without the query, which may hold anything.
    path: printablePath(mark === -1 ? target : target.slice(0, mark), mask),
    status,
    tenant: record.tenant,
    key: record.key,
    cache: record.cache,
    waitMs: tenths(record.waitMs),
    upstreamMs: record.upstreamMs === null ? null : tenths(record.upstreamMs),
    durationMs: tenths(durationMs),
    bytes,
    client: clientAddress,
    account: record.account || undefined,
    // The fields that `patchgate plan` needs besides, to replay the request.
    queryDigest: record.queryDigest || undefined,
    urgency: record.urgency ?? undefined,
    preferWaitMs: record.preferredWaitMs ?? undefined,
    bypassedByRequest: (record.cache === 'bypass' && record.bypassedByRequest) || undefined,
    refreshed: record.refreshed || undefined,
    // The name by which collectors join lines and traces (OpenTelemetry, "Trace Context in non-OTLP Log Formats").
    trace_id: trace?.traceId,
    upstreamStatus: record.upstreamStatus ?? undefined,
    // A request that was sent once has a time at Patchworks, unless its caller did not wait for it.
    attempts: record.attempts > (record.upstreamMs === null ? 0 : 1) ? record.attempts : undefined,
    code: code ?? undefined,
    wouldReject: record.wouldReject ?? undefined,
    aborted: aborted || undefined,
    internal: internal ?? undefined,
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

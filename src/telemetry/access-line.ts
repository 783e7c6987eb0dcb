/** One request, as its access line tells it. */
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
  /** Code of the refusal; null for an answer. */
  readonly code: string | null;
  readonly cache: string;
  readonly waitMs: number;
  /** Null if nothing was sent. */
  readonly upstreamMs: number | null;
  readonly upstreamStatus: number | null;
  readonly attempts: number;
  readonly durationMs: number;
  /** Of the answer. */
  readonly bytes: number;
  readonly client: string;
  /** The connection closed before the answer was complete. */
  readonly aborted: boolean;
  /** What only the log may know of a refusal. */
  readonly internal: string | null;
}

const LONGEST_PATH = 256;
const NOT_PRINTABLE = /[^\x21-\x7e]/g;

/** What the line says. What says nothing is left out, and times are rounded: an access log is mostly size. */
export function accessFields(line: AccessLine): Record<string, unknown> {
  const fields: Record<string, unknown> = {
    requestId: line.requestId,
    method: line.method,
    route: line.route,
    path: printable(line.path),
    status: line.status,
    tenant: line.tenant,
    key: line.key,
    cache: line.cache,
    waitMs: tenths(line.waitMs),
    upstreamMs: line.upstreamMs === null ? null : tenths(line.upstreamMs),
    durationMs: tenths(line.durationMs),
    bytes: line.bytes,
    client: line.client,
  };
  // The name by which collectors join lines and traces (OpenTelemetry, "Trace Context in non-OTLP Log Formats").
  if (line.traceId !== null) fields['trace_id'] = line.traceId;
  if (line.upstreamStatus !== null) fields['upstreamStatus'] = line.upstreamStatus;
  if (line.attempts > 1) fields['attempts'] = line.attempts;
  if (line.code !== null) fields['code'] = line.code;
  if (line.aborted) fields['aborted'] = true;
  if (line.internal !== null) fields['internal'] = line.internal;
  return fields;
}

/**
 * JSON escapes control characters below 0x20 and no others; those above, which Node takes as they come, would reach the
 * terminal of whoever reads the log. Node gives the bytes of a path as latin1, so each becomes its escape again.
 */
function printable(path: string): string {
  const short = path.length > LONGEST_PATH ? path.slice(0, LONGEST_PATH) : path;
  if (short.search(NOT_PRINTABLE) === -1) return short;
  const escaped = short.replace(NOT_PRINTABLE, (char) => `%${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
  return escaped.slice(0, LONGEST_PATH);
}

function tenths(ms: number): number {
  return Math.round(ms * 10) / 10;
}

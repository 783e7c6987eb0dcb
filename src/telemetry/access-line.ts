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

/**
 * The line as JSON: what stands between the line's head (level, time) and its end. What says nothing is left out, and times are
 * rounded: an access log is mostly size. Put together by hand, because through pino's serialiser this line was an eighth
 * of a cached answer; a test holds it to what `JSON.stringify` makes of the same fields.
 */
export function accessFields(line: AccessLine, mask: (text: string) => string): string {
  const { traceId, upstreamMs, upstreamStatus, attempts, code, internal } = line;
  let text =
    `"requestId":${quoted(line.requestId)},"method":${known(line.method)},"route":${known(line.route)}` +
    `,"path":${quotedPath(line.path, mask)},"status":${line.status},"tenant":${known(line.tenant)}` +
    `,"key":${known(line.key)},"cache":${known(line.cache)},"waitMs":${tenths(line.waitMs)}` +
    `,"upstreamMs":${upstreamMs === null ? 'null' : tenths(upstreamMs)},"durationMs":${tenths(line.durationMs)}` +
    `,"bytes":${line.bytes},"client":${quoted(line.client)}`;
  // The name by which collectors join lines and traces (OpenTelemetry, "Trace Context in non-OTLP Log Formats").
  if (traceId !== null) text += `,"trace_id":${quoted(traceId)}`;
  if (upstreamStatus !== null) text += `,"upstreamStatus":${upstreamStatus}`;
  if (attempts > 1) text += `,"attempts":${attempts}`;
  if (code !== null) text += `,"code":${quoted(code)}`;
  if (line.aborted) text += ',"aborted":true';
  if (internal !== null) text += `,"internal":${quoted(internal)}`;
  return text;
}

/** What JSON writes as it is; all else is for the library to escape. */
const PLAIN = /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/;

function quoted(text: string): string {
  return PLAIN.test(text) ? `"${text}"` : JSON.stringify(text);
}

/** Quoted before: there are few of these, for they come from the configuration and from here. */
const quotedBefore = new Map<string, string>();
const MOST_KNOWN = 1_024;

function known(text: string): string {
  const before = quotedBefore.get(text);
  if (before !== undefined) return before;
  const now = JSON.stringify(text);
  if (quotedBefore.size >= MOST_KNOWN) quotedBefore.clear();
  quotedBefore.set(text, now);
  return now;
}

/** What is left as it is by all that follows. */
const PLAIN_PATH = /^[\x21\x23-\x5b\x5d-\x7e]{0,256}$/;

/**
 * JSON escapes control characters below 0x20 and no others; those above, which Node takes as they come, would reach the
 * terminal of whoever reads the log. Node gives the bytes of a path as latin1, so each becomes its escape again.
 */
function quotedPath(path: string, mask: (text: string) => string): string {
  if (PLAIN_PATH.test(path)) return `"${path}"`;
  // Before it is cut: of a secret that lies across the end nobody would know its beginning.
  const escaped = mask(path)
    .slice(0, LONGEST_PATH)
    .replace(NOT_PRINTABLE, (char) => `%${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
  return JSON.stringify(escaped.slice(0, LONGEST_PATH));
}

function tenths(ms: number): number {
  return Math.round(ms * 10) / 10;
}

import { type DestinationStream, destination as openDestination, pino, stdTimeFunctions } from 'pino';
import type { Log } from '../observe.ts';
import type { Redactor } from './redact.ts';

/** One request, as its access line tells it. */
export interface AccessLine {
  readonly requestId: string;
  readonly method: string;
  /** The template, '' if none matched. */
  readonly route: string;
  /** Without the query, which may hold anything. */
  readonly path: string;
  readonly status: number;
  readonly tenant: string;
  /** The key's id, never the key. */
  readonly key: string;
  readonly code: string | null;
  readonly cache: string;
  readonly waitMs: number;
  readonly upstreamMs: number | null;
  readonly upstreamStatus: number | null;
  readonly attempts: number;
  readonly durationMs: number;
  readonly bytes: number;
  readonly client: string;
  readonly aborted: boolean;
  readonly internal: string | null;
}

export interface Logger extends Log {
  access(line: AccessLine): void;
  /** Writes what is buffered, at once; for the end of the process. */
  flush(): void;
}

export interface LoggerOptions {
  readonly level: string;
  readonly version: string;
  readonly redactor: Redactor;
  /** Default: standard output, in batches. */
  readonly destination?: DestinationStream;
}

/** Fields that hold secrets by their name, wherever a careless call may put them. */
const SECRET_FIELDS = [
  'authorization',
  'Authorization',
  'x-api-key',
  'X-API-Key',
  'cookie',
  'set-cookie',
  'password',
  'token',
  'apiKey',
  'secret',
];
/** Lines wait for company up to this size, and no longer than this time: a write a line costs more than the line. */
const BATCH_BYTES = 4096;
const BATCH_MS = 250;
const LONGEST_PATH = 256;

/**
 * JSON lines by pino. Secrets are kept out twice: by the name of their field, and by value over the whole line as it is
 * written, in whatever field, message or stack trace they have got into.
 */
export function createLogger(options: LoggerOptions): Logger {
  const batched =
    options.destination === undefined
      ? openDestination({ dest: 1, minLength: BATCH_BYTES, periodicFlush: BATCH_MS, sync: false })
      : null;
  const stream = options.destination ?? (batched as DestinationStream);
  const log = pino(
    {
      level: options.level,
      base: { service: 'patchgate', version: options.version },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: SECRET_FIELDS.flatMap((name) => [`["${name}"]`, `*["${name}"]`, `*.*["${name}"]`]),
        censor: '[secret]',
      },
      hooks: { streamWrite: (line) => options.redactor.apply(line) },
    },
    stream,
  );
  return {
    debug: (fields, message) => log.debug(fields, message),
    info: (fields, message) => log.info(fields, message),
    warn: (fields, message) => log.warn(fields, message),
    error: (fields, message) => log.error(fields, message),
    access: (line) => {
      if (!log.isLevelEnabled('info')) return;
      log.info(compact(line), 'request');
    },
    flush: () => batched?.flushSync(),
  };
}

/** Leaves out what says nothing, and rounds times: an access log is mostly size. */
function compact(line: AccessLine): Record<string, unknown> {
  const fields: Record<string, unknown> = {
    requestId: line.requestId,
    method: line.method,
    route: line.route,
    path: line.path.length > LONGEST_PATH ? `${line.path.slice(0, LONGEST_PATH)}…` : line.path,
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
  if (line.upstreamStatus !== null) fields['upstreamStatus'] = line.upstreamStatus;
  if (line.attempts > 1) fields['attempts'] = line.attempts;
  if (line.code !== null) fields['code'] = line.code;
  if (line.aborted) fields['aborted'] = true;
  if (line.internal !== null) fields['internal'] = line.internal;
  return fields;
}

function tenths(ms: number): number {
  return Math.round(ms * 10) / 10;
}

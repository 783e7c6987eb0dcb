import { createRequire } from 'node:module';
import { type Logger as Pino, pino } from 'pino';
import sonicBoom, { type SonicBoom } from 'sonic-boom';
import type { FinishedRequest } from '../context.ts';
import type { Log } from '../ports.ts';
import type { Redactor } from './redact.ts';
import { withoutCredentials, withoutSecretFields } from './redact-fields.ts';
import { accessFields } from './request-telemetry.ts';

export interface Logger extends Log {
  /** Writes a line for a request, at `info`; at `warn` for a status of 5xx. */
  access(request: FinishedRequest): void;
  /** Writes a line of the audit trail, marked `"audit":true`, at every level but `silent`. */
  audit(level: 'info' | 'warn' | 'error', fields: Record<string, unknown>, message: string): void;
  /** Replaces secrets that are known by value, in a text that is cut before it is logged. */
  mask(text: string): string;
  /** Takes effect with the next line. */
  configure(options: LogOptions): void;
  /** Writes what is buffered, but waits no longer than a second for a slow reader. Later lines are lost. */
  close(): Promise<void>;
  /** Lines that could not be written so far. */
  dropped(): number;
}

interface LogOptions {
  /** A level of pino's, or `silent`. */
  readonly level: string;
  /** Requests with an access line, whatever the level is; null: those that the level admits. */
  readonly access: 'all' | 'errors' | 'off' | null;
}

export interface LoggerOptions extends LogOptions {
  readonly version: string;
  readonly redactor: Redactor;
  /** Default: standard output, in batches. */
  readonly destination?: { write(line: string): void };
  /** A person reads: lines are text with colours. Default: whether standard output is a terminal. */
  readonly isTerminal?: boolean;
}

/**
 * JSON lines by pino. Secrets are kept out twice: by the name of their field (redact-fields.ts), and by value over the
 * finished line, in whatever field, message or stack trace they are.
 *
 * Not by pino's own `redact`: it knows fixed depths only, and its wildcards made an access line cost 34 µs instead of 2.
 */
export function createLogger(options: LoggerOptions): Logger {
  const { version, redactor, destination } = options;
  const { isTerminal = destination === undefined && process.stdout.isTTY === true } = options;
  const shown = isTerminal ? createTextFormat() : (line: string) => line;
  const writer: Pick<LogWriter, 'write'> & Partial<LogWriter> = destination ?? openLogWriter();
  // Never used itself, and its level never changes: pino's children of the same level follow a change of their parent's.
  const base = pino(
    {
      level: 'trace',
      base: { service: 'patchgate', version },
      // ISO 8601: people can read it and every collector knows it.
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      // Errors are plain records by then; pino's serialiser would take them for errors again.
      serializers: { err: (value: unknown) => value },
      hooks: { streamWrite: (line) => shown(masked(line, redactor)) },
    },
    writer,
  );
  let { access } = options;
  const log = base.child({}, { level: options.level });
  const always = base.child({}, { level: 'info' });
  // Has a level of its own, so that `log.level: error` hides no purge.
  const audit = base.child({ audit: true }, { level: 'info' });
  const mask = (text: string): string => redactor.apply(text);
  return {
    ...leveled(log),
    access: (request) => {
      if (access === 'off' || (access === 'errors' && request.status < 400)) return;
      const line = access === null ? log : always;
      const level = request.status >= 500 ? 'warn' : 'info';
      // No search by name: all its fields are ours.
      if (line.isLevelEnabled(level)) line[level](accessFields(request, mask), 'request');
    },
    audit: (at, fields, message) => {
      if (log.level !== 'silent') audit[at](withoutSecretFields(fields), withoutCredentials(message));
    },
    mask,
    configure(next) {
      log.level = next.level;
      access = next.access;
    },
    close: async () => writer.close?.(),
    dropped: () => writer.lost?.() ?? 0,
  };
}

/** Lines for a terminal. Loaded only there: no other start pays for it. */
function createTextFormat(): (line: string) => string {
  const { prettyFactory } = createRequire(import.meta.url)('pino-pretty') as typeof import('pino-pretty');
  const format = prettyFactory({
    ...{ colorize: true, singleLine: true, translateTime: 'SYS:HH:MM:ss.l', ignore: 'service,version' },
  });
  return (line) => format(line) ?? line;
}

function leveled(log: Pino): Log {
  const at =
    (level: 'debug' | 'info' | 'warn' | 'error') =>
    (fields: Record<string, unknown>, message: string): void => {
      if (log.isLevelEnabled(level)) log[level](withoutSecretFields(fields), withoutCredentials(message));
    };
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

/**
 * A secret may look like a part of the line's own syntax, such as a password of digits inside a number. A line that is no
 * JSON after masking is written as text within a line: a collector drops what it cannot parse.
 */
function masked(line: string, redactor: Redactor): string {
  const safe = redactor.apply(line);
  if (safe === line || isJson(safe)) return safe;
  const time = new Date().toISOString();
  return `${JSON.stringify({ level: 'warn', time, service: 'patchgate', msg: 'line broken by masking', line: safe.trimEnd() })}\n`;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Where finished log lines go. A slow or broken reader neither blocks nor ends the process. */
interface LogWriter {
  /** @param line with its newline */
  write(line: string): void;
  /** Resolves when all lines are written, or after {@link CLOSE_TIMEOUT_MS}. Later lines are lost. */
  close(): Promise<void>;
  /** Lines lost so far: the reader did not keep up, or a write failed. */
  lost(): number;
}

/** The types of the library know strings only. */
type ByteStream = Omit<SonicBoom, 'write'> & { write(bytes: Buffer): boolean };

/** A write costs more than a few lines. */
const BATCH_BYTES = 15 * 1024;
const BATCH_MS = 200;
/** The reader may be this far behind before lines are lost. */
const MAX_WAITING_BYTES = 8 * 1024 * 1024;
const CLOSE_TIMEOUT_MS = 1_000;
/** When the process exits and the pipe is full. The library sleeps 100 ms before each. */
const RETRIES_AT_EXIT = 10;

/**
 * Lines to standard output by sonic-boom: in order, in batches, by a thread of Node's pool.
 *
 * `pino.destination` makes the same, but with additions that break what is promised here: after the first EPIPE it drops
 * all lines uncounted, it flushes at exit without a bound, and its older sonic-boom repeats a failed flush for ever.
 */
export function openLogWriter(): LogWriter {
  /** Where each line that is not written yet ends, in bytes since the start. */
  let waiting: number[] = [];
  let acceptedBytes = 0;
  let writtenBytes = 0;
  let lost = 0;
  let retries = Number.POSITIVE_INFINITY;
  let closed = false;

  const loseWaiting = (): void => {
    lost += waiting.length;
    waiting = [];
    writtenBytes = acceptedBytes;
  };
  const open = (): ByteStream => {
    const opened = new sonicBoom.SonicBoom({
      // As strings, it would measure all that waits again with each line.
      contentMode: 'buffer',
      // Reading it makes a pipe non-blocking: a thread that blocks in a write would keep the process from ending.
      fd: process.stdout.fd,
      sync: false,
      minLength: BATCH_BYTES,
      maxLength: MAX_WAITING_BYTES,
      periodicFlush: BATCH_MS,
      retryEAGAIN: () => retries-- > 0,
    });
    opened.on('drop', () => {
      lost += 1;
    });
    opened.on('write', (bytes: number) => {
      writtenBytes += bytes;
      const next = waiting.findIndex((end) => end > writtenBytes);
      waiting.splice(0, next === -1 ? waiting.length : next);
    });
    // A closed pipe or a full disk. The library would keep the lines until its memory is full, and the count would stay at zero for hours.
    opened.on('error', () => {
      loseWaiting();
      opened.destroy();
      if (!closed) stream = open();
    });
    return opened as unknown as ByteStream;
  };
  let stream = open();

  const flushAtExit = (): void => {
    retries = RETRIES_AT_EXIT;
    try {
      stream.flushSync();
    } catch {
      // There is no place left to report it to.
    }
  };
  process.once('exit', flushAtExit);

  return {
    write(line) {
      const before = lost;
      const bytes = Buffer.from(line);
      if (closed) lost += 1;
      else stream.write(bytes);
      if (lost > before) return;
      acceptedBytes += bytes.length;
      waiting.push(acceptedBytes);
    },
    async close() {
      // Before the stream ends: it throws at a line that comes while it does.
      closed = true;
      await ended(stream);
      // A write that is under way would be repeated for ever, though the stream is destroyed.
      retries = 0;
      process.removeListener('exit', flushAtExit);
      stream.destroy();
      loseWaiting();
    },
    lost: () => lost,
  };
}

function ended(stream: ByteStream): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, CLOSE_TIMEOUT_MS);
    stream.once('close', () => {
      clearTimeout(timer);
      resolve();
    });
    stream.end();
  });
}

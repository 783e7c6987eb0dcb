import { type Logger as Pino, pino } from 'pino';
import type { Log } from '../ports.ts';
import { type LogWriter, openLogWriter } from './log-writer.ts';
import type { Redactor } from './redact.ts';
import { withoutCredentials, withoutSecretFields } from './redact-fields.ts';
import { type AccessLine, accessFields } from './request-telemetry.ts';

export interface Logger extends Log {
  /** Writes a line for each request, at `info`. */
  access(line: AccessLine): void;
  /** Replaces secrets that are known by value, in a text that is cut before it is logged. */
  mask(text: string): string;
  /** Takes effect with the next line. */
  setLevel(level: string): void;
  /** Writes what is buffered, but waits no longer than a second for a slow reader. Later lines are lost. */
  close(): Promise<void>;
  /** Lines that could not be written so far. */
  dropped(): number;
}

export interface LoggerOptions {
  /** A level of pino's, or `silent`. */
  readonly level: string;
  readonly version: string;
  readonly redactor: Redactor;
  /** Default: standard output, in batches. */
  readonly destination?: { write(line: string): void };
}

/**
 * JSON lines by pino. Secrets are kept out twice: by the name of their field (redact-fields.ts), and by value over the
 * finished line, in whatever field, message or stack trace they are.
 *
 * Not by pino's own `redact`: it knows fixed depths only, and its wildcards made an access line cost 34 µs instead of 2.
 */
export function createLogger({ level, version, redactor, destination }: LoggerOptions): Logger {
  const writer: Pick<LogWriter, 'write'> & Partial<LogWriter> = destination ?? openLogWriter();
  const log = pino(
    {
      level,
      base: { service: 'patchgate', version },
      // ISO 8601: people can read it and every collector knows it.
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      // Errors are plain records by then; pino's serialiser would take them for errors again.
      serializers: { err: (value: unknown) => value },
      hooks: { streamWrite: (line) => masked(line, redactor) },
    },
    writer,
  );
  const mask = (text: string): string => redactor.apply(text);
  return {
    ...leveled(log),
    access: (line) => {
      // No search by name: all its fields are ours.
      if (log.isLevelEnabled('info')) log.info(accessFields(line, mask), 'request');
    },
    mask,
    setLevel: (next) => {
      log.level = next;
    },
    close: async () => writer.close?.(),
    dropped: () => writer.lost?.() ?? 0,
  };
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

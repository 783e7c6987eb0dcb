import { type Logger as Pino, pino } from 'pino';
import type { Log } from '../ports.ts';
import { type AccessLine, accessFields } from './access-line.ts';
import { type Line, writeLines } from './lines.ts';
import type { Redactor } from './redact.ts';
import { withoutCredentials, withoutSecretFields } from './secret-fields.ts';

export interface Logger extends Log {
  /** One line a request, at `info`. */
  access(line: AccessLine): void;
  /** Without secrets known by value: for what is cut before it is logged. */
  mask(text: string): string;
  /** Takes effect with the next line. */
  setLevel(level: string): void;
  /** Writes what is buffered before it returns. The end of the process does so by itself. */
  flush(): void;
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

const STDOUT = 1;
/** Characters, roughly. */
const USUAL_ACCESS_LINE = 450;

/**
 * JSON lines by pino. Secrets are kept out twice: by the name of their field (secret-fields.ts), and by value over the
 * whole line as it is written, in whatever field, message or stack trace they have got into.
 *
 * Not by pino's own `redact`: it looks at fixed depths only, and its wildcards made an access line cost 34 µs instead of 2.
 */
export function createLogger(options: LoggerOptions): Logger {
  const { destination } = options;
  const finish = maskedTogether(options.redactor);
  const writer = destination === undefined ? writeLines(STDOUT, finish) : null;
  const write = (line: Line): void => {
    if (destination === undefined) writer?.write(line);
    else destination.write(finish([String(line)]));
  };
  const base = { service: 'patchgate', version: options.version };
  const time = isoTime();
  const log = pino(
    {
      level: options.level,
      base,
      timestamp: time,
      formatters: { level: (label) => ({ level: label }) },
      // Errors have been made plain by then; pino's serialiser would take them for errors again.
      serializers: { err: (value: unknown) => value },
    },
    { write },
  );
  const mask = (text: string): string => options.redactor.apply(text);
  const accessBase = `,${JSON.stringify(base).slice(1, -1)},`;
  return {
    ...leveled(log),
    access: (line) => {
      if (!log.isLevelEnabled('info')) return;
      // No search by name: all its fields are ours.
      write(new AccessText(time(), accessBase, line, mask));
    },
    mask,
    setLevel: (level) => {
      log.level = level;
    },
    flush: () => writer?.flush(),
    dropped: () => writer?.dropped() ?? 0,
  };
}

/** Made when it is written: in a row, and not amid the work for its request (docs/benchmarks.md). */
class AccessText implements Line {
  readonly length = USUAL_ACCESS_LINE;
  readonly #mask: Logger['mask'];
  readonly #time: string;
  readonly #base: string;
  readonly #line: AccessLine;

  constructor(time: string, base: string, line: AccessLine, mask: Logger['mask']) {
    this.#mask = mask;
    this.#time = time;
    this.#base = base;
    this.#line = line;
  }

  toString(): string {
    return `{"level":"info"${this.#time}${this.#base}${accessFields(this.#line, this.#mask)},"msg":"request"}\n`;
  }
}

function leveled(log: Pino): Log {
  const at =
    (level: 'debug' | 'info' | 'warn' | 'error') =>
    (fields: Record<string, unknown>, message: string): void => {
      if (log.isLevelEnabled(level)) log[level](withoutSecretFields(fields), withoutCredentials(message));
    };
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

/** ISO 8601, because people read it and every collector knows it; of each second only the milliseconds are made anew. */
function isoTime(): () => string {
  let second = 0;
  let upToSecond = '';
  let at = 0;
  let text = '';
  return () => {
    const now = Date.now();
    if (now === at) return text;
    at = now;
    if (Math.floor(now / 1000) !== second) {
      second = Math.floor(now / 1000);
      upToSecond = `,"time":"${new Date(second * 1000).toISOString().slice(0, -'000Z'.length)}`;
    }
    text = `${upToSecond}${String(now % 1000).padStart(3, '0')}Z"`;
    return text;
  };
}

/** Masks lines. One search goes through all of them. */
export function maskedTogether(redactor: Redactor): (lines: readonly string[]) => string {
  return (lines) => {
    const text = lines.join('');
    return redactor.apply(text) === text ? text : lines.map((line) => masked(line, redactor)).join('');
  };
}

/**
 * A secret may look like a part of the line's own syntax (a password of digits inside a number, `status`): what is no
 * JSON any more after masking goes out as text within a line, for a collector drops what it cannot parse.
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

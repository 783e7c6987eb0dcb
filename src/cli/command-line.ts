import type { Readable, Writable } from 'node:stream';
import { type ParseArgsConfig, parseArgs } from 'node:util';
import { nearest } from '../config/nearest.ts';

/** The parts of the process that a command uses. */
export interface Io {
  readonly stdout: Writable;
  readonly stderr: Writable;
  readonly stdin: Readable;
  readonly env: Readonly<Record<string, string | undefined>>;
}

export function say(stream: Writable, line: string): void {
  stream.write(`${line}\n`);
}

/** Says why a command has failed. Returns its exit code. */
export function failed(io: Io, command: string, reason: string, code = 1): number {
  say(io.stderr, `patchgate ${command}: ${reason}`);
  return code;
}

/** Cells below each other, with two spaces between columns. */
export function aligned(rows: readonly (readonly string[])[], pad: (cell: string, width: number) => string): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : pad(cell, widths[column] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
}

/** The option of every command that reads the configuration. */
export const CONFIG_OPTION = { config: { type: 'string', short: 'c' } } as const;
export const DEFAULT_CONFIG = 'config/gateway.yaml';

export type Parsed<T> =
  | { readonly ok: true; readonly values: T; readonly positionals: string[] }
  | { readonly ok: false; readonly code: number };

type Specs = NonNullable<ParseArgsConfig['options']>;
/** The values that a command was given for its options. */
export type OptionValues<S extends Specs> = {
  [Name in keyof S]: S[Name] extends { multiple: true }
    ? string[] | undefined
    : S[Name] extends { type: 'boolean' }
      ? boolean | undefined
      : string | undefined;
};

/** Reads the options of a command. Prints the help for `--help`, and one line for a mistake; both give an exit code. */
export function readOptions<const S extends Specs>(
  command: string,
  args: string[],
  options: S,
  help: string,
  io: Io,
  allowPositionals = false,
): Parsed<OptionValues<S>> {
  try {
    const { values, positionals } = parseArgs({
      args,
      options: { ...options, help: { type: 'boolean', short: 'h' } } as Specs,
      allowPositionals,
    });
    if (values['help'] === true) {
      io.stdout.write(help);
      return { ok: false, code: 0 };
    }
    return { ok: true, values: values as OptionValues<S>, positionals };
  } catch (error) {
    const message = error instanceof Error ? (error.message.split('. ')[0] ?? '') : String(error);
    const known = Object.keys(options).map((name) => `--${name}`);
    const unknown = args
      .map((each) => each.split('=')[0] ?? '')
      .find((each) => /^--./.test(each) && !known.includes(each));
    const hint = didYouMean(unknown ?? '', known) ?? `see patchgate ${command} --help`;
    return { ok: false, code: failed(io, command, `${message}; ${hint}`, 2) };
  }
}

/** Null if no name is near. */
export function didYouMean(typed: string, known: readonly string[]): string | null {
  const near = nearest(typed, known);
  return near === null ? null : `did you mean ${near}?`;
}

const ENDING = ['SIGTERM', 'SIGINT'] as const;

/** Nothing is open yet, so that there is nothing to drain. */
const endNow = (): void => process.exit(0);

/**
 * Handles the signals of a process that has just begun to load its program: by default each would kill it. One that asks for the
 * end gets exit code 0. SIGHUP has no effect: the configuration is read later anyway.
 */
export function handleEarlySignals(): void {
  for (const signal of ENDING) process.on(signal, endNow);
  process.on('SIGHUP', () => {});
}

/** Call it in the turn in which the command handles the end itself. */
export function releaseEarlySignals(): void {
  for (const signal of ENDING) process.off(signal, endNow);
}

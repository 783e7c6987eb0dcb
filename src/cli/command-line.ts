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

/** The option of every command that reads the configuration. */
export const CONFIG_OPTION = { config: { type: 'string', short: 'c' } } as const;
export const DEFAULT_CONFIG = 'config/gateway.yaml';

export type Parsed<T> =
  | { readonly ok: true; readonly values: T; readonly positionals: string[] }
  | { readonly ok: false; readonly code: number };

type Specs = NonNullable<ParseArgsConfig['options']>;
type Values<S extends Specs> = {
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
): Parsed<Values<S>> {
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
    return { ok: true, values: values as Values<S>, positionals };
  } catch (error) {
    const message = error instanceof Error ? (error.message.split('. ')[0] ?? '') : String(error);
    const known = Object.keys(options).map((name) => `--${name}`);
    const unknown = args
      .map((each) => each.split('=')[0] ?? '')
      .find((each) => /^--./.test(each) && !known.includes(each));
    const hint = didYouMean(unknown ?? '', known) ?? `see patchgate ${command} --help`;
    say(io.stderr, `patchgate ${command}: ${message}; ${hint}`);
    return { ok: false, code: 2 };
  }
}

/** Null if no name is near. */
export function didYouMean(typed: string, known: readonly string[]): string | null {
  const near = nearest(typed, known);
  return near === null ? null : `did you mean ${near}?`;
}

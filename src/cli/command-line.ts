import type { Readable, Writable } from 'node:stream';
import { type ParseArgsConfig, parseArgs } from 'node:util';

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
    say(io.stderr, `patchgate ${command}: ${message}; see patchgate ${command} --help`);
    return { ok: false, code: 2 };
  }
}

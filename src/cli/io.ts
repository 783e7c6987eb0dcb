import type { Readable, Writable } from 'node:stream';

/** What a command may touch of the process, so that a test can hand over its own. */
export interface Io {
  readonly stdout: Writable;
  readonly stderr: Writable;
  readonly stdin: Readable;
  readonly env: Readonly<Record<string, string | undefined>>;
}

export function say(stream: Writable, line: string): void {
  stream.write(`${line}\n`);
}

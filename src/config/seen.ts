import { createHash } from 'node:crypto';
import { readFile as readFromDisk, stat } from 'node:fs/promises';
import { type ReadFile, reasonOf } from './substitute.ts';

/** What was in files, by path: a digest of the content, or why it could not be read. No secret can be derived from it. */
export type Seen = ReadonlyMap<string, string>;

const fromDisk: ReadFile = (path) => readFromDisk(path, 'utf8');

/** Reads each file once, so that a load sees it in one state, and keeps what it has seen. */
export function recordingReader(readFile: ReadFile = fromDisk): { readonly readFile: ReadFile; readonly seen: Seen } {
  const seen = new Map<string, string>();
  const texts = new Map<string, Promise<string>>();
  const read = async (path: string): Promise<string> => {
    try {
      const text = await readFile(path);
      seen.set(path, digestOf(text));
      return text;
    } catch (error) {
      seen.set(path, reasonOf(error));
      throw error;
    }
  };
  return {
    seen,
    readFile: (path) => {
      const text = texts.get(path) ?? read(path);
      texts.set(path, text);
      return text;
    },
  };
}

/** The same files as they are now. What is no plain file is taken to be as it was: a pipe can be read only once. */
export async function lookAgain(before: Seen): Promise<Seen> {
  const states = [...before].map(async ([path, was]) => {
    try {
      return [path, (await stat(path)).isFile() ? digestOf(await fromDisk(path)) : was] as const;
    } catch (error) {
      return [path, reasonOf(error)] as const;
    }
  });
  return new Map(await Promise.all(states));
}

export function sameSeen(a: Seen, b: Seen): boolean {
  return a.size === b.size && [...a].every(([path, state]) => b.get(path) === state);
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Cluster, Redis } from 'ioredis';

export type Client = Redis | Cluster;

export interface Script {
  readonly text: string;
  readonly sha: string;
}

export function createScript(text: string): Script {
  return { text, sha: createHash('sha1').update(text).digest('hex') };
}

/**
 * Reads a script from the folder of the module that uses it. The parts that scripts share come first: Redis has no other way
 * to share them.
 *
 * @param module `import.meta.url`
 * @param names files without `.lua`, in their order
 */
export function loadScript(module: string, ...names: string[]): Script {
  return createScript(names.map((name) => readFileSync(new URL(`./${name}.lua`, module), 'utf8')).join('\n'));
}

/** Runs a script by its digest, or by its text where the server does not know it yet. */
export async function runScript(
  client: Client,
  { sha, text }: Script,
  keys: readonly string[],
  args: readonly Argument[],
) {
  try {
    return await client.evalsha(sha, keys.length, ...keys, ...args);
  } catch (error) {
    // The first word of an error is its code in Redis' protocol.
    if (!(error instanceof Error && error.message.startsWith('NOSCRIPT'))) throw error;
    return runWhole(client, { text }, keys, args);
  }
}

/** The same, for arguments and replies with bytes. */
export async function runForBytes(
  client: Client,
  { sha, text }: Script,
  keys: readonly string[],
  args: readonly (Argument | Buffer)[] = [],
) {
  try {
    return await client.callBuffer('EVALSHA', [sha, keys.length, ...keys, ...args]);
  } catch (error) {
    if (!(error instanceof Error && error.message.startsWith('NOSCRIPT'))) throw error;
    return client.callBuffer('EVAL', [text, keys.length, ...keys, ...args]);
  }
}

/** For scripts whose order matters: a second attempt, by the text, could be overtaken by the next command. */
export async function runWhole(
  client: Client,
  { text }: { text: string },
  keys: readonly string[],
  args: readonly Argument[],
) {
  return client.eval(text, keys.length, ...keys, ...args);
}

export type Argument = string | number;

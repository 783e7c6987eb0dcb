import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Cluster, Redis } from 'ioredis';

/** Where scripts run. */
export type Client = Redis | Cluster;

export interface Script {
  readonly text: string;
  readonly sha: string;
}

const read = (name: string): string => readFileSync(new URL(`./scripts/${name}.lua`, import.meta.url), 'utf8');

/** What all scripts share stands in front of each: Redis gives them no other way. */
function script(...names: string[]): Script {
  const text = ['prelude', ...names].map(read).join('\n');
  return { text, sha: createHash('sha1').update(text).digest('hex') };
}

export const scripts = {
  admit: script('roster', 'admit'),
  settle: script('settle'),
  withdraw: script('withdraw'),
  beat: script('roster', 'beat'),
  enter: script('roster', 'enter'),
} as const;

/** By its digest; the whole text only where the server does not know it yet. */
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

/** For scripts that must not be overtaken by what is sent after them, as a second attempt could be. */
export async function runWhole(
  client: Client,
  { text }: { text: string },
  keys: readonly string[],
  args: readonly Argument[],
) {
  return client.eval(text, keys.length, ...keys, ...args);
}

export type Argument = string | number;

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

/** What scripts share stands in front of each: Redis gives them no other way. */
function script(...names: string[]): Script {
  const text = names.map(read).join('\n');
  return { text, sha: createHash('sha1').update(text).digest('hex') };
}

export const scripts = {
  admit: script('common', 'membership', 'admit'),
  complete: script('common', 'complete'),
  cancel: script('common', 'cancel'),
  heartbeat: script('common', 'membership', 'heartbeat'),
  join: script('common', 'membership', 'join'),
  follow: script('drops-prelude', 'drops-follow'),
  drop: script('drops-prelude', 'drops-drop'),
  getAnswer: script('answer-get'),
  boardFlight: script('flight-board'),
  keepFlight: script('flight-keep'),
  landFlight: script('flight-land'),
  beginReplay: script('replay-begin'),
  endReplay: script('replay-end'),
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

/** The same for arguments and replies that hold bytes. */
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

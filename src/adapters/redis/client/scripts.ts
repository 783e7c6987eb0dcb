import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Cluster, Redis } from 'ioredis';
import type { z } from 'zod';

export type Client = Redis | Cluster;

export interface Script {
  readonly text: string;
  readonly sha: string;
}

/** So that no other process has the same names for its calls: a proxy may hand on a connection. */
const PROCESS = randomUUID().slice(0, 8);
let calls = 0;

/**
 * A script that repeats the name of its call, which is the last argument, in front of its reply. On a connection that has lost a
 * reply each call would get the one of the next: another caller's decision, or the response to another tenant's write.
 */
export function createScript(body: string): Script {
  // On the first line, so that Redis' errors name the lines of the file.
  const text = `local call = table.remove(ARGV) local function run() ${body}\nend return { call, run() }`;
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

/** Runs a script by its digest, or by its text where the server does not know it yet. Texts of the reply are bytes. */
export async function runScript(
  client: Client,
  { sha, text }: Script,
  keys: readonly string[],
  args: readonly (Argument | Buffer)[] = [],
): Promise<unknown> {
  const { call, rest } = callOf(keys, args);
  try {
    return replyTo(call, await client.callBuffer('EVALSHA', [sha, ...rest]));
  } catch (error) {
    if (!isUnknownScript(error)) throw error;
    return replyTo(call, await client.callBuffer('EVAL', [text, ...rest]));
  }
}

/** For scripts whose order matters: a second attempt, by the text, could be overtaken by the next command. */
export async function runWhole(
  client: Client,
  { text }: Script,
  keys: readonly string[],
  args: readonly Argument[],
): Promise<unknown> {
  const { call, rest } = callOf(keys, args);
  return replyTo(call, await client.eval(text, ...rest));
}

function callOf<A>(keys: readonly string[], args: readonly A[]) {
  calls += 1;
  const call = `${PROCESS}${calls}`;
  const rest: [number, ...(string | A)[]] = [keys.length, ...keys, ...args, call];
  return { call, rest };
}

/** @throws Error if it is the reply to another call: the next PING ends the connection then (guarded-stream.ts) */
function replyTo(call: string, reply: unknown): unknown {
  if (!Array.isArray(reply) || String(reply[0]) !== call) throw new Error('Redis sent the reply to another call');
  return reply[1] ?? null;
}

/** The first word of an error is its code in Redis' protocol. */
function isUnknownScript(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith('NOSCRIPT');
}

type Argument = string | number;

/** Null for what is not JSON of this form: Redis may hold what another version or another program has written. */
export function parseJson<T>(schema: z.ZodType<T>, text: string): T | null {
  try {
    return schema.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}

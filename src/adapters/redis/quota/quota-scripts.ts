import { type Client, loadScript, runScript, runWhole, type Script } from '../client/scripts.ts';
import type { ServerClock } from '../client/server-clock.ts';
import type { SnapshotReply } from './snapshot.ts';

/** The part of a connection that the quota needs. */
export interface QuotaConnection {
  readonly client: Client;
  readonly isCluster: boolean;
  isReady(): boolean;
  /** Grows whenever a connection is lost: from then on it is unknown what the server still has in memory. */
  epoch(): number;
}

/** As admit.lua returns it. */
interface DecisionReply {
  readonly spent: number;
  readonly completedBefore?: number;
  readonly freedBefore?: number;
  readonly by?: 'tenant' | 'account' | 'cooldown';
  readonly waitMs?: number;
  readonly askAgainMs?: number;
  readonly cooldownMs?: number;
  readonly place?: number;
  readonly rankMs?: number;
  readonly appointment?: boolean;
}

/** A reply of any script; `status` says which of the fields are there. */
export interface Reply extends SnapshotReply {
  readonly status: 'ok' | 'unknown' | 'late' | 'recovering' | 'nameTaken' | 'unfamiliar';
  readonly now: number;
  readonly stateId: string;
  readonly waitMs: number;
  readonly decisions: readonly DecisionReply[];
  readonly last: number;
}

export type ScriptName = 'admit' | 'complete' | 'cancel' | 'heartbeat' | 'join';

const scripts: Readonly<Record<ScriptName, Script>> = {
  admit: loadScript(import.meta.url, 'common', 'membership', 'completions', 'admit'),
  complete: loadScript(import.meta.url, 'common', 'completions', 'complete'),
  cancel: loadScript(import.meta.url, 'common', 'cancel'),
  heartbeat: loadScript(import.meta.url, 'common', 'membership', 'heartbeat'),
  join: loadScript(import.meta.url, 'common', 'membership', 'join'),
};
/** Commands whose order matters: a second attempt by the text of the script could be overtaken by the next command. */
const ORDERED: ReadonlySet<ScriptName> = new Set(['heartbeat', 'join']);

export interface QuotaScriptsOptions {
  readonly connection: QuotaConnection;
  /** Overrides the time of the server: for simulations. */
  readonly serverTime?: () => number;
  readonly prefix: string;
  readonly account: string;
  /** A name that no other living process has: host and port. */
  readonly replica: () => string;
}

/** @returns runs a script for one account: keys and arguments as common.lua has them */
export function createQuotaScripts(options: QuotaScriptsOptions, serverClock: ServerClock) {
  const { connection, serverTime, replica } = options;
  // The braces are the hash tag of a Cluster: they keep the keys of an account on one node.
  const base = `${options.prefix}:{${options.account}}`;
  const keys = ['quota', 'slots', 'queue', 'due', 'competing'].map((name) => `${base}:${name}`);

  return async (name: ScriptName, ticket: string, request: object): Promise<Reply> => {
    const time = serverTime === undefined ? '' : serverTime();
    const args = [time, replica(), ticket, serverClock.latest(), JSON.stringify(request)];
    const run = ORDERED.has(name) ? runWhole : runScript;
    return JSON.parse(String(await run(connection.client, scripts[name], keys, args))) as Reply;
  };
}

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
  readonly by?: 'tenant' | 'account' | 'cooldown' | 'budget';
  readonly waitMs?: number;
  readonly askAgainMs?: number;
  readonly cooldownMs?: number;
  readonly place?: number;
  readonly rankMs?: number;
  readonly appointment?: boolean;
  readonly exhausted?: number;
}

/** A count of a budget: see budgets.lua. */
export type CountReading = readonly [label: number, field: string, charged: number, refunded: number];

/** A reply of any script; `status` says which of the fields are there. */
export interface Reply extends SnapshotReply {
  readonly status: 'ok' | 'unknown' | 'late' | 'recovering' | 'nameTaken' | 'unfamiliar';
  readonly now: number;
  readonly stateId: string;
  readonly waitMs: number;
  readonly decisions: readonly DecisionReply[];
  readonly last: number;
  /** Absent where there are none. */
  readonly counts?: readonly CountReading[];
  readonly changes: number;
}

export type ScriptName = 'admit' | 'complete' | 'cancel' | 'heartbeat' | 'join';

const scripts: Readonly<Record<ScriptName, Script>> = {
  admit: loadScript(import.meta.url, 'common', 'budgets', 'membership', 'completions', 'admit'),
  complete: loadScript(import.meta.url, 'common', 'budgets', 'completions', 'complete'),
  cancel: loadScript(import.meta.url, 'common', 'cancel'),
  heartbeat: loadScript(import.meta.url, 'common', 'budgets', 'membership', 'heartbeat'),
  join: loadScript(import.meta.url, 'common', 'budgets', 'membership', 'join'),
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
  const keys = ['quota', 'slots', 'queue', 'due', 'competing', 'changes'].map((name) => `${base}:${name}`);

  return async (name: ScriptName, ticket: string, request: object, labels: readonly string[] = []): Promise<Reply> => {
    const time = serverTime === undefined ? '' : serverTime();
    const args = [time, replica(), ticket, serverClock.latest(), JSON.stringify(request)];
    const run = ORDERED.has(name) ? runWhole : runScript;
    const all = labels.length === 0 ? keys : [...keys, ...labels.map((label) => `${base}:budgets:${label}`)];
    return JSON.parse(String(await run(connection.client, scripts[name], all, args))) as Reply;
  };
}

import type { Clock } from '../../../clock.ts';
import { type Client, loadScript, runScript, runWhole, type Script } from '../client/scripts.ts';

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

type ScriptName = 'admit' | 'complete' | 'cancel' | 'heartbeat' | 'join';

const scripts: Readonly<Record<ScriptName, Script>> = {
  admit: loadScript(
    import.meta.url,
    ...['common', 'budgets', 'membership', 'completions', 'slot-supply', 'fair-queue', 'bookings', 'admit'],
  ),
  complete: loadScript(import.meta.url, 'common', 'budgets', 'completions', 'complete'),
  cancel: loadScript(import.meta.url, 'common', 'fair-queue', 'bookings', 'cancel'),
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

/** A reply that comes this soon was not delayed on its way. */
const PROMPT_MS = 80;

/** Redis' time as far as it is known here: by the latest reply, and this process's own clock since. */
export class ServerClock {
  readonly #clock: Clock;
  /** Redis' time in the latest reply, and when its request was sent. */
  #known = { now: 0, askedAt: 0 };
  #leapt = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The server's clock was set forward. */
  get leapt(): boolean {
    return this.#leapt;
  }

  /** No earlier than the time at Redis now. */
  now(): number {
    return this.#known.now + (this.#clock.monotonic() - this.#known.askedAt);
  }

  /** For the scripts: the latest it can be there, -1 while nothing is known. */
  latest(): number {
    return this.#known.now === 0 ? -1 : Math.ceil(this.now());
  }

  /** For a reply to a request that was in time. */
  heard(now: number, askedAt: number): void {
    this.set(now, askedAt);
    this.#leapt = false;
  }

  /** For a reply that only tells the time. */
  set(now: number, askedAt: number): void {
    this.#known = { now, askedAt };
  }

  /** The server's time was later than it can be. If the reply came at once, the request was not delayed: the clock leapt. */
  late(askedAt: number): void {
    if (this.#clock.monotonic() - askedAt < PROMPT_MS) this.#leapt = true;
  }
}

/** A replica as Redis knew it. */
interface Mate {
  readonly inFlight: number;
  /** Slots that it may hold on its own; absent: it is gone. */
  readonly share?: number;
  /** The snapshot by which it works should it be alone, or an earlier one: its age, and the replicas that were not silent. */
  readonly basis?: { readonly ageMs: number; readonly replicas: number };
}

/** How an account stood when this replica last received it. Times are of this process's monotonic clock. */
export interface AccountSnapshot {
  /** The state that it is of, and its time then. */
  readonly stateId: string;
  readonly asOf: number;
  /** When the request was sent: nothing later is known. */
  readonly askedAt: number;
  readonly receivedAt: number;
  /** The limit that the upstream advertises; null: none is known. */
  readonly advertised: number | null;
  /** Slots that this replica may hold on its own, should it lose Redis. */
  readonly share: number;
  readonly replicas: number;
  /** Slots in flight, of all. */
  readonly inFlight: number;
  /** Slots held though their request has ended. */
  readonly completed: number;
  /** When the completed slots are free: [milliseconds from `receivedAt`, slots that are free by then]. */
  readonly expiries: readonly (readonly [ms: number, slots: number])[];
  /** Tokens in the account's bucket. */
  readonly tokens: number;
  /** All replicas, this one too. */
  readonly mates: Readonly<Record<string, Mate>>;
  /** Slots left to replicas that were silent then, and may hold them on their own; and how many those are. */
  readonly reserved: number;
  readonly silent: number;
  /** Some slots belong to no living replica. */
  readonly orphans: boolean;
  /** A state made anew waits this long for the other replicas. Until then not all slots are in it. */
  readonly closedForMs: number;
  /** A response had come: what the minute before the state had used was known, or over. */
  readonly primed: boolean;
  readonly external: number;
  readonly externalUntil: number;
  readonly cooldownUntil: number;
}

/** As `snapshot` of membership.lua returns it. */
interface SnapshotReply
  extends Omit<
    AccountSnapshot,
    'asOf' | 'askedAt' | 'receivedAt' | 'advertised' | 'expiries' | 'externalUntil' | 'cooldownUntil'
  > {
  readonly now: number;
  /** -1: none is known. */
  readonly advertised: number;
  /** Absent where there are none. */
  readonly expiries?: AccountSnapshot['expiries'];
  readonly externalForMs: number;
  readonly cooldownMs: number;
}

export function readSnapshot(
  { now, externalForMs, cooldownMs, advertised, expiries = [], ...reply }: SnapshotReply,
  local: Pick<AccountSnapshot, 'askedAt' | 'receivedAt'>,
): AccountSnapshot {
  const { receivedAt } = local;
  return {
    ...reply,
    ...local,
    asOf: now,
    expiries,
    advertised: advertised < 0 ? null : advertised,
    externalUntil: receivedAt + externalForMs,
    // In whole milliseconds, as the account counts: the cooldown would last for the rest of this one otherwise.
    cooldownUntil: Math.floor(receivedAt) + cooldownMs,
  };
}

import type { Cluster, Redis } from 'ioredis';
import type { Clock } from '../../../clock.ts';
import type { Log } from '../../../ports.ts';

/** Why Redis cannot be used, in its own words. */
export interface RedisFault {
  /** The first word of Redis' error, such as `NOPERM`; `unreachable` where there is no connection. */
  readonly code: string;
  readonly reason: string;
  /** Redis answers, and refuses this user: only an operator can change that. */
  readonly isRefusal: boolean;
}

/** The action for an operator, by the code of the error. */
const HINTS: Readonly<Record<string, string>> = {
  NOPERM: 'the user lacks a right: docs/security.md has the exact ACL line',
  NOAUTH: 'the server asks for a password: set redis.password',
  WRONGPASS: 'redis.username or redis.password is wrong, or the user is disabled',
  DENIED: 'the server accepts local connections only: set a password there, or protected-mode no',
  LOADING: 'the server loads its data: it can be used when that is done',
  READONLY: 'the server is a replica: name the Sentinels, or an address that leads to the master',
  MASTERDOWN: 'the server is a replica whose master is gone',
  CLUSTERDOWN: 'some slots of the Cluster have no node: see CLUSTER INFO',
  MOVED: 'the server is a node of a Cluster: use redis.cluster; in a Cluster, its nodes disagree about their slots',
  CROSSSLOT: 'the server is a node of a Cluster: use redis.cluster',
  OOM: 'maxmemory is reached: raise it, and keep the policy noeviction',
  BUSY: 'a script of another program does not end: SCRIPT KILL',
  MISCONF: 'the server cannot save its data, and refuses writes: see its log',
  NOREPLICAS: 'fewer replicas are in step than min-replicas-to-write asks for',
};
const REFUSALS = new Set(['NOPERM', 'NOAUTH', 'WRONGPASS', 'DENIED']);
/** Part of ordinary operation. */
const ORDINARY = new Set(['NOSCRIPT', 'ASK', 'TRYAGAIN']);
/** A fault is over when it has not occurred for so long: heartbeats come twice a second. */
const OVER_MS = 5_000;
/** A single error is none of a state: a slot of a Cluster has moved, a fail-over is under way. */
const LOGGED_FROM = 3;

/** The latest fault of the connections to one Redis, and a line in the log for each kind that lasts. */
export class Faults {
  readonly #clock: Clock;
  readonly #log: Log;
  #latest: RedisFault | null = null;
  #at = Number.NEGATIVE_INFINITY;
  #count = 0;

  constructor(clock: Clock, log: Log) {
    this.#clock = clock;
    this.#log = log;
  }

  /** Null while there is none. */
  current(): RedisFault | null {
    return this.#clock.monotonic() - this.#at < OVER_MS ? this.#latest : null;
  }

  /** There is no connection. */
  unreachable(error: Error): void {
    this.#note(isReply(error) ? codeOf(error) : 'unreachable', reasonOf(error));
  }

  /** Redis has replied with an error. */
  replied(error: Error): void {
    const code = codeOf(error);
    if (ORDINARY.has(code)) return;
    this.#note(code, error.message);
    if (this.#count !== LOGGED_FROM) return;
    const hint = HINTS[code];
    this.#log.warn({ code, reason: error.message, ...(hint !== undefined && { hint }) }, 'Redis refuses commands');
  }

  #note(code: string, reason: string): void {
    this.#count = this.current()?.code === code ? this.#count + 1 : 1;
    this.#latest = { code, reason, isRefusal: REFUSALS.has(code) };
    this.#at = this.#clock.monotonic();
  }
}

/** Several addresses of a name that all failed are an error without a message of its own. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.message !== '') return error.message;
  return error instanceof AggregateError && error.errors[0] instanceof Error ? error.errors[0].message : error.name;
}

/** The first word of an error is its code in Redis' protocol. */
function codeOf({ message }: Error): string {
  return /^[A-Z]+(?= )/.exec(message)?.[0] ?? 'ERR';
}

/** ioredis gives the errors of the server this name. */
function isReply({ name }: Error): boolean {
  return name === 'ReplyError';
}

/** How a server goes on when its memory is full. */
export interface Eviction {
  /** `maxmemory-policy`. */
  readonly policy: string;
  /** It has a `maxmemory`, and removes keys at it. */
  readonly removes: boolean;
}

interface Watched {
  readonly client: Redis | Cluster;
  onReady(run: () => void): void;
}

/**
 * Reads the policy each time a connection is made, and warns of one that removes keys: an idempotency record that is gone lets a
 * write be sent twice. All keys of the gateway expire, so every policy but noeviction may remove them. `INFO` says it without the
 * right to `CONFIG`.
 *
 * @returns null while it is not known; of a Cluster, a node that removes keys, if there is one
 */
export function watchEviction({ client, onReady }: Watched, log: Log): () => Eviction | null {
  let known: Eviction | null = null;
  const read = async (): Promise<void> => {
    const servers = 'nodes' in client ? client.nodes('master') : [client];
    const found = await Promise.all(servers.map(async (server) => evictionIn(await server.info('memory'))));
    const next = found.find((each) => each?.removes) ?? found[0] ?? null;
    if (next?.removes && known?.policy !== next.policy) {
      log.warn(
        { policy: next.policy },
        'Redis removes keys when its memory is full: set maxmemory-policy noeviction, or a keyed write may be sent twice',
      );
    }
    known = next;
  };
  // A server that says nothing of itself is reported by the commands that fail.
  onReady(() => void read().catch(() => {}));
  return () => known;
}

function evictionIn(info: string): Eviction | null {
  const policy = /^maxmemory_policy:([a-z-]+)/m.exec(info)?.[1];
  const maxBytes = Number(/^maxmemory:(\d+)/m.exec(info)?.[1] ?? 0);
  return policy === undefined ? null : { policy, removes: maxBytes > 0 && policy !== 'noeviction' };
}

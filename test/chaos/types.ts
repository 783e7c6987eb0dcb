import type { ChildProcess } from 'node:child_process';
import type { Redis } from 'ioredis';
import type { Simulator } from '../../src/simulator/control.ts';
import type { Cut, Rule } from './lane.mjs';
import type { wire } from './wire.mjs';

export type State = 'alone' | 'sentinel' | 'cluster';
export type Wire = Awaited<ReturnType<typeof wire>>;

/** A fault that is injected into a fleet under load, and lifted some seconds later. */
export interface Fault {
  readonly name: string;
  /** For the table: what is done, in a few words. */
  readonly about: string;
  /** Kinds of Redis with which it is tried. */
  readonly states: readonly State[];
  /** From `inject` to `lift`. Default 4,000: longer than the 2.5 s after which a replica works alone. */
  readonly lastsMs?: number;
  /** In the long form. Default: as `lastsMs`. */
  readonly longMs?: number;
  /**
   * Failures that callers may receive meanwhile, besides the ordinary: problem codes of the gateway, or `upstream 503` for a
   * response of Patchworks that is passed on.
   */
  readonly may: readonly string[];
  /** A response may begin and visibly break off, as the upstream's did. */
  readonly mayBreakOff?: boolean;
  /** Connections of callers may end before a response, because the kernel has none left for the gateway. */
  readonly mayBreak?: boolean;
  /** Redis loses what it knew: a repeat of a keyed write is then a new one (docs/decisions/0009). */
  readonly forgetsKeys?: boolean;
  /** Lines of the log above `warn` that belong to it; none is expected otherwise. */
  readonly logs?: RegExp;
  /** Deadline of a command, in the long form. Default 1s: what a busy machine does to Redis is not to be taken for the fault. */
  readonly redisTimeout?: string;
  /** Before the gateways start. */
  readonly setup?: Setup;
  /** Its result is the second argument of `lift`. */
  readonly inject: (fleet: Fleet) => unknown;
  readonly lift?: (fleet: Fleet, injected: unknown) => unknown;
  /** Returns violations that only this fault can show; called when the load is over. */
  readonly check?: (fleet: Fleet) => Promise<readonly string[]> | readonly string[];
}

export type Environment = Readonly<Record<string, string>>;

/** How the gateways of a fleet are started. */
export interface Setup {
  readonly redis?: readonly string[];
  readonly redisEnv?: () => Environment;
  /** Environment of the gateway with this index. */
  readonly env?: (index: number) => Environment;
  /** Stands before the simulator, such as TLS. */
  readonly front?: (simulatorPort: number) => Promise<{ readonly port: number; close(): Promise<void> }>;
  /** Standard output is a file system with no room left: no line of the log arrives anywhere. */
  readonly stdoutIsFull?: boolean;
  readonly nodeArgs?: readonly string[];
  /** Changes the configuration of one gateway, in place. */
  readonly configure?: (config: Record<string, unknown>, index: number) => void;
}

/** A redis-server, or a Sentinel. */
export interface Server {
  readonly port: number;
  child(): ChildProcess;
  /** A client past every wire. */
  client(): Redis;
  /** kill -9. */
  kill(): Promise<void>;
  /** On the same port again, empty. */
  start(): Promise<void>;
  /** SIGSTOP and SIGCONT. */
  stop(): void;
  resume(): void;
}

export interface RedisSet {
  readonly state: State;
  readonly nodes: readonly Server[];
  readonly sentinels: readonly Server[];
  /** The one that the accounts' state is on now. */
  holder(): Promise<Server>;
  /** Resolves when another than this one holds it, and takes writes. */
  movedFrom(server: Server): Promise<void>;
  /** A planned fail-over, by command. Resolves when the old one is a replica, in step with the new one. */
  commandFailOver(): Promise<void>;
}

/** All ways of one gateway to the servers of Redis at once. */
export interface Ways {
  set(rule: Rule, where?: Parameters<Wire['set']>[1]): void;
  cut(how: Cut): void;
  refuse(): void;
  heal(): Promise<void>;
  close(): Promise<void>;
}

/** Where one gateway listens and goes to. */
export interface Addresses {
  readonly port: number;
  readonly upstreamPort: number;
  /** For `redis` in its configuration. */
  readonly redis: object;
}

export interface Gateway {
  readonly index: number;
  readonly port: number;
  readonly url: string;
  readonly adminUrl: string;
  /** Its configuration, and where that is. */
  readonly file: string;
  readonly config: Record<string, unknown>;
  readonly toRedis: Ways;
  readonly toUpstream: Wire;
  child(): ChildProcess;
  /** Spans of `performance.now()` in which its connections may break, as its process was killed; the last may be open. */
  readonly down: { from: number; to: number }[];
  /** Lines of its log at `warn` and above, and whatever it wrote to standard error. */
  readonly lines: LogLine[];
  readonly stderr: string[];
  kill(): Promise<void>;
  start(): Promise<void>;
  stop(): void;
  resume(): void;
}

export interface LogLine {
  readonly level: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

export interface Fleet {
  readonly redis: RedisSet;
  readonly simulator: Simulator;
  readonly gateways: readonly Gateway[];
  /** Starts another gateway. */
  add(): Promise<Gateway>;
  close(): Promise<void>;
}

/** `read` is never stored, `cached` may be; `keyed` has an Idempotency-Key, `again` repeats one of those. */
export type Kind = 'read' | 'cached' | 'write' | 'keyed' | 'again';
export type Account = 'plenty' | 'tight';

/** The result of a request by its caller's log. Times are `performance.now()`. */
export interface Outcome {
  readonly account: Account;
  readonly kind: Kind;
  readonly mark: string;
  readonly gateway: number;
  readonly begunAt: number;
  readonly endedAt: number;
  /** `silent`: neither a response nor the end of the connection arrived. */
  readonly end: 'answered' | 'refused' | 'broken' | 'broken off' | 'silent';
  /** 0 without a response. */
  readonly status: number;
  /** The problem code of a rejection; null for a response of the upstream. */
  readonly code: string | null;
  readonly retryAfter: string | null;
  readonly replayed: boolean;
  /** The response names its request, and that is another one. */
  readonly mixed: boolean;
}

/** A request as upstream has it. */
export interface Arrived {
  readonly mark: string;
  readonly account: Account;
  readonly write: boolean;
  /** Answered 429: upstream says that it did nothing. */
  readonly throttled?: boolean;
  readonly monotonic: number;
}

export interface Times {
  readonly begunAt: number;
  readonly injectedAt: number;
  readonly liftedAt: number;
  readonly endedAt: number;
}

export interface Evidence {
  readonly outcomes: readonly Outcome[];
  readonly arrived: readonly Arrived[];
  readonly times: Times;
  readonly ceiling: number;
  /** By gateway. */
  readonly down: readonly (readonly { from: number; to: number }[])[];
  readonly leaks: readonly string[];
  readonly logs: readonly string[];
}

/** A row of the table. */
export interface Row {
  readonly fault: string;
  readonly about: string;
  readonly state: State;
  readonly requests: number;
  /** From `inject` until all was normal again: what callers saw, by number. */
  readonly saw: Readonly<Record<string, number>>;
  /** Null: not within the time given. */
  readonly recoveryMs: number | null;
  readonly greatestIn60s: number;
  readonly ceiling: number;
  readonly duplicates: number;
  /** Repeats that were new writes, as Redis had forgotten their key. */
  readonly forgotten: number;
  readonly lost: number;
  readonly mixed: number;
  readonly leaks: readonly string[];
  /** Empty if every guarantee held. */
  readonly violations: readonly string[];
}

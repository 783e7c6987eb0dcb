import type { Clock } from '../../clock.ts';
import type { AccountQuota } from '../../quota/ledger.ts';
import type { OwnSlots } from './own-slots.ts';
import { type Argument, type Client, runScript, runWhole, scripts } from './scripts.ts';
import { feared, type Standing } from './standing.ts';

/** What the ledger needs of a connection. */
export interface LedgerConnection {
  readonly client: Client;
  readonly isCluster: boolean;
  isReady(): boolean;
  /** Grows whenever a connection is lost: what was known of the server's memory is in doubt from then on. */
  epoch(): number;
}

export interface LinkOptions {
  readonly connection: LedgerConnection;
  readonly clock: Clock;
  /** Overrides the time of the server: for simulations. */
  readonly serverTime?: () => number;
  readonly prefix: string;
  readonly account: string;
  /** A name that no other living process has: host and port. */
  readonly replica: () => string;
  /** Tells this process from one before it that had the same name. */
  readonly process: string;
  readonly onOutage: 'local' | 'closed';
  readonly reserveMs: number;
  /** How long a request can be under way at most, from admission to the last moment it may arrive. */
  readonly flightMs: number;
  readonly own: OwnSlots;
  /** 36 random letters are plenty: a ticket that nobody else has. */
  readonly newTicket: () => string;
}

export interface Pace {
  readonly rate: number;
  readonly burst: number;
  readonly weight: number;
}

export type Reply =
  | { readonly kind: 'admitted'; readonly admittedAt: number; readonly answeredBefore: number; readonly spent: number }
  | {
      readonly kind: 'refused';
      readonly by: 'tenant' | 'account' | 'hold';
      readonly waitMs: number;
      readonly spent: number;
    }
  /** Redis does not know this replica any more, or the state was made anew. */
  | { readonly kind: 'unknown' }
  | { readonly kind: 'late' }
  | { readonly kind: 'recovering'; readonly waitMs: number };

/** How long a server that has lost its memory waits for the replicas: they beat twice a second and reconnect as often. */
const OTHERS_COME_MS = 2_000;
/** An answer that comes this soon was not held up. */
const PROMPT_MS = 80;
/** Endings in one command; the rest follows at once. */
const MOST_ENDINGS = 500;

type StandingNumbers = [
  status: number,
  now: number,
  share: number,
  replicas: number,
  inFlight: number,
  answered: number,
  tokens: number,
  foreign: number,
  foreignMs: number,
  holdMs: number,
  orphanMs: number,
  closedForMs: number,
  reserved: number,
  silent: number,
];

/** The calls to the scripts for one account: keys, arguments, replies, and Redis' time as far as it is known here. */
export class Link {
  readonly #options: LinkOptions;
  readonly #keys: readonly string[];
  #ticket = '';
  #joinedIn = -1;
  /**
   * Redis' time of the latest standing that arrived here. It is told Redis with the next beat: only then Redis may rely on
   * this replica not to work alone.
   */
  #confirmed = 0;
  /** Name of the state whose time is known. */
  #base = '';
  /** The server's clock was set forward. */
  #leapt = false;
  /** Redis' time at the latest reply, and when its question was sent. */
  #redis = { now: 0, askedAt: 0 };

  constructor(options: LinkOptions) {
    this.#options = options;
    // One slot of a Cluster an account: the braces are its hash tag.
    const base = `${options.prefix}:{${options.account}}`;
    this.#keys = [`${base}:window`, `${base}:line`, `${base}:due`];
  }

  /** No connection was lost since this replica was let in. */
  get joined(): boolean {
    return this.#joinedIn === this.#options.connection.epoch() && this.#options.connection.isReady();
  }

  part(): void {
    this.#joinedIn = -1;
  }

  /** No earlier than the time at Redis now. */
  redisNow(): number {
    return this.#redis.now + (this.#options.clock.monotonic() - this.#redis.askedAt);
  }

  async admit(tenant: string, pace: Pace, maxWaitMs: number, quota: AccountQuota, spare: number): Promise<Reply> {
    const { connection } = this.#options;
    const askedAt = this.#options.clock.monotonic();
    const ticket = this.#ticket;
    const args = [tenant, pace.rate, pace.burst, pace.weight, Math.floor(maxWaitMs), quota.ceiling, quota.burst];
    const reply = await this.#run('admit', [...args, connection.isCluster ? 1 : 0, spare]);
    const [status, now, first, second, spent] = reply as [number, number, never, number, number];
    switch (status) {
      case 1:
        this.#heard(now, askedAt);
        return { kind: 'admitted', admittedAt: now, answeredBefore: Number(first), spent: second };
      case 0:
        this.#heard(now, askedAt);
        return { kind: 'refused', by: String(first) as 'tenant' | 'account' | 'hold', waitMs: second, spent };
      case -2:
        this.#late(askedAt);
        return { kind: 'late' };
      case -3:
        this.#heard(now, askedAt);
        return { kind: 'recovering', waitMs: Number(first) };
      default:
        this.#refused(ticket);
        return { kind: 'unknown' };
    }
  }

  /** Tells Redis of what ended. True: there is more to tell. */
  async settle(quota: AccountQuota): Promise<boolean> {
    const { own } = this.#options;
    const { first, endings } = own.untold(MOST_ENDINGS);
    if (endings.length === 0) return false;
    const askedAt = this.#options.clock.monotonic();
    const ticket = this.#ticket;
    const args = [first, JSON.stringify(endings), quota.ceiling, quota.burst];
    const [status, now, last] = (await this.#run('settle', args)) as [number, number, number];
    if (status === -2) this.#late(askedAt);
    if (status === -1) this.#refused(ticket);
    if (status !== 1) return false;
    this.#heard(now, askedAt);
    own.acknowledge(last);
    return own.lastNumber > last;
  }

  async withdraw(tenant: string): Promise<void> {
    await this.#run('withdraw', [tenant]);
  }

  /**
   * Joins, or comes back with all that is held here. `again`: to be tried once more at once, for now the time at Redis is
   * known. `lost`: the connection was lost meanwhile. `taken`: another process of this name was heard a moment ago.
   */
  async enter(
    quota: AccountQuota,
    standing: Standing | null,
    holdMs: number,
  ): Promise<Standing | 'again' | 'lost' | 'taken'> {
    const { own, clock, connection, onOutage, flightMs, reserveMs } = this.#options;
    const epoch = connection.epoch();
    const askedAt = clock.monotonic();
    const ticket = this.#options.newTicket();
    const held = own.held(askedAt);
    const last = own.lastNumber;
    const fears = standing === null ? [] : feared(standing, quota, flightMs, askedAt);
    const present = own.present;
    const reply = await runWhole(connection.client, scripts.enter, this.#keys, [
      ...this.#head(''),
      present,
      held.first,
      JSON.stringify(held.heldForMs),
      last,
      Math.ceil(holdMs),
      JSON.stringify(standing?.shares ?? {}),
      standing === null ? -1 : Math.ceil(askedAt - standing.askedAt),
      JSON.stringify(fears),
      standing?.orphans ? 1 : 0,
      standing?.share ?? 0,
      onOutage,
      quota.ceiling,
      quota.burst,
      flightMs,
      reserveMs,
      OTHERS_COME_MS,
      connection.isCluster ? 1 : 0,
      ticket,
      this.#options.process,
      this.#leapt ? 1 : 0,
      this.#base,
    ]);
    const [status, now, base] = reply as [number, number, string];
    if (status === -4) return 'taken';
    if (status === -2) {
      this.#late(askedAt);
      return this.#leapt ? 'again' : 'lost';
    }
    if (status === -5) {
      this.#redis = { now, askedAt };
      this.#base = base;
      return 'again';
    }
    if (connection.epoch() !== epoch) return 'lost';
    own.acknowledge(last);
    this.#ticket = ticket;
    this.#joinedIn = epoch;
    return this.#standing(reply, askedAt, present);
  }

  /** Null: Redis does not know this replica. */
  async beat(
    quota: AccountQuota,
    guarantees: string,
    standing: Standing | null,
    leaving = 0,
  ): Promise<Standing | null> {
    const { own, clock, onOutage, flightMs, reserveMs } = this.#options;
    const askedAt = clock.monotonic();
    const ownInFlight = own.counted;
    const ticket = this.#ticket;
    const reply = await runWhole(this.#options.connection.client, scripts.beat, this.#keys, [
      ...this.#head(this.#ticket),
      ownInFlight,
      this.#confirmed,
      standing?.share ?? 0,
      leaving > 0 ? 'leaving' : onOutage,
      quota.ceiling,
      quota.burst,
      flightMs,
      reserveMs,
      guarantees,
      leaving,
      this.#leapt ? 1 : 0,
    ]);
    const status = (reply as [number])[0];
    if (status === -2) this.#late(askedAt);
    if (status === -1) this.#refused(ticket);
    if (status !== 1) return null;
    return this.#standing(reply, askedAt, ownInFlight);
  }

  #standing(reply: unknown, askedAt: number, ownInFlight: number): Standing {
    const heardAt = this.#options.clock.monotonic();
    const [
      ,
      now,
      share,
      replicas,
      inFlight,
      answered,
      tokens,
      slotsForeign,
      foreignMs,
      holdMs,
      orphanMs,
      closedForMs,
      reserved,
      silent,
    ] = reply as StandingNumbers;
    const [shares, base, held] = (reply as unknown[]).slice(14) as [string, string, number[]];
    this.#base = base;
    this.#heard(now, askedAt);
    this.#confirmed = now;
    const steps = new Map<number, number>();
    for (let i = 0; i < held.length; i += 2) steps.set(held[i] as number, held[i + 1] as number);
    return {
      askedAt,
      heardAt,
      share,
      replicas,
      inFlight,
      ownInFlight,
      answered,
      tokens,
      steps,
      reserved,
      silent,
      shares: JSON.parse(shares) as Record<string, number>,
      orphans: orphanMs > 0,
      closedForMs,
      slotsForeign,
      foreignUntil: heardAt + foreignMs,
      // In whole milliseconds, as the account counts: it would be held for the rest of this one otherwise.
      heldUntil: Math.floor(heardAt) + holdMs,
    };
  }

  #heard(now: number, askedAt: number): void {
    this.#redis = { now, askedAt };
    this.#leapt = false;
  }

  /** Unless this replica has entered anew while the question was under way. */
  #refused(ticket: string): void {
    if (ticket === this.#ticket) this.part();
  }

  /** Told that it is later than it can be. If the answer came at once, it was not the way that was long. */
  #late(askedAt: number): void {
    if (this.#options.clock.monotonic() - askedAt < PROMPT_MS) this.#leapt = true;
  }

  #head(ticket: string): Argument[] {
    const { serverTime, replica } = this.#options;
    const latest = this.#redis.now === 0 ? -1 : Math.ceil(this.redisNow());
    return [serverTime === undefined ? '' : serverTime(), replica(), ticket, latest];
  }

  #run(name: 'admit' | 'settle' | 'withdraw', args: readonly Argument[]): Promise<unknown> {
    return runScript(this.#options.connection.client, scripts[name], this.#keys, [
      ...this.#head(this.#ticket),
      ...args,
    ]);
  }
}

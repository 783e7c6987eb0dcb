import { batch } from '../../batch.ts';
import type { Clock, MonotonicMs } from '../../clock.ts';
import type { AccountQuota } from '../../quota/ledger.ts';
import type { OwnSlots } from './own-slots.ts';
import { type Reply, readStanding } from './replies.ts';
import { type Argument, type Client, runScript, runWhole, scripts } from './scripts.ts';
import { ServerClock } from './server-clock.ts';
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

/** One who asks for a slot. */
interface Question {
  /** As admit.lua reads it. */
  readonly asked: readonly Argument[];
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: unknown) => void;
}

type AdmitReply = [status: number, now: number, first: number | string, second: number, spent: number];

/** How long a server that has lost its memory waits for the replicas: they beat twice a second and reconnect as often. */
const OTHERS_COME_MS = 2_000;
/** Endings in one command; the rest follows at once. */
const MOST_ENDINGS = 500;

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
  readonly #server: ServerClock;
  readonly #ask = batch((questions: readonly Question[]) => void this.#admitAll(questions));

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#server = new ServerClock(options.clock);
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
    return this.#server.now();
  }

  /** Questions of one turn of the event loop go in one script call, because the call costs more than the decision. */
  admit(tenant: string, pace: Pace, maxWaitMs: number, quota: AccountQuota, spare: number): Promise<Reply> {
    const { rate, burst, weight } = pace;
    // JSON has no infinity.
    const waitMs = Math.floor(Math.min(maxWaitMs, Number.MAX_SAFE_INTEGER));
    const asked = [tenant, rate, burst, weight, waitMs, quota.ceiling, quota.burst, spare];
    return new Promise((resolve, reject) => this.#ask({ asked, resolve, reject }));
  }

  async #admitAll(questions: readonly Question[]): Promise<void> {
    const askedAt = this.#options.clock.monotonic();
    const ticket = this.#ticket;
    const cluster = this.#options.connection.isCluster ? 1 : 0;
    try {
      const asked = JSON.stringify(questions.map((question) => question.asked));
      const replies = JSON.parse(String(await this.#run('admit', [cluster, asked]))) as AdmitReply[];
      questions.forEach(({ resolve }, index) => {
        resolve(this.#read(replies[index] as AdmitReply, askedAt, ticket));
      });
    } catch (error) {
      for (const { reject } of questions) reject(error);
    }
  }

  #read([status, now, first, second, spent]: AdmitReply, askedAt: MonotonicMs, ticket: string): Reply {
    switch (status) {
      case 1:
        this.#server.heard(now, askedAt);
        return { kind: 'admitted', admittedAt: now, answeredBefore: Number(first), spent: second };
      case 0:
        this.#server.heard(now, askedAt);
        return { kind: 'refused', by: String(first) as 'tenant' | 'account' | 'hold', waitMs: second, spent };
      case -2:
        this.#server.late(askedAt);
        return { kind: 'late' };
      case -3:
        this.#server.heard(now, askedAt);
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
    if (status === -2) this.#server.late(askedAt);
    if (status === -1) this.#refused(ticket);
    if (status !== 1) return false;
    this.#server.heard(now, askedAt);
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
      this.#server.leapt ? 1 : 0,
      this.#base,
    ]);
    const [status, now, base] = reply as [number, number, string];
    if (status === -4) return 'taken';
    if (status === -2) {
      this.#server.late(askedAt);
      return this.#server.leapt ? 'again' : 'lost';
    }
    if (status === -5) {
      this.#server.set(now, askedAt);
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
      this.#server.leapt ? 1 : 0,
    ]);
    const status = (reply as [number])[0];
    if (status === -2) this.#server.late(askedAt);
    if (status === -1) this.#refused(ticket);
    if (status !== 1) return null;
    return this.#standing(reply, askedAt, ownInFlight);
  }

  #standing(reply: unknown, askedAt: number, ownInFlight: number): Standing {
    const { now, base, standing } = readStanding(reply, {
      askedAt,
      heardAt: this.#options.clock.monotonic(),
      ownInFlight,
    });
    this.#base = base;
    this.#server.heard(now, askedAt);
    this.#confirmed = now;
    return standing;
  }

  /** Unless this replica has entered anew while the question was under way. */
  #refused(ticket: string): void {
    if (ticket === this.#ticket) this.part();
  }

  #head(ticket: string): Argument[] {
    const { serverTime, replica } = this.#options;
    return [serverTime === undefined ? '' : serverTime(), replica(), ticket, this.#server.latest()];
  }

  #run(name: 'admit' | 'settle' | 'withdraw', args: readonly Argument[]): Promise<unknown> {
    return runScript(this.#options.connection.client, scripts[name], this.#keys, [
      ...this.#head(this.#ticket),
      ...args,
    ]);
  }
}

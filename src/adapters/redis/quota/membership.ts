import { type Clock, elapsed } from '../../../clock.ts';
import type { Log } from '../../../ports.ts';
import { type RedisFault, reasonOf } from '../client/faults.ts';
import type { LocalLeases } from './local-leases.ts';
import type { QuotaClient } from './quota-client.ts';
import type { AccountSnapshot } from './quota-scripts.ts';

export interface MembershipOptions {
  readonly account: string;
  readonly client: QuotaClient;
  readonly leases: LocalLeases;
  readonly clock: Clock;
  readonly log: Log;
  readonly isReady: () => boolean;
  /** Why Redis cannot be used; null if it has replied with no error in the last seconds. */
  readonly fault: () => RedisFault | null;
  readonly onNameTaken: () => void;
}

/** The account as its membership needs it. */
interface MemberAccount {
  readonly cooldownMs: () => number;
  /** The limit that the upstream advertises, as far as this replica knows. */
  readonly advertised: () => number | null;
  /** The replicas have learned another limit. */
  readonly onAdvertised: (before: number | null, after: number | null) => void;
  /** This replica works on its share. */
  readonly isAlone: () => boolean;
  /** Redis can be asked again: from now on nothing is given out alone. */
  readonly onJoined: () => void;
}

/** Twice a second; a member that is not heard for 1.75 s counts as silent (membership.lua). */
const HEARTBEAT_MS = 500;
/** So many commands fail in a row before Redis is left alone but for the heartbeat. */
const FAILURES_TO_PART = 3;
/** A replica that works alone goes back after so many heartbeats at which Redis was there: not at every flicker. */
const READY_HEARTBEATS = 2;
/** To learn what time it is at Redis, and that its clock leapt. */
const JOIN_ATTEMPTS = 3;
/** A name that another process keeps using this long is left to it. */
const NAME_TAKEN_HEARTBEATS = 8;
/** A deadline that is missed once does not cost the others the share of this replica for two minutes. */
const LEAVE_ATTEMPTS = 3;
const LEAVE_AGAIN_MS = 200;
/** A completion that no question has taken along by then goes in a command of its own. */
const REPORT_AFTER_MS = 20;
/** After the time at which a state made anew is open. */
const OPEN_BY_MS = 5;

/**
 * This replica as one of those that share an account: it joins with all it holds, sends heartbeats, reports completions, and
 * keeps the latest snapshot of the account.
 */
export class Membership {
  readonly #options: MembershipOptions;
  readonly #account: MemberAccount;
  #snapshot: AccountSnapshot | null = null;
  #joining: Promise<boolean> | null = null;
  #failures = 0;
  #readyHeartbeats = 0;
  #nameTakenHeartbeats = 0;
  #reporting = false;
  #cancelReport: (() => void) | null = null;
  /** The shared state was made anew, and waits for other replicas: what it says of itself is not the whole yet. */
  #recovering = false;
  #openAt = 0;
  #cancelHeartbeat: () => void = () => {};
  #closed = false;

  constructor(options: MembershipOptions, account: MemberAccount) {
    this.#options = options;
    this.#account = account;
  }

  /** Null until the first one has arrived. */
  get snapshot(): AccountSnapshot | null {
    return this.#snapshot;
  }

  /** The slots held here are on their way to Redis: an admission meanwhile would not be among them. */
  get isJoining(): boolean {
    return this.#joining !== null;
  }

  get up(): boolean {
    return this.#options.client.joined && this.#failures === 0;
  }

  /** Redis decides on requests: this replica has joined, and the state waits for no other. */
  get isOpen(): boolean {
    return this.#options.client.joined && !this.#recovering;
  }

  /** Joins, and from then on goes on. Resolves after the first attempt. */
  async start(): Promise<void> {
    await this.#heartbeat();
  }

  /** Redis can be asked (again): no need to wait for the next heartbeat, unless this replica works alone. */
  reachable(): void {
    if (this.#account.isAlone() || this.#closed) return;
    this.join()
      .then(() => this.confirm())
      .catch((error: unknown) => this.failed(error));
  }

  async stop(leavingMs: number): Promise<void> {
    this.#closed = true;
    this.#cancelHeartbeat();
    this.#cancelReport?.();
    const { client, clock } = this.#options;
    // A join that is carried out after the report would make this replica a member again.
    await this.#joining;
    for (let attempt = 1; client.joined; attempt++) {
      if ((await this.#leave(leavingMs)) || attempt === LEAVE_ATTEMPTS) return;
      await elapsed(clock, LEAVE_AGAIN_MS);
    }
  }

  /** False: it is not known that the others keep nothing for this replica. They find out by its silence, after the grace. */
  async #leave(leavingMs: number): Promise<boolean> {
    const { client, log, account } = this.#options;
    try {
      while (await client.complete()) {}
      // Redis does nothing for a command that a busy machine has delayed.
      return (await client.heartbeat(this.#snapshot, leavingMs)) !== null;
    } catch (error) {
      log.debug({ account, reason: reasonOf(error) }, 'leaving was not reported to Redis');
      return false;
    }
  }

  /** @returns whether Redis can be asked now */
  join(): Promise<boolean> {
    this.#joining ??= this.#tryToJoin().finally(() => {
      this.#joining = null;
    });
    return this.#joining;
  }

  /** Redis leaves a share to this replica until a heartbeat confirms that the snapshot before has arrived. */
  async confirm(): Promise<void> {
    const { client, leases } = this.#options;
    if (!client.joined || this.#recovering) return;
    const snapshot = await client.heartbeat(this.#snapshot);
    if (snapshot !== null) this.#keep(snapshot);
    this.#failures = 0;
    if (leases.unreported(1).completions.length > 0) this.reportCompletions();
  }

  /** Completions go with the next question, or a moment later in a command of their own; `urgent` ones at once. */
  reportCompletions(urgent = false): void {
    if (urgent) void this.#report();
    else this.#cancelReport ??= this.#options.clock.after(REPORT_AFTER_MS, () => void this.#report());
  }

  /** Sends one command at a time, so that they arrive in order; a completion meanwhile goes with the next. */
  async #report(): Promise<void> {
    const { client } = this.#options;
    this.#cancelReport?.();
    this.#cancelReport = null;
    if (this.#reporting || !client.joined) return;
    this.#reporting = true;
    try {
      let more = true;
      while (more && client.joined) more = await client.complete();
      this.#failures = 0;
    } catch (error) {
      // They go again with the next, or on joining: until then Redis counts them as in flight.
      this.failed(error);
    } finally {
      this.#reporting = false;
    }
  }

  answered(): void {
    this.#failures = 0;
  }

  failed(error: unknown): void {
    const { client, log, account } = this.#options;
    this.#failures += 1;
    this.#readyHeartbeats = 0;
    log.debug({ account, reason: reasonOf(error), failures: this.#failures }, 'a command to Redis failed');
    if (this.#failures >= FAILURES_TO_PART) client.part();
  }

  async #heartbeat(): Promise<void> {
    const { client, clock, isReady } = this.#options;
    try {
      if (!isReady()) this.#readyHeartbeats = 0;
      else {
        this.#readyHeartbeats += 1;
        const flickering = this.#account.isAlone() && this.#readyHeartbeats < READY_HEARTBEATS;
        if ((!client.joined || this.#recovering) && !flickering) await this.join();
        await this.confirm();
      }
    } catch (error) {
      this.failed(error);
    } finally {
      const untilOpenMs = Math.max(1, this.#openAt - clock.monotonic());
      const nextMs = this.#recovering ? Math.min(HEARTBEAT_MS, untilOpenMs) : HEARTBEAT_MS;
      if (!this.#closed) this.#cancelHeartbeat = clock.after(nextMs, () => void this.#heartbeat());
    }
  }

  async #tryToJoin(): Promise<boolean> {
    const { client } = this.#options;
    const { cooldownMs, advertised } = this.#account;
    try {
      let joined: Awaited<ReturnType<QuotaClient['join']>> = 'again';
      for (let attempt = 0; joined === 'again' && attempt < JOIN_ATTEMPTS; attempt++) {
        joined = await client.join(this.#snapshot, { cooldownMs: cooldownMs(), advertised: advertised() });
      }
      if (joined === 'nameTaken') {
        this.#nameTakenHeartbeats += 1;
        if (this.#nameTakenHeartbeats >= NAME_TAKEN_HEARTBEATS) this.#options.onNameTaken();
      }
      if (joined === 'nameTaken' || joined === 'lost' || joined === 'again') return false;
      this.#joined(joined);
      return true;
    } catch (error) {
      this.failed(error);
      return false;
    }
  }

  #joined(snapshot: AccountSnapshot): void {
    const { log, account, clock } = this.#options;
    const { closedForMs, replicas } = snapshot;
    this.#nameTakenHeartbeats = 0;
    this.#failures = 0;
    if (this.#account.isAlone())
      log.info({ account, replicas }, 'Redis responds: the replica has joined again with all slots it holds');
    if (closedForMs > 0 && !this.#recovering) {
      log.info(
        { account, replicas, closedForMs },
        'the state in Redis is new: other replicas have time to join with what they hold',
      );
    }
    this.#recovering = closedForMs > 0;
    this.#openAt = clock.monotonic() + closedForMs + OPEN_BY_MS;
    // A state that waits for other replicas lacks what they hold: what was known before is worth more.
    if (!this.#recovering) {
      this.#keep(snapshot);
      this.#options.leases.entered(snapshot.asOf);
    }
    this.#account.onJoined();
  }

  #keep(snapshot: AccountSnapshot): void {
    const before = this.#snapshot?.advertised ?? null;
    this.#snapshot = snapshot;
    if (snapshot.advertised !== before) this.#account.onAdvertised(before, snapshot.advertised);
  }
}

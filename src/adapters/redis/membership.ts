import type { Clock } from '../../clock.ts';
import type { Log } from '../../ports.ts';
import type { AccountQuota } from '../../quota/ledger.ts';
import type { Link } from './link.ts';
import type { OwnSlots } from './own-slots.ts';
import type { Standing } from './standing.ts';

export interface MembershipOptions {
  readonly account: string;
  readonly link: Link;
  readonly own: OwnSlots;
  readonly clock: Clock;
  readonly log: Log;
  readonly isReady: () => boolean;
  /** Redis does not answer on a connection that stands: a new one may. */
  readonly reconnect: () => void;
  readonly onNameTaken: () => void;
}

/** What the account tells its membership. */
export interface Subject {
  readonly quota: () => AccountQuota;
  /** `id=slots …` of the tenants that have one. */
  readonly guarantees: () => string;
  readonly heldForMs: () => number;
  /** This replica works on its share. */
  readonly isAlone: () => boolean;
  /** Redis can be asked again: from now on nothing is given out alone. */
  readonly onEntered: () => void;
}

/** Twice a second; a member that is not heard for 1.75 s counts as silent (roster.lua). */
const BEAT_MS = 500;
/** Commands that fail in a row before Redis is left alone but for the beat. */
const FAILURES_TO_PART = 3;
/** Failures in a row before the connection is given up. */
const FAILURES_TO_RECONNECT = 8;
/** A replica that works alone goes back after as many beats at which Redis was there: not at every flicker. */
const READY_BEATS = 2;
/** To learn what time it is at Redis, and that its clock leapt. */
const ATTEMPTS_TO_ENTER = 3;
/** A name that another process keeps using this long is left to it. */
const NAME_TAKEN_BEATS = 8;
/** After the time at which a state made anew is open. */
const OPEN_BY_MS = 5;

/**
 * This replica's place among those that share an account: enters with all it holds, says twice a second that it is there,
 * tells what ended, and knows how the account stood when it last heard.
 */
export class Membership {
  readonly #options: MembershipOptions;
  readonly #subject: Subject;
  #standing: Standing | null = null;
  #entering: Promise<boolean> | null = null;
  #failures = 0;
  #readyBeats = 0;
  #takenBeats = 0;
  #settling = false;
  /** The shared state was made anew, and waits for other replicas: what it says of itself is not the whole yet. */
  #recovering = false;
  #openAt = 0;
  #cancelBeat: () => void = () => {};
  #closed = false;

  constructor(options: MembershipOptions, subject: Subject) {
    this.#options = options;
    this.#subject = subject;
  }

  /** Null until it was heard for the first time. */
  get standing(): Standing | null {
    return this.#standing;
  }

  /** What is held here is on its way to Redis: what is given out meanwhile would not be in it. */
  get isEntering(): boolean {
    return this.#entering !== null;
  }

  get up(): boolean {
    return this.#options.link.joined && this.#failures === 0;
  }

  /** Joins, and from then on goes on. Resolves after the first attempt. */
  async start(): Promise<void> {
    await this.#beat();
  }

  /** Redis can be asked (again): no need to wait for the next beat, unless this replica works alone. */
  reachable(): void {
    if (this.#subject.isAlone() || this.#closed) return;
    this.enter()
      .then(() => this.confirm())
      .catch((error: unknown) => this.failed(error));
  }

  async stop(leavingMs: number): Promise<void> {
    this.#closed = true;
    this.#cancelBeat();
    const { link } = this.#options;
    if (!link.joined) return;
    try {
      while (await link.settle(this.#subject.quota())) {}
      await link.beat(this.#subject.quota(), this.#subject.guarantees(), this.#standing, leavingMs);
    } catch (error) {
      // The others hear of it by the silence.
      this.#options.log.debug(
        { account: this.#options.account, reason: reasonOf(error) },
        'could not say goodbye to Redis',
      );
    }
  }

  /** @returns whether Redis can be asked now */
  enter(): Promise<boolean> {
    this.#entering ??= this.#tryToEnter().finally(() => {
      this.#entering = null;
    });
    return this.#entering;
  }

  /** Redis leaves a share to this replica until it says that it has heard the answer. */
  async confirm(): Promise<void> {
    const { link, own } = this.#options;
    if (!link.joined || this.#recovering) return;
    const standing = await link.beat(this.#subject.quota(), this.#subject.guarantees(), this.#standing);
    if (standing !== null) this.#standing = standing;
    this.#failures = 0;
    if (own.untold(1).endings.length > 0) void this.settle();
  }

  /** Tells what ended. One command at a time, so that they arrive in order; what ends meanwhile goes with the next. */
  async settle(): Promise<void> {
    const { link } = this.#options;
    if (this.#settling || !link.joined) return;
    this.#settling = true;
    try {
      // What ends in one turn of the event loop is told together.
      await new Promise((resolve) => setImmediate(resolve));
      let more = true;
      while (more && link.joined) more = await link.settle(this.#subject.quota());
      this.#failures = 0;
    } catch (error) {
      // They are told again with the next, or on entering: until then Redis counts them as in flight.
      this.failed(error);
    } finally {
      this.#settling = false;
    }
  }

  answered(): void {
    this.#failures = 0;
  }

  failed(error: unknown): void {
    const { link, log, account } = this.#options;
    this.#failures += 1;
    this.#readyBeats = 0;
    log.debug({ account, reason: reasonOf(error), failures: this.#failures }, 'a command to Redis failed');
    if (this.#failures >= FAILURES_TO_PART) link.part();
    if (this.#failures % FAILURES_TO_RECONNECT === 0) this.#options.reconnect();
  }

  async #beat(): Promise<void> {
    const { link, clock, isReady } = this.#options;
    try {
      if (!isReady()) this.#readyBeats = 0;
      else {
        this.#readyBeats += 1;
        const flickering = this.#subject.isAlone() && this.#readyBeats < READY_BEATS;
        if ((!link.joined || this.#recovering) && !flickering) await this.enter();
        await this.confirm();
      }
    } catch (error) {
      this.failed(error);
    } finally {
      const untilOpenMs = Math.max(1, this.#openAt - clock.monotonic());
      const nextMs = this.#recovering ? Math.min(BEAT_MS, untilOpenMs) : BEAT_MS;
      if (!this.#closed) this.#cancelBeat = clock.after(nextMs, () => void this.#beat());
    }
  }

  async #tryToEnter(): Promise<boolean> {
    const { link } = this.#options;
    const { quota, heldForMs } = this.#subject;
    try {
      let entered: Awaited<ReturnType<Link['enter']>> = 'again';
      for (let attempt = 0; entered === 'again' && attempt < ATTEMPTS_TO_ENTER; attempt++) {
        entered = await link.enter(quota(), this.#standing, heldForMs());
      }
      if (entered === 'taken') {
        this.#takenBeats += 1;
        if (this.#takenBeats >= NAME_TAKEN_BEATS) this.#options.onNameTaken();
      }
      if (entered === 'taken' || entered === 'lost' || entered === 'again') return false;
      this.#entered(entered);
      return true;
    } catch (error) {
      this.failed(error);
      return false;
    }
  }

  #entered(standing: Standing): void {
    const { log, account, clock } = this.#options;
    const { closedForMs, replicas } = standing;
    this.#takenBeats = 0;
    this.#failures = 0;
    if (this.#subject.isAlone())
      log.info({ account, replicas }, 'Redis answers: back from its share with all slots held');
    if (closedForMs > 0 && !this.#recovering) {
      log.info(
        { account, replicas, closedForMs },
        'the state in Redis is new: other replicas have time to enter what they hold',
      );
    }
    this.#recovering = closedForMs > 0;
    this.#openAt = clock.monotonic() + closedForMs + OPEN_BY_MS;
    // A state that waits for other replicas lacks what they hold: what was known before is worth more.
    if (!this.#recovering) this.#standing = standing;
    this.#subject.onEntered();
  }
}

/** The message alone: the error itself holds the whole command. */
function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

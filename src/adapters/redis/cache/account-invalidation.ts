import { EVERYTHING, type Invalidation, type LocalInvalidationLog } from '../../../cache/invalidation-log.ts';
import type { Clock, MonotonicMs } from '../../../clock.ts';
import type { Log } from '../../../ports.ts';
import type { Bus, Message } from '../client/pubsub.ts';
import { type Client, loadScript, runScript } from '../client/scripts.ts';

/** A place in the log of an account, as all replicas understand it. */
export interface SharedPosition {
  readonly base: string;
  readonly at: number;
}

export interface FollowOptions {
  readonly client: Client;
  readonly bus: Bus;
  readonly isReady: () => boolean;
  readonly prefix: string;
  /** A name that no other living process has. */
  readonly replica: string;
  readonly newBase: () => string;
  readonly clock: Clock;
  readonly log: Log;
}

const followScript = loadScript(import.meta.url, 'invalidation-common', 'follow');
const invalidateScript = loadScript(import.meta.url, 'invalidation-common', 'invalidate');

/** How long a replica may serve from memory from when it last asked what was dropped. */
export const LEASE_MS = 3_000;
/** Clocks do not run equally fast. */
const DRIFT_MS = 50;
/** Drops that Redis could not be told of yet; more of them are one of everything. */
const MOST_PENDING = 100;

/** A drop that Redis does not know of yet. */
interface Pending {
  /** The latest drop here before it. */
  readonly before: number;
  readonly dropped: Invalidation;
}

/** A drop that waits for other replicas. */
interface Waiting {
  readonly at: number;
  readonly missing: Set<string>;
  readonly done: () => void;
}

type FollowReply = [base: string, latest: number, from: number, drops: string[]];
type DropReply = [...FollowReply, others: (string | number)[]];

/** The log of one account as it is known here: see drops.ts. */
export class Followed {
  readonly #account: string;
  readonly #local: LocalInvalidationLog;
  readonly #options: FollowOptions;
  readonly #keys: readonly string[];
  #base = '';
  /** The latest drop of the log that is known here. */
  #at = 0;
  /** Which drop of the log is which here, in order; before the first nothing is known. */
  #marks: { readonly at: number; readonly local: number }[] = [];
  readonly #pending: Pending[] = [];
  #inTouchUntil: MonotonicMs;
  #following: Promise<void> | null = null;
  /** Up to which drop each of the others has said that it is done. */
  readonly #doneBy = new Map<string, number>();
  readonly #waiting = new Set<Waiting>();

  constructor(account: string, local: LocalInvalidationLog, options: FollowOptions) {
    this.#account = account;
    this.#local = local;
    this.#options = options;
    this.#inTouchUntil = options.clock.monotonic();
    const base = `${options.prefix}:{${account}}:cache`;
    this.#keys = [`${base}:drops`, `${base}:readers`];
  }

  doubtSince(): MonotonicMs | null {
    return this.#options.clock.monotonic() < this.#inTouchUntil ? null : this.#inTouchUntil;
  }

  /** Asks for what was dropped; several who want to know ask once. */
  follow(): Promise<void> {
    this.#following ??= this.#follow().finally(() => {
      this.#following = null;
    });
    return this.#following;
  }

  async leave(): Promise<void> {
    this.#inTouchUntil = this.#options.clock.monotonic();
    if (this.#options.isReady()) await this.#ask(0).catch(() => {});
  }

  drop(dropped: Invalidation): Promise<void> {
    const before = this.#local.latestWrite(this.#account);
    this.#local.invalidate(this.#account, dropped);
    const pending = { before, dropped };
    this.#pending.push(pending);
    return this.#tell(pending);
  }

  hear(message: Extract<Message, { kind: 'drop' | 'dropped' }>): void {
    const { by, base, at } = message;
    if (by === this.#options.replica) return;
    if (message.kind === 'dropped') {
      if (base === this.#base) this.#doneBy.set(by, Math.max(at, this.#doneBy.get(by) ?? 0));
      for (const each of this.#waiting) this.#check(each, by);
      return;
    }
    if (base === this.#base && at === this.#at + 1) this.#apply(at, message.drop);
    if (base === this.#base && at <= this.#at) this.#done();
    else void this.#catchUp(base, at);
  }

  /** Something was missed, or this is another log. */
  async #catchUp(base: string, at: number): Promise<void> {
    const behind = (): boolean => base !== this.#base || this.#at < at;
    // One that was under way may have asked too early.
    for (let asked = 0; asked < 2 && behind(); asked++) await this.follow();
    if (!behind()) this.#done();
  }

  toShared(since: number): SharedPosition | null {
    const mark = this.#marks.findLast(({ local }) => local <= since);
    return mark === undefined ? null : { base: this.#base, at: mark.at };
  }

  toLocal({ base, at }: SharedPosition): number | null {
    if (base !== this.#base) return null;
    const mark = this.#marks.findLast((each) => each.at <= at);
    if (mark === undefined) return null;
    // What is known from here on alone has not been compared with.
    return Math.min(
      mark === this.#marks.at(-1) ? this.#local.latestWrite(this.#account) : mark.local,
      this.#firstPending(),
    );
  }

  #firstPending(): number {
    return this.#pending[0]?.before ?? Number.POSITIVE_INFINITY;
  }

  async #follow(): Promise<void> {
    if (!this.#options.isReady()) return;
    const { clock, log } = this.#options;
    try {
      // Nobody may take what Redis has for untouched before it knows of these.
      for (const each of [...this.#pending]) await this.#send(each);
      const askedAt = clock.monotonic();
      const known = this.#at;
      const [base, latest, from, drops] = (await this.#ask(LEASE_MS)) as FollowReply;
      this.#learn(base, latest, from, drops);
      this.#inTouchUntil = (askedAt + LEASE_MS - DRIFT_MS) as MonotonicMs;
      if (this.#at !== known) this.#done();
    } catch (error) {
      log.debug({ account: this.#account, reason: reasonOf(error) }, 'the cache could not ask what was dropped');
    }
  }

  /** Resolves when the others are done, or may no longer serve from memory; at once if Redis can not be told. */
  async #tell(pending: Pending): Promise<void> {
    if (this.#options.isReady()) {
      try {
        const others = await this.#send(pending);
        await this.#othersDone(this.#at, others);
        return;
      } catch (error) {
        this.#options.log.warn(
          { account: this.#account, reason: reasonOf(error) },
          'other replicas could not be told what a write has changed; they are told when Redis answers',
        );
      }
    }
    if (this.#pending.length > MOST_PENDING) {
      const [first] = this.#pending;
      this.#pending.splice(0, this.#pending.length, { before: first?.before ?? 0, dropped: EVERYTHING });
    }
  }

  async #send(pending: Pending): Promise<(string | number)[]> {
    const { client, replica, newBase, bus } = this.#options;
    const { patterns, tags = [] } = pending.dropped;
    const drop = JSON.stringify({ patterns, tags });
    const args = [replica, this.#base, this.#at, newBase(), drop, bus.channel, this.#account];
    const [base, latest, from, drops, others] = (await runScript(
      client,
      invalidateScript,
      this.#keys,
      args,
    )) as DropReply;
    this.#learn(base, latest, from, drops);
    const index = this.#pending.indexOf(pending);
    if (index !== -1) this.#pending.splice(index, 1);
    return others;
  }

  #ask(leaseMs: number): Promise<unknown> {
    const { client, replica, newBase } = this.#options;
    return runScript(client, followScript, this.#keys, [replica, this.#base, this.#at, newBase(), leaseMs]);
  }

  /** Takes over drops `from + 1` to `latest` of the log, as far as they are new here. */
  #learn(base: string, latest: number, from: number, drops: readonly string[]): void {
    if (base !== this.#base || from > this.#at) {
      // What happened between what is known and what is told nobody can say.
      if (this.#base !== '') this.#options.log.warn({ account: this.#account }, LOST);
      this.#local.invalidate(this.#account, EVERYTHING);
      this.#base = base;
      this.#at = from;
      this.#marks = [{ at: from, local: this.#local.latestWrite(this.#account) }];
      this.#doneBy.clear();
    }
    for (let at = Math.max(from, this.#at) + 1; at <= latest; at++) this.#apply(at, drops[at - from - 1] ?? '');
  }

  #apply(at: number, drop: string): void {
    this.#at = at;
    this.#local.invalidate(this.#account, parseDrop(drop));
    this.#marks.push({ at, local: this.#local.latestWrite(this.#account) });
    if (this.#marks.length > 4_000) this.#marks = this.#marks.slice(-2_000);
  }

  /** Tells whoever waits for it. */
  #done(): void {
    const { bus, replica } = this.#options;
    bus.tell({ kind: 'dropped', account: this.#account, base: this.#base, at: this.#at, by: replica });
  }

  #othersDone(at: number, others: readonly (string | number)[]): Promise<void> {
    const missing = new Set<string>();
    let longestMs = 0;
    for (let i = 0; i < others.length; i += 2) {
      const who = String(others[i]);
      if ((this.#doneBy.get(who) ?? 0) >= at) continue;
      missing.add(who);
      longestMs = Math.max(longestMs, Number(others[i + 1]));
    }
    // Of those who are gone nobody needs to know.
    for (const who of this.#doneBy.keys()) if (!others.includes(who)) this.#doneBy.delete(who);
    if (missing.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.#options.clock.after(longestMs, () => waiting.done());
      const waiting: Waiting = {
        at,
        missing,
        done: () => {
          cancel();
          this.#waiting.delete(waiting);
          resolve();
        },
      };
      this.#waiting.add(waiting);
    });
  }

  #check(waiting: Waiting, by: string): void {
    if ((this.#doneBy.get(by) ?? 0) >= waiting.at) waiting.missing.delete(by);
    if (waiting.missing.size === 0) waiting.done();
  }
}

const LOST = 'Redis has lost what was dropped: the cache of this replica begins anew';

/** What can not be read may have meant anything. */
function parseDrop(text: string): Invalidation {
  try {
    const { patterns, tags } = JSON.parse(text) as { patterns: unknown; tags: unknown };
    const lists = Array.isArray(patterns) && patterns.every((each) => areTexts(each)) && areTexts(tags);
    return lists ? { patterns: patterns as string[][], tags: tags as string[] } : EVERYTHING;
  } catch {
    return EVERYTHING;
  }
}

function areTexts(value: unknown): boolean {
  return Array.isArray(value) && value.every((each) => typeof each === 'string');
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

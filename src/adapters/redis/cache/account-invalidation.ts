import { z } from 'zod';
import { EVERYTHING } from '../../../cache/invalidation.ts';
import type { Invalidation } from '../../../cache/store.ts';
import type { Clock, MonotonicMs } from '../../../clock.ts';
import type { Log } from '../../../ports.ts';
import type { LocalInvalidationLog } from '../../memory/cache.ts';
import { reasonOf } from '../client/faults.ts';
import type { Message, PubSub } from '../client/pubsub.ts';
import { type Client, loadScript, parseJson, runScript } from '../client/scripts.ts';

/** A position in the log of an account, as all replicas understand it. */
export interface LogPosition {
  readonly log: string;
  readonly at: number;
}

/** The way in which a replica shares its cache. */
export interface SharedCacheOptions {
  readonly client: Client;
  readonly pubsub: PubSub;
  readonly isReady: () => boolean;
  readonly prefix: string;
  /** A name that no other living process has. */
  readonly replica: string;
  readonly clock: Clock;
}

export interface InvalidationOptions extends SharedCacheOptions {
  readonly newLogName: () => string;
  readonly log: Log;
}

const readScript = loadScript(import.meta.url, 'invalidation-common', 'read');
const invalidateScript = loadScript(import.meta.url, 'invalidation-common', 'invalidate');

/** How long a replica may serve from memory after it last read the log. */
export const LEASE_MS = 3_000;
/** Clocks do not run equally fast. */
const DRIFT_MS = 50;
/** More invalidations that Redis does not know yet become one of everything. */
const MAX_PENDING = 100;
const MAX_MARKS = 4_000;

/** An invalidation that Redis does not know yet. */
interface Pending {
  /** The latest local write before it. */
  readonly before: number;
  readonly invalidation: Invalidation;
}

type ReadReply = [log: Buffer, latest: number, from: number, invalidations: Buffer[]];
type InvalidateReply = [...ReadReply, others: (Buffer | number)[]];

/** The log of one account as it is known here: see invalidation-log.ts. */
export class AccountInvalidation {
  readonly #account: string;
  readonly #local: LocalInvalidationLog;
  readonly #options: InvalidationOptions;
  readonly #keys: readonly string[];
  /** Name of the log. */
  #log = '';
  /** The latest entry of the log that is known here. */
  #at = 0;
  /** The local number of each entry of the log, in order; entries before the first are unknown. */
  #marks: { readonly at: number; readonly local: number }[] = [];
  readonly #pending: Pending[] = [];
  #connectedUntil: MonotonicMs;
  #reading: Promise<void> | null = null;
  /** By replica: the entry up to which it has confirmed. */
  readonly #confirmed = new Map<string, number>();
  /** Receive the name of each replica that confirms. */
  readonly #waiting = new Set<(replica: string) => void>();

  constructor(account: string, local: LocalInvalidationLog, options: InvalidationOptions) {
    this.#account = account;
    this.#local = local;
    this.#options = options;
    this.#connectedUntil = options.clock.monotonic();
    const base = `${options.prefix}:{${account}}:cache`;
    this.#keys = [`${base}:invalidations`, `${base}:readers`];
  }

  /** Null while connected. */
  disconnectedSince(): MonotonicMs | null {
    return this.#options.clock.monotonic() < this.#connectedUntil ? null : this.#connectedUntil;
  }

  /** Reads the log; one read at a time. */
  read(): Promise<void> {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = null;
    });
    return this.#reading;
  }

  async leave(): Promise<void> {
    this.#connectedUntil = this.#options.clock.monotonic();
    if (this.#options.isReady()) await this.#runRead(0).catch(() => {});
  }

  /** Resolves when the others have confirmed, or may no longer serve from memory; at once if Redis does not respond. */
  async invalidate(invalidation: Invalidation): Promise<void> {
    const { isReady, log } = this.#options;
    const pending = { before: this.#local.latestWrite(this.#account), invalidation };
    this.#local.invalidate(this.#account, invalidation);
    this.#pending.push(pending);
    if (isReady()) {
      try {
        const others = await this.#send(pending);
        return await this.#confirmations(this.#at, others);
      } catch (error) {
        log.warn({ account: this.#account, reason: reasonOf(error) }, 'invalidation is sent when Redis responds again');
      }
    }
    if (this.#pending.length > MAX_PENDING) {
      const [first] = this.#pending;
      this.#pending.splice(0, this.#pending.length, { before: first?.before ?? 0, invalidation: EVERYTHING });
    }
  }

  receive(message: Extract<Message, { kind: 'invalidation' | 'invalidated' }>): void {
    const { by, log, at } = message;
    if (by === this.#options.replica) return;
    if (message.kind === 'invalidated') {
      if (log === this.#log) this.#confirmed.set(by, Math.max(at, this.#confirmed.get(by) ?? 0));
      for (const check of this.#waiting) check(by);
      return;
    }
    if (log === this.#log && at === this.#at + 1) this.#apply(at, message.invalidation);
    if (log === this.#log && at <= this.#at) this.#confirm();
    else void this.#catchUp(log, at);
  }

  toShared(since: number): LogPosition | null {
    const mark = this.#marks.findLast(({ local }) => local <= since);
    return mark === undefined ? null : { log: this.#log, at: mark.at };
  }

  toLocal({ log, at }: LogPosition): number | null {
    if (log !== this.#log) return null;
    const mark = this.#marks.findLast((each) => each.at <= at);
    if (mark === undefined) return null;
    const local = mark === this.#marks.at(-1) ? this.#local.latestWrite(this.#account) : mark.local;
    // The shared position does not include invalidations that Redis does not know yet.
    return Math.min(local, this.#pending[0]?.before ?? Number.POSITIVE_INFINITY);
  }

  /** After a missed message, or for another log. */
  async #catchUp(log: string, at: number): Promise<void> {
    const isBehind = (): boolean => log !== this.#log || this.#at < at;
    // A read that was under way may have been too early.
    for (let reads = 0; reads < 2 && isBehind(); reads++) await this.read();
    if (!isBehind()) this.#confirm();
  }

  async #read(): Promise<void> {
    const { clock, log, isReady } = this.#options;
    if (!isReady()) return;
    try {
      // Redis must know of these before its entries pass as valid.
      for (const each of [...this.#pending]) await this.#send(each);
      const askedAt = clock.monotonic();
      const known = this.#at;
      this.#learn((await this.#runRead(LEASE_MS)) as ReadReply);
      this.#connectedUntil = (askedAt + LEASE_MS - DRIFT_MS) as MonotonicMs;
      if (this.#at !== known) this.#confirm();
    } catch (error) {
      log.debug({ account: this.#account, reason: reasonOf(error) }, 'reading the invalidation log failed');
    }
  }

  /** @returns other replicas, each with the milliseconds for which it may still serve from memory */
  async #send(pending: Pending): Promise<string[]> {
    const { client, replica, newLogName, pubsub } = this.#options;
    const { patterns, tags = [] } = pending.invalidation;
    const text = JSON.stringify({ patterns, tags });
    const args = [replica, this.#log, this.#at, newLogName(), text, pubsub.channel, this.#account];
    const reply = (await runScript(client, invalidateScript, this.#keys, args)) as InvalidateReply;
    const [log, latest, from, invalidations, others] = reply;
    this.#learn([log, latest, from, invalidations]);
    const index = this.#pending.indexOf(pending);
    if (index !== -1) this.#pending.splice(index, 1);
    return others.map(String);
  }

  #runRead(leaseMs: number): Promise<unknown> {
    const { client, replica, newLogName } = this.#options;
    return runScript(client, readScript, this.#keys, [replica, this.#log, this.#at, newLogName(), leaseMs]);
  }

  /** Applies the entries `from + 1` to `latest` of the log that are new here. */
  #learn([name, latest, from, invalidations]: ReadReply): void {
    const log = String(name);
    if (log !== this.#log || from > this.#at) {
      // Entries between those known here and those of the reply are lost.
      if (this.#log !== '') this.#options.log.warn({ account: this.#account }, 'invalidations lost: cache cleared');
      this.#local.invalidate(this.#account, EVERYTHING);
      this.#log = log;
      this.#at = from;
      this.#marks = [{ at: from, local: this.#local.latestWrite(this.#account) }];
      this.#confirmed.clear();
    }
    for (let at = Math.max(from, this.#at) + 1; at <= latest; at++)
      this.#apply(at, String(invalidations[at - from - 1] ?? ''));
  }

  #apply(at: number, text: string): void {
    this.#at = at;
    // An unreadable entry may have meant anything.
    this.#local.invalidate(this.#account, parseJson(invalidation, text) ?? EVERYTHING);
    this.#marks.push({ at, local: this.#local.latestWrite(this.#account) });
    if (this.#marks.length > MAX_MARKS) this.#marks = this.#marks.slice(-MAX_MARKS / 2);
  }

  #confirm(): void {
    const { pubsub, replica } = this.#options;
    pubsub.publish({ kind: 'invalidated', account: this.#account, log: this.#log, at: this.#at, by: replica });
  }

  #confirmations(at: number, others: readonly string[]): Promise<void> {
    const missing = new Set<string>();
    let longestMs = 0;
    for (let i = 0; i < others.length; i += 2) {
      const replica = others[i] as string;
      if ((this.#confirmed.get(replica) ?? 0) >= at) continue;
      missing.add(replica);
      longestMs = Math.max(longestMs, Number(others[i + 1]));
    }
    // Replicas that are gone confirm nothing any more.
    for (const replica of this.#confirmed.keys()) if (!others.includes(replica)) this.#confirmed.delete(replica);
    if (missing.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        cancel();
        this.#waiting.delete(check);
        resolve();
      };
      const cancel = this.#options.clock.after(longestMs, done);
      const check = (replica: string): void => {
        if ((this.#confirmed.get(replica) ?? 0) >= at) missing.delete(replica);
        if (missing.size === 0) done();
      };
      this.#waiting.add(check);
    });
  }
}

const texts = z.array(z.string());
const invalidation = z.object({ patterns: z.array(texts), tags: texts });

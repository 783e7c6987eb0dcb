import type { MonotonicMs } from '../clock.ts';
import { matchesPath } from '../routing/pattern.ts';

/**
 * Which answers a write has made worthless. A write is noted as path patterns in a log of its account; an answer
 * remembers up to which write it is known to be untouched, and catches up when it is looked up. So a write costs
 * nothing however many answers are kept, a hit with no write since its last one costs one comparison, and a GET that
 * was in flight during a write is told from one that began after it.
 *
 * It lives as long as the store it speaks of: with a new log over an old store, old answers would pass for untouched.
 */
export interface InvalidationLog {
  /** The latest write of the account: 0 before the first. */
  latestWrite(account: string): number;
  /** Whether no write after `since` has touched it; also false where that is no longer known. */
  isValidSince(account: string, target: InvalidationTarget, since: number): boolean;
  /**
   * Drops every answer of the account that is meant: for writes, and for a purge by an operator. Here at once; what is
   * returned resolves when no other replica in touch serves them either.
   */
  invalidate(account: string, dropped: Invalidation): void | Promise<void>;
  /** Since when writes through other replicas may be unheard of; null while this one is in touch. */
  disconnectedSince(account: string): MonotonicMs | null;
}

/** What an answer is known by to those who drop. */
export interface InvalidationTarget {
  /** Of its path, decoded. */
  readonly segments: readonly string[];
  readonly tags: readonly string[];
}

export interface Invalidation {
  /** Path patterns. */
  readonly patterns: readonly (readonly string[])[];
  readonly tags?: readonly string[];
}

export const EVERYTHING: Invalidation = { patterns: [['**']] };

interface LoggedWrite extends Invalidation {
  readonly at: number;
}

interface AccountLog {
  latest: number;
  /** In order; the last is the latest. */
  writes: LoggedWrite[];
}

/** The drops of one process alone. */
export interface LocalInvalidationLog extends InvalidationLog {
  invalidate(account: string, dropped: Invalidation): void;
  disconnectedSince(account: string): null;
}

/** @param remembered how many writes of an account are kept; what is older than all of them counts as touched. */
export function createInvalidationLog(remembered = 4096): LocalInvalidationLog {
  if (!(remembered >= 1)) throw new RangeError('remembered must be at least 1');
  // Accounts come from the configuration: the map is bounded by it.
  const logs = new Map<string, AccountLog>();

  return {
    latestWrite: (account) => logs.get(account)?.latest ?? 0,

    isValidSince(account, target, since) {
      const log = logs.get(account);
      if (log === undefined || log.latest <= since) return true;
      const oldest = log.writes[0];
      if (oldest === undefined || since < oldest.at - 1) return false;
      for (let i = log.writes.length - 1; i >= 0; i--) {
        const write = log.writes[i] as LoggedWrite;
        if (write.at <= since) return true;
        if (touches(write, target)) return false;
      }
      return true;
    },

    invalidate(account, dropped) {
      let log = logs.get(account);
      if (log === undefined) {
        log = { latest: 0, writes: [] };
        logs.set(account, log);
      }
      log.latest++;
      log.writes.push({ at: log.latest, ...dropped });
      // Twice the bound before half goes: trimming one by one would move the whole array at each write.
      if (log.writes.length >= remembered * 2) log.writes = log.writes.slice(-remembered);
    },

    disconnectedSince: () => null,
  };
}

function touches({ patterns, tags }: Invalidation, target: InvalidationTarget): boolean {
  return (
    patterns.some((pattern) => matchesPath(pattern, target.segments)) ||
    (tags?.some((tag) => target.tags.includes(tag)) ?? false)
  );
}

const VERSION = /^v\d+$/;

/**
 * What a write to a path changes for certain: the path, its collection and all below that (`PATCH /flows/5`: `/flows/**`).
 * A path directly below the API's root is a collection itself: `POST /api/v1/data-pool` must not drop all of `/api/v1`.
 */
export function writtenCollection(segments: readonly string[]): readonly string[] {
  const root = segments.findIndex((segment) => VERSION.test(segment)) + 1;
  const depth = Math.min(segments.length, Math.max(segments.length - 1, root + 1));
  return [...segments.slice(0, depth), '**'];
}

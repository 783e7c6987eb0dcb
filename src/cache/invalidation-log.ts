import type { MonotonicMs } from '../clock.ts';
import { literally, matchesPath } from '../routing/pattern.ts';

/**
 * The writes of each account, which invalidate stored responses. A write is logged as path patterns. A stored response records up
 * to which write it is known to be valid, and catches up at its next lookup. So a write costs the same however many responses are
 * stored, a hit without a write since the last one costs one comparison, and a GET that overlapped with a write is recognised.
 *
 * The log must live as long as its store: with a new log over an old store, invalidated responses would pass as valid.
 */
export interface InvalidationLog {
  /** The latest write of the account: 0 before the first. */
  latestWrite(account: string): number;
  /** Whether no write after `since` has invalidated the target; false if the log does not reach back so far. */
  isValidSince(account: string, target: InvalidationTarget, since: number): boolean;
  /** Takes effect here at once. Resolves when no connected replica serves the invalidated responses any more. */
  invalidate(account: string, invalidation: Invalidation): void | Promise<void>;
  /** Since when writes through other replicas may be unknown; null while this replica is connected. */
  disconnectedSince(account: string): MonotonicMs | null;
}

export interface InvalidationTarget {
  /** Decoded segments of the path. */
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
  /** In order, the latest last. */
  writes: LoggedWrite[];
  /** Characters of their patterns. */
  length: number;
}

/** The log of one process. */
export interface LocalInvalidationLog extends InvalidationLog {
  invalidate(account: string, invalidation: Invalidation): void;
  disconnectedSince(account: string): null;
}

/** Characters of the patterns that are kept for an account: callers choose the paths, as long as their headers may be. */
const MAX_LENGTH = 8 * 1024 * 1024;

/** @param maxWrites how many writes of an account are kept; every response older than all of them counts as invalid */
export function createInvalidationLog(maxWrites = 4096): LocalInvalidationLog {
  if (!(maxWrites >= 1)) throw new RangeError('maxWrites must be at least 1');
  // Accounts come from the configuration, which bounds the map.
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
        if (invalidates(write, target)) return false;
      }
      return true;
    },

    invalidate(account, invalidation) {
      let log = logs.get(account);
      if (log === undefined) {
        log = { latest: 0, writes: [], length: 0 };
        logs.set(account, log);
      }
      log.latest++;
      log.writes.push({ at: log.latest, ...invalidation, patterns: invalidation.patterns.map(detached) });
      log.length += lengthOf(invalidation);
      // Trimmed at twice the bound: to remove single writes would move the whole array each time.
      if (log.writes.length >= maxWrites * 2 || log.length >= MAX_LENGTH * 2) trim(log, maxWrites);
    },

    disconnectedSince: () => null,
  };
}

/** Copies: a part of a string keeps the whole string in memory, here the target of a request. */
function detached(pattern: readonly string[]): readonly string[] {
  return pattern.map((segment) => Buffer.from(segment).toString());
}

function lengthOf({ patterns }: Invalidation): number {
  return patterns.reduce((sum, pattern) => sum + pattern.reduce((length, segment) => length + segment.length, 0), 0);
}

/** Keeps the latest writes, and one at least. */
function trim(log: AccountLog, maxWrites: number): void {
  let kept = 0;
  let length = 0;
  for (const write of log.writes.toReversed()) {
    length += lengthOf(write);
    if (kept > 0 && (kept >= maxWrites || length > MAX_LENGTH)) break;
    log.length = length;
    kept += 1;
  }
  log.writes = log.writes.slice(-kept);
}

export function invalidates({ patterns, tags }: Invalidation, target: InvalidationTarget): boolean {
  return (
    patterns.some((pattern) => matchesPath(pattern, target.segments)) ||
    (tags?.some((tag) => target.tags.includes(tag)) ?? false)
  );
}

const VERSION = /^v\d+$/;

/**
 * The pattern that a write to a path always invalidates: its collection and everything below (`PATCH /flows/5`: `/flows/**`). A path
 * directly below the root of the API is a collection itself: `POST /api/v1/data-pool` must not invalidate all of `/api/v1`.
 */
export function writtenCollection(segments: readonly string[]): readonly string[] {
  const root = segments.findIndex((segment) => VERSION.test(segment)) + 1;
  // The root and what is above it are no collections: a write there must not invalidate all that is below.
  if (segments.length <= root) return literally(segments);
  const depth = Math.min(segments.length, Math.max(segments.length - 1, root + 1));
  return [...literally(segments.slice(0, depth)), '**'];
}
